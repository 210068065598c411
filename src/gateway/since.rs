//! `since` of SYNC: what a device that comes back has missed, and the mark with which it asks for that.
//!
//! A mark is a vector of log indices (R15): `own` of the shard of the user's list, and one of each shard for its sessions.
//! It vouches for this: whoever has taken in the pages of the SYNC that gave it knows everything that commands up to
//! these indices did to what the pages say. Why that holds:
//!
//! - Every index is that of a linearizable read (a majority confirmed it, and the replica had applied it) and is fixed
//!   *before* the shard looks at what it vouches for: the list, or its table of sessions. What is looked at later may be
//!   newer and never older. So a command that comes in between, at whichever step, either is seen and has an index beyond
//!   the mark, and is told again next time; or is not seen, and has an index beyond the mark, and is told next time.
//! - The list is read twice; the mark has the index of the first reading. A session that joins between the two stands on
//!   these pages, and its line changed after that index. One that leaves between them, or later, is told next time.
//! - Heads are read after the table, so a line of a page is at least as new as the index of its shard.
//! - Of a session that could not be asked, the page says so, and the mark keeps what the mark before had for its shard and for
//!   the list (either may be what changed): the next SYNC tells all of both since then. With no mark before, its shard has 0,
//!   and that tells every session there is, for they all came to be by some entry of the log.
//! - A shard of which the user has no session has 0. One that joins there later is told of by the user's list.
//!
//! With them it has how many messages were unread, session by session, where there were any and they are not many: of a
//! session that has not changed that is so still, and the badge needs not ask for it.
//!
//! Whoever gives a mark is told the sessions of which the table or the own line says a greater index. Anything else would
//! be a guess, so everything is told (and the page says that it is everything) if an index is beyond what its shard has
//! reached, for then the cluster is not what it was; if the device has been ended since and is another
//! one; or if more was left than one page names. A cluster that is restored from a backup, under its id, and has got beyond the
//! indices of a mark by the time it is given, is not recognised by this: there is no restore yet, and whoever builds it has to
//! put an incarnation of the cluster into [`Mark`].

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use bytes::{BufMut, Bytes, BytesMut};
use rookery_wire::codec::encode_into;
use rookery_wire::own::Badge;
use rookery_wire::{Blob, ErrorBody, ErrorCode, SessionId, decode};
use xxhash_rust::xxh3::xxh3_64;

use super::connection::Connection;
use super::sync::OwnList;
use crate::plant::planted;
use crate::state::EntityKey;

/// First byte of a mark.
const FORMAT: u8 = 1;
/// Bytes of a checksum.
const SUM: usize = 8;
/// Largest mark: the indices of the most shards there may be, each at its longest, and what stands around them.
const MAX_MARK: usize = 8 << 10;
/// Sessions with something unread that a mark remembers; with more it remembers none, and they are asked again.
const MOST_UNREAD: usize = 256;
/// Bytes of one of them, at most.
const UNREAD_BYTES: usize = 18;
/// An eighth of a frame is for the names of left sessions (who has left more is told everything), and another for what is
/// unread: also the longest line of a session must find its place in the smallest frame.
const PART: usize = 8;

/// See the module's words. Opaque to clients: its layout is no part of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Mark {
    cluster: [u8; 16],
    /// Hash of the user and the device: cursors are the device's.
    of: u64,
    /// Of the user's list.
    own: u64,
    /// Of each shard's sessions, in the order of the shards.
    shards: Vec<u64>,
    /// Sessions in which something is unread, if all of them could be counted.
    unread: Option<Unread>,
}

/// Hashes of sessions, and how many messages are unread there.
pub(super) type Unread = Vec<(u64, u64)>;

impl Mark {
    /// One that vouches for nothing yet.
    fn new(connection: &Connection) -> Self {
        let of = (connection.user().clone(), connection.device().clone());
        Self {
            cluster: connection.core.options.cluster,
            of: xxh3_64(&rookery_wire::encode(&of)),
            own: 0,
            shards: vec![0; connection.core.router.shards() as usize],
            unread: None,
        }
    }

    /// That of the user's list.
    pub(super) fn own(&self) -> u64 {
        self.own
    }

    fn shard(&self, shard: u32) -> u64 {
        // Shards are counted from 1.
        let at = (shard as usize).checked_sub(1);
        at.and_then(|at| self.shards.get(at)).copied().unwrap_or(0)
    }

    fn set(&mut self, shard: u32, index: u64) {
        if let Some(place) = (shard as usize).checked_sub(1).and_then(|at| self.shards.get_mut(at)) {
            *place = index;
        }
    }

    fn bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + 5 * self.shards.len());
        out.put_u8(FORMAT);
        encode_into(self, &mut out);
        let sum = xxh3_64(&out);
        out.put_u64_le(sum);
        out.freeze()
    }

    fn from_bytes(bytes: &Bytes) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<SUM>()?;
        // A flipped bit would be an index that is too great, and something kept back.
        let whole = bytes.len() <= MAX_MARK && body.first() == Some(&FORMAT);
        if !whole || u64::from_le_bytes(*sum) != xxh3_64(body) {
            return None;
        }
        let mark: Self = decode(&bytes.slice(1..bytes.len() - SUM)).ok()?;
        // The sum is no secret: what is made up must at least look like what is made here.
        let fits = |unread: &Unread| unread.len() <= MOST_UNREAD && unread.is_sorted();
        mark.unread.as_ref().is_none_or(fits).then_some(mark)
    }

    /// The mark that a client gives; none if it is empty.
    ///
    /// # Errors
    /// BAD_REQUEST for what no SYNC of this cluster gave this device.
    pub(super) fn read(connection: &Connection, since: &Blob) -> Result<Option<Self>, ErrorBody> {
        if since.is_empty() {
            return Ok(None);
        }
        let refused = |why: &str| {
            let text = format!("`since` {why}; SYNC with an empty one");
            Err(ErrorBody::new(ErrorCode::BadRequest, text))
        };
        let Some(mark) = Self::from_bytes(&since.0) else {
            return refused("is not what a SYNC_PAGE gave as `mark`");
        };
        let here = Self::new(connection);
        if (mark.cluster, mark.shards.len()) != (here.cluster, here.shards.len()) {
            return refused("is a mark of another cluster");
        }
        if mark.of != here.of {
            return refused("is a mark of another user or device");
        }
        Ok(Some(mark))
    }
}

/// What each shard has in its table of sessions at least: the index before which nothing is missing.
pub(super) type Reached = BTreeMap<u32, u64>;

/// What one SYNC compares with, and the mark it makes.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    /// The mark that was given, if it is of use.
    since: Option<Mark>,
    made: Mark,
}

impl Comparison {
    /// `first` is the list as it was read first, `second` as it was read last, with what was left since the mark.
    pub(super) fn new(
        connection: &Connection,
        since: Option<Mark>,
        first: &OwnList,
        second: &OwnList,
        reached: &Reached,
    ) -> Self {
        let since = since.filter(|since| {
            let known = since.own <= first.index && second.began <= since.own;
            let room = connection.core.options.limits.frame as usize / PART;
            let told = second.left.all && rookery_wire::encode(&second.left.sessions).len() <= room;
            known && told && reached.iter().all(|(shard, index)| since.shard(*shard) <= *index)
        });
        let mut made = Mark::new(connection);
        made.own = first.index;
        for (shard, index) in reached {
            made.set(*shard, *index);
        }
        Self { since, made }
    }

    /// Everything is told.
    pub(super) fn is_full(&self) -> bool {
        self.since.is_none()
    }

    /// Whether a session stands on a page: its line of the list last changed at `own`, it itself at `changed`.
    pub(super) fn tells(&self, shard: u32, own: u64, changed: u64) -> bool {
        if planted("since-forgets") && changed.is_multiple_of(5) && self.since.is_some() {
            return false;
        }
        self.since.as_ref().is_none_or(|since| own > since.own || changed > since.shard(shard))
    }

    /// How many messages are unread in a session, if it stands on no page and the mark knows.
    pub(super) fn unread_as_before(
        &self,
        connection: &Connection,
        session: &SessionId,
        own: u64,
        changed: u64,
    ) -> Option<u64> {
        let shard = connection.core.router.shard_of(&EntityKey::Session(session.clone()));
        let unread = self.since.as_ref()?.unread.as_ref().filter(|_| !self.tells(shard, own, changed))?;
        let known = unread.binary_search_by_key(&session.hash64(), |(of, _)| *of);
        Some(known.ok().and_then(|at| unread.get(at)).map_or(0, |(_, unread)| *unread))
    }

    /// What the badge is made of, newer than the indices: what it counts later than they are is told again anyhow.
    pub(super) fn counted(&mut self, connection: &Connection, badge: &Badge, mut unread: Unread) {
        unread.retain(|(_, unread)| *unread > 0);
        unread.sort_unstable();
        let most = MOST_UNREAD.min(connection.core.options.limits.frame as usize / PART / UNREAD_BYTES);
        let is_whole = badge.uncounted == 0 && unread.len() <= most;
        self.made.unread = is_whole.then_some(unread);
    }

    /// Sessions that could not be asked: the mark must not vouch for them.
    pub(super) fn not_told(&mut self, connection: &Connection, unresolved: &[(SessionId, ErrorCode)]) {
        for (session, _) in unresolved {
            let shard = connection.core.router.shard_of(&EntityKey::Session(session.clone()));
            match &self.since {
                Some(since) => {
                    self.made.set(shard, since.shard(shard));
                    self.made.own = since.own;
                }
                None => self.made.set(shard, 0),
            }
        }
    }

    /// For the last page.
    pub(super) fn mark(&self) -> Blob {
        Blob(self.made.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(shards: usize) -> Mark {
        let unread = Some(vec![(u64::MAX, u64::MAX); shards]);
        Mark { cluster: [7; 16], of: u64::MAX, own: u64::MAX, shards: vec![u64::MAX; shards], unread }
    }

    #[test]
    fn a_mark_comes_back_and_nothing_that_is_damaged_does() {
        let bytes = mark(16).bytes();
        assert_eq!(Mark::from_bytes(&bytes), Some(mark(16)));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::from_bytes(&Bytes::from(damaged)), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(Mark::from_bytes(&bytes.slice(..cut)), None, "{cut} bytes");
        }
        let made_up = |unread: Vec<(u64, u64)>| Mark { unread: Some(unread), ..mark(16) }.bytes();
        assert!(Mark::from_bytes(&made_up(vec![(1, 5), (2, u64::MAX)])).is_some());
        assert_eq!(Mark::from_bytes(&made_up(vec![(2, 5), (1, 5)])), None, "never found by halving");
        assert_eq!(Mark::from_bytes(&made_up(vec![(1, 1); MOST_UNREAD + 1])), None);
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Mark::from_bytes(&Bytes::from(longer)), None);
    }

    #[test]
    fn the_largest_mark_of_the_most_shards_is_taken() {
        // The most that `cluster.shards` allows, and as many sessions with something unread.
        assert_eq!(MOST_UNREAD, 256);
        let bytes = mark(256).bytes();
        assert!(bytes.len() <= MAX_MARK, "{}", bytes.len());
        assert_eq!(Mark::from_bytes(&bytes), Some(mark(256)));
    }
}
