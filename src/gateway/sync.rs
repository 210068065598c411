//! SYNC: the user's whole session list, newest activity first, in pages.
//!
//! The connection is attached to every session first and everything is read afterwards (R13), so between what a page
//! says and what is pushed nothing is lost; pushes begin once the session itself has said that the user is a member.
//! The order of the pages is fixed by the first one and kept with the connection: a session that becomes active
//! while the client turns pages cannot slip from a page to come into one that was given. What a page says of a
//! session is read when the page is made.
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
use crate::shard::{Freshness, Read, ReadReply, SessionHead, UserSession};
use crate::state::EntityKey;

/// Sessions in one page.
const MAX_PAGE: u32 = 200;
/// Sessions asked for in one read.
const ASKED: usize = 2000;

/// The order of one SYNC, kept while its pages are turned.
pub(super) struct SyncPages {
    /// Which SYNC of this connection.
    number: u64,
    /// Newest activity first.
    order: Vec<SessionId>,
}

/// What a session says of itself, and from which seq on its pushes are whole.
type Found = Result<(SessionHead, u64), ErrorCode>;
type Listed = HashMap<SessionId, UserSession>;

/// SYNC.
pub(super) async fn page(connection: Arc<Connection>, request: u32, sync: Sync) -> Result<(), ErrorBody> {
    let _turn = turn(&connection).await?;
    let limit = sync.limit.clamp(1, MAX_PAGE) as usize;
    let token = read_token(&sync.after.0)?;
    if token.is_none() {
        let user = Topic::User(connection.user().clone());
        let shard = connection.core.router.shard_of_topic(&user);
        connection.core.router.attach(shard, receiver(&connection), vec![user]).await;
    }
    let listed = own_sessions(&connection).await?;
    let (wanted, next, mut found, start_failures) = match token {
        None => {
            let found = visit(&connection, listed.keys().cloned()).await;
            begin(&connection, &found);
            let failures = found.iter().filter_map(|(session, found)| failure(session, found));
            let failures: Vec<_> = failures.collect();
            let (wanted, next) = slice(&connection, 0, limit);
            (wanted, next, found, failures)
        }
        Some((number, start)) => {
            if connection.pages.lock().as_ref().is_none_or(|pages| pages.number != number) {
                let text = "`after` belongs to an older SYNC; begin again with an empty one";
                return Err(ErrorBody::new(ErrorCode::BadRequest, text));
            }
            let (wanted, next) = slice(&connection, start, limit);
            // One that has left the list since the first page is no session of the user's any more.
            let still = wanted.iter().filter(|session| listed.contains_key(*session)).cloned();
            let found = visit(&connection, still).await;
            let failures = found.iter().filter_map(|(session, found)| failure(session, found)).collect();
            (wanted, next, found, failures)
        }
    };
    let summaries =
        wanted.into_iter().filter_map(|session| match (found.remove(&session), listed.get(&session)) {
            (Some(Ok((head, live_from))), Some(own)) => Some(summary(session, live_from, head, own)),
            _ => None,
        });
    let page = SyncPage {
        sessions: summaries.collect(),
        unresolved: start_failures,
        total: u32::try_from(listed.len()).unwrap_or(u32::MAX),
        next: Blob(next),
    };
    connection.reply(Kind::SyncPage, request, &page);
    Ok(())
}

fn receiver(connection: &Arc<Connection>) -> Arc<dyn Receiver> {
    Arc::new(Handle(Arc::clone(connection)))
}

/// What is named as unresolved. NOT_MEMBER is not: the session has let the user go, and the user's list is about to.
fn failure(session: &SessionId, found: &Found) -> Option<(SessionId, ErrorCode)> {
    match found {
        Ok(_) | Err(ErrorCode::NotMember) => None,
        Err(code) => Some((session.clone(), *code)),
    }
}

/// The user's sessions with the user's own cursors.
async fn own_sessions(connection: &Connection) -> Result<Listed, ErrorBody> {
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

/// Attaches the connection to sessions, asks each for its head, and lets those go live of which the user is a member.
async fn visit(
    connection: &Arc<Connection>,
    sessions: impl Iterator<Item = SessionId>,
) -> HashMap<SessionId, Found> {
    let mut shards: BTreeMap<u32, Vec<SessionId>> = BTreeMap::new();
    for session in sessions {
        let shard = connection.core.router.shard_of(&EntityKey::Session(session.clone()));
        shards.entry(shard).or_default().push(session);
    }
    let asked = shards.into_iter().map(|(shard, sessions)| visit_shard(connection, shard, sessions));
    join_all(asked).await.into_iter().flatten().collect()
}

async fn visit_shard(
    connection: &Arc<Connection>,
    shard: u32,
    sessions: Vec<SessionId>,
) -> Vec<(SessionId, Found)> {
    let topics = sessions.iter().cloned().map(Topic::Session).collect();
    connection.core.router.attach(shard, receiver(connection), topics).await;
    let mut found = Vec::with_capacity(sessions.len());
    for chunk in sessions.chunks(ASKED) {
        let heads = heads(connection, shard, chunk.to_vec()).await;
        found.extend(heads.into_iter().map(|(session, head)| {
            let found = admit(connection, &session, head);
            (session, found)
        }));
    }
    found
}

fn admit(connection: &Connection, session: &SessionId, head: Result<SessionHead, ErrorCode>) -> Found {
    let delivery = &connection.core.delivery;
    let topic = Topic::Session(session.clone());
    match head {
        Ok(head) => {
            // Not attached: a shard without a replica here could not be reached, or the log has removed the user.
            let live_from = delivery.admit(&topic, connection.id, head.joined_seq);
            live_from.map(|live_from| (head, live_from)).ok_or(ErrorCode::Unavailable)
        }
        Err(code) => {
            delivery.detach(&topic, connection.id);
            Err(code)
        }
    }
}

/// Fixes the order of the pages.
fn begin(connection: &Connection, found: &HashMap<SessionId, Found>) {
    let active = found.iter().filter_map(|(session, found)| Some((found.as_ref().ok()?.0.time_ms, session)));
    let mut order: Vec<(u64, &SessionId)> = active.collect();
    order.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    let order = order.into_iter().map(|(_, session)| session.clone()).collect();
    let mut pages = connection.pages.lock();
    let number = pages.as_ref().map_or(0, |pages| pages.number) + 1;
    *pages = Some(SyncPages { number, order });
}

/// The sessions of one page, and the token of the next; after the last page the order is forgotten.
fn slice(connection: &Connection, start: usize, limit: usize) -> (Vec<SessionId>, Bytes) {
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
