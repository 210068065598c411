//! Power cuts: the store lives on a loop-mounted ext4 whose file system is shut down without flushing its journal, so
//! that only what was fsynced is there after the next mount (G1).
//!
//! Needs root, mkfs.ext4 and a free loop device; without them it says so and passes. `ROOKERY_POWERCUTS` sets the number
//! of cuts (default 20). Mounts and loop devices are removed however the test ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking"
)]

mod store_history;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store_history::{Judge, Life, listen, spawn};

#[test]
fn child() {
    store_history::child();
}

fn run(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|s| s.success())
}

/// The image, mounted; unmounted when it goes (umount frees the loop device that mount took).
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn make(folder: &Path) -> Option<Self> {
        let disk = Self { image: folder.join("disk.img"), at: folder.join("mnt") };
        std::fs::create_dir(&disk.at).unwrap();
        let image = File::create(&disk.image).unwrap();
        image.set_len(96 << 20).unwrap();
        drop(image);
        let image = disk.image.to_str().unwrap();
        let made = run("mkfs.ext4", &["-q", "-F", image]);
        (made && disk.mount()).then_some(disk)
    }

    fn mount(&self) -> bool {
        run("mount", &["-o", "loop", self.image.to_str().unwrap(), self.at.to_str().unwrap()])
    }

    fn unmount(&self) -> bool {
        run("umount", &[self.at.to_str().unwrap()])
    }

    /// From here on nothing reaches the image, not even what the kernel still holds.
    fn cut(&self) -> std::io::Result<()> {
        let root = File::open(&self.at)?;
        shutdown(&root)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.unmount() && Instant::now() < end {
            if !run("mountpoint", &["-q", self.at.to_str().unwrap()]) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
#[allow(
    unsafe_code,
    reason = "there is no safe wrapper for this ioctl; the descriptor and the word outlive the call"
)]
fn shutdown(root: &File) -> std::io::Result<()> {
    use rustix::ioctl;
    const NO_LOG_FLUSH: u32 = 2;
    // _IOR('X', 125, __u32): the kernel reads the word although the number says otherwise.
    const SHUTDOWN: ioctl::Opcode = 0x8004_587d;
    let call = unsafe { ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH) };
    unsafe { ioctl::ioctl(root, call) }.map_err(std::io::Error::from)
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let cuts: u32 = std::env::var("ROOKERY_POWERCUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let seed = std::env::var("ROOKERY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("replay with ROOKERY_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let temp = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(temp.path()) else {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no power was cut: needs root, mkfs.ext4 and a free loop device"
        );
        return;
    };
    let dir = disk.at.join("node");
    let mut judge = Judge::default();
    let mut acked = 0;
    for cut in 1..=cuts {
        let life =
            Life { seed: rng.random(), stop: None, acts: 100_000, most: [300, 20_000][cut as usize % 2] };
        let pause = Duration::from_millis(rng.random_range(30..700));
        let (said, _) = listen(spawn(&dir, &life), |child| {
            let end = Instant::now() + pause;
            while Instant::now() < end {
                std::thread::park_timeout(end - Instant::now());
            }
            disk.cut().unwrap();
            // An acknowledgement after the cut would be a lie, so the process lives on a little to tell one.
            let end = Instant::now() + Duration::from_millis(20);
            while Instant::now() < end {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            let _ = child.kill();
        });
        let end = Instant::now() + Duration::from_secs(10);
        while !disk.unmount() {
            assert!(Instant::now() < end, "cannot unmount after cut {cut}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert!(disk.mount(), "the file system does not mount after cut {cut}");
        judge
            .judge(&dir, &life, &said)
            .unwrap_or_else(|e| panic!("cut {cut}, seed {seed}: {e}\n{}", said.stderr));
        acked += said.acked.values().sum::<u64>();
    }
    println!("stood {cuts} power cuts, {acked} operations acknowledged before them");
    assert!(acked > u64::from(cuts), "hardly anything was acknowledged: the cuts cut nothing");
}
