//! A state machine and its waiters with their types forgotten, and guarded: a panic becomes a fault.
//!
//! So that openraft is instantiated once, in this crate, and not again in every crate that has a machine: it is large, and
//! slow where it is not optimised. Owns: the catching of panics, the way back from a forgotten waiter to its type.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::machine::{Committed, Fault, Mark, ProposeError, StateMachine, Waiter};
use crate::snapshot::{SnapshotReader, SnapshotWriter};

/// A waiter of some type.
pub(crate) trait ErasedWaiter: Send + 'static {
    fn dropped(self: Box<Self>, why: ProposeError);
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
}

impl<W: Waiter> ErasedWaiter for W {
    fn dropped(self: Box<Self>, why: ProposeError) {
        Waiter::dropped(*self, why);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

pub(crate) type AnyWaiter = Box<dyn ErasedWaiter>;

/// See [`StateMachine`]; the futures are boxed once per batch.
pub(crate) trait Machine: Send + Sync + 'static {
    fn mark(&self) -> Option<Mark>;
    fn apply(&self, entries: Vec<Committed<AnyWaiter>>, mark: Mark) -> BoxFuture<'_, Result<(), Fault>>;
    fn write_snapshot(&self, out: SnapshotWriter) -> BoxFuture<'_, Result<(), Fault>>;
    fn install_snapshot(&self, mark: Mark, input: SnapshotReader) -> BoxFuture<'_, Result<(), Fault>>;
    fn leadership(&self, leading: Option<u64>);
}

/// Gives a machine the erased face.
pub(crate) struct Guarded<S>(pub(crate) Arc<S>);

/// The waiter as its group's type. A group takes waiters of its machine's type only, so none is lost here.
fn typed<W: Waiter>(entry: Committed<AnyWaiter>) -> Committed<W> {
    let Committed { index, term, payload, waiter } = entry;
    let waiter = waiter.and_then(|waiter| waiter.into_any().downcast::<W>().ok()).map(|waiter| *waiter);
    Committed { index, term, payload, waiter }
}

impl<S: StateMachine> Machine for Guarded<S> {
    fn mark(&self) -> Option<Mark> {
        self.0.mark()
    }

    fn apply(&self, entries: Vec<Committed<AnyWaiter>>, mark: Mark) -> BoxFuture<'_, Result<(), Fault>> {
        let entries = entries.into_iter().map(typed).collect();
        caught("apply", self.0.apply(entries, mark))
    }

    fn write_snapshot(&self, out: SnapshotWriter) -> BoxFuture<'_, Result<(), Fault>> {
        caught("write_snapshot", self.0.write_snapshot(out))
    }

    fn install_snapshot(&self, mark: Mark, input: SnapshotReader) -> BoxFuture<'_, Result<(), Fault>> {
        caught("install_snapshot", self.0.install_snapshot(mark, input))
    }

    fn leadership(&self, leading: Option<u64>) {
        self.0.leadership(leading);
    }
}

fn caught<'a>(
    what: &'static str,
    work: impl Future<Output = Result<(), Fault>> + Send + 'a,
) -> BoxFuture<'a, Result<(), Fault>> {
    // Unwind safety: after a panic the machine is not used again, because the node stops.
    AssertUnwindSafe(work)
        .catch_unwind()
        .map(move |outcome| match outcome {
            Ok(result) => result,
            Err(panic) => Err(Fault::new(format!("panic in {what}: {}", text_of(&*panic)))),
        })
        .boxed()
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no text",
    }
}
