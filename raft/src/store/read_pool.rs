//! The threads on which blocking reads happen (R14).
//!
//! Owns a few threads and two bounded queues of jobs: what the node itself needs in order to go on (entities of a batch,
//! entries for a follower, a snapshot), and what clients ask for. The first goes before the second and waits its turn
//! however long that is, for an error there would stop the node; the second is bounded and refused with BUSY. A read never
//! runs on its caller's thread. A panic inside sled (it panics over some damaged leaves) is caught here and becomes an
//! error. A read that has run for longer than the watchdog's limit is a fault: sled can spin over damage, and the thread
//! would be lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::error::StoreError;
use super::fault::FaultPolicy;

/// Jobs of the node itself that may wait; who comes then waits for room.
const OWN: usize = 4096;
/// Jobs of clients that may wait.
const ASKED: usize = 1024;
/// How long a client's job waits for room, and how long for a thread.
const PATIENCE: Duration = Duration::from_secs(5);
type Job = Box<dyn FnOnce() + Send>;

/// For whom a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The node's: it cannot go on without.
    Own,
    /// A client's, who can be told that the node is busy.
    Asked,
}

/// One queue and the room in it.
#[derive(Debug)]
struct Queue {
    jobs: Mutex<Option<Sender<Job>>>,
    room: Arc<Semaphore>,
}

impl Queue {
    fn new(places: usize) -> (Self, Receiver<Job>) {
        let (jobs, queue) = crossbeam_channel::bounded(places);
        (Self { jobs: Mutex::new(Some(jobs)), room: Arc::new(Semaphore::new(places)) }, queue)
    }

    fn close(&self) {
        drop(self.jobs.lock().take());
        self.room.close();
    }
}

/// The pool. Ends its threads when stopped.
#[derive(Debug)]
pub(crate) struct ReadPool {
    own: Queue,
    asked: Queue,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Since when each thread has been at its job.
    busy: Arc<Vec<Mutex<Option<Instant>>>>,
    limit: Duration,
    policy: FaultPolicy,
}

impl ReadPool {
    pub(crate) fn start(threads: usize, limit: Duration, policy: FaultPolicy) -> Result<Self, StoreError> {
        let (own, own_jobs) = Queue::new(OWN);
        let (asked, asked_jobs) = Queue::new(ASKED);
        let mut handles = Vec::new();
        let busy = Arc::new((0..threads.max(1)).map(|_| Mutex::new(None)).collect::<Vec<_>>());
        for n in 0..threads.max(1) {
            let (own_jobs, asked_jobs, busy) = (own_jobs.clone(), asked_jobs.clone(), busy.clone());
            let work = move || work(&own_jobs, &asked_jobs, &busy[n]);
            let spawned = std::thread::Builder::new().name(format!("rookery-read-{n}")).spawn(work);
            handles.push(spawned.map_err(|e| StoreError::io("cannot start a read thread", e))?);
        }
        Ok(Self { own, asked, threads: Mutex::new(handles), busy, limit, policy })
    }

    /// Runs `read` on the pool. The inner error is a panic's message.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        whose: Whose,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Result<T, String>, StoreError> {
        let queue = if whose == Whose::Own { &self.own } else { &self.asked };
        let room = queue.room.clone().acquire_owned();
        let room = match whose {
            Whose::Own => room.await,
            Whose::Asked => match tokio::time::timeout(self.patience(), room).await {
                Ok(room) => room,
                Err(_late) => return Err(StoreError::Busy("the read queue")),
            },
        };
        let room = room.map_err(|_closed| StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let began = Arc::new(AtomicBool::new(false));
        let begins = began.clone();
        let job: Job = Box::new(move || {
            begins.store(true, Ordering::Release);
            // Callers that gave up (a deadline, a dropped future) cost nothing more.
            if !answer.is_closed() {
                let _ = answer.send(catch_unwind(AssertUnwindSafe(read)).map_err(panic_text));
            }
            drop(room);
        });
        let sent = queue.jobs.lock().as_ref().map(|jobs| jobs.try_send(job).is_ok());
        if sent != Some(true) {
            return Err(StoreError::Closed);
        }
        let mut answered = answered;
        loop {
            match tokio::time::timeout(self.patience(), &mut answered).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(_ended)) => return Err(StoreError::Closed),
                Err(_late) => self.watch()?,
            }
            if whose == Whose::Asked && !began.load(Ordering::Acquire) {
                return Err(StoreError::Busy("the read threads"));
            }
        }
    }

    /// How long a client waits for room, for a thread, and everybody between two looks at the threads.
    fn patience(&self) -> Duration {
        PATIENCE.min(self.limit / 4)
    }

    /// The watchdog: whoever waits looks after all threads, for the one who waited for the read that does not end may have
    /// given up long ago.
    fn watch(&self) -> Result<(), StoreError> {
        let stuck =
            |since: &Mutex<Option<Instant>>| since.lock().is_some_and(|since| since.elapsed() >= self.limit);
        if self.busy.iter().any(stuck) {
            let limit = self.limit;
            self.policy.fault(&format!("a read ran for more than {limit:?}: the files are damaged"));
            return Err(StoreError::Closed);
        }
        Ok(())
    }

    /// Finishes what is queued and joins the threads.
    pub(crate) fn stop(&self) {
        self.own.close();
        self.asked.close();
        for thread in self.threads.lock().drain(..) {
            // A job may itself have dropped the last handle of the store.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// Does the jobs of the node before those of clients, until both queues are closed and empty.
fn work(own: &Receiver<Job>, asked: &Receiver<Job>, busy: &Mutex<Option<Instant>>) {
    let run = |job: Job| {
        *busy.lock() = Some(Instant::now());
        job();
        *busy.lock() = None;
    };
    loop {
        let job = crossbeam_channel::select_biased! {
            recv(own) -> job => job,
            recv(asked) -> job => job,
        };
        match job {
            Ok(job) => run(job),
            // One is closed, which the other is then too.
            Err(_closed) => {
                own.iter().chain(asked.iter()).for_each(run);
                return;
            }
        }
    }
}

pub(crate) fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "a panic".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(8);
    const PATIENT: Duration = Duration::from_secs(20);

    /// A pool whose one thread is held until the sender is dropped. Nobody waits for it, as for a client that has gone.
    async fn held(limit: Duration) -> (Arc<ReadPool>, std::sync::mpsc::SyncSender<()>) {
        let policy = FaultPolicy::observed(|_| ());
        let pool = Arc::new(ReadPool::start(1, limit, policy).unwrap());
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        let (began, begun) = oneshot::channel();
        let on = pool.clone();
        let holding = tokio::spawn(async move {
            let hold = move || {
                let _ = began.send(());
                let _ = held.recv();
            };
            on.run(Whose::Own, hold).await
        });
        tokio::time::timeout(PATIENT, begun).await.unwrap().unwrap();
        holding.abort();
        (pool, release)
    }

    #[tokio::test]
    async fn clients_are_told_busy_and_the_node_waits_its_turn() {
        let (pool, release) = held(LIMIT).await;
        let asked = tokio::time::timeout(PATIENT, pool.run(Whose::Asked, || 1)).await.unwrap();
        assert!(matches!(asked, Err(StoreError::Busy(_))), "{asked:?}");
        let on = pool.clone();
        let mut own = tokio::spawn(async move { on.run(Whose::Own, || 2).await });
        let early = tokio::time::timeout(LIMIT / 8, &mut own).await;
        assert!(early.is_err(), "nothing can have been read yet: {early:?}");
        drop(release);
        let read = tokio::time::timeout(PATIENT, own).await.unwrap().unwrap();
        assert_eq!(read.unwrap().unwrap(), 2);
        tokio::task::spawn_blocking(move || pool.stop()).await.unwrap();
    }

    #[tokio::test]
    async fn a_thread_that_is_lost_is_noticed_by_whoever_waits_next() {
        let (pool, release) = held(Duration::from_millis(200)).await;
        let own = tokio::time::timeout(PATIENT, pool.run(Whose::Own, || 2)).await.unwrap();
        assert!(matches!(own, Err(StoreError::Closed)), "{own:?}");
        drop(release);
        tokio::task::spawn_blocking(move || pool.stop()).await.unwrap();
    }

    #[tokio::test]
    async fn the_node_goes_before_clients() {
        let (pool, release) = held(PATIENT).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |whose: Whose| {
            let (pool, order) = (pool.clone(), order.clone());
            tokio::spawn(async move { pool.run(whose, move || order.lock().push(whose)).await })
        };
        let asked = note(Whose::Asked);
        while pool.asked.room.available_permits() == ASKED {
            tokio::task::yield_now().await;
        }
        let own = note(Whose::Own);
        while pool.own.room.available_permits() > OWN - 2 {
            tokio::task::yield_now().await;
        }
        drop(release);
        for reading in [asked, own] {
            tokio::time::timeout(PATIENT, reading).await.unwrap().unwrap().unwrap().unwrap();
        }
        assert_eq!(*order.lock(), [Whose::Own, Whose::Asked]);
        tokio::task::spawn_blocking(move || pool.stop()).await.unwrap();
    }
}
