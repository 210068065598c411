//! The business's side: changes for named users, each under a key that the backend chooses; and the audit of them. For a
//! client that connects as a service.
//!
//! Who keeps the key with the order, the signup, the ticket it belongs to may ask again whenever it does not know what
//! became of a request, also from another process: the first answer comes again. Several requests under way at once are
//! carried out in any order; await one to have it before the next.

use std::sync::atomic::Ordering;

use rookery_wire::admin::{Admin, AdminOutcome, AdminReply, Audit, AuditPage, UserSessionLine};
use rookery_wire::own::{DevicePage, ListDevices, ListRelations, RelationFilter, RelationPage};
use rookery_wire::{AdminAction, DeviceId, RequestKey, SessionId, UserId};

use crate::client::{Client, mismatch};
use crate::command::{Answer, Question};
use crate::error::ClientError;
use crate::outgoing::MAX_USERS;

impl Client {
    /// One change, in the name of a user or as the system, carried out once for its key.
    ///
    /// # Errors
    /// As [`Client::send`]; `FORBIDDEN` for who is no service, `KEY_REUSED`, `KEYS_FULL` and `USER_EXISTS` among the
    /// refusals. A refusal by the session or user is the answer to every repeat; after a deadline the outcome is unknown,
    /// and the same key tells.
    pub async fn admin(
        &self,
        key: RequestKey,
        on_behalf_of: Option<UserId>,
        action: AdminAction,
    ) -> Result<AdminReply, ClientError> {
        match &action {
            AdminAction::Send { content, .. } | AdminAction::Edit { content, .. } => {
                let limit = self.content_limit();
                if limit > 0 && content.len() > limit {
                    return Err(ClientError::TooLarge { size: content.len(), limit });
                }
            }
            AdminAction::CreateGroup { users, .. }
            | AdminAction::AddMembers { users, .. }
            | AdminAction::RemoveMembers { users, .. }
                if users.len() > MAX_USERS =>
            {
                return Err(ClientError::Invalid(format!("one request names at most {MAX_USERS} users")));
            }
            _ => {}
        }
        match self.ask(Question::Admin(Admin { key, on_behalf_of, action })).await? {
            Answer::Admin(reply) => Ok(*reply),
            other => Err(mismatch(&other)),
        }
    }

    /// A user's sessions by name, after `after`, at most `limit` (1–1,000); and whether there are more.
    ///
    /// # Errors
    /// As [`Client::members`]; `FORBIDDEN` for who is no service.
    pub async fn sessions_of(
        &self,
        user: UserId,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<(Vec<UserSessionLine>, bool), ClientError> {
        let key = RequestKey::new("sessions").map_err(|fault| ClientError::Invalid(fault.to_string()))?;
        let reply = self.admin(key, Some(user), AdminAction::Sessions { after, limit }).await?;
        match reply.outcome {
            AdminOutcome::Sessions { sessions, more } => Ok((sessions, more)),
            other => Err(ClientError::Protocol(format!("sessions were asked for, and there is {other:?}"))),
        }
    }

    /// A user's relations, as [`Client::relations`] gives one's own.
    ///
    /// # Errors
    /// As [`Client::sessions_of`].
    pub async fn relations_of(
        &self,
        user: UserId,
        which: RelationFilter,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<RelationPage, ClientError> {
        let list = ListRelations { on_behalf_of: Some(user), which, after, limit };
        match self.ask(Question::Relations(list)).await? {
            Answer::Relations(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// A user's devices, as [`Client::devices`] gives one's own.
    ///
    /// # Errors
    /// As [`Client::sessions_of`].
    pub async fn devices_of(
        &self,
        user: UserId,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<DevicePage, ClientError> {
        let list = ListDevices { on_behalf_of: Some(user), after, limit };
        match self.ask(Question::Devices(list)).await? {
            Answer::Devices(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// Lines of the audit after a number, at most `limit` (1–1,000).
    ///
    /// # Errors
    /// As [`Client::sessions_of`].
    pub async fn audit(&self, after: u64, limit: u32) -> Result<AuditPage, ClientError> {
        match self.ask(Question::Audit(Audit { after, limit })).await? {
            Answer::Audit(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    fn content_limit(&self) -> usize {
        self.shared.content_limit.load(Ordering::Relaxed) as usize
    }
}
