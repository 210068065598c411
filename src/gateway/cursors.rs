//! Delivered cursors: gathered per connection, replicated a few times a second, in one command per device.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rookery_wire::SessionId;

use super::connection::Connection;
use super::core::Core;
use crate::router::{Request, Waiter};
use crate::shard::Answer;
use crate::state::{Command, EntityKey};

/// Cursors in one command.
const COMMAND_CURSORS: usize = 500;
/// Sessions whose cursors may wait on one connection; beyond it they are sent at once.
const GATHERED: usize = 2000;

/// What a connection has acknowledged since the last command.
#[derive(Default)]
pub(super) struct Cursors(Mutex<HashMap<SessionId, u64>>);

/// Connections with cursors that wait.
#[derive(Default)]
pub(super) struct Flusher(Mutex<HashMap<u64, Arc<Connection>>>);

/// Notes cursors; the flusher sends them soon.
pub(super) fn gather(connection: &Arc<Connection>, cursors: Vec<(SessionId, u64)>) {
    let waiting = merge(connection, cursors);
    if waiting >= GATHERED {
        flush(connection);
        return;
    }
    connection.core.flusher.0.lock().entry(connection.id).or_insert_with(|| Arc::clone(connection));
}

/// Notes cursors and sends everything that waits; OK answers the request once it is replicated.
pub(super) fn commit(connection: &Arc<Connection>, cursors: Vec<(SessionId, u64)>, request: u32) {
    let mut gathered = std::mem::take(&mut *connection.cursors.0.lock());
    raise(&mut gathered, cursors);
    send(connection, gathered, Some(request));
}

fn merge(connection: &Connection, cursors: Vec<(SessionId, u64)>) -> usize {
    let mut gathered = connection.cursors.0.lock();
    raise(&mut gathered, cursors);
    gathered.len()
}

fn raise(gathered: &mut HashMap<SessionId, u64>, cursors: Vec<(SessionId, u64)>) {
    for (session, seq) in cursors {
        let cursor = gathered.entry(session).or_insert(0);
        *cursor = (*cursor).max(seq);
    }
}

/// Sends what has gathered.
fn flush(connection: &Arc<Connection>) {
    let gathered = std::mem::take(&mut *connection.cursors.0.lock());
    send(connection, gathered, None);
}

/// With a request, its OK follows when the last part is replicated.
fn send(connection: &Arc<Connection>, cursors: HashMap<SessionId, u64>, request: Option<u32>) {
    let core = &connection.core;
    let cursors: Vec<(SessionId, u64)> = cursors.into_iter().collect();
    let shard = core.router.shard_of(&EntityKey::User(connection.user().clone()));
    let parts = cursors.len().div_ceil(COMMAND_CURSORS);
    let requests = cursors.chunks(COMMAND_CURSORS).enumerate().map(|(at, part)| {
        let command = Command::Delivered {
            user: connection.user().clone(),
            device: connection.device().clone(),
            cursors: part.to_vec(),
        };
        let (waiter, ticket): (Arc<dyn Waiter>, u64) = match request {
            Some(request) if at + 1 == parts => {
                (Arc::clone(connection) as Arc<dyn Waiter>, u64::from(request))
            }
            _ => (Arc::new(Sent { connection: Arc::clone(connection), cursors: part.to_vec() }), 0),
        };
        Request { command: command.encode(), order: None, waiter, ticket, carried: false }
    });
    core.router.submit(shard, requests.collect::<Vec<_>>());
}

/// Cursors on their way. They only move forward, so what was not taken is gathered again.
struct Sent {
    connection: Arc<Connection>,
    cursors: Vec<(SessionId, u64)>,
}

impl Waiter for Sent {
    fn complete(&self, answers: Vec<(u64, Answer)>) {
        let refused = answers.iter().any(|(_, answer)| matches!(answer, Answer::Refused(_)));
        if refused && !self.connection.is_closing() && !self.connection.cancel.is_cancelled() {
            merge(&self.connection, self.cursors.clone());
            let flusher = &self.connection.core.flusher;
            flusher.0.lock().entry(self.connection.id).or_insert_with(|| Arc::clone(&self.connection));
        }
    }
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
            flush(connection);
        }
    }
}

/// The connection ends: its cursors leave now.
pub(super) fn last_flush(connection: &Arc<Connection>) {
    let waiting = connection.core.flusher.0.lock().remove(&connection.id).is_some();
    if waiting && !connection.cursors.0.lock().is_empty() {
        flush(connection);
    }
}
