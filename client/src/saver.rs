//! Saves the memory now and then, off the driver's thread: one save at a time, at a bounded rate.

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use crate::error::ClientError;
use crate::memory::{MemoryFile, Remembered};

/// Shortest time between two saves.
const EVERY: Duration = Duration::from_secs(1);

/// The memory file and the save under way.
#[derive(Debug)]
pub(crate) struct Saver {
    file: MemoryFile,
    saving: Option<JoinHandle<Result<(), ClientError>>>,
    /// The state that was saved last (or is being saved), as the engine counts its changes.
    saved: u64,
    next: Instant,
}

impl Saver {
    pub(crate) fn new(file: MemoryFile) -> Self {
        Self { file, saving: None, saved: 0, next: Instant::now() }
    }

    /// When the next save is due, if anything has changed.
    pub(crate) fn due(&self, changes: u64) -> Option<Instant> {
        (self.saving.is_none() && changes != self.saved).then_some(self.next)
    }

    /// Begins a save.
    pub(crate) fn begin(&mut self, remembered: Remembered, changes: u64) {
        let file = self.file.clone();
        self.saved = changes;
        self.saving = Some(spawn_blocking(move || file.save(remembered)));
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.saving.is_some()
    }

    /// The end of the save under way. Safe to cancel.
    pub(crate) async fn done(&mut self) -> Result<(), ClientError> {
        let result = match &mut self.saving {
            Some(saving) => saving.await.unwrap_or_else(|fault| Err(ClientError::Closed(fault.to_string()))),
            None => Ok(()),
        };
        self.saving = None;
        self.next = Instant::now() + EVERY;
        result
    }

    /// Saves and waits for it, after the one under way.
    pub(crate) async fn save_now(&mut self, remembered: Remembered) -> Result<(), ClientError> {
        if self.is_busy() {
            let _ = self.done().await;
        }
        self.begin(remembered, self.saved);
        self.done().await
    }
}
