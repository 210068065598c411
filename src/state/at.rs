//! Where in the log a command stands, and what follows from it.

use rookery_wire::Salt;
use sha2::{Digest, Sha256};

/// Where in the log a command stands, and the time of its entry.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The shard (group id).
    pub shard: u32,
    /// Log index of the entry.
    pub index: u64,
    /// Position of the command in its entry.
    pub position: u32,
    /// The leader's time, unix milliseconds.
    pub time_ms: u64,
    /// Whether the leader's clock agreed with those of a majority: nothing goes by a time that it did not (R10).
    pub time_agrees: bool,
    /// What the leader drew for the entry.
    pub secret: [u8; 16],
}

impl At {
    /// Commands an entry may hold, so that positions fit a message id.
    pub const MAX_COMMANDS: usize = 1 << 16;

    /// The salt of the record that a command makes: nobody who is shown it can tell another's, which is to be forgotten
    /// with its content.
    pub fn salt(&self) -> Salt {
        let mut hash = Sha256::new();
        hash.update(b"rookery salt 1");
        hash.update(self.secret);
        hash.update(self.index.to_le_bytes());
        hash.update(self.position.to_le_bytes());
        let mut salt = Salt([0; Salt::BYTES]);
        salt.0.copy_from_slice(&hash.finalize()[..Salt::BYTES]);
        salt
    }

    /// 10 bits of shard, 38 of log index, 16 of position: unique without a counter that a replay could skip (R6).
    /// 38 bits are 275 thousand million entries of one shard.
    pub fn message_id(&self) -> u64 {
        (u64::from(self.shard) << 54)
            | ((self.index & ((1 << 38) - 1)) << 16)
            | u64::from(self.position & 0xffff)
    }
}
