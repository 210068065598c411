//! One sender. In a closed loop it has a fixed number of messages in flight, each timed from its first byte out to its ACK
//! in; in an open one each message has a time at which it is due, and is timed from then on, however late it went out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use rookery_wire::reply::Ack;
use rookery_wire::request::Send;
use rookery_wire::{Blob, ErrorBody, ErrorCode, Frame, Kind, Retry, SessionId};
use tokio::time::{Instant, sleep};

use super::content::Contents;
use super::hear::{Ear, STAMP};
use super::pace::{Schedule, Timer};
use super::phases::Recorder;
use super::slices::Slices;
use crate::check::link::{Link, body};

/// A sender without any answer for so long ends the bench.
const SILENCE: Duration = Duration::from_secs(20);

/// How long a sender goes on after the span with what was due in it, at most, and no longer than the span itself was; what is
/// left then was not sent at all.
const DRAIN: Duration = Duration::from_secs(15);

/// Into so many parts messages that were not sent are gathered, to be counted.
const LOST_AT_ONCE: u64 = 1_000;

/// When to measure and when to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// Stop after so many acknowledged messages, whatever the time.
    pub(super) most: u64,
}

impl Span {
    fn holds(&self, when: Instant) -> bool {
        when >= self.from && when < self.to
    }

    fn drained(&self) -> Instant {
        self.to + self.to.saturating_duration_since(self.from).min(DRAIN)
    }
}

/// One session of a sender.
#[derive(Debug)]
pub(super) struct Spoken {
    pub(super) session: SessionId,
    /// Acknowledged in it, warm-up included.
    pub(super) acked: u64,
    /// Highest seq acknowledged in it.
    pub(super) last_seq: u64,
}

/// What one sender did.
#[derive(Debug)]
pub(super) struct Sent {
    /// Its sessions, which take turns.
    pub(super) spoken: Vec<Spoken>,
    /// Acknowledged in all, warm-up included.
    pub(super) acked: u64,
    /// Acknowledged in the span measured.
    pub(super) acked_in_span: u64,
    /// Latencies in µs: of the messages acknowledged in the span, in an open loop of those due in it.
    pub(super) latency: Histogram<u64>,
    /// The same over time.
    pub(super) slices: Slices,
    /// How late messages went out, µs; empty in a closed loop.
    pub(super) late: Histogram<u64>,
    /// Messages due before its end that were never sent; their latency is what they had waited when they were given up.
    pub(super) unsent: u64,
    /// Refusals that a retry mended.
    pub(super) busy: u64,
    /// Latencies by phase, where the run has any.
    phases: Option<Recorder>,
    /// Moves with what is acknowledged, where somebody waits for a number of messages.
    told: Option<ProgressBar>,
}

/// Every so many acknowledged messages the bar moves.
const TOLD_EVERY: u64 = 64;

impl Sent {
    pub(super) fn new(sessions: Vec<SessionId>) -> anyhow::Result<Self> {
        let spoken = sessions.into_iter().map(|session| Spoken { session, acked: 0, last_seq: 0 }).collect();
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let late = latency.clone();
        let slices = Slices::new()?;
        Ok(Self {
            spoken,
            acked: 0,
            acked_in_span: 0,
            latency,
            slices,
            late,
            unsent: 0,
            busy: 0,
            phases: None,
            told: None,
        })
    }

    /// The session at `at` of its sessions has acknowledged a message.
    pub(super) fn note(&mut self, began: Instant, span: Span, at: usize, seq: u64) {
        let now = Instant::now();
        self.answered(now, span, at, seq);
        if span.holds(now) {
            self.time(now, now, began, span);
        }
    }

    /// The same of a message that was due at a time: it belongs to that.
    fn note_due(&mut self, due: Instant, span: Span, at: usize, seq: u64) {
        let now = Instant::now();
        self.answered(now, span, at, seq);
        if span.holds(due) {
            self.time(due, now, due, span);
        }
    }

    fn answered(&mut self, now: Instant, span: Span, at: usize, seq: u64) {
        self.acked += 1;
        if let Some(bar) = &self.told
            && self.acked.is_multiple_of(TOLD_EVERY)
        {
            bar.inc(TOLD_EVERY);
        }
        self.acked_in_span += u64::from(span.holds(now));
        if let Some(spoken) = self.spoken.get_mut(at) {
            spoken.acked += 1;
            spoken.last_seq = spoken.last_seq.max(seq);
        }
    }

    fn time(&mut self, belongs: Instant, now: Instant, began: Instant, span: Span) {
        let micros = now.saturating_duration_since(began).as_micros() as u64;
        self.count(belongs, span, micros, 1);
    }

    fn count(&mut self, belongs: Instant, span: Span, micros: u64, count: u64) {
        self.latency.saturating_record_n(micros, count);
        self.slices.note(belongs, span, micros, count);
        if let Some(phases) = &mut self.phases {
            phases.note(belongs, micros, count);
        }
    }

    /// What was due and was never sent has waited until now, and would have waited longer.
    fn lose(&mut self, schedule: &Schedule, span: Span) {
        let now = Instant::now();
        self.unsent = schedule.left(span.to);
        let step = self.unsent.div_ceil(LOST_AT_ONCE).max(1);
        let mut at = 0;
        while at < self.unsent {
            let count = step.min(self.unsent - at);
            let due = schedule.due_after(at + count / 2);
            if span.holds(due) {
                let micros = now.saturating_duration_since(due).as_micros() as u64;
                self.count(due, span, micros, count);
            }
            at += count;
        }
    }
}

struct Flight {
    /// Which of the sender's sessions.
    at: usize,
    /// Its number in that session.
    client_seq: u64,
    /// Which of all the sender's messages; its content hangs on it.
    number: u64,
    /// Request id while it is under way.
    request: Option<u32>,
    began: Instant,
}

pub(super) struct Sender {
    link: Link,
    window: usize,
    contents: Contents,
    flights: VecDeque<Flight>,
    /// The next number of each session.
    next: Vec<u64>,
    /// The number of the next message, counted as those of a single session are.
    number: u64,
    hold: Option<Instant>,
    sent: Sent,
    /// Sends are counted from here: a membership request may have taken the first numbers.
    first: u64,
    /// In an open loop.
    schedule: Option<(Schedule, Timer)>,
    /// Contents begin with the microseconds from then until the message was sent, or due.
    epoch: Option<Instant>,
    /// Hears what this device is pushed.
    ear: Option<Arc<Ear>>,
}

impl Sender {
    pub(super) fn new(
        link: Link,
        sessions: Vec<SessionId>,
        window: usize,
        contents: Contents,
        first: u64,
    ) -> anyhow::Result<Self> {
        let flights = VecDeque::with_capacity(window);
        Ok(Self {
            link,
            window,
            contents,
            flights,
            next: vec![first; sessions.len()],
            number: first,
            hold: None,
            sent: Sent::new(sessions)?,
            first,
            schedule: None,
            epoch: None,
            ear: None,
        })
    }

    /// Tells this bar how many are acknowledged.
    pub(super) fn telling(mut self, bar: ProgressBar) -> Self {
        self.sent.told = Some(bar);
        self
    }

    /// Notes latencies by phase, and stops when the last is over.
    pub(super) fn in_phases(mut self, phases: Recorder) -> Self {
        self.sent.phases = Some(phases);
        self
    }

    /// Sends by this schedule.
    pub(super) fn paced(self, schedule: Schedule) -> anyhow::Result<Self> {
        Ok(Self { schedule: Some((schedule, Timer::new()?)), ..self })
    }

    /// Messages begin with the time, counted from `epoch`, and what is pushed to this device goes to `ear`.
    pub(super) fn hearing(self, ear: Arc<Ear>, epoch: Instant) -> Self {
        Self { ear: Some(ear), epoch: Some(epoch), ..self }
    }

    /// Sends until the span is over and everything is answered.
    pub(super) async fn run(self, span: Span) -> anyhow::Result<Sent> {
        self.run_and_stay(span).await.map(|(sent, _)| sent)
    }

    /// The same; the connection stays, for what is pushed later.
    pub(super) async fn run_and_stay(mut self, span: Span) -> anyhow::Result<(Sent, Link)> {
        loop {
            let span = self.shortened(span);
            let over = self.is_over(span);
            if over && self.flights.is_empty() {
                if let Some((schedule, _)) = &self.schedule {
                    self.sent.lose(schedule, span);
                }
                return Ok((self.sent, self.link));
            }
            self.fill(over, span);
            self.link.flush().await?;
            if self.hold.is_some() && self.flights.iter().all(|flight| flight.request.is_none()) {
                if let Some(until) = self.hold.take() {
                    sleep(until.saturating_duration_since(Instant::now())).await;
                }
                continue;
            }
            let Some(frame) = self.wait(over).await? else { continue };
            self.take(&frame, span)?;
            while let Some(frame) = self.link.ready()? {
                self.take(&frame, span)?;
            }
        }
    }

    fn session(&self, flight: Option<&Flight>) -> String {
        let spoken = flight.and_then(|flight| self.sent.spoken.get(flight.at));
        spoken.map_or_else(|| "no session".to_owned(), |spoken| spoken.session.to_string())
    }

    /// The span, or less when the last phase is over before.
    fn shortened(&self, span: Span) -> Span {
        let over = self.sent.phases.as_ref().and_then(Recorder::over);
        Span { to: over.map_or(span.to, |over| over.min(span.to)), ..span }
    }

    /// Nothing more is to be sent.
    fn is_over(&self, span: Span) -> bool {
        let now = Instant::now();
        let time = match &self.schedule {
            None => now >= span.to,
            Some((schedule, _)) => schedule.due() >= span.to || now >= span.drained(),
        };
        time || self.sent.acked + self.flights.len() as u64 >= span.most
    }

    /// The next frame; none when a message has become due before it.
    async fn wait(&mut self, over: bool) -> anyhow::Result<Option<Frame>> {
        let due = match &self.schedule {
            Some((schedule, timer)) if !over && self.hold.is_none() && self.flights.len() < self.window => {
                Some((schedule.due(), timer))
            }
            _ => None,
        };
        // Until it is due; without anything due, until the silence has lasted too long.
        let quiet = async {
            match due {
                Some((at, timer)) => timer.until(at).await.map(|()| true),
                None => {
                    sleep(SILENCE).await;
                    Ok(false)
                }
            }
        };
        tokio::select! {
            biased;
            frame = self.link.next() => Ok(Some(frame?)),
            due = quiet => {
                if !due? {
                    let session = self.session(self.flights.front());
                    bail!("{} sends, the first in {session}, had no answer for {SILENCE:?}", self.flights.len());
                }
                Ok(None)
            }
        }
    }

    /// Fills the window, those to be repeated first, in order; in an open loop with what is due.
    fn fill(&mut self, over: bool, span: Span) {
        if self.hold.is_some() {
            return;
        }
        for at in 0..self.flights.len() {
            let Some(flight) = self.flights.get(at) else { break };
            if flight.request.is_none() {
                let request = self.ask(flight.at, flight.client_seq, flight.number, flight.began);
                if let Some(flight) = self.flights.get_mut(at) {
                    flight.request = request;
                }
            }
        }
        while !over && self.flights.len() < self.window {
            let due = match &mut self.schedule {
                None => None,
                Some((schedule, _)) if schedule.due() <= Instant::now() && schedule.due() < span.to => {
                    Some(schedule.take())
                }
                Some(_) => return,
            };
            let number = self.number;
            self.number += 1;
            let at = ((number - self.first) % self.next.len() as u64) as usize;
            let Some(next) = self.next.get_mut(at) else { return };
            let client_seq = *next;
            *next += 1;
            let sent = Instant::now();
            let began = due.unwrap_or(sent);
            let request = self.ask(at, client_seq, number, began);
            if let Some(due) = due.filter(|due| span.holds(*due)) {
                self.sent.late.saturating_record(sent.saturating_duration_since(due).as_micros() as u64);
            }
            self.flights.push_back(Flight { at, client_seq, number, request, began });
        }
    }

    fn ask(&mut self, at: usize, client_seq: u64, number: u64, began: Instant) -> Option<u32> {
        let mut content = self.contents.message(number);
        if let Some(epoch) = self.epoch {
            let micros = began.saturating_duration_since(epoch).as_micros() as u64;
            let mut stamped = Vec::from(content);
            stamped.get_mut(..STAMP)?.copy_from_slice(&micros.to_le_bytes());
            content = stamped.into();
        }
        let send = Send {
            session: self.sent.spoken.get(at)?.session.clone(),
            client_seq,
            on_behalf_of: None,
            content_type: Blob::default(),
            content: Blob(content),
            extensions: Vec::new(),
        };
        Some(self.link.ask(Kind::Send, &send))
    }

    fn take(&mut self, frame: &Frame, span: Span) -> anyhow::Result<()> {
        if frame.request_id == 0 {
            return self.ear.as_ref().map_or(Ok(()), |ear| ear.hear(frame.kind, &frame.body));
        }
        // Answers come nearly in order: the one looked for is among the first.
        let at = self.flights.iter().position(|flight| flight.request == Some(frame.request_id));
        let Some(at) = at else { bail!("an answer to request {}, which nobody made", frame.request_id) };
        if frame.kind == Kind::Ack as u8 {
            let ack: Ack = body(frame)?;
            if let Some(flight) = self.flights.remove(at) {
                match &self.schedule {
                    None => self.sent.note(flight.began, span, flight.at, ack.seq),
                    Some(_) => self.sent.note_due(flight.began, span, flight.at, ack.seq),
                }
            }
            return Ok(());
        }
        let error: ErrorBody = body(frame)?;
        let wait = match error.retry {
            Retry::After(ms) => u64::from(ms),
            _ if error.code == ErrorCode::ClientSeqGap && error.detail >= self.first => 1,
            _ => bail!("SEND in {}: {error}", self.session(self.flights.get(at))),
        };
        self.sent.busy += 1;
        let until = Instant::now() + Duration::from_millis(wait);
        self.hold = Some(self.hold.map_or(until, |hold| hold.max(until)));
        if let Some(flight) = self.flights.get_mut(at) {
            flight.request = None;
        }
        Ok(())
    }
}
