//! Requests that are never answered (rule 3): a node answers whatever it was asked, if only that it does not know, before its
//! deadline is over; and who repeats what is unanswered is answered once all nodes are up for that long.
//!
//! Where a fault came between, the time begins anew with its end; of a send that never had so much time nothing is known, and
//! the run proves nothing.

use std::collections::BTreeMap;

use super::expiry::{faults, suspended};
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{DeviceIx, Drain, History, Micros, NEVER, Outcome, Told};

pub(super) fn judge(history: &History, verdict: &mut Verdict) {
    let faults = faults(history);
    for stream in &history.streams {
        let patience = u64::from(stream.deadline_ms) * 1000 + history.setup.grace;
        for owing in &stream.owing {
            // What it has watched is less than the time that went by, so the connection was there until then.
            if owing.asked + owing.waited >= suspended(&faults, owing.asked, patience) {
                verdict.add(Rule::Answers, Harm::Lost, || {
                    let (who, node) = (history.device_text(stream.device), stream.node);
                    let (what, waited) = (&owing.what, owing.waited / 1000);
                    format!("{what}: {who} waited {waited} ms for an answer on one connection to node {node}")
                });
            }
        }
    }
    given_up(history, &faults, verdict);
}

/// One request that was repeated on any connection, to no avail.
struct Open {
    what: String,
    begun: Micros,
    patience: Micros,
}

/// What was without an answer when the drain had ended, and is to the end.
fn given_up(history: &History, faults: &[(Micros, Micros)], verdict: &mut Verdict) {
    let mut unknown = 0u64;
    for open in open(history) {
        match history.setup.drain.and_then(|drain| up_for(drain, faults, open.begun)) {
            Some(up) if up >= open.patience => verdict.add(Rule::Answers, Harm::Lost, || {
                let (what, up) = (&open.what, up / 1000);
                format!(
                    "{what} was never answered, though all nodes were up for the last {up} ms of the drain"
                )
            }),
            Some(_) | None => unknown += 1,
        }
    }
    if unknown > 0 {
        verdict.inconclusive.push(format!(
            "requests that were never answered: {unknown}; not all nodes were up for long enough to say that they had to be"
        ));
    }
}

/// For how long all nodes were up, without a fault, in that part of the drain in which a request was under way.
fn up_for(drain: Drain, faults: &[(Micros, Micros)], begun: Micros) -> Option<Micros> {
    let healed = faults.iter().map(|(_, to)| *to).max().unwrap_or(0);
    let since = drain.whole_since?.max(drain.begun).max(healed).max(begun);
    Some(drain.ended.saturating_sub(since))
}

fn open(history: &History) -> Vec<Open> {
    let mut deadlines: BTreeMap<DeviceIx, u64> = BTreeMap::new();
    for stream in &history.streams {
        let longest = deadlines.entry(stream.device).or_default();
        *longest = (*longest).max(stream.deadline_ms.into());
    }
    let longest = deadlines.values().copied().max().unwrap_or(0);
    let patience = |device: Option<DeviceIx>| {
        let deadline = device.and_then(|device| deadlines.get(&device)).copied().unwrap_or(longest);
        deadline * 1000 + history.setup.grace
    };
    let mut all = Vec::new();
    for send in history.sends.iter().filter(|send| send.outcome == Outcome::Unknown && send.done == NEVER) {
        let (session, device) = (history.session_text(send.session), history.device_text(send.device));
        let what = format!("{session}: send #{} of {device}", send.client_seq);
        all.push(Open { what, begun: send.invoke, patience: patience(Some(send.device)) });
    }
    for bar in history.bars.iter().filter(|bar| bar.answer == Told::Unknown) {
        let what = format!("#{} of the own acts of {}", bar.number, history.device_text(bar.device));
        all.push(Open { what, begun: bar.invoke, patience: patience(Some(bar.device)) });
    }
    for act in &history.keyed {
        let unknown = act.asked.iter().all(|asking| asking.outcome == Outcome::Unknown);
        let Some(begun) = act.asked.iter().map(|asking| asking.invoke).min().filter(|_| unknown) else {
            continue;
        };
        let what = format!("{}: key {}", history.session_text(act.session), act.key);
        all.push(Open { what, begun, patience: patience(None) });
    }
    all
}
