//! The numbers under which a device changes what is a user's own, and what came of the last of them (R11).
//!
//! A user's device numbers within the user; a service that acts for a named user has a series of its own there. A device's
//! series goes with its registration. Of services the one that was used least recently goes when there are too many.

use bincode::{Decode, Encode};
use rookery_wire::own::{ANSWERS_KEPT, SelfAck};
use rookery_wire::{ErrorBody, ErrorCode};

use super::key::SenderKey;
use super::outcome::Answer;
use super::user::User;

/// Series of services that one user keeps. Part of what apply decides.
pub const MAX_FOREIGN: usize = 64;

/// What came of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Kept {
    /// Tells a retry from another act under the same number.
    pub fingerprint: u64,
    /// Time and value of its answer, or why it was refused.
    pub fate: Result<(u64, u64), ErrorCode>,
}

/// One device's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Series {
    /// The last one used.
    pub last: u64,
    /// The last answers, the newest at the end.
    pub kept: Vec<Kept>,
    /// When it was last used, unix milliseconds.
    pub used_ms: u64,
}

impl Kept {
    /// The answer again.
    pub fn answer(&self, number: u64) -> Answer {
        match self.fate {
            Ok((time_ms, value)) => Answer::Own(SelfAck { number, time_ms, value }),
            Err(code) => Answer::Refused(taking(ErrorBody::new(code, code.remedy()), number)),
        }
    }
}

/// Refusals that do not always take the number say in `detail` that they did.
pub(super) fn taking(refusal: ErrorBody, number: u64) -> ErrorBody {
    if refusal.code == ErrorCode::NotMember { refusal.with_detail(number) } else { refusal }
}

impl Series {
    /// Whether the number is the next one; else the answer to it.
    fn judge(&self, number: u64, fingerprint: u64) -> Option<Answer> {
        if number == self.last + 1 {
            return None;
        }
        let refuse = |code, text: String, detail| {
            Some(Answer::Refused(ErrorBody::new(code, text).with_detail(detail)))
        };
        if number > self.last {
            let text = format!("number {number} skips numbers, expected {}", self.last + 1);
            return refuse(ErrorCode::ClientSeqGap, text, self.last + 1);
        }
        let back = usize::try_from(self.last - number).unwrap_or(usize::MAX);
        let kept = self.kept.len().checked_sub(back.saturating_add(1)).and_then(|at| self.kept.get(at));
        match kept {
            None => refuse(ErrorCode::AlreadyTrimmed, format!("number {number} was used long ago"), 0),
            Some(kept) if kept.fingerprint != fingerprint => {
                let text = format!("number {number} was used with other content");
                refuse(ErrorCode::ClientSeqReused, text, 0)
            }
            Some(kept) => Some(kept.answer(number)),
        }
    }
}

impl User {
    /// The last number of a series, 0 if there is none.
    pub fn last_own_number(&self, key: &SenderKey) -> u64 {
        self.series.get(key).map_or(0, |series| series.last)
    }

    /// Whether the number is the next one of its series; else the answer to it.
    pub(super) fn judge_number(&self, key: &SenderKey, number: u64, fingerprint: u64) -> Option<Answer> {
        let fresh = Series::default();
        self.series.get(key).unwrap_or(&fresh).judge(number, fingerprint)
    }

    /// Takes the next number of a series.
    pub(super) fn consume_own(&mut self, key: SenderKey, kept: Kept, time_ms: u64) {
        let foreign = key.user != self.id;
        if foreign && !self.series.contains_key(&key) {
            self.make_room_for_service();
        }
        let series = self.series.entry(key.clone()).or_default();
        series.last += 1;
        series.used_ms = series.used_ms.max(time_ms);
        series.kept.push(kept);
        if series.kept.len() > ANSWERS_KEPT {
            series.kept.remove(0);
        }
        self.dirty.series.insert(key);
    }

    fn make_room_for_service(&mut self) {
        let foreign = || self.series.iter().filter(|(key, _)| key.user != self.id);
        if foreign().count() < MAX_FOREIGN {
            return;
        }
        let least = foreign().min_by_key(|(key, series)| (series.used_ms, (*key).clone()));
        if let Some(key) = least.map(|(key, _)| key.clone()) {
            self.series.remove(&key);
            self.dirty.series.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_next_known_forgotten_or_a_gap() {
        let mut series = Series::default();
        for number in 1..=20u64 {
            assert_eq!(series.judge(number, number), None);
            series.last = number;
            series.kept.push(Kept { fingerprint: number, fate: Ok((7, number)) });
            if series.kept.len() > ANSWERS_KEPT {
                series.kept.remove(0);
            }
        }
        let code = |answer| match answer {
            Some(Answer::Refused(error)) => (error.code, error.detail),
            other => panic!("{other:?}"),
        };
        let again = |number| Some(Answer::Own(SelfAck { number, time_ms: 7, value: number }));
        assert_eq!(series.judge(20, 20), again(20));
        assert_eq!(series.judge(5, 5), again(5), "the last sixteen are kept");
        assert_eq!(code(series.judge(4, 4)), (ErrorCode::AlreadyTrimmed, 0));
        assert_eq!(code(series.judge(20, 9)), (ErrorCode::ClientSeqReused, 0));
        assert_eq!(code(series.judge(22, 22)), (ErrorCode::ClientSeqGap, 21));
        assert_eq!(code(series.judge(0, 0)), (ErrorCode::AlreadyTrimmed, 0));
    }
}
