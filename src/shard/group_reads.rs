//! What a group is set to, who is more than a plain member of it, who asks to join it, and by which codes one may.

use rookery_wire::group::{ListRoles, RolePage};
use rookery_wire::join::{CodePage, ListCodes, ListRequests, MAX_CODES, RequestPage};
use rookery_wire::{SessionId, UserId};

use super::api::{ReadRefusal, ReadReply};
use super::reads::{MAX_PAGE, Reads, may_read};

/// Requests in one page: with their texts they are large.
const MAX_REQUEST_LINES: u32 = 200;

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

    pub(super) async fn requests(
        &self,
        user: Option<UserId>,
        list: ListRequests,
    ) -> Result<ReadReply, ReadRefusal> {
        let session = list.session.clone();
        let page = self.look(&session, move |state| {
            if let Some(requests) = state.seen_from_outside(user.as_ref(), &list) {
                return Ok(RequestPage { requests, more: false });
            }
            may_read(state, user.as_ref())?;
            state.may_see_doors(user.as_ref())?;
            let limit = list.limit.clamp(1, MAX_REQUEST_LINES) as usize;
            let mut requests: Vec<_> =
                state.outside_after(list.which, list.after.as_ref()).take(limit + 1).collect();
            let more = requests.len() > limit;
            requests.truncate(limit);
            Ok(RequestPage { requests, more })
        });
        page.await?.map(ReadReply::Requests).map_err(ReadRefusal::Refused)
    }

    pub(super) async fn codes(
        &self,
        user: Option<UserId>,
        list: ListCodes,
    ) -> Result<ReadReply, ReadRefusal> {
        let session = list.session.clone();
        let page = self.look(&session, move |state| {
            may_read(state, user.as_ref())?;
            state.may_see_doors(user.as_ref())?;
            let limit = (list.limit.max(1) as usize).min(MAX_CODES);
            let mut codes: Vec<_> = state.codes_after(list.after).take(limit + 1).collect();
            let more = codes.len() > limit;
            codes.truncate(limit);
            Ok(CodePage { codes, more })
        });
        page.await?.map(ReadReply::Codes).map_err(ReadRefusal::Refused)
    }
}
