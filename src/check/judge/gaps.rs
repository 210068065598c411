//! How long clients waited, round by round, and whether the run was hard enough to prove anything.
//!
//! An ack gap is the longest time without an ack for any client that had sends waiting all the while, those
//! connected to the node at fault included.

use std::collections::BTreeMap;

use serde::Serialize;

use super::verdict::Verdict;
use crate::check::history::{Act, DeviceIx, FaultKind, History, Micros, Outcome, Parts, Round};

/// A round with fewer acknowledged sends proves nothing.
pub const MIN_ACKED: u64 = 1_000;

/// One round in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoundReport {
    /// Which.
    pub number: u32,
    /// Nodes at fault.
    pub nodes: Vec<u16>,
    /// Sends acknowledged in it.
    pub acked: u64,
    /// Sends in flight at the instant of the fault.
    pub in_flight: u64,
    /// Further attempts in it.
    pub retried: u64,
    /// Longest ack gap of any client that reached beyond the fault, µs.
    pub ack_gap: Micros,
    /// Who waited so long.
    pub waited: Option<String>,
    /// From the fault until the cluster was whole again, µs.
    pub healed: Micros,
    /// Snapshots that nodes installed in it.
    pub snapshots: u64,
}

pub(super) fn judge(history: &History, verdict: &mut Verdict) {
    if history.rounds.is_empty() {
        verdict.inconclusive.push("no round was played".to_owned());
    }
    if history.dumps.is_empty() {
        verdict.inconclusive.push("no replica was read".to_owned());
    }
    if let Some(at) = history.setup.full_at {
        verdict.inconclusive.push(format!(
            "the history was as long as it may be at {at} µs, and the load was ended there; play fewer rounds or at a lower rate"
        ));
    }
    if history.setup.snapshots && history.rounds.iter().all(|round| round.snapshots == 0) {
        verdict.inconclusive.push("no node came back by a snapshot".to_owned());
    }
    for round in &history.rounds {
        let report = report(history, round);
        let at = report.number;
        let mut weak = |why: String| verdict.inconclusive.push(format!("round {at}: {why}"));
        if report.acked < MIN_ACKED {
            weak(format!("{} acked sends, {MIN_ACKED} are the least", report.acked));
        }
        if report.in_flight == 0 && round.fault != FaultKind::None {
            weak("no send was in flight at the fault".to_owned());
        }
        // Nobody has a reason to repeat anything when a lead is handed over.
        if report.retried == 0 && round.fault != FaultKind::Transfer {
            weak("no send was retried".to_owned());
        }
        verdict.rounds.push(report);
    }
}

/// A run that never did what a rule is about says nothing of that rule.
pub(super) fn coverage(parts: Parts, verdict: &mut Verdict) {
    let totals = &verdict.totals;
    let done = [
        (totals.recalled, "recalled"),
        (totals.edited, "edited"),
        (totals.barred, "blocked"),
        (totals.read, "read"),
        (if parts.digests { totals.proved } else { 1 }, "proved"),
        (if parts.lasting { totals.expired } else { 1 }, "seen to expire"),
        (if parts.keep > 0 { totals.trimmed } else { 1 }, "trimmed"),
        (if parts.since { totals.since.min(totals.carried) } else { 1 }, "listed since a mark"),
        (if parts.keys { totals.keyed } else { 1 }, "asked for again under its key"),
    ];
    for (_, what) in done.into_iter().filter(|(count, _)| *count == 0) {
        verdict.inconclusive.push(format!("nothing was {what}"));
    }
}

fn report(history: &History, round: &Round) -> RoundReport {
    let within = |at: Micros| round.begun <= at && at <= round.ended;
    let sends = history.sends.iter().filter(|send| send.act == Act::Content);
    let acked = |send: &&&crate::check::history::Send| {
        matches!(send.outcome, Outcome::Acked { .. }) && within(send.done)
    };
    // A change of members is a send, too.
    let spans =
        |send: &&crate::check::history::Send| send.invoke <= round.fault_at && round.fault_at <= send.done;
    let in_flight = history.sends.iter().filter(spans);
    let (ack_gap, who) = longest(history, round);
    RoundReport {
        number: round.number,
        nodes: round.nodes.clone(),
        acked: sends.clone().filter(|send| acked(&send)).count() as u64,
        in_flight: in_flight.count() as u64,
        retried: history.retries.iter().filter(|retry| within(retry.at)).count() as u64,
        ack_gap,
        waited: who.map(|device| history.device_text(device)),
        healed: round.healed.saturating_sub(round.fault_at),
        snapshots: round.snapshots,
    }
}

/// What happens to a client's sends. At the same moment in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// One more waits.
    Sent,
    /// One is refused: it waits no longer, but nothing was acknowledged.
    Refused,
    /// One is acknowledged.
    Acked,
}

/// The longest wait between the fault and the round's end.
fn longest(history: &History, round: &Round) -> (Micros, Option<DeviceIx>) {
    let mut clients: BTreeMap<DeviceIx, Vec<(Micros, Event)>> = BTreeMap::new();
    for send in &history.sends {
        if send.done < round.begun || send.invoke > round.ended {
            continue;
        }
        let events = clients.entry(send.device).or_default();
        events.push((send.invoke, Event::Sent));
        if send.done <= round.ended {
            let acked = matches!(send.outcome, Outcome::Acked { .. });
            events.push((send.done, if acked { Event::Acked } else { Event::Refused }));
        }
    }
    let mut longest = (0, None);
    for (device, events) in &mut clients {
        events.sort_unstable();
        let gap = longest_wait(events, round);
        if gap > longest.0 {
            longest = (gap, Some(*device));
        }
    }
    longest
}

fn longest_wait(events: &[(Micros, Event)], round: &Round) -> Micros {
    let (mut waiting, mut since, mut longest) = (0u64, 0, 0);
    for (at, event) in events {
        match event {
            Event::Sent => {
                if waiting == 0 {
                    since = *at;
                }
                waiting += 1;
            }
            Event::Refused => waiting = waiting.saturating_sub(1),
            Event::Acked => {
                // A wait that was over before the fault is none of its doing.
                if *at > round.fault_at {
                    longest = longest.max(at.saturating_sub(since));
                }
                waiting = waiting.saturating_sub(1);
                since = *at;
            }
        }
    }
    if waiting > 0 {
        longest = longest.max(round.ended.saturating_sub(since));
    }
    longest
}
