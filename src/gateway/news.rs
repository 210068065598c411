//! News of sessions joined and left, on their way from the user's shard to the client.
//!
//! A JOINED frame leaves only after the connection is attached to the session, so that its `live_from` is true; a
//! LEFT frame when it is detached from it. Both are worked off in order by one task, which exists only while there is something to do
//! and waits while the client does not read: what it would write is bounded as pushes are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_wire::reply::{Joined, Lagged, Left};
use rookery_wire::{ErrorCode, HEADER_BYTES, Kind, SessionId, decode, frame::frame_bytes};

use super::connection::{Connection, Handle};
use super::outbox::KIND_AT;
use crate::delivery::{Receiver, Topic};
use crate::shard::{Asked, Freshness, Read, ReadReply};
use crate::state::EntityKey;

/// News that may wait, for a session or for a client that does not read; beyond it the user's topic lags, and the client
/// is told to sync once it reads again.
const QUEUE: usize = 1024;

/// How long a LEFT waits for the session's log on this node, looking so often whether it has come.
const PARTING: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

/// What waits.
#[derive(Default)]
pub(super) struct News(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    running: bool,
}

/// Puts news in; `false` when there is no room. Called from delivery: does not block.
pub(super) fn put(connection: &Arc<Connection>, frames: Vec<Bytes>) -> bool {
    let mut queue = connection.news.0.lock();
    if queue.frames.len() + frames.len() > QUEUE {
        return false;
    }
    queue.frames.extend(frames);
    start(connection, &mut queue);
    true
}

/// Something about the user's list may have been missed. Said behind the news that waits: a LEFT of it may be older than what
/// the client would be told of the same session, and nothing would say that it was.
pub(super) fn tell_to_sync(connection: &Arc<Connection>) {
    let mut queue = connection.news.0.lock();
    // Said once if it is the last word: no more of these wait than one beyond the news.
    if queue.frames.back().is_none_or(|last| kind_of(last) != Some(Kind::Lagged)) {
        queue.frames.push_back(frame_bytes(Kind::Lagged, 0, &Lagged { sessions: Vec::new() }));
    }
    start(connection, &mut queue);
}

fn start(connection: &Arc<Connection>, queue: &mut Queue) {
    if std::mem::replace(&mut queue.running, true) {
        return;
    }
    let connection = Arc::clone(connection);
    let core = Arc::clone(&connection.core);
    core.spawn(async move {
        tokio::select! {
            () = connection.cancel.cancelled() => {}
            () = run(&connection) => {}
        }
    });
}

fn kind_of(frame: &Bytes) -> Option<Kind> {
    frame.get(KIND_AT).copied().and_then(Kind::from_number)
}

fn next(connection: &Connection) -> Option<Bytes> {
    let mut queue = connection.news.0.lock();
    let frame = queue.frames.pop_front();
    queue.running = frame.is_some();
    frame
}

async fn run(connection: &Arc<Connection>) {
    while let Some(frame) = next(connection) {
        let body = frame.slice((4 + HEADER_BYTES).min(frame.len())..);
        match kind_of(&frame) {
            Some(Kind::Joined) => {
                connection.out.room().await;
                if let Ok(joined) = decode::<Joined>(&body) {
                    join(connection, joined.session).await;
                }
            }
            Some(Kind::Left) => {
                if let Ok(left) = decode::<Left>(&body) {
                    part(connection, &Topic::Session(left.session)).await;
                }
                connection.out.room().await;
                connection.out.answer(frame);
            }
            _ => {
                connection.out.room().await;
                connection.out.answer(frame);
            }
        }
    }
}

/// No pushes follow a LEFT. The user's list may be ahead of the session's log on this node: what a member is to be pushed before
/// its removal, and that itself, goes first, for the log ends a live subscription behind it.
async fn part(connection: &Connection, topic: &Topic) {
    let delivery = &connection.core.delivery;
    let ended = async {
        let mut looks = tokio::time::interval(LOOK);
        while delivery.is_live(topic, connection.id) {
            looks.tick().await;
        }
    };
    // Else the node is far behind, and LEFT itself says that something was not pushed.
    let _late = tokio::time::timeout(PARTING, ended).await;
    delivery.detach(topic, connection.id);
}

/// Attaches, then asks the session whether the user still is a member: the user's list may be behind, and one who was
/// removed meanwhile must not be pushed anything.
async fn join(connection: &Arc<Connection>, session: SessionId) {
    let core = &connection.core;
    let shard = core.router.shard_of(&EntityKey::Session(session.clone()));
    let topic = Topic::Session(session.clone());
    let receiver: Arc<dyn Receiver> = Arc::new(Handle(Arc::clone(connection)));
    let attached = core.router.attach(shard, receiver, vec![topic.clone()]).await;
    let read = Read::Heads {
        user: connection.user().clone(),
        device: connection.device().clone(),
        epoch: connection.epoch,
        // Of this only where the user joined is wanted.
        sessions: vec![Asked { session: session.clone(), seen_count: 0, deleted: Vec::new(), burns: false }],
    };
    let head = match core.router.read(shard, read, Freshness::Linearizable).await {
        Ok(ReadReply::Heads(mut heads)) => heads.pop().unwrap_or(Err(ErrorCode::Unavailable)),
        Ok(_) => Err(ErrorCode::Unavailable),
        Err(error) => Err(error.code),
    };
    match head {
        Ok(head) if !attached.is_empty() => match core.delivery.admit(&topic, connection.id, head.joined_seq)
        {
            Some(live_from) => {
                connection.out.answer(frame_bytes(Kind::Joined, 0, &Joined { session, live_from }));
            }
            // Not attached any more: removed meanwhile, and a LEFT follows. Or there is no room for it here, or a SYNC that read
            // an older list has ended it; who would say so?
            None => tell_to_sync(connection),
        },
        Err(ErrorCode::NotMember | ErrorCode::NoSuchSession) => core.delivery.dismiss(&topic, connection.id),
        // Not known: a sync will tell, and attach again.
        Ok(_) | Err(_) => {
            core.delivery.detach(&topic, connection.id);
            tell_to_sync(connection);
        }
    }
}
