//! What can go wrong in the store, in words that name the thing and the remedy.
//!
//! Owns the error type of the whole store. A `StoreError` that reaches a caller means that nothing was promised;
//! a failed write, fsync or flush never becomes one: it goes to [`super::FaultPolicy`] and ends the process.

use std::io;
use std::path::PathBuf;

/// Why the store refused, or could not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the folder.
    #[error("folder {} is in use by a running node; stop that node, or give this one another `data` in cluster.toml", .0.display())]
    InUse(PathBuf),

    /// The folder holds parts of a store but not its identity file.
    #[error(
        "folder {} holds a log but no readable store id ({why}); its Raft identity is lost: move the folder away and \
         let the node join as a replacement", dir.display()
    )]
    NoIdentity {
        /// The folder of the node.
        dir: PathBuf,
        /// What was found instead.
        why: String,
    },

    /// A later version of this program wrote the folder. It is whole, and nothing in it may be touched.
    #[error(
        "folder {} is in store format {found}, this program knows {known}: start a newer version of rookery",
        dir.display()
    )]
    NewerFormat {
        /// The folder of the node.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The one this program knows.
        known: u32,
    },

    /// The log lost or changed something it had promised to keep (R1, G12). The node must not vote with it.
    #[error(
        "the log in {} is damaged: {what}; the node's Raft identity is lost: move the folder away and let the node \
         join as a replacement", dir.display()
    )]
    LogDamaged {
        /// The folder of the node.
        dir: PathBuf,
        /// Which bytes disagree with what.
        what: String,
    },

    /// `state` cannot be opened or read. Without it the log, which is purged behind it, is of no use either.
    #[error(
        "the state database in {} is damaged: {what}; move this whole folder away (not `state` alone) and start the \
         node once with `serve --replace`: it learns everything from its peers, and nothing is lost while a majority \
         of them lives", dir.display()
    )]
    StateDamaged {
        /// The folder of the node.
        dir: PathBuf,
        /// Which part.
        what: String,
    },

    /// A value's checksum does not match (G12). It is never served.
    #[error("map {map}: the value under key {key} is damaged ({what})")]
    ValueDamaged {
        /// Name of the map.
        map: String,
        /// The key, in hex, shortened.
        key: String,
        /// What is wrong with it.
        what: &'static str,
    },

    /// The operating system refused.
    #[error("{context}: {source}")]
    Io {
        /// What was tried, with the path.
        context: String,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },

    /// An option is out of its bounds.
    #[error("store option {name}: {why}")]
    Option {
        /// The option's name in [`super::StoreOptions`].
        name: &'static str,
        /// The bound.
        why: String,
    },

    /// A batch, key, entry or name is larger than the store accepts.
    #[error("{what} has {bytes} bytes, at most {max} are accepted")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },

    /// No room in a bounded queue within the deadline.
    #[error("the store is busy: {0} had no room within its deadline")]
    Busy(&'static str),

    /// The store was closed, or has stopped after a fault.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// An operating system error with the path it concerns.
    pub(crate) fn io(context: impl Into<String>, source: io::Error) -> Self {
        Self::Io { context: context.into(), source }
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { context, source } => {
                io::Error::new(source.kind(), format!("{context}: {source}"))
            }
            StoreError::Busy(_) => io::Error::new(io::ErrorKind::TimedOut, error),
            other => io::Error::other(other),
        }
    }
}
