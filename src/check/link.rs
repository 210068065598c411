//! One raw connection to one node: frames out, frames in, every wait with a deadline.
//!
//! The checker speaks the protocol itself, without the client library, so that it sees what the server really
//! pushed and answered. It must never mend anything: what is odd is handed on as it came.

use std::time::Duration;

use bincode::Encode;
use bytes::{Bytes, BytesMut};
use rookery_wire::frame::{begin_frame, end_frame};
use rookery_wire::reply::Welcome;
use rookery_wire::request::Hello;
use rookery_wire::{Decoder, ErrorBody, Frame, FrameFault, Kind, decode, encode_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// Largest frame we take, whatever the server's own limit is.
const MAX_FRAME: u32 = 8 << 20;
/// How long connecting may take: the nodes are on this machine or near.
const CONNECT: Duration = Duration::from_millis(500);
/// How long HELLO may take; a new device is registered through a log, perhaps during an election.
const HELLO: Duration = Duration::from_secs(3);
/// How long a full socket may refuse bytes.
const WRITE: Duration = Duration::from_secs(2);

/// Why a connection is no more.
#[derive(Debug, thiserror::Error)]
pub enum LinkFault {
    /// The socket.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Nothing came or went for too long.
    #[error("{0} took too long")]
    Deadline(&'static str),
    /// Bytes that are no frames.
    #[error("unreadable stream: {0}")]
    Frame(#[from] FrameFault),
    /// A frame whose body is not what its kind says.
    #[error("unreadable body of {kind}: {fault}")]
    Body {
        /// The kind's name.
        kind: String,
        /// What is wrong with it.
        fault: String,
    },
    /// HELLO was refused.
    #[error("refused: {0}")]
    Refused(ErrorBody),
    /// The other side closed.
    #[error("closed by the node")]
    Closed,
}

impl LinkFault {
    /// Whether no sane server does this, whatever befalls it.
    pub fn is_protocol(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Body { .. })
    }
}

/// A connection that has been welcomed.
#[derive(Debug)]
pub struct Link {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    inbox: BytesMut,
    outbox: BytesMut,
    decoder: Decoder,
    next_id: u32,
}

impl Link {
    /// Connects and says HELLO.
    ///
    /// # Errors
    /// [`LinkFault`].
    pub async fn open(addr: &str, hello: &Hello) -> Result<(Self, Welcome), LinkFault> {
        let connect = timeout(CONNECT, TcpStream::connect(addr)).await;
        let socket = connect.map_err(|_| LinkFault::Deadline("connecting"))??;
        socket.set_nodelay(true)?;
        let (read, write) = socket.into_split();
        let mut link = Self {
            read,
            write,
            inbox: BytesMut::with_capacity(16 << 10),
            outbox: BytesMut::new(),
            decoder: Decoder::new(MAX_FRAME),
            next_id: 0,
        };
        link.ask(Kind::Hello, hello);
        let frame = timeout(HELLO, async {
            link.flush().await?;
            link.next().await
        });
        let frame = frame.await.map_err(|_| LinkFault::Deadline("HELLO"))??;
        match Kind::from_number(frame.kind) {
            Some(Kind::Welcome) => Ok((link, body(&frame)?)),
            Some(Kind::Error) => Err(LinkFault::Refused(body(&frame)?)),
            _ => Err(LinkFault::Closed),
        }
    }

    /// Puts a request into the outgoing bytes and returns its id; [`Link::flush`] sends it.
    pub fn ask<T: Encode>(&mut self, kind: Kind, request: &T) -> u32 {
        let id = self.fresh_id();
        encode_frame(kind, id, request, &mut self.outbox);
        id
    }

    /// Like [`Link::ask`] with a body that is encoded already.
    pub fn ask_encoded(&mut self, kind: Kind, request: &Bytes) -> u32 {
        let id = self.fresh_id();
        let start = begin_frame(kind, id, &mut self.outbox);
        self.outbox.extend_from_slice(request);
        end_frame(start, &mut self.outbox);
        id
    }

    /// Puts a frame that wants no answer into the outgoing bytes.
    pub fn tell<T: Encode>(&mut self, kind: Kind, body: &T) {
        encode_frame(kind, 0, body, &mut self.outbox);
    }

    fn fresh_id(&mut self) -> u32 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }

    /// Sends what waits. Not safe to cancel.
    ///
    /// # Errors
    /// The socket's, or a deadline when the node takes nothing.
    pub async fn flush(&mut self) -> Result<(), LinkFault> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let bytes = self.outbox.split().freeze();
        timeout(WRITE, self.write.write_all(&bytes)).await.map_err(|_| LinkFault::Deadline("writing"))??;
        Ok(())
    }

    /// A frame that is here already.
    ///
    /// # Errors
    /// Unreadable bytes.
    pub fn ready(&mut self) -> Result<Option<Frame>, LinkFault> {
        Ok(self.decoder.next(&mut self.inbox)?)
    }

    /// The socket alone, for one who reads it in another way, and the bytes that have been read from it and are no whole frame
    /// that was taken. What was not flushed is gone.
    ///
    /// # Errors
    /// None that can be: the halves are of one socket.
    pub fn into_socket(self) -> Result<(TcpStream, Vec<u8>), LinkFault> {
        let socket = self.read.reunite(self.write).map_err(std::io::Error::other)?;
        Ok((socket, self.inbox.into()))
    }

    /// The next frame. Safe to cancel.
    ///
    /// # Errors
    /// The socket's end or unreadable bytes.
    pub async fn next(&mut self) -> Result<Frame, LinkFault> {
        loop {
            if let Some(frame) = self.ready()? {
                return Ok(frame);
            }
            self.inbox.reserve(4 << 10);
            if self.read.read_buf(&mut self.inbox).await? == 0 {
                return Err(LinkFault::Closed);
            }
        }
    }
}

/// Decodes a frame's body.
///
/// # Errors
/// [`LinkFault::Body`].
pub fn body<T: bincode::Decode<rookery_wire::codec::Source>>(frame: &Frame) -> Result<T, LinkFault> {
    decode(&frame.body).map_err(|fault| LinkFault::Body {
        kind: Kind::from_number(frame.kind)
            .map_or_else(|| frame.kind.to_string(), |kind| kind.name().to_owned()),
        fault: fault.to_string(),
    })
}
