//! WATCH: whose coming and going a connection is told, and the telling.
//!
//! A user is online while a device of it is connected to any node. This node knows its own connections, the router what
//! the others say of theirs. Changes are told at a steady pace: of one user at most once a second, and that somebody has
//! gone only once it stayed away for a second, so that a device that changes nodes is not seen to go. A connection with no
//! room for a push is told all its users anew when there is room.
//!
//! Who may watch whom: friends and those who have a direct session with each other, unless the watched user does not show it
//! or blocks the one who asks; and a service anybody.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_wire::frame::frame_bytes;
use rookery_wire::live::{Presence, PresenceLine, PresencePage, Watch, WatchMode, watched_at_once};
use rookery_wire::{ErrorBody, ErrorCode, Kind, UserId};
use tokio::time::Instant;

use super::bounds;
use super::connection::Connection;
use super::core::Core;
use super::own::frames_of;
use super::reads::{turn, unexpected};
use super::receipts::of_users;
use crate::shard::{Freshness, Read, ReadReply};
use crate::state::EntityKey;

/// How often changes are told.
const PACE: Duration = Duration::from_millis(250);
/// Least time between two words about one user, and before it is said to have gone.
const STEADY: Duration = Duration::from_secs(1);
/// Users watched on this node, counted for each connection: some hundred bytes each.
pub(super) const MOST: usize = 1_000_000;
/// Users in one PRESENCE.
const LINES: usize = 1000;

/// Whom one connection watches.
#[derive(Default)]
pub(super) struct Watching {
    users: HashSet<UserId>,
    /// The connection has ended: it watches nobody any more.
    over: bool,
}

/// Whom the connections of this node watch.
#[derive(Default)]
pub(super) struct Watches(Mutex<State>);

#[cfg(test)]
impl Watches {
    /// Counts as if so many were watched.
    pub(super) fn pretend(&self, pairs: usize) {
        self.0.lock().pairs = pairs;
    }
}

#[derive(Default)]
struct State {
    /// Connections of all of these, counted once for each user they watch.
    pairs: usize,
    users: HashMap<UserId, Watched>,
    /// Users that may have come or gone, and when that was first heard.
    moved: HashMap<UserId, Instant>,
    /// Connections that missed a word.
    behind: HashMap<u64, Arc<Connection>>,
}

impl State {
    /// A connection watches these users no longer; gives those whom nobody here watches any more.
    fn forget(&mut self, connection: u64, watching: &mut Watching, users: &[UserId]) -> Vec<UserId> {
        let mut idle = Vec::new();
        for user in users {
            if watching.users.remove(user)
                && let Some(watched) = self.users.get_mut(user)
            {
                let was = usize::from(watched.by.remove(&connection).is_some());
                let is_idle = watched.by.is_empty();
                self.pairs = self.pairs.saturating_sub(was);
                if is_idle {
                    self.users.remove(user);
                    self.moved.remove(user);
                    idle.push(user.clone());
                }
            }
        }
        idle
    }
}

/// A user that is watched.
struct Watched {
    by: HashMap<u64, Arc<Connection>>,
    /// What the watchers were told last …
    online: bool,
    /// … and when, if it was in a push.
    told: Option<Instant>,
}

/// Whether a device of the user is connected anywhere, as far as is known here.
fn is_online(core: &Core, user: &UserId) -> bool {
    core.delivery.online(user) || core.router.online_elsewhere(user)
}

/// WATCH.
pub(super) async fn watch(connection: Arc<Connection>, request: u32, asked: Watch) -> Result<(), ErrorBody> {
    let limit = connection.core.options.limits.watched as usize;
    bounds::WATCHED.hold(asked.users.len(), limit)?;
    let _turn = turn(&connection).await?;
    let Watch { mode, mut users } = asked;
    users.sort_unstable();
    users.dedup();
    let core = &connection.core;
    if mode == WatchMode::Remove {
        forget(&connection, &users);
        connection.reply(
            Kind::PresencePage,
            request,
            &PresencePage { users: Vec::new(), refused: Vec::new() },
        );
        return Ok(());
    }
    answerable(&users, core.options.limits.frame)?;
    let (known, mut refused) = acquainted(&connection, users).await?;
    let pairs: Vec<Pair> = known.iter().map(|user| (user.clone(), told_one(&connection))).collect();
    let seen = seen(core, &pairs, false, Freshness::Linearizable).await;
    let mut shown: BTreeMap<UserId, u64> = BTreeMap::new();
    for (user, seen) in known.into_iter().zip(seen) {
        match seen {
            Ok(Some(seen)) => drop(shown.insert(user, seen)),
            Ok(None) => refused.push((user, ErrorCode::NotAllowed)),
            Err(code) => refused.push((user, code)),
        }
    }
    if let Some(asked) = begin(&connection, &shown, mode == WatchMode::Replace, limit)? {
        core.router.watch_answered(asked).await;
    }
    let lines = shown.into_iter().map(|(user, seen)| {
        let online = is_online(core, &user);
        settle(core, &user, online);
        PresenceLine { user, online, last_seen_ms: if online { 0 } else { seen } }
    });
    let users = lines.collect();
    refused.sort_unstable();
    connection.reply(Kind::PresencePage, request, &PresencePage { users, refused });
    Ok(())
}

/// Whether a frame holds the answer, whatever it says of each: judged before anybody is asked, and without a page to turn
/// that nobody could turn back to.
fn answerable(users: &[UserId], frame: u32) -> Result<(), ErrorBody> {
    let most = watched_at_once(users, frame);
    if most == users.len() {
        return Ok(());
    }
    Err(bounds::WATCH_ANSWER.refusal(users.len(), most))
}

type Refused = Vec<(UserId, ErrorCode)>;
/// A user, and who is told of it.
pub(super) type Pair = (UserId, Option<UserId>);

/// Who is told on this connection; of a service nobody hides.
pub(super) fn told_one(connection: &Connection) -> Option<UserId> {
    (!connection.identity.service).then(|| connection.user().clone())
}

/// When each was last heard of; none where it is not shown. `in_group`: to members of one group, who need not know each other.
pub(super) async fn seen(
    core: &Core,
    pairs: &[Pair],
    in_group: bool,
    fresh: Freshness,
) -> Vec<Result<Option<u64>, ErrorCode>> {
    of_users(core, pairs, |(user, _)| user, fresh, |pairs| Read::Seen { pairs, in_group }).await
}

/// Those with whom the user has a direct session; a service knows everybody.
async fn acquainted(
    connection: &Connection,
    users: Vec<UserId>,
) -> Result<(Vec<UserId>, Refused), ErrorBody> {
    if connection.identity.service || users.is_empty() {
        return Ok((users, Vec::new()));
    }
    let router = &connection.core.router;
    let shard = router.shard_of(&EntityKey::User(connection.user().clone()));
    let read = Read::Acquainted { user: connection.user().clone(), with: users.clone() };
    let known = match router.read(shard, read, Freshness::Linearizable).await? {
        ReadReply::Acquainted(known) if known.len() == users.len() => known,
        other => return Err(unexpected(&other)),
    };
    let (known, strangers): (Vec<_>, Vec<_>) = users.into_iter().zip(known).partition(|(_, known)| *known);
    let strangers = strangers.into_iter().map(|(user, _)| (user, ErrorCode::NotAllowed));
    Ok((known.into_iter().map(|(user, _)| user).collect(), strangers.collect()))
}

/// The connection watches these users from now on, `alone` if no others; where there is no room for them it watches those that
/// it did. Where nobody here watched some of them before, the other nodes are asked of those: under the lock, so that they are
/// told in the order in which it changes here.
fn begin(
    connection: &Arc<Connection>,
    users: &BTreeMap<UserId, u64>,
    alone: bool,
    limit: usize,
) -> Result<Option<u64>, ErrorBody> {
    let core = &connection.core;
    let mut watching = connection.watching.lock();
    let new: Vec<UserId> = users.keys().filter(|user| !watching.users.contains(*user)).cloned().collect();
    let others = watching.users.iter().filter(|user| alone && !users.contains_key(*user));
    let others: Vec<UserId> = others.cloned().collect();
    bounds::WATCHED.hold(watching.users.len() - others.len() + new.len(), limit)?;
    if watching.over {
        return Ok(None);
    }
    let mut state = core.watches.0.lock();
    if (state.pairs + new.len()).saturating_sub(others.len()) > MOST {
        let text = format!("this node's connections watch {} users, at most {MOST} are held", state.pairs);
        return Err(ErrorBody::new(ErrorCode::Busy, text));
    }
    let idle = state.forget(connection.id, &mut watching, &others);
    state.pairs += new.len();
    let mut fresh = Vec::new();
    for user in new {
        let watched = state.users.entry(user.clone()).or_insert_with(|| {
            fresh.push(user.clone());
            Watched { by: HashMap::new(), online: core.delivery.online(&user), told: None }
        });
        watched.by.insert(connection.id, Arc::clone(connection));
        watching.users.insert(user);
    }
    let answers = !fresh.is_empty();
    let asked = core.router.watch(fresh, idle);
    Ok(answers.then_some(asked))
}

/// The connection watches these users no longer.
fn forget(connection: &Connection, users: &[UserId]) {
    let mut watching = connection.watching.lock();
    let mut state = connection.core.watches.0.lock();
    let idle = state.forget(connection.id, &mut watching, users);
    connection.core.router.watch(Vec::new(), idle);
}

/// The connection has ended.
pub(super) fn leave(connection: &Connection) {
    let users: Vec<UserId> = {
        let mut watching = connection.watching.lock();
        watching.over = true;
        watching.users.iter().cloned().collect()
    };
    forget(connection, &users);
    connection.core.watches.0.lock().behind.remove(&connection.id);
}

/// A device of the user has connected to this node, or gone from it.
pub(super) fn moved_here(core: &Core, user: &UserId) {
    moved(core, std::slice::from_ref(user));
    core.router.presence_moved(user);
}

/// These users may have come or gone.
pub(super) fn moved(core: &Core, users: &[UserId]) {
    let mut state = core.watches.0.lock();
    let State { users: watched, moved, .. } = &mut *state;
    for user in users.iter().filter(|user| watched.contains_key(*user)) {
        moved.entry(user.clone()).or_insert_with(Instant::now);
    }
}

/// A watcher is being told this in an answer: it is the state of things unless others were told something else.
fn settle(core: &Core, user: &UserId, online: bool) {
    let mut state = core.watches.0.lock();
    if let Some(watched) = state.users.get_mut(user) {
        if watched.by.len() == 1 {
            watched.online = online;
        } else if watched.online != online {
            state.moved.entry(user.clone()).or_insert_with(Instant::now);
        }
    }
}

/// Tells what has changed. Runs until the gateway ends.
pub(super) async fn run(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.cancel.cancelled() => return,
            () = tokio::time::sleep(PACE) => {}
        }
        let told = permitted(&core, changes(&core, Instant::now())).await;
        for (connection, lines) in told.into_values() {
            if !push(&connection, &lines) {
                core.watches.0.lock().behind.insert(connection.id, connection);
            }
        }
        catch_up(&core).await;
    }
}

type Told = HashMap<u64, (Arc<Connection>, Vec<PresenceLine>)>;

/// What is to be told now, by connection.
fn changes(core: &Core, now: Instant) -> Told {
    let moved: Vec<(UserId, Instant)> =
        core.watches.0.lock().moved.iter().map(|(user, since)| (user.clone(), *since)).collect();
    let mut told = Told::new();
    for (user, since) in moved {
        let online = is_online(core, &user);
        let mut state = core.watches.0.lock();
        let Some(watched) = state.users.get_mut(&user) else { continue };
        let is_news = online != watched.online;
        let early = watched.told.is_some_and(|at| now < at + STEADY) || (!online && now < since + STEADY);
        if is_news && early {
            continue;
        }
        if is_news {
            (watched.online, watched.told) = (online, Some(now));
            let gone_ms = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(0);
            let last_seen_ms = if online { 0 } else { core.clock.unix_ms().saturating_sub(gone_ms) };
            for (id, connection) in &watched.by {
                let line = PresenceLine { user: user.clone(), online, last_seen_ms };
                told.entry(*id).or_insert_with(|| (Arc::clone(connection), Vec::new())).1.push(line);
            }
        }
        state.moved.remove(&user);
    }
    told
}

/// What may still be told: a user may have blocked a watcher since. Then that one watches it no longer, and is not told
/// that. Where it cannot be learned, the connection is told when it can.
async fn permitted(core: &Core, told: Told) -> Told {
    let asks = |(connection, lines): &(Arc<Connection>, Vec<PresenceLine>)| {
        let one = told_one(connection);
        lines.iter().filter_map(|line| Some((line.user.clone(), Some(one.clone()?)))).collect::<Vec<Pair>>()
    };
    let pairs: Vec<Pair> = told.values().flat_map(asks).collect();
    // This node's own replica will do, where there is one.
    let facts = seen(core, &pairs, false, Freshness::AtLeast(0)).await;
    let facts: HashMap<Pair, _> = pairs.into_iter().zip(facts).collect();
    let mut permitted = Told::new();
    for (id, (connection, lines)) in told {
        let one = told_one(&connection);
        let (mut kept, mut hidden, mut unknown) = (Vec::new(), Vec::new(), false);
        for line in lines {
            match facts.get(&(line.user.clone(), one.clone())) {
                None | Some(Ok(Some(_))) => kept.push(line),
                Some(Ok(None)) => hidden.push(line.user),
                Some(Err(_)) => unknown = true,
            }
        }
        forget(&connection, &hidden);
        if unknown {
            core.watches.0.lock().behind.insert(id, Arc::clone(&connection));
        }
        permitted.insert(id, (connection, kept));
    }
    permitted
}

/// All of it or, if there is no room, a part of it and `false`.
fn push(connection: &Connection, lines: &[PresenceLine]) -> bool {
    frames_of(&connection.core, lines, LINES).all(|part| {
        let frame = frame_bytes(Kind::Presence, 0, &Presence { users: part.to_vec() });
        connection.out.spare(&frame)
    })
}

/// Connections that missed a word are told everything, once they have room.
async fn catch_up(core: &Core) {
    let behind = std::mem::take(&mut core.watches.0.lock().behind);
    let told = behind.into_iter().map(|(id, connection)| {
        let users: Vec<UserId> = connection.watching.lock().users.iter().cloned().collect();
        let line = |user: UserId| {
            let online = is_online(core, &user);
            PresenceLine { user, online, last_seen_ms: 0 }
        };
        (id, (connection, users.into_iter().map(line).collect()))
    });
    let told = told.collect();
    for (id, (connection, lines)) in permitted(core, told).await {
        if !push(&connection, &lines) && !connection.watching.lock().over {
            core.watches.0.lock().behind.insert(id, connection);
        }
    }
}
