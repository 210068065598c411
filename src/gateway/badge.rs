//! Unread messages of all sessions together, for a badge and for reading everything.
//!
//! What the shards' leaders have in memory tells which sessions can have anything unread: those that count more than the
//! user has read or cleared. Only these are asked for their heads, which know what the user has written itself and what
//! was recalled; at most [`ASKED`] of them, the newest ones, and the others are said not to be counted. Of those that have not
//! changed since a mark the mark knows how many there were ([`super::since`]).

use std::collections::{BTreeSet, HashMap};

use futures::future::join_all;
use rookery_wire::own::Badge;
use rookery_wire::{ErrorBody, ErrorCode, SessionId, UserId};

use super::connection::Connection;
use super::since::{Comparison, Unread};
use super::sync::{Found, Listed, activity, asked_of, by_shard, heads, sessions_of};
use crate::shard::{Asked, SessionActivity, SessionHead};
use crate::state::ReadTo;

/// Sessions beyond the page that are asked for their heads.
const ASKED: usize = 500;

/// When sessions were active, those of which that is known.
pub(super) type Active = HashMap<SessionId, SessionActivity>;

/// The badge, and for the next mark what it is made of. `found`: what those on the page have said already.
pub(super) async fn badge(
    connection: &Connection,
    listed: &Listed,
    active: &Active,
    found: &HashMap<SessionId, Found>,
    comparison: &Comparison,
) -> (Badge, Unread) {
    let now_ms = connection.core.clock.unix_ms();
    let (mut badge, mut counted) = (Badge::default(), Unread::new());
    let mut add = |session: &SessionId, unread: Option<u64>| match unread {
        None => badge.uncounted += 1,
        Some(unread) => {
            counted.push((session.hash64(), unread));
            let is_muted = listed.get(session).is_some_and(|own| own.muted_until_ms > now_ms);
            let sum = if is_muted { &mut badge.muted } else { &mut badge.unread };
            // A mark comes from the client: what it says is taken for its own badge, and must not harm.
            *sum = sum.saturating_add(unread);
        }
    };
    let mut open = Vec::new();
    for (session, own) in listed {
        match (found.get(session), active.get(session)) {
            (Some(Ok((head, _))), _) => add(session, Some(head.unread)),
            (_, Some(active)) if active.count <= own.seen_count => {}
            (_, Some(active)) => {
                match comparison.unread_as_before(connection, session, own.changed, active.changed) {
                    Some(unread) => add(session, Some(unread)),
                    None => open.push((active.time_ms, session.clone())),
                }
            }
            (_, None) => add(session, None),
        }
    }
    open.sort_unstable_by(|a, b| b.cmp(a));
    for (_, session) in open.iter().skip(ASKED) {
        add(session, None);
    }
    let asked: Vec<SessionId> = open.into_iter().take(ASKED).map(|(_, session)| session).collect();
    for (session, head) in heads_of(connection, connection.user(), &asked, listed, false).await {
        match head.map(|head| head.unread) {
            // Left meanwhile.
            Err(ErrorCode::NotMember) => {}
            unread => add(&session, unread.ok()),
        }
    }
    (badge, counted)
}

async fn heads_of(
    connection: &Connection,
    user: &UserId,
    sessions: &[SessionId],
    listed: &Listed,
    burns: bool,
) -> Vec<(SessionId, Result<SessionHead, ErrorCode>)> {
    let asked = by_shard(connection, sessions).into_iter().map(|(shard, sessions)| async move {
        let asked = sessions.iter().map(|session| Asked { burns, ..asked_of(session, listed) });
        heads(connection, user, shard, asked.collect()).await
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// What there is to read in all sessions of a user together.
pub(super) struct ToRead {
    /// Where the sessions stand in which the cursor is behind.
    pub(super) cursors: Vec<ReadTo>,
    /// How many messages are unread.
    pub(super) unread: u64,
}

/// Looks for what there is to read.
///
/// # Errors
/// When not all of it could be learned: what is read by one request is read in whole.
pub(super) async fn heads_to_read(connection: &Connection, user: &UserId) -> Result<ToRead, ErrorBody> {
    let listed = sessions_of(connection, user, None).await?.listed;
    let names: Vec<SessionId> = listed.keys().cloned().collect();
    let (mut cursors, mut open) = (Vec::new(), Vec::new());
    for (session, active) in activity(connection, &names).await.0 {
        let active = active.map_err(|code| ErrorBody::new(code, format!("{session} could not be asked")))?;
        let Some(own) = listed.get(&session) else { continue };
        let behind = active.last_seq > own.read_seq;
        // What was cleared unread may wait for it.
        if active.count > own.seen_count || (behind && matches!(session, SessionId::Direct { .. })) {
            open.push(session.clone());
        }
        if behind {
            let (seq, count) = (active.last_seq, active.count);
            cursors.push(ReadTo { session, seq, count, burns: false });
        }
    }
    let (mut unread, mut burning) = (0_u64, BTreeSet::new());
    for (session, head) in heads_of(connection, user, &open, &listed, true).await {
        match head {
            Ok(head) => {
                unread = head.unread.saturating_add(unread);
                if head.burns {
                    burning.insert(session);
                }
            }
            Err(ErrorCode::NotMember | ErrorCode::NoSuchSession) => {}
            Err(code) => return Err(ErrorBody::new(code, format!("{session} could not be asked"))),
        }
    }
    for to in &mut cursors {
        to.burns = burning.contains(&to.session);
    }
    cursors.sort_unstable_by(|a, b| a.session.cmp(&b.session));
    Ok(ToRead { cursors, unread })
}
