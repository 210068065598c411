//! The seams through which the outside world comes in: network, wall clock, randomness.
//!
//! Owns: the traits and their real implementations. Whoever needs one of the three takes it as an argument, so that a
//! simulation can replace the world. Monotonic time is not a seam: it is `tokio::time`, which is virtual in a
//! simulation already. Must never be bypassed by a direct use of `TcpStream`, `SystemTime` or a global generator.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::{RngCore, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Both directions of one connection. Implemented by everything that reads and writes.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Two halves for two tasks.
    fn split_duplex(self: Box<Self>) -> (ReadHalf, WriteHalf);
}

/// The reading half of a connection.
pub type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half of a connection.
pub type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {
    fn split_duplex(self: Box<Self>) -> (ReadHalf, WriteHalf) {
        // The general split shares a lock, held during system calls; a TCP stream can do without.
        let any: Box<dyn Any + Send> = self;
        match any.downcast::<TcpStream>() {
            Ok(tcp) => {
                let (read, write) = tcp.into_split();
                (Box::new(read), Box::new(write))
            }
            Err(any) => match any.downcast::<T>() {
                Ok(stream) => {
                    let (read, write) = tokio::io::split(*stream);
                    (Box::new(read), Box::new(write))
                }
                // It was made of a `Box<T>` two lines above.
                Err(_) => (Box::new(tokio::io::empty()), Box::new(tokio::io::empty())),
            },
        }
    }
}

/// A connection of whichever network.
pub type BoxStream = Box<dyn Duplex>;

/// Makes and takes connections.
pub trait Network: Send + Sync + 'static {
    /// Connects to `addr` (`host:port`). Has no deadline of its own; callers bring one.
    fn dial(&self, addr: &str) -> BoxFuture<'_, io::Result<BoxStream>>;
    /// Listens on `addr`; port 0 takes a free one.
    fn listen(&self, addr: &str) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;
}

/// A listening socket.
pub trait Listener: Send + 'static {
    /// The next connection. An error concerns that one connection; the listener stays usable.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>>;
    /// Where it listens, with the port that was really taken.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Wall clock, for stamps that people see. Never for timeouts.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970 (UTC). May jump.
    fn unix_ms(&self) -> u64;
}

/// Randomness.
pub trait Entropy: Send + Sync + 'static {
    /// 64 fresh bits.
    fn u64(&self) -> u64;
}

/// Real TCP, with Nagle's algorithm off.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNetwork;

impl Network for TcpNetwork {
    fn dial(&self, addr: &str) -> BoxFuture<'_, io::Result<BoxStream>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(&addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn listen(&self, addr: &str) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let addr = addr.to_owned();
        Box::pin(async move { Ok(Box::new(TcpListener::bind(&addr).await?) as Box<dyn Listener>) })
    }
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as BoxStream, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_ms(&self) -> u64 {
        // A clock set before 1970 reads as 0: stamps are clamped to be monotone at apply, so nothing breaks.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A generator that the operating system seeded, per thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn u64(&self) -> u64 {
        rand::rng().next_u64()
    }
}

/// The same numbers for the same seed: for simulations.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<rand::rngs::StdRng>);

impl SeededEntropy {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(rand::rngs::StdRng::seed_from_u64(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself() {
        let draw = |seed| {
            let e = SeededEntropy::new(seed);
            (e.u64(), e.u64())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
