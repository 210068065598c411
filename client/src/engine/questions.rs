//! Questions of the application: reads, read marks, what is asked under a key, pings. Asking twice does no harm, so they are
//! simply asked again.

use rookery_wire::own::ManageSelf;
use rookery_wire::{ErrorBody, Kind, encode_frame};
use tokio::sync::OwnedSemaphorePermit;

use crate::command::{Answer, Question, Reply};
use crate::engine::answers::PAUSE;
use crate::engine::link::{Phase, Purpose, Verdict};
use crate::engine::own::Numbered;
use crate::engine::{Engine, Millis};
use crate::error::ClientError;

/// A question under way.
#[derive(Debug)]
pub(crate) struct Ask {
    question: Question,
    reply: Reply<Answer>,
    _permit: OwnedSemaphorePermit,
    deadline: Millis,
    /// When to write it; `None` while it is written and unanswered.
    due: Option<Millis>,
    written: bool,
}

impl Ask {
    pub(crate) fn cut(&mut self) {
        self.due = Some(0);
    }

    /// Written, and not to be written again: who is there later is somebody else.
    pub(crate) fn has_passed(&self) -> bool {
        self.written && matches!(self.question, Question::Ephemeral(_))
    }

    pub(crate) fn answer(self, answer: Result<Answer, ClientError>) {
        // The application may have stopped waiting; that is its right.
        let _ = self.reply.send(answer);
    }
}

impl Engine {
    /// Takes a question.
    pub(crate) fn ask(
        &mut self,
        now: Millis,
        question: Question,
        reply: Reply<Answer>,
        permit: OwnedSemaphorePermit,
    ) {
        if let Question::WatchSession(watch) = &question {
            self.watched.asked_session(watch);
        }
        let deadline = now + self.settings.request_deadline;
        let ask = Ask { question, reply, _permit: permit, deadline, due: Some(0), written: false };
        self.asks.insert(self.next_ask, ask);
        self.next_ask += 1;
        self.ask_due(now);
    }

    /// Writes the questions whose time has come.
    pub(crate) fn ask_due(&mut self, now: Millis) {
        if self.link.phase != Phase::Up {
            return;
        }
        for (&number, ask) in &mut self.asks {
            if ask.due.is_none_or(|due| due > now) {
                continue;
            }
            let own = match &ask.question {
                Question::Own(_) => match self.own.begin(number) {
                    Some(own) => own,
                    // One at a time.
                    None => continue,
                },
                Question::Watch(_) if !self.watched.begin(number) => continue,
                _ => 0,
            };
            ask.due = None;
            if std::mem::replace(&mut ask.written, true) {
                self.stats.retries += 1;
            }
            let id = self.link.request(Purpose::Ask(number), now);
            match &ask.question {
                Question::Sync(sync) => encode_frame(Kind::Sync, id, sync, &mut self.out),
                Question::Pull(pull) => encode_frame(Kind::Pull, id, pull, &mut self.out),
                Question::Read(read) => encode_frame(Kind::Read, id, read, &mut self.out),
                Question::Members(list) => encode_frame(Kind::ListMembers, id, list, &mut self.out),
                Question::Group(info) => encode_frame(Kind::GroupInfo, id, info, &mut self.out),
                Question::Roles(list) => encode_frame(Kind::ListRoles, id, list, &mut self.out),
                Question::Requests(list) => encode_frame(Kind::ListRequests, id, list, &mut self.out),
                Question::Codes(list) => encode_frame(Kind::ListCodes, id, list, &mut self.out),
                Question::Versions(list) => encode_frame(Kind::ListVersions, id, list, &mut self.out),
                Question::Own(action) => {
                    let act = ManageSelf { number: own, on_behalf_of: None, action: action.clone() };
                    encode_frame(Kind::ManageSelf, id, &act, &mut self.out);
                }
                Question::Relations(list) => encode_frame(Kind::ListRelations, id, list, &mut self.out),
                Question::Devices(list) => encode_frame(Kind::ListDevices, id, list, &mut self.out),
                Question::Receipts(ask) => encode_frame(Kind::Receipts, id, ask, &mut self.out),
                Question::Ephemeral(what) => encode_frame(Kind::Ephemeral, id, what, &mut self.out),
                Question::Watch(watch) => encode_frame(Kind::Watch, id, watch, &mut self.out),
                Question::WatchSession(watch) => encode_frame(Kind::WatchSession, id, watch, &mut self.out),
                Question::Digest(ask) => encode_frame(Kind::Digest, id, ask, &mut self.out),
                Question::Admin(ask) => encode_frame(Kind::Admin, id, ask, &mut self.out),
                Question::Audit(ask) => encode_frame(Kind::Audit, id, ask, &mut self.out),
                Question::Ping => encode_frame(Kind::Ping, id, &(), &mut self.out),
            }
        }
    }

    /// The connection is gone: what has no answer is asked again, but for what is of use now or never.
    pub(crate) fn cut_asks(&mut self, reason: &str) {
        self.asks.values_mut().for_each(Ask::cut);
        let passed: Vec<u64> =
            self.asks.iter().filter(|(_, ask)| ask.has_passed()).map(|(&number, _)| number).collect();
        for number in passed {
            let lost = format!("the connection was lost before the answer: {reason}");
            self.ask_answered(0, number, Err(ClientError::Closed(lost)));
        }
    }

    /// The answer is there; one that was given up already is ignored.
    pub(crate) fn ask_answered(&mut self, now: Millis, number: u64, answer: Result<Answer, ClientError>) {
        let Some(ask) = self.asks.remove(&number) else {
            if let Ok(Answer::Presence(_)) = &answer {
                // Too late for who asked: it was told that it did not come to be.
                self.watched.assert_at(now);
            }
            return;
        };
        if let Question::Watch(watch) = &ask.question {
            self.watched.end(number);
            if let Ok(Answer::Presence(page)) = &answer {
                self.watched.granted(now, watch, page);
            }
        }
        if let Question::Own(_) = &ask.question {
            if let Ok(Answer::Own(ack)) = &answer {
                self.own.done(ack.number);
            }
            self.own.end(number, false);
        }
        ask.answer(answer);
    }

    /// ERROR for a question.
    pub(crate) fn ask_refused(&mut self, now: Millis, number: u64, verdict: Verdict, body: &ErrorBody) {
        if let Some(ask) = self.asks.get_mut(&number)
            && let Question::Own(_) = &ask.question
            && self.own.refused(body) == Numbered::Again
        {
            ask.due = Some(now);
            return self.ask_due(now);
        }
        if let Some(Question::WatchSession(watch)) = self.asks.get(&number).map(|ask| &ask.question)
            && verdict == Verdict::Final
        {
            self.watched.may_not(watch.session.hash64());
        }
        let passing = self.asks.get(&number).is_some_and(Ask::has_passed);
        if verdict == Verdict::Final || passing {
            return self.ask_answered(now, number, Err(ClientError::Refused(body.clone())));
        }
        if let Some(ask) = self.asks.get_mut(&number) {
            let pause = if let Verdict::Again { after } = verdict { after.max(PAUSE) } else { 0 };
            ask.due = Some(now + pause);
        }
    }

    /// Gives up the questions whose time is up.
    pub(crate) fn expire_asks(&mut self, now: Millis) {
        let late: Vec<u64> =
            self.asks.iter().filter(|(_, ask)| ask.deadline <= now).map(|(&number, _)| number).collect();
        for number in late {
            let Some(ask) = self.asks.remove(&number) else { continue };
            if let Question::Own(_) = &ask.question {
                self.own.end(number, ask.written);
            }
            if let Question::Watch(_) = &ask.question {
                self.watched.end(number);
                if ask.written {
                    // It may have come to be, and who asked is told that it did not.
                    self.watched.assert_at(now);
                }
            }
            let (what, written, last) = (ask.question.name(), ask.written, self.trouble.clone());
            ask.answer(Err(ClientError::Deadline { what, written, last }));
        }
    }
}
