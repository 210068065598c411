//! Digests: of one session at one seq there is one, whoever says it: a device by its own copy, the cluster when it is asked,
//! each replica, and the records that a replica gives.

use std::collections::HashMap;

use super::book::Book;
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{History, Seal, SessionIx, Witness};

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    let mut known: HashMap<(SessionIx, u64), &Seal> = HashMap::new();
    for seal in &book.history.seals {
        let first = *known.entry((seal.session, seal.seq)).or_insert(seal);
        if first.digest == seal.digest {
            continue;
        }
        verdict.add(Rule::Digest, Harm::Wrong, || {
            let name = book.history.session_text(seal.session);
            let (one, other) = (text(book.history, first), text(book.history, seal));
            format!("{name}: the digest at seq {} is {one}, and {other}", seal.seq)
        });
    }
}

fn text(history: &History, seal: &Seal) -> String {
    let digest = seal.digest.to_string();
    let digest = digest.get(..16).unwrap_or_default();
    match seal.witness {
        Witness::Copy(device) => format!("{digest}… by the copy of {}", history.device_text(device)),
        Witness::Told(device) => format!("{digest}… as {} was told", history.device_text(device)),
        Witness::Replica(node) => format!("{digest}… by the replica of node {node}"),
        Witness::Records(node) => format!("{digest}… by the records of node {node}"),
    }
}
