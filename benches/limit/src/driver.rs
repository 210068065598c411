//! The driver of `durable`: starts the processes, keeps the windows full, times every message, compares the files.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::DurableArgs;
use crate::content::Contents;
use crate::leader::write_out;
use crate::part::Part;
use crate::report::{DurableReport, print};

/// Without any answer for so long a run has failed.
const SILENCE: Duration = Duration::from_secs(20);

/// The span that is measured.
#[derive(Clone, Copy)]
struct Span {
    from: Instant,
    to: Instant,
}

/// One sender: a connection with a fixed number of messages in flight.
struct Sender {
    stream: TcpStream,
    contents: Contents,
    /// When each message that waits was handed over, the oldest first.
    flights: VecDeque<Instant>,
    sent: u64,
    acked: u64,
    out: Vec<u8>,
    partial: Vec<u8>,
}

pub(crate) fn run(args: &DurableArgs) -> anyhow::Result<()> {
    let seed = args.seed.unwrap_or_else(rand::random);
    let folder = match &args.folder {
        Some(parent) => tempfile::TempDir::with_prefix_in("rookery-limit-", parent),
        None => tempfile::TempDir::with_prefix("rookery-limit-"),
    };
    let folder = folder.context("making a folder for the three files")?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let follower = |name: &str| Part::start("follower", &["--file".to_owned(), file(name)]);
    let (mut first, mut second) = (follower("follower-1")?, follower("follower-2")?);
    let mut leader = Part::start(
        "leader",
        &[
            "--file".to_owned(),
            file("leader"),
            "--size".to_owned(),
            args.size.to_string(),
            "--followers".to_owned(),
            format!("{},{}", first.addr, second.addr),
        ],
    )?;
    let (latency, acked_in_all) = load(args, leader.addr, seed)?;
    // Each says how much it has and what its file holds.
    let logs = [leader.line()?, first.line()?, second.line()?];
    ensure!(logs.iter().all(|log| *log == logs[0]), "the three logs differ: {logs:?}");
    let bytes: u64 = logs[0].split(' ').next().unwrap_or_default().parse().context("the length of a log")?;
    let due = acked_in_all * u64::from(args.size);
    ensure!(bytes == due, "{acked_in_all} messages were acknowledged, {bytes} bytes of {due} are there");
    print(args.json, &DurableReport::of(args, &latency, acked_in_all, seed))
}

fn load(args: &DurableArgs, addr: std::net::SocketAddr, seed: u64) -> anyhow::Result<(Histogram<u64>, u64)> {
    let mut poll = Poll::new()?;
    let mut senders = Vec::new();
    for at in 0..args.senders {
        senders.push(Sender::connect(args, addr, at, seed, &poll)?);
    }
    let from = Instant::now() + Duration::from_secs_f64(args.warmup);
    let span = Span { from, to: from + Duration::from_secs_f64(args.seconds) };
    let mut latency: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let mut events = Events::with_capacity(1024);
    for sender in &mut senders {
        sender.fill(args.window, span)?;
    }
    loop {
        match poll.poll(&mut events, Some(SILENCE)) {
            Err(fault) if fault.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        if events.is_empty() {
            bail!("no answer for {SILENCE:?}");
        }
        for event in &events {
            if let Some(sender) = senders.get_mut(event.token().0) {
                sender.take(span, &mut latency)?;
                sender.fill(args.window, span)?;
            }
        }
        if Instant::now() >= span.to && senders.iter().all(|sender| sender.flights.is_empty()) {
            break;
        }
    }
    Ok((latency, senders.iter().map(|sender| sender.acked).sum()))
}

impl Sender {
    fn connect(
        args: &DurableArgs,
        addr: std::net::SocketAddr,
        at: u32,
        seed: u64,
        poll: &Poll,
    ) -> anyhow::Result<Self> {
        let stream = std::net::TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(at as usize), both)?;
        Ok(Self {
            stream,
            contents: Contents::new(seed, u64::from(at), args.size as usize),
            flights: VecDeque::new(),
            sent: 0,
            acked: 0,
            out: Vec::new(),
            partial: Vec::new(),
        })
    }

    /// Keeps so many messages in flight, until the span is over.
    fn fill(&mut self, window: u32, span: Span) -> anyhow::Result<()> {
        let now = Instant::now();
        while now < span.to && self.flights.len() < window as usize {
            self.sent += 1;
            self.out.extend_from_slice(&self.contents.message(self.sent));
            self.flights.push_back(Instant::now());
        }
        write_out(&mut self.stream, &mut self.out).context("sending to the leader")
    }

    fn take(&mut self, span: Span, latency: &mut Histogram<u64>) -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("the leader has stopped"),
                Ok(read) => self.partial.extend_from_slice(&buffer[..read]),
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => break,
                Err(fault) => return Err(fault).context("reading from the leader"),
            }
        }
        let whole = self.partial.len() / 8 * 8;
        let Some(last) = self.partial[..whole].last_chunk::<8>() else { return Ok(()) };
        let count = u64::from_le_bytes(*last);
        self.partial.drain(..whole);
        ensure!(count <= self.sent, "{count} messages were acknowledged, {} sent", self.sent);
        let now = Instant::now();
        while self.acked < count {
            let Some(began) = self.flights.pop_front() else { bail!("an answer to nothing") };
            self.acked += 1;
            if now >= span.from && now < span.to {
                let micros = now.duration_since(began).as_micros();
                latency.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
            }
        }
        Ok(())
    }
}
