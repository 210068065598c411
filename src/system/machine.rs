//! The system group as Raft's state machine: the facts, one small value that is written with every change, and the audit,
//! whose lines are rows of their own beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_raft::{
    Batch, Committed, Fault, Group, Map, Mark, ProposeError, SnapshotReader, SnapshotWriter, StateMachine,
    Store, Waiter,
};
use rookery_wire::admin::{AuditPage, MAX_ADMIN_PAGE};
use rookery_wire::codec::decode;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::audit::Book;
use super::audit_rows;
use super::facts::{Facts, FactsCommand};
use crate::shard::checkpoint::store_fault;

/// Name of the map.
const MAP: &str = "system";
const FACTS_KEY: &[u8] = b"facts";
const MARK_KEY: &[u8] = b"mark";

/// Changes after which the audit is made durable, so that the log behind it can go.
const DURABLE_EVERY: u64 = 1024;
/// The same in bytes.
const DURABLE_BYTES: usize = 4 << 20;

/// Time of the entries between two warnings that lines are pushed out of the audit, milliseconds.
const WARN_EVERY_MS: u64 = 60_000;

/// What became of a proposal: the numbers of the audit's lines that were wanted, or why it came to nothing.
pub type SystemAnswer = Result<Vec<u64>, NotDone>;

/// Why a proposal came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// A definite no: little disk space is free on the node that leads.
    #[error("little disk space is free on the node that leads the system group")]
    LowDisk,
    /// A definite no: the journal of the node that leads is full for the moment.
    #[error("the journal of the node that leads the system group is full for the moment")]
    Busy,
    /// The facts refuse it, or this node does not lead, or what became of it is unknown.
    #[error("{0}")]
    Other(String),
}

/// Waits for a change.
pub struct SystemWaiter(oneshot::Sender<SystemAnswer>);

impl SystemWaiter {
    /// A waiter and where its answer comes.
    pub fn new() -> (Self, oneshot::Receiver<SystemAnswer>) {
        let (answer, answered) = oneshot::channel();
        (Self(answer), answered)
    }
}

impl Waiter for SystemWaiter {
    fn dropped(self, why: ProposeError) {
        // Nobody may be waiting any more.
        let _ = self.0.send(Err(match why {
            ProposeError::LowDisk => NotDone::LowDisk,
            ProposeError::Busy { .. } => NotDone::Busy,
            other => NotDone::Other(other.to_string()),
        }));
    }
}

/// See the module's words.
pub struct SystemMachine {
    store: Store,
    map: Map,
    opened_at: Option<Mark>,
    facts: watch::Sender<Arc<Facts>>,
    /// Newest mark that is durable.
    durable: watch::Sender<Option<Mark>>,
    /// Tells the group of durable marks; ends with the machine.
    telling: Mutex<JoinSet<()>>,
    audit: tokio::sync::Mutex<Audit>,
    pushed: Pushed,
}

/// Lines of the audit that went though they were not too old.
#[derive(Default)]
struct Pushed {
    /// Since the start.
    lines: Arc<AtomicU64>,
    /// The time of the entry of which there was a warning last.
    warned_ms: AtomicU64,
}

impl Pushed {
    /// So many more went, at that time; says so once in a while.
    fn count(&self, young: u64, time_ms: u64) {
        if young == 0 {
            return;
        }
        let lines = self.lines.fetch_add(young, Ordering::Relaxed) + young;
        if time_ms >= self.warned_ms.load(Ordering::Relaxed).saturating_add(WARN_EVERY_MS) {
            self.warned_ms.store(time_ms, Ordering::Relaxed);
            tracing::warn!(
                lines,
                "lines of the audit younger than storage.audit_age_ms make room for others: \
                 read it in time (rookery admin audit), raise storage.audit_lines, or look who asks for so much"
            );
        }
    }
}

/// The audit here. Locked while it changes, so that who cuts a snapshot finds rows for all that the book names.
struct Audit {
    generation: u64,
    book: Book,
    /// Log index of the last change that is durable.
    durable: u64,
    /// Bytes written since.
    unsaved: usize,
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
        let (generation, book) = audit_rows::open(&map).await?;
        let audit = tokio::sync::Mutex::new(Audit { generation, durable: book.index(), unsaved: 0, book });
        Ok(Self {
            store: store.clone(),
            map,
            opened_at,
            facts,
            durable: watch::Sender::new(None),
            telling: Mutex::default(),
            audit,
            pushed: Pushed::default(),
        })
    }

    /// The facts as they change.
    pub fn facts(&self) -> watch::Receiver<Arc<Facts>> {
        self.facts.subscribe()
    }

    /// Lets the log be purged behind what is written. Must be called on a runtime.
    ///
    /// In a task, because the group waits until a checkpoint counts as its snapshot, and whoever applies is the one who
    /// makes it count: told from within `apply`, it would wait for itself.
    pub fn set_group(&self, group: Group<SystemWaiter>) {
        let mut durable = self.durable.subscribe();
        // Also of what was applied before the group could be given.
        durable.mark_changed();
        let mut telling = JoinSet::new();
        telling.spawn(async move {
            while durable.changed().await.is_ok() {
                let mark = durable.borrow_and_update().clone();
                if let Some(mark) = mark {
                    group.checkpointed(mark).await;
                }
            }
        });
        *self.telling.lock() = telling;
    }

    /// A page of the audit as this replica has it, without lines of a time before `oldest_ms`: those are too old, and go
    /// with one of the next that come.
    ///
    /// # Errors
    /// What the store says, also that it is busy.
    pub async fn audit_page(&self, after: u64, limit: u32, oldest_ms: u64) -> Result<AuditPage, String> {
        let (generation, first, next) = {
            let audit = self.audit.lock().await;
            (audit.generation, audit.book.first_since(oldest_ms), audit.book.next())
        };
        let limit = limit.clamp(1, MAX_ADMIN_PAGE) as usize;
        let mut lines = audit_rows::lines(&self.map, generation, after.max(first - 1), limit).await?;
        lines.retain(|line| line.number < next);
        Ok(AuditPage { lines, first, last: next - 1 })
    }

    /// Counts lines of the audit that made room for others here since the start, though they were not too old.
    pub fn audit_pushed_out(&self) -> Arc<AtomicU64> {
        self.pushed.lines.clone()
    }

    /// Writes facts and mark together with what is in `batch`.
    async fn keep(&self, mut batch: Batch, facts: &Facts, mark: &Mark, durable: bool) -> Result<(), Fault> {
        batch.put(Bytes::from_static(FACTS_KEY), rookery_wire::encode(facts));
        batch.put(Bytes::from_static(MARK_KEY), mark.bytes());
        self.map.apply(batch).await.map_err(store_fault)?;
        if durable {
            self.store.sync().await.map_err(store_fault)?;
            self.durable.send_replace(Some(mark.clone()));
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
        let mut audit = self.audit.lock().await;
        let (mut answers, mut batch, mut audited) = (Vec::new(), Batch::default(), false);
        for committed in entries {
            let command: FactsCommand = decode(&committed.payload).map_err(|fault| {
                Fault::with_source(format!("system entry {} cannot be read", committed.index), fault)
            })?;
            let outcome = match command {
                FactsCommand::Audit(command) => {
                    let time_ms = command.time_ms;
                    let written = audit.book.apply(committed.index, command);
                    self.pushed.count(written.young, time_ms);
                    audited = true;
                    let numbers = written.numbers.clone();
                    audit_rows::put(&mut batch, audit.generation, written);
                    Ok(numbers)
                }
                command => facts.apply(command).map(|()| Vec::new()).map_err(NotDone::Other),
            };
            answers.extend(committed.waiter.map(|waiter| (waiter, outcome)));
        }
        if audited {
            audit_rows::put_head(&mut batch, audit.generation, &audit.book);
        }
        audit.unsaved += batch.bytes();
        let many = mark.index() >= audit.durable.saturating_add(DURABLE_EVERY);
        let durable = facts != *before || many || audit.unsaved >= DURABLE_BYTES;
        self.keep(batch, &facts, &mark, durable).await?;
        if durable {
            (audit.durable, audit.unsaved) = (mark.index(), 0);
        }
        drop(audit);
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
        // Cut at one entry, beside which nothing is applied.
        let (facts, generation, mut parts) = {
            let audit = self.audit.lock().await;
            let parts = audit_rows::Parts::of(&self.map, audit.generation, &audit.book);
            (self.facts.borrow().clone(), audit.generation, parts)
        };
        out.chunk(rookery_wire::encode(&*facts)).await?;
        loop {
            let part = parts.next().await?;
            // Also when there is none: it may be that the rest was taken out.
            if self.audit.lock().await.generation != generation {
                // Rows were taken out under it. The transfer takes silence for the end of this sender and gives up.
                std::future::pending::<()>().await;
            }
            match part {
                Some(part) => out.chunk(part).await?,
                None => return Ok(()),
            }
        }
    }

    async fn install_snapshot(&self, mark: Mark, mut input: SnapshotReader) -> Result<(), Fault> {
        let chunk = input.next().await?.ok_or_else(|| Fault::new("the system snapshot is empty"))?;
        let facts: Facts = decode(&chunk)
            .map_err(|fault| Fault::with_source("the system snapshot cannot be read", fault))?;
        let mut audit = self.audit.lock().await;
        let generation = audit.generation + 1;
        // What an interrupted installation may have left.
        audit_rows::clear(&self.map, Some(audit.generation)).await?;
        let mut arriving = audit_rows::Arriving::under(&self.map, generation);
        while let Some(part) = input.next().await? {
            arriving.take(part).await?;
        }
        let book = arriving.book();
        // The lines are on the disk before the head names them (R8).
        self.store.sync().await.map_err(store_fault)?;
        let mut batch = Batch::default();
        audit_rows::put_head(&mut batch, generation, &book);
        self.keep(batch, &facts, &mark, true).await?;
        *audit = Audit { generation, durable: mark.index(), unsaved: 0, book };
        audit_rows::clear(&self.map, Some(generation)).await?;
        drop(audit);
        self.facts.send_replace(Arc::new(facts));
        Ok(())
    }
}
