//! What happens when the disk cannot be trusted any more, and where tests may look in.
//!
//! Owns the two hooks of the store: [`FaultPolicy`] (a failed write, fsync or flush ends the process, R2) and
//! [`StepHook`] (tests end the process between two steps of a write). Neither may ever let the store go on after a
//! fault: a thread that has reported one gives up its database handles without dropping them, because dropping a sled
//! database flushes it.

use std::fmt;
use std::sync::Arc;

/// Called once with the reason when a write, fsync or flush has failed or a watchdog has fired. The default writes the
/// reason to the log and to standard error and aborts the process, running no destructor. A policy that returns leaves
/// a store that answers [`super::StoreError::Closed`] to everything.
#[derive(Clone)]
pub struct FaultPolicy(Arc<dyn Fn(&str) + Send + Sync>);

impl FaultPolicy {
    /// A policy for tests: `observe` sees the reason instead of the process ending.
    pub fn observed(observe: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    /// Reports; the caller must stop working and forget its handles.
    pub(crate) fn fault(&self, reason: &str) {
        (self.0)(reason);
    }
}

impl Default for FaultPolicy {
    fn default() -> Self {
        Self(Arc::new(|reason| {
            // Straight to the descriptor and in one piece: the log may be asynchronous, it may be on the very disk that is
            // full, and this is the last word. What a person must do stands before the long reason.
            use std::io::Write;
            let text = format!("storage fault: the node stops at once; {}: {reason}\n", remedy(reason));
            let _ = std::io::stderr().write_all(text.as_bytes());
            std::process::abort();
        }))
    }
}

/// What a person must do, for the end of a process.
fn remedy(reason: &str) -> &'static str {
    // As the operating system numbers them: no space left, and a quota that is used up.
    if reason.contains("os error 28)") || reason.contains("os error 122)") {
        "free space on the disk of its data folder and start it again, nothing acknowledged is lost"
    } else {
        "look after its disk (the kernel's log says more) and start it again, nothing acknowledged is lost on the others"
    }
}

impl fmt::Debug for FaultPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultPolicy")
    }
}

/// The moments of a write at which a crash test may stop the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// A batch is about to be written to the journal.
    BeforeWrite,
    /// Only the first half of the batch has been written (the hook makes the write happen in two halves).
    HalfWritten,
    /// Written, not synced.
    Written,
    /// Synced, nobody told yet.
    Synced,
    /// Everybody told, sled knows nothing.
    Told,
    /// The header of a recycled segment is written, not synced.
    SegmentHeader,
    /// The journal moved to another segment.
    Rotated,
    /// The batches are in sled's memory.
    Applied,
    /// sled has flushed them.
    Flushed,
    /// Segments behind the flush were given free.
    Recycled,
    /// `state` has been flushed.
    StateFlushed,
    /// `state` was closed and opened to get its memory back.
    StateReopened,
}

/// Called at every [`Step`]. Costs one branch when unset.
#[derive(Clone, Default)]
pub struct StepHook(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl StepHook {
    /// For crash tests only.
    pub fn new(hook: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    /// Whether anybody listens (writes are split in two only then).
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn at(&self, step: Step) {
        if let Some(hook) = &self.0 {
            hook(step);
        }
    }
}

impl fmt::Debug for StepHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepHook({})", if self.is_set() { "set" } else { "unset" })
    }
}
