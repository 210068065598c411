//! What is a user's own: sessions and how they are set, relations, devices, numbers.

use rookery_wire::own::{DevicePage, RelationFilter, RelationPage, Settings};
use rookery_wire::{DeviceId, RequestKey, SessionId, UserId};

use super::api::{LIST_PAGE, LIST_RANGES, LeftSince, MAX_LEFT, ReadRefusal, ReadReply, UserSession};
use super::reads::{Reads, unreadable};
use crate::state::exceptions::Extras;
use crate::state::key::SenderKey;
use crate::state::privacy::Privacy;
use crate::state::user::LinkState;
use crate::state::user_rows::read_extras;
use crate::state::{RowFault, User};

/// Most relations in one page: with the longest texts they fit the smallest frame of the nodes.
const RELATIONS: usize = 200;

impl Reads {
    pub(super) async fn arrive(&self, user: UserId, device: DeviceId) -> Result<ReadReply, ReadRefusal> {
        let turn = self.shared.clone();
        let look = move |state: &User| {
            let epoch = state.epoch(&device);
            let key = SenderKey { user: state.id().clone(), device, epoch };
            let ended_ms = state.ended_ms(&key.device);
            let last_number = state.last_own_number(&key);
            ReadReply::Arrived { epoch, turn: turn.next_turn(), last_number, ended_ms }
        };
        self.look_user(user, look).await
    }

    pub(super) async fn own_number(&self, user: UserId, by: SenderKey) -> Result<ReadReply, ReadRefusal> {
        self.look_user(user, move |state| ReadReply::Count(state.last_own_number(&by))).await
    }

    pub(super) async fn knows_key(&self, user: UserId, key: RequestKey) -> Result<ReadReply, ReadRefusal> {
        self.look_user(user, move |state| ReadReply::Count(u64::from(state.knows_key(&key)))).await
    }

    pub(super) async fn user_sessions(
        &self,
        user: UserId,
        device: DeviceId,
        after: Option<SessionId>,
        left_since: Option<u64>,
        index: u64,
    ) -> Result<ReadReply, ReadRefusal> {
        let look = move |state: &User| {
            let (mut sessions, mut ranges, mut more) = (Vec::new(), 0, false);
            for (session, link) in state.sessions_after(after.as_ref()) {
                if sessions.len() >= LIST_PAGE || ranges >= LIST_RANGES {
                    more = true;
                    break;
                }
                let line = line(state, &device, session, link);
                ranges += line.deleted.len();
                sessions.push(line);
            }
            let (epoch, began) = (state.epoch(&device), state.device_began(&device));
            let left = left_since.map_or_else(LeftSince::default, |since| {
                let (sessions, all) = state.left_since(since, MAX_LEFT);
                LeftSince { sessions, all }
            });
            ReadReply::UserSessions { sessions, more, epoch, began, index, left }
        };
        self.look_user(user, look).await
    }

    pub(super) async fn settings(
        &self,
        user: UserId,
        sessions: Vec<SessionId>,
    ) -> Result<ReadReply, ReadRefusal> {
        if !self.shared.users.contains_key(&user) {
            return self.settings_from_rows(user, sessions).await;
        }
        let look = move |state: &User| {
            let of = |session: &SessionId| state.extras(session).map(Extras::settings);
            ReadReply::Settings(sessions.iter().map(|session| of(session).unwrap_or_default()).collect())
        };
        self.look_user(user, look).await
    }

    /// Every pull asks for this: a user who sleeps, and may have ten thousand sessions, is not woken for it. Asleep it was
    /// clean, so its rows have said within this request what they say.
    async fn settings_from_rows(
        &self,
        user: UserId,
        sessions: Vec<SessionId>,
    ) -> Result<ReadReply, ReadRefusal> {
        let _one_index = self.shared.rows_lock.read().await;
        let read = super::rows::query_in_use(&self.shared, move |rows| {
            let of = |session: &SessionId| {
                Ok(read_extras(rows, &user, session)?.map_or_else(Settings::default, |set| set.settings()))
            };
            sessions.iter().map(of).collect::<Result<Vec<_>, RowFault>>()
        });
        let found = read.await.and_then(|settings| settings.ok_or_else(super::rows::replaced));
        found.map(ReadReply::Settings).map_err(unreadable)
    }

    pub(super) async fn relations(
        &self,
        user: UserId,
        which: RelationFilter,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<ReadReply, ReadRefusal> {
        let look = move |state: &User| {
            let limit = (limit as usize).clamp(1, RELATIONS);
            let mut relations: Vec<_> =
                state.relations_after(which, after.as_ref()).take(limit + 1).collect();
            let more = relations.len() > limit;
            relations.truncate(limit);
            let Privacy { receipts, presence } = state.privacy();
            let refuses_strangers = state.refuses_strangers();
            ReadReply::Relations(RelationPage { relations, more, refuses_strangers, receipts, presence })
        };
        self.look_user(user, look).await
    }

    pub(super) async fn devices(
        &self,
        user: UserId,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<ReadReply, ReadRefusal> {
        let look = move |state: &User| {
            let limit = (limit as usize).max(1);
            let mut devices: Vec<_> = state.devices_after(after.as_ref()).take(limit + 1).collect();
            let more = devices.len() > limit;
            devices.truncate(limit);
            ReadReply::Devices(DevicePage { devices, more })
        };
        self.look_user(user, look).await
    }
}

fn line(state: &User, device: &DeviceId, session: &SessionId, link: &LinkState) -> UserSession {
    let extras = state.extras(session);
    let cleared_count = extras.map_or(0, |extras| extras.cleared_count);
    UserSession {
        session: session.clone(),
        joined_seq: link.joined_seq,
        read_seq: link.read_seq,
        seen_count: link.read_count.max(cleared_count),
        delivered_seq: link.delivered.get(device).copied().unwrap_or(0),
        is_set: extras.is_some(),
        muted_until_ms: extras.map_or(0, |extras| extras.muted_until_ms),
        deleted: extras
            .map(|extras| extras.deleted_after(link.read_count.max(cleared_count)))
            .unwrap_or_default(),
        changed: link.changed,
    }
}
