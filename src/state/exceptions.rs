//! How one user has set one session, and what it does not want to see of it: cleared up to a seq, ranges deleted.
//!
//! Counts come from the session and are stored with the seqs they belong to (R15), so unread is computed without asking
//! for records: what is deleted of a range above a count is a subtraction.

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::codec::{Blob, Source};
use rookery_wire::frame::frame_bytes;
use rookery_wire::own::{SessionSettings, Settings};
use rookery_wire::{Kind, SessionId, SessionSetting};

use super::manage::own;
use super::user::User;

/// A range of messages that a user has deleted for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Deleted {
    /// First.
    pub from_seq: u64,
    /// Last.
    pub to_seq: u64,
    /// The session's running count before the first.
    pub before: u64,
    /// The running count at the last.
    pub count: u64,
}

/// What a user has set of a session beyond its cursors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Extras {
    /// Pinned, greater ones first.
    pub pinned: Option<u64>,
    /// No notifications before this time.
    pub muted_until_ms: u64,
    /// Hidden while the session's count is at most this.
    pub hidden_count: Option<u64>,
    /// Shown as unread.
    pub marked_unread: bool,
    /// Since this time, unix milliseconds: only what is read later ends it. 0 while it is not.
    pub marked_ms: u64,
    /// Written and not sent.
    pub draft: Blob,
    /// Cleared up to and including this seq …
    pub cleared_seq: u64,
    /// … where the running count is this.
    pub cleared_count: u64,
    /// Deleted ranges above it, ascending, apart from each other.
    pub deleted: Vec<Deleted>,
}

impl Extras {
    /// Changes a setting at this time; says whether that changed anything.
    pub fn set(&mut self, setting: &SessionSetting, time_ms: u64) -> bool {
        let before = self.clone();
        match setting {
            SessionSetting::Pin(order) => self.pinned = *order,
            SessionSetting::Mute(until_ms) => self.muted_until_ms = *until_ms,
            SessionSetting::Hide(count) => self.hidden_count = *count,
            SessionSetting::MarkUnread(true) if self.marked_unread => {}
            SessionSetting::MarkUnread(true) => (self.marked_unread, self.marked_ms) = (true, time_ms),
            SessionSetting::MarkUnread(false) => self.end_mark(),
            SessionSetting::Draft(text) => self.draft = own(text),
        }
        *self != before
    }

    /// Not shown as unread any more on that account.
    pub(super) fn end_mark(&mut self) {
        (self.marked_unread, self.marked_ms) = (false, 0);
    }

    /// Clears up to a seq. It never goes back.
    pub fn clear(&mut self, seq: u64, count: u64) -> bool {
        if seq <= self.cleared_seq {
            return false;
        }
        (self.cleared_seq, self.cleared_count) = (seq, count);
        self.deleted.retain(|range| range.to_seq > seq);
        for range in &mut self.deleted {
            if range.from_seq <= seq {
                (range.from_seq, range.before) = (seq + 1, count);
            }
        }
        true
    }

    /// Deletes a range, joined with those that touch it.
    pub fn delete(&mut self, mut range: Deleted) -> bool {
        if range.from_seq <= self.cleared_seq {
            (range.from_seq, range.before) = (self.cleared_seq + 1, self.cleared_count);
        }
        if range.from_seq > range.to_seq {
            return false;
        }
        let within = |known: &Deleted| known.from_seq <= range.from_seq && range.to_seq <= known.to_seq;
        if self.deleted.iter().any(within) {
            return false;
        }
        self.deleted.retain(|known| {
            let apart = known.to_seq + 1 < range.from_seq || range.to_seq + 1 < known.from_seq;
            if !apart {
                if known.from_seq < range.from_seq {
                    (range.from_seq, range.before) = (known.from_seq, known.before);
                }
                if known.to_seq > range.to_seq {
                    (range.to_seq, range.count) = (known.to_seq, known.count);
                }
            }
            apart
        });
        let place = self.deleted.partition_point(|known| known.from_seq < range.from_seq);
        self.deleted.insert(place, range);
        true
    }

    /// Counts of deleted ranges that reach above `seen`: the count before each, and at its end.
    pub fn deleted_after(&self, seen: u64) -> Vec<(u64, u64)> {
        let above = self.deleted.iter().filter(|range| range.count > seen && range.count > range.before);
        above.map(|range| (range.before.max(seen), range.count)).collect()
    }

    /// As clients are told.
    pub fn settings(&self) -> Settings {
        Settings {
            pinned: self.pinned,
            muted_until_ms: self.muted_until_ms,
            hidden_count: self.hidden_count,
            marked_unread: self.marked_unread,
            draft: self.draft.clone(),
            cleared_seq: self.cleared_seq,
            deleted: self.deleted.iter().map(|range| (range.from_seq, range.to_seq)).collect(),
        }
    }

    /// The push that tells the user's devices.
    pub fn frame(&self, session: &SessionId) -> Bytes {
        let body = SessionSettings { session: session.clone(), settings: self.settings() };
        frame_bytes(Kind::SessionSettings, 0, &body)
    }
}

impl User {
    /// How the user has set a session; none if it has set nothing.
    pub fn extras(&self, session: &SessionId) -> Option<&Extras> {
        self.extras.get(session)
    }

    pub(super) fn store_extras(&mut self, session: &SessionId, extras: Extras) {
        if extras == Extras::default() {
            self.extras.remove(session);
        } else {
            self.extras.insert(session.clone(), extras);
        }
        self.dirty.extras.insert(session.clone());
        self.line_changed(session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The READ of a phone goes out over a node that is cut off, and again over another; the first is carried out last.
    #[test]
    fn a_read_that_comes_late_ends_no_mark_that_was_set_after_it() {
        use super::super::command::{Link, ReadTo};
        use super::super::own_tests::{act, pair, person};
        use super::super::tests::{Disk, actor, at, user};
        let (mut ann, session) = (person("ann"), pair("ann", "bob"));
        ann.link(&Link { session: session.clone(), version: 1, member: true, joined_seq: 1, from: None }, 9);
        let to = ReadTo { session: session.clone(), seq: 5, count: 5, burns: false };
        let is_marked = |ann: &User| ann.extras(&session).is_some_and(|extras| extras.marked_unread);
        ann.read_when(&at(2), &to, at(1).time_ms);
        let setting = SessionSetting::MarkUnread(true);
        let mark = rookery_wire::UserAction::SetSession { session: session.clone(), setting };
        ann.act(&at(4), &actor("ann"), &act(1, mark));
        let late = ann.read_when(&at(5), &to, at(1).time_ms);
        assert!(is_marked(&ann) && late.user_frames.is_empty(), "{late:?}");
        let mut disk = Disk::default();
        ann.reflect(5);
        disk.write(ann.collect());
        let mut ann = User::load(&disk, &user("ann")).expect("rows");
        ann.read_when(&at(6), &to, at(3).time_ms);
        assert!(is_marked(&ann));
        let read = ann.read_when(&at(7), &to, at(4).time_ms);
        assert_eq!((is_marked(&ann), read.user_frames.len()), (false, 1), "it was read after that");
        assert!(ann.extras(&session).is_none());
    }

    /// A session in which every second message counts.
    fn range(from_seq: u64, to_seq: u64) -> Deleted {
        Deleted { from_seq, to_seq, before: (from_seq - 1) / 2, count: to_seq / 2 }
    }

    #[test]
    fn ranges_join_and_are_counted_once() {
        let mut extras = Extras::default();
        assert!(extras.delete(range(10, 20)) && extras.delete(range(30, 40)));
        assert!(!extras.delete(range(12, 20)), "gone already");
        assert!(extras.delete(range(21, 24)), "next to each other");
        assert_eq!(extras.deleted, vec![range(10, 24), range(30, 40)]);
        assert!(extras.delete(range(24, 30)));
        assert_eq!(extras.deleted, vec![range(10, 40)]);
        assert_eq!(extras.deleted_after(0), vec![(4, 20)]);
        assert_eq!(extras.deleted_after(10), vec![(10, 20)]);
        assert_eq!(extras.deleted_after(20), vec![]);
    }

    #[test]
    fn clearing_swallows_ranges_and_never_goes_back() {
        let mut extras = Extras::default();
        extras.delete(range(10, 20));
        extras.delete(range(30, 40));
        assert!(extras.clear(34, 17) && !extras.clear(12, 6));
        assert_eq!(extras.deleted, vec![range(35, 40)]);
        assert!(!extras.delete(range(1, 34)), "cleared already");
        assert!(extras.delete(range(20, 41)));
        assert_eq!(extras.deleted, vec![range(35, 41)]);
    }
}
