//! What is judged before anything reaches the log. A refusal here consumes no `client_seq`.
//!
//! Pure: a request and who asks go in, a command or a refusal comes out. Membership, blocks and numbers are judged
//! at apply, where every replica judges alike (G8).

use rookery_wire::digest::DigestAt;
use rookery_wire::own::MAX_PLATFORM;
use rookery_wire::record::FIRST_APPLICATION_TAG;
use rookery_wire::request::{Consistency, Edit, ListMembers, Members, Pull, Recall, Send};
use rookery_wire::{Blob, Burns, ErrorBody, ErrorCode, Expires, Extension, SessionId, UserId};

use super::{bounds, versions};
use crate::config::Limits;
use crate::state::{Act, Actor, ChangeKind, Command};

/// Longest media type and client program name, bytes.
pub(super) const MAX_LABEL: usize = 64;
/// Extensions of one message.
const MAX_EXTENSIONS: usize = 16;
/// Bytes of their data together: with the content they travel in one frame and one log entry.
const MAX_EXTENSION_BYTES: usize = 4096;
/// For how long a message may last that does not stay, milliseconds: a second to ten years.
const LASTS_MS: (u64, u64) = (1_000, 315_360_000_000);
/// Users in one membership change, and in one page of members.
pub(super) const MAX_USERS: usize = 1000;
/// Cursors in one DELIVERED.
pub(super) const MAX_CURSORS: usize = 10_000;

pub(super) fn refuse<T>(code: ErrorCode, text: impl Into<String>) -> Result<T, ErrorBody> {
    Err(ErrorBody::new(code, text.into()))
}

/// Only a service may name another user.
pub(super) fn may_name(actor: &Actor) -> Result<(), ErrorBody> {
    if actor.on_behalf_of.is_some() && !actor.service {
        return refuse(
            ErrorCode::Forbidden,
            "only a service identity acts for others; leave on_behalf_of empty",
        );
    }
    Ok(())
}

/// A direct session belongs to its two users and to nobody else, whatever the role.
pub(super) fn is_theirs(session: &SessionId, user: &UserId) -> Result<(), ErrorBody> {
    if session.pair_has(user) == Some(false) {
        return refuse(ErrorCode::Forbidden, format!("{session} is not a session of {user}"));
    }
    Ok(())
}

/// As [`is_theirs`], of who acts: the system has something to say in any session.
fn theirs(session: &SessionId, actor: &Actor) -> Result<(), ErrorBody> {
    if actor.is_system() { Ok(()) } else { is_theirs(session, actor.name()) }
}

pub(super) fn numbered(client_seq: u64) -> Result<(), ErrorBody> {
    if client_seq == 0 {
        return refuse(ErrorCode::BadRequest, "client_seq counts from 1");
    }
    Ok(())
}

/// What a message is made of.
fn message(
    content_type: &Blob,
    content: &Blob,
    extensions: &[Extension],
    may_go: bool,
    limits: &Limits,
) -> Result<(), ErrorBody> {
    bounds::CONTENT_TYPE.hold(content_type.len(), MAX_LABEL)?;
    bounds::CONTENT.hold(content.len(), limits.content as usize)?;
    bounds::EXTENSIONS.hold(extensions.len(), MAX_EXTENSIONS)?;
    let data: usize = extensions.iter().map(|extension| extension.data.len()).sum();
    bounds::EXTENSION_BYTES.hold(data, MAX_EXTENSION_BYTES)?;
    match extensions.iter().find(|extension| extension.tag < FIRST_APPLICATION_TAG) {
        None => Ok(()),
        Some(extension) if may_go && [Expires::TAG, Burns::TAG].contains(&extension.tag) => {
            lasts(extension, extensions)
        }
        Some(Extension { tag, .. }) => {
            let text = format!("extension {tag}: tags below {FIRST_APPLICATION_TAG} are the protocol's own");
            refuse(ErrorCode::BadRequest, text)
        }
    }
}

/// A message may say once for how long it lasts, and nothing else with a tag of the protocol's own.
fn lasts(found: &Extension, extensions: &[Extension]) -> Result<(), ErrorBody> {
    let own = extensions.iter().filter(|extension| extension.tag < FIRST_APPLICATION_TAG).count();
    let (after_ms, least) = match found.tag {
        Expires::TAG => (rookery_wire::decode::<Expires>(&found.data.0).map(|it| it.after_ms), LASTS_MS.0),
        _ => (rookery_wire::decode::<Burns>(&found.data.0).map(|it| it.after_ms), 0),
    };
    match after_ms {
        Ok(after_ms) if own == 1 && (least..=LASTS_MS.1).contains(&after_ms) => Ok(()),
        _ => {
            let text = format!("extension {}: one time from {least} to {} ms", found.tag, LASTS_MS.1);
            refuse(ErrorCode::BadRequest, text)
        }
    }
}

/// Only of two one knows when the other has read.
fn burns_in(session: &SessionId, extensions: &[Extension]) -> Result<(), ErrorBody> {
    let burns = extensions.iter().any(|extension| extension.tag == Burns::TAG);
    if burns && matches!(session, SessionId::Group(_)) {
        return refuse(ErrorCode::BadRequest, "a message goes once it is read in direct sessions only");
    }
    Ok(())
}

/// A RECALL as a command.
pub(super) fn recall(actor: Actor, recall: Recall, limits: &Limits) -> Result<Command, ErrorBody> {
    may_name(&actor)?;
    theirs(&recall.session, &actor)?;
    numbered(recall.client_seq)?;
    let Recall { session, client_seq, seq, .. } = recall;
    let act = Act::Recall { seq, window_ms: limits.recall_window_ms };
    Ok(Command::Act { actor, session, client_seq, act })
}

/// An EDIT as a command.
pub(super) fn edit(actor: Actor, edit: Edit, limits: &Limits) -> Result<Command, ErrorBody> {
    may_name(&actor)?;
    theirs(&edit.session, &actor)?;
    numbered(edit.client_seq)?;
    message(&edit.content_type, &edit.content, &edit.extensions, false, limits)?;
    let Edit { session, client_seq, seq, content_type, content, extensions, .. } = edit;
    let window_ms = limits.edit_window_ms;
    let versions = versions::bounds(limits);
    let act = Act::Edit { seq, window_ms, versions, content_type, content, extensions };
    Ok(Command::Act { actor, session, client_seq, act })
}

/// A SEND as a command.
///
/// # Errors
/// The refusal, which takes no number.
pub fn send(actor: Actor, send: Send, limits: &Limits) -> Result<Command, ErrorBody> {
    may_name(&actor)?;
    theirs(&send.session, &actor)?;
    numbered(send.client_seq)?;
    message(&send.content_type, &send.content, &send.extensions, true, limits)?;
    burns_in(&send.session, &send.extensions)?;
    let Send { session, client_seq, content_type, content, extensions, .. } = send;
    Ok(Command::Act { actor, session, client_seq, act: Act::Send { content_type, content, extensions } })
}

/// A CREATE_GROUP, ADD_MEMBERS or REMOVE_MEMBERS as a command.
pub(super) fn members(
    actor: Actor,
    members: Members,
    kind: ChangeKind,
    limits: &Limits,
) -> Result<Command, ErrorBody> {
    may_name(&actor)?;
    numbered(members.client_seq)?;
    if !matches!(members.session, SessionId::Group(_)) {
        return refuse(ErrorCode::BadRequest, "a direct session has its two members for ever; name a group");
    }
    bounds::USERS.hold(members.users.len(), MAX_USERS)?;
    if members.users.is_empty() && kind != ChangeKind::Create {
        return refuse(ErrorCode::BadRequest, "users is empty");
    }
    let Members { session, client_seq, users, .. } = members;
    let act = Act::Change { kind, users, most: limits.group_members, unknown: None };
    Ok(Command::Act { actor, session, client_seq, act })
}

/// A PULL that may be read; its counts brought within bounds.
pub(super) fn pull(user: &UserId, service: bool, mut pull: Pull, limits: &Limits) -> Result<Pull, ErrorBody> {
    if pull.consistency == Consistency::Replica && !service {
        return refuse(ErrorCode::Forbidden, "only a service identity reads a replica as it is");
    }
    if !service {
        is_theirs(&pull.session, user)?;
    }
    pull.max_count = pull.max_count.clamp(1, limits.page);
    // A page and its frame's header must fit the largest frame.
    pull.max_bytes = pull.max_bytes.clamp(1, limits.frame.saturating_sub(1024).max(1));
    Ok(pull)
}

/// A DIGEST that may be read.
pub(super) fn digest(user: &UserId, service: bool, ask: DigestAt) -> Result<DigestAt, ErrorBody> {
    if ask.consistency == Consistency::Replica && !service {
        return refuse(ErrorCode::Forbidden, "only a service identity reads a replica as it is");
    }
    if !service {
        is_theirs(&ask.session, user)?;
    }
    Ok(ask)
}

/// A LIST_MEMBERS that may be read.
pub(super) fn list(user: &UserId, service: bool, mut list: ListMembers) -> Result<ListMembers, ErrorBody> {
    if !service {
        is_theirs(&list.session, user)?;
    }
    list.limit = list.limit.clamp(1, MAX_USERS as u32);
    Ok(list)
}

/// Cursors that may be noted.
pub(super) fn cursors(cursors: &[(SessionId, u64)]) -> Result<(), ErrorBody> {
    bounds::CURSORS.hold(cursors.len(), MAX_CURSORS)
}

/// What a device says of itself.
pub(super) fn device(agent: &Blob, platform: &Blob) -> Result<(), ErrorBody> {
    bounds::AGENT.hold(agent.len(), MAX_LABEL)?;
    bounds::PLATFORM.hold(platform.len(), MAX_PLATFORM)
}
