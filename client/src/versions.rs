//! What messages said before they were edited, and whether that is kept.

use rookery_wire::reply::Ack;
use rookery_wire::versions::{ListVersions, VersionsPage};
use rookery_wire::{GroupAction, SessionId};

use crate::client::{Client, mismatch};
use crate::command::{Answer, Question};
use crate::error::ClientError;

impl Client {
    /// The versions of a message as far as they are kept, the present one first; those below the number `before`, 0 for all
    /// of them, at most `limit` (1–101) and as many as fit a frame.
    ///
    /// # Errors
    /// As [`Client::members`]; `NO_SUCH_MESSAGE` and `RECALLED` among the refusals.
    pub async fn versions(
        &self,
        session: &SessionId,
        seq: u64,
        before: u64,
        limit: u32,
    ) -> Result<VersionsPage, ClientError> {
        let list = ListVersions { session: session.clone(), seq, before, limit };
        match self.ask(Question::Versions(list)).await? {
            Answer::Versions(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// Whether what an edit takes the place of is kept in a session now.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub async fn keeps_versions(&self, session: &SessionId) -> Result<bool, ClientError> {
        Ok(self.versions(session, 0, 0, 1).await?.kept)
    }

    /// Sets whether what an edit takes the place of is kept in a group; in a direct session this is the word of its user, and
    /// both must agree. Turned off, what was kept goes.
    ///
    /// # Errors
    /// As [`Client::set_profile`].
    pub async fn keep_versions(&self, session: &SessionId, on: bool) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::KeepVersions { on }).await
    }
}
