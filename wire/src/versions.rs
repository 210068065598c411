//! What a message said before it was edited, where that is kept.
//!
//! An edited message is the record it was, with other content, and a number: its version. Those before it are no records:
//! they are not pushed, pulled or counted, and whoever may pull the message may list them with `LIST_VERSIONS`.

use bincode::{Decode, Encode};

use crate::codec::{Blob, Source, decode};
use crate::id::{SessionId, UserId};
use crate::record::{Extension, Record};

/// Versions before the present one that are kept of a message at most, however a cluster is configured.
pub const MAX_VERSIONS: u32 = 100;

/// The data of the [`Version::TAG`] extension, which the cluster adds to a message when it is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Version {
    /// Which version of the message the record is: 2 after the first edit.
    pub number: u64,
    /// So many before it were kept when it was made: those with the numbers just below.
    pub kept: u64,
}

impl Version {
    /// The tag of the extension.
    pub const TAG: u16 = 10;

    /// That of a record; one that does not say so is the first.
    pub fn of(record: &Record) -> Self {
        let found = record.extensions.iter().find(|extension| extension.tag == Self::TAG);
        found.and_then(|found| decode(&found.data.0).ok()).unwrap_or(Self { number: 1, kept: 0 })
    }

    /// As it stands in a record.
    pub fn extension(&self) -> Extension {
        Extension { tag: Self::TAG, data: Blob(crate::encode(self)) }
    }
}

/// `LIST_VERSIONS`: the versions of a message, the present one first. For who may pull it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ListVersions {
    /// Where.
    pub session: SessionId,
    /// Which message; 0 asks of none, and only whether versions are kept.
    pub seq: u64,
    /// Those with lower numbers than this; 0 for the present one and those before it.
    pub before: u64,
    /// At most so many (1–[`MAX_VERSIONS`] + 1).
    pub limit: u32,
}

/// One line of a [`VersionsPage`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct VersionLine {
    /// 1 is what was said first.
    pub number: u64,
    /// When it was said, unix milliseconds; 0 if it is lost.
    pub time_ms: u64,
    /// In whose name.
    pub by: UserId,
    /// Media type.
    pub content_type: Blob,
    /// What it said.
    pub content: Blob,
    /// Those that came with it; none with the protocol's own tags.
    pub extensions: Vec<Extension>,
}

impl VersionLine {
    /// Stands for a version that should be there and is not: nothing is known of it but its number, and whose message it is of.
    pub fn lost(number: u64, sender: UserId) -> Self {
        let (content_type, content) = (Blob::default(), Blob::default());
        Self { number, time_ms: 0, by: sender, content_type, content, extensions: Vec::new() }
    }

    /// Whether it only says that the cluster has lost this version.
    pub fn is_lost(&self) -> bool {
        self.time_ms == 0
    }
}

/// `VERSIONS_PAGE`: the answer to LIST_VERSIONS.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct VersionsPage {
    /// Where.
    pub session: SessionId,
    /// Which message.
    pub seq: u64,
    /// The present one first, unless older ones were asked for.
    pub versions: Vec<VersionLine>,
    /// Whether there are older ones behind the last of them.
    pub more: bool,
    /// Whether what an edit takes the place of is kept in this session now.
    pub kept: bool,
}
