//! The actor shell around a session or a user: loads it, applies to it, lets others look at it, collects its rows.
//!
//! The shell executes what [`crate::state`] decided. It waits for rows (while it loads, or when a late retry needs an
//! old number) with its mailbox standing still, so nothing overtakes; no read touches the arbiter's thread (R14).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use actix::prelude::*;
use parking_lot::Mutex;
use rookery_raft::{Fault, Store};
use rookery_wire::{ErrorBody, ErrorCode};
use tokio::sync::oneshot;

use super::api::{Answer, Origin, Submission};
use super::effects::Effects;
use super::shared::Shared;
use crate::state::{
    At, Command, EntityKey, Gate, GivenUp, Outcome, RowFault, RowReader, RowWrites, SessionLimits,
};

/// A boxed read of rows, run on the read pool.
pub type Fetch<T> = Box<dyn FnOnce(&dyn RowReader) -> Result<T, RowFault> + Send>;

/// What the shell needs of the struct it owns.
pub trait Entity: Sized + Send + Unpin + 'static {
    /// Its name.
    type Key: Clone + Eq + std::hash::Hash + Ord + std::fmt::Debug + Send + Sync + Unpin + 'static;
    /// What [`Entity::lookups`] reads.
    type Found: Send + 'static;

    /// Reads it from rows.
    fn load(rows: &dyn RowReader, key: &Self::Key) -> Result<Self, RowFault>;
    /// One without rows.
    fn fresh(key: Self::Key) -> Self;
    /// Its name as the shard files it.
    fn entity_key(key: &Self::Key) -> EntityKey;
    /// Log index it reflects.
    fn index(&self) -> u64;
    /// Everything up to this index is in.
    fn reflect(&mut self, index: u64);
    /// Freezes it (R9).
    fn freeze(&mut self, index: u64);
    /// Rows that must be read before these commands can be applied.
    fn lookups(&self, commands: &mut dyn Iterator<Item = &Command>) -> Option<Fetch<Self::Found>>;
    /// Gives what was read.
    fn found(&mut self, found: Self::Found);
    /// Applies one command.
    fn apply(&mut self, at: &At, limits: &SessionLimits, command: &Command) -> Outcome;
    /// After a batch.
    fn settle(&mut self);
    /// Whether answers that wait for this may go.
    fn gate_open(&self, gate: &Gate) -> bool;
    /// Whether parked commands still have to wait.
    fn opening(&self) -> bool;
    /// Changed rows.
    fn collect(&mut self) -> RowWrites;
    /// Collected rows can be read.
    fn written(&mut self, limits: &SessionLimits);
    /// Rows hold everything.
    fn is_clean(&self) -> bool;
    /// Carries out the effects that concern others than the one who asked.
    fn execute(&self, shared: &Shared, outcome: &mut Outcome, effects: &mut Effects);
    /// After a batch: publishes what `effects` gathered and updates the shard's tables.
    fn publish(&self, shared: &Shared, effects: &mut Effects);
}

/// A resident entity as the registry knows it.
pub struct Resident<E: Entity> {
    /// Its actor.
    pub addr: Addr<EntityActor<E>>,
    /// What the shard looks at before it lets the actor go.
    pub flags: Arc<Flags>,
}

impl<E: Entity> Resident<E> {
    /// Notes that it is used now.
    pub fn touch(&self, shared: &Shared) {
        self.flags.used_ms.store(shared.uptime_ms(), Ordering::Relaxed);
    }
}

impl<E: Entity> Clone for Resident<E> {
    fn clone(&self) -> Self {
        Self { addr: self.addr.clone(), flags: self.flags.clone() }
    }
}

/// Shared between an actor and its shard, both on one arbiter.
#[derive(Debug, Default)]
pub struct Flags {
    /// It holds something that rows do not, is being loaded, or someone waits for it: the shard does not let it go.
    pub dirty: AtomicBool,
    /// When it was last used, by [`Shared::uptime_ms`].
    pub used_ms: AtomicU64,
}

/// A command at its place in the log, with who waits for it.
pub type Placed = (At, Command, Option<Origin>);

/// The commands of one batch for one entity.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Apply {
    /// Which of the batch's commands, in log order.
    pub places: Vec<usize>,
    /// Holds them; to be told when they are executed.
    pub batch: Arc<Batch>,
}

impl Apply {
    fn items(&self) -> impl Iterator<Item = &Placed> {
        self.places.iter().filter_map(|place| self.batch.commands.get(*place))
    }
}

/// Collects the rows that changed.
#[derive(Message)]
#[rtype(result = "RowWrites")]
pub struct Collect;

/// The collected rows can be read.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Written;

/// Looks at the entity.
pub struct Look<E, T>(Box<dyn FnOnce(&E) -> T + Send>, std::marker::PhantomData<fn() -> T>);

impl<E, T> Look<E, T> {
    /// Runs `look` in the actor and answers with what it returns.
    pub fn new(look: impl FnOnce(&E) -> T + Send + 'static) -> Self {
        Self(Box::new(look), std::marker::PhantomData)
    }
}

impl<E, T: Send + 'static> Message for Look<E, T> {
    type Result = T;
}

/// Said when a batch is executed. Dropped unsaid it tells whoever applies that the actors are gone.
pub struct Done {
    apply: oneshot::Sender<()>,
    executing: Executing,
}

/// One of the batches that are being executed.
struct Executing(Arc<AtomicUsize>);

impl Drop for Executing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Done {
    /// Of a batch whose execution begins: it is one more in `executing` until this is said or dropped. Lets `apply` return.
    pub fn new(apply: oneshot::Sender<()>, executing: &Arc<AtomicUsize>) -> Self {
        executing.fetch_add(1, Ordering::AcqRel);
        Self { apply, executing: Executing(executing.clone()) }
    }

    fn say(self) {
        drop(self.executing);
        // The receiver is gone only when the node is stopping.
        let _ = self.apply.send(());
    }
}

/// One applied batch of the log: holds its commands, which no actor moves or copies; counts the actors at work,
/// gathers their answers, says when all are done.
pub struct Batch {
    commands: Vec<Placed>,
    left: AtomicUsize,
    answers: Mutex<Vec<(Origin, Answer)>>,
    done: Mutex<Option<Done>>,
    shared: Arc<Shared>,
}

impl Batch {
    /// A batch of `commands`, in log order, on which `actors` actors will work.
    pub fn new(shared: Arc<Shared>, commands: Vec<Placed>, actors: usize, done: Done) -> Arc<Self> {
        Arc::new(Self {
            commands,
            left: AtomicUsize::new(actors),
            answers: Mutex::default(),
            done: Mutex::new(Some(done)),
            shared,
        })
    }

    /// One actor is done; the last one sends all answers and lets apply return (R5).
    pub fn finish(&self, mut answers: Vec<(Origin, Answer)>) {
        self.answers.lock().append(&mut answers);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let answers = std::mem::take(&mut *self.answers.lock());
            if !answers.is_empty() {
                self.shared.answers.answer(self.shared.shard, answers);
            }
            if let Some(done) = self.done.lock().take() {
                done.say();
            }
        }
    }
}

/// An answer that leaves once its intents or errands have arrived.
struct Gated {
    gate: Gate,
    origin: Origin,
    answer: Answer,
}

/// The shell. See the module's words.
pub struct EntityActor<E: Entity> {
    key: E::Key,
    state: Option<E>,
    begins_empty: bool,
    shared: Arc<Shared>,
    flags: Arc<Flags>,
    unwritten: usize,
    collected: usize,
    gated: Vec<Gated>,
    /// Commands for a session that opens, and who waits here for them.
    parked: Vec<(Command, Origin)>,
}

impl<E: Entity> EntityActor<E> {
    /// Starts the actor on the current arbiter. `begins_empty` when the shard knows that there are no rows.
    pub fn begin(key: E::Key, begins_empty: bool, shared: Arc<Shared>) -> Resident<E> {
        let flags = Arc::new(Flags::default());
        // Not let go before it is loaded: what a successor writes would be torn in what this one reads.
        flags.dirty.store(!begins_empty, Ordering::Release);
        let actor = Self {
            key,
            state: None,
            begins_empty,
            shared,
            flags: flags.clone(),
            unwritten: 0,
            collected: 0,
            gated: Vec::new(),
            parked: Vec::new(),
        };
        Resident { addr: actor.start(), flags }
    }

    fn apply_now(&mut self, apply: Apply) {
        let Some(state) = self.state.as_mut() else {
            // A snapshot replaced the shard while this actor was loaded.
            apply.batch.finish(again(&apply));
            return;
        };
        let mut answers = Vec::new();
        let mut effects = Effects::default();
        let start = state.index();
        let mut last = start;
        let mut changed = 0;
        for (at, command, origin) in apply.items() {
            if at.index <= start {
                // A checkpoint or snapshot was ahead of the log: this is in already. What it took back came into this log
                // all the same.
                if command.takes_back() {
                    self.shared.to_be_purged(at.index);
                }
                answers.extend(origin.map(|origin| (origin, AGAIN)));
                continue;
            }
            last = at.index;
            changed += CHANGE_BYTES;
            let limits = &self.shared.options.limits;
            let applied = catch_unwind(AssertUnwindSafe(|| state.apply(at, limits, command)));
            let mut outcome = applied.unwrap_or_else(|_| {
                tracing::error!(shard = self.shared.shard, index = at.index, entity = ?self.key,
                    "POISON: applying a command panicked; the entity is frozen on every replica");
                state.freeze(at.index);
                let text = format!("{:?} was frozen by log entry {}", self.key, at.index);
                Outcome::answer(Answer::Refused(ErrorBody::new(ErrorCode::Frozen, text)))
            });
            state.execute(&self.shared, &mut outcome, &mut effects);
            if let (true, Some(origin)) = (outcome.parked, origin) {
                park(&mut self.parked, command, *origin, &mut answers);
            }
            if let Some(given_up) = outcome.given_up {
                self.parked.retain(|(command, origin)| {
                    let told = is_told(&given_up, command);
                    if told {
                        answers.push((*origin, Answer::Refused(given_up.refusal.clone())));
                    }
                    !told
                });
            }
            if let (Some(origin), Some(answer)) = (origin, outcome.answer) {
                match outcome.gate {
                    Some(gate) if !state.gate_open(&gate) => {
                        let gated = Gated { gate, origin: *origin, answer };
                        hold(&mut self.gated, gated, &mut answers);
                    }
                    _ => answers.push((*origin, answer)),
                }
            }
            if outcome.gates_moved {
                let state = &*state;
                self.gated.retain(|gated| {
                    let shut = !state.gate_open(&gated.gate);
                    if !shut {
                        answers.push((gated.origin, gated.answer.clone()));
                    }
                    shut
                });
            }
        }
        if last > start {
            state.reflect(last);
        }
        state.settle();
        state.publish(&self.shared, &mut effects);
        // What left nothing behind will not be written, and must not be waited for.
        changed = if state.is_clean() { 0 } else { changed + effects.record_bytes };
        self.unwritten += changed;
        self.shared.add_unwritten(changed);
        if !self.parked.is_empty() && !state.opening() {
            self.propose_parked();
        }
        self.mark_dirty();
        apply.batch.finish(answers);
    }

    /// What waited for the session to open is proposed again, in the order in which it came.
    fn propose_parked(&mut self) {
        let again = std::mem::take(&mut self.parked).into_iter();
        let batch = again.map(|(command, origin)| Submission { origin, command: command.encode() });
        if let Some(proposals) = self.shared.proposals.get() {
            proposals.submit(&self.shared, batch.collect());
        }
    }

    fn mark_dirty(&mut self) {
        let clean = self.state.as_ref().is_none_or(E::is_clean);
        let waited_for = !self.gated.is_empty() || !self.parked.is_empty();
        self.flags.dirty.store(!clean || waited_for, Ordering::Release);
        if !clean {
            self.shared.touch(E::entity_key(&self.key));
        }
    }
}

/// Commands that may wait for one session to open; beyond it they are asked for again.
const PARKED: usize = 1024;

fn park(
    parked: &mut Vec<(Command, Origin)>,
    command: &Command,
    origin: Origin,
    answers: &mut Vec<(Origin, Answer)>,
) {
    // A repeat of one that is parked has the same origin but for the attempt; the last attempt is the one answered.
    if parked.len() < PARKED {
        parked.push((command.clone(), origin));
    } else {
        answers.push((origin, AGAIN));
    }
}

/// What a command leaves in memory until the next checkpoint besides its record, roughly: a number and what came of it, a
/// cursor, the place of its entity among those that are to be written.
const CHANGE_BYTES: usize = 128;

/// Answers of one entity that may wait for its intents; beyond it they are asked for again.
const GATED: usize = 1024;

fn hold(gated: &mut Vec<Gated>, answer: Gated, answers: &mut Vec<(Origin, Answer)>) {
    if gated.len() < GATED {
        gated.push(answer);
    } else {
        answers.push((answer.origin, AGAIN));
    }
}

/// Whether this parked command is refused because the session could not open.
fn is_told(given_up: &GivenUp, command: &Command) -> bool {
    match (command, &given_up.of) {
        (Command::Act { actor, .. } | Command::KeyedAct { actor, .. }, Some(of)) => actor.name() == of,
        _ => true,
    }
}

const AGAIN: Answer = Answer::Again { leader: None, after_ms: 0 };

fn again(apply: &Apply) -> Vec<(Origin, Answer)> {
    apply.items().filter_map(|(_, _, origin)| origin.map(|origin| (origin, AGAIN))).collect()
}

impl<E: Entity> Actor for EntityActor<E> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Bounded by admission: only the shard's one batch in flight and bounded readers write to it (R5).
        ctx.set_mailbox_capacity(1024);
        if self.begins_empty {
            self.state = Some(E::fresh(self.key.clone()));
            return;
        }
        let key = self.key.clone();
        let shared = self.shared.clone();
        let load = async move { super::rows::read_in_use(&shared, move |rows| E::load(rows, &key)).await };
        ctx.wait(load.into_actor(self).map(|loaded, actor, ctx| match loaded {
            Ok(Some(state)) => {
                actor.state = Some(state);
                actor.flags.dirty.store(false, Ordering::Release);
            }
            // The shard has forgotten this actor with the rows; whoever still holds its address is told to ask again.
            Ok(None) => tracing::debug!(entity = ?actor.key, "a snapshot came while it was loaded"),
            Err(fault) => {
                (actor.shared.stop)(Fault::new(format!("{:?} cannot be loaded: {fault}", actor.key)));
                ctx.stop();
            }
        }));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        let gated = std::mem::take(&mut self.gated).into_iter().map(|gated| (gated.origin, AGAIN));
        let parked = std::mem::take(&mut self.parked).into_iter().map(|(_, origin)| (origin, AGAIN));
        let answers: Vec<_> = gated.chain(parked).collect();
        if !answers.is_empty() {
            self.shared.answers.answer(self.shared.shard, answers);
        }
    }
}

impl<E: Entity> Handler<Apply> for EntityActor<E> {
    type Result = ();

    fn handle(&mut self, apply: Apply, ctx: &mut Self::Context) {
        // Marked before anything waits, so that the shard does not let this actor go meanwhile.
        self.flags.dirty.store(true, Ordering::Release);
        let lookup = self.state.as_ref().and_then(|state| {
            let mut commands = apply.items().map(|(_, command, _)| command);
            state.lookups(&mut commands)
        });
        let Some(fetch) = lookup else { return self.apply_now(apply) };
        let shared = self.shared.clone();
        let read = async move { super::rows::read_in_use(&shared, move |rows| fetch(rows)).await };
        ctx.wait(read.into_actor(self).map(move |found, actor, ctx| match found {
            // No snapshot is installed beside apply, but apply must return in any case (R5).
            Ok(None) => {
                apply.batch.finish(again(&apply));
                ctx.stop();
            }
            Ok(Some(found)) => {
                if let Some(state) = actor.state.as_mut() {
                    state.found(found);
                }
                actor.apply_now(apply);
            }
            Err(fault) => {
                (actor.shared.stop)(Fault::new(format!(
                    "{:?}: old numbers cannot be read: {fault}",
                    actor.key
                )));
                ctx.stop();
            }
        }));
    }
}

impl<E: Entity> Handler<Collect> for EntityActor<E> {
    type Result = MessageResult<Collect>;

    fn handle(&mut self, _: Collect, _: &mut Self::Context) -> Self::Result {
        self.collected += std::mem::take(&mut self.unwritten);
        MessageResult(self.state.as_mut().map(E::collect).unwrap_or_default())
    }
}

impl<E: Entity> Handler<Written> for EntityActor<E> {
    type Result = ();

    fn handle(&mut self, _: Written, _: &mut Self::Context) {
        let limits = self.shared.options.limits;
        if let Some(state) = self.state.as_mut() {
            state.written(&limits);
        }
        let freed = std::mem::take(&mut self.collected);
        self.shared.sub_unwritten(freed);
        self.mark_dirty();
    }
}

impl<E: Entity, T: Send + 'static> Handler<Look<E, T>> for EntityActor<E> {
    type Result = ResponseActFuture<Self, T>;

    fn handle(&mut self, look: Look<E, T>, ctx: &mut Self::Context) -> Self::Result {
        match &self.state {
            Some(state) => {
                let found = (look.0)(state);
                Box::pin(async move { found }.into_actor(self))
            }
            // A snapshot came while it was loaded: it ends here, and the reader learns that it is gone and asks again.
            None => {
                ctx.stop();
                Box::pin(std::future::pending().into_actor(self))
            }
        }
    }
}

/// Opens the node's store for a shard's map; here so that the generic shell needs no store type of its own.
pub fn map_name(shard: u32, generation: u64) -> String {
    format!("shard-{shard}-{generation}")
}

/// The map of a shard's generation.
///
/// # Errors
/// When the store has failed.
pub fn open_map(store: &Store, shard: u32, generation: u64) -> Result<rookery_raft::Map, Fault> {
    let name = map_name(shard, generation);
    store.map(&name).map_err(|fault| Fault::with_source(format!("map {name} cannot be opened"), fault))
}
