//! Where in the log a command stands, and what follows from it.

use rookery_wire::Salt;
use siphasher::sip128::SipHasher24;

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
    /// with its content. SipHash is a pseudorandom function of its key (Aumasson and Bernstein, 2012), and costs a sixth of
    /// a block of SHA-256.
    pub fn salt(&self) -> Salt {
        let mut place = [0; 12];
        place[..8].copy_from_slice(&self.index.to_le_bytes());
        place[8..].copy_from_slice(&self.position.to_le_bytes());
        Salt(SipHasher24::new_with_key(&self.secret).hash(&place).as_bytes())
    }

    /// 10 bits of shard, 38 of log index, 16 of position: unique without a counter that a replay could skip (R6).
    /// 38 bits are 275 thousand million entries of one shard.
    pub fn message_id(&self) -> u64 {
        (u64::from(self.shard) << 54)
            | ((self.index & ((1 << 38) - 1)) << 16)
            | u64::from(self.position & 0xffff)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher as _;

    use siphasher::sip128::Hasher128 as _;

    use super::*;

    #[test]
    fn a_salt_is_the_keyed_hash_of_index_and_position() {
        let at = At { shard: 3, index: 70_001, position: 9, time_ms: 0, time_agrees: true, secret: [5; 16] };
        let mut hash = SipHasher24::new_with_key(&[5; 16]);
        hash.write(&70_001u64.to_le_bytes());
        hash.write(&9u32.to_le_bytes());
        assert_eq!(at.salt().0, hash.finish128().as_bytes());
    }
}
