//! The writing side of a connection: takes everything that waits and writes it in as few writes as it can.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rookery_raft::BoxStream;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::time::timeout;

use super::connection::Connection;
use super::stats::GatewayStats;

/// Frames are gathered into writes of about this size.
const GATHER: usize = 64 << 10;
/// A frame of this size is written from where it is rather than gathered.
const LARGE: usize = 16 << 10;
/// A gathering buffer larger than this is given back once all is written.
const KEEP: usize = 4 << 10;

/// Runs until the connection closes and all is written, or it ends at once. Gives the socket back unless it failed.
pub(super) async fn run(
    connection: Arc<Connection>,
    mut socket: WriteHalf<BoxStream>,
) -> Option<WriteHalf<BoxStream>> {
    // One that takes nothing for as long as it may say nothing is gone.
    let stall = Duration::from_millis(u64::from(connection.core.options.timing.idle_ms));
    let mut gathered = Vec::new();
    // Asked again and again: only the first time it takes a place in a list.
    let mut cancelled = pin!(connection.cancel.cancelled());
    loop {
        let frames = connection.out.take(GATHER);
        if frames.is_empty() {
            if connection.resume() {
                continue;
            }
            // The answers were put in before they stopped being owed: another look finds the last of them.
            if connection.is_done() {
                if connection.out.is_empty() {
                    break;
                }
                continue;
            }
            gathered.shrink_to(KEEP);
            tokio::select! {
                biased;
                () = connection.out.changed() => continue,
                () = &mut cancelled => return None,
            }
        }
        let mut writing =
            Writing { connection: &connection, socket: &mut socket, gathered: &mut gathered, stall };
        // Nearly always the socket takes all at once, and then nobody needs to be asked whether to go on.
        let written = tokio::select! {
            biased;
            written = writing.all(frames) => written,
            () = &mut cancelled => return None,
        };
        if let Err(fault) = written {
            tracing::debug!(connection = connection.id, %fault, "a connection takes no more");
            if fault.kind() == io::ErrorKind::TimedOut {
                GatewayStats::add(&connection.core.stats.idled, 1);
            }
            connection.cancel.cancel();
            return None;
        }
    }
    let _ = timeout(stall, socket.shutdown()).await;
    Some(socket)
}

struct Writing<'a> {
    connection: &'a Connection,
    socket: &'a mut WriteHalf<BoxStream>,
    gathered: &'a mut Vec<u8>,
    stall: Duration,
}

impl Writing<'_> {
    async fn all(&mut self, frames: Vec<Bytes>) -> io::Result<()> {
        if let [frame] = frames.as_slice() {
            return write(self.connection, self.socket, frame, self.stall).await;
        }
        for frame in frames {
            if frame.len() >= LARGE {
                self.flush().await?;
                write(self.connection, self.socket, &frame, self.stall).await?;
                continue;
            }
            self.gathered.extend_from_slice(&frame);
            if self.gathered.len() >= GATHER {
                self.flush().await?;
            }
        }
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        write(self.connection, self.socket, self.gathered, self.stall).await?;
        self.gathered.clear();
        Ok(())
    }
}

async fn write(
    connection: &Connection,
    socket: &mut WriteHalf<BoxStream>,
    bytes: &[u8],
    stall: Duration,
) -> io::Result<()> {
    let whole = async {
        socket.write_all(bytes).await?;
        socket.flush().await
    };
    timeout(stall, whole).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let stats = &connection.core.stats;
    GatewayStats::add(&stats.bytes_out, bytes.len() as u64);
    GatewayStats::add(&stats.writes, 1);
    connection.out.written(bytes.len());
    connection.try_gate();
    Ok(())
}
