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
use rookery_wire::own::Settings;
use rookery_wire::reply::{Summary, SyncPage};
use rookery_wire::request::Sync;
use rookery_wire::{Blob, ErrorBody, ErrorCode, Kind, SessionId, UserId};

use super::badge::{Active, badge};
use super::connection::{Connection, Handle};
use super::mask;
use super::own::how_many_fit;
use super::places::stands;
use super::reads::{turn, unexpected};
use crate::delivery::{Receiver, Topic};
use crate::shard::{Asked, Freshness, MAX_HEADS, Read, ReadReply, SessionActivity, SessionHead, UserSession};
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
pub(super) type Found = Result<(SessionHead, u64), ErrorCode>;
pub(super) type Listed = HashMap<SessionId, UserSession>;
type Unresolved = Vec<(SessionId, ErrorCode)>;

/// SYNC.
pub(super) async fn page(connection: Arc<Connection>, request: u32, sync: Sync) -> Result<(), ErrorBody> {
    let _turn = turn(&connection).await?;
    let limit = sync.limit.clamp(1, MAX_PAGE) as usize;
    let (start, listed, active, mut unresolved) = match read_token(&sync.after.0)? {
        None => {
            let Begun { listed, active, unresolved } = begin(&connection).await?;
            (0, listed, Some(active), unresolved)
        }
        Some((number, start)) => {
            if connection.pages.lock().as_ref().is_none_or(|pages| pages.number != number) {
                let text = "`after` belongs to an older SYNC; begin again with an empty one";
                return Err(ErrorBody::new(ErrorCode::BadRequest, text));
            }
            (start, own_sessions(&connection).await?, None, Unresolved::new())
        }
    };
    let (number, order, rest) = slice(&connection, start, limit);
    // One that has left the list since the first page is no session of the user's any more.
    let wanted: Vec<SessionId> =
        order.iter().filter(|session| listed.contains_key(*session)).cloned().collect();
    if start > 0 {
        attach(&connection, &wanted).await;
    }
    let mut found = visit(&connection, &wanted, &listed).await;
    unresolved.extend(found.iter().filter_map(|(session, found)| failure(session, found)));
    let badge = match &active {
        Some(active) => Some(badge(&connection, &listed, active, &found).await),
        None => None,
    };
    let mut set = settings(&connection, &wanted, &listed).await?;
    let summaries =
        wanted.into_iter().filter_map(|session| match (found.remove(&session), listed.get(&session)) {
            (Some(Ok((head, live_from))), Some(own)) => {
                let settings = set.remove(&session).unwrap_or_default();
                Some(summary(session, live_from, head, own, settings))
            }
            _ => None,
        });
    let mut sessions: Vec<Summary> = summaries.collect();
    let fitting = how_many_fit(&connection, &sessions);
    let next = match sessions.get(fitting) {
        // Drafts are long: the page ends before this one.
        Some(first) => order.iter().position(|session| *session == first.session).map(|at| start + at),
        None => rest,
    };
    sessions.truncate(fitting);
    if next.is_none() {
        forget_order(&connection, number);
    }
    let page = SyncPage {
        sessions,
        unresolved,
        total: u32::try_from(listed.len()).unwrap_or(u32::MAX),
        next: Blob(next.map(|at| token(number, at)).unwrap_or_default()),
        badge,
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

/// The user's sessions with the user's own cursors. A connection whose device was ended meanwhile is told so.
async fn own_sessions(connection: &Connection) -> Result<Listed, ErrorBody> {
    let (listed, epoch) = sessions_of(connection, connection.user()).await?;
    stands(connection, epoch);
    Ok(listed)
}

/// The sessions of a user with the user's own cursors, and the epoch of this connection's device there.
pub(super) async fn sessions_of(connection: &Connection, user: &UserId) -> Result<(Listed, u32), ErrorBody> {
    let router = &connection.core.router;
    let device = connection.device();
    let shard = router.shard_of(&EntityKey::User(user.clone()));
    let (mut listed, mut after) = (Listed::new(), None);
    loop {
        let read = Read::UserSessions { user: user.clone(), device: device.clone(), after: after.take() };
        let of_device = match router.read(shard, read, Freshness::Linearizable).await? {
            ReadReply::UserSessions { sessions, more, epoch } => {
                after = sessions.last().filter(|_| more).map(|last| last.session.clone());
                listed.extend(sessions.into_iter().map(|session| (session.session.clone(), session)));
                epoch
            }
            other => return Err(unexpected(&other)),
        };
        if after.is_none() {
            return Ok((listed, of_device));
        }
    }
}

/// How the user has set those of these sessions of which it has set anything.
async fn settings(
    connection: &Connection,
    wanted: &[SessionId],
    listed: &Listed,
) -> Result<HashMap<SessionId, Settings>, ErrorBody> {
    let is_set = |session: &&SessionId| listed.get(*session).is_some_and(|own| own.is_set);
    let sessions: Vec<SessionId> = wanted.iter().filter(is_set).cloned().collect();
    if sessions.is_empty() {
        return Ok(HashMap::new());
    }
    let (router, user) = (&connection.core.router, connection.user().clone());
    let shard = router.shard_of(&EntityKey::User(user.clone()));
    let read = Read::Settings { user, sessions: sessions.clone() };
    match router.read(shard, read, Freshness::Linearizable).await? {
        ReadReply::Settings(settings) => Ok(sessions.into_iter().zip(settings).collect()),
        other => Err(unexpected(&other)),
    }
}

/// What a first page begins with.
struct Begun {
    listed: Listed,
    active: Active,
    unresolved: Unresolved,
}

/// Attaches the connection to all the user's sessions, lets those go live of which he is a member, and fixes the order
/// of the pages. Returns his list, and what could not be learned.
async fn begin(connection: &Arc<Connection>) -> Result<Begun, ErrorBody> {
    let user = Topic::User(connection.user().clone());
    let shard = connection.core.router.shard_of_topic(&user);
    connection.core.router.attach(shard, receiver(connection), vec![user]).await;
    let named: Vec<SessionId> = own_sessions(connection).await?.into_keys().collect();
    attach(connection, &named).await;
    let active = activity(connection, &named).await;
    // Read again: where nothing was on its way to it, the list is right by now.
    let listed = own_sessions(connection).await?;
    let known = |(session, active): &(SessionId, Result<SessionActivity, ErrorCode>)| {
        Some((session.clone(), (*active).ok()?))
    };
    let table: Active = active.iter().filter_map(known).collect();
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
    Ok(Begun { listed, active: table, unresolved })
}

/// Sessions by the shard that owns them.
pub(super) fn by_shard(connection: &Connection, sessions: &[SessionId]) -> BTreeMap<u32, Vec<SessionId>> {
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
pub(super) async fn activity(
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
            let asked = chunk.iter().map(|session| asked_of(session, listed)).collect();
            let heads = heads(connection, connection.user(), shard, asked).await;
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

/// Which SYNC the pages are of, the sessions of one page, and where the next begins; none after the last.
fn slice(connection: &Connection, start: usize, limit: usize) -> (u64, Vec<SessionId>, Option<usize>) {
    let pages = connection.pages.lock();
    let Some(known) = pages.as_ref() else { return (0, Vec::new(), None) };
    let end = start.saturating_add(limit).min(known.order.len());
    let wanted = known.order.get(start..end).unwrap_or_default().to_vec();
    (known.number, wanted, (end < known.order.len()).then_some(end))
}

/// The list goes with the last page; the number stays, so that no later SYNC is mistaken for this one.
fn forget_order(connection: &Connection, number: u64) {
    if let Some(known) = connection.pages.lock().as_mut().filter(|known| known.number == number) {
        known.order = Vec::new();
    }
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

/// A session and what the user has of it.
pub(super) fn asked_of(session: &SessionId, listed: &Listed) -> Asked {
    let own = listed.get(session);
    Asked {
        session: session.clone(),
        seen_count: own.map_or(0, |own| own.seen_count),
        deleted: own.map(|own| own.deleted.clone()).unwrap_or_default(),
        burns: false,
    }
}

/// The heads of sessions of one shard as `user` sees them, for this connection's device.
pub(super) async fn heads(
    connection: &Connection,
    user: &UserId,
    shard: u32,
    asked: Vec<Asked>,
) -> Vec<(SessionId, Result<SessionHead, ErrorCode>)> {
    let sessions: Vec<SessionId> = asked.iter().map(|asked| asked.session.clone()).collect();
    let read = Read::Heads {
        user: user.clone(),
        device: connection.device().clone(),
        epoch: connection.epoch,
        sessions: asked,
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

fn summary(
    session: SessionId,
    live_from: u64,
    head: SessionHead,
    own: &UserSession,
    settings: Settings,
) -> Summary {
    Summary {
        session,
        members: head.members,
        first_seq: mask::first_seq(&settings, head.first_seq),
        last_seq: head.last_seq,
        count: head.count,
        unread: head.unread,
        joined_seq: head.joined_seq,
        read_seq: own.read_seq,
        delivered_seq: own.delivered_seq,
        last_client_seq: head.last_client_seq,
        live_from,
        time_ms: head.time_ms,
        last: mask::preview(&settings, head.last),
        settings,
    }
}
