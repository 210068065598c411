//! What a device takes back or changes: messages of its user, and now and then those of others, which only the owner of
//! a group may recall.

use std::collections::{BTreeMap, VecDeque};

use rand::Rng;
use rand::seq::IteratorRandom;
use rookery_wire::request::{Edit, Recall};
use rookery_wire::{Blob, Kind};

use super::{Connection, Device, Why};
use crate::check::history::{Act, Fresh, SessionIx};
use crate::check::print::content_hash;

/// Messages of a session that a device may want to change: the newest it knows of.
const RECENT: usize = 12;
/// How often, of a hundred, it is one of the user's own.
const OWN: u32 = 85;
/// The media type of everything that is sent.
pub(super) const TEXT: &str = "text/plain";

/// Messages that may be changed, and those that were taken back a moment ago.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Seq, and whether the user has sent it.
    messages: BTreeMap<SessionIx, VecDeque<(u64, bool)>>,
    /// Recalls that were acknowledged, to be looked at.
    recalled: Vec<(SessionIx, u64)>,
}

impl Recent {
    /// There is one more.
    pub(super) fn know(&mut self, session: SessionIx, seq: u64, own: bool) {
        let messages = self.messages.entry(session).or_default();
        messages.push_back((seq, own));
        if messages.len() > RECENT {
            messages.pop_front();
        }
    }

    /// A recall was acknowledged.
    pub(super) fn recalled(&mut self, session: SessionIx, seq: u64) {
        self.recalled.push((session, seq));
    }
}

impl Device {
    /// Recalls or edits one of the newest messages. Two devices of a user may well choose the same.
    pub(super) fn rewrite_something(&mut self) {
        let mine = self.random.random_range(0..100) < OWN;
        let joined = &self.joined;
        let here = self.recent.messages.iter().filter(|(session, _)| joined.contains(session));
        let those = here.flat_map(|(session, messages)| messages.iter().map(|message| (*session, *message)));
        let chosen = those.filter(|(_, (_, own))| *own == mine).choose(&mut self.random);
        let Some((session, (seq, _))) = chosen else { return };
        let Some(client_seq) = self.lanes.entry(session).or_default().next() else { return };
        let Some(name) = self.stage.cast.session(session).cloned() else { return };
        if self.random.random_bool(0.5) {
            let body = Recall { session: name, client_seq, on_behalf_of: None, seq };
            self.enqueue(session, Act::Recall(seq), Kind::Recall, rookery_wire::encode(&body), 0);
            return;
        }
        let content = self.content(session, client_seq).freeze();
        let hash = content_hash(TEXT.as_bytes(), &content, &[]);
        let body = Edit {
            session: name,
            client_seq,
            on_behalf_of: None,
            seq,
            content_type: Blob::from(TEXT),
            content: Blob(content),
            extensions: Vec::new(),
        };
        self.enqueue(session, Act::Edit(seq), Kind::Edit, rookery_wire::encode(&body), hash);
    }

    /// Pulls what was just taken back, as anybody might who asks now.
    pub(super) fn look_at_recalled(&mut self, connection: &mut Connection) {
        for (session, seq) in std::mem::take(&mut self.recent.recalled) {
            if self.joined.contains(&session) {
                let max = self.random.random_range(1..8);
                self.pull(connection, session, seq, false, max, Fresh::Linear, Why::Look);
            }
        }
    }
}
