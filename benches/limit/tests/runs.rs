//! The probe as a program: both figures, with few messages. What is shown is that it ends, and that its logs agree.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::process::Command;

fn probe(args: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_rookery-limit-probe")).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).unwrap()
}

#[test]
fn what_two_of_three_have_synced_is_acknowledged_and_three_have_it_in_the_end() {
    // Contents that no read ends with, so that messages come in pieces.
    let report = probe(&[
        "durable",
        "--senders",
        "3",
        "--window",
        "17",
        "--size",
        "4099",
        "--seconds",
        "0.5",
        "--warmup",
        "0.1",
        "--seed",
        "1",
        "--json",
    ]);
    let count = |name: &str| report[name].as_u64().unwrap();
    assert!(count("acked") > 0 && count("acked_in_all") >= count("acked"), "{report}");
    assert_eq!(count("acked_in_all"), count("read_back"));
    assert!(report["p50_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn every_delivery_is_read() {
    let report =
        probe(&["fanout", "--sockets", "20", "--size", "300", "--batch", "3", "--seconds", "0.3", "--json"]);
    assert!(report["deliveries"].as_u64().unwrap() > 0, "{report}");
}
