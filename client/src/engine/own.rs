//! The numbers of what is done to the user's own things: one act at a time.
//!
//! The device's series begins where WELCOME says. After an act whose outcome nobody waited for the number is not known: then
//! a number that cannot be is sent first, and the refusal names the right one.

use rookery_wire::{ErrorBody, ErrorCode, Retry};

/// Sent when the number is not known; nothing is ever stored under it.
const PROBE: u64 = u64::MAX;

/// The series of this device.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnNumbers {
    /// The last number used, if that is known.
    last: Option<u64>,
    /// The ask under way.
    busy: Option<u64>,
}

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
            self.last = None;
        }
        // One under way keeps its number: it may be the last one.
        if self.busy.is_none() || self.last.is_none() {
            self.last = Some(last);
        }
    }

    /// The number under which an ask is written now; none while another one is under way.
    pub(crate) fn begin(&mut self, ask: u64) -> Option<u64> {
        if *self.busy.get_or_insert(ask) != ask {
            return None;
        }
        Some(self.last.map_or(PROBE, |last| last.saturating_add(1)))
    }

    /// SELF_ACK.
    pub(crate) fn done(&mut self, number: u64) {
        *self = Self { last: Some(number), busy: None };
    }

    /// ERROR.
    pub(crate) fn refused(&mut self, body: &ErrorBody) -> Numbered {
        match (body.code, self.last) {
            (ErrorCode::ClientSeqGap, _) => {
                self.last = Some(body.detail.max(1) - 1);
                Numbered::Again
            }
            // Taken in an earlier life of this device.
            (ErrorCode::ClientSeqReused | ErrorCode::AlreadyTrimmed, Some(_)) => {
                self.last = None;
                Numbered::Again
            }
            (_, Some(last)) if body.takes_client_seq() => {
                self.last = Some(last.saturating_add(1));
                Numbered::AsItIs
            }
            // Of a newer server: whether it took the number is asked before the next act.
            (code, _) if !code.is_known() && body.retry == Retry::Never => {
                self.last = None;
                Numbered::AsItIs
            }
            _ => Numbered::AsItIs,
        }
    }

    /// Nobody waits for the ask any more. `unknown`: it was written and has no answer.
    pub(crate) fn end(&mut self, ask: u64, unknown: bool) {
        if self.busy == Some(ask) {
            self.busy = None;
            if unknown {
                self.last = None;
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
        assert_eq!((own.begin(1), own.begin(2), own.begin(1)), (Some(5), None, Some(5)));
        own.welcome(5, false);
        assert_eq!(own.begin(1), Some(5), "it may have been carried out before the connection went");
        own.done(5);
        assert_eq!(own.begin(2), Some(6));
        assert_eq!(own.refused(&refusal(ErrorCode::NotMember, 6)), Numbered::AsItIs);
        own.end(2, false);
        assert_eq!(own.begin(3), Some(7));
        assert_eq!(own.refused(&refusal(ErrorCode::Unknown(499), 0)), Numbered::AsItIs);
        own.end(3, false);
        assert_eq!(own.begin(4), Some(PROBE), "a newer server may have kept the refusal under 7");
    }

    #[test]
    fn a_number_that_is_not_known_is_asked_for() {
        let mut own = OwnNumbers::default();
        own.welcome(7, true);
        assert_eq!(own.begin(1), Some(8));
        own.end(1, true);
        assert_eq!(own.begin(1), Some(PROBE));
        assert_eq!(own.refused(&refusal(ErrorCode::ClientSeqGap, 8)), Numbered::Again);
        assert_eq!(own.begin(1), Some(8));
        own.end(1, true);
        assert_eq!(own.begin(2), Some(PROBE), "what became of 8 nobody knows");
        own.welcome(8, false);
        assert_eq!(own.begin(2), Some(9));
        assert_eq!(own.refused(&refusal(ErrorCode::ClientSeqReused, 0)), Numbered::Again);
        assert_eq!(own.begin(2), Some(PROBE));
    }
}
