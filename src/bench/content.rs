//! What the messages of a measured load say: bytes that do not compress, other ones in every message.
//!
//! Databases and file systems compress; a load of equal bytes would measure how well. The driver of another system in
//! benches/ is built from this very file, so that both get the same content. A message's content is a function of seed,
//! sender and number: one that is sent again is the same. It costs the driver, which shares the cores with what it
//! measures, three multiplications per eight bytes.

use bytes::Bytes;

/// One sender's messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contents {
    key: u64,
    size: usize,
}

impl Contents {
    /// Of `size` bytes each; other ones for every sender and every seed.
    pub(crate) fn new(seed: u64, sender: u64, size: usize) -> Self {
        Self { key: mixed(seed ^ mixed(sender.wrapping_add(1))), size }
    }

    /// The content of message `number`.
    pub(crate) fn message(&self, number: u64) -> Bytes {
        let mut bytes = vec![0; self.size];
        // splitmix64: the steps of a counter, mixed, from a place of its own for every message.
        let mut state = mixed(self.key ^ mixed(number));
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed(state).to_le_bytes()
        };
        let mut words = bytes.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&next());
        }
        let rest = words.into_remainder();
        rest.copy_from_slice(&next()[..rest.len()]);
        Bytes::from(bytes)
    }
}

fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Contents;

    #[test]
    fn every_message_has_content_of_its_own_and_keeps_it() {
        let seed = 0x5eed;
        let mut words = HashSet::new();
        for sender in 0..4 {
            let contents = Contents::new(seed, sender, 253);
            for number in 1..=500 {
                let message = contents.message(number);
                assert_eq!(message.len(), 253);
                assert_eq!(message, Contents::new(seed, sender, 253).message(number), "sent again");
                // What a compressor lives on: words that came before. There is none, in any message.
                assert!(message.chunks_exact(8).all(|word| words.insert(word.to_vec())));
            }
        }
        assert_ne!(Contents::new(seed, 0, 64).message(1), Contents::new(seed + 1, 0, 64).message(1));
        assert!(Contents::new(seed, 0, 0).message(1).is_empty());
    }

    #[test]
    fn no_byte_is_frequent() {
        let contents = Contents::new(7, 7, 1 << 20);
        let mut counts = [0u32; 256];
        contents.message(1).iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        // 4,096 of each are due; the standard deviation is 64.
        assert!(counts.iter().all(|count| (3_600..4_600).contains(count)), "{counts:?}");
    }
}
