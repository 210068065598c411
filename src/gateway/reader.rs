//! The reading side of a connection: cuts frames, turns them into requests, and stops reading when too many are
//! under way. TCP then tells the client to wait.

use std::time::Duration;

use bytes::BytesMut;
use rookery_raft::BoxStream;
use rookery_wire::{Decoder, ErrorCode};
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::timeout;

use std::sync::Arc;

use super::connection::Connection;
use super::cursors;
use super::dispatch::{Batch, Held, dispatch};
use super::hello::frame_error;
use super::stats::GatewayStats;

/// Room for one read: least and most. It doubles while reads fill it and halves while they do not.
const ROOM: (usize, usize) = (1 << 10, 64 << 10);

/// Why reading ended.
pub(super) enum End {
    /// The other side closed, or the network failed.
    Gone,
    /// The connection was told to end.
    Told,
}

/// Reads until the connection ends.
pub(super) async fn run(
    connection: &Arc<Connection>,
    socket: &mut ReadHalf<BoxStream>,
    mut buffer: BytesMut,
) -> End {
    let decoder = Decoder::new(connection.core.options.limits.frame);
    let idle = Duration::from_millis(u64::from(connection.core.options.timing.idle_ms));
    let mut room = ROOM.0;
    loop {
        match take_frames(connection, &decoder, &mut buffer) {
            Err(end) => return end,
            Ok(None) => {}
            Ok(Some(held)) => {
                tokio::select! {
                    () = connection.cancel.cancelled() => return End::Told,
                    () = held.go_on(connection) => {}
                }
                continue;
            }
        }
        if connection.must_wait() {
            tokio::select! {
                () = connection.cancel.cancelled() => return End::Told,
                () = connection.gate() => {}
            }
            if connection.is_closing() {
                return End::Told;
            }
            continue;
        }
        prepare(&mut buffer, room);
        let read = tokio::select! {
            () = connection.cancel.cancelled() => return End::Told,
            () = connection.closed() => return End::Told,
            read = timeout(idle, socket.read_buf(&mut buffer)) => read,
        };
        match read {
            Ok(Ok(0) | Err(_)) => return End::Gone,
            Ok(Ok(count)) => {
                GatewayStats::add(&connection.core.stats.bytes_in, count as u64);
                cursors::heard(connection);
                room = if count >= room { (room * 2).min(ROOM.1) } else { (room / 2).max(count).max(ROOM.0) };
            }
            Err(_) => {
                GatewayStats::add(&connection.core.stats.idled, 1);
                let after = "this connection said nothing for too long; PING in good time";
                connection.go_away(ErrorCode::Idle, after, 0);
                return End::Told;
            }
        }
    }
}

/// Makes room for a read; an empty buffer that had grown is given back.
fn prepare(buffer: &mut BytesMut, room: usize) {
    if buffer.is_empty() && buffer.capacity() > room * 2 {
        *buffer = BytesMut::with_capacity(room);
    }
    buffer.reserve(room);
}

/// Takes whole frames while the window permits, and hands over what they ask, shard by shard; up to one that must wait for a
/// read, which is given back.
fn take_frames(
    connection: &Arc<Connection>,
    decoder: &Decoder,
    buffer: &mut BytesMut,
) -> Result<Option<Held>, End> {
    let mut batch = Batch::new(&connection.core);
    let mut frames = 0;
    let mut fault = None;
    while !batch.is_held() && !connection.must_wait() && !connection.is_closing() {
        match decoder.next(buffer) {
            Ok(Some(frame)) => {
                frames += 1;
                dispatch(connection, frame, &mut batch);
            }
            Ok(None) => break,
            Err(broken) => {
                fault = Some(frame_error(&broken));
                break;
            }
        }
    }
    GatewayStats::add(&connection.core.stats.frames_in, frames);
    let held = batch.held();
    batch.submit(&connection.core);
    if let Some(error) = fault {
        connection.fault(&error);
    }
    if held.is_none() && connection.is_closing() { Err(End::Told) } else { Ok(held) }
}
