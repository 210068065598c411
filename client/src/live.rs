//! People as they are now: who has read what, who writes, who is there.

use bytes::Bytes;
use rookery_wire::live::{
    Ephemeral, Passing, PresencePage, ReceiptPage, Receipts, SessionPresence, Watch, WatchMode, WatchSession,
    Which,
};
use rookery_wire::{Blob, SessionId, UserId};

use crate::client::{Client, mismatch};
use crate::command::{Answer, Question};
use crate::error::ClientError;

impl Client {
    /// Who has read a message, or who has not: by name, at most `limit` (1–1,000). `after` is `next` of the page before;
    /// a page may be short, even empty, and have a next one.
    ///
    /// # Errors
    /// As [`Client::members`]; `NO_SUCH_MESSAGE` among the refusals.
    pub async fn receipts(
        &self,
        session: &SessionId,
        seq: u64,
        which: Which,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<ReceiptPage, ClientError> {
        let ask = Receipts { session: session.clone(), seq, which, after, limit };
        match self.ask(Question::Receipts(ask)).await? {
            Answer::Receipts(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// Says something to the members who are online now. It is kept nowhere, and is never sent twice.
    ///
    /// # Errors
    /// What a message would be refused for, and `TOO_FAST`; [`ClientError::Closed`] when the connection was lost before
    /// the answer came.
    pub async fn ephemeral(
        &self,
        session: &SessionId,
        content_type: &str,
        content: Bytes,
    ) -> Result<(), ClientError> {
        let content_type = Blob::from(content_type);
        self.pass(session, Passing::Content { content_type, content: Blob(content) }).await
    }

    /// Says that the user is writing, or has stopped. Say it again every few seconds while it is so.
    ///
    /// # Errors
    /// As [`Client::ephemeral`].
    pub async fn typing(&self, session: &SessionId, on: bool) -> Result<(), ClientError> {
        self.pass(session, Passing::Typing { on }).await
    }

    async fn pass(&self, session: &SessionId, body: Passing) -> Result<(), ClientError> {
        let ephemeral = Ephemeral { session: session.clone(), on_behalf_of: None, body };
        match self.ask(Question::Ephemeral(ephemeral)).await? {
            Answer::Done => Ok(()),
            other => Err(mismatch(&other)),
        }
    }

    /// Watches users, these and no others, these too, or these no longer: [`crate::Event::Presence`] tells when they come
    /// and go, also over later connections. The answer says how those are now that may be watched. Whatever it is refused with,
    /// those who were watched before are.
    ///
    /// # Errors
    /// As [`Client::members`]; `TOO_MANY` and `WATCH_TOO_LARGE` among the refusals.
    pub async fn watch(&self, mode: WatchMode, users: &[UserId]) -> Result<PresencePage, ClientError> {
        match self.ask(Question::Watch(Watch { mode, users: users.to_vec() })).await? {
            Answer::Presence(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// Watches who of a group is online, or no longer: [`crate::Event::SessionPresence`] tells who comes and goes, also over
    /// later connections. The answer says who is there now.
    ///
    /// # Errors
    /// As [`Client::members`]; `TOO_MANY_GROUPS_WATCHED` among the refusals.
    pub async fn watch_session(&self, session: &SessionId, on: bool) -> Result<SessionPresence, ClientError> {
        let watch = WatchSession { session: session.clone(), on };
        match self.ask(Question::WatchSession(watch)).await? {
            Answer::SessionPresence(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }
}
