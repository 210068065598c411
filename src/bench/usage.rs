//! What the nodes' processes take of the machine, as `/proc` tells it: memory, time on its cores, bytes read from its disks.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};

use crate::check::cluster::OwnCluster;

/// Figures per node, by its id.
pub(super) type PerNode<T> = Vec<(u16, T)>;

/// Resident bytes of every node's process.
///
/// # Errors
/// When one does not run, or the system does not tell.
pub(super) fn resident(own: &OwnCluster) -> anyhow::Result<PerNode<u64>> {
    of_each(own, |pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = named(&status, "VmRSS:").context("VmRSS in /proc")?;
        Ok(kib * 1024)
    })
}

/// Seconds that every node's process has been on a core, all its threads together, to a hundredth.
///
/// # Errors
/// As [`resident`].
pub(super) fn on_cores(own: &OwnCluster) -> anyhow::Result<PerNode<f64>> {
    of_each(own, seconds_of)
}

/// The same of any process.
///
/// # Errors
/// When there is none of that number, or the system does not tell.
pub(super) fn seconds_of(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).context("utime and stime in /proc")?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Bytes that all nodes together have read from a disk, and not from the kernel's memory. None where the system does not count.
///
/// # Errors
/// When a node does not run.
pub(super) fn from_disk(own: &OwnCluster) -> anyhow::Result<Option<u64>> {
    let each = of_each(own, |pid| {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io"));
        Ok(io.ok().and_then(|io| named(&io, "read_bytes:")))
    });
    Ok(each?.into_iter().map(|(_, bytes)| bytes).sum())
}

/// Percent of one core that every node takes while `length` goes by.
///
/// # Errors
/// As [`resident`].
pub(super) async fn share_of_a_core(own: &OwnCluster, length: Duration) -> anyhow::Result<PerNode<f64>> {
    let (begin, before) = (Instant::now(), on_cores(own)?);
    sleep(length).await;
    let (after, seconds) = (on_cores(own)?, begin.elapsed().as_secs_f64());
    let share = |((node, before), (_, after)): (&(u16, f64), &(u16, f64))| {
        (*node, (after - before) * 100.0 / seconds.max(f64::MIN_POSITIVE))
    };
    Ok(before.iter().zip(&after).map(share).collect())
}

fn of_each<T>(own: &OwnCluster, tell: impl Fn(u32) -> anyhow::Result<T>) -> anyhow::Result<PerNode<T>> {
    let processes = own.processes().into_iter();
    processes.map(|(node, pid, _)| Ok((node, tell(pid.context("a running node")?)?))).collect()
}

/// The number behind a name, in a file of lines.
fn named(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// User and system time of a `/proc/PID/stat`, in ticks. The program's name may hold anything, so what is counted is what
/// comes behind its last bracket.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut times = rest.split(' ').skip(11).map(|field| field.parse::<u64>().ok());
    Some(times.next()?? + times.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_times_are_found_in_what_the_kernel_writes() {
        let stat = "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 900 0 3 0 250 75 0 0 20 0 9 0 12345 1000 20 18446744073709551615";
        assert_eq!(ticks(stat), Some(325));
        assert_eq!(ticks("4711 (cut"), None);
        assert_eq!(named("rchar: 5\nread_bytes: 4096\n", "read_bytes:"), Some(4096));
        assert_eq!(named("VmRSS:\t   12345 kB\n", "VmRSS:"), Some(12345));
        assert_eq!(named("VmRSS:\t   12345 kB\n", "VmHWM:"), None);
    }

    #[test]
    fn what_this_process_computes_is_in_its_own_times() {
        let read = || ticks(&std::fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        let (before, begin) = (read(), std::time::Instant::now());
        while read() < before + 5 {
            assert!(begin.elapsed() < Duration::from_secs(60), "a busy thread's time does not grow");
        }
    }
}
