//! The system group as Raft's state machine: one small value, written with every change.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_raft::{
    Batch, Committed, Fault, Group, Map, Mark, ProposeError, SnapshotReader, SnapshotWriter, StateMachine,
    Store, Waiter,
};
use rookery_wire::codec::decode;
use tokio::sync::{oneshot, watch};

use super::facts::{Facts, FactsCommand};
use crate::shard::checkpoint::store_fault;

/// Name of the map.
const MAP: &str = "system";
const FACTS_KEY: &[u8] = b"facts";
const MARK_KEY: &[u8] = b"mark";

/// Waits for a change of the facts.
pub struct SystemWaiter(oneshot::Sender<Result<(), String>>);

impl SystemWaiter {
    /// A waiter and where its answer comes.
    pub fn new() -> (Self, oneshot::Receiver<Result<(), String>>) {
        let (answer, answered) = oneshot::channel();
        (Self(answer), answered)
    }
}

impl Waiter for SystemWaiter {
    fn dropped(self, why: ProposeError) {
        // Nobody may be waiting any more.
        let _ = self.0.send(Err(why.to_string()));
    }
}

/// See the module's words.
pub struct SystemMachine {
    store: Store,
    map: Map,
    opened_at: Option<Mark>,
    facts: watch::Sender<Arc<Facts>>,
    group: Mutex<Option<Group<SystemWaiter>>>,
}

impl SystemMachine {
    /// Reads what the store holds.
    ///
    /// # Errors
    /// [`Fault`] when the store failed or its rows are damaged.
    pub async fn open(store: &Store) -> Result<Self, Fault> {
        let map = store.map(MAP).map_err(store_fault)?;
        let rows =
            map.read(|view| Ok((view.get(FACTS_KEY)?, view.get(MARK_KEY)?))).await.map_err(store_fault)?;
        let facts = rows.0.map_or(Ok(Facts::default()), |bytes| {
            decode(&bytes).map_err(|fault| Fault::with_source("the system facts are damaged", fault))
        })?;
        let opened_at = rows.1.map(|bytes| Mark::from_bytes(&bytes)).transpose()?;
        let facts = watch::Sender::new(Arc::new(facts));
        Ok(Self { store: store.clone(), map, opened_at, facts, group: Mutex::new(None) })
    }

    /// The facts as they change.
    pub fn facts(&self) -> watch::Receiver<Arc<Facts>> {
        self.facts.subscribe()
    }

    /// Lets the log be purged behind what is written.
    pub fn set_group(&self, group: Group<SystemWaiter>) {
        *self.group.lock() = Some(group);
    }

    async fn keep(&self, facts: &Facts, mark: &Mark, durable: bool) -> Result<(), Fault> {
        let mut batch = Batch::default();
        batch.put(Bytes::from_static(FACTS_KEY), rookery_wire::encode(facts));
        batch.put(Bytes::from_static(MARK_KEY), mark.bytes());
        self.map.apply(batch).await.map_err(store_fault)?;
        if durable {
            self.store.sync().await.map_err(store_fault)?;
            let group = self.group.lock().clone();
            if let Some(group) = group {
                group.checkpointed(mark.clone()).await;
            }
        }
        Ok(())
    }
}

impl StateMachine for SystemMachine {
    type Waiter = SystemWaiter;

    fn mark(&self) -> Option<Mark> {
        self.opened_at.clone()
    }

    async fn apply(&self, entries: Vec<Committed<SystemWaiter>>, mark: Mark) -> Result<(), Fault> {
        let before = self.facts.borrow().clone();
        let mut facts = Facts::clone(&before);
        let mut answers = Vec::new();
        for committed in entries {
            let command: FactsCommand = decode(&committed.payload).map_err(|fault| {
                Fault::with_source(format!("system entry {} cannot be read", committed.index), fault)
            })?;
            let outcome = facts.apply(command);
            answers.extend(committed.waiter.map(|waiter| (waiter, outcome)));
        }
        self.keep(&facts, &mark, facts != *before).await?;
        if facts != *before {
            self.facts.send_replace(Arc::new(facts));
        }
        for (waiter, outcome) in answers {
            // Nobody may be waiting any more.
            let _ = waiter.0.send(outcome);
        }
        Ok(())
    }

    async fn write_snapshot(&self, out: SnapshotWriter) -> Result<(), Fault> {
        let facts = self.facts.borrow().clone();
        out.chunk(rookery_wire::encode(&*facts)).await
    }

    async fn install_snapshot(&self, mark: Mark, mut input: SnapshotReader) -> Result<(), Fault> {
        let chunk = input.next().await?.ok_or_else(|| Fault::new("the system snapshot is empty"))?;
        let facts: Facts = decode(&chunk)
            .map_err(|fault| Fault::with_source("the system snapshot cannot be read", fault))?;
        self.keep(&facts, &mark, true).await?;
        self.facts.send_replace(Arc::new(facts));
        Ok(())
    }
}
