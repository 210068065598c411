//! What is the user's own: settings of sessions, what it does not want to see, relations, devices. Each change is a
//! numbered request, carried out once; it is acknowledged when whoever it concerns has it. A service changes what is
//! another's with [`Client::admin`].

use rookery_wire::own::{
    DevicePage, ListDevices, ListRelations, MAX_DEVICE_NAME, MAX_REMARK, MAX_REQUEST_TEXT, RelationFilter,
};
use rookery_wire::own::{RelationPage, SelfAck};
use rookery_wire::{Blob, DeviceId, RelationState, SessionId, SessionSetting, UserAction, UserId};

use crate::client::{Client, mismatch};
use crate::command::{Answer, Question};
use crate::error::ClientError;

impl Client {
    /// One change to what is the user's own.
    ///
    /// # Errors
    /// As [`Client::send`]; [`ClientError::Invalid`] for what is too large.
    pub async fn manage_self(&self, action: UserAction) -> Result<SelfAck, ClientError> {
        match &action {
            UserAction::RequestFriend { text, .. } => fits("the text of a request", text, MAX_REQUEST_TEXT)?,
            UserAction::SetRemark { remark, .. } => fits("a remark", remark, MAX_REMARK)?,
            UserAction::NameDevice { name, .. } => fits("the name of a device", name, MAX_DEVICE_NAME)?,
            _ => {}
        }
        // Its number is the engine's to give.
        match self.ask(Question::Own(action)).await? {
            Answer::Own(ack) => Ok(ack),
            other => Err(mismatch(&other)),
        }
    }

    /// Sets something of a session for this user alone.
    ///
    /// # Errors
    /// As [`Client::manage_self`]; `NOT_MEMBER` if the session is not in the user's list.
    pub async fn set_session(
        &self,
        session: &SessionId,
        setting: SessionSetting,
    ) -> Result<SelfAck, ClientError> {
        self.manage_self(UserAction::SetSession { session: session.clone(), setting }).await
    }

    /// Reads everything in all sessions; says how many messages were unread.
    ///
    /// # Errors
    /// As [`Client::manage_self`].
    pub async fn read_all(&self) -> Result<u64, ClientError> {
        Ok(self.manage_self(UserAction::ReadAll).await?.value)
    }

    /// Clears a session for this user up to a seq.
    ///
    /// # Errors
    /// As [`Client::set_session`]; `BEYOND_END` among the refusals.
    pub async fn clear_session(&self, session: &SessionId, seq: u64) -> Result<SelfAck, ClientError> {
        self.manage_self(UserAction::ClearSession { session: session.clone(), seq }).await
    }

    /// Deletes messages for this user, both ends included.
    ///
    /// # Errors
    /// As [`Client::clear_session`]; `TOO_MANY_DELETIONS` among the refusals.
    pub async fn delete_messages(
        &self,
        session: &SessionId,
        from_seq: u64,
        to_seq: u64,
    ) -> Result<SelfAck, ClientError> {
        self.manage_self(UserAction::DeleteMessages { session: session.clone(), from_seq, to_seq }).await
    }

    /// Asks a user to be a friend; says how they stand then. Who has been asked itself accepts by this.
    ///
    /// # Errors
    /// As [`Client::manage_self`]; `RELATIONS_FULL` among the refusals.
    pub async fn request_friend(&self, user: UserId, text: &str) -> Result<RelationState, ClientError> {
        self.relate(UserAction::RequestFriend { user, text: Blob::from(text) }).await
    }

    /// Accepts a request; says how they stand then, which is as before if nothing was asked.
    ///
    /// # Errors
    /// As [`Client::manage_self`].
    pub async fn accept_friend(&self, user: UserId) -> Result<RelationState, ClientError> {
        self.relate(UserAction::AcceptFriend { user }).await
    }

    /// Declines a request.
    ///
    /// # Errors
    /// As [`Client::manage_self`].
    pub async fn decline_friend(&self, user: UserId) -> Result<RelationState, ClientError> {
        self.relate(UserAction::DeclineFriend { user }).await
    }

    /// Ends a friendship, or takes a request back.
    ///
    /// # Errors
    /// As [`Client::manage_self`].
    pub async fn remove_friend(&self, user: UserId) -> Result<RelationState, ClientError> {
        self.relate(UserAction::RemoveFriend { user }).await
    }

    /// Blocks a user. Once this is answered no later message of that one enters the direct session of the two.
    ///
    /// # Errors
    /// As [`Client::request_friend`].
    pub async fn block(&self, user: UserId) -> Result<RelationState, ClientError> {
        self.relate(UserAction::Block { user }).await
    }

    /// Takes a block back.
    ///
    /// # Errors
    /// As [`Client::manage_self`].
    pub async fn unblock(&self, user: UserId) -> Result<RelationState, ClientError> {
        self.relate(UserAction::Unblock { user }).await
    }

    /// Changes how one stands to another user; says how they stand then.
    ///
    /// # Errors
    /// As [`Client::request_friend`]; [`ClientError::Invalid`] for an action that is about something else.
    pub async fn relate(&self, action: UserAction) -> Result<RelationState, ClientError> {
        if !matches!(
            action,
            UserAction::RequestFriend { .. }
                | UserAction::AcceptFriend { .. }
                | UserAction::DeclineFriend { .. }
                | UserAction::RemoveFriend { .. }
                | UserAction::Block { .. }
                | UserAction::Unblock { .. }
        ) {
            return Err(ClientError::Invalid("that changes no relation".to_owned()));
        }
        Ok(match self.manage_self(action).await?.value {
            1 => RelationState::Requested,
            2 => RelationState::Asked,
            3 => RelationState::Friends,
            _ => RelationState::None,
        })
    }

    /// Ends a device: its connection at once, its registration, and the tokens it had.
    ///
    /// # Errors
    /// As [`Client::manage_self`].
    pub async fn end_device(&self, device: DeviceId) -> Result<SelfAck, ClientError> {
        self.manage_self(UserAction::EndDevice { device }).await
    }

    /// Relations by name, after `after`, at most `limit` (1–200).
    ///
    /// # Errors
    /// As [`Client::members`].
    pub async fn relations(
        &self,
        which: RelationFilter,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<RelationPage, ClientError> {
        let list = ListRelations { on_behalf_of: None, which, after, limit };
        match self.ask(Question::Relations(list)).await? {
            Answer::Relations(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// Devices by id, after `after`, at most `limit` (1–64).
    ///
    /// # Errors
    /// As [`Client::members`].
    pub async fn devices(&self, after: Option<DeviceId>, limit: u32) -> Result<DevicePage, ClientError> {
        match self.ask(Question::Devices(ListDevices { on_behalf_of: None, after, limit })).await? {
            Answer::Devices(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }
}

fn fits(what: &str, blob: &Blob, most: usize) -> Result<(), ClientError> {
    if blob.len() > most {
        return Err(ClientError::Invalid(format!("{what} has at most {most} bytes")));
    }
    Ok(())
}
