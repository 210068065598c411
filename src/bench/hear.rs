//! Devices that receive: every push is counted by its group, held against the seq before it, and timed by the time that its
//! content begins with.
//!
//! It shares the cores with what it measures, so it decodes no more than that: a body's fields are stepped over up to the
//! content, and a connection keeps no buffer but what is left of a frame that has not come whole.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rookery_wire::frame::frame_bytes;
use rookery_wire::reply::Lagged;
use rookery_wire::{HEADER_BYTES, Kind, RecordKind, SessionId, decode};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::send::Span;
use crate::check::link::{Link, LinkFault};

/// Bytes read at once, for each thread; longer frames end a run.
const READ: usize = 256 << 10;
/// A frame's length field, and where its body begins.
const LENGTH: usize = 4;
const BODY: usize = LENGTH + HEADER_BYTES;
/// Pause between the PINGs of a connection, well within the time after which a silent one is closed.
const PING: Duration = Duration::from_secs(20);
/// Histograms of latency: so many threads seldom meet at one.
const PARTS: usize = 8;
/// Content begins with so many bytes of time.
pub(super) const STAMP: usize = 8;

/// The name of a group ends with its number, in so many digits.
const DIGITS: usize = 6;

/// The name of group `number` of a run.
pub(super) fn group_name(tag: &str, number: u32) -> String {
    format!("{tag}-{number:0DIGITS$}")
}

/// What all devices of a run share.
pub(super) struct Hall {
    /// Times in messages are microseconds since then.
    epoch: Instant,
    /// The span measured, in the same.
    span: OnceLock<(u64, u64)>,
    latency: Vec<Mutex<Histogram<u64>>>,
    received: AtomicU64,
    in_span: AtomicU64,
    /// Of the frames of those.
    bytes_in_span: AtomicU64,
}

impl Hall {
    pub(super) fn new(epoch: Instant) -> anyhow::Result<Self> {
        let one = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let latency = (0..PARTS).map(|_| Mutex::new(one.clone())).collect();
        let [received, in_span, bytes_in_span] = [0; 3].map(AtomicU64::new);
        Ok(Self { epoch, span: OnceLock::new(), latency, received, in_span, bytes_in_span })
    }

    /// Only from now on is anything timed.
    pub(super) fn measure(&self, span: Span) {
        let _ = self.span.set((self.micros(span.from), self.micros(span.to)));
    }

    fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_micros() as u64
    }

    /// Messages received by all devices.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Those that came within the span.
    pub(super) fn in_span(&self) -> u64 {
        self.in_span.load(Ordering::Relaxed)
    }

    /// Bytes of their frames.
    pub(super) fn bytes_in_span(&self) -> u64 {
        self.bytes_in_span.load(Ordering::Relaxed)
    }

    /// Microseconds from the time in a message until a device had it, of messages of the span.
    pub(super) fn latency(&self) -> anyhow::Result<Histogram<u64>> {
        let mut all = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        for part in &self.latency {
            all.add(&*part.lock())?;
        }
        Ok(all)
    }
}

/// What one device has heard of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) group: u32,
    /// Messages with content.
    pub(super) count: u64,
    /// Pushes of a seq that was not above the one before.
    pub(super) doubled: u64,
    /// It was told that it lags: some were skipped.
    pub(super) lagged: bool,
    last: u64,
}

/// One device.
pub(super) struct Ear {
    hall: Arc<Hall>,
    number: usize,
    heard: Mutex<Vec<Heard>>,
    /// Why it hears no more.
    fault: OnceLock<String>,
}

impl Ear {
    /// Device `number` of all, in these groups, ascending.
    pub(super) fn new(hall: Arc<Hall>, number: usize, groups: &[u32]) -> Self {
        let heard = groups.iter().map(|group| Heard { group: *group, ..Heard::default() }).collect();
        Self { hall, number, heard: Mutex::new(heard), fault: OnceLock::new() }
    }

    /// Of each of its groups.
    pub(super) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().clone()
    }

    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.get().map(String::as_str)
    }

    /// One frame that a sender's own connection was pushed.
    ///
    /// # Errors
    /// A push that is none, or of a group that the user is not in.
    pub(super) fn hear(&self, kind: u8, body: &[u8]) -> anyhow::Result<()> {
        let (mut heard, mut batch) = (self.heard.lock(), Batch::begin(&self.hall));
        batch.frame(&mut heard, kind, body)?;
        batch.end(self.number);
        Ok(())
    }

    /// All whole frames at the beginning of these bytes; returns how many bytes they have.
    fn hear_all(&self, bytes: &[u8]) -> anyhow::Result<usize> {
        let (mut heard, mut batch) = (self.heard.lock(), Batch::begin(&self.hall));
        let mut at = 0;
        while let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk::<LENGTH>()) {
            let length = u32::from_le_bytes(*length) as usize;
            ensure!((HEADER_BYTES..READ - LENGTH).contains(&length), "a frame of {length} bytes");
            let Some(frame) = bytes.get(at..at + LENGTH + length) else { break };
            batch.frame(&mut heard, frame[LENGTH + 1], &frame[BODY..])?;
            at += frame.len();
        }
        batch.end(self.number);
        Ok(at)
    }

    /// Hears what comes, until the task is dropped or the connection ends.
    pub(super) async fn listen(self: Arc<Self>, link: Link) {
        let end = match link.into_socket() {
            Ok((socket, came)) => self.read(socket, came).await,
            Err(fault) => Err(fault.into()),
        };
        if let Err(fault) = end {
            let _ = self.fault.set(format!("{fault:#}"));
        }
    }

    async fn read(&self, mut socket: TcpStream, came: Vec<u8>) -> anyhow::Result<()> {
        let heard = self.hear_all(&came)?;
        let mut rest = came.get(heard..).unwrap_or_default().to_vec();
        let ping = frame_bytes(Kind::Ping, 1, &());
        let mut pings = interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let read = std::future::poll_fn(|context| self.poll_read(&mut socket, &mut rest, context));
            tokio::select! {
                biased;
                read = read => read?,
                _ = pings.tick() => match socket.try_write(&ping) {
                    // It is so full that it is not silent.
                    Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock => {}
                    Ok(written) => ensure!(written == ping.len(), "half a PING was taken"),
                    Err(fault) => return Err(fault.into()),
                },
            }
        }
    }

    /// Hears what one read gives. Bytes of a frame that has not come whole stand in `rest` until the next.
    fn poll_read(
        &self,
        socket: &mut TcpStream,
        rest: &mut Vec<u8>,
        context: &mut Context<'_>,
    ) -> Poll<anyhow::Result<()>> {
        BUFFER.with_borrow_mut(|buffer| {
            let had = rest.len();
            let (front, room) = buffer.split_at_mut(had);
            front.copy_from_slice(rest);
            let mut room = ReadBuf::new(room);
            ready!(Pin::new(socket).poll_read(context, &mut room))?;
            let read = room.filled().len();
            if read == 0 {
                return Poll::Ready(Err(LinkFault::Closed.into()));
            }
            let bytes = &buffer[..had + read];
            let heard = self.hear_all(bytes)?;
            rest.clear();
            rest.extend_from_slice(bytes.get(heard..).unwrap_or_default());
            Poll::Ready(Ok(()))
        })
    }
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// Frames that came with one read: all at one time, told to the others once.
struct Batch<'a> {
    hall: &'a Hall,
    now: u64,
    received: u64,
    in_span: u64,
    bytes_in_span: u64,
    /// Of messages of the span.
    latencies: Vec<u64>,
}

impl<'a> Batch<'a> {
    fn begin(hall: &'a Hall) -> Self {
        let now = hall.micros(Instant::now());
        Self { hall, now, received: 0, in_span: 0, bytes_in_span: 0, latencies: Vec::new() }
    }

    fn frame(&mut self, heard: &mut [Heard], kind: u8, body: &[u8]) -> anyhow::Result<()> {
        if kind == Kind::Message as u8 {
            let message = Skimmed::of(body).ok_or_else(|| anyhow!("a MESSAGE that cannot be read"))?;
            let at = heard.binary_search_by_key(&message.group, |heard| heard.group);
            let Some(heard) = at.ok().and_then(|at| heard.get_mut(at)) else {
                bail!("a message of group {}, in which the user is not", message.group);
            };
            let doubled = message.seq <= heard.last;
            heard.doubled += u64::from(doubled);
            heard.last = heard.last.max(message.seq);
            if !doubled && message.kind == u64::from(RecordKind::CONTENT.0) {
                heard.count += 1;
                self.message(message.stamp, BODY + body.len());
            }
        } else if kind == Kind::Lagged as u8 {
            let lagged: Lagged = decode(&bytes::Bytes::copy_from_slice(body))?;
            for heard in heard {
                // With none named, all may have skipped some.
                let named =
                    |session: &SessionId| group_of(session.to_string().as_bytes()) == Some(heard.group);
                heard.lagged |=
                    lagged.sessions.is_empty() || lagged.sessions.iter().any(|(session, _)| named(session));
            }
        }
        Ok(())
    }

    fn message(&mut self, stamp: u64, bytes: usize) {
        self.received += 1;
        let Some((from, to)) = self.hall.span.get() else { return };
        let holds = |at: u64| at >= *from && at < *to;
        if holds(self.now) {
            self.in_span += 1;
            self.bytes_in_span += bytes as u64;
        }
        if holds(stamp) {
            self.latencies.push(self.now.saturating_sub(stamp));
        }
    }

    fn end(self, number: usize) {
        if self.received == 0 {
            return;
        }
        if let Some(part) = self.hall.latency.get(number % PARTS).filter(|_| !self.latencies.is_empty()) {
            let mut part = part.lock();
            self.latencies.iter().for_each(|micros| part.saturating_record(*micros));
        }
        self.hall.in_span.fetch_add(self.in_span, Ordering::Relaxed);
        self.hall.bytes_in_span.fetch_add(self.bytes_in_span, Ordering::Relaxed);
        self.hall.received.fetch_add(self.received, Ordering::Relaxed);
    }
}

/// What is needed of a MESSAGE's body.
#[derive(Debug, PartialEq, Eq)]
struct Skimmed {
    group: u32,
    seq: u64,
    kind: u64,
    /// What the content begins with; 0 where that is no time.
    stamp: u64,
}

impl Skimmed {
    /// Steps over the fields of [`rookery_wire::reply::Message`], in their order.
    fn of(body: &[u8]) -> Option<Self> {
        let mut rest = Rest(body);
        if rest.bytes(1)? != [1] {
            return None;
        }
        let group = group_of(rest.text()?)?;
        let seq = rest.number()?;
        let (_id, _time, _count) = (rest.number()?, rest.number()?, rest.number()?);
        let (_sender, _device) = (rest.text()?, rest.text()?);
        let (_epoch, _client_seq, kind) = (rest.number()?, rest.number()?, rest.number()?);
        let (_type, content) = (rest.text()?, rest.text()?);
        let stamp = content.first_chunk::<STAMP>().map_or(0, |stamp| u64::from_le_bytes(*stamp));
        Some(Self { group, seq, kind, stamp })
    }
}

/// The number that a name ends with.
pub(super) fn group_of(name: &[u8]) -> Option<u32> {
    let digits = name.last_chunk::<DIGITS>()?;
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

/// What is left of a body.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    /// A number as docs/protocol.md has it: itself below 251, or what says how many bytes it has.
    fn number(&mut self) -> Option<u64> {
        let [first] = *self.bytes(1)? else { return None };
        let count = match first {
            0..=250 => return Some(u64::from(first)),
            251 => 2,
            252 => 4,
            253 => 8,
            _ => return None,
        };
        let mut number = [0; 8];
        number.get_mut(..count)?.copy_from_slice(self.bytes(count)?);
        Some(u64::from_le_bytes(number))
    }
}

#[cfg(test)]
mod tests {
    use rookery_wire::record::Record;
    use rookery_wire::reply::Message;
    use rookery_wire::{Blob, DeviceId, GroupId, UserId};

    use super::*;

    fn message(group: u32, seq: u64, stamp: u64) -> Message {
        let content = [&stamp.to_le_bytes()[..], &[7; 300]].concat();
        let record = Record {
            seq,
            message_id: u64::MAX - 5,
            time_ms: 1_700_000_000_000,
            count: seq,
            sender: UserId::new("ann").unwrap(),
            device: DeviceId::new("phone").unwrap(),
            epoch: 70_000,
            client_seq: 300,
            kind: RecordKind::CONTENT,
            content_type: Blob::from("text/plain"),
            content: Blob(content.into()),
            extensions: Vec::new(),
        };
        Message { session: SessionId::group(GroupId::new(&group_name("t", group)).unwrap()), record }
    }

    #[test]
    fn what_is_stepped_over_is_what_the_wire_says() {
        for (group, seq, stamp) in
            [(0, 1, 0), (999_999, 250, 251), (12, 70_000, u64::MAX), (7, 1 << 40, 1 << 33)]
        {
            let body = rookery_wire::encode(&message(group, seq, stamp));
            let kind = u64::from(RecordKind::CONTENT.0);
            assert_eq!(Skimmed::of(&body), Some(Skimmed { group, seq, kind, stamp }));
            // The salt behind the content is nobody's business; a body that is cut before it is.
            assert!((0..body.len() - 301).all(|cut| Skimmed::of(&body[..cut]).is_none()));
        }
    }

    #[test]
    fn every_message_counts_once_wherever_the_reads_were_cut() {
        let epoch = Instant::now();
        let hall = Arc::new(Hall::new(epoch).unwrap());
        hall.measure(Span { from: epoch, to: epoch + Duration::from_secs(3600), most: u64::MAX });
        let frame = |group, seq| frame_bytes(Kind::Message, 0, &message(group, seq, 0)).to_vec();
        let lagged = Lagged { sessions: vec![(message(9, 1, 0).session, 8)] };
        // 4 was its own, 5 comes twice; of group 9 some were skipped.
        let frames = [
            frame(3, 2),
            frame(9, 2),
            frame(3, 3),
            frame(3, 5),
            frame(3, 5),
            frame_bytes(Kind::Pong, 1, &()).to_vec(),
            frame_bytes(Kind::Lagged, 0, &lagged).to_vec(),
            frame(9, 8),
        ];
        let bytes = frames.concat();
        for step in [1, 7, 400, bytes.len()] {
            let before = hall.received();
            let ear = Ear::new(Arc::clone(&hall), 1, &[3, 9]);
            let mut rest = Vec::new();
            for piece in bytes.chunks(step) {
                rest.extend_from_slice(piece);
                let heard = ear.hear_all(&rest).unwrap();
                rest.drain(..heard);
            }
            assert!(rest.is_empty());
            let three = Heard { group: 3, count: 3, doubled: 1, lagged: false, last: 5 };
            let nine = Heard { group: 9, count: 2, doubled: 0, lagged: true, last: 8 };
            assert_eq!(ear.heard(), [three, nine]);
            assert_eq!(hall.received() - before, 5);
        }
        assert_eq!((hall.in_span(), hall.latency().unwrap().len()), (20, 20));
        assert_eq!(hall.bytes_in_span(), 20 * frame(3, 2).len() as u64);
        assert!(Ear::new(hall, 1, &[4]).hear_all(&bytes).is_err(), "not its group");
    }
}
