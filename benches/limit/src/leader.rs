//! The leader: one thread that moves bytes between sockets, one that syncs.
//!
//! Whatever clients sent goes to both followers at once and to the syncing thread as soon as that is free; whatever two of
//! the three have synced is acknowledged, with one count for each client. Must never acknowledge what only one has.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context, bail};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::LeaderArgs;
use crate::part::{end_with_parent, say};
use crate::ring::Ring;

const LISTENER: Token = Token(0);
const SYNCED: Token = Token(1);
const FOLLOWERS: usize = 2;
const CLIENTS: usize = FOLLOWERS + 2;
/// Bytes taken from one socket with one call.
const READ: usize = 256 << 10;
/// Pieces written with one call.
const PIECES: usize = 64;

type Piece = Arc<[u8]>;

/// A follower, what it is yet to be sent and how far it is.
struct Follower {
    stream: TcpStream,
    queue: VecDeque<Piece>,
    /// Of the first piece of the queue, so many bytes are sent.
    sent: usize,
    durable: u64,
    partial: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    received: u64,
    /// Up to which place in the log which of its messages stand.
    waiting: VecDeque<(u64, u64)>,
    acked: u64,
    out: Vec<u8>,
    over: bool,
}

/// The leader's hands.
struct Leader {
    size: u64,
    poll: Poll,
    listener: TcpListener,
    followers: Vec<Follower>,
    clients: Vec<Client>,
    /// Bytes of the log so far.
    end: u64,
    unsynced: Vec<Piece>,
    to_sync: SyncSender<Vec<Piece>>,
    syncing: bool,
    synced: Arc<AtomicU64>,
    buffer: Vec<u8>,
}

pub(crate) fn run(args: &LeaderArgs) -> anyhow::Result<()> {
    let ring = Ring::create(&args.file.file)?;
    let poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut followers = Vec::new();
    for (at, addr) in args.followers.iter().enumerate() {
        let stream = std::net::TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(at + 2), Interest::READABLE | Interest::WRITABLE)?;
        followers.push(Follower { stream, queue: VecDeque::new(), sent: 0, durable: 0, partial: Vec::new() });
    }
    if followers.len() != FOLLOWERS {
        bail!("a leader has {FOLLOWERS} followers");
    }
    say(&listener.local_addr()?.to_string())?;
    end_with_parent();
    let waker = Waker::new(poll.registry(), SYNCED)?;
    let synced = Arc::new(AtomicU64::new(0));
    let (to_sync, work) = sync_channel(1);
    let syncer = {
        let synced = synced.clone();
        std::thread::spawn(move || sync(ring, &work, &synced, &waker))
    };
    let mut leader = Leader {
        size: args.size,
        poll,
        listener,
        followers,
        clients: Vec::new(),
        end: 0,
        unsynced: Vec::new(),
        to_sync,
        syncing: false,
        synced,
        buffer: vec![0; READ],
    };
    leader.serve()?;
    // The followers' streams and the syncer's queue end here, and with them those.
    drop(leader);
    let ring = syncer.join().map_err(|_| anyhow::anyhow!("the syncing thread panicked"))??;
    say(&format!("{} {}", ring.end(), ring.hash()?))?;
    Ok(())
}

/// The syncing thread: one sync for all that came while the last one ran.
fn sync(
    mut ring: Ring,
    work: &Receiver<Vec<Piece>>,
    synced: &AtomicU64,
    waker: &Waker,
) -> anyhow::Result<Ring> {
    while let Ok(pieces) = work.recv() {
        for piece in &pieces {
            ring.append(piece)?;
        }
        ring.sync()?;
        synced.store(ring.end(), Ordering::Release);
        waker.wake()?;
    }
    Ok(ring)
}

impl Leader {
    /// Until every client has come and gone, and everything is on three disks.
    fn serve(&mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut settled = 0;
        while !self.is_over(settled) {
            match self.poll.poll(&mut events, None) {
                Err(fault) if fault.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            let before = self.end;
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    SYNCED => self.syncing = false,
                    Token(at) if at < CLIENTS => self.follower(at - 2)?,
                    Token(at) => self.read(at - CLIENTS)?,
                }
            }
            if self.end > before {
                for at in 0..FOLLOWERS {
                    self.forward(at)?;
                }
            }
            if !self.syncing && !self.unsynced.is_empty() {
                let pieces = std::mem::take(&mut self.unsynced);
                self.to_sync.send(pieces).context("the syncing thread has stopped")?;
                self.syncing = true;
            }
            let place = |at: usize| self.followers.get(at).map_or(0, |follower| follower.durable);
            let places = [self.synced.load(Ordering::Acquire), place(0), place(1)];
            self.acknowledge(majority(places))?;
            settled = places.into_iter().min().unwrap_or(0);
        }
        Ok(())
    }

    fn is_over(&self, settled: u64) -> bool {
        !self.clients.is_empty() && self.clients.iter().all(|client| client.over) && settled == self.end
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let (mut stream, _) = match self.listener.accept() {
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            };
            stream.set_nodelay(true)?;
            let token = Token(self.clients.len() + CLIENTS);
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, both)?;
            self.clients.push(Client {
                stream,
                received: 0,
                waiting: VecDeque::new(),
                acked: 0,
                out: Vec::new(),
                over: false,
            });
        }
    }

    /// Takes what a client sent. Only whole messages are acknowledged, but bytes go on as they come.
    fn read(&mut self, at: usize) -> anyhow::Result<()> {
        let Some(client) = self.clients.get_mut(at) else { return Ok(()) };
        write_out(&mut client.stream, &mut client.out)?;
        loop {
            match client.stream.read(&mut self.buffer) {
                Ok(0) => {
                    client.over = true;
                    return Ok(());
                }
                Ok(read) => {
                    let piece: Piece = self.buffer[..read].into();
                    self.end += read as u64;
                    client.received += read as u64;
                    client.waiting.push_back((self.end, client.received / self.size));
                    for follower in &mut self.followers {
                        follower.queue.push_back(piece.clone());
                    }
                    self.unsynced.push(piece);
                }
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(fault) => return Err(fault).context("reading from a client"),
            }
        }
    }

    fn follower(&mut self, at: usize) -> anyhow::Result<()> {
        if let Some(follower) = self.followers.get_mut(at) {
            follower.hear(&mut self.buffer)?;
        }
        self.forward(at)
    }

    fn forward(&mut self, at: usize) -> anyhow::Result<()> {
        self.followers.get_mut(at).map_or(Ok(()), Follower::send)
    }

    fn acknowledge(&mut self, durable: u64) -> anyhow::Result<()> {
        for client in &mut self.clients {
            let mut count = client.acked;
            while let Some((place, messages)) = client.waiting.front().copied()
                && place <= durable
            {
                count = messages;
                client.waiting.pop_front();
            }
            if count > client.acked {
                client.acked = count;
                client.out.extend_from_slice(&count.to_le_bytes());
                write_out(&mut client.stream, &mut client.out)?;
            }
        }
        Ok(())
    }
}

/// Up to where two of three have everything.
fn majority(mut places: [u64; 3]) -> u64 {
    places.sort_unstable();
    places[1]
}

impl Follower {
    fn hear(&mut self, buffer: &mut [u8]) -> anyhow::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("a follower has stopped"),
                Ok(read) => {
                    self.partial.extend_from_slice(&buffer[..read]);
                    let whole = self.partial.len() / 8 * 8;
                    if let Some(last) = self.partial[..whole].last_chunk::<8>() {
                        self.durable = u64::from_le_bytes(*last);
                    }
                    self.partial.drain(..whole);
                }
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(fault) => return Err(fault).context("hearing a follower"),
            }
        }
    }

    fn send(&mut self) -> anyhow::Result<()> {
        while !self.queue.is_empty() {
            let first = self.sent;
            let pieces: Vec<IoSlice<'_>> = self
                .queue
                .iter()
                .take(PIECES)
                .enumerate()
                .map(|(at, piece)| IoSlice::new(if at == 0 { &piece[first..] } else { piece }))
                .collect();
            match self.stream.write_vectored(&pieces) {
                Ok(written) => self.written(written),
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(fault) => return Err(fault).context("sending to a follower"),
            }
        }
        Ok(())
    }

    fn written(&mut self, bytes: usize) {
        self.sent += bytes;
        while let Some(piece) = self.queue.front()
            && self.sent >= piece.len()
        {
            self.sent -= piece.len();
            self.queue.pop_front();
        }
    }
}

/// Writes as much as the socket takes.
pub(crate) fn write_out(stream: &mut TcpStream, out: &mut Vec<u8>) -> io::Result<()> {
    let mut written = 0;
    while written < out.len() {
        match stream.write(&out[written..]) {
            Ok(more) => written += more,
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => break,
            Err(fault) => return Err(fault),
        }
    }
    out.drain(..written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_three_are_a_majority_whoever_they_are() {
        assert_eq!(majority([9, 0, 0]), 0, "the leader alone is none");
        assert_eq!(majority([0, 7, 9]), 7, "nor does it need the leader");
        assert_eq!(majority([9, 7, 0]), 7);
        assert_eq!(majority([5, 5, 9]), 5);
    }
}
