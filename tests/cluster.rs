//! Clusters of real processes: formed, fed wrong things, hurt, and asked afterwards what they kept.
//!
//! Every node is the built program under `serve`, on free ports, in a folder of its own, driven by signals and public
//! addresses as an operator would. Each test ends every process it started, also when it fails, and then shows the end of
//! their logs. One cluster runs at a time. `cluster/fixture.rs` starts and hurts nodes, `cluster/people.rs` speaks to
//! them; the other files are the cases.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::large_futures,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking and says why on the terminal"
)]

#[path = "cluster/admin.rs"]
mod admin;
#[path = "cluster/against_model.rs"]
mod against_model;
#[path = "cluster/blocks.rs"]
mod blocks;
#[path = "cluster/both_begin.rs"]
mod both_begin;
#[path = "cluster/devices.rs"]
mod devices;
#[path = "cluster/digest.rs"]
mod digest;
#[path = "cluster/disk.rs"]
mod disk;
#[path = "cluster/far.rs"]
mod far;
#[path = "cluster/fixture.rs"]
mod fixture;
#[path = "cluster/folders.rs"]
mod folders;
#[path = "cluster/formation.rs"]
mod formation;
#[path = "cluster/groups.rs"]
mod groups;
#[path = "cluster/in_vain.rs"]
mod in_vain;
#[path = "cluster/interrupted.rs"]
mod interrupted;
#[path = "cluster/joining.rs"]
mod joining;
#[path = "cluster/large.rs"]
mod large;
#[path = "cluster/leads.rs"]
mod leads;
#[path = "cluster/live.rs"]
mod live;
#[path = "cluster/loud.rs"]
mod loud;
#[path = "cluster/naming.rs"]
mod naming;
#[path = "cluster/own.rs"]
mod own;
#[path = "cluster/people.rs"]
mod people;
#[path = "cluster/pressure.rs"]
mod pressure;
#[path = "cluster/purged.rs"]
mod purged;
#[path = "cluster/recall.rs"]
mod recall;
#[path = "cluster/reference.rs"]
mod reference;
#[path = "cluster/reference_doors.rs"]
mod reference_doors;
#[path = "cluster/reference_shows.rs"]
mod reference_shows;
#[path = "cluster/retention.rs"]
mod retention;
#[path = "cluster/signals.rs"]
mod signals;
#[path = "cluster/since.rs"]
mod since;
#[path = "cluster/starts.rs"]
mod starts;
#[path = "cluster/strangers.rs"]
mod strangers;
#[path = "cluster/tokens.rs"]
mod tokens;
#[path = "cluster/versions.rs"]
mod versions;
