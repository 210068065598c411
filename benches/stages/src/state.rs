//! What every replica does with a committed entry, and later with what it left.

use std::hint::black_box;

use anyhow::{bail, ensure};
use bytes::Bytes;
use rookery::shard::effects::message_frame;
use rookery::state::{Answer, Command, Entry, RowWrites, Session};

use crate::Work;
use crate::message::{BATCH, LIMITS, at, command, entry, group, numbers};

/// Batches after which a session is begun anew, so that what it holds stays bounded.
const LIFE: u64 = 32;

struct Decoding {
    payload: Bytes,
}

pub(crate) fn decoding() -> anyhow::Result<Box<dyn Work>> {
    Ok(Box::new(Decoding { payload: entry(1)? }))
}

impl Work for Decoding {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let entry = Entry::decode(self.payload.clone())?;
        ensure!(entry.commands.len() == BATCH, "{} commands", entry.commands.len());
        black_box(entry);
        Ok(())
    }
}

/// A session and the batches that it has applied.
struct Living {
    session: Session,
    applied: u64,
    prepared: u64,
    commands: Vec<Command>,
}

impl Living {
    fn begin() -> anyhow::Result<Self> {
        Ok(Self { session: group()?, applied: 0, prepared: 0, commands: Vec::new() })
    }

    /// The commands of the next batch.
    fn make(&mut self) -> anyhow::Result<()> {
        let first = self.applied * BATCH as u64 + 1;
        self.commands = numbers(first).map(command).collect::<anyhow::Result<_>>()?;
        self.prepared += 1;
        Ok(())
    }

    fn apply(&mut self) -> anyhow::Result<()> {
        let index = self.applied + 2;
        for (position, command) in self.commands.iter().enumerate() {
            let Command::Act { actor, client_seq, act, .. } = command else { bail!("another command") };
            let outcome = self.session.apply(&at(index, position), &LIMITS, actor, *client_seq, act);
            match &outcome.answer {
                Some(Answer::Ack(_)) => {}
                other => bail!("number {client_seq} was not stored: {other:?}"),
            }
            black_box(outcome);
        }
        self.applied += 1;
        Ok(())
    }
}

struct Apply(Living);

pub(crate) fn apply() -> anyhow::Result<Box<dyn Work>> {
    Ok(Box::new(Apply(Living::begin()?)))
}

impl Work for Apply {
    fn prepare(&mut self) -> anyhow::Result<()> {
        if self.0.prepared >= LIFE {
            self.0 = Living::begin()?;
        }
        self.0.make()
    }

    fn round(&mut self) -> anyhow::Result<()> {
        self.0.apply()
    }
}

/// A session with one batch in it.
fn with_a_batch() -> anyhow::Result<Session> {
    let mut living = Living::begin()?;
    living.make()?;
    living.apply()?;
    Ok(living.session)
}

struct Frames {
    session: Session,
}

pub(crate) fn encode() -> anyhow::Result<Box<dyn Work>> {
    Ok(Box::new(Frames { session: with_a_batch()? }))
}

impl Work for Frames {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        // Seq 1 is the group's creation.
        for seq in numbers(2) {
            let Some(record) = self.session.record(seq) else { bail!("there is no record {seq}") };
            black_box(message_frame(self.session.id(), record));
        }
        Ok(())
    }
}

struct Collect {
    session: Option<Session>,
}

pub(crate) fn collect() -> anyhow::Result<Box<dyn Work>> {
    Ok(Box::new(Collect { session: None }))
}

impl Work for Collect {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.session = Some(with_a_batch()?);
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let Some(session) = self.session.as_mut() else { bail!("nothing was prepared") };
        let rows = session.collect();
        // The group's creation is a record too.
        ensure!(rows.unsealed() == BATCH + 1, "{} records", rows.unsealed());
        black_box(rows);
        Ok(())
    }
}

struct Sealing {
    rows: RowWrites,
}

pub(crate) fn seal() -> anyhow::Result<Box<dyn Work>> {
    Ok(Box::new(Sealing { rows: RowWrites::default() }))
}

impl Work for Sealing {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.rows = with_a_batch()?.collect();
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        ensure!(self.rows.unsealed() == BATCH + 1, "nothing was prepared");
        self.rows.seal()?;
        ensure!(self.rows.unsealed() == 0, "records are left");
        black_box(&self.rows);
        Ok(())
    }
}
