//! Who is there in a session: the users of the devices that are attached to it here.
//!
//! Somebody is there while a device of its is attached as a member's, so nothing is looked up to know it: whoever comes, goes,
//! joins or leaves is attached or detached by that very thing. Sessions that somebody looks at are noted, and of these alone it
//! is remembered that something has changed.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use rookery_wire::{SessionId, UserId};

use super::Topic;

/// Those who are there in a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Company {
    /// Some of them by name.
    pub named: BTreeSet<UserId>,
    /// How many there are, these included.
    pub total: usize,
}

impl Company {
    /// Names of `there`, at most `most`: those of `before` first, as far as they are there still, so that nobody who stays loses
    /// its place to one who comes; then the others by name.
    pub fn of(there: &BTreeSet<&UserId>, before: &BTreeSet<UserId>, most: usize) -> Self {
        let stay = before.iter().filter(|user| there.contains(user));
        let mut named: BTreeSet<UserId> = stay.take(most).cloned().collect();
        for user in there {
            if named.len() >= most {
                break;
            }
            if !named.contains(*user) {
                named.insert((*user).clone());
            }
        }
        Self { named, total: there.len() }
    }
}

/// Which sessions are looked at, and which of them have changed.
#[derive(Default)]
pub(super) struct Looks {
    sessions: RwLock<HashSet<SessionId>>,
    /// How many these are: mostly none.
    count: AtomicUsize,
    stirred: Mutex<HashSet<SessionId>>,
}

impl Looks {
    pub(super) fn set(&self, session: &SessionId, on: bool) {
        let mut sessions = self.sessions.write();
        match on {
            true => drop(sessions.insert(session.clone())),
            false => drop(sessions.remove(session)),
        }
        self.count.store(sessions.len(), Ordering::Release);
        drop(sessions);
        if !on {
            self.stirred.lock().remove(session);
        }
    }

    /// Somebody has come to this topic or gone from it: said when that is done, or under the topic's lock.
    pub(super) fn stir(&self, topic: &Topic) {
        let Topic::Session(session) = topic else { return };
        if self.count.load(Ordering::Acquire) > 0 && self.sessions.read().contains(session) {
            self.stirred.lock().insert(session.clone());
        }
    }

    pub(super) fn take(&self) -> HashSet<SessionId> {
        std::mem::take(&mut *self.stirred.lock())
    }
}
