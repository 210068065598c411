//! One buffer and N sockets: a thread that writes the same bytes to one after another, a process that reads them all.
//!
//! The time runs from the first write until the reader has seen the last byte, so nothing counts that only lies in a
//! socket's buffer. Whoever reads decodes nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use crate::FanoutArgs;
use crate::part::{Part, end_with_parent, many_files, say};
use crate::report::{FanoutReport, print};

const LISTENER: Token = Token(0);
const READ: usize = 256 << 10;
/// Before what is measured, the same for so long.
const WARMUP: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &FanoutArgs) -> anyhow::Result<()> {
    many_files();
    pour(args, WARMUP)?;
    let (deliveries, seconds) = pour(args, Duration::from_secs_f64(args.seconds))?;
    print(args.json, &FanoutReport::of(args, deliveries, seconds))
}

/// Writes for so long; deliveries, and the seconds until they were read.
fn pour(args: &FanoutArgs, length: Duration) -> anyhow::Result<(u64, f64)> {
    let mut readers = Part::start("readers", &[])?;
    let mut sockets = Vec::new();
    for _ in 0..args.sockets {
        let socket =
            TcpStream::connect(readers.addr).context("connecting; how many open files are allowed?")?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let buffer = vec![0x5a; args.size as usize * args.batch as usize];
    let begin = Instant::now();
    let mut calls = 0u64;
    'writing: loop {
        for socket in &mut sockets {
            if begin.elapsed() >= length {
                break 'writing;
            }
            socket.write_all(&buffer)?;
            calls += 1;
        }
    }
    drop(sockets);
    let read: u64 = readers.line()?.parse().context("what was read")?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(
        read == calls * buffer.len() as u64,
        "{calls} times {} bytes were written, {read} read",
        buffer.len()
    );
    Ok((calls * u64::from(args.batch), seconds))
}

/// The reading process: says how many bytes came when every connection has ended.
pub(crate) fn readers() -> anyhow::Result<()> {
    many_files();
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    say(&listener.local_addr()?.to_string())?;
    end_with_parent();
    let mut events = Events::with_capacity(1024);
    let (mut streams, mut open, mut bytes) = (Vec::new(), 0usize, 0u64);
    let mut buffer = vec![0; READ];
    loop {
        match poll.poll(&mut events, None) {
            Err(fault) if fault.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                loop {
                    let (mut stream, _) = match listener.accept() {
                        Err(fault) if fault.kind() == ErrorKind::WouldBlock => break,
                        other => other?,
                    };
                    poll.registry().register(&mut stream, Token(streams.len() + 1), Interest::READABLE)?;
                    streams.push(Some(stream));
                    open += 1;
                }
                continue;
            }
            let Some(place) = streams.get_mut(event.token().0 - 1) else { continue };
            let Some(stream) = place else { continue };
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => {
                        *place = None;
                        open -= 1;
                        break;
                    }
                    Ok(read) => bytes += read as u64,
                    Err(fault) if fault.kind() == ErrorKind::WouldBlock => break,
                    Err(fault) => return Err(fault).context("reading"),
                }
            }
        }
        if open == 0 && !streams.is_empty() {
            say(&bytes.to_string())?;
            return Ok(());
        }
    }
}
