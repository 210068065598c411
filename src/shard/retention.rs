//! Letting go in time: the shard's leader looks for messages that are to go, and proposes it.
//!
//! Messages that last for a time only stand in a table of when each session's next one goes. For retention all sessions
//! that have one are looked at now and then: in their rows, a few at a time, so that nobody is woken. What a replica
//! behind or a clock that is off would find is not proposed: only the leader looks, and only while its clock agrees with
//! its peers' (R10). A session is trimmed in steps, and rows lag behind by a checkpoint, so all of this is a matter of
//! seconds and of the order of sweeps, and may be repeated freely: trimming again what is trimmed changes nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use futures::StreamExt;
use rookery_wire::codec::decode;
use rookery_wire::{Record, Retention, SessionId};
use tokio::time::sleep;

use super::actor::{FindSession, ShardActor};
use super::api::Answer;
use super::entity::Look;
use super::rows::is_replaced;
use super::shared::{Outbound, Shared};
use crate::plant::planted;
use crate::state::session_rows::HeadRow;
use crate::state::{Command, RowFault, RowReader, Session, records};

/// Between two looks.
const TICK: Duration = Duration::from_millis(250);
/// Sessions whose messages go in one look, and messages of one session in one entry. While there may be more that are due
/// the next look follows at once.
const EXPIRING: (usize, usize) = (64, 64);
/// Sessions looked at in one visit to the rows, and the pause between visits.
const VISIT: usize = 128;
const PAUSE: Duration = Duration::from_millis(20);
/// Records trimmed in one entry: the rest goes with later sweeps.
const STEP: u64 = 100_000;
/// Trims, and sessions whose messages expire, under way at a time.
const AT_ONCE: usize = 16;
/// Deadline of one proposal; after it the next look finds the same.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long sessions keep their messages as far as those who are in them say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Direct sessions; what their users wish holds where it is stricter.
    pub direct: Retention,
    /// Groups for which nothing else was set.
    pub group: Retention,
}

impl Defaults {
    /// What a session is kept by whose own retention is `own`. Who owns a group sets the default aside; the users of a
    /// direct session shorten it.
    fn keep(&self, session: &SessionId, own: Retention) -> Retention {
        match session {
            SessionId::Direct { .. } => self.direct.stricter(own),
            SessionId::Group(_) if own.is_none() => self.group,
            SessionId::Group(_) => own,
        }
    }

    fn are_none(&self) -> bool {
        self.direct.is_none() && self.group.is_none()
    }
}

/// When the next message of each session goes, and which sessions have a retention of their own.
#[derive(Debug, Default)]
pub struct Timers {
    by_time: BTreeSet<(u64, SessionId)>,
    of: HashMap<SessionId, u64>,
    retained: BTreeSet<SessionId>,
}

impl Timers {
    /// Notes what a session says of itself.
    pub fn set(&mut self, session: &SessionId, next_expiry: Option<u64>, retention: Retention) {
        if let Some(before) = self.of.remove(session) {
            self.by_time.remove(&(before, session.clone()));
        }
        if let Some(next) = next_expiry {
            self.of.insert(session.clone(), next);
            self.by_time.insert((next, session.clone()));
        }
        if retention.is_none() {
            self.retained.remove(session);
        } else {
            self.retained.insert(session.clone());
        }
    }

    /// Sessions of which a message is to go by this time, the earliest first.
    pub(super) fn due(&self, time_ms: u64, most: usize) -> Vec<SessionId> {
        let due = self.by_time.iter().take_while(|(at, _)| *at <= time_ms);
        due.take(most).map(|(_, session)| session.clone()).collect()
    }
}

/// Runs for ever; aborted by its owner.
pub async fn run(shared: Arc<Shared>, actor: Addr<ShardActor>) {
    // A sweep over many sessions takes long, and no message is to wait for that.
    tokio::join!(expiring(&shared, &actor), sweeping(&shared));
}

async fn expiring(shared: &Arc<Shared>, actor: &Addr<ShardActor>) {
    loop {
        sleep(TICK).await;
        // Looked at now, so that it is known later, should nobody confirm it then.
        shared.sure_ms();
        if let Some(outbound) = shared.outbound.get() {
            while may_propose(shared) && expire(shared, actor, outbound).await {}
        }
    }
}

async fn sweeping(shared: &Arc<Shared>) {
    loop {
        sleep(shared.options.sweep_every).await;
        let Some(outbound) = shared.outbound.get().filter(|_| may_propose(shared)) else { continue };
        if let Err(fault) = sweep(shared, outbound).await {
            tracing::warn!(shard = shared.shard, %fault, "sessions cannot be trimmed; tried again");
        }
    }
}

fn may_propose(shared: &Shared) -> bool {
    shared.is_leading() && (shared.time_agrees)()
}

/// Has messages go whose time has come. Says whether more are due, as far as this look has seen: each time it does, messages
/// have gone.
pub(super) async fn expire(
    shared: &Arc<Shared>,
    actor: &Addr<ShardActor>,
    outbound: &Arc<dyn Outbound>,
) -> bool {
    let now_ms = shared.clock.unix_ms();
    let due = shared.timers.lock().due(now_ms, EXPIRING.0);
    let many = due.len() == EXPIRING.0;
    let expired = due.into_iter().map(|session| expire_of(shared, actor, outbound, session, now_ms));
    let gone = futures::stream::iter(expired).buffer_unordered(AT_ONCE);
    gone.fold(false, |more, gone| std::future::ready(more || gone == EXPIRING.1 || (many && gone > 0))).await
}

/// The same of one session; says how many have gone.
pub(super) async fn expire_of(
    shared: &Arc<Shared>,
    actor: &Addr<ShardActor>,
    outbound: &Arc<dyn Outbound>,
    session: SessionId,
    now_ms: u64,
) -> usize {
    let (map, of) = (shared.map(), shared.clone());
    let found = async {
        let address = actor.send(FindSession(session.clone())).await.ok()?;
        let look = Look::new(move |state: &Session| {
            let due = state.expired_by(now_ms, EXPIRING.1);
            if due.is_empty() && !is_replaced(&of, &map) {
                // The table is behind. It is told anew from here, where nothing is applied meanwhile that tells it more.
                of.timers.lock().set(state.id(), state.next_expiry(), state.retention());
            }
            due
        });
        address.send(look).await.ok()
    };
    let Some(seqs) = found.await.filter(|seqs| !seqs.is_empty()) else { return 0 };
    let count = seqs.len();
    // What does not get through is found again.
    match outbound.execute(Command::Expire { session, seqs }, DEADLINE).await {
        Answer::Done => count,
        _ => 0,
    }
}

/// Looks at every session that has a retention, in order.
async fn sweep(shared: &Arc<Shared>, outbound: &Arc<dyn Outbound>) -> Result<(), RowFault> {
    let defaults = shared.options.retention;
    let mut after: Option<SessionId> = None;
    while may_propose(shared) {
        let visit: Vec<SessionId> = if defaults.are_none() {
            let timers = shared.timers.lock();
            let from = after.as_ref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            timers.retained.range((from, std::ops::Bound::Unbounded)).take(VISIT).cloned().collect()
        } else {
            let from = after.clone();
            let read = move |rows: &dyn RowReader| HeadRow::names_after(rows, from.as_ref(), VISIT);
            super::rows::query_in_use(shared, read).await?.unwrap_or_default()
        };
        let Some(last) = visit.last().cloned() else { return Ok(()) };
        after = Some(last);
        let now_ms = shared.clock.unix_ms();
        let read = move |rows: &dyn RowReader| {
            let found = visit.iter().map(|session| wanted(rows, session, &defaults, now_ms));
            found.filter_map(Result::transpose).collect::<Result<Vec<_>, RowFault>>()
        };
        let trims = super::rows::query_in_use(shared, read).await?.unwrap_or_default();
        let proposed = trims.into_iter().map(|trim| outbound.execute(trim, DEADLINE));
        futures::stream::iter(proposed).buffer_unordered(AT_ONCE).map(drop).collect::<()>().await;
        sleep(PAUSE).await;
    }
    Ok(())
}

/// What is to be trimmed of a session, as its rows have it.
fn wanted(
    rows: &dyn RowReader,
    session: &SessionId,
    defaults: &Defaults,
    now_ms: u64,
) -> Result<Option<Command>, RowFault> {
    let Some(head) = HeadRow::read(rows, session)? else { return Ok(None) };
    let by = head.settings.retention;
    let keep = defaults.keep(session, by);
    if keep.is_none() || head.frozen || head.first_seq > head.last_seq {
        return Ok(None);
    }
    let record = |seq| -> Result<Option<Record>, RowFault> {
        let bytes = records::read_one(rows, session, seq)?;
        Ok(bytes.and_then(|bytes| decode(&bytes).ok()))
    };
    let count = if planted("trim-more") { keep.count.saturating_sub(7) } else { keep.count };
    let mut upto = if count == 0 { 0 } else { head.last_seq.saturating_sub(count) };
    if keep.age_ms > 0 {
        let oldest = now_ms.saturating_sub(keep.age_ms);
        // Times never go back within a session: the last one that is too old is found by halving.
        let (mut old, mut young) = (head.first_seq - 1, head.last_seq + 1);
        while young - old > 1 {
            // Nearly always the first one is young enough.
            let middle = if old < head.first_seq { head.first_seq } else { old + (young - old) / 2 };
            match record(middle)? {
                Some(record) if record.time_ms < oldest => old = middle,
                Some(_) => young = middle,
                None => return Ok(None),
            }
        }
        upto = upto.max(old);
    }
    let upto = upto.min(head.first_seq - 1 + STEP);
    if upto < head.first_seq {
        return Ok(None);
    }
    let count = record(upto)?.map(|record| record.count);
    Ok(count.map(|count| Command::Trim { session: session.clone(), upto, count, by }))
}
