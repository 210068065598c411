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
