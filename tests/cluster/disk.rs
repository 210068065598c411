//! Little disk space, and none at all: writes are refused or the node stops, reads go on, and nothing acknowledged is lost.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rookery_client::{Client, Outgoing};
use rookery_wire::request::{Consistency, Hello};
use rookery_wire::{ErrorCode, Retry};
use tempfile::TempDir;

use super::fixture::{Cluster, Plan, play, until};
use super::people::{Wire, app, contents, direct, hello, replicas, say, texts};

#[test]
fn little_disk_space_refuses_writes_and_reads_go_on() {
    play(async {
        let plan = Plan::new(3, 2).with("storage", "low_water_mib = 0");
        let mut cluster = Cluster::up(plan).await;
        let session = direct("ann", "bob");
        let mut ann = Wire::of(&cluster, 1, "ann", "phone").await;
        for number in 1..=5 {
            ann.send(&session, number, &format!("before {number}")).await.expect("acknowledged");
        }
        let known = Hello { epoch: ann.welcome.epoch, ..hello("ann", "phone") };
        drop(ann);

        // Every node believes that its disk is nearly full.
        let low = cluster.variant("low.toml", &[("low_water_mib = 0", "low_water_mib = 1048576")]);
        for id in cluster.ids() {
            cluster.stop(id).await;
            cluster.start_as(&low, id, &[]);
        }
        cluster.serving().await;
        assert!(cluster.status(2).await.expect("it answers").disk.low);
        let mut ann = Wire::open(&cluster.client(1), &known).await.expect("a known device is welcome");
        let records = ann.pull(&session, Consistency::Linearizable).await.expect("reads go on");
        assert_eq!(contents(&records), texts("before", 5));
        assert_eq!(ann.sync().await.sessions.len(), 1);
        let refused = ann.send(&session, 6, "while low").await.expect_err("no room");
        assert_eq!(refused.code, ErrorCode::DiskLow, "{refused}");
        assert!(refused.message().contains("storage.low_water_mib"), "{refused}");
        assert!(matches!(refused.retry, Retry::After(1..)), "{refused:?}");
        drop(ann);

        // Two have room again: they lead, and the third serves its clients through them.
        for id in [1, 2] {
            cluster.stop(id).await;
            cluster.start(id);
        }
        cluster.serving().await;
        let mut ann = Wire::open(&cluster.client(3), &known).await.expect("welcome");
        until("writes go on", async || match ann.send(&session, 6, "with room").await {
            Ok(ack) => ack.seq == 6,
            Err(error) => {
                assert_eq!(error.code, ErrorCode::DiskLow, "{error}");
                false
            }
        })
        .await;
        let all = [texts("before", 5), vec!["with room".to_owned()]].concat();
        assert_eq!(contents(&replicas(&cluster, &[1, 2, 3], &session).await), all);
    });
}

/// A file system of its own in an image behind a loop device; gone with this value.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None`, loudly, where this machine does not let us.
    fn mount(mib: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("image");
        File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("an image");
        fs::create_dir(folder.path().join("disk")).expect("a folder");
        let disk = Self { folder };
        // No reserve for root, so that full is full.
        let made = run("mkfs.ext4", &["-q", "-F", "-m", "0"], &[&image])
            .and_then(|()| run("mount", &["-o", "loop"], &[&image, &disk.path()]));
        match made {
            Ok(()) => Some(disk),
            Err(why) => {
                // Not by a macro: the harness would keep that of a test that passes to itself.
                let _ = writeln!(std::io::stderr(), "SKIPPED: a disk that is really full: {why}");
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut ballast =
            File::options().create(true).append(true).open(self.path().join("ballast")).expect("made");
        for size in [1 << 20, 4096, 1] {
            let block = vec![0x5a; size];
            while ballast.write_all(&block).is_ok() {}
        }
        // What is not allocated yet may find that there is no room for it.
        let _ = ballast.sync_all();
    }

    /// Leaves about so much, and never less on the way there: a node that meets a full disk stops.
    fn fill_but(&self, mib: u64) {
        let space = rustix::fs::statvfs(self.path()).expect("a file system");
        let more = (space.f_bavail * space.f_frsize) >> 20;
        let mut ballast = File::create(self.path().join("ballast")).expect("made");
        let block = vec![0x5a; 1 << 20];
        for _ in mib..more {
            ballast.write_all(&block).expect("there is room");
        }
        ballast.sync_all().expect("written");
    }

    fn free(&self) {
        fs::remove_file(self.path().join("ballast")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Not mounted is as good.
        let _ = run("umount", &["-l"], &[&self.path()]);
    }
}

fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> Result<(), String> {
    let mut command = Command::new(program);
    let output = command.args(arguments).args(paths).stdin(Stdio::null()).output();
    let output = output.map_err(|why| format!("{program}: {why}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Small journals, caches and intervals: what a full disk does shows within a second or two.
fn small(plan: Plan) -> Plan {
    plan.with("storage", "low_water_mib = 0")
        .with("storage", "journal_segments = 4")
        .with("storage", "settle_lag_mib = 0")
        .with("storage", "checkpoint_ms = 200")
}

/// Sends until `enough` says so or nobody takes any more; adds what was acknowledged.
async fn press(client: &Client, label: &str, acked: &mut Vec<String>, mut enough: impl AsyncFnMut() -> bool) {
    let session = direct("ann", "bob");
    let padding = "x".repeat(8000);
    let end = Instant::now() + Duration::from_secs(30);
    let mut number = 0;
    while !enough().await {
        assert!(Instant::now() < end, "{label}: nothing has come of a full disk");
        number += 1;
        let text = format!("{label} {number} {padding}");
        match client.send(&session, Outgoing::text(&text)).await {
            Ok(_) => acked.push(text),
            Err(why) => println!("{label}: {why}"),
        }
    }
}

#[test]
fn a_disk_that_is_really_full_stops_its_node_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(192) else { return };
    play(async {
        let plan = small(Plan::new(3, 2)).data_in(1, &disk.path());
        let mut cluster = Cluster::up(plan).await;
        let session = direct("ann", "bob");
        let (ann, _) = app(&cluster, &[2, 3], "ann", "phone").await;
        let mut acked = texts("before", 5);
        say(&ann, &session, texts("before", 5)).await;
        disk.fill();
        press(&ann, "full", &mut acked, async || !cluster.runs(1)).await;
        // What the disk still had room for of its last words.
        let log = cluster.log(1);
        println!("node 1 with a full disk: {}", log.lines().last().unwrap_or("(none)"));
        say(&ann, &session, texts("without it", 5)).await;
        acked.extend(texts("without it", 5));
        disk.free();
        cluster.ended(1, Duration::from_secs(5)).await;
        cluster.start(1);
        cluster.serving().await;
        assert_eq!(contents(&replicas(&cluster, &[1, 2, 3], &session).await), acked);
    });
}

#[test]
fn when_every_disk_is_full_nothing_acknowledged_is_lost() {
    let Some(disk) = SmallDisk::mount(384) else { return };
    play(async {
        let place = disk.path();
        let plan = small(Plan::new(3, 2)).data_in(1, &place).data_in(2, &place).data_in(3, &place);
        let mut cluster = Cluster::up(plan).await;
        let session = direct("ann", "bob");
        let seeds: Vec<String> = cluster.ids().into_iter().map(|id| cluster.client(id)).collect();
        let mut options =
            rookery_client::Options::new(seeds, super::people::user("ann"), super::people::device("phone"));
        options.request_deadline = Duration::from_secs(3);
        let (ann, events) = Client::connect(options).await.expect("connected");
        let mut acked = texts("before", 5);
        say(&ann, &session, texts("before", 5)).await;
        disk.fill();
        press(&ann, "full", &mut acked, async || {
            let mut stopped = 0;
            for id in [1, 2, 3] {
                stopped += usize::from(!cluster.runs(id));
            }
            stopped >= 2
        })
        .await;
        // It ends, and tries nothing again.
        drop((ann, events));
        disk.free();
        for id in cluster.ids() {
            if !cluster.runs(id) {
                cluster.ended(id, Duration::from_secs(5)).await;
                cluster.start(id);
            }
        }
        cluster.serving().await;
        let kept = contents(&replicas(&cluster, &[1, 2, 3], &session).await);
        // Whoever had no answer may have been stored; whoever was acknowledged is there, in order, once.
        let mut rest = kept.iter();
        for text in &acked {
            assert!(rest.any(|kept| kept == text), "acknowledged and lost: {}", &text[..20.min(text.len())]);
        }
        let distinct: std::collections::BTreeSet<&String> = kept.iter().collect();
        assert_eq!(distinct.len(), kept.len(), "nothing is there twice");
    });
}

#[test]
fn writes_wait_for_space_and_go_on_by_themselves() {
    let Some(disk) = SmallDisk::mount(512) else { return };
    play(async {
        let place = disk.path();
        let plan = Plan::new(3, 2).data_in(1, &place).data_in(2, &place).data_in(3, &place);
        let mut cluster = Cluster::up(plan.with("storage", "low_water_mib = 96")).await;
        let session = direct("ann", "bob");
        let mut ann = Wire::of(&cluster, 1, "ann", "phone").await;
        ann.send(&session, 1, "before").await.expect("acknowledged");
        disk.fill_but(48);
        let low = async |low: bool| {
            for id in [1, 2, 3] {
                if cluster.status(id).await.is_none_or(|status| status.disk.low != low) {
                    return false;
                }
            }
            true
        };
        until("all notice that their disk is low", async || low(true).await).await;
        let refused = ann.send(&session, 2, "while low").await.expect_err("no room");
        assert_eq!(refused.code, ErrorCode::DiskLow, "{refused}");
        assert_eq!(
            contents(&ann.pull(&session, Consistency::Linearizable).await.expect("a page")),
            ["before"]
        );
        disk.free();
        until("all notice that there is room", async || low(false).await).await;
        ann.send(&session, 2, "after").await.expect("the same number, on the same connection");
        assert!([1, 2, 3].into_iter().all(|id| cluster.runs(id)), "nobody had to be restarted");
        assert_eq!(contents(&replicas(&cluster, &[1, 2, 3], &session).await), ["before", "after"]);
    });
}
