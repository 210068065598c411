//! EPHEMERAL: to the members of a session who are online now, judged like a message and kept by nobody.
//!
//! Whether the sender may is answered by the leader, so that who was blocked, muted or removed passes nothing from the ACK of
//! that on, however far this node's replica is behind. Only who types in a group is let through by this node's own replica if
//! that says yes: it is asked most often, says next to nothing, and costs no other node. What is let through goes to the
//! connections of every node. "Is typing" from one user to one session is passed on at most once a second by a node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_wire::frame::frame_bytes;
use rookery_wire::live::{Ephemeral, EphemeralMessage, Passing as Content};
use rookery_wire::{Blob, ErrorBody, Kind, SessionId, UserId};
use tokio::time::Instant;

use super::bounds;
use super::check::{MAX_LABEL, is_theirs, may_name};
use super::connection::Connection;
use super::pace::too_fast;
use super::reads::{turn, unexpected};
use crate::config::Limits;
use crate::delivery::Passing;
use crate::shard::{Freshness, Read, ReadReply};
use crate::state::{Actor, EntityKey};

/// "Is typing" is passed on once in so long.
const TYPING: Duration = Duration::from_secs(1);
/// Pairs of session and user whose typing is remembered; beyond it every word of it is passed on.
const TYPISTS: usize = 64 << 10;

/// Who has been typing where, a moment ago.
#[derive(Default)]
pub(super) struct Typists(Mutex<HashMap<(SessionId, UserId), Instant>>);

impl Typists {
    /// Whether the same was passed on just now.
    fn is_repeat(&self, key: &(SessionId, UserId), now: Instant) -> bool {
        self.0.lock().get(key).is_some_and(|at| now < *at + TYPING)
    }

    /// It is passed on.
    fn note(&self, key: (SessionId, UserId), on: bool, now: Instant) {
        let mut typists = self.0.lock();
        if !on {
            typists.remove(&key);
            return;
        }
        if typists.len() >= TYPISTS {
            typists.retain(|_, at| now < *at + TYPING);
        }
        if typists.len() < TYPISTS {
            typists.insert(key, now);
        }
    }
}

/// What can be judged without the session.
pub(super) fn check(connection: &Connection, mut asked: Ephemeral) -> Result<(Actor, Ephemeral), ErrorBody> {
    let limits = &connection.core.options.limits;
    let actor = connection.actor(asked.on_behalf_of.take());
    may_name(&actor)?;
    is_theirs(&asked.session, actor.name())?;
    fits(&asked.body, limits)?;
    let rate = limits.ephemeral_rate;
    let paced = connection.pace.take(rate, Instant::now());
    paced.map_err(|wait| too_fast("ephemeral messages", "limits.ephemeral_rate", rate, wait))?;
    Ok((actor, asked))
}

fn fits(body: &Content, limits: &Limits) -> Result<(), ErrorBody> {
    let Content::Content { content_type, content } = body else { return Ok(()) };
    bounds::CONTENT_TYPE.hold(content_type.len(), MAX_LABEL)?;
    bounds::EPHEMERAL.hold(content.len(), limits.ephemeral as usize)
}

/// EPHEMERAL.
pub(super) async fn pass(
    connection: Arc<Connection>,
    request: u32,
    (actor, asked): (Actor, Ephemeral),
) -> Result<(), ErrorBody> {
    let core = &connection.core;
    let Ephemeral { session, body, .. } = asked;
    let sender = actor.name().clone();
    let (typist, typing) = (
        (session.clone(), sender.clone()),
        match body {
            Content::Typing { on } => Some(on),
            Content::Content { .. } => None,
        },
    );
    if typing == Some(true) && core.typists.is_repeat(&typist, Instant::now()) {
        connection.reply(Kind::Ok, request, &());
        return Ok(());
    }
    let _turn = turn(&connection).await?;
    let shard = core.router.shard_of(&EntityKey::Session(session.clone()));
    let freshness = match &session {
        SessionId::Group(_) if typing.is_some() => Freshness::AtLeast(0),
        SessionId::Group(_) | SessionId::Direct { .. } => Freshness::Linearizable,
    };
    let read = Read::MayPass { session: session.clone(), actor };
    match core.router.read(shard, read, freshness).await? {
        ReadReply::Allowed => {}
        other => return Err(unexpected(&other)),
    }
    let (user, device) = (connection.user().clone(), connection.device().clone());
    let message = EphemeralMessage {
        session: session.clone(),
        sender,
        device: device.clone(),
        time_ms: core.clock.unix_ms(),
        body,
    };
    let frame = Blob(frame_bytes(Kind::EphemeralMessage, 0, &message));
    core.router.pass(Passing { session, frame, except: (user, Some((device, connection.epoch))) });
    if let Some(on) = typing {
        core.typists.note(typist, on, Instant::now());
    }
    connection.reply(Kind::Ok, request, &());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_is_a_repeat_for_a_second_unless_it_ended() {
        let (typists, begin) = (Typists::default(), Instant::now());
        let key = (SessionId::group("team".parse().unwrap()), UserId::new("ann").unwrap());
        assert!(!typists.is_repeat(&key, begin));
        typists.note(key.clone(), true, begin);
        assert!(typists.is_repeat(&key, begin + Duration::from_millis(999)));
        assert!(!typists.is_repeat(&key, begin + TYPING));
        typists.note(key.clone(), false, begin);
        assert!(!typists.is_repeat(&key, begin));
    }
}
