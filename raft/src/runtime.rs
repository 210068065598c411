//! The runtime that openraft runs on: tokio's, but that who waits for a moment is woken at a beat, with everybody else.
//!
//! openraft asks each group five times in a heartbeat's time whether something is due, from a moment on that it draws for each (its
//! `core/tick.rs`), so groups that have nothing to do keep a node awake: 17 of them woke it 950 times a second. Here they are
//! asked at the beats of the process, a heartbeat apart, all together, and what they then send to a peer leaves in one write: 200 times.
//! An election begins up to a beat later for it.
//!
//! Owns: the beat. Must never wake anybody early by more than [`SHORTEST`].

use std::fmt;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{Either, Ready, ready};
use openraft::OptionalSend;
use openraft::async_runtime::{AsyncRuntime, Instant};
use openraft_rt_tokio::TokioRuntime;
use tokio::time::Sleep;

/// openraft waits for a microsecond before it hands on what was flushed, to hand on more at once (`io_completion_forwarder`);
/// tokio's timer would make a thousand of it, and a beat far more. Nothing else is as short: were a millisecond not waited for
/// either, a tick that is due in less would be sent again and again until it is.
const SHORTEST: Duration = Duration::from_micros(2);

/// Milliseconds of a beat; 0 before there was any host.
static BEAT_MS: AtomicU64 = AtomicU64::new(0);

/// From now on who waits is woken at multiples of `beat`. openraft names its runtime as a type, so there is one beat for a
/// process: of several hosts in it the shortest counts.
pub(crate) fn keep_beat(beat: Duration) {
    let ms = u64::try_from(beat.as_millis()).unwrap_or(u64::MAX).max(1);
    let shorter = |before: u64| Some(if before == 0 { ms } else { before.min(ms) });
    // The closure always gives a value.
    let _ = BEAT_MS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shorter);
}

/// `left` as long as it takes to the next beat at or after its end, `since` after the first one.
fn up_to_beat(since: Duration, left: Duration, beat: Duration) -> Duration {
    let at = (since + left).as_micros();
    let beyond = at.next_multiple_of(beat.as_micros().max(1)) - at;
    left + Duration::from_micros(u64::try_from(beyond).unwrap_or(0))
}

/// Tokio with a beat.
pub(crate) struct Runtime(TokioRuntime);

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Either<Ready<()>, Sleep>;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Either::Right(TokioRuntime::sleep(duration))
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        // Tokio's clock, which a simulation moves.
        static FIRST: OnceLock<tokio::time::Instant> = OnceLock::new();
        let left = deadline.saturating_duration_since(Self::Instant::now());
        if left < SHORTEST {
            return Either::Left(ready(()));
        }
        let first = *FIRST.get_or_init(tokio::time::Instant::now);
        let since = tokio::time::Instant::now().saturating_duration_since(first);
        Self::sleep(match BEAT_MS.load(Ordering::Relaxed) {
            0 => left,
            ms => up_to_beat(since, left, Duration::from_millis(ms)),
        })
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn whoever_waits_is_woken_at_a_beat_and_never_early() {
        let beat = ms(50);
        for since in [0, 1, 49, 50, 51, 1_234_567] {
            for left in [1, 9, 10, 49, 50, 51, 3_000] {
                let waits = up_to_beat(ms(since), ms(left), beat);
                assert!(waits >= ms(left) && waits < ms(left) + beat, "{since} {left}: {waits:?}");
                assert_eq!(
                    (ms(since) + waits).as_micros() % beat.as_micros(),
                    0,
                    "{since} {left}: {waits:?}"
                );
            }
        }
    }

    /// The clock stands still: what is left of a wait is not for the machine to say.
    #[tokio::test(start_paused = true)]
    async fn what_is_shorter_than_the_timer_can_tell_is_not_waited_for() {
        keep_beat(ms(50));
        let now = <Runtime as AsyncRuntime>::Instant::now();
        assert!(Runtime::sleep_until(now + Duration::from_micros(1)).now_or_never().is_some());
        assert!(Runtime::sleep_until(now + Duration::from_micros(500)).now_or_never().is_none());
    }
}
