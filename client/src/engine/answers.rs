//! Answers: which request each is for, and what it means for it.

use rookery_wire::live::{Presence, PresencePage, SessionPresence};
use rookery_wire::reply::{Ack, GoAway, Joined, Lagged, Left, Message, Page, ReadMark, SyncPage, Welcome};
use rookery_wire::request::Role;
use rookery_wire::{Blob, ErrorBody, ErrorCode, Frame, Kind, Record, RecordKind, Retry, decode};

use crate::command::{Answer, Op};
use crate::engine::inbox::Item;
use crate::engine::link::{Broken, Next, Phase, Purpose, Verdict, decided_at_apply, judge};
use crate::engine::slots::Slot;
use crate::engine::{Engine, Millis};
use crate::error::ClientError;
use crate::event::Event;

/// Pause before a retry when the server names none, for requests that are not numbered.
pub(crate) const PAUSE: Millis = 50;

fn body<T: bincode::Decode<rookery_wire::codec::Source>>(frame: &Frame) -> Result<T, Broken> {
    decode(&frame.body).map_err(|fault| Broken::protocol(format_args!("frame kind {}: {fault}", frame.kind)))
}

impl Engine {
    /// One frame of the server.
    pub(crate) fn frame(&mut self, now: Millis, frame: &Frame) -> Result<(), Broken> {
        self.link.heard(now);
        let Some(kind) = Kind::from_number(frame.kind) else {
            // A newer server may push what this version does not know.
            return Ok(());
        };
        match (self.link.phase, kind) {
            (Phase::Hello, Kind::Welcome) => self.welcome(now, frame),
            (Phase::Hello, Kind::Error) => Err(self.hello_refused(body(frame)?)),
            (_, Kind::GoAway) => Err(go_away(body(frame)?)),
            (Phase::Up, kind) if frame.request_id == 0 => self.pushed(now, kind, frame),
            (Phase::Up, kind) => match self.link.answered(frame.request_id) {
                Some(purpose) => self.answered(now, purpose, kind, frame),
                None => Err(Broken::protocol(format_args!("{} answers nothing", kind.name()))),
            },
            (_, kind) => Err(Broken::protocol(format_args!("{} before WELCOME", kind.name()))),
        }
    }

    fn welcome(&mut self, now: Millis, frame: &Frame) -> Result<(), Broken> {
        let welcome: Welcome = body(frame)?;
        self.link.answered(frame.request_id);
        if *self.cluster.get_or_insert(welcome.cluster) != welcome.cluster {
            let reason =
                "this device has its memory from another cluster; give it another memory file".to_owned();
            return Err(Broken { reason: reason.clone(), next: Next::Fatal(ClientError::Protocol(reason)) });
        }
        self.link.welcome(&welcome);
        self.node = Some(welcome.node);
        self.own.welcome(welcome.last_number, welcome.epoch != self.epoch);
        if welcome.epoch != self.epoch {
            self.new_epoch(welcome.epoch);
        }
        // The driver knows the address.
        self.give(Event::Connected { node: welcome.node, addr: String::new() });
        self.start_sync(now);
        self.watch_again(now);
        self.ask_due(now);
        Ok(())
    }

    /// Counters begin at 1; what was written under the old epoch and has no answer may or may not be stored.
    fn new_epoch(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.changes += 1;
        let mut lost = Vec::new();
        for (_, session) in self.sessions.iter_mut() {
            lost.extend(session.outbox.restart());
        }
        self.flights -= lost.len();
        for flight in lost {
            let reason = "the device was registered anew while this was under way".to_owned();
            flight.answer(Err(ClientError::Closed(reason)));
        }
    }

    fn hello_refused(&mut self, body: ErrorBody) -> Broken {
        match (body.code, judge(&body)) {
            (ErrorCode::BadEpoch, _) => Broken { reason: body.to_string(), next: Next::Register },
            (_, Verdict::Final) => Broken::fatal(body),
            (_, Verdict::Again { after }) => Broken::reconnect(body.to_string(), after),
            (_, Verdict::Elsewhere) => Broken::reconnect(body.to_string(), 0),
        }
    }

    fn pushed(&mut self, now: Millis, kind: Kind, frame: &Frame) -> Result<(), Broken> {
        match kind {
            Kind::Message => {
                self.stats.pushes += 1;
                if !self.deaf {
                    let message: Message = body(frame)?;
                    self.message(now, message);
                }
            }
            Kind::ReadMark => self.give(Event::ReadMark(body(frame)?)),
            Kind::SessionSettings => self.give(Event::Settings(body(frame)?)),
            Kind::Relation => self.give(Event::Relation(body(frame)?)),
            Kind::Receipt => self.give(Event::Receipt(body(frame)?)),
            Kind::EphemeralMessage => self.give(Event::Ephemeral(body(frame)?)),
            Kind::Presence => {
                let presence: Presence = body(frame)?;
                self.give(Event::Presence(presence.users));
            }
            Kind::SessionPresence => self.give(Event::SessionPresence(body(frame)?)),
            Kind::Joined => {
                let joined: Joined = body(frame)?;
                self.joined(now, &joined);
            }
            Kind::Left => {
                let left: Left = body(frame)?;
                self.told_left(&left.session);
            }
            Kind::Lagged => {
                let lagged: Lagged = body(frame)?;
                self.lagged(now, &lagged);
            }
            Kind::Error => {
                // Something without a request id was refused (a DELIVERED), or the server is about to hang up.
                let body: ErrorBody = body(frame)?;
                self.trouble = body.to_string();
            }
            other => return Err(Broken::protocol(format_args!("{} as a push", other.name()))),
        }
        Ok(())
    }

    fn answered(&mut self, now: Millis, purpose: Purpose, kind: Kind, frame: &Frame) -> Result<(), Broken> {
        if kind == Kind::Error {
            return self.refused(now, purpose, body(frame)?);
        }
        match (purpose, kind) {
            (Purpose::Flight { slot, number }, Kind::Ack) => self.ack(now, slot, number, body(frame)?),
            (Purpose::Gap(slot), Kind::Page) => self.gap_page(now, slot, body(frame)?),
            (Purpose::Sync, Kind::SyncPage) => self.sync_answer(now, body(frame)?),
            (Purpose::Ping, Kind::Pong) => Ok(()),
            (Purpose::Cursors, Kind::Ok) => {
                self.delivered_answered(now, None);
                Ok(())
            }
            (Purpose::Watch, Kind::PresencePage) => {
                let page: PresencePage = body(frame)?;
                self.watch_answered(now, &page);
                self.give(Event::Presence(page.users));
                Ok(())
            }
            (Purpose::WatchSession(_), Kind::SessionPresence) => {
                self.give(Event::SessionPresence(body(frame)?));
                Ok(())
            }
            (Purpose::Ask(ask), kind) => {
                let answer = match kind {
                    Kind::SyncPage => Answer::Sync(body::<SyncPage>(frame)?),
                    Kind::Page => Answer::Page(body::<Page>(frame)?),
                    Kind::ReadMark => Answer::ReadMark(body::<ReadMark>(frame)?),
                    Kind::MemberPage => Answer::Members(body(frame)?),
                    Kind::Group => Answer::Group(Box::new(body(frame)?)),
                    Kind::RolePage => Answer::Roles(body(frame)?),
                    Kind::RequestPage => Answer::Requests(body(frame)?),
                    Kind::CodePage => Answer::Codes(body(frame)?),
                    Kind::VersionsPage => Answer::Versions(body(frame)?),
                    Kind::SelfAck => Answer::Own(body(frame)?),
                    Kind::RelationPage => Answer::Relations(body(frame)?),
                    Kind::DevicePage => Answer::Devices(body(frame)?),
                    Kind::AdminReply => Answer::Admin(Box::new(body(frame)?)),
                    Kind::AuditPage => Answer::Audit(body(frame)?),
                    Kind::ReceiptPage => Answer::Receipts(body(frame)?),
                    Kind::PresencePage => Answer::Presence(body(frame)?),
                    Kind::SessionPresence => Answer::SessionPresence(body::<SessionPresence>(frame)?),
                    Kind::DigestReply => Answer::Digest(body(frame)?),
                    Kind::Ok => Answer::Done,
                    Kind::Pong => Answer::Pong,
                    other => return Err(Broken::protocol(format_args!("{} as an answer", other.name()))),
                };
                self.ask_answered(now, ask, Ok(answer));
                Ok(())
            }
            (purpose, kind) => Err(Broken::protocol(format_args!("{} for {purpose:?}", kind.name()))),
        }
    }

    fn ack(&mut self, now: Millis, slot: Slot, number: u64, ack: Ack) -> Result<(), Broken> {
        let session = &mut self.sessions[slot];
        if ack.session != session.id || ack.client_seq != number {
            return Err(Broken::protocol(format_args!(
                "an ACK for {} {} of {}",
                ack.session, number, session.id
            )));
        }
        let Some(flight) = session.outbox.consumed(number) else { return Ok(()) };
        self.flights -= 1;
        self.changes += 1;
        let ours = session.inbox.tracked || self.settings.role == Role::User && !flight.op.is_of_outsiders();
        if !self.deaf && ours {
            match self.own(&flight.op, &ack) {
                Some(item) => self.arrive(now, slot, ack.seq, item),
                None => {
                    self.sessions[slot].inbox.exists(ack.seq);
                    self.check_gap(now, slot, true);
                }
            }
        }
        flight.answer(Ok(ack));
        Ok(())
    }

    /// An own message as everyone else sees it. A signal is pulled instead: its body is the cluster's.
    fn own(&self, op: &Op, ack: &Ack) -> Option<Item> {
        if !self.settings.echo_own {
            return Some(Item::Silent);
        }
        let Op::Send { content_type, content, extensions, on_behalf_of } = op else { return None };
        Some(Item::Record(Box::new(Record {
            seq: ack.seq,
            message_id: ack.message_id,
            time_ms: ack.time_ms,
            count: ack.count,
            sender: on_behalf_of.as_ref().unwrap_or(&self.settings.user).clone(),
            device: self.settings.device.clone(),
            epoch: self.epoch,
            client_seq: ack.client_seq,
            kind: RecordKind::CONTENT,
            content_type: Blob(content_type.clone()),
            content: Blob(content.clone()),
            extensions: extensions.clone(),
        })))
    }

    fn refused(&mut self, now: Millis, purpose: Purpose, body: ErrorBody) -> Result<(), Broken> {
        let verdict = judge(&body);
        if verdict != Verdict::Final {
            self.trouble = body.to_string();
        }
        match purpose {
            Purpose::Flight { slot, number } => self.flight_refused(now, slot, number, verdict, &body),
            Purpose::Ask(ask) => self.ask_refused(now, ask, verdict, &body),
            Purpose::Gap(slot) => self.gap_refused(now, slot, verdict, &body),
            Purpose::Sync => self.sync_refused(now, verdict, &body)?,
            Purpose::Watch => self.watch_refused(now, verdict, &body),
            Purpose::WatchSession(session) => self.watch_session_refused(now, session, verdict),
            Purpose::Cursors => self.delivered_answered(now, Some(verdict)),
            Purpose::Ping | Purpose::Hello => {}
        }
        if verdict == Verdict::Elsewhere {
            let after = if let Retry::After(after) = body.retry { after.into() } else { 0 };
            return Err(Broken::reconnect(body.to_string(), after));
        }
        Ok(())
    }

    fn flight_refused(&mut self, now: Millis, slot: Slot, number: u64, verdict: Verdict, body: &ErrorBody) {
        let hold = self.link.hold();
        let outbox = &mut self.sessions[slot].outbox;
        if body.code == ErrorCode::ClientSeqGap {
            outbox.gap(number, body.detail.max(1), now);
            self.writable.push(slot);
            return;
        }
        if matches!(body.code, ErrorCode::Unavailable | ErrorCode::ShuttingDown) {
            outbox.doubt(number, now + hold);
        }
        let verdict = match (body.code, body.retry) {
            // Refused at the door, before it was anything; unlike what is worth nothing later, it has its number and waits.
            (ErrorCode::TooFast, Retry::After(after)) => Verdict::Again { after: after.into() },
            _ => verdict,
        };
        let flight = match verdict {
            Verdict::Again { after } => {
                let pause = if after == 0 { PAUSE.max(outbox.pause(number)) } else { after };
                outbox.retry(number, now + pause);
                None
            }
            Verdict::Elsewhere => {
                outbox.retry(number, now);
                None
            }
            Verdict::Final if body.takes_client_seq() => outbox.consumed(number),
            Verdict::Final if !body.code.is_known() => outbox.perhaps_consumed(number),
            // Decided by what the session is now, and kept nowhere: a copy that comes later may be taken. Once none is left
            // the answer counts.
            Verdict::Final if decided_at_apply(body.code) && outbox.ghost_until(number) > now => {
                let until = outbox.ghost_until(number);
                outbox.retry(number, until);
                None
            }
            Verdict::Final => outbox.unused(number),
        };
        if let Some(flight) = flight {
            self.flights -= 1;
            self.changes += 1;
            flight.answer(Err(ClientError::Refused(body.clone())));
        }
        self.writable.push(slot);
    }
}

fn go_away(away: GoAway) -> Broken {
    let text = String::from_utf8_lossy(away.text.as_ref()).into_owned();
    match away.code {
        // The other connection is as good as this one: fighting over the device would never end. Who was ended is not to
        // come back by itself.
        ErrorCode::DeviceReplaced | ErrorCode::DeviceEnded => Broken::fatal(ErrorBody::new(away.code, text)),
        code => {
            Broken::reconnect(format!("the node ended the connection: {code} {text}"), away.after_ms.into())
        }
    }
}
