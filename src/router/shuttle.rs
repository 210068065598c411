//! The task of a lane: carries what waits to whoever leads the shard. A shell around [`super::lane::LaneState`].

use std::sync::Arc;

use bytes::Bytes;
use rookery_wire::Blob;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::core::{Core, Lane, Route};
use super::lane;
use super::peer::{self, Cast};
use crate::shard::{Origin, Submission};

/// Commands in one message to another node, or in one hand-over to the shard here.
const BATCH_COMMANDS: usize = 1024;
/// Their bytes (one larger command goes alone).
const BATCH_BYTES: usize = 512 << 10;

/// Runs until the router stops.
pub(super) async fn run(core: Arc<Core>, shard: u32) {
    let Some(lane) = core.lane(shard) else { return };
    let mut watching = Watching::default();
    loop {
        let route = core.route(lane);
        watching.look_at(&core, lane, &route);
        let wake_at = work(&core, lane, &route);
        tokio::select! {
            () = core.cancel.cancelled() => break,
            () = lane.wake.notified() => {}
            () = watching.changed(lane) => {}
            () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
        }
    }
    let left = lane.state.lock().drain(&core.going_down());
    lane::complete(left);
}

/// Sends what can be sent and gives up what is too old; returns when to look again without news.
fn work(core: &Core, lane: &Lane, route: &Route) -> Option<Instant> {
    loop {
        let now = Instant::now();
        let batch = {
            let mut state = lane.state.lock();
            match route {
                Route::Nowhere => break,
                // The replica here answers everything it is given, so its silence means nothing.
                Route::Here(_) => {}
                Route::There(..) => {
                    state.silence(now);
                }
            }
            state.batch(now, BATCH_COMMANDS, BATCH_BYTES)
        };
        let Some((first, _)) = batch.first() else { break };
        let first = *first;
        if !send(core, lane.shard, route, batch) {
            lane.state.lock().not_taken(first, now);
            break;
        }
    }
    let now = Instant::now();
    let mut state = lane.state.lock();
    let expired = state.expire(now);
    let wake_at = state.wake_at(now);
    drop(state);
    lane::complete(expired);
    wake_at
}

fn send(core: &Core, shard: u32, route: &Route, batch: Vec<(u64, Bytes)>) -> bool {
    match route {
        Route::Here(replica) => {
            let node = core.options.node;
            let submission = |(request, command)| Submission { origin: Origin { node, request }, command };
            replica.submit(batch.into_iter().map(submission).collect());
            true
        }
        Route::There(node, _) => {
            let bytes: usize = batch.iter().map(|(_, command)| command.len() + 16).sum();
            let commands = batch.into_iter().map(|(number, command)| (number, Blob(command))).collect();
            core.peers.cast(*node, peer::encode(&Cast::Forward { shard, commands }, bytes)).is_ok()
        }
        Route::Nowhere => false,
    }
}

/// Where the lane sends to, and the news that may change that.
#[derive(Default)]
struct Watching {
    /// Node and link generation that everything unanswered was sent to.
    to: Option<(u16, u64)>,
    leader: Option<watch::Receiver<Option<u16>>>,
    link: Option<(u16, watch::Receiver<rookery_raft::LinkState>)>,
}

impl Watching {
    /// Notes a change of route: what is unanswered goes to the new one, in order.
    fn look_at(&mut self, core: &Core, lane: &Lane, route: &Route) {
        let to = match route {
            Route::Here(_) => Some((core.options.node, 0)),
            Route::There(node, generation) => Some((*node, *generation)),
            Route::Nowhere => None,
        };
        if to.is_some() && to != self.to {
            self.to = to;
            lane.state.lock().resend_all(Instant::now());
        }
        match core.replica(lane.shard) {
            Some(replica) if self.leader.is_none() => self.leader = Some(replica.watch_leader()),
            Some(_) => {}
            None => self.leader = None,
        }
        if let Route::There(node, _) = route
            && self.link.as_ref().is_none_or(|(watched, _)| watched != node)
        {
            self.link = Some((*node, core.peers.link(*node)));
        }
    }

    /// Waits for news; a source that has ended brings none.
    async fn changed(&mut self, lane: &Lane) {
        tokio::select! {
            () = news(self.leader.as_mut()) => lane.leader_moved(),
            () = news(self.link.as_mut().map(|(_, link)| link)) => lane.state.lock().news(),
        }
    }
}

/// Resolves when the source has news; never without one, or when it has ended.
pub(super) async fn news<T>(source: Option<&mut watch::Receiver<T>>) {
    if let Some(source) = source
        && source.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
