//! The stages of one message, each alone: the very functions that a node runs, with nothing around them.
//!
//! A message of 256 bytes to a group goes through them in the order of [`STAGES`]; [`Stage::at`] says on which nodes. They
//! are fed in batches, as under load, and what a round needs is made before it ([`Work::prepare`]). What is between the
//! stages (sockets, wake-ups, openraft's tasks, actors' mailboxes) is in none of them, so they never add up to what a
//! message costs: the rest is what docs/benchmarks.md says it is. It must never measure anything but what a node does.

#[path = "../../../src/bench/content.rs"]
mod content;
mod fanout;
mod gateway;
mod log;
mod message;
mod state;

pub use message::BATCH;

/// What a stage does, again and again.
pub trait Work {
    /// Makes what the next round needs. Not measured.
    ///
    /// # Errors
    /// What cannot be made.
    fn prepare(&mut self) -> anyhow::Result<()>;
    /// One round.
    ///
    /// # Errors
    /// A stage that did not do what it is measured for.
    fn round(&mut self) -> anyhow::Result<()>;
}

/// Where a stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The node to which the sender is connected.
    Entry,
    /// The leader of the shard.
    Leader,
    /// A follower of the shard.
    Follower,
    /// Every replica, the leader included.
    Replica,
}

impl At {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            At::Entry => "entry",
            At::Leader => "leader",
            At::Follower => "follower",
            At::Replica => "replica",
        }
    }
}

/// One stage.
pub struct Stage {
    /// What it is called.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Where it runs.
    pub at: At,
    /// Messages of a round; of `fan-out`, deliveries.
    pub messages: usize,
    make: fn() -> anyhow::Result<Box<dyn Work>>,
}

impl Stage {
    /// Its work, from the beginning.
    ///
    /// # Errors
    /// What cannot be made.
    pub fn work(&self) -> anyhow::Result<Box<dyn Work>> {
        (self.make)()
    }
}

/// All of them, in the order in which a message meets them.
pub const STAGES: &[Stage] = &[
    Stage {
        name: "decode",
        about: "frames cut from the read buffer, SEND decoded",
        at: At::Entry,
        messages: BATCH,
        make: gateway::decode,
    },
    Stage {
        name: "command",
        about: "SEND checked, made a command, its shard found, encoded",
        at: At::Entry,
        messages: BATCH,
        make: gateway::command,
    },
    Stage {
        name: "route",
        about: "into the shard's lane, out in a batch, answered",
        at: At::Entry,
        messages: BATCH,
        make: gateway::route,
    },
    Stage {
        name: "propose",
        about: "64 commands become one log entry",
        at: At::Leader,
        messages: BATCH,
        make: log::propose,
    },
    Stage {
        name: "log-append",
        about: "the entry into the journal, one fdatasync",
        at: At::Replica,
        messages: BATCH,
        make: log::append,
    },
    Stage {
        name: "replicate-seal",
        about: "the entry into a frame for one follower, checksum",
        at: At::Leader,
        messages: BATCH,
        make: log::seal,
    },
    Stage {
        name: "replicate-open",
        about: "the frame read, its checksum, the entry taken out",
        at: At::Follower,
        messages: BATCH * log::FRAMES,
        make: log::open,
    },
    Stage {
        name: "entry-decode",
        about: "the entry's commands decoded",
        at: At::Replica,
        messages: BATCH,
        make: state::decoding,
    },
    Stage {
        name: "apply",
        about: "the session decides: dedup, membership, seq, salt, record encoded",
        at: At::Replica,
        messages: BATCH,
        make: state::apply,
    },
    Stage {
        name: "encode",
        about: "the MESSAGE frame",
        at: At::Replica,
        messages: BATCH,
        make: state::encode,
    },
    Stage {
        name: "fan-out",
        about: "frames into the outboxes of 50 connections, and out of them; per delivery",
        at: At::Replica,
        messages: BATCH * fanout::RECEIVERS,
        make: fanout::fanout,
    },
    Stage { name: "answer", about: "the ACK frame", at: At::Entry, messages: BATCH, make: gateway::answer },
    Stage {
        name: "collect",
        about: "what a checkpoint takes of the session",
        at: At::Replica,
        messages: BATCH,
        make: state::collect,
    },
    Stage {
        name: "seal",
        about: "the checkpoint's rows and the running digest",
        at: At::Replica,
        messages: BATCH,
        make: state::seal,
    },
];

/// The stage of that name.
pub fn stage(name: &str) -> Option<&'static Stage> {
    STAGES.iter().find(|stage| stage.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A figure of a stage that does nothing is worth nothing: each checks its own rounds, over several states.
    #[test]
    fn every_stage_does_what_it_is_measured_for() {
        for stage in STAGES {
            let mut work = stage.work().unwrap();
            for round in 0..70 {
                work.prepare().unwrap();
                if let Err(fault) = work.round() {
                    panic!("{} in round {round}: {fault:#}", stage.name);
                }
            }
        }
    }

    /// Instructions are the difference between two runs, one of which only prepares.
    #[test]
    fn preparing_needs_no_rounds() {
        for stage in STAGES {
            let mut work = stage.work().unwrap();
            (0..70).for_each(|_| work.prepare().unwrap());
            work.round().unwrap_or_else(|fault| panic!("{}: {fault:#}", stage.name));
        }
    }

    #[test]
    fn names_are_names() {
        for (at, one) in STAGES.iter().enumerate() {
            assert!(STAGES[..at].iter().all(|other| other.name != one.name), "{} twice", one.name);
            assert_eq!(stage(one.name).map(|found| found.about), Some(one.about));
        }
        assert!(stage("no such stage").is_none());
    }
}
