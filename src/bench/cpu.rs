//! CPU time of processes, as the kernel counts it: user and system, all threads together.

use std::fs;

use anyhow::Context;

/// CPU seconds a process has had so far; it grows in steps of the kernel's tick (10 ms nearly everywhere).
///
/// # Errors
/// No such process, or no `/proc`.
pub(super) fn seconds_of(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    let ticks = ticks(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// utime and stime. The second field is a name in brackets, which may have blanks and brackets of its own.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_fourteenth_and_fifteenth_field_whatever_the_name() {
        let stat = "77 (a ) b) S 1 77 77 0 -1 4194560 1 2 3 4 250 50 9 9 20 0 12 0 100 200 300";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("77 (cut"), None);
        let before = seconds_of(std::process::id()).unwrap();
        let mut sum = 0u64;
        while seconds_of(std::process::id()).unwrap() <= before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
