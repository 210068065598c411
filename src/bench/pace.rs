//! When the next message is due: the open loop's clock.
//!
//! A schedule is fixed before the first message and does not know of answers. So a cluster that stalls does not make its
//! own load wait, and what a message waited for its turn counts as its latency. The runtime's own timers tick in
//! milliseconds, as much as a whole send takes: this one is the kernel's.

use std::io;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

/// The messages of one sender: the first at a time, each a fixed step after the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    first: Instant,
    /// Seconds.
    step: f64,
    /// The next one.
    next: u64,
}

impl Schedule {
    /// `rate` messages a second over `senders` senders, of which this is number `at`: they take turns.
    pub(super) fn new(first: Instant, rate: f64, senders: u32, at: u32) -> Self {
        let step = f64::from(senders.max(1)) / rate;
        let turn = Duration::from_secs_f64(step * f64::from(at) / f64::from(senders.max(1)));
        Self { first: first + turn, step, next: 0 }
    }

    /// When the next message is due.
    pub(super) fn due(&self) -> Instant {
        self.due_after(0)
    }

    /// When the message is due that comes so many after the next.
    pub(super) fn due_after(&self, more: u64) -> Instant {
        self.at(self.next + more)
    }

    fn at(&self, number: u64) -> Instant {
        // Of the product, and not step by step: what is lost to rounding does not add up.
        self.first + Duration::from_secs_f64(self.step * number as f64)
    }

    /// The next message has been sent: when it was due.
    pub(super) fn take(&mut self) -> Instant {
        let due = self.due();
        self.next += 1;
        due
    }

    /// Messages that are due before `to` and not sent.
    pub(super) fn left(&self, to: Instant) -> u64 {
        let until = to.saturating_duration_since(self.first).as_secs_f64();
        let mut count = (until / self.step).ceil() as u64;
        // A division may end beside the whole number that it should be.
        while count > 0 && self.at(count - 1) >= to {
            count -= 1;
        }
        while self.at(count) < to {
            count += 1;
        }
        count.saturating_sub(self.next)
    }
}

/// A timer of the kernel. It is read like a pipe: it becomes readable, and eight bytes come out of it.
#[derive(Debug)]
pub(super) struct Timer(Receiver);

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Receiver::from_owned_fd_unchecked(timer).map(Self)
    }

    /// Returns at `at`, or soon after. Safe to cancel.
    pub(super) async fn until(&self, at: Instant) -> io::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        loop {
            self.0.readable().await?;
            let mut expired = [0; 8];
            match self.0.try_read(&mut expired) {
                // One that was set before and cancelled may have left its mark.
                Ok(_) if Instant::now() >= at => return Ok(()),
                Ok(_) => {}
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {}
                Err(fault) => return Err(fault),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_take_turns_and_nothing_drifts() {
        let first = Instant::now();
        let mut senders: Vec<Schedule> = (0..4).map(|at| Schedule::new(first, 3_000.0, 4, at)).collect();
        let to = first + Duration::from_secs(10);
        assert_eq!(senders.iter().map(|sender| sender.left(to)).sum::<u64>(), 30_000);
        let mut due: Vec<Instant> = Vec::new();
        for sender in &mut senders {
            while sender.left(to) > 0 {
                due.push(sender.take());
            }
            assert!(sender.due() >= to, "everything before it was sent");
        }
        due.sort_unstable();
        for (at, pair) in due.windows(2).enumerate() {
            let step = (pair[1] - pair[0]).as_secs_f64() * 3_000.0;
            assert!((0.99..1.01).contains(&step), "{step} steps after message {at}");
        }
        assert!(due.last().is_some_and(|last| *last < to && to - *last < Duration::from_millis(1)));
    }

    #[tokio::test]
    async fn a_timer_is_never_early_and_outlives_one_that_was_cancelled() {
        let timer = Timer::new().unwrap();
        let begin = Instant::now();
        // Given up, or over already where the machine was busy: it says nothing of the next one.
        let earlier = timer.until(begin + Duration::from_millis(2));
        let _ = tokio::time::timeout(Duration::ZERO, earlier).await;
        let at = Instant::now() + Duration::from_millis(20);
        timer.until(at).await.unwrap();
        assert!(Instant::now() >= at);
        timer.until(begin).await.unwrap();
    }
}
