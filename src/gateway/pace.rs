//! How often something may be asked: so many times a second, and twice as many at once after a pause.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_wire::{ErrorBody, ErrorCode, Retry, UserId};
use tokio::time::Instant;

/// Users whose pace is remembered; those beyond share one.
const USERS: usize = 64 << 10;

/// How many more of something may come now.
#[derive(Default)]
pub(super) struct Pace(Mutex<Option<Left>>);

/// What is left, and since when it grows.
#[derive(Clone, Copy)]
struct Left {
    count: f64,
    at: Instant,
}

impl Left {
    /// As it is now; a pause earns a burst and no more.
    fn now(left: Option<Self>, rate: f64, now: Instant) -> Self {
        let Self { count, at } = left.unwrap_or(Self { count: 2.0 * rate, at: now });
        let grown = count + now.saturating_duration_since(at).as_secs_f64() * rate;
        Self { count: grown.min(2.0 * rate), at: now }
    }

    /// Takes one; how long to wait for the next one if there is none.
    fn take(&mut self, rate: f64) -> Result<(), Duration> {
        if self.count < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.count) / rate));
        }
        self.count -= 1.0;
        Ok(())
    }
}

impl Pace {
    /// Takes one of `rate` a second.
    ///
    /// # Errors
    /// How long to wait for the next one, if there is none.
    pub(super) fn take(&self, rate: u32, now: Instant) -> Result<(), Duration> {
        let (rate, mut pace) = (f64::from(rate), self.0.lock());
        let mut left = Left::now(*pace, rate, now);
        let taken = left.take(rate);
        *pace = Some(left);
        taken
    }
}

/// The pace of each user, over all its connections to this node.
#[derive(Default)]
pub(super) struct Paces {
    users: Mutex<HashMap<UserId, Left>>,
    others: Pace,
}

impl Paces {
    /// As [`Pace::take`], for this user.
    ///
    /// # Errors
    /// As [`Pace::take`].
    pub(super) fn take(&self, user: &UserId, rate: u32, now: Instant) -> Result<(), Duration> {
        self.take_among(user, rate, now, USERS)
    }

    fn take_among(&self, user: &UserId, rate: u32, now: Instant, most: usize) -> Result<(), Duration> {
        let each = f64::from(rate);
        let mut users = self.users.lock();
        if users.len() >= most && !users.contains_key(user) {
            // Who has had a pause is as one who was never here.
            users.retain(|_, left| Left::now(Some(*left), each, now).count < 2.0 * each);
        }
        if users.len() >= most && !users.contains_key(user) {
            drop(users);
            return self.others.take(rate, now);
        }
        let mut left = Left::now(users.get(user).copied(), each, now);
        let taken = left.take(each);
        users.insert(user.clone(), left);
        taken
    }
}

/// The refusal of what came too fast: how many a second there may be, where that is set, and when the next one may come.
pub(super) fn too_fast(what: &str, key: &str, rate: u32, wait: Duration) -> ErrorBody {
    let text = format!("at most {rate} {what} a second ({key})");
    let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
    ErrorBody::new(ErrorCode::TooFast, text).with_detail(u64::from(rate)).with_retry(Retry::After(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn a_pause_earns_a_burst_and_no_more() {
        let (pace, begin) = (Pace::default(), Instant::now());
        let takes = |at: Duration| (0..).take_while(|_| pace.take(10, begin + at).is_ok()).count();
        assert_eq!(takes(Duration::ZERO), 20);
        assert_eq!(takes(Duration::from_millis(500)), 5);
        let wait = pace.take(10, begin + Duration::from_millis(500)).unwrap_err();
        assert!(wait <= Duration::from_millis(100) && wait > Duration::from_millis(50), "{wait:?}");
        assert_eq!(takes(Duration::from_secs(3600)), 20);
    }

    #[test]
    fn each_user_has_a_pace_of_its_own_and_memory_is_bounded() {
        let (paces, begin) = (Paces::default(), Instant::now());
        let takes = |name: &str, at: u64| {
            let now = begin + Duration::from_millis(at);
            (0..).take_while(|_| paces.take_among(&user(name), 5, now, 2).is_ok()).count()
        };
        assert_eq!((takes("ann", 0), takes("bob", 0), takes("ann", 0)), (10, 10, 0));
        assert_eq!(takes("cid", 0), 10, "there is no room: he shares a pace");
        assert_eq!(takes("dan", 0), 0, "with everybody for whom there is none");
        assert_eq!(takes("ann", 1_000), 5, "known ones keep theirs");
        assert_eq!(takes("dan", 2_500), 10, "bob has had his pause and is forgotten");
        assert_eq!(takes("ann", 2_500), 7);
        assert_eq!(paces.users.lock().len(), 2);
    }
}
