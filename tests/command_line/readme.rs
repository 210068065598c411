//! README.md can be followed: what its tour says to type is typed, line by line, by a shell, against a cluster.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Down, ONE_CLUSTER, configuration};

/// What is not typed here, and why it need not be.
const NOT_RUN: [(&str, &str); 4] = [
    ("cargo build ", "what was built for the tests is what runs here, and in the PATH"),
    ("rookery chat ", "it wants a terminal"),
    ("rookery check ", "tests/checker.rs and scripts/failover.sh"),
    ("scripts/failover.sh ", ".ci/run"),
];

/// What some of them must have printed.
const PRINTED: [(&str, &str); 11] = [
    ("rookery cluster up", "serving"),
    ("rookery tail ", "\"text\":\"hello\""),
    ("rookery pull ", "ann: is anybody here?"),
    ("rookery sessions ", "team"),
    ("rookery versions ", "is anybody there?"),
    ("rookery receipts ", "eve"),
    ("rookery digest ", "are those of the cluster"),
    ("python3 examples/client.py ", "is anybody there?"),
    ("rookery cluster status ", "kept for"),
    ("rookery cluster transfer ", "shard 5"),
    ("rookery cluster down", "node 3 stopped"),
];

/// For the whole tour.
const BOUND: Duration = Duration::from_secs(120);

/// The lines that begin with `$ ` in the blocks of a section.
fn commands<'a>(readme: &'a str, section: &str) -> Vec<&'a str> {
    let (_, text) = readme.split_once(&format!("\n## {section}\n")).expect("a section");
    let text = text.split("\n## ").next().unwrap_or(text);
    text.lines().filter_map(|line| line.strip_prefix("$ ")).collect()
}

/// A folder as a clone would be, but for the ports.
fn clone(folder: &Path) -> Vec<String> {
    let free = configuration(folder);
    for part in ["examples", "scripts"] {
        symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join(part), folder.join(part)).expect("a link");
    }
    free
}

/// What a shell prints that is given this line; ended when the tour takes too long.
fn typed(folder: &Path, line: &str, until: Instant) -> String {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_rookery"));
    let place = program.parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let out = folder.join("printed");
    let stream = || Stdio::from(fs::File::options().append(true).create(true).open(&out).expect("a file"));
    fs::write(&out, "").expect("emptied");
    let mut child = Command::new("bash")
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", format!("{place}:{path}"))
        .env_remove("ROOKERY_CONFIG")
        .env_remove("ROOKERY_USER")
        .env_remove("ROOKERY_DEVICE")
        .env_remove("ROOKERY_LOG")
        .stdin(Stdio::null())
        .stdout(stream())
        .stderr(stream())
        .spawn()
        .expect("a shell");
    let status = loop {
        if let Some(status) = child.try_wait().expect("waited") {
            break status;
        }
        if Instant::now() > until {
            child.kill().expect("killed");
            panic!("the tour is not over after {BOUND:?}, at: {line}");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let printed = fs::read_to_string(&out).expect("text");
    assert!(status.success(), "{line}: {status}\n{printed}");
    printed
}

#[test]
fn what_the_readme_says_to_type_works_from_top_to_bottom() {
    let temp = tempfile::tempdir().expect("folder");
    let folder = temp.path();
    let _alone = ONE_CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let free = clone(folder);
    let _down = Down(folder);
    let readme = include_str!("../../README.md");
    let (begun, mut passed_over, mut seen) = (Instant::now(), Vec::new(), Vec::new());
    let tour = [commands(readme, "Talk"), commands(readme, "Break it")].concat();
    assert!(tour.len() > 25, "{tour:?}");
    for line in tour {
        if let Some((name, _)) = NOT_RUN.iter().find(|(name, _)| line.starts_with(name)) {
            passed_over.push(*name);
            continue;
        }
        let line = line.replace("127.0.0.1:7401", &free[0]);
        let printed = typed(folder, &line, begun + BOUND);
        for (command, wanted) in PRINTED.iter().filter(|(command, _)| line.starts_with(command)) {
            assert!(printed.contains(wanted), "{line}: {wanted} is not in\n{printed}");
            seen.push(*command);
        }
    }
    assert_eq!(passed_over, NOT_RUN.map(|(name, _)| name), "each once, in this order");
    seen.dedup();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), PRINTED.len(), "all of these were typed: {seen:?}");
    println!("the tour took {:?}", begun.elapsed());
}
