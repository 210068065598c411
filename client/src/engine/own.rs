//! The numbers of what is done to the user's own things: one act at a time in each series.
//!
//! The device's own series begins where WELCOME says. A service has one more for each user it acts for, and after an act
//! whose outcome nobody waited for the number is not known either: then a number that cannot be is sent first, and the
//! refusal names the right one.

use std::collections::BTreeMap;

use rookery_wire::{ErrorBody, ErrorCode, UserId};

/// Sent when the number is not known; nothing is ever stored under it.
const PROBE: u64 = u64::MAX;

/// One series.
#[derive(Clone, Copy, Debug, Default)]
struct Series {
    /// The last number used, if that is known.
    last: Option<u64>,
    /// The ask under way.
    busy: Option<u64>,
}

/// All series of this client: whose things, none for its own.
#[derive(Debug, Default)]
pub(crate) struct OwnNumbers(BTreeMap<Option<UserId>, Series>);

/// What a refusal means for an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbered {
    /// The number was wrong; the act is sent again under another.
    Again,
    /// It is this act that was refused, or it may be tried again as it is.
    AsItIs,
}

impl OwnNumbers {
    /// WELCOME: the last number under this epoch. `anew`: the epoch is a new one.
    pub(crate) fn welcome(&mut self, last: u64, anew: bool) {
        if anew {
            self.0.values_mut().for_each(|series| series.last = None);
        }
        let own = self.0.entry(None).or_default();
        // One under way keeps its number: it may be the last one.
        if own.busy.is_none() || own.last.is_none() {
            own.last = Some(last);
        }
    }

    /// The number under which an ask is written now; none while another one of its series is under way.
    pub(crate) fn begin(&mut self, of: &Option<UserId>, ask: u64) -> Option<u64> {
        let series = self.0.entry(of.clone()).or_default();
        if *series.busy.get_or_insert(ask) != ask {
            return None;
        }
        Some(series.last.map_or(PROBE, |last| last + 1))
    }

    /// SELF_ACK.
    pub(crate) fn done(&mut self, of: &Option<UserId>, number: u64) {
        let series = self.0.entry(of.clone()).or_default();
        *series = Series { last: Some(number), busy: None };
    }

    /// ERROR.
    pub(crate) fn refused(&mut self, of: &Option<UserId>, body: &ErrorBody) -> Numbered {
        let series = self.0.entry(of.clone()).or_default();
        match (body.code, series.last) {
            (ErrorCode::ClientSeqGap, _) => {
                series.last = Some(body.detail.max(1) - 1);
                Numbered::Again
            }
            // Taken in an earlier life of this device.
            (ErrorCode::ClientSeqReused | ErrorCode::AlreadyTrimmed, Some(_)) => {
                series.last = None;
                Numbered::Again
            }
            (_, Some(last)) if body.takes_client_seq() => {
                series.last = Some(last + 1);
                Numbered::AsItIs
            }
            _ => Numbered::AsItIs,
        }
    }

    /// Nobody waits for the ask any more. `unknown`: it was written and has no answer.
    pub(crate) fn end(&mut self, of: &Option<UserId>, ask: u64, unknown: bool) {
        if let Some(series) = self.0.get_mut(of).filter(|series| series.busy == Some(ask)) {
            series.busy = None;
            if unknown {
                series.last = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: ErrorCode, detail: u64) -> ErrorBody {
        ErrorBody::new(code, "").with_detail(detail)
    }

    #[test]
    fn one_act_at_a_time_keeps_its_number_until_it_is_answered() {
        let mut own = OwnNumbers::default();
        own.welcome(4, true);
        assert_eq!((own.begin(&None, 1), own.begin(&None, 2), own.begin(&None, 1)), (Some(5), None, Some(5)));
        own.welcome(5, false);
        assert_eq!(own.begin(&None, 1), Some(5), "it may have been carried out before the connection went");
        own.done(&None, 5);
        assert_eq!(own.begin(&None, 2), Some(6));
        assert_eq!(own.refused(&None, &refusal(ErrorCode::NotMember, 6)), Numbered::AsItIs);
        own.end(&None, 2, false);
        assert_eq!(own.begin(&None, 3), Some(7));
    }

    #[test]
    fn a_number_that_is_not_known_is_asked_for() {
        let ann: Option<UserId> = Some("ann".parse().unwrap());
        let mut own = OwnNumbers::default();
        own.welcome(0, true);
        assert_eq!(own.begin(&ann, 1), Some(PROBE));
        assert_eq!(own.refused(&ann, &refusal(ErrorCode::ClientSeqGap, 8)), Numbered::Again);
        assert_eq!(own.begin(&ann, 1), Some(8));
        own.end(&ann, 1, true);
        assert_eq!(own.begin(&ann, 2), Some(PROBE), "what became of 8 nobody knows");
        assert_eq!(own.refused(&None, &refusal(ErrorCode::ClientSeqReused, 0)), Numbered::Again);
        assert_eq!(own.begin(&None, 9), Some(PROBE));
    }
}
