//! Messages stored before something is measured: sent as fast as a closed loop of the same senders goes, and read back.

use std::time::Duration;

use anyhow::ensure;

use super::Ground;
use super::args::LoadArgs;
use super::load::{Run, make_sessions, measure};
use super::mix::Plan;

/// Storing may take this long, and as much longer as a slow machine needs for so many messages.
const STORING: Duration = Duration::from_secs(300);
const SLOWLY: u64 = 8_000;
/// Senders at most, of whom each speaks in several sessions where these are more, and what each has in flight.
const SENDERS: u32 = 64;
const WINDOW: usize = 64;

/// Groups with so many messages in all, at least, of so many bytes each; and how many that are.
///
/// # Errors
/// When not all were stored in time, or some are missing.
pub(super) async fn fill(
    ground: &Ground,
    sessions: u32,
    messages: u64,
    size: usize,
) -> anyhow::Result<(Plan, u64)> {
    let load = shape(sessions, size);
    let plan = Plan::of(&load)?;
    make_sessions(ground, &plan, &load).await?;
    // All sessions get the same, and one sender may have one session more than another.
    let each = messages.div_ceil(u64::from(sessions.max(1))) * u64::from(sessions.div_ceil(load.senders));
    let length = STORING + Duration::from_secs(messages / SLOWLY);
    let run = Run { warmup: Duration::ZERO, length, most: each, phases: None };
    let stored = measure(ground, &plan, &load, &run).await?.acked_in_all;
    ensure!(stored >= messages, "only {stored} of {messages} messages were stored within {length:?}");
    Ok((plan, stored))
}

/// The load that fills sessions.
fn shape(sessions: u32, size: usize) -> LoadArgs {
    LoadArgs {
        senders: sessions.clamp(1, SENDERS),
        window: WINDOW,
        sessions: Some(sessions.max(1)),
        size,
        receivers: 0,
        seconds: 0.0,
        warmup: 0.0,
        at_leader: false,
        library: false,
        rate: None,
        direct: 0,
        markdown: false,
        plot: None,
    }
}
