//! A state machine with its type forgotten but for its waiter, and guarded: a panic becomes a fault.
//!
//! So `Group<W>` and openraft's types know the waiter alone. Owns: the catching of panics.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::machine::{Committed, Fault, Mark, StateMachine, Waiter};
use crate::snapshot::{SnapshotReader, SnapshotWriter};

/// See [`StateMachine`]; the futures are boxed once per batch.
pub(crate) trait Machine<W: Waiter>: Send + Sync + 'static {
    fn mark(&self) -> Option<Mark>;
    fn apply(&self, entries: Vec<Committed<W>>, mark: Mark) -> BoxFuture<'_, Result<(), Fault>>;
    fn write_snapshot(&self, out: SnapshotWriter) -> BoxFuture<'_, Result<(), Fault>>;
    fn install_snapshot(&self, mark: Mark, input: SnapshotReader) -> BoxFuture<'_, Result<(), Fault>>;
    fn leadership(&self, leading: Option<u64>);
}

/// Gives a machine the erased face.
pub(crate) struct Guarded<S>(pub(crate) Arc<S>);

impl<S: StateMachine> Machine<S::Waiter> for Guarded<S> {
    fn mark(&self) -> Option<Mark> {
        self.0.mark()
    }

    fn apply(&self, entries: Vec<Committed<S::Waiter>>, mark: Mark) -> BoxFuture<'_, Result<(), Fault>> {
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
