//! DIGEST: what the digest of a session is at a seq, from memory for what no row holds yet, from one run of rows else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rookery_wire::digest::DigestReply;
use rookery_wire::{Digest, ErrorBody, ErrorCode, SessionId, UserId};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::api::{ReadRefusal, ReadReply};
use super::entity::Look;
use super::reads::{GONE, Reads, may_read, unreadable};
use crate::state::seal::Tip;
use crate::state::session_rows::HeadRow;
use crate::state::{RowFault, Session, records};

/// Records hashed in passing; more are hashed where the runtime's threads do not wait for it.
const HASHED_HERE: usize = 128;

/// Long hashings of one shard at once: DIGEST at the end of a busy session takes all of it that no row holds yet, and nothing
/// remembers what came out. Threads of the runtime are many, and processors are not.
pub(super) const HASHING: usize = 2;
/// How long a reader waits for a place among them.
const HASHING_PATIENCE: Duration = Duration::from_secs(1);

/// What memory knows of the digests that are asked for.
struct Known {
    /// The first seq to be read.
    first: u64,
    /// The seq asked for.
    seq: u64,
    tip: Tip,
    /// The records right after the tip, as far as they are needed.
    hot: Vec<Bytes>,
}

impl Reads {
    /// The digest of a session at `seq` (0: at the end), as this replica has it.
    pub(super) async fn digest(
        &self,
        user: Option<UserId>,
        session: SessionId,
        seq: u64,
    ) -> Result<ReadReply, ReadRefusal> {
        // Replicas that are compared are not somebody who uses the session: it must become idle beside them.
        let resident = || self.shared.sessions.get(&session).map(|resident| resident.addr.clone());
        let awake = if user.is_none() { resident() } else { None };
        if user.is_none()
            && awake.is_none()
            && let Some(reply) = self.asleep(&session, seq).await?
        {
            return Ok(ReadReply::Digest(reply));
        }
        let look = move |state: &Session| known(state, user.as_ref(), seq);
        let known = match awake {
            Some(actor) => actor.send(Look::new(look)).await.map_err(|_| GONE)?,
            None => self.look(&session, look).await?,
        };
        let known = known.map_err(ReadRefusal::Refused)?;
        let Known { first, seq, tip, hot } = known;
        let (digest, hot) = self.digest_at(&session, tip, hot, seq).await?;
        let base = first.saturating_sub(1);
        let before = if base == seq { digest } else { self.digest_at(&session, tip, hot, base).await?.0 };
        Ok(ReadReply::Digest(DigestReply { session, seq, digest, first_seq: first, before }))
    }

    /// Of a session that is asleep, thus whole in its rows; for whom nothing has to be judged. Replicas that are compared
    /// wake nobody and keep nobody awake. None where rows do not tell: it is looked for in memory then.
    async fn asleep(&self, session: &SessionId, seq: u64) -> Result<Option<DigestReply>, ReadRefusal> {
        let of = session.clone();
        let read = super::rows::query_in_use(&self.shared, move |rows| {
            let Some(head) = HeadRow::read(rows, &of)?.filter(|head| head.last_seq > 0) else {
                // Whether there is one at all, memory says.
                return Ok(None);
            };
            let seq = if seq == 0 { head.last_seq } else { seq };
            let base = head.first_seq.saturating_sub(1);
            if !(base..=head.last_seq).contains(&seq) {
                return Ok(None);
            }
            let at = |seq| match seq == head.last_seq {
                true => Ok(Some(head.digest)),
                false => records::digest_at(rows, &of, seq),
            };
            let (Some(digest), Some(before)) = (at(seq)?, at(base)?) else { return Ok(None) };
            Ok(Some(DigestReply { session: of.clone(), seq, digest, first_seq: head.first_seq, before }))
        });
        read.await.and_then(|found| found.ok_or_else(super::rows::replaced)).map_err(unreadable)
    }

    async fn digest_at(
        &self,
        session: &SessionId,
        tip: Tip,
        hot: Vec<Bytes>,
        seq: u64,
    ) -> Result<(Digest, Vec<Bytes>), ReadRefusal> {
        if seq >= tip.seq {
            let count = seq - tip.seq;
            let work = move || (tip.over(&hot, seq), hot);
            let (digest, hot) = match count <= HASHED_HERE as u64 {
                true => work(),
                false => {
                    let place = place_to_hash(&self.shared.hashing).await?;
                    let work = move || {
                        let done = work();
                        drop(place);
                        done
                    };
                    // Ends with the runtime only, which is when nobody waits for it.
                    tokio::task::spawn_blocking(work).await.map_err(|_| GONE)?
                }
            };
            let digest = digest.map_err(unreadable)?.ok_or_else(|| missing(session, seq))?;
            return Ok((digest, hot));
        }
        let of = session.clone();
        let read = super::rows::query_in_use(&self.shared, move |rows| records::digest_at(rows, &of, seq));
        let found =
            read.await.and_then(|found| found.ok_or_else(super::rows::replaced)).map_err(unreadable)?;
        // Trimmed since memory was looked at: who asks again is told so.
        Ok((found.ok_or_else(|| missing(session, seq))?, hot))
    }
}

/// A place, which is kept until the work is done and not only while somebody waits for it.
async fn place_to_hash(places: &Arc<Semaphore>) -> Result<Option<OwnedSemaphorePermit>, ReadRefusal> {
    match timeout(HASHING_PATIENCE, Arc::clone(places).acquire_owned()).await {
        // It is never closed.
        Ok(place) => Ok(place.ok()),
        Err(_late) => {
            let text = "this node is asked for more digests at the end of busy sessions than it can make";
            Err(ReadRefusal::Refused(ErrorBody::new(ErrorCode::Busy, text)))
        }
    }
}

fn known(state: &Session, user: Option<&UserId>, seq: u64) -> Result<Known, ErrorBody> {
    may_read(state, user)?;
    let (first, last, tip) = (state.readable_from(user), state.last_seq(), state.tip());
    let seq = if seq == 0 { last } else { seq };
    if seq > last {
        let text = format!("{} ends at {last}, there is no digest at {seq}", state.id());
        return Err(ErrorBody::new(ErrorCode::BeyondEnd, text).with_detail(last));
    }
    if seq + 1 < first {
        let text = format!("{} begins at {first}, there is no digest at {seq}", state.id());
        return Err(ErrorBody::new(ErrorCode::NotKept, text).with_detail(first));
    }
    let hot = (tip.seq + 1..=seq.max(first - 1)).filter_map(|seq| state.record(seq).cloned());
    Ok(Known { first, seq, tip, hot: hot.collect() })
}

fn missing(session: &SessionId, seq: u64) -> ReadRefusal {
    unreadable(RowFault::Store(format!("nothing says what the digest of {session} is at {seq}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_is_hashed_at_once_than_there_are_places() {
        let places = Arc::new(Semaphore::new(HASHING));
        let mut taken = Vec::new();
        for _ in 0..HASHING {
            taken.push(place_to_hash(&places).await.expect("a place"));
        }
        let busy = place_to_hash(&places).await;
        assert!(matches!(busy, Err(ReadRefusal::Refused(body)) if body.code == ErrorCode::Busy));
        taken.pop();
        assert!(place_to_hash(&places).await.is_ok_and(|place| place.is_some()));
    }
}
