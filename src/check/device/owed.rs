//! What a device waits for on its connection, and for how long it has: an answer that never comes is the judge's business, and
//! he must know that somebody was there to take it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, Device, QUIET, Waiting, Why};
use crate::check::history::{Micros, Owing};

/// A request that was sent on this connection.
pub(super) struct Owed {
    pub(super) waiting: Waiting,
    asked: Instant,
    /// For how long the connection had been watched then.
    watched: Duration,
}

impl Connection {
    /// A request was sent, and this is what its answer will be the answer to.
    pub(super) fn expects(&mut self, id: u32, waiting: Waiting) {
        self.waiting.insert(id, Owed { waiting, asked: Instant::now(), watched: self.watched });
    }

    /// Another look, which comes about every `interval`. Where this process stood still meanwhile (it was stopped, or its
    /// machine had other things to do) nobody has watched, and what came is still to be read.
    pub(super) fn watch(&mut self, interval: Duration) {
        let now = Instant::now();
        let since = now.duration_since(std::mem::replace(&mut self.looked, now));
        self.watched += since.min(QUIET.max(2 * interval));
    }

    fn waited(&self, owed: &Owed) -> Duration {
        self.watched.saturating_sub(owed.watched)
    }
}

impl Device {
    /// Whether nothing is waited for on this connection any more but what is overdue already.
    pub(super) fn is_answered(&self, connection: &Connection) -> bool {
        let patience = self.stage.patience();
        connection.waiting.values().all(|owed| connection.waited(owed) > patience)
    }

    /// What was not answered on a connection that is over.
    pub(super) fn owing(&self, connection: &Connection) -> Vec<Owing> {
        let micros = |time: Duration| time.as_micros() as Micros;
        let owing = connection.waiting.values().map(|owed| Owing {
            what: self.what(&owed.waiting),
            asked: self.stage.now().saturating_sub(micros(owed.asked.elapsed())),
            waited: micros(connection.waited(owed)),
        });
        let mut owing: Vec<Owing> = owing.collect();
        owing.sort_unstable_by_key(|owing| owing.asked);
        owing
    }

    /// A request in words.
    fn what(&self, waiting: &Waiting) -> String {
        let name = |session| self.stage.cast.session(session).map(ToString::to_string).unwrap_or_default();
        match waiting {
            Waiting::Send { session, client_seq, retry } => {
                let again = if retry.is_some() { ", repeated" } else { "" };
                format!("send #{client_seq} in {}{again}", name(*session))
            }
            Waiting::Pull { page, why } => {
                let why = if *why == Why::Fill { " to fill a gap" } else { "" };
                format!("a PULL from seq {} in {}{why}", page.from, name(page.session))
            }
            Waiting::Digest { session, seq, .. } => format!("DIGEST at seq {seq} in {}", name(*session)),
            Waiting::Sync { .. } => "a SYNC".to_owned(),
            Waiting::Read(at) => {
                let mark = self.log.marks.get(*at);
                mark.map_or_else(String::new, |mark| format!("READ {} in {}", mark.seq, name(mark.session)))
            }
            Waiting::Bar { number, .. } => format!("#{number} of its own acts"),
            Waiting::Ping => "a PING".to_owned(),
        }
    }
}
