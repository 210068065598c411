//! What is the user's own: MANAGE_SELF as a command, LIST_RELATIONS and LIST_DEVICES as reads.
//!
//! What an act needs to know of sessions (running counts, where they stand) is asked of them here and travels in the
//! command, so that apply touches the user alone (R6). It is no part of what makes a retry the same.

use std::sync::Arc;

use bincode::Encode;
use rookery_wire::own::{
    ListDevices, ListRelations, MAX_DEVICE_NAME, MAX_REMARK, MAX_REQUEST_TEXT, ManageSelf,
};
use rookery_wire::{ErrorBody, ErrorCode, Kind, RequestKey, SessionId, SessionSetting, UserAction, UserId};

use super::badge::{self, ToRead};
use super::bounds;
use super::check::{is_theirs, may_name, numbered, refuse};
use super::connection::Connection;
use super::core::Core;
use super::naming;
use super::reads::{turn, unexpected};
use super::receipts;
use crate::config::Limits;
use crate::shard::{Answer, Freshness, Read, ReadReply};
use crate::state::{Actor, Command, EntityKey, Given, OwnBounds, PartOf, ReadTo, UserAct};

/// Cursors in one command.
const COMMAND_CURSORS: usize = 500;
/// Bytes of a frame that a page does not use.
const FRAME_SPARE: u32 = 1024;

/// What needs no state to be refused, and takes neither number nor key.
pub(super) fn check_action(actor: &Actor, action: &UserAction, limits: &Limits) -> Result<(), ErrorBody> {
    let other = |user: &UserId| {
        if user == actor.name() {
            return refuse(ErrorCode::BadRequest, "nobody stands in a relation to itself");
        }
        Ok(())
    };
    match action {
        UserAction::SetSession { session, setting } => {
            is_theirs(session, actor.name())?;
            match setting {
                SessionSetting::Draft(text) => bounds::DRAFT.hold(text.len(), limits.draft_bytes as usize),
                _ => Ok(()),
            }
        }
        UserAction::ClearSession { session, .. } => is_theirs(session, actor.name()),
        UserAction::DeleteMessages { session, from_seq, to_seq } => {
            is_theirs(session, actor.name())?;
            if *from_seq == 0 || from_seq > to_seq {
                return refuse(ErrorCode::BadRequest, "from_seq counts from 1 and is at most to_seq");
            }
            Ok(())
        }
        UserAction::RequestFriend { user, text } => {
            other(user)?;
            bounds::FRIEND_TEXT.hold(text.len(), MAX_REQUEST_TEXT)
        }
        UserAction::SetRemark { user, remark } => {
            other(user)?;
            bounds::REMARK.hold(remark.len(), MAX_REMARK)
        }
        UserAction::AcceptFriend { user }
        | UserAction::DeclineFriend { user }
        | UserAction::RemoveFriend { user }
        | UserAction::Block { user }
        | UserAction::Unblock { user } => other(user),
        UserAction::NameDevice { name, .. } => bounds::DEVICE_NAME.hold(name.len(), MAX_DEVICE_NAME),
        UserAction::ReadAll
        | UserAction::SetStrangers { .. }
        | UserAction::SetPrivacy { .. }
        | UserAction::EndDevice { .. } => Ok(()),
    }
}

/// MANAGE_SELF.
pub(super) async fn manage(
    connection: Arc<Connection>,
    request: u32,
    mut manage: ManageSelf,
) -> Result<(), ErrorBody> {
    let limits = &connection.core.options.limits;
    let actor = connection.actor(manage.on_behalf_of.take());
    may_name(&actor)?;
    numbered(manage.number)?;
    check_action(&actor, &manage.action, limits)?;
    let _turn = turn(&connection).await?;
    let given = prepared(&connection, &actor, &manage.action, Place::Number(manage.number)).await?;
    let bounds = OwnBounds { deletions: limits.deletions_per_session, relations: limits.relations_per_user };
    let read = match &given {
        Given::Heads { cursors, .. } => stands(cursors),
        _ => Vec::new(),
    };
    let name = actor.name().clone();
    let ManageSelf { number, action, .. } = manage;
    let act = UserAct { number, action, given, bounds };
    match connection.core.router.execute(&Command::UserAct { actor, act }).await {
        Answer::Own(ack) => {
            for (session, seq) in read {
                receipts::note(&connection.core, &name, &session, seq);
            }
            connection.reply(Kind::SelfAck, request, &ack);
            Ok(())
        }
        Answer::Refused(error) => Err(error),
        other => {
            tracing::error!(?other, "a MANAGE_SELF was answered with something else");
            Err(ErrorBody::new(ErrorCode::Unavailable, "the outcome is unknown; repeat"))
        }
    }
}

/// What makes a retry of an act known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// The device's number.
    Number(u64),
    /// The backend's key.
    Key(&'a RequestKey),
}

/// What an act must be told of sessions.
pub(super) async fn prepared(
    connection: &Connection,
    actor: &Actor,
    action: &UserAction,
    place: Place<'_>,
) -> Result<Given, ErrorBody> {
    match given(connection, actor, action, place).await {
        Ok(given) => Ok(given),
        // What a session said at the first time does not matter to a retry, which gets its first answer.
        Err(_) if is_used(connection, actor, place).await? => Ok(Given::Nothing),
        Err(refusal) => Err(refusal),
    }
}

async fn given(
    connection: &Connection,
    actor: &Actor,
    action: &UserAction,
    place: Place<'_>,
) -> Result<Given, ErrorBody> {
    match action {
        UserAction::ClearSession { session, seq } => {
            Ok(Given::Count(count_at(connection, actor, session, *seq).await?))
        }
        UserAction::DeleteMessages { session, from_seq, to_seq } => {
            let count = count_at(connection, actor, session, *to_seq).await?;
            let before = count_at(connection, actor, session, from_seq - 1).await?;
            Ok(Given::Range { before, count })
        }
        // Done again, what came meanwhile would count as read.
        UserAction::ReadAll if is_used(connection, actor, place).await? => Ok(Given::Nothing),
        UserAction::ReadAll => read_all(connection, actor, place).await,
        UserAction::RequestFriend { user, .. } => {
            naming::is_user(&connection.core, user).await?;
            Ok(Given::Nothing)
        }
        _ => Ok(Given::Nothing),
    }
}

async fn count_at(
    connection: &Connection,
    actor: &Actor,
    session: &SessionId,
    seq: u64,
) -> Result<u64, ErrorBody> {
    let shard = connection.core.router.shard_of(&EntityKey::Session(session.clone()));
    let read = Read::CountAt { user: actor.name().clone(), session: session.clone(), seq };
    match connection.core.router.read(shard, read, Freshness::Linearizable).await? {
        // Clearing and deleting is not reading.
        ReadReply::Count(count) | ReadReply::CountBurning(count) => Ok(count),
        other => Err(unexpected(&other)),
    }
}

async fn is_used(connection: &Connection, actor: &Actor, place: Place<'_>) -> Result<bool, ErrorBody> {
    let (by, device, epoch) = (actor.user.clone(), actor.device.clone(), actor.epoch);
    let user = actor.name().clone();
    let read = match place {
        Place::Number(_) => Read::OwnNumber { user, by, device, epoch },
        Place::Key(key) => Read::KnowsKey { user, key: key.clone() },
    };
    match read_user(connection, actor.name(), read).await? {
        ReadReply::Count(count) => Ok(match place {
            Place::Number(number) => number <= count,
            Place::Key(_) => count > 0,
        }),
        other => Err(unexpected(&other)),
    }
}

/// Where all sessions stand, and how much of them is unread. A command holds so many cursors; those beyond it go first, each
/// part judged as the act will be.
async fn read_all(connection: &Connection, actor: &Actor, place: Place<'_>) -> Result<Given, ErrorBody> {
    let user = actor.name();
    let ToRead { mut cursors, unread } = badge::heads_to_read(connection, user).await?;
    while cursors.len() > COMMAND_CURSORS {
        let part = cursors.split_off(cursors.len() - COMMAND_CURSORS);
        let read = stands(&part);
        let of = match place {
            Place::Number(number) => PartOf::CountedNumber { actor: actor.clone(), number, unread },
            Place::Key(key) => PartOf::CountedKey { key: key.clone(), unread },
        };
        let command = Command::ReadMany { user: user.clone(), of, cursors: part };
        match connection.core.router.execute(&command).await {
            Answer::Done => {}
            // It was done meanwhile: the act gets its first answer.
            Answer::Own(_) => return Ok(Given::Nothing),
            Answer::Refused(error) => return Err(error),
            _ => return refuse(ErrorCode::Unavailable, "the outcome is unknown; repeat"),
        }
        for (session, seq) in read {
            receipts::note(&connection.core, user, &session, seq);
        }
    }
    Ok(Given::Heads { cursors, unread })
}

pub(super) fn stands(cursors: &[ReadTo]) -> Vec<(SessionId, u64)> {
    cursors.iter().map(|to| (to.session.clone(), to.seq)).collect()
}

async fn read_user(connection: &Connection, user: &UserId, read: Read) -> Result<ReadReply, ErrorBody> {
    let shard = connection.core.router.shard_of(&EntityKey::User(user.clone()));
    connection.core.router.read(shard, read, Freshness::Linearizable).await
}

/// LIST_RELATIONS.
pub(super) async fn relations(
    connection: Arc<Connection>,
    request: u32,
    list: ListRelations,
) -> Result<(), ErrorBody> {
    let actor = connection.actor(list.on_behalf_of);
    may_name(&actor)?;
    let _turn = turn(&connection).await?;
    let user = actor.name().clone();
    let read = Read::Relations { user, which: list.which, after: list.after, limit: list.limit };
    match read_user(&connection, actor.name(), read).await? {
        ReadReply::Relations(mut page) => {
            page.more |= fit(&connection, &mut page.relations);
            connection.reply(Kind::RelationPage, request, &page);
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

/// LIST_DEVICES.
pub(super) async fn devices(
    connection: Arc<Connection>,
    request: u32,
    list: ListDevices,
) -> Result<(), ErrorBody> {
    let actor = connection.actor(list.on_behalf_of);
    may_name(&actor)?;
    let _turn = turn(&connection).await?;
    let read = Read::Devices { user: actor.name().clone(), after: list.after, limit: list.limit };
    match read_user(&connection, actor.name(), read).await? {
        ReadReply::Devices(mut page) => {
            page.more |= fit(&connection, &mut page.devices);
            connection.reply(Kind::DevicePage, request, &page);
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

/// Keeps as many lines as the largest frame holds, at least one; says whether some went.
pub(super) fn fit<T: Encode>(connection: &Connection, lines: &mut Vec<T>) -> bool {
    let kept = how_many_fit(&connection.core, lines, 0);
    let cut = kept < lines.len();
    lines.truncate(kept);
    cut
}

/// How many of these lines one frame holds in which so many bytes are taken, at least one.
pub(super) fn how_many_fit<T: Encode>(core: &Core, lines: &[T], taken: usize) -> usize {
    let most = frame_room(core).saturating_sub(taken);
    let mut total = 0;
    let fits = |line: &&T| {
        total += rookery_wire::encode(*line).len();
        total <= most
    };
    lines.iter().take_while(fits).count().max(1)
}

/// Bytes of lines that a frame holds.
pub(super) fn frame_room(core: &Core) -> usize {
    core.options.limits.frame.saturating_sub(FRAME_SPARE) as usize
}

/// The lines in parts that one frame holds, of so many lines at most: for pushes, of which there may be several.
pub(super) fn frames_of<'a, T: Encode>(
    core: &'a Core,
    mut lines: &'a [T],
    most: usize,
) -> impl Iterator<Item = &'a [T]> {
    std::iter::from_fn(move || {
        let part = lines.get(..lines.len().min(most)).filter(|part| !part.is_empty())?;
        let (part, rest) = lines.split_at(how_many_fit(core, part, 0).min(part.len()));
        lines = rest;
        Some(part)
    })
}
