//! What a device that comes back has missed: at which log index each session, and each line of a user's list, last
//! changed (R15).
//!
//! These indices are part of the state and of its rows: the same on all replicas, after a replay and after a snapshot. They
//! go by what a line of SYNC says, and by no more: a block that is carried to a session, or the try of a barred user, is a
//! command like any other, and must not be seen from a list in which nothing has moved. What a device does to its own
//! numbers and delivered cursors it knows without being told, so that is no change either.
//!
//! Links of sessions that were left stay, but for the oldest ones ([`super::left`]): whoever asks what was left since some index
//! is told all of it, or that this cannot be told.

use rookery_wire::{DeviceId, SessionId};

use super::session::Session;
use super::user::User;

/// What of a session shows in a line of somebody's list, or moves with what does. Contents have a part in it by the last
/// seq, whatever they are, and by the revision, which is the log index of the last one that was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face {
    last_seq: u64,
    first_seq: u64,
    present: u32,
    version: u64,
    revision: u64,
}

impl Session {
    /// What of it shows in lists.
    pub fn face(&self) -> Face {
        Face {
            last_seq: self.last_seq,
            first_seq: self.first_seq,
            present: self.present,
            version: self.version,
            revision: self.rewrites.revision(),
        }
    }

    /// The command at this log index was applied, before which it looked so.
    pub fn applied_at(&mut self, index: u64, before: Face) {
        if self.face() != before {
            self.changed = self.changed.max(index);
        }
    }

    /// Log index of the last command that changed what shows in lists.
    pub fn changed(&self) -> u64 {
        self.changed
    }
}

impl User {
    /// The command at this log index is applied next.
    pub fn applies(&mut self, index: u64) {
        self.applying = index;
    }

    /// Log index at which this device came to be one of the user's; 0 if it is none.
    pub fn device_began(&self, device: &DeviceId) -> u64 {
        self.devices.get(device).map_or(0, |device| device.began)
    }

    /// Sessions that the user is in no more, and whose line changed after `index`: at most `most` of them, and whether these
    /// are all.
    pub fn left_since(&self, index: u64, most: usize) -> (Vec<SessionId>, bool) {
        let mut left: Vec<SessionId> = self.left.since(index).take(most + 1).cloned().collect();
        let all = left.len() <= most && self.left.floor <= index;
        left.truncate(most);
        (left, all)
    }

    /// What the user has set of a session has changed.
    pub(super) fn line_changed(&mut self, session: &SessionId) {
        self.file_line(session, false);
        if let Some(link) = self.links.get_mut(session) {
            link.changed = self.applying;
            self.dirty.links.insert(session.clone());
        }
        self.file_line(session, true);
    }
}
