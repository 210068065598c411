//! Sends: from the call into the session's outbox, from there into bytes.

use rookery_wire::group::ManageGroup;
use rookery_wire::join::JoinGroup;
use rookery_wire::reply::Ack;
use rookery_wire::request::{Edit, Members, Recall, Send};
use rookery_wire::{Blob, SessionId, encode_frame};
use tokio::sync::OwnedSemaphorePermit;

use crate::command::{Op, Reply};
use crate::engine::link::Purpose;
use crate::engine::slots::{Session, Slot};
use crate::engine::{Engine, Millis};

/// Bytes waiting to be written beyond which no more requests are encoded: they wait as flights instead.
const OUT_HIGH: usize = 256 << 10;

impl Engine {
    /// Takes a numbered request.
    pub(crate) fn submit(
        &mut self,
        now: Millis,
        session: &SessionId,
        op: Op,
        reply: Reply<Ack>,
        permit: OwnedSemaphorePermit,
    ) {
        let slot = self.sessions.slot(session);
        let deadline = now + self.settings.request_deadline;
        self.sessions[slot].outbox.push(op, reply, permit, deadline);
        self.flights += 1;
        self.writable.push(slot);
    }

    /// Encodes what may be written now: flights in the order of their numbers, then pulls.
    pub(crate) fn pump(&mut self, now: Millis) {
        while self.link.has_room() && self.out.len() < OUT_HIGH {
            let Some(slot) = self.writable.pop() else { break };
            while self.link.has_room() && self.out.len() < OUT_HIGH && self.write_flight(slot, now) {}
            if !self.sessions[slot].outbox.waits() {
                continue;
            }
            if self.link.has_room() && self.out.len() < OUT_HIGH {
                self.delayed.push(slot);
            } else {
                self.writable.push(slot);
            }
        }
        self.pump_gaps(now);
    }

    fn write_flight(&mut self, slot: Slot, now: Millis) -> bool {
        let Session { id: session, outbox, .. } = &mut self.sessions[slot];
        let Some(flight) = outbox.next_to_write(now) else { return false };
        let number = flight.number;
        let id = self.link.request(Purpose::Flight { slot, number }, now);
        match &flight.op {
            Op::Send { content_type, content, extensions, on_behalf_of } => {
                let send = Send {
                    session: session.clone(),
                    client_seq: number,
                    on_behalf_of: on_behalf_of.clone(),
                    content_type: Blob(content_type.clone()),
                    content: Blob(content.clone()),
                    extensions: extensions.clone(),
                };
                encode_frame(flight.op.kind(), id, &send, &mut self.out);
            }
            Op::Members { kind, users } => {
                let members = Members {
                    session: session.clone(),
                    client_seq: number,
                    on_behalf_of: None,
                    users: users.clone(),
                };
                encode_frame(*kind, id, &members, &mut self.out);
            }
            Op::Recall { seq } => {
                let (session, client_seq) = (session.clone(), number);
                let recall = Recall { session, client_seq, on_behalf_of: None, seq: *seq };
                encode_frame(flight.op.kind(), id, &recall, &mut self.out);
            }
            Op::Edit { seq, content_type, content, extensions } => {
                let edit = Edit {
                    session: session.clone(),
                    client_seq: number,
                    on_behalf_of: None,
                    seq: *seq,
                    content_type: Blob(content_type.clone()),
                    content: Blob(content.clone()),
                    extensions: extensions.clone(),
                };
                encode_frame(flight.op.kind(), id, &edit, &mut self.out);
            }
            Op::Join { code, text } => {
                let join = JoinGroup {
                    session: session.clone(),
                    client_seq: number,
                    on_behalf_of: None,
                    code: code.clone(),
                    text: text.clone(),
                };
                encode_frame(flight.op.kind(), id, &join, &mut self.out);
            }
            Op::Manage(action) => {
                let manage = ManageGroup {
                    session: session.clone(),
                    client_seq: number,
                    on_behalf_of: None,
                    action: action.clone(),
                };
                encode_frame(flight.op.kind(), id, &manage, &mut self.out);
            }
        }
        if outbox.wrote(number) {
            self.stats.retries += 1;
        }
        true
    }
}
