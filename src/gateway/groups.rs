//! Groups: MANAGE_GROUP as a command, GROUP_INFO and LIST_ROLES as reads.
//!
//! Sizes are judged here and consume no `client_seq`; who may do what is judged at apply (G8).

use std::sync::Arc;

use rookery_wire::group::{GroupInfo, ListRoles, MAX_ATTRIBUTE, MAX_AVATAR, MAX_GROUP_NAME, ManageGroup};
use rookery_wire::{Blob, ErrorBody, ErrorCode, GroupAction, Kind, MemberRole, SessionId};
use tokio::time::Instant;

use super::bounds;
use super::check::{MAX_USERS, is_theirs, may_name, numbered, refuse};
use super::connection::Connection;
use super::join;
use super::own::fit;
use super::pace::too_fast;
use super::reads::{turn, unexpected};
use crate::config::Limits;
use crate::shard::{Freshness, Read, ReadReply};
use crate::state::{Act, Actor, Command, EntityKey};

/// Whether the user may make one more group now, or add to one: the lists of others fill no faster than that. A service answers
/// for itself.
pub(super) fn in_turn(connection: &Connection) -> Result<(), ErrorBody> {
    if connection.identity.service {
        return Ok(());
    }
    let (core, rate) = (&connection.core, connection.core.options.limits.add_rate);
    let paced = core.adds.take(connection.user(), rate, Instant::now());
    let what = "groups made and additions to groups";
    paced.map_err(|wait| too_fast(what, "limits.add_rate", rate, wait))
}

pub(super) fn is_group(session: &SessionId) -> Result<(), ErrorBody> {
    match session {
        SessionId::Group(_) => Ok(()),
        SessionId::Direct { .. } => {
            refuse(ErrorCode::BadRequest, "a direct session is not managed; name a group")
        }
    }
}

/// A MANAGE_GROUP as a command.
pub(super) fn manage(actor: Actor, manage: ManageGroup, limits: &Limits) -> Result<Command, ErrorBody> {
    may_name(&actor)?;
    numbered(manage.client_seq)?;
    match &manage.action {
        // What is kept of a direct session, its users say.
        GroupAction::SetRetention(_) | GroupAction::KeepVersions { .. } => {
            is_theirs(&manage.session, actor.name())?;
        }
        _ => is_group(&manage.session)?,
    }
    match &manage.action {
        GroupAction::SetProfile { name, avatar } => {
            if name.is_none() && avatar.is_none() {
                return refuse(ErrorCode::BadRequest, "neither name nor avatar is given");
            }
            bounds::GROUP_NAME.hold(name.as_ref().map_or(0, Blob::len), MAX_GROUP_NAME)?;
            bounds::AVATAR.hold(avatar.as_ref().map_or(0, Blob::len), MAX_AVATAR)?;
        }
        GroupAction::SetAttribute { value, .. } => {
            bounds::ATTRIBUTE.hold(value.as_ref().map_or(0, Blob::len), MAX_ATTRIBUTE)?;
        }
        GroupAction::SetRole { role: MemberRole::Owner, .. } => {
            return refuse(ErrorCode::BadRequest, "role is owner: hand the group over instead");
        }
        GroupAction::SetRole { .. }
        | GroupAction::HandOver { .. }
        | GroupAction::SetPolicy(_)
        | GroupAction::Mute { .. }
        | GroupAction::MuteAll { .. }
        | GroupAction::Dissolve
        | GroupAction::SetRetention(_)
        | GroupAction::Answer { .. }
        | GroupAction::RevokeCode { .. }
        | GroupAction::Bar { .. }
        | GroupAction::KeepVersions { .. } => {}
        GroupAction::MakeCode { hash, uses, .. } => join::may_be_made(hash, *uses)?,
        GroupAction::Asked { .. } => {
            return refuse(ErrorCode::BadRequest, "who asks to join does so with JOIN_GROUP");
        }
    }
    let ManageGroup { session, client_seq, action, .. } = manage;
    let act = match action {
        GroupAction::Answer { user, accept } => Act::Answer { user, accept, most: limits.group_members },
        action => Act::Manage { action },
    };
    Ok(Command::Act { actor, session, client_seq, act })
}

/// GROUP_INFO.
pub(super) async fn info(
    connection: Arc<Connection>,
    request: u32,
    info: GroupInfo,
) -> Result<(), ErrorBody> {
    let user = (!connection.identity.service).then(|| connection.user().clone());
    if let Some(user) = &user {
        is_theirs(&info.session, user)?;
    }
    let session = info.session.clone();
    match read(&connection, &info.session, Read::Group { user, session }).await? {
        ReadReply::Group(group) => {
            connection.reply(Kind::Group, request, &*group);
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

/// LIST_ROLES.
pub(super) async fn roles(
    connection: Arc<Connection>,
    request: u32,
    mut list: ListRoles,
) -> Result<(), ErrorBody> {
    is_group(&list.session)?;
    list.limit = list.limit.clamp(1, MAX_USERS as u32);
    let user = (!connection.identity.service).then(|| connection.user().clone());
    let session = list.session.clone();
    match read(&connection, &session, Read::Roles { user, list }).await? {
        ReadReply::Roles(mut page) => {
            page.more |= fit(&connection, &mut page.roles);
            connection.reply(Kind::RolePage, request, &page);
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn read(
    connection: &Connection,
    session: &SessionId,
    read: Read,
) -> Result<ReadReply, ErrorBody> {
    let _turn = turn(connection).await?;
    let shard = connection.core.router.shard_of(&EntityKey::Session(session.clone()));
    connection.core.router.read(shard, read, Freshness::Linearizable).await
}
