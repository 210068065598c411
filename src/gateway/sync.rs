//! SYNC: the user's whole session list, newest activity first, in pages.
//!
//! The connection is attached to every session first and everything is read afterwards (R13), so between what a page
//! says and what is pushed nothing is lost. The order of the pages is fixed by the first one and kept with the
//! connection: a session that becomes active while the client turns pages cannot slip from a page to come into one
//! that was given. What a page says of a session is read when the page is made.
//!
//! A session of which nothing could be learned is named as unresolved, with the reason; none is left out silently (G5).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::join_all;
use rookery_wire::reply::{Summary, SyncPage};
use rookery_wire::request::Sync;
use rookery_wire::{Blob, ErrorBody, ErrorCode, Kind, SessionId};

use super::connection::{Connection, Handle};
use super::reads::{turn, unexpected};
use crate::delivery::{Receiver, Topic};
use crate::shard::{Freshness, MAX_HEADS, Read, ReadReply, SessionHead, UserSession};
use crate::state::EntityKey;

/// Sessions in one page.
const MAX_PAGE: u32 = 200;

/// The order of one SYNC, kept while its pages are turned.
pub(super) struct SyncPages {
    /// Which SYNC of this connection.
    number: u64,
    /// Session and `live_from`, newest activity first.
    order: Vec<(SessionId, u64)>,
}

type Failures = Vec<(SessionId, ErrorCode)>;

/// SYNC.
pub(super) async fn page(connection: Arc<Connection>, request: u32, sync: Sync) -> Result<(), ErrorBody> {
    let _turn = turn(&connection).await?;
    let limit = sync.limit.clamp(1, MAX_PAGE) as usize;
    let sessions = own_sessions(&connection).await?;
    let mut unresolved = Vec::new();
    let start = match read_token(&sync.after.0)? {
        None => {
            unresolved = begin(&connection, &sessions).await;
            0
        }
        Some((number, start)) => {
            let known = connection.pages.lock().as_ref().is_some_and(|pages| pages.number == number);
            if !known {
                let text = "`after` belongs to an older SYNC; begin again with an empty one";
                return Err(ErrorBody::new(ErrorCode::BadRequest, text));
            }
            start
        }
    };
    let (wanted, next) = slice(&connection, start, limit);
    let (summaries, failures) = summaries(&connection, wanted, &sessions).await;
    unresolved.extend(failures);
    let total = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
    connection.reply(
        Kind::SyncPage,
        request,
        &SyncPage { sessions: summaries, unresolved, total, next: Blob(next) },
    );
    Ok(())
}

/// The user's sessions with the user's own cursors.
async fn own_sessions(connection: &Connection) -> Result<HashMap<SessionId, UserSession>, ErrorBody> {
    let router = &connection.core.router;
    let shard = router.shard_of(&EntityKey::User(connection.user().clone()));
    let read = Read::UserSessions { user: connection.user().clone(), device: connection.device().clone() };
    match router.read(shard, read, Freshness::Linearizable).await? {
        ReadReply::UserSessions { sessions, .. } => {
            Ok(sessions.into_iter().map(|session| (session.session.clone(), session)).collect())
        }
        other => Err(unexpected(&other)),
    }
}

fn by_shard<T>(
    connection: &Connection,
    items: impl Iterator<Item = (SessionId, T)>,
) -> BTreeMap<u32, Vec<(SessionId, T)>> {
    let mut shards: BTreeMap<u32, Vec<(SessionId, T)>> = BTreeMap::new();
    for (session, item) in items {
        let shard = connection.core.router.shard_of(&EntityKey::Session(session.clone()));
        shards.entry(shard).or_default().push((session, item));
    }
    shards
}

/// Attaches the connection to everything and fixes the order of the pages. Returns what could not be asked.
async fn begin(connection: &Arc<Connection>, sessions: &HashMap<SessionId, UserSession>) -> Failures {
    let user = Topic::User(connection.user().clone());
    let user_shard = connection.core.router.shard_of_topic(&user);
    let receiver: Arc<dyn Receiver> = Arc::new(Handle(Arc::clone(connection)));
    connection.core.router.attach(user_shard, receiver, vec![user]).await;
    let shards = by_shard(connection, sessions.keys().map(|session| (session.clone(), ())));
    let asked = shards.into_iter().map(|(shard, list)| {
        let sessions = list.into_iter().map(|(session, ())| session).collect();
        activity(connection, shard, sessions)
    });
    let mut order = Vec::with_capacity(sessions.len());
    let mut failures = Vec::new();
    for (found, missing) in join_all(asked).await {
        order.extend(found);
        failures.extend(missing);
    }
    order.sort_unstable_by(|a: &Active, b| b.time_ms.cmp(&a.time_ms).then_with(|| a.session.cmp(&b.session)));
    let order = order.into_iter().map(|active| (active.session, active.live_from)).collect();
    let mut pages = connection.pages.lock();
    let number = pages.as_ref().map_or(0, |pages| pages.number) + 1;
    *pages = Some(SyncPages { number, order });
    failures
}

struct Active {
    session: SessionId,
    live_from: u64,
    time_ms: u64,
}

/// Attaches to the sessions of one shard, then asks when each was last active.
async fn activity(
    connection: &Arc<Connection>,
    shard: u32,
    sessions: Vec<SessionId>,
) -> (Vec<Active>, Failures) {
    let router = &connection.core.router;
    let topics = sessions.iter().cloned().map(Topic::Session).collect();
    let receiver: Arc<dyn Receiver> = Arc::new(Handle(Arc::clone(connection)));
    let attached: HashMap<Topic, u64> = router.attach(shard, receiver, topics).await.into_iter().collect();
    let (mut found, mut failures) = (Vec::with_capacity(sessions.len()), Vec::new());
    for chunk in sessions.chunks(MAX_HEADS) {
        let read = Read::Activity { sessions: chunk.to_vec() };
        let activity = match router.read(shard, read, Freshness::Linearizable).await {
            Ok(ReadReply::Activity(activity)) if activity.len() == chunk.len() => activity,
            Ok(other) => {
                let code = unexpected(&other).code;
                failures.extend(chunk.iter().map(|session| (session.clone(), code)));
                continue;
            }
            Err(error) => {
                failures.extend(chunk.iter().map(|session| (session.clone(), error.code)));
                continue;
            }
        };
        for (session, (_, time_ms)) in chunk.iter().zip(activity) {
            match attached.get(&Topic::Session(session.clone())) {
                Some(&live_from) => found.push(Active { session: session.clone(), live_from, time_ms }),
                None => failures.push((session.clone(), ErrorCode::Unavailable)),
            }
        }
    }
    (found, failures)
}

/// The sessions of one page, and the token of the next; after the last page the order is forgotten.
fn slice(connection: &Connection, start: usize, limit: usize) -> (Vec<(SessionId, u64)>, Bytes) {
    let mut pages = connection.pages.lock();
    let Some(known) = pages.as_mut() else { return (Vec::new(), Bytes::new()) };
    let end = start.saturating_add(limit).min(known.order.len());
    let wanted = known.order.get(start..end).unwrap_or_default().to_vec();
    if end < known.order.len() {
        return (wanted, token(known.number, end));
    }
    // The number stays, so that no later SYNC is mistaken for this one; the list goes with the last page.
    known.order = Vec::new();
    (wanted, Bytes::new())
}

fn token(number: u64, at: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(16);
    out.put_u64_le(number);
    out.put_u64_le(at as u64);
    out.freeze()
}

fn read_token(token: &Bytes) -> Result<Option<(u64, usize)>, ErrorBody> {
    let mut bytes = token.clone();
    match bytes.len() {
        0 => Ok(None),
        16 => Ok(Some((bytes.get_u64_le(), usize::try_from(bytes.get_u64_le()).unwrap_or(usize::MAX)))),
        _ => Err(ErrorBody::new(ErrorCode::BadRequest, "`after` is not what a SYNC_PAGE gave as `next`")),
    }
}

/// What the page says of its sessions, in their order.
async fn summaries(
    connection: &Arc<Connection>,
    wanted: Vec<(SessionId, u64)>,
    sessions: &HashMap<SessionId, UserSession>,
) -> (Vec<Summary>, Failures) {
    // One that has left the list since the first page is no session of the user's any more.
    let listed = |(session, _): &&(SessionId, u64)| sessions.contains_key(session);
    let shards = by_shard(connection, wanted.iter().filter(listed).cloned());
    let asked = shards.into_iter().map(|(shard, list)| {
        let sessions = list.into_iter().map(|(session, _)| session).collect();
        heads(connection, shard, sessions)
    });
    let mut heads: HashMap<SessionId, Result<SessionHead, ErrorCode>> =
        join_all(asked).await.into_iter().flatten().collect();
    let (mut found, mut failures) = (Vec::with_capacity(wanted.len()), Vec::new());
    for (session, live_from) in wanted {
        match (heads.remove(&session), sessions.get(&session)) {
            (Some(Ok(head)), Some(own)) => found.push(summary(session, live_from, head, own)),
            (Some(Err(ErrorCode::NotMember)), _) => {
                // The session has let the user go; the user's list is about to.
                connection.core.delivery.detach(&Topic::Session(session), connection.id);
            }
            (Some(Err(code)), _) => failures.push((session, code)),
            (Some(Ok(_)) | None, _) => {}
        }
    }
    (found, failures)
}

async fn heads(
    connection: &Connection,
    shard: u32,
    sessions: Vec<SessionId>,
) -> Vec<(SessionId, Result<SessionHead, ErrorCode>)> {
    let read = Read::Heads {
        user: connection.user().clone(),
        device: connection.device().clone(),
        epoch: connection.epoch,
        sessions: sessions.clone(),
    };
    let code = match connection.core.router.read(shard, read, Freshness::Linearizable).await {
        Ok(ReadReply::Heads(heads)) if heads.len() == sessions.len() => {
            return sessions.into_iter().zip(heads).collect();
        }
        Ok(other) => unexpected(&other).code,
        Err(error) => error.code,
    };
    sessions.into_iter().map(|session| (session, Err(code))).collect()
}

/// Unread = countable messages after max(read, own last sent, joined − 1); running counts only grow, so the largest
/// of the three counts is the count at the largest of the three seqs (G6).
fn summary(session: SessionId, live_from: u64, head: SessionHead, own: &UserSession) -> Summary {
    let seen = own.read_count.max(head.own_count).max(head.joined_count);
    Summary {
        session,
        members: head.members,
        first_seq: head.first_seq,
        last_seq: head.last_seq,
        count: head.count,
        unread: head.count.saturating_sub(seen),
        joined_seq: head.joined_seq,
        read_seq: own.read_seq,
        delivered_seq: own.delivered_seq,
        last_client_seq: head.last_client_seq,
        live_from,
        time_ms: head.time_ms,
        last: head.last,
    }
}
