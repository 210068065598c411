//! The modes of `rookery bench` that look at the nodes themselves, each small: what they print is whole, and true as far as
//! a run can tell that lasts seconds on any machine.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::{bad, good};

fn measured(args: &str) -> Value {
    let temp = tempfile::tempdir().expect("folder");
    let args: Vec<&str> = args.split_whitespace().chain(["--json", "--shards", "4"]).collect();
    let report = good(temp.path(), &args);
    serde_json::from_str(&report).unwrap_or_else(|fault| panic!("{fault}: {report}"))
}

/// Every node is told of, and one that does next to nothing is not counted as one that computes.
#[test]
fn an_idle_node_takes_a_share_of_a_core() {
    let report = measured("bench idle --connections 0");
    let nodes = report["core_percent"].as_array().expect("a figure for each node");
    assert_eq!(nodes.len(), 3, "{report}");
    let percent: Vec<f64> = nodes.iter().map(|node| node[1].as_f64().expect("a number")).collect();
    // A debug build on a busy machine; the goal is that of the release.
    assert!(percent.iter().all(|percent| *percent < 100.0) && percent.iter().sum::<f64>() > 0.0, "{report}");
    assert!(report.get("bytes_per_connection").is_none(), "nobody was connected: {report}");
}

/// Old messages come from rows and new ones from memory; that each page is the one asked for, the run itself holds.
#[test]
fn pulled_messages_are_where_the_bench_says() {
    let report = measured("bench pull --messages 8000 --sessions 16 --pulls 40 --size 64 --seed 5");
    let of =
        |kind: &str, what: &str| report[kind][what].as_u64().unwrap_or_else(|| panic!("{kind}: {report}"));
    assert!(report["messages"].as_u64() >= Some(8000), "{report}");
    for kind in ["cold", "cold_disk"] {
        // One in each session of a half; 100 records lie in two or three pages of 64, none of which was read before.
        assert_eq!(of(kind, "pulls"), 8, "{report}");
        assert!((16..=24).contains(&of(kind, "pages_loaded")), "{report}");
        assert_eq!(of(kind, "pages_loaded"), of(kind, "pages"), "{report}");
    }
    for kind in ["newest", "newest_linearizable"] {
        assert_eq!((of(kind, "pulls"), of(kind, "pages")), (40, 0), "{report}");
        assert!(report[kind]["p99_ms"].as_f64() >= report[kind]["p50_ms"].as_f64(), "{report}");
    }
}

/// A node that was away has what was acknowledged meanwhile: its own replicas are counted in the end.
#[test]
fn a_node_that_was_away_catches_up_under_load() {
    let report = measured("bench away --away 2 --before 1 --rate 400 --senders 8 --size 64 --seed 5");
    let of = |what: &str| report[what].as_f64().unwrap_or_else(|| panic!("{what}: {report}"));
    assert!(of("caught_up_seconds") > 0.0 && of("caught_up_percent") > 0.0, "{report}");
    assert!(of("acked") > 0.0, "{report}");
    assert_eq!((of("read_back"), of("read_back_there")), (of("acked"), of("acked")), "{report}");
    // Whether the rate was kept is for the machine to say; whoever had to wait for an election is in the phase all the same.
    assert!(report["kept_rate"].is_boolean(), "{report}");
    for phase in ["before", "away", "back"] {
        assert!(report[phase]["messages"].as_u64() > Some(0), "{report}");
    }
}

/// Every size has a row, and none is of a load that was not read back. More than a thousand members come by several requests, each
/// of which is a record that nobody sent.
#[test]
fn growth_has_a_row_for_every_size() {
    let report =
        measured("bench growth --of members,history --steps 20,1200 --seconds 1 --rate 200 --size 64");
    let points = report["points"].as_array().expect("points");
    let names: Vec<_> =
        points.iter().map(|point| (point["grows"].as_str(), point["count"].as_u64())).collect();
    let all = ["members", "history"].map(|name| [(Some(name), Some(20)), (Some(name), Some(1200))]);
    assert_eq!(names, all.concat(), "{report}");
    for point in points {
        assert!(point["cpu_us"].as_f64() > Some(1.0) && point["cpu_ratio"].as_f64() > Some(0.0), "{report}");
        assert_eq!(point["read_back"], point["acked"], "{report}");
        // Whether the rate was kept is for the machine to say. Two seconds before those that are measured are not counted.
        let messages = point["messages"].as_u64().expect("a number");
        assert!(point["kept_rate"].is_boolean() && messages > 0, "{report}");
        assert!(Some(messages) < point["acked"].as_u64(), "{report}");
    }
}

/// What cannot be had is said before anything waits for it. (With connections the mode waits for minutes until memory is still.)
#[test]
fn idle_connections_are_at_a_node_there_is_and_no_more_than_files() {
    let temp = tempfile::tempdir().expect("folder");
    let told = bad(temp.path(), &["bench", "idle", "--connections", "30", "--at", "4", "--shards", "4"], 1);
    assert!(told.contains("there is no node 4"), "{told}");
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if most.is_some_and(|most| most < 91_000) {
        let told = bad(temp.path(), &["bench", "idle", "--connections", "90000", "--at", "1"], 1);
        assert!(told.contains("91000 open files") && told.contains("ulimit"), "{told}");
    }
}

/// The same logins once more, under a load that is read back; the rate is half of what was reached before, or the one named.
#[test]
fn logins_are_measured_while_others_send() {
    for (rate, half) in [("--rate 200", false), ("--rate", true)] {
        let report = measured(&format!("bench login --sessions 12 --rounds 4 --logins 0 --seed 5 {rate}"));
        let under = &report["under_load"];
        let of = |what: &str| under[what].as_f64().unwrap_or_else(|| panic!("{what}: {report}"));
        assert!(of("acked_in_all") > 0.0 && of("read_back") >= of("acked_in_all"), "{report}");
        // Whether the rate was kept is for the machine to say.
        assert!(under["kept_rate"].is_boolean() && under["send"]["messages"].as_u64() > Some(0), "{report}");
        match half {
            true => assert_eq!(of("rate") * 2.0, of("closed_loop"), "{report}"),
            false => assert!(of("rate") == 200.0 && under["closed_loop"].is_null(), "{report}"),
        }
        for logins in [&report, &under["logins"]] {
            assert!(logins["first_page"]["p99_ms"].as_f64() > Some(0.0), "{report}");
            assert!(logins["bytes_whole"].as_u64() > logins["bytes_since"].as_u64(), "{report}");
        }
    }
}

/// What a stopped node's folder takes is told by its parts, and what is stored is in one of them.
#[test]
fn a_restart_tells_what_the_folders_take() {
    let report = measured("bench restart --messages 4000 --sessions 8 --size 256 --seed 5");
    assert!(report["content_bytes"].as_u64() >= Some(4000 * 256), "{report}");
    let nodes = report["disk"].as_array().expect("a folder for each node");
    assert_eq!(nodes.len(), 3, "{report}");
    for node in nodes {
        let of = |part: &str| node[1][part].as_u64().unwrap_or_else(|| panic!("{part}: {report}"));
        // Contents are random, so they are there in full; nobody says in which database while they are few.
        assert!(of("state") + of("log") + of("journal") > 4000 * 256 && of("journal") > 0, "{report}");
    }
    assert!(report["disk_ratio"].as_f64() > Some(0.0), "{report}");
}

/// What fanout-ratio.sh makes of what the two programs say: stand-ins, so that nothing is built or measured.
fn fanout(folder: &Path, spread: &str, args: &[&str]) -> Output {
    let stand_in = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make it a program");
        path
    };
    let probe = r#"echo "$@" >>"$0.told"; echo '{"batch": 7, "deliveries_per_second": 8000000.0}'"#;
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/fanout-ratio.sh"))
        .args(args)
        .env("ROOKERY", stand_in("rookery", spread))
        .env("PROBE", stand_in("probe", probe))
        .env("SECONDS_MEASURED", "1")
        .env("TMPDIR", folder)
        .output()
        .expect("the script runs")
}

#[test]
fn the_ratio_to_the_probe_is_of_equal_frames_and_writes() {
    let temp = tempfile::tempdir().expect("folder");
    let said = r#"echo '{"deliveries_per_second": 6000000.0, "delivery": {"p99_ms": 41.5}, "deliveries_per_write": 6.6, "bytes_per_delivery": 211.4}'"#;
    let output = fanout(temp.path(), said, &["2", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{fault}: {text}"));
    assert_eq!(report["rounds"].as_array().map(Vec::len), Some(2), "{report}");
    assert_eq!(report["medians"]["ratio"].as_f64(), Some(0.75), "{report}");
    let told = std::fs::read_to_string(temp.path().join("probe.told")).expect("what the probe was told");
    assert_eq!(told.lines().count(), 2);
    assert!(told.lines().all(|line| line.contains("--sockets 1000 --size 211 --batch 7 ")), "{told}");
    for form in ["--markdown", "1"] {
        let output = fanout(temp.path(), said, &[form]);
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("0.75"));
    }
    // A run that lost something is none.
    assert_eq!(fanout(temp.path(), "exit 1", &["1"]).status.code(), Some(1));
    assert_eq!(fanout(temp.path(), said, &["none"]).status.code(), Some(2));
}
