//! Who is online at which node, of those whom somebody watches.
//!
//! A node tells the others whom its connections watch; each tells back which of these are connected to it, and from then on
//! when that changes. So a node remembers whom it watches and whom others do, and not all who are online. What one node
//! said of its users is forgotten when its link breaks, and asked for anew when it is back; who missed a word is told
//! everything again. Nothing of this is replicated. Sessions are watched in the same way ([`super::companies`]): who of their
//! members is there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_wire::{SessionId, UserId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::companies::{Companies, CompanyNews};
use super::core::Core;
use super::peer::{self, Cast, Subjects};
use crate::delivery::Company;

/// Users in one message.
const MESSAGE: usize = 1000;
/// Pause between looks at the links.
const TICK: Duration = Duration::from_millis(100);
/// How long a node may take to answer what it is asked over a new link, before it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long one who begins to watch waits for the other nodes; who answers later is told of when it does.
const ANSWERS: Duration = Duration::from_millis(500);

/// What this node knows of presence elsewhere, and owes the others.
#[derive(Default)]
pub(super) struct Presence {
    state: Mutex<State>,
    answered: Notify,
}

#[derive(Default)]
struct State {
    /// Whom connections of this node watch, and at which other nodes these are.
    watched: HashMap<UserId, BTreeSet<u16>>,
    /// Whom other nodes watch.
    wanted: HashMap<u16, HashSet<UserId>>,
    /// Who is there in sessions.
    companies: Companies,
    /// Nodes that were told all that is watched here.
    told: HashMap<u16, Told>,
    /// Nodes that missed something this node had to tell them.
    missed: BTreeSet<u16>,
    /// The last number of a question.
    number: u64,
}

/// Users who may have come or gone, and sessions in which somebody may have.
#[derive(Default)]
struct Moved {
    users: Vec<UserId>,
    sessions: Vec<SessionId>,
}

#[derive(Clone, Copy)]
struct Told {
    /// Over which generation of the link.
    generation: u64,
    /// The last question it has answered.
    answered: u64,
    /// The number under which it was asked of all, and when. A node that starts drops what comes before it has a router.
    asked: (u64, Instant),
}

impl State {
    /// A node's word does not count any more; who was online by it alone may not be.
    fn forget(&mut self, node: u16) -> Moved {
        self.told.remove(&node);
        let lost = self.watched.iter_mut().filter_map(|(user, at)| at.remove(&node).then(|| user.clone()));
        Moved { users: lost.collect(), sessions: self.companies.forget(node) }
    }
}

fn cast(core: &Core, node: u16, message: &Cast, users: usize) -> bool {
    core.link(node).is_some() && core.peers.cast(node, peer::encode(message, users * 72)).is_ok()
}

/// Connections here begin to watch some, and nobody here watches some others any more. Gives the question's number.
pub(super) fn watch(core: &Core, add: Subjects, remove: Subjects) -> u64 {
    let mut state = core.presence.state.lock();
    let size = add.len() + remove.len();
    if size == 0 {
        return state.number;
    }
    state.number += 1;
    let number = state.number;
    for user in &add.users {
        state.watched.entry(user.clone()).or_default();
    }
    for user in &remove.users {
        state.watched.remove(user);
    }
    state.companies.watch(&core.delivery, core.options.named, &add.sessions);
    state.companies.leave(&core.delivery, &remove.sessions);
    let message = Cast::Watch { number, fresh: false, add, remove };
    let told: Vec<u16> = state.told.keys().copied().collect();
    for node in told {
        if !cast(core, node, &message, size) {
            // Told everything again, soon.
            state.told.remove(&node);
        }
    }
    number
}

/// Waits a moment for what the other nodes say to a question. Those that do not answer in time are taken for empty until
/// they do.
pub(super) async fn answered(core: &Core, number: u64) {
    let _ = tokio::time::timeout(ANSWERS, all_answered(core, number)).await;
}

async fn all_answered(core: &Core, number: u64) {
    loop {
        let answered = core.presence.answered.notified();
        tokio::pin!(answered);
        answered.as_mut().enable();
        let nodes: Vec<u16> =
            core.peers.nodes().into_iter().filter(|node| core.link(*node).is_some()).collect();
        {
            let state = core.presence.state.lock();
            if nodes.iter().all(|node| state.told.get(node).is_some_and(|told| told.answered >= number)) {
                return;
            }
        }
        answered.await;
    }
}

/// Whether a watched user is connected to another node.
pub(super) fn elsewhere(core: &Core, user: &UserId) -> bool {
    core.presence.state.lock().watched.get(user).is_some_and(|at| !at.is_empty())
}

/// Who is there in a session that is watched here.
pub(super) fn company(core: &Core, session: &SessionId, before: &BTreeSet<UserId>) -> Company {
    core.presence.state.lock().companies.company(session, before, core.options.named)
}

/// A device of this user has come to this node, or gone.
pub(super) fn moved(core: &Core, user: &UserId) {
    let mut state = core.presence.state.lock();
    let nodes: Vec<u16> =
        state.wanted.iter().filter(|(_, users)| users.contains(user)).map(|(node, _)| *node).collect();
    if nodes.is_empty() {
        return;
    }
    let Some(places) = core.greetings.places() else { return };
    // Looked at and said under the lock, so that the last word is the true one.
    let users = vec![(user.clone(), places.online(user))];
    let message = Cast::Present { number: 0, whole: false, users, companies: Vec::new() };
    for node in nodes {
        if !cast(core, node, &message, 1) {
            state.missed.insert(node);
        }
    }
}

/// Another node watches these, and those no longer; `fresh`: and nothing else.
pub(super) fn asked(core: &Core, from: u16, (number, fresh): (u64, bool), add: Subjects, remove: &Subjects) {
    let mut state = core.presence.state.lock();
    if fresh {
        state.companies.unwanted(&core.delivery, from, None);
    }
    state.companies.unwanted(&core.delivery, from, Some(&remove.sessions));
    let companies = state.companies.wanted(&core.delivery, core.options.named, from, &add.sessions);
    let wanted = state.wanted.entry(from).or_default();
    if fresh {
        wanted.clear();
    }
    for user in &remove.users {
        wanted.remove(user);
    }
    let Some(places) = core.greetings.places() else {
        // This node starts, and takes no connections yet. The question is not asked again.
        wanted.extend(add.users);
        state.missed.insert(from);
        return;
    };
    let users =
        add.users.iter().filter(|user| places.online(user)).map(|user| (user.clone(), true)).collect();
    wanted.extend(add.users);
    if !tell(core, from, (number, false), users, companies) {
        state.missed.insert(from);
    }
}

/// Another node says who is connected to it; `whole`: nobody else of those that are watched.
pub(super) fn told(
    core: &Core,
    from: u16,
    (number, whole): (u64, bool),
    users: &[(UserId, bool)],
    companies: Vec<CompanyNews>,
) {
    let mut changed = HashSet::new();
    let mut sessions;
    {
        let mut state = core.presence.state.lock();
        let State { watched, told, companies: known, .. } = &mut *state;
        // What was said before this node had asked over the link as it is now is repeated in the answer.
        let Some(told) = told.get_mut(&from) else { return };
        told.answered = told.answered.max(number);
        sessions = if whole { known.forget(from) } else { Vec::new() };
        if whole {
            let lost = watched.iter_mut().filter_map(|(user, at)| at.remove(&from).then(|| user.clone()));
            changed.extend(lost);
        }
        for (user, online) in users {
            let Some(at) = watched.get_mut(user) else { continue };
            if if *online { at.insert(from) } else { at.remove(&from) } {
                changed.insert(user.clone());
            }
        }
        sessions.extend(known.told(from, companies));
    }
    core.presence.answered.notify_waiters();
    tell_places(core, &Moved { users: changed.into_iter().collect(), sessions });
}

fn tell_places(core: &Core, moved: &Moved) {
    let Some(places) = core.greetings.places() else { return };
    if !moved.users.is_empty() {
        places.moved(&moved.users);
    }
    if !moved.sessions.is_empty() {
        places.companies_moved(&moved.sessions);
    }
}

/// Looks after the links. Runs until the router stops.
pub(super) async fn keep(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.cancel.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
        for node in core.peers.nodes() {
            let lost = look_at(&core, node);
            tell_places(&core, &lost);
        }
        look_around(&core);
    }
}

/// Forgets what a node said over a link that is gone, asks it anew over a new one, and makes good what it missed. Gives
/// those of whom something was forgotten.
fn look_at(core: &Core, node: u16) -> Moved {
    let generation = core.link(node);
    let mut state = core.presence.state.lock();
    let known = state.told.get(&node).map(|told| told.generation);
    let waits = |told: &Told| told.answered < told.asked.0 && told.asked.1.elapsed() > ASK_AGAIN;
    if known == generation && state.told.get(&node).is_some_and(waits) {
        let asked = (state.number, Instant::now());
        let heard = ask_all(core, node, &state);
        state.told.get_mut(&node).into_iter().for_each(|told| told.asked = asked);
        if !heard {
            state.told.remove(&node);
        }
    }
    let mut lost = Moved::default();
    if known != generation {
        lost = state.forget(node);
        if let Some(generation) = generation {
            let asked = (state.number, Instant::now());
            state.told.insert(node, Told { generation, answered: 0, asked });
            if !ask_all(core, node, &state) {
                state.told.remove(&node);
            }
        }
    }
    if generation.is_some() && state.missed.contains(&node) && tell_all(core, node, &state) {
        state.missed.remove(&node);
    }
    lost
}

/// Tells what has changed in sessions by this node's own connections.
fn look_around(core: &Core) {
    let mut state = core.presence.state.lock();
    let (news, sessions) = state.companies.look(&core.delivery, core.options.named);
    for (node, companies) in news {
        if !tell(core, node, (0, false), Vec::new(), companies) {
            state.missed.insert(node);
        }
    }
    drop(state);
    tell_places(core, &Moved { users: Vec::new(), sessions });
}

fn ask_all(core: &Core, node: u16, state: &State) -> bool {
    let users: Vec<UserId> = state.watched.keys().cloned().collect();
    let sessions = state.companies.here();
    let mut parts: Vec<Subjects> = Vec::new();
    parts.extend(users.chunks(MESSAGE).map(|part| Subjects { users: part.to_vec(), ..Subjects::default() }));
    parts.extend(
        sessions.chunks(MESSAGE).map(|part| Subjects { sessions: part.to_vec(), ..Subjects::default() }),
    );
    if parts.is_empty() {
        parts.push(Subjects::default());
    }
    let last = parts.len() - 1;
    parts.into_iter().enumerate().all(|(at, add)| {
        let (number, size) = (if at == last { state.number } else { 0 }, add.len());
        let message = Cast::Watch { number, fresh: at == 0, add, remove: Subjects::default() };
        cast(core, node, &message, size)
    })
}

fn tell_all(core: &Core, node: u16, state: &State) -> bool {
    let Some(places) = core.greetings.places() else { return false };
    let wanted = state.wanted.get(&node).into_iter().flatten();
    let users: Vec<_> = wanted.filter(|user| places.online(user)).map(|user| (user.clone(), true)).collect();
    // Whoever waits for an answer that was among what was missed waits to the end of its patience.
    tell(core, node, (0, true), users, state.companies.all_for(node))
}

/// Says all of this, in as many messages as it takes: `whole` in the first, the number in the last.
fn tell(
    core: &Core,
    node: u16,
    (number, whole): (u64, bool),
    users: Vec<(UserId, bool)>,
    companies: Vec<CompanyNews>,
) -> bool {
    let mut parts: Vec<(Vec<(UserId, bool)>, Vec<CompanyNews>)> =
        users.chunks(MESSAGE).map(|part| (part.to_vec(), Vec::new())).collect();
    let mut room = 0;
    for news in companies {
        let size = news.names();
        match parts.last_mut() {
            Some((_, part)) if size <= room => part.push(news),
            _ => {
                room = MESSAGE.max(size);
                parts.push((Vec::new(), vec![news]));
            }
        }
        room -= size;
    }
    if parts.is_empty() {
        parts.push(Default::default());
    }
    let last = parts.len() - 1;
    parts.into_iter().enumerate().all(|(at, (users, companies))| {
        let size = users.len() + companies.iter().map(CompanyNews::names).sum::<usize>();
        let number = if at == last { number } else { 0 };
        let message = Cast::Present { number, whole: whole && at == 0, users, companies };
        cast(core, node, &message, size)
    })
}
