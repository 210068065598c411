//! DELIVERED that asks for an answer: nobody has what is not there.
//!
//! The user's shard keeps the cursors and does not know where sessions end, so the sessions' shards are asked before anything
//! moves, from memory; only those that seem to be exceeded are looked at more closely, for where a session ends is told to its
//! members alone. A DELIVERED without a request id is not asked about. What it says beyond an end counts as the end wherever
//! it is told (`summary` in [`super::sync`]).

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use rookery_wire::{ErrorBody, ErrorCode, SessionId};

use super::connection::Connection;
use super::{cursors, reads, sync};
use crate::shard::Asked;

/// Judges the cursors and has them replicated; OK answers the request after that.
pub(super) async fn delivered(
    connection: Arc<Connection>,
    request: u32,
    said: Vec<(SessionId, u64)>,
) -> Result<(), ErrorBody> {
    within_ends(&connection, &said).await?;
    cursors::commit(&connection, said, request);
    Ok(())
}

/// BEYOND_END if one of the cursors is behind the last record of a session of this user's. A session that cannot be asked
/// holds nothing up: its cursor counts as far as it goes.
async fn within_ends(connection: &Arc<Connection>, said: &[(SessionId, u64)]) -> Result<(), ErrorBody> {
    let _turn = reads::turn(connection).await?;
    let mut furthest: HashMap<&SessionId, u64> = HashMap::with_capacity(said.len());
    for (session, seq) in said {
        let known = furthest.entry(session).or_default();
        *known = (*known).max(*seq);
    }
    let sessions: Vec<SessionId> = furthest.keys().map(|session| (*session).clone()).collect();
    let (active, _) = sync::activity(connection, &sessions).await;
    let beyond = |session: &SessionId, end: u64| furthest.get(session).is_some_and(|seq| *seq > end);
    let doubtful: Vec<SessionId> = active
        .into_iter()
        .filter(|(session, known)| known.as_ref().is_ok_and(|known| beyond(session, known.last_seq)))
        .map(|(session, _)| session)
        .collect();
    let asked = sync::by_shard(connection, &doubtful).into_iter().map(|(shard, sessions)| {
        let asked = |session| Asked { session, seen_count: 0, deleted: Vec::new(), burns: false };
        sync::heads(connection, connection.user(), shard, sessions.into_iter().map(asked).collect())
    });
    for (session, head) in join_all(asked).await.into_iter().flatten() {
        if let Ok(head) = head
            && beyond(&session, head.last_seq)
        {
            let text = format!("{session} ends at {}, no device has it further", head.last_seq);
            return Err(ErrorBody::new(ErrorCode::BeyondEnd, text).with_detail(head.last_seq));
        }
    }
    Ok(())
}
