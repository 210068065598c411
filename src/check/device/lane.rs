//! The numbered sends of one device in one session: in order, repeated with the same number until answered.

use std::collections::VecDeque;

use bytes::Bytes;
use rookery_wire::{ErrorBody, ErrorCode, Kind, Retry as Advice};
use tokio::time::Instant;

use super::{Connection, Device, Waiting};
use crate::check::history::{Act, NEVER, Outcome, Retry, Send, SessionIx};

/// Answered sends kept to be repeated later on another node.
const KEPT: usize = 3;

/// A send without a final answer.
#[derive(Debug)]
pub(super) struct Pending {
    client_seq: u64,
    kind: Kind,
    body: Bytes,
    /// Its record in the log.
    send: usize,
    /// Under way on this connection.
    asked: bool,
    attempts: u32,
}

/// Sends of one session.
#[derive(Debug, Default)]
pub(super) struct Lane {
    last: u64,
    pending: VecDeque<Pending>,
    answered: VecDeque<(u64, Kind, Bytes)>,
    /// After a refusal that a retry can mend, nothing is sent before this, nor before all answers are in.
    hold: Option<Instant>,
    /// The numbering is broken; nothing more is sent here.
    dead: bool,
    /// What the group's owner did last: let the guest in.
    pub(super) guest_inside: bool,
}

impl Lane {
    /// What was under way must be asked again.
    pub(super) fn disconnected(&mut self) {
        self.pending.iter_mut().for_each(|pending| pending.asked = false);
        self.hold = None;
    }

    /// The number the next send would get; none when this lane is dead.
    pub(super) fn next(&self) -> Option<u64> {
        (!self.dead).then_some(self.last + 1)
    }

    /// Sends without a final answer.
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }
}

impl Device {
    /// Takes a new send into its lane; [`Device::ask_pending`] puts it on the wire.
    pub(super) fn enqueue(&mut self, session: SessionIx, act: Act, kind: Kind, body: Bytes, hash: u64) {
        let lane = self.lanes.entry(session).or_default();
        lane.last += 1;
        let client_seq = lane.last;
        let (attempts, asked) = (0, false);
        lane.pending.push_back(Pending {
            client_seq,
            kind,
            body,
            send: self.log.sends.len(),
            asked,
            attempts,
        });
        self.log.sends.push(Send {
            device: self.me,
            epoch: self.epoch,
            session,
            client_seq,
            hash,
            lasts_ms: 0,
            act,
            invoke: self.stage.now(),
            done: NEVER,
            outcome: Outcome::Unknown,
        });
        self.stage.begin_send();
        self.stage.note();
    }

    /// Asks whatever is not under way, lane by lane, in the order of the numbers.
    pub(super) fn ask_pending(&mut self, connection: &mut Connection) {
        for (session, lane) in &mut self.lanes {
            if let Some(until) = lane.hold {
                let open = lane.pending.iter().any(|pending| pending.asked);
                if open || Instant::now() < until {
                    continue;
                }
                lane.hold = None;
            }
            for pending in lane.pending.iter_mut().filter(|pending| !pending.asked) {
                let id = connection.link.ask_encoded(pending.kind, &pending.body);
                let mut retry = None;
                if pending.attempts > 0 {
                    retry = Some(self.log.retries.len());
                    self.log.retries.push(Retry {
                        device: self.me,
                        epoch: self.epoch,
                        session: *session,
                        client_seq: pending.client_seq,
                        node: connection.node,
                        at: self.stage.now(),
                        outcome: Outcome::Unknown,
                    });
                }
                pending.asked = true;
                pending.attempts += 1;
                let client_seq = pending.client_seq;
                connection.expects(id, Waiting::Send { session: *session, client_seq, retry });
            }
        }
    }

    /// Repeats sends that were answered before, on this connection.
    pub(super) fn repeat_answered(&mut self, connection: &mut Connection) {
        for (session, lane) in &self.lanes {
            for (client_seq, kind, body) in &lane.answered {
                let id = connection.link.ask_encoded(*kind, body);
                let retry = Some(self.log.retries.len());
                self.log.retries.push(Retry {
                    device: self.me,
                    epoch: self.epoch,
                    session: *session,
                    client_seq: *client_seq,
                    node: connection.node,
                    at: self.stage.now(),
                    outcome: Outcome::Unknown,
                });
                let client_seq = *client_seq;
                connection.expects(id, Waiting::Send { session: *session, client_seq, retry });
            }
        }
    }

    /// A final answer to a number; the first one ends the send, whose place in the log is given.
    pub(super) fn settle(
        &mut self,
        session: SessionIx,
        client_seq: u64,
        retry: Option<usize>,
        outcome: Outcome,
    ) -> Option<usize> {
        if let Some(retry) = retry.and_then(|at| self.log.retries.get_mut(at)) {
            retry.outcome = outcome;
        }
        let lane = self.lanes.get_mut(&session)?;
        let at = lane.pending.iter().position(|pending| pending.client_seq == client_seq)?;
        let pending = lane.pending.remove(at)?;
        let acked = matches!(outcome, Outcome::Acked { .. });
        if acked {
            lane.answered.push_back((client_seq, pending.kind, pending.body));
            if lane.answered.len() > KEPT {
                lane.answered.pop_front();
            }
        }
        let send = self.log.sends.get_mut(pending.send)?;
        self.stage.end_send(acked && send.act == Act::Content);
        send.done = self.stage.now();
        send.outcome = outcome;
        if acked && matches!(send.act, Act::Create(_) | Act::Add(_) | Act::Remove(_)) {
            self.stage.members_changed(send.done);
        }
        if acked && send.lasts_ms > 0 {
            self.stage.lasts_until(send.done + send.lasts_ms * 1000);
        }
        Some(pending.send)
    }

    /// An ERROR to a send: final, or to be asked again in its place.
    pub(super) fn send_refused(
        &mut self,
        session: SessionIx,
        client_seq: u64,
        retry: Option<usize>,
        error: &ErrorBody,
    ) {
        let gap = error.code == ErrorCode::ClientSeqGap;
        let again = match error.retry {
            Advice::After(hint) => Some(u64::from(hint)),
            _ if gap => Some(20),
            _ => None,
        };
        let Some(hint) = again else {
            self.settle(session, client_seq, retry, Outcome::Refused(error.code.number()));
            return;
        };
        let Some(lane) = self.lanes.get_mut(&session) else { return };
        let first = lane.pending.front().map(|pending| pending.client_seq);
        if gap && first.is_some_and(|first| error.detail < first) {
            lane.dead = true;
            let refused = |send: &&Send| send.session == session && send.client_seq == error.detail;
            let before = self.log.sends.iter().rev().find(refused).map(|send| send.outcome);
            // A refusal before the log takes no number; the rest of this lane is then not worth renumbering. But a
            // number that was acknowledged is used.
            if matches!(before, Some(Outcome::Acked { .. })) {
                let name = self.stage.cast.session(session).map(ToString::to_string).unwrap_or_default();
                let text =
                    format!("{name}: #{} was acknowledged and is expected again: {error}", error.detail);
                self.log.faults.push((self.stage.now(), self.me, text));
            }
            self.settle(session, client_seq, retry, Outcome::Refused(error.code.number()));
            return;
        }
        if let Some(pending) = lane.pending.iter_mut().find(|pending| pending.client_seq == client_seq) {
            pending.asked = false;
            let until = Instant::now() + std::time::Duration::from_millis(hint.min(1_000));
            lane.hold = Some(lane.hold.map_or(until, |hold| hold.max(until)));
        }
    }
}
