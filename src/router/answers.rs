//! Answers on their way to the nodes whose routers wait for them.
//!
//! Apply hands them over on arbiter threads, so they are put into a bounded box per node, and a task of that node's
//! sends what has gathered. What does not fit, or meets a link that is down, is dropped: the router over there sends
//! its request again, and gets the same answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rookery_raft::PeerError;
use tokio::sync::Notify;

use super::core::Core;
use super::peer::{self, Cast};
use crate::shard::{Answer, Answers, Origin};

/// Answers that may wait for one node.
const BOX_ANSWERS: usize = 64 << 10;
/// Answers in one message.
const MESSAGE_ANSWERS: usize = 2048;
/// Pause while the link's queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(2);

type Waiting = (u32, u64, Answer);

#[derive(Default)]
struct AnswerBox {
    waiting: Mutex<Vec<Waiting>>,
    wake: Notify,
}

/// One box per node that ever asked.
#[derive(Default)]
pub(super) struct AnswerBoxes {
    boxes: RwLock<HashMap<u16, Arc<AnswerBox>>>,
    dropped: AtomicU64,
}

impl AnswerBoxes {
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn of(&self, core: &Arc<Core>, node: u16) -> Arc<AnswerBox> {
        if let Some(found) = self.boxes.read().get(&node) {
            return Arc::clone(found);
        }
        let mut boxes = self.boxes.write();
        let made = boxes.entry(node).or_insert_with(|| {
            let made = Arc::new(AnswerBox::default());
            core.tasks.spawn_on(run(Arc::clone(core), node, Arc::clone(&made)), &core.options.runtime);
            made
        });
        Arc::clone(made)
    }

    fn put(&self, core: &Arc<Core>, node: u16, answers: Vec<Waiting>) {
        let to = self.of(core, node);
        {
            let mut waiting = to.waiting.lock();
            let room = BOX_ANSWERS.saturating_sub(waiting.len());
            let over = answers.len().saturating_sub(room);
            waiting.extend(answers.into_iter().take(room));
            self.dropped.fetch_add(over as u64, Ordering::Relaxed);
        }
        to.wake.notify_one();
    }
}

/// Implemented for the shards: completes what waits here, sends the rest home.
pub(super) struct Homeward(pub(super) Arc<Core>);

impl Answers for Homeward {
    fn answer(&self, shard: u32, answers: Vec<(Origin, Answer)>) {
        let me = self.0.options.node;
        let mut here = Vec::with_capacity(answers.len());
        let mut there: Vec<(u16, Vec<Waiting>)> = Vec::new();
        for (origin, answer) in answers {
            if origin.node == me {
                here.push((origin.request, answer));
                continue;
            }
            match there.iter_mut().find(|(node, _)| *node == origin.node) {
                Some((_, list)) => list.push((shard, origin.request, answer)),
                None => there.push((origin.node, vec![(shard, origin.request, answer)])),
            }
        }
        for (node, list) in there {
            self.0.boxes.put(&self.0, node, list);
        }
        if !here.is_empty() {
            self.0.settle(shard, here);
        }
    }
}

async fn run(core: Arc<Core>, node: u16, from: Arc<AnswerBox>) {
    loop {
        tokio::select! {
            () = core.cancel.cancelled() => return,
            () = from.wake.notified() => {}
        }
        let mut waiting = std::mem::take(&mut *from.waiting.lock());
        while !waiting.is_empty() {
            let rest = waiting.split_off(waiting.len().min(MESSAGE_ANSWERS));
            let size = waiting.len() * 64;
            let bytes = peer::encode(&Cast::Answers { answers: std::mem::replace(&mut waiting, rest) }, size);
            while let Err(PeerError::Full { .. }) = core.peers.cast(node, bytes.clone()) {
                tokio::select! {
                    () = core.cancel.cancelled() => return,
                    () = tokio::time::sleep(FULL_PAUSE) => {}
                }
            }
        }
    }
}
