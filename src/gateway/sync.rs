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
//!
//! With a mark of an earlier SYNC all this is the same, but that the pages have the sessions that changed since, and no
//! others are asked for their heads: [`super::since`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::join_all;
use parking_lot::Mutex;
use rookery_wire::own::Settings;
use rookery_wire::reply::{Summary, SyncPage};
use rookery_wire::request::Sync;
use rookery_wire::{Blob, ErrorBody, ErrorCode, Kind, SessionId, UserId};

use super::badge::{Active, badge};
use super::connection::{Connection, Handle};
use super::mask;
use super::own::how_many_fit;
use super::places::attach_to_user;
use super::reads::{turn, unexpected};
use super::since::{Comparison, Mark, Reached};
use super::standing::stands;
use crate::delivery::{Receiver, Topic};
use crate::shard::{
    Asked, Freshness, LeftSince, MAX_HEADS, Read, ReadReply, SessionActivity, SessionHead, UserSession,
};
use crate::state::EntityKey;

/// Sessions in one page.
const MAX_PAGE: u32 = 200;

/// The order of one SYNC, kept while its pages are turned.
pub(super) struct SyncPages {
    /// Which SYNC of this connection.
    number: u64,
    /// Newest activity first.
    order: Vec<SessionId>,
    comparison: Mutex<Comparison>,
}

/// What a session says of itself, and from which seq on its pushes are whole.
pub(super) type Found = Result<(SessionHead, u64), ErrorCode>;
pub(super) type Listed = HashMap<SessionId, UserSession>;
type Unresolved = Vec<(SessionId, ErrorCode)>;

/// SYNC.
pub(super) async fn page(connection: Arc<Connection>, request: u32, sync: Sync) -> Result<(), ErrorBody> {
    let _turn = turn(&connection).await?;
    let limit = sync.limit.clamp(1, MAX_PAGE) as usize;
    let (start, begun, pages) = match read_token(&sync.after.0)? {
        None => {
            let since = Mark::read(&connection, &sync.since)?;
            let (begun, pages) = begin(&connection, since).await?;
            (0, begun, pages)
        }
        Some((number, start)) => {
            let pages = connection.pages.lock().clone().filter(|pages| pages.number == number);
            let Some(pages) = pages else {
                let text = "`after` belongs to an older SYNC; begin again with an empty one";
                return Err(ErrorBody::new(ErrorCode::BadRequest, text));
            };
            let listed = own_sessions(&connection, None).await?.listed;
            (start, Begun { listed, ..Begun::default() }, pages)
        }
    };
    let Begun { listed, active, mut unresolved, mut left } = begun;
    let (order, rest) = pages.slice(start, limit);
    // One that has left the list since the first page is no session of the user's any more.
    let (wanted, gone): (Vec<SessionId>, Vec<SessionId>) =
        order.iter().cloned().partition(|session| listed.contains_key(session));
    if start > 0 {
        attach(&connection, &wanted).await;
    }
    let mut found = visit(&connection, &wanted, &listed).await;
    unresolved.extend(found.iter().filter_map(|(session, found)| failure(session, found)));
    left.extend(gone);
    left.extend(found.iter().filter(|(_, found)| is_gone(found)).map(|(session, _)| session.clone()));
    let badge = match &active {
        Some(active) => {
            let comparison = pages.comparison.lock().clone();
            let (badge, counted) = badge(&connection, &listed, active, &found, &comparison).await;
            pages.comparison.lock().counted(&connection, &badge, counted);
            Some(badge)
        }
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
    if pages.comparison.lock().is_full() {
        left.clear();
    }
    let beside = pages.beside() + rookery_wire::encode(&left).len() + rookery_wire::encode(&unresolved).len();
    if beside > connection.core.options.limits.frame as usize / 2 {
        let text = format!("{} sessions could not be asked; SYNC again in a moment", unresolved.len());
        return Err(ErrorBody::new(ErrorCode::Unavailable, text));
    }
    let fitting = how_many_fit(&connection.core, &sessions, beside);
    let next = match sessions.get(fitting) {
        // Drafts are long: the page ends before this one.
        Some(first) => order.iter().position(|session| *session == first.session).map(|at| start + at),
        None => rest,
    };
    sessions.truncate(fitting);
    let (full, mark) = {
        // What this page could not tell, no mark vouches for.
        let mut comparison = pages.comparison.lock();
        comparison.not_told(&connection, &unresolved);
        let mark = if next.is_none() { comparison.mark() } else { Blob::default() };
        (comparison.is_full(), mark)
    };
    if next.is_none() {
        forget_order(&connection, &pages);
    }
    let page = SyncPage {
        sessions,
        unresolved,
        left,
        mark,
        full,
        total: u32::try_from(listed.len()).unwrap_or(u32::MAX),
        next: Blob(next.map(|at| token(pages.number, at)).unwrap_or_default()),
        badge,
    };
    connection.reply(Kind::SyncPage, request, &page);
    Ok(())
}

fn receiver(connection: &Arc<Connection>) -> Arc<dyn Receiver> {
    Arc::new(Handle(Arc::clone(connection)))
}

/// The session has let the user go, and the user's list is about to.
fn is_gone(found: &Found) -> bool {
    matches!(found, Err(ErrorCode::NotMember))
}

/// What is named as unresolved. What is gone is not: it is named as left.
fn failure(session: &SessionId, found: &Found) -> Option<(SessionId, ErrorCode)> {
    let code = found.as_ref().err().filter(|_| !is_gone(found))?;
    Some((session.clone(), *code))
}

/// The user's sessions with the user's own cursors. A connection whose device was ended meanwhile is told so.
async fn own_sessions(connection: &Connection, left_since: Option<u64>) -> Result<OwnList, ErrorBody> {
    let doubt = connection.standing.doubt();
    let own = sessions_of(connection, connection.user(), left_since).await?;
    stands(connection, doubt, own.epoch);
    Ok(own)
}

/// A user's list as it was read.
#[derive(Default)]
pub(super) struct OwnList {
    /// The sessions with the user's own cursors.
    pub(super) listed: Listed,
    /// The epoch of this connection's device there …
    epoch: u32,
    /// … and the log index at which it came to be.
    pub(super) began: u64,
    /// All of the log up to here is in it.
    pub(super) index: u64,
    /// What was left, if that was asked.
    pub(super) left: LeftSince,
}

/// The sessions of a user with the user's own cursors, read in as many pages as it takes.
pub(super) async fn sessions_of(
    connection: &Connection,
    user: &UserId,
    left_since: Option<u64>,
) -> Result<OwnList, ErrorBody> {
    let router = &connection.core.router;
    let shard = router.shard_of(&EntityKey::User(user.clone()));
    let (mut own, mut after) = (OwnList::default(), None);
    for page in 0usize.. {
        let (user, device) = (user.clone(), connection.device().clone());
        let left_since = left_since.filter(|_| page == 0);
        let read = Read::UserSessions { user, device, after: after.take(), left_since };
        match router.read(shard, read, Freshness::Linearizable).await? {
            ReadReply::UserSessions { sessions, more, epoch, began, index, left } => {
                after = sessions.last().filter(|_| more).map(|last| last.session.clone());
                own.listed.extend(sessions.into_iter().map(|session| (session.session.clone(), session)));
                (own.epoch, own.began) = (epoch, began);
                if page == 0 {
                    // Later pages are newer: the list is as old as its first one.
                    (own.index, own.left) = (index, left);
                }
            }
            other => return Err(unexpected(&other)),
        }
        if after.is_none() {
            break;
        }
    }
    Ok(own)
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

/// What a page begins with; all but the list of the first one alone.
#[derive(Default)]
struct Begun {
    listed: Listed,
    active: Option<Active>,
    unresolved: Unresolved,
    left: Vec<SessionId>,
}

/// Attaches the connection to all the user's sessions, lets those go live of which he is a member, and fixes the order
/// of the pages. Returns his list, and what could not be learned. The order in which things are read is what marks rest on.
async fn begin(
    connection: &Arc<Connection>,
    since: Option<Mark>,
) -> Result<(Begun, Arc<SyncPages>), ErrorBody> {
    if !attach_to_user(connection).await {
        let text =
            "this node cannot be told of your sessions now; SYNC again in a moment, or at another node";
        return Err(ErrorBody::new(ErrorCode::Unavailable, text));
    }
    let first = own_sessions(connection, None).await?;
    let named: Vec<SessionId> = first.listed.keys().cloned().collect();
    attach(connection, &named).await;
    let (active, reached) = activity(connection, &named).await;
    // Read again: where nothing was on its way to it, the list is right by now.
    let second = own_sessions(connection, since.as_ref().map(Mark::own)).await?;
    // Who was let in between the two readings may have been let go since the mark, and then neither is "as before" nor left.
    let joined: Vec<SessionId> =
        second.listed.keys().filter(|session| !first.listed.contains_key(*session)).cloned().collect();
    attach(connection, &joined).await;
    let mut comparison = Comparison::new(connection, since, &first, &second, &reached);
    let OwnList { listed, left, .. } = second;
    let tells = |session: &SessionId, changed: u64| {
        let shard = connection.core.router.shard_of(&EntityKey::Session(session.clone()));
        comparison.tells(shard, listed.get(session).map_or(0, |own| own.changed), changed)
    };
    let known = |(session, active): &(SessionId, Result<SessionActivity, ErrorCode>)| {
        Some((session.clone(), (*active).ok()?))
    };
    let table: Active = active.iter().filter_map(known).collect();
    let (mut order, mut doubtful, mut unresolved) = (Vec::new(), Vec::new(), Unresolved::new());
    for (session, active) in active {
        let topic = Topic::Session(session.clone());
        match (active, listed.get(&session)) {
            (Ok(active), Some(own)) if active.settled => {
                match connection.core.delivery.presume(&topic, connection.id, own.joined_seq) {
                    // Also what has not changed is live now, from behind what the client knows of it. What came in after its
                    // shard was asked and before it was live here is not pushed: then the client is told where to pull.
                    Some(live_from) if live_from > active.last_seq + 1 || tells(&session, active.changed) => {
                        order.push((active.time_ms, session));
                    }
                    Some(_) => {}
                    None => unresolved.push((session, ErrorCode::Unavailable)),
                }
            }
            (Ok(active), Some(_)) => doubtful.push((session, active)),
            (Ok(_), None) => connection.core.delivery.dismiss(&topic, connection.id),
            (Err(code), _) => {
                // What is live stays so: whoever asked may be another than who counts on it.
                connection.core.delivery.dismiss(&topic, connection.id);
                unresolved.push((session, code));
            }
        }
    }
    let doubted = doubtful.iter().map(|(session, _)| session.clone());
    let asked: Vec<SessionId> = doubted.chain(joined).collect();
    let active: HashMap<SessionId, SessionActivity> = doubtful.into_iter().collect();
    let mut left = left.sessions;
    for (session, found) in visit(connection, &asked, &listed).await {
        unresolved.extend(failure(&session, &found));
        if is_gone(&found) {
            left.push(session);
            continue;
        }
        let Ok((head, live_from)) = found else { continue };
        let is_as_before =
            |active: &SessionActivity| live_from <= active.last_seq + 1 && !tells(&session, active.changed);
        if !active.get(&session).is_some_and(is_as_before) {
            order.push((head.time_ms, session));
        }
    }
    comparison.not_told(connection, &unresolved);
    let pages = set_order(connection, order, comparison);
    Ok((Begun { listed, active: Some(table), unresolved, left }, pages))
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

/// When sessions were active: one request per shard, and per [`MAX_HEADS`] of its sessions. With it, for each shard, up to
/// which index of its log all is in what it said of any of them; none for one that did not answer.
pub(super) async fn activity(
    connection: &Connection,
    sessions: &[SessionId],
) -> (Vec<(SessionId, Result<SessionActivity, ErrorCode>)>, Reached) {
    let asked = by_shard(connection, sessions).into_iter().map(|(shard, sessions)| async move {
        let mut all = Vec::with_capacity(sessions.len());
        let mut reached: Option<u64> = None;
        for chunk in sessions.chunks(MAX_HEADS) {
            let read = Read::Activity { sessions: chunk.to_vec() };
            let code = match connection.core.router.read(shard, read, Freshness::Linearizable).await {
                Ok(ReadReply::Activity { index, sessions: active }) if active.len() == chunk.len() => {
                    all.extend(chunk.iter().cloned().zip(active.into_iter().map(Ok)));
                    reached = Some(reached.map_or(index, |least| least.min(index)));
                    continue;
                }
                Ok(other) => unexpected(&other).code,
                Err(error) => error.code,
            };
            all.extend(chunk.iter().map(|session| (session.clone(), Err(code))));
        }
        (all, reached.map(|index| (shard, index)))
    });
    let (active, reached): (Vec<_>, Vec<_>) = join_all(asked).await.into_iter().unzip();
    (active.into_iter().flatten().collect(), reached.into_iter().flatten().collect())
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
            match code {
                // Where the list was all that spoke for it, what is pushed would never end.
                ErrorCode::NotMember => delivery.refute(&topic, connection.id),
                _ => delivery.dismiss(&topic, connection.id),
            }
            Err(code)
        }
    }
}

/// Fixes the order of the pages.
fn set_order(
    connection: &Connection,
    mut active: Vec<(u64, SessionId)>,
    comparison: Comparison,
) -> Arc<SyncPages> {
    active.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let order = active.into_iter().map(|(_, session)| session).collect();
    let mut pages = connection.pages.lock();
    let number = pages.as_ref().map_or(0, |pages| pages.number) + 1;
    let fixed = Arc::new(SyncPages { number, order, comparison: Mutex::new(comparison) });
    *pages = Some(Arc::clone(&fixed));
    fixed
}

impl SyncPages {
    /// Bytes of a page for its mark, be it the last one.
    fn beside(&self) -> usize {
        self.comparison.lock().mark().len()
    }

    /// The sessions of one page, and where the next begins; none after the last.
    fn slice(&self, start: usize, limit: usize) -> (Vec<SessionId>, Option<usize>) {
        let end = start.saturating_add(limit).min(self.order.len());
        let wanted = self.order.get(start..end).unwrap_or_default().to_vec();
        (wanted, (end < self.order.len()).then_some(end))
    }
}

/// The list goes with the last page; the number stays, so that no later SYNC is mistaken for this one.
fn forget_order(connection: &Connection, told: &SyncPages) {
    if let Some(known) = connection.pages.lock().as_mut().filter(|known| known.number == told.number) {
        let comparison = Mutex::new(told.comparison.lock().clone());
        *known = Arc::new(SyncPages { number: told.number, order: Vec::new(), comparison });
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
        // No device has what is not there, whatever one of them has said.
        delivered_seq: own.delivered_seq.min(head.last_seq),
        last_client_seq: head.last_client_seq,
        live_from,
        time_ms: head.time_ms,
        last: mask::preview(&settings, head.last),
        settings,
    }
}
