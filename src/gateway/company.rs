//! WATCH_SESSION: who of a group is online, told to the members who want to know.
//!
//! Somebody is there in a group while a connection of its, at any node, is attached to it as a member's; so nothing is looked up
//! for members who are away, and who is removed is gone from it, and told nothing more, by the entry that removes it. Each
//! group is looked at once for all who watch it on this node, when somebody came or went, and at most once a second; at most
//! `limits.watched_members` are named, the others counted. What is said goes through [`super::watch::seen`], as for those who
//! are watched by name.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_wire::frame::frame_bytes;
use rookery_wire::live::{PresenceLine, SessionPresence, WatchSession, named_at_once};
use rookery_wire::request::ListMembers;
use rookery_wire::{ErrorBody, ErrorCode, Kind, SessionId, UserId};
use tokio::time::Instant;

use super::bounds;
use super::connection::Connection;
use super::core::Core;
use super::reads::turn;
use super::watch::{Pair, seen, told_one};
use crate::delivery::Company;
use crate::shard::{Freshness, Read};
use crate::state::EntityKey;

/// How often it is looked for changes.
const PACE: Duration = Duration::from_millis(250);
/// Least time between two words about one group, and before somebody is said to have gone.
const STEADY: Duration = Duration::from_secs(1);
/// Connections that watch groups, counted once for each group, and members named: so many on this node.
const MOST: usize = 1_000_000;
/// Lines told in one turn, counted for each connection that is told; what is left is told in the next ones.
const WORDS: usize = 10_000;

/// Which groups one connection watches.
#[derive(Default)]
pub(super) struct Watching {
    sessions: HashSet<SessionId>,
    /// The connection has ended: it watches none any more.
    over: bool,
}

/// The groups that connections of this node watch.
#[derive(Default)]
pub(super) struct Groups(Mutex<State>);

#[derive(Default)]
struct State {
    /// Connections of all of these, counted once for each group.
    pairs: usize,
    sessions: HashMap<SessionId, Group>,
    /// Where somebody may have come or gone, or has still to be told.
    moved: BTreeSet<SessionId>,
    /// The last one that was looked at: the next turn begins behind it.
    last: Option<SessionId>,
}

#[derive(Default)]
struct Group {
    by: BTreeMap<u64, Watcher>,
    /// Who is said to be online; since when one is not any more of whom that has still to be said.
    shown: BTreeMap<UserId, Option<Instant>>,
    others: usize,
    /// When something was said last …
    told: Option<Instant>,
    /// … and whether that was not all.
    unfinished: bool,
}

struct Watcher {
    connection: Arc<Connection>,
    /// It missed a word, and is told everything when it can be.
    behind: bool,
}

/// What is to be told to one connection.
struct Word {
    connection: Arc<Connection>,
    body: SessionPresence,
    /// It says something though it has no line.
    counted: bool,
}

/// What has changed in a group.
struct News {
    lines: Vec<PresenceLine>,
    /// How many others there are.
    counted: bool,
    /// Something has still to be said, or to be waited for.
    again: bool,
}

/// WATCH_SESSION.
pub(super) async fn watch(
    connection: Arc<Connection>,
    request: u32,
    asked: WatchSession,
) -> Result<(), ErrorBody> {
    let WatchSession { session, on } = asked;
    if !matches!(session, SessionId::Group(_)) {
        let text = "a direct session is not watched: WATCH the other user";
        return Err(ErrorBody::new(ErrorCode::BadRequest, text));
    }
    let _turn = turn(&connection).await?;
    let core = &connection.core;
    if !on {
        forget(&connection, &session);
        let body = SessionPresence { session, whole: true, users: Vec::new(), others: 0 };
        connection.reply(Kind::SessionPresence, request, &body);
        return Ok(());
    }
    is_member(&connection, &session).await?;
    let asked = begin(&connection, &session)?;
    core.router.watch_answered(asked).await;
    let users: Vec<UserId> = {
        let mut state = core.groups.0.lock();
        let Some(group) = state.sessions.get_mut(&session) else { return Err(over()) };
        if group.told.is_none() && group.shown.is_empty() {
            // The first who asks: nobody was told anything else.
            let company = core.router.company(&session, &BTreeSet::new());
            group.others = company.total - company.named.len();
            group.shown = company.named.into_iter().map(|user| (user, None)).collect();
        }
        group.shown.keys().cloned().collect()
    };
    let pairs: Vec<Pair> = users.into_iter().map(|user| (user, told_one(&connection))).collect();
    let facts = seen(core, &pairs, true, Freshness::Linearizable).await;
    let facts: HashMap<UserId, _> = pairs.into_iter().map(|(user, _)| user).zip(facts).collect();
    let body = {
        let mut state = core.groups.0.lock();
        let State { sessions, moved, .. } = &mut *state;
        let Some(group) = sessions.get_mut(&session) else { return Err(over()) };
        let most = most_named(core);
        let unknown = group.shown.keys().any(|user| !matches!(facts.get(user), Some(Ok(_))));
        if unknown && let Some(watcher) = group.by.get_mut(&connection.id) {
            watcher.behind = true;
            moved.insert(session.clone());
        }
        let known = group.shown.keys().filter(|user| matches!(facts.get(*user), Some(Ok(Some(_)))));
        let users = known.take(most).map(|user| line(user, None)).collect();
        SessionPresence { session, whole: true, users, others: group.others as u32 }
    };
    connection.reply(Kind::SessionPresence, request, &body);
    Ok(())
}

/// Members that are named at once.
fn most_named(core: &Core) -> usize {
    let limits = &core.options.limits;
    named_at_once(limits.watched_members, limits.frame)
}

fn over() -> ErrorBody {
    ErrorBody::new(ErrorCode::Unavailable, "the watch was ended by another request of this connection")
}

fn line(user: &UserId, gone_ms: Option<u64>) -> PresenceLine {
    PresenceLine { user: user.clone(), online: gone_ms.is_none(), last_seen_ms: gone_ms.unwrap_or(0) }
}

/// Refuses who is no member; of a group that is there a service may ask.
async fn is_member(connection: &Connection, session: &SessionId) -> Result<(), ErrorBody> {
    let router = &connection.core.router;
    let shard = router.shard_of(&EntityKey::Session(session.clone()));
    let user = (!connection.identity.service).then(|| connection.user().clone());
    let list = ListMembers { session: session.clone(), after: None, limit: 1 };
    router.read(shard, Read::Members { user, list }, Freshness::Linearizable).await.map(drop)
}

/// The connection watches the group from now on. Gives the number of the question to the other nodes.
fn begin(connection: &Arc<Connection>, session: &SessionId) -> Result<u64, ErrorBody> {
    let core = &connection.core;
    let limit = core.options.limits.watched_sessions as usize;
    let mut watching = connection.groups.lock();
    if watching.over {
        return Err(over());
    }
    if watching.sessions.contains(session) {
        return Ok(core.router.watch_sessions(Vec::new(), Vec::new()));
    }
    bounds::GROUPS_WATCHED.hold(watching.sessions.len() + 1, limit)?;
    let mut state = core.groups.0.lock();
    let named: usize =
        if state.pairs < MOST / 2 { 0 } else { state.sessions.values().map(|g| g.shown.len()).sum() };
    if state.pairs + named >= MOST {
        let text =
            format!("this node's connections watch groups {} times, at most {MOST} are held", state.pairs);
        return Err(ErrorBody::new(ErrorCode::Busy, text));
    }
    state.pairs += 1;
    watching.sessions.insert(session.clone());
    let is_new = !state.sessions.contains_key(session);
    let group = state.sessions.entry(session.clone()).or_default();
    group.by.insert(connection.id, Watcher { connection: Arc::clone(connection), behind: false });
    // Under the lock, so that the router is told in the order in which it changes here.
    let add = if is_new { vec![session.clone()] } else { Vec::new() };
    Ok(core.router.watch_sessions(add, Vec::new()))
}

/// The connection watches the group no longer.
fn forget(connection: &Connection, session: &SessionId) {
    let mut watching = connection.groups.lock();
    if !watching.sessions.remove(session) {
        return;
    }
    let mut state = connection.core.groups.0.lock();
    let Some(group) = state.sessions.get_mut(session) else { return };
    let was = usize::from(group.by.remove(&connection.id).is_some());
    let is_idle = group.by.is_empty();
    state.pairs = state.pairs.saturating_sub(was);
    if is_idle {
        state.sessions.remove(session);
        state.moved.remove(session);
        connection.core.router.watch_sessions(Vec::new(), vec![session.clone()]);
    }
}

/// The connection has ended.
pub(super) fn leave(connection: &Connection) {
    let sessions: Vec<SessionId> = {
        let mut watching = connection.groups.lock();
        watching.over = true;
        watching.sessions.iter().cloned().collect()
    };
    for session in &sessions {
        forget(connection, session);
    }
}

/// In these groups somebody may have come or gone.
pub(super) fn moved(core: &Core, sessions: &[SessionId]) {
    let mut state = core.groups.0.lock();
    let State { sessions: watched, moved, .. } = &mut *state;
    moved.extend(sessions.iter().filter(|session| watched.contains_key(*session)).cloned());
}

/// Tells what has changed. Runs until the gateway ends.
pub(super) async fn run(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.cancel.cancelled() => return,
            () = tokio::time::sleep(PACE) => {}
        }
        let words = words(&core, Instant::now());
        for word in permitted(&core, words).await {
            let Word { connection, body, .. } = word;
            // Asked last: who has been removed meanwhile is told nothing more.
            let is_told = may_hear(&core, &body.session, &connection)
                && connection.out.spare(&frame_bytes(Kind::SessionPresence, 0, &body));
            if !is_told {
                is_behind(&core, &body.session, connection.id);
            }
        }
    }
}

/// Whether it is attached as a member's, or a service's.
fn may_hear(core: &Core, session: &SessionId, connection: &Connection) -> bool {
    connection.identity.service || core.delivery.is_of_member(session, connection.id)
}

/// A connection was not told a word, and is told everything later: the group is looked at again when it is attached, or soon
/// if it is.
fn is_behind(core: &Core, session: &SessionId, connection: u64) {
    let mut state = core.groups.0.lock();
    let State { sessions, moved, .. } = &mut *state;
    if let Some(watcher) = sessions.get_mut(session).and_then(|group| group.by.get_mut(&connection)) {
        watcher.behind = true;
        moved.insert(session.clone());
    }
}

/// What is to be told now: of as many groups as one turn tells.
fn words(core: &Core, now: Instant) -> Vec<Word> {
    let now_ms = core.clock.unix_ms();
    let (mut words, mut left) = (Vec::new(), WORDS);
    for session in waiting(&core.groups) {
        if left == 0 {
            break;
        }
        let mut state = core.groups.0.lock();
        let State { sessions, moved, last, .. } = &mut *state;
        let Some(group) = sessions.get_mut(&session) else { continue };
        *last = Some(session.clone());
        if group.told.is_some_and(|at| now < at + STEADY) && !group.unfinished {
            continue;
        }
        let company = core.router.company(&session, &group.shown.keys().cloned().collect());
        let most = (left / group.by.len().max(1)).max(1);
        let News { lines, counted, mut again } = group.take(company, most, now, now_ms);
        left = left.saturating_sub(lines.len() * group.by.len());
        let named = most_named(core);
        let Group { by, shown, others, .. } = group;
        for watcher in by.values_mut() {
            let body = |whole, users, others: usize| SessionPresence {
                session: session.clone(),
                whole,
                users,
                others: others as u32,
            };
            let connection = Arc::clone(&watcher.connection);
            if !may_hear(core, &session, &connection) {
                // Looked at again when it is attached.
                watcher.behind = true;
            } else if watcher.behind && left == 0 {
                again = true;
            } else if std::mem::take(&mut watcher.behind) {
                left = left.saturating_sub(shown.len().max(1));
                let users: Vec<_> = shown.keys().take(named).map(|user| line(user, None)).collect();
                let more = *others + (shown.len() - users.len());
                words.push(Word { connection, body: body(true, users, more), counted: true });
            } else if counted || !lines.is_empty() {
                words.push(Word { connection, body: body(false, lines.clone(), *others), counted });
            }
        }
        if !again {
            moved.remove(&session);
        }
    }
    words
}

impl Group {
    /// Takes over who is there now, with at most so many lines of news.
    fn take(&mut self, company: Company, most: usize, now: Instant, now_ms: u64) -> News {
        let others = company.total - company.named.len();
        let counted = std::mem::replace(&mut self.others, others) != others;
        let mut news = News { lines: Vec::new(), counted, again: false };
        for user in &company.named {
            match self.shown.get_mut(user) {
                Some(gone) => *gone = None,
                None if news.lines.len() < most => {
                    self.shown.insert(user.clone(), None);
                    news.lines.push(line(user, None));
                }
                None => news.again = true,
            }
        }
        let away = self.shown.iter_mut().filter(|(user, _)| !company.named.contains(*user));
        for (user, since) in away {
            let gone = now.duration_since(*since.get_or_insert(now));
            if gone >= STEADY && news.lines.len() < most {
                let gone_ms = u64::try_from(gone.as_millis()).unwrap_or(0);
                news.lines.push(line(user, Some(now_ms.saturating_sub(gone_ms))));
            } else {
                news.again = true;
            }
        }
        for line in news.lines.iter().filter(|line| !line.online) {
            self.shown.remove(&line.user);
        }
        if counted || !news.lines.is_empty() {
            self.told = Some(now);
        }
        self.unfinished = news.again && news.lines.len() >= most;
        news
    }
}

/// What may still be told: somebody may not show itself to this one. Where it cannot be learned, the connection is told when
/// it can.
async fn permitted(core: &Core, words: Vec<Word>) -> Vec<Word> {
    let asks = |word: &Word| {
        let one = told_one(&word.connection);
        word.body
            .users
            .iter()
            .filter_map(|line| Some((line.user.clone(), Some(one.clone()?))))
            .collect::<Vec<Pair>>()
    };
    let pairs: BTreeSet<Pair> = words.iter().flat_map(asks).collect();
    let pairs: Vec<Pair> = pairs.into_iter().collect();
    // This node's own replica will do, where there is one.
    let facts = seen(core, &pairs, true, Freshness::AtLeast(0)).await;
    let facts: HashMap<Pair, _> = pairs.into_iter().zip(facts).collect();
    let judged = words.into_iter().filter_map(|mut word| {
        let (one, mut unknown) = (told_one(&word.connection), false);
        word.body.users.retain(|line| match facts.get(&(line.user.clone(), one.clone())) {
            None | Some(Ok(Some(_))) => true,
            Some(Ok(None)) => false,
            Some(Err(_)) => {
                unknown = true;
                false
            }
        });
        if unknown {
            is_behind(core, &word.body.session, word.connection.id);
        }
        // An empty word would say that somebody moved who does not show it.
        (word.counted || !word.body.users.is_empty()).then_some(word)
    });
    judged.collect()
}

/// The groups that are to be looked at, from behind the last one on.
fn waiting(groups: &Groups) -> Vec<SessionId> {
    let state = groups.0.lock();
    let behind = |session: &&SessionId| state.last.as_ref().is_none_or(|last| *session > last);
    let (mut first, then): (Vec<_>, Vec<_>) = state.moved.iter().partition(behind);
    first.extend(then);
    first.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn company(names: &[&str], total: usize) -> Company {
        Company { named: names.iter().map(|name| UserId::new(name).unwrap()).collect(), total }
    }

    fn said(news: &News) -> Vec<(&str, bool)> {
        news.lines.iter().map(|line| (line.user.as_str(), line.online)).collect()
    }

    #[test]
    fn who_goes_is_said_to_have_gone_a_second_later_unless_it_is_back() {
        let (mut group, start) = (Group::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let news = group.take(company(&["ann", "bob"], 2), 10, start, 9_000);
        assert_eq!((said(&news), news.again), (vec![("ann", true), ("bob", true)], false));
        let news = group.take(company(&[], 0), 10, at(100), 9_100);
        assert_eq!((said(&news), news.again), (vec![], true));
        let news = group.take(company(&["ann"], 1), 10, at(600), 9_600);
        assert_eq!((said(&news), news.again), (vec![], true), "ann is back, of bob it is not said yet");
        let news = group.take(company(&["ann"], 1), 10, at(1_100), 10_100);
        assert_eq!((said(&news), news.again), (vec![("bob", false)], false));
        assert_eq!(news.lines[0].last_seen_ms, 9_100, "since when it is away");
        assert!(said(&group.take(company(&["ann"], 1), 10, at(2_000), 11_000)).is_empty());
    }

    #[test]
    fn what_is_too_much_for_one_turn_is_said_in_the_next_and_others_are_counted() {
        let (mut group, now) = (Group::default(), Instant::now());
        let three = || company(&["ann", "bob", "cid"], 8);
        let news = group.take(three(), 2, now, 0);
        assert_eq!((said(&news), news.counted, news.again), (vec![("ann", true), ("bob", true)], true, true));
        assert!(group.unfinished, "so the next turn needs not wait");
        let news = group.take(three(), 2, now, 0);
        assert_eq!((said(&news), news.counted, news.again), (vec![("cid", true)], false, false));
        assert_eq!((group.others, group.unfinished), (5, false));
    }
}
