//! Messages of one session that do not stay, and when each of them goes: those that last for a time from when they were
//! stored, those that burn from when the other user has read them, as far as that is heard of here.

use std::collections::BTreeMap;

use rookery_client::Goes;

/// See the module's words. Holds nothing of a message that is not at hand.
#[derive(Debug, Default)]
pub(super) struct Fading {
    /// Until when, unix milliseconds.
    until: BTreeMap<u64, u64>,
    /// To be read by the other user first: own messages, and those of the other.
    waiting: [BTreeMap<u64, Goes>; 2],
}

/// Whose messages: those that begin to go when the other user reads them.
const OWN: usize = 0;
/// Those that begin to go when this user reads them.
const OTHERS: usize = 1;

impl Fading {
    /// A message is at hand; says until when, if that is known.
    pub(super) fn put(&mut self, seq: u64, goes: Goes, time_ms: u64, own: bool) -> Option<u64> {
        self.forget(seq);
        if let Goes::OnceRead(_) = goes {
            self.waiting[if own { OWN } else { OTHERS }].insert(seq, goes);
        }
        let until = goes.until_ms(time_ms, None)?;
        self.until.insert(seq, until);
        Some(until)
    }

    pub(super) fn forget(&mut self, seq: u64) {
        self.until.remove(&seq);
        for waiting in &mut self.waiting {
            waiting.remove(&seq);
        }
    }

    /// This user has read the session up to a seq, or the other one has; what begins to go, and until when it is there.
    pub(super) fn read(&mut self, by_me: bool, upto: u64, now_ms: u64) -> Vec<(u64, u64)> {
        let waiting = &mut self.waiting[if by_me { OTHERS } else { OWN }];
        let later = waiting.split_off(&upto.saturating_add(1));
        let begun = std::mem::replace(waiting, later);
        let begun =
            begun.into_iter().filter_map(|(seq, goes)| Some((seq, goes.until_ms(now_ms, Some(now_ms))?)));
        let begun: Vec<(u64, u64)> = begun.collect();
        self.until.extend(begun.iter().copied());
        begun
    }

    /// Whether own messages wait to be read by the other user.
    pub(super) fn waits_for_other(&self) -> bool {
        !self.waiting[OWN].is_empty()
    }

    /// Those whose time has come.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<u64> {
        let due: Vec<u64> =
            self.until.iter().filter(|(_, until)| **until <= now_ms).map(|(seq, _)| *seq).collect();
        for seq in &due {
            self.until.remove(seq);
        }
        due
    }
}
