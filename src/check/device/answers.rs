//! What comes in: answers to what was asked, and pushes.

use rookery_wire::own::SelfAck;
use rookery_wire::reply::{Ack, GoAway, Joined, Lagged, Left, Message, Page as PageBody, ReadMark};
use rookery_wire::{ErrorBody, ErrorCode, Frame, Kind, RecordKind, Retry as Advice};

use super::list::Kept;
use super::{Connection, Device, End, Waiting, Why};
use crate::check::history::{Act, Outcome, Page, Seen, SessionIx};
use crate::check::link::{LinkFault, body};
use crate::check::print::print_of;

impl Device {
    /// Takes one frame.
    pub(super) fn take(&mut self, connection: &mut Connection, frame: &Frame) -> Result<(), End> {
        let waiting = match frame.request_id {
            0 => None,
            id => connection.waiting.remove(&id).map(|owed| owed.waiting),
        };
        match (Kind::from_number(frame.kind), waiting) {
            (Some(Kind::Ack), Some(Waiting::Send { session, client_seq, retry })) => {
                let ack: Ack = body(frame)?;
                self.acked(connection, session, client_seq, retry, &ack);
            }
            (Some(Kind::Error), Some(waiting)) => return self.refused(waiting, &body(frame)?, connection),
            (Some(Kind::Page), Some(Waiting::Pull { page, why })) => {
                self.page(connection, page, why, &body(frame)?);
            }
            (Some(Kind::DigestReply), Some(Waiting::Digest { session, seq, mine })) => {
                self.digest_told(session, seq, mine, &body(frame)?);
            }
            (Some(Kind::SyncPage), Some(Waiting::Sync { page, list })) => {
                self.sync_page(connection, page, list, body(frame)?);
            }
            (Some(Kind::ReadMark), Some(Waiting::Read(at))) => {
                let mark: ReadMark = body(frame)?;
                if let Some(record) = self.log.marks.get_mut(at) {
                    record.done = self.stage.now();
                    record.answer = Some((mark.seq, mark.count));
                    let (session, invoke) = (record.session, record.invoke);
                    self.saw(connection, session, Seen::Answered(invoke));
                }
            }
            (Some(Kind::SelfAck), Some(Waiting::Bar { number, again })) => {
                let ack: SelfAck = body(frame)?;
                self.own_acked(number, again, &ack);
            }
            (Some(Kind::Pong), Some(Waiting::Ping)) => {}
            (_, None) if frame.request_id == 0 => return self.pushed(connection, frame),
            (kind, _) => {
                let name = kind.map_or("an unknown kind", Kind::name);
                let text = format!("{name} is no answer to request {}", frame.request_id);
                self.log.faults.push((self.stage.now(), self.me, text));
            }
        }
        Ok(())
    }

    fn acked(
        &mut self,
        connection: &Connection,
        session: SessionIx,
        client_seq: u64,
        retry: Option<usize>,
        ack: &Ack,
    ) {
        if ack.client_seq != client_seq || self.stage.cast.session(session) != Some(&ack.session) {
            let text = format!("the ACK of #{client_seq} names #{} of {}", ack.client_seq, ack.session);
            self.log.faults.push((self.stage.now(), self.me, format!("{text} (node {})", connection.node)));
        }
        let outcome = Outcome::Acked { seq: ack.seq, message_id: ack.message_id, count: ack.count };
        let first = self.settle(session, client_seq, retry, outcome);
        match first.and_then(|at| self.log.sends.get(at)).map(|send| &send.act) {
            Some(Act::Content) => self.recent.know(session, ack.seq, true),
            Some(Act::Recall(target)) => self.recent.recalled(session, *target),
            _ => {}
        }
        self.views.entry(session).or_default().got(ack.seq);
    }

    fn refused(
        &mut self,
        waiting: Waiting,
        error: &ErrorBody,
        connection: &mut Connection,
    ) -> Result<(), End> {
        match waiting {
            Waiting::Send { session, client_seq, retry } => {
                self.send_refused(session, client_seq, retry, error);
            }
            Waiting::Pull { page, why: Why::Prove } => self.proof_refused(page.session, error),
            Waiting::Digest { session, .. } => self.proof_refused(session, error),
            Waiting::Pull { page, why: Why::Fill } => {
                if let Some(view) = self.views.get_mut(&page.session) {
                    view.filling = false;
                    view.barred = matches!(error.retry, Advice::Never);
                }
            }
            Waiting::Sync { .. } => {
                connection.syncing = false;
                self.want_sync = true;
                if matches!(error.retry, Advice::Never) {
                    let text = format!("SYNC is refused for good: {error}");
                    self.log.faults.push((self.stage.now(), self.me, text));
                    self.list = Kept::default();
                }
            }
            Waiting::Read(at) => {
                if let Some(mark) = self.log.marks.get_mut(at) {
                    mark.refused = matches!(error.retry, Advice::Never);
                }
            }
            Waiting::Bar { number, again } => self.own_refused(number, again, error),
            Waiting::Pull { .. } | Waiting::Ping => {}
        }
        match error.retry {
            Advice::Reconnect => Err(LinkFault::Refused(error.clone()).into()),
            _ => Ok(()),
        }
    }

    fn page(&mut self, connection: &mut Connection, mut page: Page, why: Why, body: &PageBody) {
        page.done = self.stage.now();
        page.first_seq = body.first_seq;
        page.last_seq = body.last_seq;
        page.records = body.records.iter().map(|record| (record.seq, print_of(record))).collect();
        self.saw(connection, page.session, Seen::Answered(page.invoke));
        for record in &body.records {
            self.keep_for_proof(page.session, record);
        }
        if why == Why::Prove {
            self.proof_page(connection, page.session, body);
        }
        if why == Why::Fill {
            let view = self.views.entry(page.session).or_default();
            view.filling = false;
            // What is before was trimmed, and nobody has it any more.
            view.start_at(page.first_seq);
            let before = view.live;
            body.records.iter().filter(|record| record.seq < before).for_each(|record| view.got(record.seq));
            if page.records.is_empty() && page.first_seq <= page.last_seq {
                view.barred = true; // the judge says what is wrong with an empty page; asking on would not end
            }
        }
        self.log.pages.push(page);
        self.fill(connection);
    }

    fn pushed(&mut self, connection: &mut Connection, frame: &Frame) -> Result<(), End> {
        match Kind::from_number(frame.kind) {
            Some(Kind::Message) => {
                let message: Message = body(frame)?;
                let Some(session) = self.stage.cast.find_session(&message.session) else { return Ok(()) };
                let seq = message.record.seq;
                // What came under a key has no number, and stays as it is.
                if message.record.kind == RecordKind::CONTENT && message.record.client_seq > 0 {
                    let sender = self.stage.cast.find_user(&message.record.sender);
                    self.recent.know(session, seq, sender == Some(self.stage.cast.user_of(self.me)));
                }
                self.keep_for_proof(session, &message.record);
                self.saw(connection, session, Seen::Push(seq, print_of(&message.record)));
                self.views.entry(session).or_default().got(seq);
            }
            Some(Kind::ReadMark) => {
                let mark: ReadMark = body(frame)?;
                if let Some(session) = self.stage.cast.find_session(&mark.session) {
                    self.saw(connection, session, Seen::Mark(mark.seq));
                }
            }
            Some(Kind::Joined) => {
                let joined: Joined = body(frame)?;
                let Some(session) = self.stage.cast.find_session(&joined.session) else { return Ok(()) };
                self.saw(connection, session, Seen::Joined(joined.live_from));
                connection.live.insert(session);
                connection.left.remove(&session);
                self.joined.insert(session);
                let view = self.views.entry(session).or_default();
                view.told = self.stage.now();
                // Where we joined, and so what to pull, only a list says.
                self.want_sync = true;
            }
            Some(Kind::Left) => {
                let left: Left = body(frame)?;
                let Some(session) = self.stage.cast.find_session(&left.session) else { return Ok(()) };
                self.saw(connection, session, Seen::Left);
                self.joined.remove(&session);
                if connection.syncing {
                    connection.left.insert(session);
                }
            }
            Some(Kind::Lagged) => self.lagged(connection, body(frame)?),
            Some(Kind::GoAway) => {
                let away: GoAway = body(frame)?;
                return Err(match away.code {
                    // By itself: there is no other who wants this device.
                    ErrorCode::DeviceReplaced => LinkFault::Closed.into(),
                    _ => End::Told(away.after_ms),
                });
            }
            Some(Kind::Error) => return Err(LinkFault::Refused(body(frame)?).into()),
            // News of what is not judged here: how far the other user of a direct session has read, and whom one blocks.
            Some(Kind::Receipt | Kind::Relation) => {}
            _ => self.log.faults.push((self.stage.now(), self.me, format!("pushed kind {}", frame.kind))),
        }
        Ok(())
    }

    fn lagged(&mut self, connection: &mut Connection, lagged: Lagged) {
        if lagged.sessions.is_empty() {
            self.want_sync = true;
            // What the next list does not name is live from behind what is known of it, whatever was promised before.
            connection.live.clear();
            self.saw(connection, SessionIx(0), Seen::Behind);
        }
        for (session, from) in lagged.sessions {
            let Some(session) = self.stage.cast.find_session(&session) else { continue };
            self.saw(connection, session, Seen::Lagged(from));
            self.views.entry(session).or_default().live_from(from);
        }
        self.fill(connection);
    }
}
