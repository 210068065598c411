//! Stops the process when opening stands still: a damaged frame can make sled spin for ever (seen; R1).
//!
//! Owns one thread for the time of the opening. Must never outlive it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::fault::FaultPolicy;

/// Watches until dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    beats: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// No progress for `limit` is reported as a fault of `what`.
    pub(crate) fn start(what: String, policy: FaultPolicy, limit: Duration) -> std::io::Result<Self> {
        let (beats, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, end) = (beats.clone(), done.clone());
        let watch = move || {
            let mut last = (seen.load(Ordering::Relaxed), Instant::now());
            while !end.load(Ordering::Acquire) {
                std::thread::park_timeout(limit / 8);
                let now = seen.load(Ordering::Relaxed);
                if now != last.0 {
                    last = (now, Instant::now());
                } else if last.1.elapsed() >= limit && !end.load(Ordering::Acquire) {
                    return policy
                        .fault(&format!("{what} made no progress for {limit:?}: its files are damaged"));
                }
            }
        };
        let thread = std::thread::Builder::new().name("rookery-watchdog".into()).spawn(watch)?;
        Ok(Self { beats, done, thread: Some(thread) })
    }

    /// Progress was made.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fires_when_nothing_moves_and_not_while_something_does() {
        let fired = Arc::new(AtomicBool::new(false));
        let seen = fired.clone();
        let policy = FaultPolicy::observed(move |_| seen.store(true, Ordering::Release));
        let limit = Duration::from_millis(400);
        let dog = Watchdog::start("a test".into(), policy, limit).unwrap();
        let start = Instant::now();
        while start.elapsed() < limit * 2 {
            dog.beat();
            std::thread::yield_now();
        }
        assert!(!fired.load(Ordering::Acquire));
        let start = Instant::now();
        while !fired.load(Ordering::Acquire) {
            assert!(start.elapsed() < limit * 10, "the watchdog never fired");
            std::thread::yield_now();
        }
    }
}
