//! The face of a shard: what the router gives it and gets back.

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::codec::Source;
use rookery_wire::digest::DigestReply;
use rookery_wire::group::{Group, ListRoles, RolePage};
use rookery_wire::join::{CodePage, ListCodes, ListRequests, RequestPage};
use rookery_wire::own::{DevicePage, RelationFilter, RelationPage, Settings};
use rookery_wire::record::Preview;
use rookery_wire::request::{ListMembers, Pull};
use rookery_wire::versions::{ListVersions, VersionsPage};
use rookery_wire::{DeviceId, ErrorBody, ErrorCode, RequestKey, SessionId, UserId};

use crate::state::Actor;
pub use crate::state::Answer;

/// Who waits for an answer: the router's own number of the request on that node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Origin {
    /// The node whose router waits.
    pub node: u16,
    /// Its number of the request, unique for the life of that process.
    pub request: u64,
}

/// A command on its way into the log.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Who waits.
    pub origin: Origin,
    /// An encoded [`crate::state::Command`]; forwarded, retried and logged as these very bytes.
    pub command: Bytes,
}

/// Takes answers to submissions; implemented by the router, which completes its own and sends the others home.
pub trait Answers: Send + Sync + 'static {
    /// Called on arbiter threads and must not block. One call carries all answers of one applied batch.
    fn answer(&self, shard: u32, answers: Vec<(Origin, Answer)>);
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Freshness {
    /// Leadership is confirmed by a majority after the call began.
    Linearizable,
    /// This replica, if it has the session at least up to this seq; otherwise refused with `NotFresh`.
    AtLeast(u64),
    /// This replica as it is.
    Replica,
}

/// A read of one shard.
#[derive(Clone, Debug, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum Read {
    /// A slice of a session. `user` is judged to be a member; none for a service.
    Pull {
        /// On whose behalf.
        user: Option<UserId>,
        /// The slice; its `consistency` is not looked at here.
        pull: Pull,
    },
    /// When each of these sessions was last active and whether every user's list agrees with its members, from memory:
    /// costs no wake-up and no row.
    Activity {
        /// Which, at most [`MAX_HEADS`].
        sessions: Vec<SessionId>,
    },
    /// Summaries for a user's list.
    Heads {
        /// Whose list.
        user: UserId,
        /// For which device.
        device: DeviceId,
        /// Its epoch.
        epoch: u32,
        /// Which, at most [`MAX_HEADS`], and what the user has of them.
        sessions: Vec<Asked>,
    },
    /// The running count of countable messages at `seq`, for a read cursor; the user must be a member.
    CountAt {
        /// Whose cursor.
        user: UserId,
        /// Where.
        session: SessionId,
        /// At which seq.
        seq: u64,
    },
    /// Who is a member. `user` must be one; none for a service.
    Members {
        /// On whose behalf.
        user: Option<UserId>,
        /// Which page.
        list: ListMembers,
    },
    /// A page of a user's sessions and cursors.
    UserSessions {
        /// Whose.
        user: UserId,
        /// Which device's cursors.
        device: DeviceId,
        /// Those behind this one by name; the first page without.
        after: Option<SessionId>,
        /// With the first page: what the user has left since this log index.
        left_since: Option<u64>,
    },
    /// A device connects: its epoch, and its turn among the connections of this device.
    Arrive {
        /// Whose.
        user: UserId,
        /// Which device.
        device: DeviceId,
    },
    /// The epoch of a device, as a count; 0 if it is not registered.
    Epoch {
        /// Whose.
        user: UserId,
        /// Which device.
        device: DeviceId,
    },
    /// The last number of a device's acts on a user's own things.
    OwnNumber {
        /// Whose things.
        user: UserId,
        /// Who acts …
        by: UserId,
        /// … from which device …
        device: DeviceId,
        /// … under which epoch.
        epoch: u32,
    },
    /// How a user has set these sessions.
    Settings {
        /// Who.
        user: UserId,
        /// Which; a page of them.
        sessions: Vec<SessionId>,
    },
    /// A page of a user's relations.
    Relations {
        /// Whose.
        user: UserId,
        /// Which.
        which: RelationFilter,
        /// Those behind this one by name.
        after: Option<UserId>,
        /// At most so many.
        limit: u32,
    },
    /// A page of a user's devices.
    Devices {
        /// Whose.
        user: UserId,
        /// Those behind this one by id.
        after: Option<DeviceId>,
        /// At most so many.
        limit: u32,
    },
    /// How a group is set. `user` must be a member; none for a service.
    Group {
        /// On whose behalf.
        user: Option<UserId>,
        /// Which.
        session: SessionId,
    },
    /// Who is to have read a message: members by name who were members when it was sent, its sender aside. `user` must be
    /// one; none for a service.
    Audience {
        /// On whose behalf.
        user: Option<UserId>,
        /// Where.
        session: SessionId,
        /// Which message.
        seq: u64,
        /// Those behind this one by name; the first ones without.
        after: Option<UserId>,
        /// At most so many, and at most [`MAX_HEADS`].
        most: u32,
    },
    /// How far users of this shard have read a session.
    Cursors {
        /// Which session.
        session: SessionId,
        /// Whose cursors, at most [`MAX_HEADS`].
        users: Vec<UserId>,
        /// Who is told; none for a service.
        to: Option<UserId>,
    },
    /// When users of this shard were last heard of.
    Seen {
        /// Who, and who is told (none for a service), at most [`MAX_HEADS`].
        pairs: Vec<(UserId, Option<UserId>)>,
        /// They are members of one group, and need not know each other.
        in_group: bool,
    },
    /// Whether somebody may write to a session now.
    MayPass {
        /// Where.
        session: SessionId,
        /// Who, as in a numbered act.
        actor: Actor,
    },
    /// With whom a user has a direct session or a friendship.
    Acquainted {
        /// Who.
        user: UserId,
        /// With which of these, at most [`MAX_HEADS`].
        with: Vec<UserId>,
    },
    /// Whether these users of this shard have registered a device, or were created.
    Known {
        /// Who, at most [`MAX_HEADS`].
        users: Vec<UserId>,
    },
    /// Whether a user remembers a request key: 1 if so, else 0, as a count.
    KnowsKey {
        /// Who.
        user: UserId,
        /// Which.
        key: RequestKey,
    },
    /// Who is more than a plain member, or muted. `user` must be a member; none for a service.
    Roles {
        /// On whose behalf.
        user: Option<UserId>,
        /// Which page.
        list: ListRoles,
    },
    /// The digest of a session. `user` must be a member; none for a service.
    Digest {
        /// On whose behalf.
        user: Option<UserId>,
        /// Where.
        session: SessionId,
        /// At which seq; 0 for the last.
        seq: u64,
    },
    /// Who asks to join a group, or is kept out. `user` must be one who may add members, or is no member and sees its own
    /// request; none for a service.
    Requests {
        /// On whose behalf.
        user: Option<UserId>,
        /// Which page.
        list: ListRequests,
    },
    /// The codes of a group. `user` must be one who may add members; none for a service.
    Codes {
        /// On whose behalf.
        user: Option<UserId>,
        /// Which page.
        list: ListCodes,
    },
    /// The versions of a message. `user` must be one who may pull it; none for a service.
    Versions {
        /// On whose behalf.
        user: Option<UserId>,
        /// Which page.
        list: ListVersions,
    },
}

/// The order of arrivals of one device, given by the leader of its user's shard. Not replicated: a later leader has a
/// later term, and within a term one leader counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Turn {
    /// Term of the leader.
    pub term: u64,
    /// Its count.
    pub count: u64,
}

/// Most sessions in one page of [`Read::UserSessions`]: with the longest names they fit a peer's frame.
pub const LIST_PAGE: usize = 10_000;

/// What memory knows of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SessionActivity {
    /// Last seq.
    pub last_seq: u64,
    /// Time of the last record, unix milliseconds.
    pub time_ms: u64,
    /// Countable messages.
    pub count: u64,
    /// The session exists and no change of its members is on its way to a user's list: a list that is read after this
    /// names it if, and only if, its user is a member.
    pub settled: bool,
    /// Log index at which it last changed in what lists show of it.
    pub changed: u64,
}

/// Most sessions in one [`Read::Heads`] or [`Read::Activity`].
pub const MAX_HEADS: usize = 10_000;

/// One session of a user's own list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UserSession {
    /// Which.
    pub session: SessionId,
    /// Seq at which the user joined.
    pub joined_seq: u64,
    /// Read cursor.
    pub read_seq: u64,
    /// The session's running count up to which everything is read, or cleared.
    pub seen_count: u64,
    /// The device's delivered cursor.
    pub delivered_seq: u64,
    /// The user has set something of it.
    pub is_set: bool,
    /// No notifications before this time.
    pub muted_until_ms: u64,
    /// Counts of deleted ranges above `seen_count`: before each, and at its end.
    pub deleted: Vec<(u64, u64)>,
    /// Log index at which this line of the list last changed, the delivered cursor aside.
    pub changed: u64,
}

/// What a user has left since a log index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LeftSince {
    /// At most [`MAX_LEFT`] of them.
    pub sessions: Vec<SessionId>,
    /// There are no others.
    pub all: bool,
}

/// Most sessions that are named as left; who has left more is told the whole list instead.
pub const MAX_LEFT: usize = 1_000;

/// A session of which a head is asked, and what the user has of it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Asked {
    /// Which.
    pub session: SessionId,
    /// As in [`UserSession`].
    pub seen_count: u64,
    /// As in [`UserSession`].
    pub deleted: Vec<(u64, u64)>,
    /// Whether messages wait for the user to read them is asked as well.
    pub burns: bool,
}

impl Asked {
    /// The counts after which recalled messages must be known, when everything up to `seen` is seen: that, and both ends
    /// of every deleted range.
    pub fn counts(&self, seen: u64) -> impl Iterator<Item = u64> {
        let ends = self.deleted.iter().flat_map(move |(before, count)| [*before, *count]);
        std::iter::once(seen).chain(ends.map(move |count| count.max(seen)))
    }

    /// Unread messages (G6): those after `seen`, less the recalled ones, less the deleted ones that were not recalled.
    /// `recalled`: recalled messages after each of [`Asked::counts`].
    pub fn unread(&self, count: u64, seen: u64, recalled: &[u64]) -> u64 {
        let mut unread = count.saturating_sub(seen + recalled.first().copied().unwrap_or(0));
        let of_ranges = recalled.get(1..).unwrap_or_default().chunks(2);
        for ((before, end), of_range) in self.deleted.iter().zip(of_ranges) {
            let [after_before, after_end] = of_range else { continue };
            let deleted = end.max(&seen) - before.max(&seen);
            unread = unread.saturating_sub(deleted.saturating_sub(after_before.saturating_sub(*after_end)));
        }
        unread
    }
}

/// Deleted ranges that one page of [`Read::UserSessions`] names, about; with more it is cut short.
pub const LIST_RANGES: usize = 20_000;

/// A session as one member sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct SessionHead {
    /// Members it has.
    pub members: u32,
    /// First seq kept.
    pub first_seq: u64,
    /// Last seq.
    pub last_seq: u64,
    /// Countable messages.
    pub count: u64,
    /// Countable messages, less the recalled and deleted ones, after max(read, own last, joined - 1, cleared) (G6).
    pub unread: u64,
    /// Messages wait for this user to read them, if that was asked.
    pub burns: bool,
    /// Seq at which this user joined.
    pub joined_seq: u64,
    /// The device's last number under its epoch.
    pub last_client_seq: u64,
    /// Time of the last message, unix milliseconds.
    pub time_ms: u64,
    /// The last message, shortened.
    pub last: Option<Preview>,
}

/// Members of a session who are to have read a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Audience {
    /// By name, each with whether it has written a later message, and so is taken to have seen this one (G6).
    pub members: Vec<(UserId, bool)>,
    /// There are more behind the last of them.
    pub more: bool,
}

/// What a read found.
#[derive(Clone, Debug, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum ReadReply {
    /// An encoded body of [`rookery_wire::reply::Page`].
    Page(rookery_wire::Blob),
    /// What memory knows of sessions.
    Activity {
        /// All of the log up to this index is in it; 0 if the read was not linearizable.
        index: u64,
        /// In the order asked.
        sessions: Vec<SessionActivity>,
    },
    /// A head or the reason there is none, in the order asked.
    Heads(Vec<Result<SessionHead, ErrorCode>>),
    /// A running count.
    Count(u64),
    /// The same where messages wait for this user to read them: the session is to be told, see [`crate::state::ReadTo`].
    CountBurning(u64),
    /// Members.
    Members(rookery_wire::reply::MemberPage),
    /// A user's sessions, by name.
    UserSessions {
        /// At most [`LIST_PAGE`] sessions the user is a member of.
        sessions: Vec<UserSession>,
        /// There are more.
        more: bool,
        /// The epoch of the device that asks, 0 if it is not registered any more.
        epoch: u32,
        /// Log index at which that device came to be.
        began: u64,
        /// All of the log up to this index is in it; 0 if the read was not linearizable.
        index: u64,
        /// What was left, if that was asked.
        left: LeftSince,
    },
    /// A device's registration and turn.
    Arrived {
        /// Its epoch, 0 if it is not registered.
        epoch: u32,
        /// Its turn.
        turn: Turn,
        /// Its last number of acts on the user's own things.
        last_number: u64,
        /// When it was last ended, unix milliseconds; 0 if it was not.
        ended_ms: u64,
    },
    /// A group.
    Group(Box<Group>),
    /// Roles and mutes.
    Roles(RolePage),
    /// How the sessions asked for are set, in that order.
    Settings(Vec<Settings>),
    /// Relations.
    Relations(RelationPage),
    /// Devices.
    Devices(DevicePage),
    /// Who is to have read a message.
    Audience(Audience),
    /// Read cursors in the order asked; none where it is not shown.
    Cursors(Vec<Option<u64>>),
    /// Times in unix milliseconds in the order asked, 0 for never; none where it is not shown.
    Seen(Vec<Option<u64>>),
    /// Yes.
    Allowed,
    /// Whether they are acquainted, in the order asked.
    Acquainted(Vec<bool>),
    /// Whether they are users, in the order asked.
    Known(Vec<bool>),
    /// A digest.
    Digest(DigestReply),
    /// Users outside of a group.
    Requests(RequestPage),
    /// Codes of a group.
    Codes(CodePage),
    /// Versions of a message.
    Versions {
        /// The page.
        page: VersionsPage,
        /// Whether they are kept in this session, if that is not for the configuration to say.
        said: Option<bool>,
    },
}

/// Why a read was not answered.
#[derive(Clone, Debug, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum ReadRefusal {
    /// Final: the request itself is refused.
    Refused(ErrorBody),
    /// Not the leader, leadership not confirmed in time, or busy: ask `leader`, or again.
    Again {
        /// A better node to ask, if known.
        leader: Option<u16>,
    },
    /// This replica has not got that far.
    NotFresh,
}
