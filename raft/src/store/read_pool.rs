//! The threads on which blocking reads happen (R14).
//!
//! Owns a few threads and one bounded queue of jobs. A read never runs on its caller's thread. A panic inside sled
//! (it panics over some damaged leaves) is caught here and becomes an error. Must never queue without a bound or wait
//! without a deadline. A read that has run for longer than the watchdog's limit is a fault: sled can spin over damage, and
//! the thread would be lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::error::StoreError;
use super::fault::FaultPolicy;

/// Jobs that may wait.
const WAITING: usize = 4096;
/// How long a caller waits for room in the queue.
const ROOM_DEADLINE: Duration = Duration::from_secs(5);
type Job = Box<dyn FnOnce() + Send>;

/// The pool. Ends its threads when stopped.
#[derive(Debug)]
pub(crate) struct ReadPool {
    jobs: Mutex<Option<Sender<Job>>>,
    room: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    limit: Duration,
    policy: FaultPolicy,
}

impl ReadPool {
    pub(crate) fn start(threads: usize, limit: Duration, policy: FaultPolicy) -> Result<Self, StoreError> {
        let (jobs, queue) = crossbeam_channel::bounded::<Job>(WAITING);
        let mut handles = Vec::new();
        for n in 0..threads.max(1) {
            let queue: Receiver<Job> = queue.clone();
            let work = move || queue.iter().for_each(|job| job());
            let spawned = std::thread::Builder::new().name(format!("rookery-read-{n}")).spawn(work);
            handles.push(spawned.map_err(|e| StoreError::io("cannot start a read thread", e))?);
        }
        let room = Arc::new(Semaphore::new(WAITING));
        Ok(Self { jobs: Mutex::new(Some(jobs)), room, threads: Mutex::new(handles), limit, policy })
    }

    /// Runs `read` on the pool. The inner error is a panic's message.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Result<T, String>, StoreError> {
        let room = match tokio::time::timeout(ROOM_DEADLINE, self.room.clone().acquire_owned()).await {
            Ok(Ok(room)) => room,
            Ok(Err(_closed)) => return Err(StoreError::Closed),
            Err(_late) => return Err(StoreError::Busy("the read queue")),
        };
        let (answer, answered) = oneshot::channel();
        let running = Arc::new(AtomicBool::new(false));
        let runs = running.clone();
        let job: Job = Box::new(move || {
            runs.store(true, Ordering::Release);
            // Callers that gave up (a deadline, a dropped future) cost nothing more.
            if !answer.is_closed() {
                let _ = answer.send(catch_unwind(AssertUnwindSafe(read)).map_err(panic_text));
            }
            drop(room);
        });
        let sent = self.jobs.lock().as_ref().map(|jobs| jobs.try_send(job).is_ok());
        if sent != Some(true) {
            return Err(StoreError::Closed);
        }
        let mut answered = answered;
        for waited in 1.. {
            let ran = running.load(Ordering::Acquire);
            match tokio::time::timeout(self.limit, &mut answered).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(_ended)) => return Err(StoreError::Closed),
                Err(_late) if ran => {
                    let limit = self.limit;
                    self.policy.fault(&format!("a read ran for more than {limit:?}: the files are damaged"));
                    return Err(StoreError::Closed);
                }
                Err(_late) if waited > 1 => break,
                Err(_late) => {}
            }
        }
        Err(StoreError::Busy("the read threads"))
    }

    /// Finishes what is queued and joins the threads.
    pub(crate) fn stop(&self) {
        drop(self.jobs.lock().take());
        self.room.close();
        for thread in self.threads.lock().drain(..) {
            // A job may itself have dropped the last handle of the store.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

pub(crate) fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "a panic".to_owned())
}
