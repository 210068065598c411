//! What a load does beyond sending, changing, reading and blocking, and what is recorded of it: proofs by digest, and
//! what a backend does under request keys; and of what is waited for: answers that are owed, and the drain. Part of a
//! [history](super::history), and plain data like all of it.

use rookery_wire::Digest;
use serde::{Deserialize, Serialize};

use super::history::{DeviceIx, Micros, Outcome, SessionIx, UserIx};

/// What a load does beyond sending, changing, reading and blocking. A part that was played must have shown something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Devices and replicas prove their copies by digest.
    pub digests: bool,
    /// Some messages last for a time only.
    pub lasting: bool,
    /// Some groups keep so many records only; 0: all keep everything.
    pub keep: u64,
    /// Lists are asked for since a mark and put together.
    pub since: bool,
    /// A backend acts under request keys.
    pub keys: bool,
}

/// Who says that the digest of a session is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Witness {
    /// A device, by the records that were pushed to it and that it pulled.
    Copy(DeviceIx),
    /// The cluster, asked by this device.
    Told(DeviceIx),
    /// The replica of this node.
    Replica(u16),
    /// The records that this node's replica gave.
    Records(u16),
}

/// The digest of a session at one seq: whoever says it, it must be the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Who says so.
    pub witness: Witness,
    /// Of which session.
    pub session: SessionIx,
    /// Up to and including this record.
    pub seq: u64,
    /// What it is.
    pub digest: Digest,
    /// When it was said.
    pub at: Micros,
}

/// One message that a backend sent under a request key, and every asking for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyed {
    /// Which key: the run's keys are numbered.
    pub key: u64,
    /// Where.
    pub session: SessionIx,
    /// In whose name; none is the system.
    pub name: Option<UserIx>,
    /// Hash of the content.
    pub hash: u64,
    /// Every asking.
    pub asked: Vec<Asking>,
}

/// One ADMIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asking {
    /// At which node.
    pub node: u16,
    /// Begin.
    pub invoke: Micros,
    /// End, or [`NEVER`](super::history::NEVER).
    pub done: Micros,
    /// The line of the audit, as told.
    pub audit: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// A request without an answer when its connection ended, or when the run did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owing {
    /// What was asked for, in words.
    pub what: String,
    /// When it was asked.
    pub asked: Micros,
    /// For so long the device has watched the connection since; a time in which it stood still itself counts for little.
    pub waited: Micros,
}

/// The end of a run, when nothing new is sent and what is under way is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Devices send nothing new.
    pub begun: Micros,
    /// Everything is answered, or it was waited for long enough.
    pub ended: Micros,
    /// From when on every node served and every shard had a leader, whenever that was looked at until the drain ended;
    /// none if it was not so in the end.
    pub whole_since: Option<Micros>,
    /// Replicas are read; devices make sure that they have everything, and leave.
    pub quiet: Micros,
}
