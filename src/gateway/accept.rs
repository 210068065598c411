//! The client port, and the life of one connection from HELLO to its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rookery_raft::{BoxStream, Listener};
use rookery_wire::frame::frame_bytes;
use rookery_wire::reply::Welcome;
use rookery_wire::{ErrorBody, ErrorCode, Kind, Retry, VERSION};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connection::{Connection, Handle};
use super::core::Core;
use super::hello::{Refusal, Welcomed, greet};
use super::reader::{self, End};
use super::stats::GatewayStats;
use super::{company, cursors, linger, places, watch, writer};

/// Pause after a failed accept: most likely there are no file descriptors left, and trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Room for the first read.
const FIRST_ROOM: usize = 1 << 10;
/// A connection that ends has so long for the answers it is owed, and to take what was written to it.
const DRAIN: Duration = Duration::from_secs(2);
/// Refusals of connections beyond the bound that are under way at once; beyond it they are dropped without a word.
const REFUSALS: usize = 64;

/// Takes connections until the gateway leaves.
pub(super) async fn run(core: Arc<Core>, mut listener: Box<dyn Listener>) {
    let room = Arc::new(Semaphore::new(core.options.limits.connections as usize));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    loop {
        let accepted = tokio::select! {
            () = core.leaving.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(fault) => {
                tracing::warn!(%fault, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        GatewayStats::add(&core.stats.accepted, 1);
        match Arc::clone(&room).try_acquire_owned() {
            Ok(place) => {
                let of = Arc::clone(&core);
                core.spawn(async move { live(of, socket, place).await });
            }
            Err(_) => {
                if let Ok(refusing) = Arc::clone(&refusals).try_acquire_owned() {
                    let of = Arc::clone(&core);
                    core.spawn(async move {
                        let _refusing = refusing;
                        Refusal::of(too_many(&of)).send(&of, socket).await;
                    });
                }
            }
        }
    }
}

fn too_many(core: &Core) -> ErrorBody {
    let text = format!("this node holds as many connections as it may ({})", core.options.limits.connections);
    ErrorBody::new(ErrorCode::TooManyConnections, text).with_retry(Retry::After(1000))
}

/// From HELLO to the end.
async fn live(core: Arc<Core>, mut socket: BoxStream, place: OwnedSemaphorePermit) {
    let mut buffer = BytesMut::with_capacity(FIRST_ROOM);
    let greeted = {
        // In a box of its own: an idle connection must not hold the room that its greeting took.
        let mut greeting = Box::pin(greet(&core, &mut socket, &mut buffer));
        tokio::select! {
            () = core.leaving.cancelled() => return,
            greeted = &mut greeting => greeted,
        }
    };
    match greeted {
        Ok(Some(welcomed)) => {
            let connection = welcome(&core, welcomed);
            serve(&connection, socket, buffer).await;
        }
        Ok(None) => {}
        Err(refusal) => Box::pin(refusal.send(&core, socket)).await,
    }
    drop(place);
}

/// Registers a connection: first its WELCOME is put in, then pushes may follow, then an older one has to go.
fn welcome(core: &Arc<Core>, welcomed: Welcomed) -> Arc<Connection> {
    let Welcomed { identity, epoch, turn, last_number, request, returns } = welcomed;
    let connection = Connection::new(Arc::clone(core), identity, epoch, turn);
    let body = Welcome {
        version: VERSION,
        cluster: core.options.cluster,
        node: core.options.node,
        epoch,
        time_ms: core.clock.unix_ms(),
        idle_ms: core.options.timing.idle_ms,
        limits: core.announced(),
        last_number,
        deadline_ms: u32::try_from(core.options.timing.request_deadline_ms).unwrap_or(u32::MAX),
    };
    connection.out.answer(frame_bytes(Kind::Welcome, request, &body));
    core.delivery.connect(Arc::new(Handle(Arc::clone(&connection))));
    places::take(&connection);
    watch::moved_here(core, connection.user());
    if returns {
        cursors::in_use(&connection);
    }
    GatewayStats::add(&core.stats.welcomed, 1);
    connection
}

/// Reads and writes until the connection ends, then takes it out of everything.
async fn serve(connection: &Arc<Connection>, socket: BoxStream, buffer: BytesMut) {
    let core = &connection.core;
    let (mut incoming, outgoing) = tokio::io::split(socket);
    let mut writing =
        core.tasks.spawn_on(writer::run(Arc::clone(connection), outgoing), &core.options.writers);
    let end = tokio::select! {
        end = reader::run(connection, &mut incoming, buffer) => end,
        // The socket takes no more, or all was said.
        _ = &mut writing => End::Told,
    };
    // Nothing more is pushed, and what was asked is still answered.
    core.delivery.disconnect(connection.id);
    cursors::last_flush(connection);
    if let End::Gone = end {
        connection.cancel.cancel();
    }
    connection.close();
    let drained = !writing.is_finished() && timeout(DRAIN, &mut writing).await.is_ok();
    leave(connection);
    if drained {
        tokio::select! {
            () = core.cancel.cancelled() => {}
            () = linger(&mut incoming) => {}
        }
    }
    connection.cancel.cancel();
}

/// Takes a connection out of the list of those who are here. A newer one of the same device stays.
fn leave(connection: &Arc<Connection>) {
    let core = &connection.core;
    let key = (connection.user().clone(), connection.device().clone());
    core.devices.remove_if(&key, |_, known| known.id == connection.id);
    watch::leave(connection);
    company::leave(connection);
    watch::moved_here(core, connection.user());
}
