//! SYNC: the user's whole session list, newest activity first, in pages.
//!
//! The connection is attached to every session first and everything is read afterwards (R13), so between what a page
//! says and what is pushed nothing is lost; pushes begin once it is known that the user is a member. The order of the
//! pages is fixed by the first one and kept with the connection: a session that becomes active while the client turns
//! pages cannot slip from a page to come into one that was given. What a page says of a session is read when the page
//! is made.
//!
//! What a page costs the sessions is bound to the number of shards: one request attaches to all sessions of a
//! shard, one asks its leader's memory when they were active, one reads the heads of those on the page. That the user
//! is a member follows from his own list, read once more after the leaders have said that no change of members is on
//! its way to a list; only where one is, the session itself is asked. That list is read whole for every page, from
//! memory: one request per 10,000 sessions.
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
use crate::shard::{Freshness, MAX_HEADS, Read, ReadReply, SessionActivity, SessionHead, UserSession};
use crate::state::EntityKey;

/// Sessions in one page.
const MAX_PAGE: u32 = 200;

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
type Unresolved = Vec<(SessionId, ErrorCode)>;

/// SYNC.
pub(super) async fn page(connection: Arc<Connection>, request: u32, sync: Sync) -> Result<(), ErrorBody> {
    let _turn = turn(&connection).await?;
    let limit = sync.limit.clamp(1, MAX_PAGE) as usize;
    let (start, listed, mut unresolved) = match read_token(&sync.after.0)? {
        None => {
            let (listed, unresolved) = begin(&connection).await?;
            (0, listed, unresolved)
        }
        Some((number, start)) => {
            if connection.pages.lock().as_ref().is_none_or(|pages| pages.number != number) {
                let text = "`after` belongs to an older SYNC; begin again with an empty one";
                return Err(ErrorBody::new(ErrorCode::BadRequest, text));
            }
            (start, own_sessions(&connection).await?, Unresolved::new())
        }
    };
    let (mut wanted, next) = slice(&connection, start, limit);
    // One that has left the list since the first page is no session of the user's any more.
    wanted.retain(|session| listed.contains_key(session));
    if start > 0 {
        attach(&connection, &wanted).await;
    }
    let mut found = visit(&connection, &wanted, &listed).await;
    unresolved.extend(found.iter().filter_map(|(session, found)| failure(session, found)));
    let summaries =
        wanted.into_iter().filter_map(|session| match (found.remove(&session), listed.get(&session)) {
            (Some(Ok((head, live_from))), Some(own)) => Some(summary(session, live_from, head, own)),
            _ => None,
        });
    let page = SyncPage {
        sessions: summaries.collect(),
        unresolved,
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
    let (user, device) = (connection.user(), connection.device());
    let shard = router.shard_of(&EntityKey::User(user.clone()));
    let (mut listed, mut after) = (Listed::new(), None);
    loop {
        let read = Read::UserSessions { user: user.clone(), device: device.clone(), after: after.take() };
        match router.read(shard, read, Freshness::Linearizable).await? {
            ReadReply::UserSessions { sessions, more } => {
                after = sessions.last().filter(|_| more).map(|last| last.session.clone());
                listed.extend(sessions.into_iter().map(|session| (session.session.clone(), session)));
            }
            other => return Err(unexpected(&other)),
        }
        if after.is_none() {
            return Ok(listed);
        }
    }
}

/// Attaches the connection to all the user's sessions, lets those go live of which he is a member, and fixes the order
/// of the pages. Returns his list, and what could not be learned.
async fn begin(connection: &Arc<Connection>) -> Result<(Listed, Unresolved), ErrorBody> {
    let user = Topic::User(connection.user().clone());
    let shard = connection.core.router.shard_of_topic(&user);
    connection.core.router.attach(shard, receiver(connection), vec![user]).await;
    let named: Vec<SessionId> = own_sessions(connection).await?.into_keys().collect();
    attach(connection, &named).await;
    let active = activity(connection, &named).await;
    // Read again: where nothing was on its way to it, the list is right by now.
    let listed = own_sessions(connection).await?;
    let (mut order, mut doubtful, mut unresolved) = (Vec::new(), Vec::new(), Unresolved::new());
    for (session, active) in active {
        let topic = Topic::Session(session.clone());
        match (active, listed.get(&session)) {
            (Ok(active), Some(own)) if active.settled => {
                if connection.core.delivery.admit(&topic, connection.id, own.joined_seq).is_some() {
                    order.push((active.time_ms, session));
                } else {
                    unresolved.push((session, ErrorCode::Unavailable));
                }
            }
            (Ok(_), Some(_)) => doubtful.push(session),
            (Ok(_), None) => connection.core.delivery.detach(&topic, connection.id),
            (Err(code), _) => {
                connection.core.delivery.detach(&topic, connection.id);
                unresolved.push((session, code));
            }
        }
    }
    for (session, found) in visit(connection, &doubtful, &listed).await {
        unresolved.extend(failure(&session, &found));
        if let Ok((head, _)) = found {
            order.push((head.time_ms, session));
        }
    }
    set_order(connection, order);
    Ok((listed, unresolved))
}

/// Sessions by the shard that owns them.
fn by_shard(connection: &Connection, sessions: &[SessionId]) -> BTreeMap<u32, Vec<SessionId>> {
    let mut shards: BTreeMap<u32, Vec<SessionId>> = BTreeMap::new();
    for session in sessions {
        let shard = connection.core.router.shard_of(&EntityKey::Session(session.clone()));
        shards.entry(shard).or_default().push(session.clone());
    }
    shards
}

/// Attaches the connection, quietly: one request per shard.
async fn attach(connection: &Arc<Connection>, sessions: &[SessionId]) {
    let attached = by_shard(connection, sessions).into_iter().map(|(shard, sessions)| {
        let topics = sessions.into_iter().map(Topic::Session).collect();
        connection.core.router.attach(shard, receiver(connection), topics)
    });
    // What is missing is found out when it is admitted.
    join_all(attached).await;
}

/// When sessions were active: one request per shard, and per [`MAX_HEADS`] of its sessions.
async fn activity(
    connection: &Connection,
    sessions: &[SessionId],
) -> Vec<(SessionId, Result<SessionActivity, ErrorCode>)> {
    let asked = by_shard(connection, sessions).into_iter().map(|(shard, sessions)| async move {
        let mut all = Vec::with_capacity(sessions.len());
        for chunk in sessions.chunks(MAX_HEADS) {
            let read = Read::Activity { sessions: chunk.to_vec() };
            let code = match connection.core.router.read(shard, read, Freshness::Linearizable).await {
                Ok(ReadReply::Activity(active)) if active.len() == chunk.len() => {
                    all.extend(chunk.iter().cloned().zip(active.into_iter().map(Ok)));
                    continue;
                }
                Ok(other) => unexpected(&other).code,
                Err(error) => error.code,
            };
            all.extend(chunk.iter().map(|session| (session.clone(), Err(code))));
        }
        all
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Asks sessions for their heads, one request per shard, and lets those go live of which the user is a member.
async fn visit(
    connection: &Arc<Connection>,
    sessions: &[SessionId],
    listed: &Listed,
) -> HashMap<SessionId, Found> {
    let asked = by_shard(connection, sessions).into_iter().map(|(shard, sessions)| async move {
        let mut found = Vec::with_capacity(sessions.len());
        for chunk in sessions.chunks(MAX_HEADS) {
            let read = |session: &SessionId| listed.get(session).map_or(0, |own| own.read_count);
            let asked = chunk.iter().map(|session| (session.clone(), read(session))).collect();
            let heads = heads(connection, shard, asked).await;
            found.extend(heads.into_iter().map(|(session, head)| {
                let found = admit(connection, &session, head);
                (session, found)
            }));
        }
        found
    });
    join_all(asked).await.into_iter().flatten().collect()
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
fn set_order(connection: &Connection, mut active: Vec<(u64, SessionId)>) {
    active.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let order = active.into_iter().map(|(_, session)| session).collect();
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
    sessions: Vec<(SessionId, u64)>,
) -> Vec<(SessionId, Result<SessionHead, ErrorCode>)> {
    let read = Read::Heads {
        user: connection.user().clone(),
        device: connection.device().clone(),
        epoch: connection.epoch,
        sessions: sessions.clone(),
    };
    let asked = sessions.len();
    let sessions = sessions.into_iter().map(|(session, _)| session);
    let code = match connection.core.router.read(shard, read, Freshness::Linearizable).await {
        Ok(ReadReply::Heads(heads)) if heads.len() == asked => return sessions.zip(heads).collect(),
        Ok(other) => unexpected(&other).code,
        Err(error) => error.code,
    };
    sessions.map(|session| (session, Err(code))).collect()
}

fn summary(session: SessionId, live_from: u64, head: SessionHead, own: &UserSession) -> Summary {
    Summary {
        session,
        members: head.members,
        first_seq: head.first_seq,
        last_seq: head.last_seq,
        count: head.count,
        unread: head.unread,
        joined_seq: head.joined_seq,
        read_seq: own.read_seq,
        delivered_seq: own.delivered_seq,
        last_client_seq: head.last_client_seq,
        live_from,
        time_ms: head.time_ms,
        last: head.last,
    }
}
