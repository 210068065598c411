//! Latencies by phases of a run whose turning points nobody knows before they come.
//!
//! One who watches the cluster calls [`Phases::turn`]; senders ask in which phase a message was due, and stop when the last
//! phase is over. A message belongs to the phase in which it was due, however late its answer came.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Latencies of the messages of one phase.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Phase {
    /// How long it lasted.
    pub seconds: f64,
    /// Messages due in it, those that were given up included.
    pub messages: u64,
    /// Messages answered in it, whenever they were due.
    pub answered: u64,
    /// Latency percentiles from the time at which a message was due, milliseconds.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// A number of phases, one after the other; before the first, and after the last, there is none.
#[derive(Debug)]
pub(super) struct Phases {
    count: usize,
    /// When each began, and in the end when the last was over.
    turns: watch::Sender<Vec<Instant>>,
    /// Of the senders that are done.
    noted: Mutex<Vec<Noted>>,
}

/// What was noted of one phase.
#[derive(Clone, Debug)]
struct Noted {
    /// Of the messages due in it, µs.
    latency: Histogram<u64>,
    answered: u64,
}

impl Phases {
    pub(super) fn new(count: usize) -> anyhow::Result<Arc<Self>> {
        let (turns, _) = watch::channel(Vec::new());
        let noted = Mutex::new(nothing(count)?);
        Ok(Arc::new(Self { count, turns, noted }))
    }

    /// The next phase begins at `when`; after the last one, nothing more is to be sent.
    pub(super) fn turn(&self, when: Instant) {
        self.turns.send_modify(|turns| turns.push(when));
    }

    /// Waits for the first phase.
    ///
    /// # Errors
    /// When it has not begun after `patience`.
    pub(super) async fn begun(&self, patience: Duration) -> anyhow::Result<Instant> {
        let mut turns = self.turns.subscribe();
        let begun = timeout(patience, turns.wait_for(|turns| !turns.is_empty())).await;
        let begun = begun.context("the load has not begun in time")??;
        begun.first().copied().context("the first phase")
    }

    /// When all was over, once it is.
    fn over(&self) -> Option<Instant> {
        self.turns.borrow().get(self.count).copied()
    }

    fn of(&self, at: Instant) -> Option<usize> {
        let begun = self.turns.borrow().partition_point(|turn| *turn <= at);
        begun.checked_sub(1).filter(|phase| *phase < self.count)
    }

    /// All phases that have ended.
    pub(super) fn report(&self) -> Vec<Phase> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = self.turns.borrow();
        let each = noted.iter().zip(turns.windows(2)).map(|(Noted { latency, answered }, ends)| {
            let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
            Phase {
                seconds: (ends[1] - ends[0]).as_secs_f64(),
                messages: latency.len(),
                answered: *answered,
                p50_ms: ms(0.5),
                p99_ms: ms(0.99),
                max_ms: latency.max() as f64 / 1000.0,
            }
        });
        each.collect()
    }
}

fn nothing(phases: usize) -> anyhow::Result<Vec<Noted>> {
    Ok(vec![Noted { latency: Histogram::new_with_bounds(1, 60_000_000, 3)?, answered: 0 }; phases])
}

/// What one sender notes; it hands that in when it is dropped.
#[derive(Debug)]
pub(super) struct Recorder {
    phases: Arc<Phases>,
    noted: Vec<Noted>,
}

impl Recorder {
    pub(super) fn new(phases: Arc<Phases>) -> anyhow::Result<Self> {
        let noted = nothing(phases.count)?;
        Ok(Self { phases, noted })
    }

    /// So many messages that were due then took so long.
    pub(super) fn note(&mut self, due: Instant, micros: u64, count: u64) {
        if let Some(phase) = self.phases.of(due).and_then(|phase| self.noted.get_mut(phase)) {
            phase.latency.saturating_record_n(micros, count);
        }
        let answered = self.phases.of(due + Duration::from_micros(micros));
        if let Some(phase) = answered.and_then(|phase| self.noted.get_mut(phase)) {
            phase.answered += count;
        }
    }

    /// When nothing more is to be sent, once that is known.
    pub(super) fn over(&self) -> Option<Instant> {
        self.phases.over()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut all = self.phases.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for (all, own) in all.iter_mut().zip(&self.noted) {
            all.answered += own.answered;
            // The bounds are the same, so there is nothing that it could not take.
            let _ = all.latency.add(&own.latency);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_is_of_the_phase_in_which_it_was_due() {
        let phases = Phases::new(2).unwrap();
        let mut recorder = Recorder::new(phases.clone()).unwrap();
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        recorder.note(at(5), 1, 1);
        phases.begun(Duration::ZERO).await.unwrap_err();
        phases.turn(at(10));
        assert_eq!(phases.begun(Duration::ZERO).await.unwrap(), at(10));
        recorder.note(at(9), 1, 1);
        recorder.note(at(10), 1_000, 3);
        phases.turn(at(20));
        // Its answer comes after the turn.
        recorder.note(at(19), 9_000, 1);
        recorder.note(at(20), 5_000, 7);
        assert_eq!(recorder.over(), None);
        phases.turn(at(50));
        assert_eq!(recorder.over(), Some(at(50)));
        recorder.note(at(50), 1, 1);
        drop(recorder);
        let report = phases.report();
        assert_eq!(report.iter().map(|phase| phase.messages).collect::<Vec<_>>(), [4, 7]);
        assert_eq!(report.iter().map(|phase| phase.answered).collect::<Vec<_>>(), [3, 8]);
        assert!((report[0].seconds - 0.01).abs() < 1e-9 && (report[1].seconds - 0.03).abs() < 1e-9);
        assert!(
            (8.9..9.1).contains(&report[0].p99_ms) && (0.9..1.1).contains(&report[0].p50_ms),
            "{report:?}"
        );
    }
}
