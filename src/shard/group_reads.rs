//! What a group is set to, and who is more than a plain member of it.

use rookery_wire::group::{ListRoles, RolePage};
use rookery_wire::{SessionId, UserId};

use super::api::{ReadRefusal, ReadReply};
use super::reads::{MAX_PAGE, Reads, may_read};

impl Reads {
    pub(super) async fn group(
        &self,
        user: Option<UserId>,
        session: SessionId,
    ) -> Result<ReadReply, ReadRefusal> {
        let group = self.look(&session, move |state| {
            may_read(state, user.as_ref())?;
            Ok(state.group_for(user.as_ref()))
        });
        group.await?.map(|group| ReadReply::Group(Box::new(group))).map_err(ReadRefusal::Refused)
    }

    pub(super) async fn roles(
        &self,
        user: Option<UserId>,
        list: ListRoles,
    ) -> Result<ReadReply, ReadRefusal> {
        let session = list.session.clone();
        let page = self.look(&session, move |state| {
            may_read(state, user.as_ref())?;
            let limit = list.limit.clamp(1, MAX_PAGE) as usize;
            let mut roles: Vec<_> = state.roles_after(list.after.as_ref()).take(limit + 1).collect();
            let more = roles.len() > limit;
            roles.truncate(limit);
            Ok(RolePage { roles, more })
        });
        page.await?.map(ReadReply::Roles).map_err(ReadRefusal::Refused)
    }
}
