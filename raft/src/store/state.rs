//! The maps of a store on disk: the way to the state writer and to the read pool.
//!
//! Owns the bounded queue to the writer's thread and that thread. Must never block an async caller on the disk.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::StoreOptions;
use super::error::StoreError;
use super::folder::Folder;
use super::map::MapView;
use super::read_pool::{ReadPool, Whose};
use super::state_db::StateDb;
use super::state_writer::{Command, Queued, StateWriter, WAITING};
use super::watchdog::Watchdog;

/// How long a caller waits for room in the writer's queue, and for the writer's answer.
const DEADLINE: Duration = Duration::from_secs(60);
/// Longest name of a map, in bytes.
const NAME_MAX: usize = 200;

/// The maps' side of a store on disk.
#[derive(Debug)]
pub(crate) struct DiskState {
    db: Arc<StateDb>,
    pool: Arc<ReadPool>,
    room: Arc<Semaphore>,
    commands: Mutex<Option<Sender<Queued>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    dir: std::path::PathBuf,
}

impl DiskState {
    pub(crate) fn open(
        folder: Arc<Folder>,
        options: &StoreOptions,
        pool: Arc<ReadPool>,
    ) -> Result<Self, StoreError> {
        let damaged = |what| StoreError::StateDamaged { dir: folder.dir.clone(), what };
        let path = folder.path("state");
        if !folder.created && !path.exists() {
            tracing::warn!(path = %path.display(), "the state database is gone; the log rebuilds it unless it was purged");
        }
        let dog =
            Watchdog::start(format!("opening {}", path.display()), options.fault.clone(), options.watchdog)
                .map_err(|e| StoreError::io("cannot start the watchdog", e))?;
        let opened =
            std::panic::catch_unwind(AssertUnwindSafe(|| StateDb::open(&path, options.sled_cache_bytes)));
        drop(dog);
        let db = match opened {
            Ok(Ok(db)) => Arc::new(db),
            Ok(Err(e)) => return Err(damaged(format!("sled cannot open it: {e}"))),
            Err(panic) => {
                return Err(damaged(format!("sled panicked: {}", super::read_pool::panic_text(panic))));
            }
        };
        let (commands, queue) = crossbeam_channel::bounded(WAITING + 1);
        let writer = StateWriter {
            db: db.clone(),
            commands: queue,
            reopen_after: super::reopen_after(options),
            rest: options.rest,
            policy: options.fault.clone(),
            steps: options.steps.clone(),
            dirty: 0,
            written: 0,
            syncs: Vec::new(),
            drops: Default::default(),
        };
        let dir = folder.dir.clone();
        let run = move || {
            writer.run();
            drop(folder);
        };
        let thread = std::thread::Builder::new().name("rookery-state".into()).spawn(run);
        let thread = thread.map_err(|e| StoreError::io("cannot start the state writer", e))?;
        Ok(Self {
            db,
            pool,
            room: Arc::new(Semaphore::new(WAITING)),
            commands: Mutex::new(Some(commands)),
            thread: Mutex::new(Some(thread)),
            dir,
        })
    }

    /// Makes map `name` if it is not there. Blocks for the writer; called at start and for new generations only.
    pub(crate) fn make(&self, name: &str) -> Result<(), StoreError> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(StoreError::TooLarge { what: "a map's name", bytes: name.len(), max: NAME_MAX });
        }
        if self.db.has(name) {
            return Ok(());
        }
        let (done, made) = crossbeam_channel::bounded(1);
        self.send(Command::Make { map: name.into(), done }, None)?;
        match made.recv_timeout(DEADLINE) {
            Ok(()) => Ok(()),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => Err(StoreError::Busy("the state writer")),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Err(StoreError::Closed),
        }
    }

    pub(crate) async fn apply(
        &self,
        map: Arc<str>,
        changes: Vec<(Bytes, Option<Bytes>)>,
        bytes: usize,
    ) -> Result<(), StoreError> {
        self.ask(|done| Command::Apply { map, changes, bytes, done }).await
    }

    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        self.ask(|done| Command::Sync { done }).await
    }

    pub(crate) async fn drop_map(&self, map: &str) -> Result<(), StoreError> {
        let map: Arc<str> = map.into();
        self.ask(|done| Command::Drop { map, done }).await
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> Result<(), StoreError> {
        let room = match tokio::time::timeout(DEADLINE, self.room.clone().acquire_owned()).await {
            Ok(Ok(room)) => room,
            Ok(Err(_closed)) => return Err(StoreError::Closed),
            Err(_late) => return Err(StoreError::Busy("the state writer's queue")),
        };
        let (done, answered) = oneshot::channel();
        self.send(command(done), Some(room))?;
        answered.await.map_err(|_stopped| StoreError::Closed)
    }

    fn send(&self, command: Command, room: Option<OwnedSemaphorePermit>) -> Result<(), StoreError> {
        let commands = self.commands.lock();
        let sender = commands.as_ref().ok_or(StoreError::Closed)?;
        match room {
            // A permit means room: this does not block.
            Some(_) => sender.try_send((command, room)).map_err(|_| StoreError::Closed),
            None => sender.send_timeout((command, None), DEADLINE).map_err(|_| StoreError::Closed),
        }
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        map: Arc<str>,
        whose: Whose,
        read: impl FnOnce(&MapView<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let db = self.db.clone();
        let done = self.pool.run(whose, move || read(&MapView::sled(db.view(&map)?))).await?;
        done.unwrap_or_else(|what| {
            let what = format!("sled panicked while reading: {what}");
            Err(StoreError::StateDamaged { dir: self.dir.clone(), what })
        })
    }

    /// Ends the writer once it has done and flushed what was given.
    pub(crate) fn stop(&self) {
        self.room.close();
        drop(self.commands.lock().take());
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}
