//! Reads: asked of a replica here when that is enough, of the leader otherwise, again and again until the deadline.

use std::time::Duration;

use rookery_wire::{ErrorBody, ErrorCode};
use tokio::time::{Instant, sleep};

use super::core::{Core, Lane, Route};
use super::lane;
use super::peer::{self, Call, Reply};
use super::shuttle::news;
use crate::plant::planted;
use crate::shard::{Freshness, Read, ReadRefusal, ReadReply};

/// One attempt may take so long before another is made; doubled each time.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);
/// First and longest pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

impl Core {
    /// Reads from a shard. Reads may be repeated freely, so every doubt is settled by asking again.
    pub(super) async fn read(
        &self,
        shard: u32,
        read: Read,
        freshness: Freshness,
    ) -> Result<ReadReply, ErrorBody> {
        let Ok(_permit) = self.reads.try_acquire() else { return Err(lane::busy(self.options.reads)) };
        let Some(lane) = self.lane(shard) else { return Err(lane::unavailable()) };
        let deadline = Instant::now() + self.options.lane.deadline;
        // What people read alone: with a HELLO that reads what was, a client does not get as far as that.
        let content = matches!(read, Read::Pull { .. } | Read::Heads { .. });
        let freshness = if planted("stale-reads") && content { Freshness::Replica } else { freshness };
        if freshness != Freshness::Linearizable {
            match self.read_here(shard, &read, freshness).await {
                Some(Ok(reply)) => return Ok(reply),
                Some(Err(error)) if freshness == Freshness::Replica => return Err(error),
                None if freshness == Freshness::Replica => return Err(no_replica()),
                // Not here, not yet, or refused by a state that may be too old: the leader knows.
                Some(Err(_)) | None => {}
            }
        }
        tokio::select! {
            () = self.cancel.cancelled() => Err(self.going_down()),
            result = self.read_of_leader(lane, read, deadline) => result,
        }
    }

    async fn read_here(
        &self,
        shard: u32,
        read: &Read,
        freshness: Freshness,
    ) -> Option<Result<ReadReply, ErrorBody>> {
        let replica = self.replica(shard)?;
        match replica.read(read.clone(), freshness, FIRST_ATTEMPT).await {
            Ok(reply) => Some(Ok(reply)),
            Err(ReadRefusal::Refused(error)) => Some(Err(error)),
            Err(ReadRefusal::Again { .. }) => Some(Err(lane::unavailable())),
            Err(ReadRefusal::NotFresh) => None,
        }
    }

    async fn read_of_leader(
        &self,
        lane: &Lane,
        read: Read,
        deadline: Instant,
    ) -> Result<ReadReply, ErrorBody> {
        let (mut pause, mut patience) = (PAUSE.0, FIRST_ATTEMPT);
        let mut leader = self.replica(lane.shard).map(|replica| replica.watch_leader());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(lane::unavailable());
            }
            match self.attempt(lane, read.clone(), left.min(patience)).await {
                Ok(reply) => return Ok(reply),
                Err(ReadRefusal::Refused(error)) => return Err(error),
                Err(ReadRefusal::Again { .. } | ReadRefusal::NotFresh) => {}
            }
            tokio::select! {
                () = sleep(pause.min(left)) => {}
                // Whoever leads now can be asked at once.
                () = news(leader.as_mut()) => {}
            }
            pause = (pause * 2).min(PAUSE.1);
            patience = (patience * 2).min(self.options.lane.deadline);
        }
    }

    async fn attempt(&self, lane: &Lane, read: Read, patience: Duration) -> Result<ReadReply, ReadRefusal> {
        let again = ReadRefusal::Again { leader: None };
        let result = match self.route(lane) {
            Route::Here(replica) => replica.read(read, Freshness::Linearizable, patience).await,
            Route::There(node, _) => {
                self.ask(node, lane.shard, read, Freshness::Linearizable, patience).await
            }
            Route::Nowhere => return Err(again),
        };
        if let Err(ReadRefusal::Again { leader }) = &result {
            self.heard_of_leader(lane, *leader);
        }
        result
    }

    /// Asks the replica of another node.
    pub(super) async fn ask(
        &self,
        node: u16,
        shard: u32,
        read: Read,
        freshness: Freshness,
        patience: Duration,
    ) -> Result<ReadReply, ReadRefusal> {
        let deadline_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let call = Call::Read { shard, read, freshness, deadline_ms };
        let again = ReadRefusal::Again { leader: None };
        match self.peers.call(node, peer::encode(&call, 256), patience).await {
            Ok(bytes) => match peer::read::<Reply>(&bytes) {
                Ok(Reply::Read(result)) => result,
                Ok(_) | Err(_) => Err(again),
            },
            Err(_) => Err(again),
        }
    }
}

fn no_replica() -> ErrorBody {
    ErrorBody::new(ErrorCode::NoReplica, "this node has no replica of that shard; ask one that has")
}
