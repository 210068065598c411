//! The management of groups: profile, roles, who may do what, mutes, the end. Each change is a numbered request like a
//! send, stored once and seen by every member as a record of kind GROUP_CHANGED.

use rookery_wire::group::{Group, GroupInfo, ListRoles, MAX_ATTRIBUTE, MAX_AVATAR, MAX_GROUP_NAME, RolePage};
use rookery_wire::reply::Ack;
use rookery_wire::{AttributeKey, Blob, GroupAction, MemberRole, Policy, Retention, SessionId, UserId};

use crate::client::{Client, mismatch};
use crate::command::{Answer, Op, Question};
use crate::error::ClientError;

impl Client {
    /// Sets a group's name for people (at most 256 bytes) and its avatar (at most 2,048); what is none stays as it is,
    /// what is empty is taken away.
    ///
    /// # Errors
    /// As [`Client::send`]; `NOT_ALLOWED` among the refusals.
    pub async fn set_profile(
        &self,
        session: &SessionId,
        name: Option<Blob>,
        avatar: Option<Blob>,
    ) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::SetProfile { name, avatar }).await
    }

    /// Sets an attribute of a group (at most 1,024 bytes), or takes it away.
    ///
    /// # Errors
    /// As [`Client::set_profile`]; `ATTRIBUTES_FULL` among the refusals.
    pub async fn set_attribute(
        &self,
        session: &SessionId,
        key: AttributeKey,
        value: Option<Blob>,
    ) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::SetAttribute { key, value }).await
    }

    /// Makes a member an admin, or a plain member again.
    ///
    /// # Errors
    /// As [`Client::set_profile`]; `NOT_MEMBER` if the user is none.
    pub async fn set_role(
        &self,
        session: &SessionId,
        user: UserId,
        role: MemberRole,
    ) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::SetRole { user, role }).await
    }

    /// Gives the group to another member; the owner stays as an admin.
    ///
    /// # Errors
    /// As [`Client::set_role`].
    pub async fn hand_over(&self, session: &SessionId, user: UserId) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::HandOver { user }).await
    }

    /// Sets who may do what.
    ///
    /// # Errors
    /// As [`Client::set_profile`].
    pub async fn set_policy(&self, session: &SessionId, policy: Policy) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::SetPolicy(policy)).await
    }

    /// Mutes a member until a time, in unix milliseconds; 0 lets it write again.
    ///
    /// # Errors
    /// As [`Client::set_role`].
    pub async fn mute(&self, session: &SessionId, user: UserId, until_ms: u64) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::Mute { user, until_ms }).await
    }

    /// Mutes everybody but admins and the owner, or takes that back.
    ///
    /// # Errors
    /// As [`Client::set_profile`].
    pub async fn mute_all(&self, session: &SessionId, on: bool) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::MuteAll { on }).await
    }

    /// Sets how long a group keeps its messages; without any bound the cluster's default holds again. In a direct session
    /// this is what its user wishes: the strictest of both users' wishes and the default holds.
    ///
    /// # Errors
    /// As [`Client::set_profile`].
    pub async fn set_retention(&self, session: &SessionId, retention: Retention) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::SetRetention(retention)).await
    }

    /// Ends a group for ever: everybody leaves it, and nothing is accepted any more.
    ///
    /// # Errors
    /// As [`Client::set_profile`].
    pub async fn dissolve(&self, session: &SessionId) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::Dissolve).await
    }

    /// One change to a group.
    ///
    /// # Errors
    /// As [`Client::send`]; [`ClientError::Invalid`] for what is too large or no group.
    pub async fn manage(&self, session: &SessionId, action: GroupAction) -> Result<Ack, ClientError> {
        let of_any = matches!(action, GroupAction::SetRetention(_) | GroupAction::KeepVersions { .. });
        if !matches!(session, SessionId::Group(_)) && !of_any {
            return Err(ClientError::Invalid(format!("{session} is no group")));
        }
        match &action {
            GroupAction::SetProfile { name, avatar } => {
                fits("a group's name", name.as_ref(), MAX_GROUP_NAME)?;
                fits("an avatar", avatar.as_ref(), MAX_AVATAR)?;
            }
            GroupAction::SetAttribute { value, .. } => fits("an attribute", value.as_ref(), MAX_ATTRIBUTE)?,
            _ => {}
        }
        self.numbered(session, Op::Manage(action)).await?.await
    }

    /// How a group is set; of a direct session, how long it is kept.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub async fn group_info(&self, session: &SessionId) -> Result<Group, ClientError> {
        match self.ask(Question::Group(GroupInfo { session: session.clone() })).await? {
            Answer::Group(group) => Ok(*group),
            other => Err(mismatch(&other)),
        }
    }

    /// The owner, the admins and the muted members of a group, by name, after `after`, at most `limit` (1–1,000).
    ///
    /// # Errors
    /// As [`Client::members`].
    pub async fn roles(
        &self,
        session: &SessionId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<RolePage, ClientError> {
        match self.ask(Question::Roles(ListRoles { session: session.clone(), after, limit })).await? {
            Answer::Roles(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }
}

pub(crate) fn fits(what: &str, blob: Option<&Blob>, most: usize) -> Result<(), ClientError> {
    match blob {
        Some(blob) if blob.len() > most => {
            Err(ClientError::Invalid(format!("{what} has at most {most} bytes")))
        }
        _ => Ok(()),
    }
}
