//! The session list since a mark, for an application that keeps the list itself.

use rookery_wire::own::Badge;
use rookery_wire::reply::Summary;
use rookery_wire::request::Sync;
use rookery_wire::{Blob, ErrorCode, SessionId};

use crate::client::{Client, SYNC_PAGE, mismatch};
use crate::command::{Answer, Question};
use crate::error::ClientError;
use crate::memory::{from_hex, to_hex};

/// How often a list is begun anew whose pages another reading over the connection has taken away.
const READINGS: u32 = 5;

/// Where a device's copy of the session list stands: the `mark` of a SYNC, opaque. As text it is hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark(Blob);

impl Mark {
    /// Whether it is none: everything has changed since.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&to_hex(self.0.as_ref()))
    }
}

impl std::str::FromStr for Mark {
    type Err = ClientError;

    /// # Errors
    /// [`ClientError::Invalid`] for what is not hexadecimal. Whether it is a mark the cluster says.
    fn from_str(text: &str) -> Result<Self, ClientError> {
        let invalid = || ClientError::Invalid("a mark is hexadecimal, as it was printed".to_owned());
        from_hex(text).map(|bytes| Self(Blob(bytes.into()))).ok_or_else(invalid)
    }
}

/// The answer to [`Client::sync_since`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncChanges {
    /// Sessions that changed, newest activity first; all of them if `full`.
    pub sessions: Vec<Summary>,
    /// Sessions that the user has left; empty if `full`.
    pub left: Vec<SessionId>,
    /// Sessions that could not be asked in time, and why. The mark does not stand for them.
    pub unresolved: Vec<(SessionId, ErrorCode)>,
    /// `sessions` is the whole list, in the place of what was known.
    pub full: bool,
    /// Sessions the user is in, in all.
    pub total: u32,
    /// Unread messages of all sessions together, changed or not.
    pub badge: Badge,
    /// For the next time.
    pub mark: Mark,
}

/// A reading of the list that did not come to its end.
struct Cut {
    /// A page behind the first one was asked for.
    later: bool,
    fault: ClientError,
}

/// Whether another reading over the same connection, this client's own among them, has taken the place of this one.
fn is_replaced(fault: &ClientError) -> bool {
    fault.code() == Some(ErrorCode::BadRequest)
}

impl Client {
    /// What has changed in the session list since `mark` was given, all pages; everything, and `full`, with an empty mark or
    /// one that is of no more use. What this device did itself without changing a session, DELIVERED and numbers that were
    /// refused, is no change.
    ///
    /// # Errors
    /// As [`Client::members`]; `BAD_REQUEST` for a mark of another cluster, user or device.
    pub async fn sync_since(&self, mark: &Mark) -> Result<SyncChanges, ClientError> {
        let mut readings = 1;
        loop {
            match self.read_since(mark).await {
                Err(Cut { later: true, fault }) if is_replaced(&fault) && readings < READINGS => {
                    readings += 1;
                }
                read => return read.map_err(|cut| cut.fault),
            }
        }
    }

    async fn read_since(&self, mark: &Mark) -> Result<SyncChanges, Cut> {
        let mut changes = SyncChanges { full: true, ..SyncChanges::default() };
        let (mut after, mut since) = (Blob::default(), mark.0.clone());
        loop {
            let later = !after.is_empty();
            let cut = |fault| Cut { later, fault };
            let sync = Sync { after, limit: SYNC_PAGE, since: std::mem::take(&mut since) };
            let page = match self.ask(Question::Sync(sync)).await.map_err(cut)? {
                Answer::Sync(page) => page,
                other => return Err(cut(mismatch(&other))),
            };
            changes.sessions.extend(page.sessions);
            changes.left.extend(page.left);
            changes.unresolved.extend(page.unresolved);
            (changes.full, changes.total) = (page.full, page.total);
            changes.badge = page.badge.unwrap_or(changes.badge);
            if page.next.is_empty() {
                changes.mark = Mark(page.mark);
                return Ok(changes);
            }
            after = page.next;
        }
    }
}
