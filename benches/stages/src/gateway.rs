//! What the node does to which the sender is connected: from frames to commands, and the answer back.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use bytes::{Bytes, BytesMut};
use rookery::config::Limits;
use rookery::gateway::check;
use rookery::router::lane::LaneState;
use rookery::router::{LaneLimits, Order, Request, Waiter};
use rookery::shard::Answer;
use rookery::state::Actor;
use rookery_wire::reply::Ack;
use rookery_wire::request::Send;
use rookery_wire::{Decoder, Kind, SessionId, decode as decode_body, encode_frame};
use tokio::time::Instant;

use crate::Work;
use crate::message::{BATCH, actor, commands, numbers, send, session};

/// Shards of a cluster, unless it is told otherwise.
const SHARDS: u32 = 16;

struct Decode {
    decoder: Decoder,
    template: BytesMut,
    buffer: BytesMut,
}

pub(crate) fn decode() -> anyhow::Result<Box<dyn Work>> {
    let mut template = BytesMut::new();
    for number in numbers(1) {
        encode_frame(Kind::Send, number as u32, &send(number)?, &mut template);
    }
    let decoder = Decoder::new(rookery_wire::DEFAULT_MAX_FRAME);
    Ok(Box::new(Decode { decoder, template, buffer: BytesMut::new() }))
}

impl Work for Decode {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.buffer = BytesMut::from(&self.template[..]);
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let mut count = 0;
        while let Some(frame) = self.decoder.next(&mut self.buffer)? {
            let send: Send = decode_body(&frame.body)?;
            black_box(send);
            count += 1;
        }
        ensure!(count == BATCH, "{count} frames");
        Ok(())
    }
}

struct Check {
    actor: Actor,
    limits: Limits,
    sends: Vec<Send>,
}

pub(crate) fn command() -> anyhow::Result<Box<dyn Work>> {
    Ok(Box::new(Check { actor: actor()?, limits: Limits::default(), sends: Vec::new() }))
}

impl Work for Check {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.sends = numbers(1).map(send).collect::<anyhow::Result<_>>()?;
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        ensure!(self.sends.len() == BATCH, "nothing was prepared");
        for send in self.sends.drain(..) {
            let command = check::send(self.actor.clone(), send, &self.limits)
                .map_err(|refusal| anyhow!("{refusal}"))?;
            black_box(command.entity().shard(SHARDS));
            black_box(command.encode());
        }
        Ok(())
    }
}

/// Waits for nothing.
struct Nobody;

impl Waiter for Nobody {
    fn complete(&self, _answers: Vec<(u64, Answer)>) {}
}

struct Lane {
    lane: LaneState,
    waiter: Arc<dyn Waiter>,
    commands: Vec<Bytes>,
    requests: Vec<Request>,
    next: u64,
}

pub(crate) fn route() -> anyhow::Result<Box<dyn Work>> {
    let limits = LaneLimits { requests: 8192, bytes: 64 << 20, deadline: Duration::from_secs(15) };
    Ok(Box::new(Lane {
        lane: LaneState::new(limits, 1 << 40, Instant::now()),
        waiter: Arc::new(Nobody),
        commands: commands(1)?,
        requests: Vec::new(),
        next: 1,
    }))
}

impl Work for Lane {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.requests.clear();
        for (at, command) in self.commands.iter().enumerate() {
            let number = self.next + at as u64;
            self.requests.push(Request {
                command: command.clone(),
                order: Some(Order { sender: 7, number }),
                waiter: self.waiter.clone(),
                ticket: number,
                carried: false,
            });
        }
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        for request in self.requests.drain(..) {
            if let Err((request, answer)) = self.lane.admit(request, now) {
                return Err(anyhow!("request {} was turned away: {answer:?}", request.ticket));
            }
        }
        let batch = self.lane.batch(now, usize::MAX, usize::MAX);
        let answers = batch.iter().map(|(number, _)| (*number, Answer::Done)).collect();
        let judged = self.lane.answers(answers, now);
        ensure!(judged.settled.len() == BATCH, "{} of {BATCH} are settled", judged.settled.len());
        self.next += BATCH as u64;
        black_box(judged.settled);
        Ok(())
    }
}

struct Acks {
    session: SessionId,
    out: BytesMut,
}

pub(crate) fn answer() -> anyhow::Result<Box<dyn Work>> {
    Ok(Box::new(Acks { session: session()?, out: BytesMut::new() }))
}

impl Work for Acks {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.out = BytesMut::with_capacity(BATCH * 128);
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        for number in numbers(1) {
            let ack = Ack {
                session: self.session.clone(),
                client_seq: number,
                seq: number + 1,
                message_id: number << 16,
                time_ms: 1_700_000_000_000,
                count: number,
            };
            encode_frame(Kind::Ack, number as u32, &ack, &mut self.out);
        }
        ensure!(!self.out.is_empty(), "no frame was made");
        black_box(&self.out);
        Ok(())
    }
}
