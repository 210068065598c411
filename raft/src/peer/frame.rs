//! The frame of the peer link: what stands before each body, and how frames are read.
//!
//! ```text
//! len      u32  bytes after itself
//! crc      u32  crc32c of everything after itself
//! kind     u8   see `Kind`
//! channel  u32  a group's id, or `APP` for the application
//! request  u64  request or stream id, chosen by the side that began it
//! body     …
//! ```
//! All integers are little-endian. Owns: those bytes. Must never deliver a frame whose checksum differs, must never
//! allocate by a length beyond the bound, and gives every body memory of its own, so that a kept slice pins no more.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes before the body.
pub(super) const HEAD: usize = 21;

/// The channel of the application; every other number is a group.
pub(super) const APP: u32 = u32::MAX;

/// Read buffer in bytes. Frames that fit are copied out of it; larger ones are read into their own memory.
const READ_BUFFER: usize = 64 * 1024;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// "I am there."
    Ping = 0,
    /// A request that wants one `Answer` or `Refuse`.
    Ask = 1,
    /// The answer.
    Answer = 2,
    /// No answer, but a text.
    Refuse = 3,
    /// One way.
    Cast = 4,
    /// Opens a stream of messages in both directions.
    Open = 5,
    /// A message of the stream from the side that opened it.
    Forth = 6,
    /// A message to the side that opened it.
    Back = 7,
    /// The opener ends the stream.
    EndForth = 8,
    /// The other side ends the stream.
    EndBack = 9,
}

impl Kind {
    fn from_u8(kind: u8) -> Option<Self> {
        Some(match kind {
            0 => Self::Ping,
            1 => Self::Ask,
            2 => Self::Answer,
            3 => Self::Refuse,
            4 => Self::Cast,
            5 => Self::Open,
            6 => Self::Forth,
            7 => Self::Back,
            8 => Self::EndForth,
            9 => Self::EndBack,
            _ => return None,
        })
    }
}

/// A body in one or more pieces, so that payloads need not be copied together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    pub(super) parts: Vec<Bytes>,
}

impl Body {
    /// Bytes of all parts.
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { parts: if bytes.is_empty() { Vec::new() } else { vec![bytes] } }
    }
}

/// Builds a body: small things are gathered, large payloads are shared.
#[derive(Debug, Default)]
pub(crate) struct BodyWriter {
    parts: Vec<Bytes>,
    open: BytesMut,
}

/// Payloads up to this many bytes are copied rather than made a part of their own.
const COPY_UP_TO: usize = 2048;

impl BodyWriter {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { parts: Vec::new(), open: BytesMut::with_capacity(bytes) }
    }

    pub(crate) fn finish(mut self) -> Body {
        if !self.open.is_empty() {
            self.parts.push(self.open.freeze());
        }
        Body { parts: self.parts }
    }
}

impl crate::codec::Sink for BodyWriter {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPY_UP_TO {
            self.open.extend_from_slice(bytes);
            return;
        }
        if !self.open.is_empty() {
            self.parts.push(self.open.split().freeze());
        }
        self.parts.push(bytes.clone());
    }
}

/// A frame ready to be written.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) head: [u8; HEAD],
    pub(super) body: Body,
}

impl Frame {
    /// Computes length and checksum. The caller has checked the length against the link's bound.
    pub(super) fn new(kind: Kind, channel: u32, request: u64, body: Body) -> Self {
        let mut head = [0; HEAD];
        head[8] = kind as u8;
        head[9..13].copy_from_slice(&channel.to_le_bytes());
        head[13..21].copy_from_slice(&request.to_le_bytes());
        let crc =
            body.parts.iter().fold(crc32c::crc32c(&head[8..]), |crc, part| crc32c::crc32c_append(crc, part));
        let len = u32::try_from(HEAD - 4 + body.len()).unwrap_or(u32::MAX);
        head[..4].copy_from_slice(&len.to_le_bytes());
        head[4..8].copy_from_slice(&crc.to_le_bytes());
        Self { head, body }
    }

    /// Bytes on the wire.
    pub(super) fn len(&self) -> usize {
        HEAD + self.body.len()
    }
}

/// A message of a stream as it goes to the socket: head and pieces.
pub(crate) fn whole(channel: u32, request: u64, body: Body) -> Vec<Bytes> {
    let Frame { head, body } = Frame::new(Kind::Forth, channel, request, body);
    std::iter::once(Bytes::copy_from_slice(&head)).chain(body.parts).collect()
}

/// The bodies of frames that lie one behind another; `None` where they are not frames, or one is cut.
pub(crate) fn read_bodies(bytes: &[u8], max_frame: usize) -> Option<Vec<Bytes>> {
    let mut reader = FrameReader::new(bytes, max_frame);
    let mut bodies = Vec::new();
    while !(reader.io.is_empty() && reader.buffer.is_empty()) {
        // A slice is always ready.
        bodies.push(reader.next().now_or_never()?.ok()?.body);
    }
    Some(bodies)
}

/// A frame that was read and whose checksum is right.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) kind: Kind,
    pub(super) channel: u32,
    pub(super) request: u64,
    pub(super) body: Bytes,
}

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFailure {
    /// The other side closed, or the network failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is not a frame: damage, or not a peer.
    #[error("bad frame: {0}")]
    Bad(&'static str),
}

/// Reads frames from one connection.
pub(super) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    max_frame: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(io: R, max_frame: usize) -> Self {
        Self { io, buffer: BytesMut::with_capacity(READ_BUFFER), max_frame }
    }

    /// The next frame. After an error the connection is of no use. Not cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Received, ReadFailure> {
        while self.buffer.len() < HEAD {
            self.fill().await?;
        }
        let mut head = [0; HEAD];
        head.copy_from_slice(&self.buffer[..HEAD]);
        let body_len = body_len(&head, self.max_frame)?;
        self.buffer.advance(HEAD);
        let body = if HEAD + body_len <= READ_BUFFER {
            while self.buffer.len() < body_len {
                self.fill().await?;
            }
            let body = Bytes::copy_from_slice(&self.buffer[..body_len]);
            self.buffer.advance(body_len);
            body
        } else {
            self.large_body(body_len).await?
        };
        check(&head, body)
    }

    async fn fill(&mut self) -> Result<(), ReadFailure> {
        // The buffer is never shared, so this moves what is left to its front and does not grow it.
        self.buffer.reserve(READ_BUFFER - self.buffer.len().min(READ_BUFFER - 1));
        match self.io.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    async fn large_body(&mut self, len: usize) -> Result<Bytes, ReadFailure> {
        let mut body = BytesMut::with_capacity(len);
        let here = self.buffer.len().min(len);
        body.extend_from_slice(&self.buffer[..here]);
        self.buffer.advance(here);
        while body.len() < len {
            let missing = len - body.len();
            let read = (&mut self.io).take(missing as u64).read_buf(&mut body).await?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(body.freeze())
    }
}

fn word(head: &[u8; HEAD], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn body_len(head: &[u8; HEAD], max_frame: usize) -> Result<usize, ReadFailure> {
    let len = word(head, 0) as usize;
    if len < HEAD - 4 {
        return Err(ReadFailure::Bad("length below a header's"));
    }
    if len > max_frame {
        return Err(ReadFailure::Bad("length above the bound"));
    }
    Ok(len - (HEAD - 4))
}

fn check(head: &[u8; HEAD], body: Bytes) -> Result<Received, ReadFailure> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[8..]), &body);
    if crc != word(head, 4) {
        return Err(ReadFailure::Bad("checksum"));
    }
    let kind = Kind::from_u8(head[8]).ok_or(ReadFailure::Bad("unknown kind"))?;
    let request = u64::from(word(head, 13)) | (u64::from(word(head, 17)) << 32);
    Ok(Received { kind, channel: word(head, 9), request, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Sink;

    fn wire(frame: &Frame) -> Vec<u8> {
        let mut out = frame.head.to_vec();
        for part in &frame.body.parts {
            out.extend_from_slice(part);
        }
        out
    }

    fn body(len: usize) -> Body {
        let mut out = BodyWriter::default();
        out.put_slice(b"head");
        out.put_shared(&Bytes::from(vec![7; len]));
        out.put_slice(b"tail");
        out.finish()
    }

    #[tokio::test]
    async fn frames_of_every_size_come_back() {
        let sizes = [0, 1, 2000, 2049, READ_BUFFER - HEAD - 8, READ_BUFFER, 1 << 20];
        let mut stream = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            stream.extend(wire(&Frame::new(Kind::Cast, APP, i as u64, body(*size))));
        }
        let mut reader = FrameReader::new(&stream[..], 2 << 20);
        for (i, size) in sizes.iter().enumerate() {
            let got = reader.next().await.unwrap();
            assert_eq!((got.kind, got.channel, got.request), (Kind::Cast, APP, i as u64));
            assert_eq!(got.body.len(), size + 8);
            assert!(got.body.starts_with(b"head") && got.body.ends_with(b"tail"));
        }
        assert!(matches!(reader.next().await, Err(ReadFailure::Io(_))));
    }

    #[tokio::test]
    async fn no_flipped_bit_is_delivered() {
        let good = wire(&Frame::new(Kind::Ask, 3, 0x1_0000_0002, body(40)));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let got = FrameReader::new(&bad[..], 4096).next().await;
                assert!(got.is_err(), "bit {bit} of byte {at} was not noticed");
            }
        }
    }
}
