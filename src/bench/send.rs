//! One sender: a fixed number of messages in flight, each timed from its first byte out to its ACK in.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::bail;
use hdrhistogram::Histogram;
use rookery_wire::reply::Ack;
use rookery_wire::request::Send;
use rookery_wire::{Blob, ErrorBody, ErrorCode, Frame, Kind, Retry, SessionId};
use tokio::time::{Instant, sleep, timeout};

use super::content::Contents;
use crate::check::link::{Link, body};

/// A sender without any answer for so long ends the bench.
const SILENCE: Duration = Duration::from_secs(20);

/// When to measure and when to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// Stop after so many acknowledged messages, whatever the time.
    pub(super) most: u64,
}

/// What one sender did.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) session: SessionId,
    /// Acknowledged in all, warm-up included.
    pub(super) acked: u64,
    /// Acknowledged in the span measured, with latencies in µs.
    pub(super) latency: Histogram<u64>,
    /// Refusals that a retry mended.
    pub(super) busy: u64,
    /// Highest seq acknowledged.
    pub(super) last_seq: u64,
}

impl Sent {
    pub(super) fn new(session: SessionId) -> anyhow::Result<Self> {
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { session, acked: 0, latency, busy: 0, last_seq: 0 })
    }

    pub(super) fn note(&mut self, began: Instant, span: Span, seq: u64) {
        self.acked += 1;
        self.last_seq = self.last_seq.max(seq);
        let now = Instant::now();
        if now >= span.from && now < span.to {
            self.latency.saturating_record(now.duration_since(began).as_micros() as u64);
        }
    }
}

struct Flight {
    client_seq: u64,
    /// Request id while it is under way.
    request: Option<u32>,
    began: Instant,
}

pub(super) struct Sender {
    link: Link,
    window: usize,
    contents: Contents,
    flights: VecDeque<Flight>,
    next: u64,
    hold: Option<Instant>,
    sent: Sent,
    /// Sends are counted from here: a membership request may have taken the first numbers.
    first: u64,
}

impl Sender {
    pub(super) fn new(
        link: Link,
        session: SessionId,
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
            next: first,
            hold: None,
            sent: Sent::new(session)?,
            first,
        })
    }

    /// Sends until the span is over and everything is answered.
    pub(super) async fn run(mut self, span: Span) -> anyhow::Result<Sent> {
        loop {
            let over = Instant::now() >= span.to || self.sent.acked + self.flights.len() as u64 >= span.most;
            if over && self.flights.is_empty() {
                return Ok(self.sent);
            }
            self.fill(over);
            self.link.flush().await?;
            if self.hold.is_some() && self.flights.iter().all(|flight| flight.request.is_none()) {
                if let Some(until) = self.hold.take() {
                    sleep(until.saturating_duration_since(Instant::now())).await;
                }
                continue;
            }
            let Ok(frame) = timeout(SILENCE, self.link.next()).await else {
                bail!("{} sends in {} had no answer for {SILENCE:?}", self.flights.len(), self.sent.session);
            };
            self.take(&frame?, span)?;
            while let Some(frame) = self.link.ready()? {
                self.take(&frame, span)?;
            }
        }
    }

    /// Fills the window, those to be repeated first, in order.
    fn fill(&mut self, over: bool) {
        if self.hold.is_some() {
            return;
        }
        for at in 0..self.flights.len() {
            let Some(flight) = self.flights.get(at) else { break };
            if flight.request.is_none() {
                let request = self.ask(flight.client_seq);
                if let Some(flight) = self.flights.get_mut(at) {
                    flight.request = Some(request);
                }
            }
        }
        while !over && self.flights.len() < self.window {
            let client_seq = self.next;
            self.next += 1;
            let (request, began) = (Some(self.ask(client_seq)), Instant::now());
            self.flights.push_back(Flight { client_seq, request, began });
        }
    }

    fn ask(&mut self, client_seq: u64) -> u32 {
        let send = Send {
            session: self.sent.session.clone(),
            client_seq,
            on_behalf_of: None,
            content_type: Blob::default(),
            content: Blob(self.contents.message(client_seq)),
            extensions: Vec::new(),
        };
        self.link.ask(Kind::Send, &send)
    }

    fn take(&mut self, frame: &Frame, span: Span) -> anyhow::Result<()> {
        if frame.request_id == 0 {
            return Ok(());
        }
        // Answers come nearly in order: the one looked for is among the first.
        let at = self.flights.iter().position(|flight| flight.request == Some(frame.request_id));
        let Some(at) = at else { bail!("an answer to request {}, which nobody made", frame.request_id) };
        if frame.kind == Kind::Ack as u8 {
            let ack: Ack = body(frame)?;
            if let Some(flight) = self.flights.remove(at) {
                self.sent.note(flight.began, span, ack.seq);
            }
            return Ok(());
        }
        let error: ErrorBody = body(frame)?;
        let wait = match error.retry {
            Retry::After(ms) => u64::from(ms),
            _ if error.code == ErrorCode::ClientSeqGap && error.detail >= self.first => 1,
            _ => bail!("SEND in {}: {error}", self.sent.session),
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
