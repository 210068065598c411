//! Delivered cursors: gathered per connection, replicated a few times a second, in one command per device.
//!
//! The same command says that the device is in use, by which the one used least recently makes room for another and "last
//! seen" is told. So one without cursors goes when a device connects again, when its connection ends, and once an hour
//! between, unless cursors have gone lately.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rookery_wire::{Retry, SessionId};
use tokio::time::Instant;

use super::check::MAX_CURSORS;
use super::connection::Connection;
use super::core::Core;
use crate::router::{Request, Waiter};
use crate::shard::Answer;
use crate::state::{Command, EntityKey};

/// Cursors in one command.
const COMMAND_CURSORS: usize = 500;
/// Sessions whose cursors may wait on one connection. A cursor beyond it is dropped: DELIVERED without an answer
/// promises nothing, and the session's next cursor says it all again. As many as a DELIVERED holds, so that one that
/// comes to an idle connection is taken whole.
const GATHERED: usize = MAX_CURSORS;
/// Of a device that stays connected it is said so often that it is in use.
const LASTS: Duration = Duration::from_secs(60 * 60);
/// What was said so shortly before the end of a connection does for its end.
const JUST_SAID: Duration = Duration::from_secs(60);

/// What a connection has acknowledged since the last command.
pub(super) struct Cursors {
    waiting: Mutex<HashMap<SessionId, u64>>,
    /// It is to be said that the device is in use, with cursors or without.
    in_use: AtomicBool,
    /// When that was said last.
    said: Mutex<Instant>,
    /// Commands on their way that nobody waits for. What comes meanwhile gathers: a client cannot fill the lane.
    on_their_way: AtomicUsize,
}

/// Of a connection that begins: whoever registers has said by that that it is in use.
impl Default for Cursors {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            in_use: AtomicBool::new(false),
            said: Mutex::new(Instant::now()),
            on_their_way: AtomicUsize::new(0),
        }
    }
}

impl Cursors {
    fn was_said(&self, ago: Duration) -> bool {
        self.said.lock().elapsed() < ago
    }
}

#[cfg(test)]
impl Cursors {
    /// As if nothing had been said for an hour.
    pub(super) fn silent_for_long(&self) {
        *self.said.lock() -= LASTS;
    }

    /// Sessions whose cursors wait, and commands on their way.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.waiting.lock().len(), self.on_their_way.load(Ordering::Acquire))
    }
}

/// Connections with cursors that wait.
#[derive(Default)]
pub(super) struct Flusher(Mutex<HashMap<u64, Arc<Connection>>>);

/// Notes cursors; the flusher sends them soon.
pub(super) fn gather(connection: &Arc<Connection>, cursors: Vec<(SessionId, u64)>) {
    raise(&mut connection.cursors.waiting.lock(), cursors);
    flush_later(connection);
}

fn flush_later(connection: &Arc<Connection>) {
    connection.core.flusher.0.lock().entry(connection.id).or_insert_with(|| Arc::clone(connection));
}

/// The device is in use: said soon.
pub(super) fn in_use(connection: &Arc<Connection>) {
    connection.cursors.in_use.store(true, Ordering::Release);
    flush_later(connection);
}

/// The device has said something. Cheap: this is called for whatever is read.
pub(super) fn heard(connection: &Arc<Connection>) {
    if !connection.cursors.was_said(LASTS) && !connection.cursors.in_use.load(Ordering::Acquire) {
        in_use(connection);
    }
}

/// Notes cursors and sends everything that waits; OK answers the request once it is replicated.
pub(super) fn commit(connection: &Arc<Connection>, cursors: Vec<(SessionId, u64)>, request: u32) {
    // Its own first: of what has gathered, what goes beyond the bound is dropped.
    let mut together = HashMap::new();
    raise(&mut together, cursors);
    raise(&mut together, std::mem::take(&mut *connection.cursors.waiting.lock()));
    send(connection, together, Some(request));
}

/// Moves cursors forward, and adds new ones while there is room.
fn raise(gathered: &mut HashMap<SessionId, u64>, cursors: impl IntoIterator<Item = (SessionId, u64)>) {
    for (session, seq) in cursors {
        if let Some(cursor) = gathered.get_mut(&session) {
            *cursor = (*cursor).max(seq);
        } else if gathered.len() < GATHERED {
            gathered.insert(session, seq);
        }
    }
}

/// Sends what has gathered, or that the device is in use.
fn flush(connection: &Arc<Connection>) {
    let gathered = std::mem::take(&mut *connection.cursors.waiting.lock());
    if !gathered.is_empty() || connection.cursors.in_use.load(Ordering::Acquire) {
        send(connection, gathered, None);
    }
}

/// With a request, its OK follows when all parts are replicated, and a refusal if one is refused.
fn send(connection: &Arc<Connection>, cursors: HashMap<SessionId, u64>, request: Option<u32>) {
    let core = &connection.core;
    *connection.cursors.said.lock() = Instant::now();
    connection.cursors.in_use.store(false, Ordering::Release);
    let cursors: Vec<(SessionId, u64)> = cursors.into_iter().collect();
    // Without cursors one part, which says that the device is in use.
    let parts: Vec<&[(SessionId, u64)]> = match cursors.as_slice() {
        nothing @ [] => vec![nothing],
        cursors => cursors.chunks(COMMAND_CURSORS).collect(),
    };
    let shard = core.router.shard_of(&EntityKey::User(connection.user().clone()));
    let asked = request.map(|request| {
        let told = Mutex::new((parts.len(), Answer::Done));
        Arc::new(Asked { connection: Arc::clone(connection), request, told })
    });
    let requests = parts.into_iter().map(|part| {
        let command = Command::Delivered {
            user: connection.user().clone(),
            device: connection.device().clone(),
            epoch: connection.epoch,
            cursors: part.to_vec(),
        };
        let waiter: Arc<dyn Waiter> = match &asked {
            Some(asked) => Arc::clone(asked) as Arc<dyn Waiter>,
            None => Arc::new(Sent::new(connection, part)),
        };
        Request { command: command.encode(), order: None, waiter, ticket: 0, carried: false }
    });
    core.router.submit(shard, requests.collect::<Vec<_>>());
}

/// A request whose answer is that of all its parts together.
struct Asked {
    connection: Arc<Connection>,
    request: u32,
    /// Parts without an answer, and the worst of those that came.
    told: Mutex<(usize, Answer)>,
}

impl Waiter for Asked {
    fn complete(&self, answers: Vec<(u64, Answer)>) {
        let all = {
            let mut told = self.told.lock();
            for (_, answer) in answers {
                told.0 = told.0.saturating_sub(1);
                if told.1 == Answer::Done {
                    told.1 = answer;
                }
            }
            (told.0 == 0).then(|| told.1.clone())
        };
        if let Some(answer) = all {
            self.connection.complete(vec![(u64::from(self.request), answer)]);
        }
    }
}

/// Cursors on their way. They only move forward, so what was not taken is gathered again.
struct Sent {
    connection: Arc<Connection>,
    cursors: Vec<(SessionId, u64)>,
}

impl Sent {
    fn new(connection: &Arc<Connection>, cursors: &[(SessionId, u64)]) -> Self {
        connection.cursors.on_their_way.fetch_add(1, Ordering::AcqRel);
        Self { connection: Arc::clone(connection), cursors: cursors.to_vec() }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.connection.cursors.on_their_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Waiter for Sent {
    fn complete(&self, answers: Vec<(u64, Answer)>) {
        if answers.iter().any(|(_, answer)| may_succeed(answer))
            && !self.connection.is_closing()
            && !self.connection.cancel.is_cancelled()
        {
            raise(&mut self.connection.cursors.waiting.lock(), self.cursors.iter().cloned());
            flush_later(&self.connection);
        }
    }
}

/// Refused for now. What is refused for good would come back for ever.
fn may_succeed(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(error) if error.retry != Retry::Never)
}

/// Sends the gathered cursors of all connections at a steady pace. Runs until the gateway ends.
pub(super) async fn run(core: Arc<Core>) {
    let pace = std::time::Duration::from_millis(core.options.timing.delivered_ms);
    loop {
        tokio::select! {
            () = core.cancel.cancelled() => return,
            () = tokio::time::sleep(pace) => {}
        }
        let waiting = std::mem::take(&mut *core.flusher.0.lock());
        for connection in waiting.values() {
            if connection.cursors.on_their_way.load(Ordering::Acquire) > 0 {
                flush_later(connection);
            } else {
                flush(connection);
            }
        }
    }
}

/// The connection ends: its cursors leave now, and that the device was in use until then.
pub(super) fn last_flush(connection: &Arc<Connection>) {
    connection.core.flusher.0.lock().remove(&connection.id);
    if !connection.cursors.was_said(JUST_SAID) {
        connection.cursors.in_use.store(true, Ordering::Release);
    }
    flush(connection);
}
