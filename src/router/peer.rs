//! What routers say to each other over the peer link: a version byte, then one enum. Content is copied once, into
//! the frame; on the other side commands and frames are slices of what was received.

use bincode::{Decode, Encode};
use bytes::{BufMut, Bytes, BytesMut};
use rookery_wire::codec::{Blob, DecodeFault, Source, decode, encode_into};
use rookery_wire::{DeviceId, UserId};

use super::seam::Arrival;
use crate::delivery::{Passing, Topic};
use crate::shard::{Answer, Freshness, Read, ReadRefusal, ReadReply};

/// First byte of every message between routers. A node of another version is not guessed at: the handshake of the link
/// compares it, and the two refuse each other.
pub const VERSION: u8 = 8;

/// One way.
#[derive(Clone, Debug, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub(super) enum Cast {
    /// Commands for the leader of a shard, in order, with the sender's numbers.
    Forward { shard: u32, commands: Vec<(u64, Blob)> },
    /// Answers to forwarded commands: shard, number, answer.
    Answers { answers: Vec<(u32, u64, Answer)> },
    /// Pushes for the receivers of a node that has no replica, in order.
    Events { events: Vec<Event> },
    /// Events of these topics were skipped; they go on from these seqs.
    Resumed { topics: Vec<(Topic, u64)> },
    /// Nobody there is attached to these any more.
    Unsubscribe { topics: Vec<Topic> },
    /// These devices are connected to the sender.
    Arrivals { arrivals: Vec<Arrival> },
    /// For the devices that are attached to these sessions at the receiver.
    Passing { passing: Vec<Passing> },
    /// The sender watches these users too, and those no longer; `fresh`: and nobody else. The answer repeats the number.
    Watch { number: u64, fresh: bool, add: Vec<UserId>, remove: Vec<UserId> },
    /// These users, of those the receiver watches, are connected to the sender, or are not; `whole`: and nobody else is.
    Present { number: u64, whole: bool, users: Vec<(UserId, bool)> },
}

/// A push on its way to another node.
#[derive(Clone, Debug, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub(super) struct Event {
    pub(super) topic: Topic,
    pub(super) seq: u64,
    pub(super) frame: Blob,
    pub(super) from: Option<(UserId, DeviceId, u32)>,
    pub(super) replaces: Option<(u64, Blob)>,
}

/// Asked, and answered by [`Reply`].
#[derive(Clone, Debug, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub(super) enum Call {
    /// A read of a shard.
    Read { shard: u32, read: Read, freshness: Freshness, deadline_ms: u64 },
    /// Attach the asking node to topics of a shard.
    Subscribe { shard: u32, topics: Vec<Topic> },
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub(super) enum Reply {
    /// To `Read`.
    Read(Result<ReadReply, ReadRefusal>),
    /// To `Subscribe`: from which seq each topic is pushed; [`crate::delivery::NOT_LIVE`] where it is not.
    Subscribed(Vec<(Topic, u64)>),
    /// This node has no replica of the shard.
    NoReplica,
    /// The call could not be read.
    Unknown,
}

/// Encodes a message; `size` is a guess of its length.
pub(super) fn encode<T: Encode>(message: &T, size: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(size + 64);
    out.put_u8(VERSION);
    encode_into(message, &mut out);
    out.freeze()
}

/// Decodes a message.
pub(super) fn read<T: Decode<Source>>(bytes: &Bytes) -> Result<T, DecodeFault> {
    match bytes.first() {
        Some(&VERSION) => decode(&bytes.slice(1..)),
        version => {
            Err(DecodeFault::Malformed(format!("router message of version {version:?}, known is {VERSION}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_arrive_as_slices_of_what_was_received() {
        let content = Blob(Bytes::from(vec![7; 5000]));
        let cast = Cast::Forward { shard: 3, commands: vec![(1, content.clone()), (2, content)] };
        let bytes = encode(&cast, 10_000);
        let Cast::Forward { shard, commands } = read(&bytes).unwrap() else { panic!("another message") };
        assert_eq!((shard, commands.len()), (3, 2));
        let frame = bytes.as_ptr_range();
        for (_, command) in &commands {
            assert!(frame.contains(&command.0.as_ptr()), "copied");
            assert_eq!(command.len(), 5000);
        }
    }

    #[test]
    fn another_version_and_damage_are_refused() {
        let bytes = encode(&Cast::Unsubscribe { topics: Vec::new() }, 0);
        let mut other = bytes.to_vec();
        other[0] = 9;
        assert!(read::<Cast>(&Bytes::from(other)).is_err());
        assert!(read::<Cast>(&Bytes::new()).is_err());
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(read::<Cast>(&Bytes::from(longer)).is_err());
    }
}
