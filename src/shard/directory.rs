//! Every session of a shard, of which memory always has a line (R15): login reads it and wakes nobody.
//!
//! There may be millions, so what one costs here is what an idle session costs. A name is known by a keyed hash of 128 bits: lines
//! are of one size whatever names are like, and whoever chooses names cannot make two of them meet, for the key is drawn when
//! the shard is opened. Lines stand in order of their hashes in many short vectors, which grow by an eighth and not to
//! twice their size as a hash table does. Names are not kept: who wants to go through them reads rows.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use rookery_raft::Entropy;
use rookery_wire::SessionId;
use siphasher::sip128::{Hasher128, SipHasher13};

/// Vectors, a power of two. With a million sessions in each of a hundred shards one has a thousand lines; a new one moves half of
/// them, 24 KB, which is done once a session.
const PARTS: usize = 1024;
/// A full vector gets room for an eighth more and so many.
const MORE: usize = 4;

/// One line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableRow {
    /// Last seq.
    pub last_seq: u64,
    /// Time of the last record.
    pub time_ms: u64,
    /// Countable messages.
    pub count: u64,
    /// Log index at which the session last changed in what lists show of it.
    pub changed: u64,
}

/// Lines in ascending order of their names' hashes.
type Part = Vec<(u128, TableRow)>;

/// See the module's words.
pub struct Directory {
    key: [u8; 16],
    parts: Box<[RwLock<Part>]>,
    len: AtomicUsize,
}

impl Directory {
    /// An empty one with a key of its own.
    pub fn new(entropy: &dyn Entropy) -> Self {
        let key = (u128::from(entropy.u64()) << 64 | u128::from(entropy.u64())).to_le_bytes();
        let parts = (0..PARTS).map(|_| RwLock::default()).collect();
        Self { key, parts, len: AtomicUsize::new(0) }
    }

    fn find(&self, session: &SessionId) -> (u128, &RwLock<Part>) {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        session.hash(&mut hasher);
        let name = hasher.finish128().as_u128();
        // The top bits, so that the parts one after another are in order as well.
        (name, &self.parts[(name >> (128 - PARTS.ilog2())) as usize])
    }

    /// The line of a session.
    pub fn get(&self, session: &SessionId) -> Option<TableRow> {
        let (name, part) = self.find(session);
        let part = part.read();
        let at = part.binary_search_by_key(&name, |line| line.0).ok()?;
        part.get(at).map(|line| line.1)
    }

    /// Whether a session has a line.
    pub fn contains(&self, session: &SessionId) -> bool {
        self.get(session).is_some()
    }

    /// Writes the line of a session, anew or in the place of what it said before.
    pub fn insert(&self, session: &SessionId, row: TableRow) {
        let (name, part) = self.find(session);
        let mut part = part.write();
        match part.binary_search_by_key(&name, |line| line.0) {
            Ok(at) => part[at].1 = row,
            Err(at) => {
                if part.len() == part.capacity() {
                    let more = part.len() / 8 + MORE;
                    part.reserve_exact(more);
                }
                part.insert(at, (name, row));
                self.len.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes the line of a session out.
    pub fn remove(&self, session: &SessionId) {
        let (name, part) = self.find(session);
        let mut part = part.write();
        if let Ok(at) = part.binary_search_by_key(&name, |line| line.0) {
            part.remove(at);
            if part.len() < part.capacity() / 2 {
                part.shrink_to_fit();
            }
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes all lines out. Nobody writes meanwhile.
    pub fn clear(&self) {
        for part in &self.parts {
            *part.write() = Part::new();
        }
        self.len.store(0, Ordering::Relaxed);
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use rookery_raft::OsEntropy;
    use rookery_wire::GroupId;

    use super::*;

    fn session(number: u32) -> SessionId {
        SessionId::group(GroupId::new(&format!("group-{number}")).expect("a name"))
    }

    #[test]
    fn it_says_what_a_map_of_names_says() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let (directory, mut map) = (Directory::new(&OsEntropy), BTreeMap::new());
        for _ in 0..200_000 {
            // More names than parts, so that some share one.
            let name = session(random.random_range(0..20_000));
            if random.random_ratio(1, 3) {
                directory.remove(&name);
                map.remove(&name);
            } else {
                let row = TableRow { last_seq: random.random(), ..TableRow::default() };
                directory.insert(&name, row);
                map.insert(name.clone(), row);
            }
            assert_eq!(directory.get(&name), map.get(&name).copied());
        }
        assert_eq!(directory.len(), map.len());
        for name in (0..20_000).map(session) {
            assert_eq!(directory.get(&name), map.get(&name).copied());
            assert_eq!(directory.contains(&name), map.contains_key(&name));
        }
        directory.clear();
        assert_eq!((directory.len(), directory.contains(&session(1))), (0, false));
    }

    #[test]
    fn a_session_costs_little_more_than_its_line() {
        let directory = Directory::new(&OsEntropy);
        for number in 0..100_000 {
            directory.insert(&session(number), TableRow::default());
        }
        let room: usize = directory.parts.iter().map(|part| part.read().capacity()).sum();
        assert!(room < 100_000 * 5 / 4, "room for {room} lines");
    }
}
