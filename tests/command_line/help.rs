//! The examples of `--help` are true: each is run as it stands there, by a shell, against a cluster.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Down, ONE_CLUSTER, configuration, good};

/// Sections in an order in which each finds what its examples speak of; and what their group is called here, for two of them
/// make one.
const SECTIONS: [(&str, &str); 14] = [
    ("admin", "team"),
    ("group", "nest"),
    ("send", "nest"),
    ("people", "nest"),
    ("pull", "nest"),
    ("digest", "nest"),
    ("receipts", "nest"),
    ("ephemeral", "nest"),
    ("watch", "nest"),
    ("edit", "nest"),
    ("recall", "nest"),
    ("sessions", "nest"),
    ("session", "nest"),
    ("device", "nest"),
];

/// What an example stands for that cannot be run: it does not end by itself, or is shortened.
const NOT_RUN: [&str; 3] = ["--live", "watch --user ann bob cid", "01a7..."];

/// Messages that are there before anybody speaks of number 17 or 204.
const LINES: usize = 220;

/// The examples of a command, without what is said about them.
fn examples(folder: &Path, command: &str) -> Vec<String> {
    let help = good(folder, &[command, "--help"]);
    let (_, after) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{command} has no examples"));
    let lines = after.lines().filter(|line| line.starts_with("  rookery "));
    lines.map(|line| without_words(line.trim()).to_owned()).collect()
}

/// What stands before two blanks that are in no quotes.
fn without_words(line: &str) -> &str {
    let mut quoted = false;
    for (at, letter) in line.char_indices() {
        quoted ^= letter == '\'';
        if !quoted && line[at..].starts_with("  ") {
            return &line[..at];
        }
    }
    line
}

/// Runs an example; what it printed.
fn run(folder: &Path, example: &str) -> String {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_rookery"));
    let place = program.parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", example])
        .current_dir(folder)
        .env("PATH", format!("{place}:{path}"))
        .env_remove("ROOKERY_CONFIG")
        .env_remove("ROOKERY_USER")
        .env_remove("ROOKERY_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {}\n{said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_example_of_help_does_what_it_says() {
    let temp = tempfile::tempdir().expect("folder");
    let folder = temp.path();
    let _alone = ONE_CLUSTER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    configuration(folder);
    // Message 17 is taken back long after it was sent, on a slow machine.
    let path = folder.join("cluster.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    assert!(!text.contains("\n[limits]"), "the sample leaves limits alone");
    std::fs::write(&path, text + "\n[limits]\nrecall_window_ms = 3600000\n").expect("write");
    std::fs::write(folder.join("crow.png"), b"\x89PNG").expect("write");
    let lines: String = (1..=LINES).map(|line| format!("line {line}\n")).collect();
    std::fs::write(folder.join("lines.txt"), lines).expect("write");
    let _down = Down(folder);
    good(folder, &["cluster", "up"]);
    let mut last = None;
    for (command, group) in SECTIONS {
        if command == "device" {
            run(folder, "rookery send --user ann --device phone @bob 'from the phone'");
        }
        for example in examples(folder, command) {
            if NOT_RUN.iter().any(|part| example.contains(part)) {
                continue;
            }
            let example = example.replace("team", group);
            if example.contains("dissolve") {
                last = Some(example);
                continue;
            }
            let printed = run(folder, &example);
            if example.contains("--json") {
                let is_json = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
                let whole = is_json(&printed) || printed.lines().all(is_json);
                assert!(whole, "{example} prints {printed}");
            }
            if example.contains(&format!("create {group}")) {
                run(folder, &format!("rookery send --user ann '#{group}' < lines.txt"));
                if command == "group" {
                    run(folder, "rookery send --user ann @bob < lines.txt");
                }
            }
        }
    }
    run(folder, &last.expect("the group's end is among the examples"));
}

#[test]
fn words_behind_an_example_are_no_part_of_it() {
    assert_eq!(without_words("rookery send 'a  b' c   prints it"), "rookery send 'a  b' c");
    assert_eq!(without_words("rookery down"), "rookery down");
}
