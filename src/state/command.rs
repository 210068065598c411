//! Commands: what the log carries. One log entry is a version byte, the leader's time, what it drew, and many commands.
//!
//! A command names who acts (already authenticated by the gateway) and touches exactly one entity. The encodings are
//! part of the data format: new kinds are appended to the enum and proposed only once the system group's format
//! permits them.

use bincode::{Decode, Encode};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rookery_wire::codec::{Blob, DecodeFault, Source, decode, encode_into, encode_sized};
use rookery_wire::{DeviceId, Extension, GroupAction, RequestKey, Retention, SessionId, UserId};
use xxhash_rust::xxh3::Xxh3;

use super::devices::{DeviceBounds, Introduction};
use super::doors::CodeHash;
use super::front::Front;
use super::keyed::KeyedOwn;
use super::left::Listing;
use super::outcome::About;
use super::own::UserAct;
use super::parts::PartOf;
use super::relations::{ErrandKey, Room, Stance};
use super::versions::VersionBounds;

/// First byte of every log entry.
pub const ENTRY_VERSION: u8 = 11;

/// Who acts, as the gateway authenticated it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Actor {
    /// The user of the connection; with device and epoch the key of exactly-once sends.
    pub user: UserId,
    /// Its device.
    pub device: DeviceId,
    /// The device's registration.
    pub epoch: u32,
    /// In whose name a service acts.
    pub on_behalf_of: Option<UserId>,
    /// Whether this is the business backend, which need not be a member.
    pub service: bool,
}

impl Actor {
    /// The user in whose name this happens.
    pub fn name(&self) -> &UserId {
        self.on_behalf_of.as_ref().unwrap_or(&self.user)
    }

    /// Who acts under a request key: a service, as none of its devices.
    pub fn keyed(service: UserId, on_behalf_of: Option<UserId>) -> Option<Self> {
        // The name is a good one.
        let device = DeviceId::new(NO_DEVICE).ok()?;
        Some(Self { user: service, device, epoch: 0, on_behalf_of, service: true })
    }

    /// Whether this is the system itself: a service under a request key and in nobody's name. What users set against each
    /// other does not bind it. Epochs of devices begin at 1.
    pub fn is_system(&self) -> bool {
        self.service && self.epoch == 0 && self.on_behalf_of.is_none()
    }
}

/// Stands as the device of records that no device sent.
pub const NO_DEVICE: &str = "-";

/// What a membership command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ChangeKind {
    /// Create the group with these members; the actor becomes its owner.
    Create,
    /// Add members.
    Add,
    /// Remove members.
    Remove,
}

/// What a device does to a session under its next `client_seq`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum Act {
    /// Content.
    Send {
        /// Media type.
        content_type: Blob,
        /// Opaque bytes.
        content: Blob,
        /// Skippable additions.
        extensions: Vec<Extension>,
    },
    /// Takes the content of a message back.
    Recall {
        /// Which.
        seq: u64,
        /// How old its sender's message may be, milliseconds; carried along as `most` below.
        window_ms: u64,
    },
    /// Puts other content in the place of a message's.
    Edit {
        /// Which.
        seq: u64,
        /// As in a recall.
        window_ms: u64,
        /// What is kept of what it takes the place of; carried along as `most` below.
        versions: VersionBounds,
        /// Media type.
        content_type: Blob,
        /// Opaque bytes.
        content: Blob,
        /// Skippable additions.
        extensions: Vec<Extension>,
    },
    /// A membership change.
    Change {
        /// Which.
        kind: ChangeKind,
        /// Whom it concerns.
        users: Vec<UserId>,
        /// Members the group may have, by the configuration of the node that took the request: carried along, so
        /// that nodes configured differently still judge alike (G8).
        most: u32,
        /// One of those whom it brings in that is no user, where that node lets nobody else be named (`limits.users`).
        unknown: Option<UserId>,
    },
    /// A change to a group.
    Manage {
        /// Which. Its sizes have been judged; who may, and whether there is room, is judged at apply.
        action: GroupAction,
    },
    /// Somebody who is no member comes in, or asks to.
    Join {
        /// Of the code that was given: the code itself is not in the log.
        code: Option<CodeHash>,
        /// For those who answer a request.
        text: Blob,
        /// As in a change of members.
        most: u32,
        /// How long after it was declined a user may ask again, milliseconds; carried along as `most` is.
        again_ms: u64,
    },
    /// A request to join is answered; by who has asked, taken back.
    Answer {
        /// Whose.
        user: UserId,
        /// It joins.
        accept: bool,
        /// As in a change of members.
        most: u32,
    },
}

impl Act {
    /// The lists that have to learn of it before it is acknowledged; none if it moves no members.
    pub fn about_lists(&self, actor: &Actor) -> Option<About> {
        Some(match self {
            Act::Change { kind: ChangeKind::Create, users, .. } => {
                About::Lists(users.iter().chain(std::iter::once(actor.name())).cloned().collect())
            }
            Act::Change { users, .. } => About::Lists(users.clone()),
            Act::Join { .. } => About::Lists(vec![actor.name().clone()]),
            Act::Answer { user, accept: true, .. } => About::Lists(vec![user.clone()]),
            Act::Manage { action: GroupAction::Dissolve } => About::All,
            _ => return None,
        })
    }

    /// A stable hash that tells a retry from another act under the same number. Part of the data format. That of an edit knows
    /// its message and not what it says: nothing would take that away when the message is recalled.
    pub fn fingerprint(&self, on_behalf_of: Option<&UserId>) -> u64 {
        let mut hash = Xxh3::new();
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(on_behalf_of.map_or("", UserId::as_str).as_bytes());
        match self {
            Act::Send { content_type, content, extensions } => {
                part(content_type.as_ref());
                part(content.as_ref());
                for extension in extensions {
                    part(&extension.tag.to_le_bytes());
                    part(extension.data.as_ref());
                }
            }
            Act::Edit { seq, .. } => {
                part(&[8]);
                part(&seq.to_le_bytes());
            }
            Act::Recall { seq, .. } => {
                part(&[9]);
                part(&seq.to_le_bytes());
            }
            Act::Change { kind, users, .. } => {
                part(&[*kind as u8 + 1]);
                for user in users {
                    part(user.as_str().as_bytes());
                }
            }
            Act::Manage { action } => {
                part(b"manage");
                part(&rookery_wire::encode(action));
            }
            Act::Join { code, text, .. } => {
                part(b"join");
                part(code.as_ref().map_or(&[], |hash| &hash[..]));
                part(text.as_ref());
            }
            Act::Answer { user, accept, .. } => {
                part(b"answer");
                part(user.as_str().as_bytes());
                part(&[u8::from(*accept)]);
            }
        }
        hash.digest()
    }
}

/// A user's membership in one session as the session decided it, on its way into the user's own list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Link {
    /// Which session.
    pub session: SessionId,
    /// Version of this user's membership there; an older one never overwrites a newer one (R12).
    pub version: u64,
    /// Member, or removed.
    pub member: bool,
    /// Seq at which the user joined.
    pub joined_seq: u64,
    /// Who begins the direct session that opens, or adds the user to the group: the user may not let that one in. None if nobody
    /// is to be asked about: a service, or the user's own wish.
    pub from: Option<UserId>,
}

/// Up to where a user has read a session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReadTo {
    /// Which.
    pub session: SessionId,
    /// Up to and including.
    pub seq: u64,
    /// The session's running count at that seq (R15).
    pub count: u64,
    /// Messages wait there for this: the session is told by an errand.
    pub burns: bool,
}

/// Why a user's list did not take a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Unwanted {
    /// It is full.
    Full {
        /// Sessions a list may hold, as it was judged there.
        most: u32,
    },
    /// It is nobody's: there is no such user.
    Unknown,
    /// Its user blocks the one who begins it or adds the user to it, or lets no strangers do so.
    Stranger,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum Command {
    /// A send, a membership change or another change to a group, numbered by the device.
    Act {
        /// Who.
        actor: Actor,
        /// Where.
        session: SessionId,
        /// The device's number.
        client_seq: u64,
        /// What.
        act: Act,
    },
    /// The users' lists have these versions of their membership: the session's intents are cleared.
    Linked {
        /// Which session.
        session: SessionId,
        /// User, version that arrived, and whether it was that of a member.
        done: Vec<(UserId, u64, bool)>,
    },
    /// The users' lists did not take the session: what it had decided about them is undone.
    Unlinked {
        /// Which session.
        session: SessionId,
        /// User and version that was refused.
        refused: Vec<(UserId, u64)>,
        /// Why.
        why: Unwanted,
    },
    /// Gives a device an epoch; the same nonce gives the same one again.
    Register {
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
        /// What it says of itself.
        says: Introduction,
        /// How many there may be.
        bounds: DeviceBounds,
    },
    /// Moves the user's read cursor forward.
    Read {
        /// Whose.
        user: UserId,
        /// Where to.
        to: ReadTo,
        /// When a node was told so by the device, by that node's clock, unix milliseconds.
        taken_ms: u64,
    },
    /// Moves a device's delivered cursors forward.
    Delivered {
        /// Whose.
        user: UserId,
        /// Which device.
        device: DeviceId,
        /// The registration that says so: another device of that name takes over nothing.
        epoch: u32,
        /// Session and seq.
        cursors: Vec<(SessionId, u64)>,
    },
    /// An intent that has arrived: sets the membership in the user's list.
    Link {
        /// Whose list.
        user: UserId,
        /// What.
        link: Link,
        /// By what it is taken.
        list: Listing,
    },
    /// A numbered act on the own things of the user in whose name the actor acts.
    UserAct {
        /// Who.
        actor: Actor,
        /// What.
        act: UserAct,
    },
    /// Moves many of the user's read cursors forward, for an act that is still to come.
    ReadMany {
        /// Whose.
        user: UserId,
        /// What that is known by.
        of: PartOf,
        /// Where to.
        cursors: Vec<ReadTo>,
    },
    /// An errand that has arrived: whether one of a direct session takes what the other writes.
    Bar {
        /// Which.
        session: SessionId,
        /// Who decides.
        by: UserId,
        /// Of the errand; an older one never overwrites a newer one (R12).
        version: u64,
        /// Nothing is taken.
        on: bool,
    },
    /// An errand that has arrived: what another user wants of this one.
    Hear {
        /// Who hears it.
        user: UserId,
        /// Who wants something.
        from: UserId,
        /// What.
        stance: Stance,
        /// Of a request.
        text: Blob,
        /// For how many there is room.
        room: Room,
    },
    /// Errands have arrived: the user's are cleared.
    Carried {
        /// Whose.
        user: UserId,
        /// Which, and the versions that arrived.
        done: Vec<(ErrandKey, u64)>,
    },
    /// A session lets go of its oldest messages.
    Trim {
        /// Which session.
        session: SessionId,
        /// Up to and including this one.
        upto: u64,
        /// The running count there.
        count: u64,
        /// The session's own retention when this was decided; if that has changed since, nothing goes.
        by: Retention,
    },
    /// A user has read a session in which messages wait for that.
    Burn {
        /// Which session.
        session: SessionId,
        /// Who.
        user: UserId,
        /// Up to and including.
        seq: u64,
    },
    /// Messages whose time has come go.
    Expire {
        /// Which session.
        session: SessionId,
        /// Which messages.
        seqs: Vec<u64>,
    },
    /// What a numbered act does, under a request key.
    KeyedAct {
        /// Who: [`Actor::keyed`].
        actor: Actor,
        /// Where.
        session: SessionId,
        /// The backend's name for it.
        key: RequestKey,
        /// What.
        act: Act,
    },
    /// A change to the own things of the user in whose name the actor acts, under a request key.
    KeyedOwn {
        /// Who: [`Actor::keyed`].
        actor: Actor,
        /// The backend's name for it.
        key: RequestKey,
        /// What.
        act: KeyedOwn,
    },
    /// Is this intent one still? Changes nothing: the place in the log is the point of it.
    StillIntended {
        /// Which session's.
        session: SessionId,
        /// For whose list.
        user: UserId,
        /// Of the membership.
        version: u64,
    },
}

impl Command {
    /// Whether it takes something back that others have been told, if it is carried out: then that is to leave the log as
    /// well (G7).
    pub fn takes_back(&self) -> bool {
        matches!(
            self,
            Command::Act { act: Act::Recall { .. } | Act::Edit { .. }, .. }
                | Command::KeyedAct { act: Act::Recall { .. } | Act::Edit { .. }, .. }
        )
    }

    /// The bytes that travel between nodes and into the log.
    pub fn encode(&self) -> Bytes {
        // Room for the whole of a message, so that the buffer is not grown and copied.
        let content = match self {
            Command::Act { act: Act::Send { content, .. } | Act::Edit { content, .. }, .. }
            | Command::KeyedAct { act: Act::Send { content, .. } | Act::Edit { content, .. }, .. } => {
                content.len()
            }
            _ => 0,
        };
        encode_sized(self, content + 192)
    }

    /// Reads what [`Command::encode`] wrote. Content stays a slice of `bytes`.
    ///
    /// # Errors
    /// [`DecodeFault`]: an unknown kind or damaged bytes.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeFault> {
        decode(bytes)
    }
}

/// A log entry: many commands under one time.
#[derive(Debug)]
pub struct Entry {
    /// The leader's clock when it proposed, unix milliseconds.
    pub time_ms: u64,
    /// Whether that clock agreed with those of a majority of the nodes.
    pub time_agrees: bool,
    /// What it drew then, for the salts of records.
    pub secret: [u8; 16],
    /// The commands in order.
    pub commands: Vec<Command>,
}

impl Entry {
    /// Bytes that precede the commands of an entry.
    pub const HEAD_BYTES: usize = 1 + 8 + 1 + 16;

    /// Begins an entry; [`Entry::push`] adds commands.
    pub fn begin(time_ms: u64, time_agrees: bool, secret: [u8; 16], capacity: usize) -> BytesMut {
        let mut out = BytesMut::with_capacity(capacity + Self::HEAD_BYTES);
        out.put_u8(ENTRY_VERSION);
        out.put_u64_le(time_ms);
        out.put_u8(u8::from(time_agrees));
        out.put_slice(&secret);
        out
    }

    /// Appends an encoded command.
    pub fn push(out: &mut BytesMut, command: &[u8]) {
        out.put_u32_le(command.len() as u32);
        out.put_slice(command);
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`DecodeFault`] when version or bytes are not ours: the node must stop rather than guess (R9).
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeFault> {
        let short = || DecodeFault::Malformed("log entry too short".to_owned());
        if bytes.len() < Self::HEAD_BYTES {
            return Err(short());
        }
        let version = bytes.get_u8();
        if version != ENTRY_VERSION {
            return Err(DecodeFault::Malformed(format!(
                "log entry of version {version}, this program knows {ENTRY_VERSION}"
            )));
        }
        let time_ms = bytes.get_u64_le();
        let time_agrees = match bytes.get_u8() {
            0 => false,
            1 => true,
            other => {
                return Err(DecodeFault::Malformed(format!("log entry with {other} as its clock's word")));
            }
        };
        let mut secret = [0; 16];
        bytes.copy_to_slice(&mut secret);
        let (mut commands, mut front) = (Vec::new(), Front::default());
        while bytes.has_remaining() {
            if bytes.len() < 4 {
                return Err(short());
            }
            let length = bytes.get_u32_le() as usize;
            if bytes.len() < length {
                return Err(short());
            }
            let command = front.decode(&bytes.split_to(length))?;
            if commands.is_empty() {
                // The others are about as long, most often.
                commands.reserve((bytes.len() / (length + 4) + 1).min(1024));
            }
            commands.push(command);
        }
        Ok(Self { time_ms, time_agrees, secret, commands })
    }
}

/// Appends a value to a row or message under a version byte.
pub fn versioned<T: Encode>(version: u8, value: &T) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_u8(version);
    encode_into(value, &mut out);
    out.freeze()
}
