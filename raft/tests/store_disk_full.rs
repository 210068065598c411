//! A disk that fills up: the process stops at once and says why, and what was acknowledged is still there.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking"
)]

mod store_history;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use store_history::{Judge, Life, listen, spawn};

#[test]
fn child() {
    store_history::child();
}

/// A tmpfs that is unmounted when it goes.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, kib: u32) -> Option<Self> {
        let size = format!("size={kib}k");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status();
        status.is_ok_and(|s| s.success()).then_some(Self(at))
    }

    fn resize(&self, kib: u32) {
        let size = format!("remount,size={kib}k");
        assert!(Command::new("mount").args(["-o", &size]).arg(self.0).status().unwrap().success());
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_stops_the_process_and_loses_nothing_acknowledged() {
    let temp = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(temp.path(), 2200) else {
        // Not by a macro: the harness would keep that of a test that passes to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no disk was filled: mounting a tmpfs needs root");
        return;
    };
    let dir = temp.path().join("node");
    let mut judge = Judge::default();
    let mut stopped = 0;
    // The journal's two segments fit; sled's files and a third segment do not for long.
    for (round, kib) in [2200, 3200, 4500].into_iter().enumerate() {
        disk.resize(kib);
        let life = Life { seed: 40 + round as u64, stop: None, acts: 4000, most: 30_000 };
        let (said, status) = listen(spawn(&dir, &life), |_| {});
        if !status.success() {
            stopped += 1;
            let reason = said.stderr.contains("storage fault") || said.stderr.contains("No space left");
            assert!(reason, "round {round} ended without a reason: {}", said.stderr);
        }
        disk.resize(200_000);
        let verdict = judge.judge(&dir, &life, &said);
        verdict.unwrap_or_else(|e| {
            let (begun, acked) = (&said.begun, &said.acked);
            panic!(
                "round {round} of {kib} KiB, {status}: {e}\n  begun {begun:?}, acknowledged {acked:?}\n{}",
                said.stderr
            )
        });
    }
    assert!(stopped > 0, "the disk never filled: the test fills nothing");
    println!("stopped {stopped} times by a full disk");
}
