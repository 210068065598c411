//! What the nodes take of the machine: memory, time on its cores and bytes read from its disks, as `/proc` tells it of their
//! processes; and blocks of its disks, as the file system does of their folders.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::check::cluster::OwnCluster;

/// `st_blocks` counts in these, whatever the file system's blocks are.
const BLOCK: u64 = 512;
/// Files and folders of one node, at most.
const MOST_FILES: u32 = 100_000;

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

/// Bytes that files have on the disk: their blocks, whatever their length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct OnDisk {
    /// The redo journal, which has a fixed size.
    pub(super) journal: u64,
    /// The database of Raft's logs.
    pub(super) log: u64,
    /// That of what the logs came to.
    pub(super) state: u64,
    /// Its identity and the like.
    pub(super) rest: u64,
}

impl OnDisk {
    /// What grows with what is stored: all but the journal.
    pub(super) fn growing(&self) -> u64 {
        self.log + self.state + self.rest
    }
}

/// What every node's data folder takes.
///
/// # Errors
/// When one cannot be read, or has more files than a node has.
pub(super) fn on_disk(own: &OwnCluster) -> anyhow::Result<PerNode<OnDisk>> {
    let each = own.processes().into_iter().map(|(node, ..)| {
        let folder = own.folder().join(format!("node-{node}/data"));
        Ok((node, parts(&folder).with_context(|| format!("looking at {}", folder.display()))?))
    });
    each.collect()
}

fn parts(folder: &Path) -> anyhow::Result<OnDisk> {
    let (mut sum, mut left) = (OnDisk::default(), MOST_FILES);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let bytes = blocks(&entry.path(), &mut left)?;
        match entry.file_name().to_str() {
            Some("journal") => sum.journal += bytes,
            Some("log") => sum.log += bytes,
            Some("state") => sum.state += bytes,
            _ => sum.rest += bytes,
        }
    }
    Ok(sum)
}

/// Of a file, or of a folder and all below it.
fn blocks(path: &Path, left: &mut u32) -> anyhow::Result<u64> {
    ensure!(*left > 0, "more than {MOST_FILES} files");
    *left -= 1;
    let of = match std::fs::symlink_metadata(path) {
        Ok(of) => of,
        // A running database lets go of files while they are counted.
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(fault) => return Err(fault.into()),
    };
    let mut bytes = of.blocks() * BLOCK;
    if of.is_dir() {
        for entry in std::fs::read_dir(path)? {
            bytes += blocks(&entry?.path(), left)?;
        }
    }
    Ok(bytes)
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

    /// A hole takes nothing, and what is below a folder counts for it.
    #[test]
    fn blocks_are_counted_and_not_lengths() {
        let folder = tempfile::tempdir().unwrap();
        for part in ["journal", "log", "state/db"] {
            std::fs::create_dir_all(folder.path().join(part)).unwrap();
        }
        std::fs::File::create(folder.path().join("journal/0")).unwrap().set_len(1 << 30).unwrap();
        std::fs::write(folder.path().join("state/db/heap"), vec![1; 1 << 20]).unwrap();
        std::fs::File::open(folder.path().join("state/db/heap")).unwrap().sync_all().unwrap();
        std::fs::write(folder.path().join("store"), "id").unwrap();
        let of = parts(folder.path()).unwrap();
        assert!(of.journal < 1 << 20, "{of:?}");
        assert!((1 << 20..2 << 20).contains(&of.state) && of.log < 1 << 20, "{of:?}");
        assert_eq!(of.growing(), of.log + of.state + of.rest);
        assert!(parts(&folder.path().join("none")).is_err());
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
