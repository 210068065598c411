//! What happened, as the clients saw it and as every replica ended: the input of the judge.
//!
//! Plain data with numbers for names, nothing else: no socket, no clock, no verdict. All times are microseconds
//! since the run began on the one monotonic clock of the process that recorded them; an operation that never
//! returned has [`NEVER`] as its end. A history is bounded by the recorder (see `record`), not here.

use rookery_wire::{DeviceId, SessionId, UserId};
use serde::{Deserialize, Serialize};

pub use super::parts::{Asking, Drain, Keyed, Owing, Parts, Seal, Witness};

/// Microseconds since the run began.
pub type Micros = u64;

/// The end of an operation whose answer never came: it may take effect at any later time.
pub const NEVER: Micros = u64::MAX;

/// Hash of a record as it is (see [`crate::check::print`]): equal when two sides hold the same version of it.
pub type Print = u64;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);
    };
}

index!(
    /// Position in [`Names::users`].
    UserIx
);
index!(
    /// Position in [`Names::devices`].
    DeviceIx
);
index!(
    /// Position in [`Names::sessions`].
    SessionIx
);

/// Who and where, once each; everything else names them by position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Users.
    pub users: Vec<UserId>,
    /// Devices, each with its user.
    pub devices: Vec<(UserIx, DeviceId)>,
    /// Sessions.
    pub sessions: Vec<SessionId>,
}

/// How the run was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Seed of every random choice of the load.
    pub seed: u64,
    /// Nodes of the cluster.
    pub nodes: Vec<u16>,
    /// Replicas every session must have.
    pub replication: u32,
    /// Nodes kept so little log that those that were away had to come back by snapshots.
    #[serde(default)]
    pub snapshots: bool,
    /// What the load did beyond the plain acts.
    #[serde(default)]
    pub parts: Parts,
    /// How far the clocks of two nodes may be apart, microseconds.
    #[serde(default)]
    pub clock: Micros,
    /// How much later than promised something may come on a machine under load, microseconds: an answer after the node's
    /// deadline, news of a membership after the answer to its change.
    #[serde(default)]
    pub grace: Micros,
    /// The end of the run.
    #[serde(default)]
    pub drain: Option<Drain>,
    /// When the history was as long as it may be, if it ever was: the load was ended then.
    #[serde(default)]
    pub full_at: Option<Micros>,
}

/// What a numbered request asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// SEND.
    Content,
    /// CREATE_GROUP with these members; whoever asks is one too.
    Create(Vec<UserIx>),
    /// ADD_MEMBERS.
    Add(Vec<UserIx>),
    /// REMOVE_MEMBERS.
    Remove(Vec<UserIx>),
    /// MANAGE_GROUP: from now on the group keeps so many records.
    Keep(u64),
    /// RECALL of the message at this seq.
    Recall(u64),
    /// EDIT of the message at this seq.
    Edit(u64),
}

/// How a numbered request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// ACK.
    Acked {
        /// Position it was given.
        seq: u64,
        /// Its id.
        message_id: u64,
        /// Countable messages up to it.
        count: u64,
    },
    /// Refused for good, with this error code: it must not be stored.
    Refused(u16),
    /// Nobody knows: it may be stored once or not at all.
    Unknown,
}

/// One numbered request, from its first attempt to its first final answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// Who.
    pub device: DeviceIx,
    /// The device's registration.
    pub epoch: u32,
    /// Where.
    pub session: SessionIx,
    /// The device's number.
    pub client_seq: u64,
    /// Hash of the content that is sent; 0 where none is.
    pub hash: u64,
    /// For how long the message is to last, milliseconds; 0 for ever.
    #[serde(default)]
    pub lasts_ms: u64,
    /// What.
    pub act: Act,
    /// First attempt.
    pub invoke: Micros,
    /// First final answer, or [`NEVER`].
    pub done: Micros,
    /// How it ended.
    pub outcome: Outcome,
}

/// One more attempt at a numbered request, before or after its first answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Who.
    pub device: DeviceIx,
    /// The device's registration.
    pub epoch: u32,
    /// Where.
    pub session: SessionIx,
    /// The number.
    pub client_seq: u64,
    /// The node it was asked at.
    pub node: u16,
    /// When it was sent.
    pub at: Micros,
    /// Its own answer, if one came on that connection.
    pub outcome: Outcome,
}

/// One act on the user's own things: whether another user may write to this one. Numbered and repeated like a send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Who.
    pub device: DeviceIx,
    /// The device's number of such acts.
    pub number: u64,
    /// About whom.
    pub other: UserIx,
    /// Block, or else unblock.
    pub on: bool,
    /// First attempt.
    pub invoke: Micros,
    /// First final answer, or [`NEVER`].
    pub done: Micros,
    /// How it ended.
    pub answer: Told,
}

/// How an act on the user's own things ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// SELF_ACK.
    Acked,
    /// Refused for good, with this error code.
    Refused(u16),
    /// Nobody knows.
    Unknown,
}

/// How fresh a page was asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fresh {
    /// Linearizable.
    Linear,
    /// At least this seq.
    AtLeast(u64),
}

/// One page pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Who.
    pub device: DeviceIx,
    /// Where.
    pub session: SessionIx,
    /// The seq asked for.
    pub from: u64,
    /// Towards older messages.
    pub backward: bool,
    /// Records asked for at most.
    pub max: u32,
    /// How fresh.
    pub fresh: Fresh,
    /// Begin.
    pub invoke: Micros,
    /// End.
    pub done: Micros,
    /// First seq kept, as told.
    pub first_seq: u64,
    /// Last seq, as told.
    pub last_seq: u64,
    /// What was in it.
    pub records: Vec<(u64, Print)>,
}

/// One READ: moves the user's cursor and tells where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Who.
    pub device: DeviceIx,
    /// Where.
    pub session: SessionIx,
    /// Up to here.
    pub seq: u64,
    /// Begin.
    pub invoke: Micros,
    /// End, or [`NEVER`] when the answer never came.
    pub done: Micros,
    /// The cursor and its count as answered; none when refused or unknown.
    pub answer: Option<(u64, u64)>,
    /// Refused before anything was done.
    pub refused: bool,
}

/// The first seq of a session of which nothing was trimmed.
fn first() -> u64 {
    1
}

/// One line of a session list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which session.
    pub session: SessionIx,
    /// Members.
    pub members: u32,
    /// First seq kept.
    #[serde(default = "first")]
    pub first_seq: u64,
    /// Last seq.
    pub last_seq: u64,
    /// Countable messages.
    pub count: u64,
    /// Unread.
    pub unread: u64,
    /// Where the user joined.
    pub joined_seq: u64,
    /// The user's read cursor.
    pub read_seq: u64,
    /// The device's delivered cursor.
    pub delivered_seq: u64,
    /// The device's last number.
    pub last_client_seq: u64,
    /// Seq and kind of the preview, if there is one.
    pub last: Option<(u64, u16)>,
    /// It is known from an earlier list, and SYNC since a mark did not name it: so it says that once more.
    #[serde(default)]
    pub carried: bool,
    /// Begin of the request whose page held this line.
    pub invoke: Micros,
    /// End of that request.
    pub done: Micros,
}

/// One whole session list, all its pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// Who.
    pub device: DeviceIx,
    /// The device's registration.
    pub epoch: u32,
    /// Begin of the first page's request.
    pub invoke: Micros,
    /// End of the last page's.
    pub done: Micros,
    /// Its lines.
    pub lines: Vec<Line>,
    /// Sessions named without being asked, with the code that says why.
    pub unresolved: Vec<(SessionIx, u16)>,
    /// Sessions in all, as told.
    pub total: u32,
    /// It was asked for since a mark, and put together.
    #[serde(default)]
    pub since: bool,
}

/// Something that came on a connection unasked, or that says what will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// The user is in it, and from this seq on pushes come without a gap: SYNC said so.
    Live(u64),
    /// The same, said by JOINED.
    Joined(u64),
    /// Pushes were skipped, and come without a gap from this seq on: LAGGED said so.
    Lagged(u64),
    /// MESSAGE.
    Push(u64, Print),
    /// READ_MARK with its seq.
    Mark(u64),
    /// LEFT.
    Left,
    /// SYNC does not name it any more.
    Unlisted,
    /// An answer to what was asked here at this time: what comes after it was written after that.
    Answered(Micros),
    /// LAGGED without a session: anything may have been skipped.
    Behind,
}

/// The pushes of one connection, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Whose.
    pub device: DeviceIx,
    /// At which node.
    pub node: u16,
    /// From when.
    pub opened: Micros,
    /// Until when; none: still open when the cluster had gone quiet, so that nothing may be missing at its end.
    pub closed: Option<Micros>,
    /// When, where, what.
    pub events: Vec<(Micros, SessionIx, Seen)>,
    /// For so long the node goes on trying a request, milliseconds, as WELCOME told.
    #[serde(default)]
    pub deadline_ms: u32,
    /// What was not answered on it.
    #[serde(default)]
    pub owing: Vec<Owing>,
}

/// What the client library handed to an application, in that order: everything once, nothing missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// To which device.
    pub device: DeviceIx,
    /// Where and what.
    pub records: Vec<(SessionIx, u64, Print)>,
}

/// One record as a replica stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Position.
    pub seq: u64,
    /// Cluster-unique id.
    pub message_id: u64,
    /// Stamp, unix milliseconds.
    pub time_ms: u64,
    /// Countable messages up to it.
    pub count: u64,
    /// In whose name it was sent; none when the recorder never saw the name.
    pub sender: Option<UserIx>,
    /// The sending device; none when its name was never seen by the recorder.
    pub device: Option<DeviceIx>,
    /// Its registration.
    pub epoch: u32,
    /// Its number.
    pub client_seq: u64,
    /// `RecordKind` as a number.
    pub kind: u16,
    /// Hash of the content.
    pub hash: u64,
    /// The users a signal concerns, as far as their names are known.
    pub users: Vec<UserIx>,
    /// The message that a recall or an edit names.
    pub target: Option<u64>,
    /// For how long it says that it lasts, milliseconds; 0 for ever.
    #[serde(default)]
    pub lasts_ms: u64,
    /// Hash of what never changes in it.
    pub stem: u64,
    /// Hash of who changed it, when, and by which signal; 0 if nobody did.
    pub mark: u64,
    /// Hash of the whole.
    pub print: Print,
}

/// The members of a group as LIST_MEMBERS told them after the cluster had gone quiet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// The node that was asked.
    pub node: u16,
    /// The group.
    pub session: SessionIx,
    /// Who is in it.
    pub users: Vec<UserIx>,
    /// How many, as told.
    pub total: u32,
}

/// One session as one node's replica holds it after the cluster has gone quiet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// The node.
    pub node: u16,
    /// The session.
    pub session: SessionIx,
    /// When it was asked for.
    #[serde(default)]
    pub at: Micros,
    /// Everything it keeps.
    pub entries: Vec<Entry>,
}

/// What was done to the cluster in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// Nothing.
    None,
    /// SIGKILL and a restart.
    Kill,
    /// SIGKILL of several nodes at once, and a restart.
    Crash,
    /// SIGSTOP and SIGCONT.
    Pause,
    /// SIGTERM and a restart, one node after another.
    Rolling,
    /// Leads are handed to another node, one after another, and nothing else happens.
    Transfer,
    /// The disk loses what was not synced, then SIGKILL, then a restart.
    Powercut,
    /// The same with all nodes at once.
    Blackout,
}

/// One round of load with its fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// 1, 2, 3, …
    pub number: u32,
    /// What was done.
    pub fault: FaultKind,
    /// To which nodes.
    pub nodes: Vec<u16>,
    /// Begin of the round.
    pub begun: Micros,
    /// The instant of the fault.
    pub fault_at: Micros,
    /// The cluster was whole again.
    pub healed: Micros,
    /// End of the round.
    pub ended: Micros,
    /// Snapshots that nodes installed between the round before and the end of this one.
    #[serde(default)]
    pub snapshots: u64,
}

/// Everything the judge is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// How the run was made.
    pub setup: Setup,
    /// Names.
    pub names: Names,
    /// Numbered requests.
    pub sends: Vec<Send>,
    /// Further attempts at them.
    pub retries: Vec<Retry>,
    /// Pages.
    pub pages: Vec<Page>,
    /// READs.
    pub marks: Vec<Mark>,
    /// Blocks and their ends.
    pub bars: Vec<Bar>,
    /// Session lists.
    pub syncs: Vec<Sync>,
    /// Pushes.
    pub streams: Vec<Stream>,
    /// What applications got through the client library.
    pub handed: Vec<Handed>,
    /// Digests.
    pub seals: Vec<Seal>,
    /// Replicas at the end.
    pub dumps: Vec<Dump>,
    /// Records that were trimmed, as they stood when they were seen first: session by session, ascending.
    pub trimmed: Vec<(SessionIx, Vec<Entry>)>,
    /// What a backend did under request keys.
    pub keyed: Vec<Keyed>,
    /// Lines of the audit about it: number and key.
    pub audit: Vec<(u64, u64)>,
    /// Members at the end.
    pub rosters: Vec<Roster>,
    /// Replicas that should have been read and were not: node, session, why.
    pub unread: Vec<(u16, SessionIx, String)>,
    /// What no server may say, in words: when, to whom, what.
    pub faults: Vec<(Micros, DeviceIx, String)>,
    /// Rounds.
    pub rounds: Vec<Round>,
}

impl History {
    /// The user of a device.
    pub fn user_of(&self, device: DeviceIx) -> Option<UserIx> {
        self.names.devices.get(device.0 as usize).map(|(user, _)| *user)
    }

    /// A device for people: `user/device`.
    pub fn device_text(&self, device: DeviceIx) -> String {
        match self.names.devices.get(device.0 as usize) {
            Some((user, id)) => format!("{}/{id}", self.user_text(*user)),
            None => format!("device #{}", device.0),
        }
    }

    /// A user for people.
    pub fn user_text(&self, user: UserIx) -> String {
        self.names.users.get(user.0 as usize).map_or_else(|| format!("user #{}", user.0), ToString::to_string)
    }

    /// A session for people.
    pub fn session_text(&self, session: SessionIx) -> String {
        let name = self.names.sessions.get(session.0 as usize);
        name.map_or_else(|| format!("session #{}", session.0), ToString::to_string)
    }

    /// The business's backend, the last of the users.
    pub fn backend(&self) -> UserIx {
        UserIx((self.names.users.len() as u32).saturating_sub(1))
    }

    /// The two users of a direct session; none for a group.
    pub fn pair_of(&self, session: SessionIx) -> Option<[UserIx; 2]> {
        let SessionId::Direct { low, high } = self.names.sessions.get(session.0 as usize)? else {
            return None;
        };
        let find = |name: &UserId| self.names.users.iter().position(|user| user == name);
        Some([UserIx(find(low)? as u32), UserIx(find(high)? as u32)])
    }
}
