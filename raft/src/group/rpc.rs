//! The bodies of Raft's messages on the peer link.
//!
//! Owns: their bytes (ids and entries are `codec`'s). Entries are written without copying large payloads and read as
//! slices of their frame. Reading never panics: `None` is a peer that speaks another language.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::codec::{
    ENTRY_HEAD, Sink, Take, put_entry, put_log_id, put_log_id_option, put_raft_id, put_stored_membership,
    put_vote,
};
use crate::peer::{Body, BodyWriter};
use crate::types::{SnapshotMeta, TypeConfig, Vote};

pub(super) type Append = AppendEntriesRequest<TypeConfig>;
pub(super) type Appended = AppendEntriesResponse<TypeConfig>;
pub(super) type AppendedInStream = StreamAppendResult<TypeConfig>;
pub(super) type AskVote = VoteRequest<TypeConfig>;
pub(super) type Voted = VoteResponse<TypeConfig>;
pub(super) type Transfer = TransferLeaderRequest<TypeConfig>;
pub(super) type Transferred = TransferLeaderResponse<TypeConfig>;

/// Bytes of an append request besides its entries.
const APPEND_HEAD: usize = 96;

/// A request that wants one answer.
pub(super) enum Request {
    /// An append that stands alone: a heartbeat.
    Append(Append),
    Vote(AskVote),
    PreVote(AskVote),
    Transfer(Transfer),
}

impl Request {
    pub(super) fn encode(&self) -> Body {
        let mut out = BodyWriter::with_capacity(APPEND_HEAD);
        match self {
            Self::Append(append) => {
                out.put_u8(1);
                put_append(&mut out, append);
            }
            Self::Vote(vote) => {
                out.put_u8(2);
                put_ask_vote(&mut out, vote);
            }
            Self::PreVote(vote) => {
                out.put_u8(3);
                put_ask_vote(&mut out, vote);
            }
            Self::Transfer(transfer) => {
                out.put_u8(4);
                put_vote(&mut out, transfer.from_leader());
                put_raft_id(&mut out, transfer.to_node_id());
                put_log_id_option(&mut out, transfer.last_log_id());
            }
        }
        out.finish()
    }

    pub(super) fn decode(body: &Bytes) -> Option<Self> {
        let mut take = Take::sharing(body);
        let request = match take.u8()? {
            1 => Self::Append(take_append(&mut take)?),
            2 => Self::Vote(take_ask_vote(&mut take)?),
            3 => Self::PreVote(take_ask_vote(&mut take)?),
            4 => Self::Transfer(Transfer::new(take.vote()?, take.raft_id()?, take.log_id_option()?)),
            _ => return None,
        };
        take.is_empty().then_some(request)
    }
}

fn put_append(out: &mut BodyWriter, append: &Append) {
    put_vote(out, &append.vote);
    put_log_id_option(out, append.prev_log_id.as_ref());
    put_log_id_option(out, append.leader_commit.as_ref());
    out.put_u32(u32::try_from(append.entries.len()).unwrap_or(u32::MAX));
    for entry in &append.entries {
        put_entry(out, entry);
    }
}

fn take_append(take: &mut Take<'_>) -> Option<Append> {
    let (vote, prev_log_id, leader_commit) = (take.vote()?, take.log_id_option()?, take.log_id_option()?);
    let count = take.u32()?;
    let mut entries = Vec::with_capacity(usize::try_from(count).ok()?.min(4096));
    for _ in 0..count {
        entries.push(take.entry()?);
    }
    Some(Append { vote, prev_log_id, entries, leader_commit })
}

fn put_ask_vote(out: &mut BodyWriter, vote: &AskVote) {
    put_vote(out, &vote.vote);
    put_log_id_option(out, vote.last_log_id.as_ref());
    out.put_u8(u8::from(vote.leadership_transfer));
}

fn take_ask_vote(take: &mut Take<'_>) -> Option<AskVote> {
    let mut vote = AskVote::new(take.vote()?, take.log_id_option()?);
    vote.leadership_transfer = take.flag()?;
    Some(vote)
}

/// A message of an append stream.
pub(super) fn encode_append(append: &Append) -> Body {
    let mut out = BodyWriter::with_capacity(APPEND_HEAD + append.entries.len() * ENTRY_HEAD);
    put_append(&mut out, append);
    out.finish()
}

pub(super) fn decode_append(body: &Bytes) -> Option<Append> {
    let mut take = Take::sharing(body);
    let append = take_append(&mut take)?;
    take.is_empty().then_some(append)
}

pub(super) fn encode_appended(response: &Appended) -> Body {
    let mut out = BodyWriter::default();
    match response {
        Appended::Success => out.put_u8(0),
        Appended::PartialSuccess(upto) => {
            out.put_u8(1);
            put_log_id_option(&mut out, upto.as_ref());
        }
        Appended::Conflict => out.put_u8(2),
        Appended::HigherVote(vote) => {
            out.put_u8(3);
            put_vote(&mut out, vote);
        }
    }
    out.finish()
}

pub(super) fn decode_appended(body: &Bytes) -> Option<Appended> {
    let mut take = Take::new(body);
    Some(match take.u8()? {
        0 => Appended::Success,
        1 => Appended::PartialSuccess(take.log_id_option()?),
        2 => Appended::Conflict,
        3 => Appended::HigherVote(take.vote()?),
        _ => return None,
    })
}

pub(super) fn encode_stream_result(result: &AppendedInStream) -> Body {
    let mut out = BodyWriter::default();
    match result {
        Ok(upto) => {
            out.put_u8(0);
            put_log_id_option(&mut out, upto.as_ref());
        }
        Err(StreamAppendError::Conflict(at)) => {
            out.put_u8(1);
            put_log_id(&mut out, at);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.put_u8(2);
            put_vote(&mut out, vote);
        }
    }
    out.finish()
}

pub(super) fn decode_stream_result(body: &Bytes) -> Option<AppendedInStream> {
    let mut take = Take::new(body);
    Some(match take.u8()? {
        0 => Ok(take.log_id_option()?),
        1 => Err(StreamAppendError::Conflict(take.log_id()?)),
        2 => Err(StreamAppendError::HigherVote(take.vote()?)),
        _ => return None,
    })
}

pub(super) fn encode_voted(voted: &Voted) -> Body {
    let mut out = BodyWriter::default();
    put_vote(&mut out, &voted.vote);
    out.put_u8(u8::from(voted.vote_granted));
    put_log_id_option(&mut out, voted.last_log_id.as_ref());
    out.finish()
}

pub(super) fn decode_voted(body: &Bytes) -> Option<Voted> {
    let mut take = Take::new(body);
    Some(Voted { vote: take.vote()?, vote_granted: take.flag()?, last_log_id: take.log_id_option()? })
}

pub(super) fn encode_transferred(transferred: &Transferred) -> Body {
    let mut out = BodyWriter::default();
    match transferred {
        Ok(()) => out.put_u8(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            out.put_u8(1);
            put_vote(&mut out, expected);
            put_vote(&mut out, actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            out.put_u8(2);
            put_log_id_option(&mut out, expected.as_ref());
            put_log_id_option(&mut out, actual.as_ref());
        }
    }
    out.finish()
}

pub(super) fn decode_transferred(body: &Bytes) -> Option<Transferred> {
    let mut take = Take::new(body);
    Some(match take.u8()? {
        0 => Ok(()),
        1 => Err(TransferLeaderError::VoteChanged { expected: take.vote()?, actual: take.vote()? }),
        2 => Err(TransferLeaderError::LogNotFlushed {
            expected: take.log_id_option()?,
            actual: take.log_id_option()?,
        }),
        _ => return None,
    })
}

/// What opens a stream.
pub(super) enum Opening {
    /// Append requests forth, results back, in order.
    Appends,
    /// A snapshot forth, acknowledgements back.
    Snapshot { vote: Vote, meta: SnapshotMeta },
}

impl Opening {
    pub(super) fn encode(&self) -> Body {
        let mut out = BodyWriter::default();
        match self {
            Self::Appends => out.put_u8(1),
            Self::Snapshot { vote, meta } => {
                out.put_u8(2);
                put_vote(&mut out, vote);
                put_log_id_option(&mut out, meta.last_log_id.as_ref());
                put_stored_membership(&mut out, &meta.last_membership);
            }
        }
        out.finish()
    }

    pub(super) fn decode(body: &Bytes) -> Option<Self> {
        let mut take = Take::new(body);
        let opening = match take.u8()? {
            1 => Self::Appends,
            2 => Self::Snapshot {
                vote: take.vote()?,
                meta: SnapshotMeta {
                    last_log_id: take.log_id_option()?,
                    last_membership: take.stored_membership()?,
                },
            },
            _ => return None,
        };
        take.is_empty().then_some(opening)
    }
}

/// A message of a snapshot stream, from the sender.
pub(super) enum Sent {
    Chunk(Bytes),
    /// That was all: so many chunks.
    End(u64),
}

impl Sent {
    pub(super) fn encode(&self) -> Body {
        let mut out = BodyWriter::default();
        match self {
            Self::Chunk(chunk) => {
                out.put_u8(1);
                out.put_u32(u32::try_from(chunk.len()).unwrap_or(u32::MAX));
                out.put_shared(chunk);
            }
            Self::End(chunks) => {
                out.put_u8(2);
                out.put_u64(*chunks);
            }
        }
        out.finish()
    }

    pub(super) fn decode(body: &Bytes) -> Option<Self> {
        let mut take = Take::sharing(body);
        let sent = match take.u8()? {
            1 => Self::Chunk(take.shared()?),
            2 => Self::End(take.u64()?),
            _ => return None,
        };
        take.is_empty().then_some(sent)
    }
}

/// A message of a snapshot stream, from the receiver.
pub(super) enum Said {
    /// Took so many more chunks (0: still at work).
    Took(u32),
    /// Installed, or refused because of a higher vote: the receiver's vote tells.
    Installed(Vote),
    /// Gave up.
    Failed(String),
}

impl Said {
    pub(super) fn encode(&self) -> Body {
        let mut out = BodyWriter::default();
        match self {
            Self::Took(chunks) => {
                out.put_u8(1);
                out.put_u32(*chunks);
            }
            Self::Installed(vote) => {
                out.put_u8(2);
                put_vote(&mut out, vote);
            }
            Self::Failed(why) => {
                out.put_u8(3);
                out.put_slice(why.as_bytes());
            }
        }
        out.finish()
    }

    pub(super) fn decode(body: &Bytes) -> Option<Self> {
        let mut take = Take::new(body);
        Some(match take.u8()? {
            1 => Self::Took(take.u32()?),
            2 => Self::Installed(take.vote()?),
            3 => Self::Failed(String::from_utf8_lossy(take.rest()).into_owned()),
            _ => return None,
        })
    }
}
