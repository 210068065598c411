//! What goes on at a node beside its loud sessions: whether anybody waits for the cores that one of them would take.
//!
//! Every replica applies every entry of its shard, so each node learns by itself, without a message, of all that is busy
//! where it has a replica, whoever leads it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::state::Command;

/// An entry with so many commands is one of a shard in which a session is loud.
pub(super) const LOUD: usize = 32;
/// For so long after such an entry what its shard does is no sign of others.
const MEMORY: Duration = Duration::from_secs(1);
/// Commands a second, of shards where nobody is loud, that are others worth yielding to.
const OTHERS: u64 = 20;

/// Shared by the shards of a node.
#[derive(Debug, Default)]
pub struct Traffic {
    quiet: Mutex<Option<Window>>,
}

/// Not what the cluster does by itself, nor what only tells how far somebody has read.
fn is_awaited(command: &Command) -> bool {
    matches!(
        command,
        Command::Act { .. }
            | Command::KeyedAct { .. }
            | Command::UserAct { .. }
            | Command::KeyedOwn { .. }
            | Command::Register { .. }
    )
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    commands: u64,
    /// Of the window before it.
    before: u64,
}

impl Traffic {
    /// Counts those of the commands of a shard where nobody is loud for which a device or a backend waits.
    pub(super) fn quiet(&self, commands: &[Command], now: Instant) {
        let awaited = commands.iter().filter(|command| is_awaited(command)).count();
        self.count(awaited as u64, now);
    }

    fn count(&self, commands: u64, now: Instant) {
        let mut quiet = self.quiet.lock();
        let mut window = Window::at(*quiet, now);
        window.commands += commands;
        *quiet = Some(window);
    }

    /// Whether others than loud sessions are served here, by the last one to two seconds.
    pub(super) fn others(&self, now: Instant) -> bool {
        let window = Window::at(*self.quiet.lock(), now);
        window.commands.max(window.before) >= OTHERS
    }
}

impl Window {
    const LENGTH: Duration = Duration::from_secs(1);

    /// The window of `now`.
    fn at(last: Option<Self>, now: Instant) -> Self {
        match last {
            Some(window) if now < window.began + Self::LENGTH => window,
            Some(window) if now < window.began + Self::LENGTH * 2 => {
                Self { began: window.began + Self::LENGTH, commands: 0, before: window.commands }
            }
            _ => Self { began: now, commands: 0, before: 0 },
        }
    }
}

/// Whether somebody is loud in one shard, by what was applied.
#[derive(Debug, Default)]
pub(super) struct Loudness(Option<Instant>);

impl Loudness {
    /// Takes note of an applied entry; says whether its commands are those of quiet sessions.
    pub(super) fn is_quiet(&mut self, commands: usize, now: Instant) -> bool {
        if commands >= LOUD {
            self.0 = Some(now);
        }
        self.0.is_none_or(|at| now.saturating_duration_since(at) >= MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_those_of_the_last_seconds() {
        let traffic = Traffic::default();
        let start = Instant::now();
        assert!(!traffic.others(start));
        traffic.count(OTHERS - 1, start);
        assert!(!traffic.others(start), "too few");
        traffic.count(1, start);
        assert!(traffic.others(start));
        assert!(traffic.others(start + Duration::from_millis(1500)), "the window before counts");
        assert!(!traffic.others(start + Duration::from_millis(2500)), "nobody since");
        traffic.count(1, start + Duration::from_millis(1500));
        assert!(traffic.others(start + Duration::from_millis(1900)));
        assert!(!traffic.others(start + Duration::from_millis(2000)), "one in the window before");
    }

    #[test]
    fn a_shard_is_loud_for_a_second_after_a_large_entry() {
        let mut loudness = Loudness::default();
        let start = Instant::now();
        assert!(loudness.is_quiet(LOUD - 1, start));
        assert!(!loudness.is_quiet(LOUD, start));
        assert!(!loudness.is_quiet(1, start + Duration::from_millis(999)));
        assert!(loudness.is_quiet(1, start + Duration::from_secs(1)));
    }
}
