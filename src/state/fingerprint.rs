//! What tells a retry of a number from its reuse for another act, and outlives no content (G7).
//!
//! A plain hash of what was said would let anybody who reads the rows find a short message by trying, long after it was
//! recalled. So the fingerprint of content is keyed with the salt of its record, which goes with the content, and once that is
//! gone nothing is compared: whoever retries the number has its first answer, by the number alone (G3).

use rookery_wire::{ContentHash, Record, Salt};
use siphasher::sip::SipHasher24;

/// Of one used number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fingerprint {
    /// Of an act without content: [`super::command::Act::fingerprint`].
    Plain(u64),
    /// Of content, keyed.
    Keyed {
        /// The salt of its record.
        salt: Salt,
        /// A hash of the plain one, keyed with the salt.
        hash: u64,
    },
    /// Of content that is no more: anything may be a retry. Rows still have the keyed one, and nobody has the key.
    Gone(u64),
}

impl Fingerprint {
    /// Of an act; `salt` is that of its record, if it has one.
    pub fn new(plain: u64, salt: Option<Salt>) -> Self {
        salt.map_or(Self::Plain(plain), |salt| Self::Keyed { salt, hash: keyed(salt, plain) })
    }

    /// As a row says it, with the record it is about.
    pub fn of_row(hash: u64, record: &Record) -> Self {
        if is_gone(record) {
            return Self::Gone(hash);
        }
        let salt = record.extensions.iter().find(|extension| extension.tag == Salt::TAG);
        match salt.and_then(|salt| <[u8; Salt::BYTES]>::try_from(salt.data.as_ref()).ok()) {
            Some(salt) => Self::Keyed { salt: Salt(salt), hash },
            None => Self::Plain(hash),
        }
    }

    /// What a row says of it: nothing from which content could be guessed without its salt.
    pub fn row(&self) -> u64 {
        match self {
            Self::Plain(hash) | Self::Keyed { hash, .. } | Self::Gone(hash) => *hash,
        }
    }

    /// Whether an act with this plain fingerprint may be the one.
    pub fn fits(&self, plain: u64) -> bool {
        match self {
            Self::Plain(hash) => *hash == plain,
            Self::Keyed { salt, hash } => *hash == keyed(*salt, plain),
            Self::Gone(_) => true,
        }
    }
}

/// Whether the content that the record had first is no more: recalled, expired or edited.
pub fn is_gone(record: &Record) -> bool {
    record.extensions.iter().any(|extension| extension.tag == ContentHash::TAG)
}

/// SipHash-2-4: without the 128 bits of the key nobody can tell what it was made of, nor try.
fn keyed(salt: Salt, plain: u64) -> u64 {
    SipHasher24::new_with_key(&salt.0).hash(&plain.to_le_bytes())
}
