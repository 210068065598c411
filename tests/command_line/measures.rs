//! The modes of `rookery bench` that look at the nodes themselves, each small: what they print is whole, and true as far as
//! a run can tell that lasts seconds on any machine.

use serde_json::Value;

use super::good;

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
