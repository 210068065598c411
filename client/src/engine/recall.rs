//! What has been handled: it becomes the delivered cursor at the cluster and the device's memory.

use std::collections::BTreeMap;

use rookery_wire::request::Delivered;
use rookery_wire::{Blob, Kind, encode_frame};

use crate::engine::link::{Phase, Purpose, Verdict};
use crate::engine::slots::{Slot, SlotQueue};
use crate::engine::{Engine, Given, Millis, REPORT};
use crate::memory::{Remembered, SessionMemory};
use crate::options::StartAt;

/// Cursors in one DELIVERED.
const CURSORS: usize = 200;
/// Entries of the ring beyond which unwanted messages are no longer noted: the events between them are bounded, so
/// this is reached only by an application that handles nothing at all.
const RING: usize = 64 << 10;

/// What was said on connections that have ended, and is in no list since. A node that died may have had it and told nobody,
/// and in a quiet session nothing else would say it.
#[derive(Debug, Default)]
pub(crate) struct SaidAgain {
    /// To be said, with a request: its answer says that it is kept.
    doubted: SlotQueue,
    /// Said and not answered.
    asked: Vec<(Slot, u64)>,
    /// Not before.
    at: Millis,
}

impl SaidAgain {
    pub(crate) fn is_due(&self) -> bool {
        self.asked.is_empty() && !self.doubted.is_empty()
    }
}

impl Engine {
    /// The connection is gone, and with it the word of what was said on it without an answer.
    pub(crate) fn doubt_delivered(&mut self) {
        self.said_again.asked.clear();
        self.said_again.at = 0;
        for (slot, session) in self.sessions.iter_mut() {
            if session.reported > session.confirmed {
                self.said_again.doubted.push(slot);
            }
        }
    }

    /// Says it again, a part at a time, once the list has been read, which confirms some of it.
    pub(crate) fn say_delivered_again(&mut self, now: Millis) {
        if !self.sync.done_here
            || !self.said_again.is_due()
            || now < self.said_again.at
            || !self.link.has_room()
        {
            return;
        }
        let mut cursors = Vec::new();
        while cursors.len() < CURSORS
            && let Some(slot) = self.said_again.doubted.pop()
        {
            let session = &self.sessions[slot];
            if session.inbox.tracked && session.reported > session.confirmed {
                cursors.push((session.id.clone(), session.reported));
                self.said_again.asked.push((slot, session.reported));
            }
        }
        if !cursors.is_empty() {
            let id = self.link.request(Purpose::Cursors, now);
            encode_frame(Kind::Delivered, id, &Delivered { cursors }, &mut self.out);
        }
    }

    /// OK, or a refusal.
    pub(crate) fn delivered_answered(&mut self, now: Millis, verdict: Option<Verdict>) {
        for (slot, seq) in std::mem::take(&mut self.said_again.asked) {
            match verdict {
                // What is refused for good is not asked for ever: the next cursor of the session says it too.
                None | Some(Verdict::Final) => {
                    let session = &mut self.sessions[slot];
                    session.confirmed = session.confirmed.max(seq);
                }
                Some(Verdict::Again { .. } | Verdict::Elsewhere) => self.said_again.doubted.push(slot),
            }
        }
        let pause = if let Some(Verdict::Again { after }) = verdict { after.max(REPORT) } else { 0 };
        self.said_again.at = now + pause;
    }

    /// An own message the application does not want: handled as soon as all before it are.
    pub(crate) fn silent(&mut self, slot: Slot, seq: u64) {
        let crowded = self.ring.len() >= RING;
        match self.ring.back_mut() {
            None => self.note(slot, seq),
            Some(Given::Silent(last, at)) if *last == slot => *at = seq,
            Some(_) if crowded => {}
            Some(_) => self.ring.push_back(Given::Silent(slot, seq)),
        }
    }

    /// The application has handled so many events in all.
    pub(crate) fn settle_handled(&mut self, handled: u64) {
        while let Some(&given) = self.ring.front() {
            if !matches!(given, Given::Silent(..)) {
                if self.handled >= handled {
                    return;
                }
                self.handled += 1;
            }
            self.ring.pop_front();
            if let Given::Message(slot, seq) | Given::Silent(slot, seq) = given {
                self.note(slot, seq);
            }
        }
    }

    fn note(&mut self, slot: Slot, seq: u64) {
        let session = &mut self.sessions[slot];
        session.handled = session.handled.max(seq);
        self.changes += 1;
        self.unreported.push(slot);
    }

    /// DELIVERED for what was handled since the last one.
    pub(crate) fn report_delivered(&mut self, now: Millis) {
        if self.link.phase != Phase::Up {
            return;
        }
        let mut cursors = Vec::new();
        while cursors.len() < CURSORS
            && let Some(slot) = self.unreported.pop()
        {
            let session = &mut self.sessions[slot];
            if session.inbox.tracked && session.handled > session.reported {
                session.reported = session.handled;
                cursors.push((session.id.clone(), session.handled));
            }
        }
        if !cursors.is_empty() {
            encode_frame(Kind::Delivered, 0, &Delivered { cursors }, &mut self.out);
            self.link.said(now);
        }
    }

    /// What the device must know after a restart. `closed`: nothing more happens in this run; only then, and only
    /// with every number settled, may the next run go on with this epoch.
    pub(crate) fn snapshot(&self, closed: bool) -> Remembered {
        let sessions = self
            .sessions
            .iter()
            .map(|session| {
                let cursor = session.handled.max(session.remembered.unwrap_or(0));
                let listed = session.listed.map(|last| last.max(session.inbox.head));
                let last_client_seq = session.outbox.last_number();
                let memory = SessionMemory { cursor, last_client_seq, listed };
                (session.id.clone(), memory)
            })
            .collect();
        Remembered {
            cluster: self.cluster,
            epoch: self.epoch,
            nonce: self.nonce,
            clean: closed && self.flights == 0 && self.epoch != 0,
            mark: self.sync.mark.as_ref().to_vec(),
            sessions,
            // Those who verify know them.
            proofs: BTreeMap::new(),
        }
    }

    /// Takes what an earlier run left.
    pub(crate) fn remember(&mut self, remembered: &Remembered) {
        self.cluster = remembered.cluster;
        // Who begins elsewhere than where it was must be told of every session.
        let goes_on = self.settings.start == StartAt::Resume;
        if goes_on {
            self.sync.mark = Blob(remembered.mark.clone().into());
        }
        for (id, memory) in &remembered.sessions {
            let slot = self.sessions.slot(id);
            let session = &mut self.sessions[slot];
            session.remembered = Some(memory.cursor);
            session.handled = memory.cursor;
            session.listed = memory.listed.filter(|_| goes_on);
            if remembered.clean {
                session.outbox.raise(memory.last_client_seq);
            }
        }
    }
}
