//! What a user's list keeps of the sessions that its user is in no more.
//!
//! A removal keeps its version, so that an older intent which arrives late does not bring the user back (R12), and so that a
//! device which comes back is told what was left. But others can add and remove a user for ever. So of these lines the list
//! keeps those that changed last, as many as the command says that brings one more (`limits.left_per_user`), and of the ones
//! before them a single number: the *floor*, the log index at which the last of those it dropped had changed.
//!
//! - A device whose mark is older than the floor may have missed some: it is told everything.
//! - An intent about a session of which the list knows nothing may be older than a removal that was dropped. While there is a
//!   floor it is not taken as it is; the answer is the index that the list reflects. Whoever carries it asks the session, through
//!   its log, whether it is an intent still, and brings it again with that index. It is taken if the floor has not passed it:
//!   what was decided after the session had been asked came to the list after that index, so its line, had it come already,
//!   would not be dropped. Removals need the same care: the line of one that is late would say a version that is too small.
//!
//! Lines of direct sessions with somebody to whom the user stands in some relation stay: an unblock is carried only to a
//! session that the list knows. There are no more of them than relations.

use std::collections::BTreeSet;

use bincode::{Decode, Encode};
use rookery_wire::SessionId;

use super::command::Link;
use super::user::User;

/// What a user's list goes by when an intent arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Listing {
    /// Sessions it may hold, by the configuration of the node that carries the intent (G8).
    pub most: u32,
    /// Sessions that its user is in no more and that it remembers, by the same.
    pub kept: u32,
    /// By the same: it takes sessions only if it is that of a user (`limits.users`, [`super::naming`]).
    pub users_only: bool,
    /// The intent was one still when its session was asked later than the list reflected the log up to here
    /// ([`super::Answer::Unsure`]); 0 if nobody has asked.
    pub sure: u64,
}

/// Lines of sessions that the user is in no more.
#[derive(Debug, Default)]
pub(super) struct LeftLines {
    /// By the log index at which they changed.
    lines: BTreeSet<(u64, SessionId)>,
    /// Log index at which the last one changed of those that were dropped; 0 if none was.
    pub(super) floor: u64,
}

impl LeftLines {
    /// From rows.
    pub(super) fn loaded(lines: impl Iterator<Item = (u64, SessionId)>, floor: u64) -> Self {
        Self { lines: lines.collect(), floor }
    }

    /// Those that changed after `index`, in the order in which they did.
    pub(super) fn since(&self, index: u64) -> impl Iterator<Item = &SessionId> {
        // Names come behind indices.
        self.lines.iter().rev().take_while(move |(changed, _)| *changed > index).map(|(_, session)| session)
    }
}

impl User {
    /// Whether an intent may be older than what the list has forgotten of its session.
    pub(super) fn may_be_late(&self, link: &Link, list: &Listing) -> bool {
        !self.links.contains_key(&link.session) && list.sure < self.left.floor
    }

    /// The line of a session is about to change, or has: it stands among the left ones if its user is in it no more.
    pub(super) fn file_line(&mut self, session: &SessionId, stands: bool) {
        let Some(link) = self.links.get(session).filter(|link| !link.member) else { return };
        let place = (link.changed, session.clone());
        if stands {
            self.left.lines.insert(place);
        } else {
            self.left.lines.remove(&place);
        }
    }

    /// Drops the lines that changed longest ago, but for so many.
    pub(super) fn forget_left(&mut self, kept: u32) {
        while self.left.lines.len() > kept as usize {
            let Some(oldest) = self.left.lines.iter().find(|(_, session)| self.may_forget(session)) else {
                return;
            };
            let (changed, session) = oldest.clone();
            self.left.lines.remove(&(changed, session.clone()));
            self.left.floor = self.left.floor.max(changed);
            self.links.remove(&session);
            self.dirty.links.insert(session);
        }
    }

    fn may_forget(&self, session: &SessionId) -> bool {
        session.peer_of(&self.id).is_none_or(|other| !self.relations.contains_key(other))
    }
}
