//! What a send costs the client: CPU time per send (with its ACK and its event), against a server in another thread that answers
//! everything at once. `throughput [CLIENTS] [SECONDS]` (Linux: it reads /proc).

#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rookery_client::wire::reply::{Ack, Joined, Limits, SyncPage, Welcome};
use rookery_client::wire::request::{self, Send};
use rookery_client::wire::{Blob, Decoder, Frame, Kind, SessionId, decode, encode_frame};
use rookery_client::{Client, Options, Outgoing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error + std::marker::Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let clients: usize = words.next().map_or(Ok(8), |word| word.parse())?;
    let seconds: u64 = words.next().map_or(Ok(5), |word| word.parse())?;
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            tell.send(listener.local_addr()?)?;
            loop {
                tokio::spawn(serve(listener.accept().await?.0));
            }
            #[allow(unreachable_code, reason = "says what the loop may fail with")]
            Ok::<(), Failure>(())
        })
    });
    let addr = told.recv()?.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&addr, clients, Duration::from_secs(seconds)))
}

async fn measure(addr: &str, clients: usize, time: Duration) -> Result<(), Failure> {
    let (begin, cpu) = (Instant::now(), thread_time()?);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..clients {
        let options = Options::new([addr], format!("user-{number}").parse()?, "bench".parse()?);
        tasks.spawn(async move {
            let (client, mut events) = Client::connect(options).await?;
            tokio::spawn(async move { while events.recv().await.is_some() {} });
            let session = SessionId::direct(&format!("user-{number}").parse()?, &"zed".parse()?)?;
            let mut pending = std::collections::VecDeque::new();
            let (mut sent, until) = (0u64, Instant::now() + time);
            while Instant::now() < until {
                for _ in 0..64 {
                    pending.push_back(client.send_pipelined(&session, Outgoing::text("0123456789")).await?);
                    sent += 1;
                }
                while pending.len() > 192 {
                    if let Some(ack) = pending.pop_front() {
                        ack.await?;
                    }
                }
            }
            for ack in pending {
                ack.await?;
            }
            Ok::<u64, Failure>(sent)
        });
    }
    let mut sent = 0;
    while let Some(done) = tasks.join_next().await {
        sent += done??;
    }
    let wall = begin.elapsed().as_secs_f64();
    let cpu = (thread_time()? - cpu) as f64;
    println!(
        "{clients} clients: {:.0} sends/s, {:.2} us of CPU per send with its ACK and its event",
        sent as f64 / wall,
        cpu / sent as f64 / 1000.0
    );
    Ok(())
}

/// Nanoseconds this thread has been on a CPU.
fn thread_time() -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().unwrap_or("0").parse()?)
}

async fn serve(mut stream: TcpStream) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let (mut input, mut out, mut seq) = (BytesMut::with_capacity(64 << 10), BytesMut::new(), 0);
    loop {
        while let Some(frame) = Decoder::new(1 << 20).next(&mut input)? {
            answer(&frame, &mut seq, &mut out)?;
        }
        stream.write_all_buf(&mut out).await?;
        input.reserve(64 << 10);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

fn answer(frame: &Frame, seq: &mut u64, out: &mut BytesMut) -> Result<(), Failure> {
    let id = frame.request_id;
    match Kind::from_number(frame.kind) {
        Some(Kind::Hello) => {
            let limits = Limits { frame: 1 << 20, content: 64 << 10, window: 1024, page: 200 };
            let (time_ms, idle_ms) = (0, 60_000);
            let welcome = Welcome {
                version: 1,
                cluster: [0; 16],
                node: 1,
                epoch: 1,
                time_ms,
                idle_ms,
                limits,
                last_number: 0,
                deadline_ms: 10_000,
            };
            encode_frame(Kind::Welcome, id, &welcome, out);
        }
        Some(Kind::Sync) => {
            let page = SyncPage {
                sessions: vec![],
                unresolved: vec![],
                total: 0,
                next: Blob::default(),
                badge: None,
                left: vec![],
                mark: Blob::default(),
                full: true,
            };
            encode_frame(Kind::SyncPage, id, &page, out);
        }
        Some(Kind::Send) => {
            let request::Send { session, client_seq, .. } = decode::<Send>(&frame.body)?;
            if *seq == 0 {
                let joined = Joined { session: session.clone(), live_from: 1 };
                encode_frame(Kind::Joined, 0, &joined, out);
            }
            *seq += 1;
            let ack = Ack { session, client_seq, seq: *seq, message_id: *seq, time_ms: 1, count: *seq };
            encode_frame(Kind::Ack, id, &ack, out);
        }
        Some(Kind::Ping) => encode_frame(Kind::Pong, id, &(), out),
        _ => {}
    }
    Ok(())
}
