//! A node that was started `--with-parent` ends with it, whenever and however that dies.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::configuration;

/// An orderly end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Node 1, under a shell that is its parent; and its process.
fn under_a_shell(folder: &Path) -> (Child, Pid) {
    let script =
        "\"$1\" serve --node 1 --with-parent $$ >node.log 2>&1 & echo $! >pid.new; mv pid.new pid; wait";
    let shell = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_rookery")])
        .current_dir(folder)
        .env_remove("ROOKERY_CONFIG")
        .stdin(Stdio::null())
        .spawn()
        .expect("a shell");
    let read = || fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok().and_then(Pid::from_raw);
    wait("the node's number is written", || read().is_some());
    (shell, read().expect("it is there"))
}

/// Whether there is such a process; one that nobody has reaped yet is none.
fn lives(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_pid())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("node.log")).unwrap_or_default()
}

/// One that is frozen looks at nothing, and ends all the same.
#[test]
fn a_frozen_node_ends_with_its_parent() {
    for frozen in [false, true] {
        let temp = tempfile::tempdir().expect("folder");
        let folder = temp.path();
        configuration(folder);
        let (mut shell, node) = under_a_shell(folder);
        wait("the node waits for the others", || log(folder).contains("waiting for node"));
        if frozen {
            kill_process(node, Signal::STOP).expect("stopped");
        }
        shell.kill().expect("killed");
        shell.wait().expect("reaped");
        let end = Instant::now() + PATIENCE;
        while lives(node) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        if lives(node) {
            // It must not stay behind because a test failed.
            let _ = kill_process(node, Signal::KILL);
            panic!("the node (frozen: {frozen}) outlived its parent: {}", log(folder));
        }
        assert!(log(folder).contains("the parent's end"), "{}", log(folder));
    }
}

/// The parent may be dead before the node can ask who it is.
#[test]
fn a_node_whose_parent_is_gone_already_ends_at_once() {
    let temp = tempfile::tempdir().expect("folder");
    configuration(temp.path());
    let mut gone = Command::new("true").spawn().expect("a process");
    let pid = gone.id().to_string();
    gone.wait().expect("reaped");
    super::good(temp.path(), &["serve", "--node", "1", "--with-parent", &pid]);
}
