//! From commands to an entry that is durable here and on its way to the others.

use std::hint::black_box;

use anyhow::{Context, ensure};
use bytes::Bytes;
use rookery::state::Entry;
use rookery_raft::probe::LogProbe;
use rookery_raft::{Envelope, Store, StoreOptions};
use tokio::runtime::Runtime;

use crate::Work;
use crate::message::{commands, entry};

/// Frames that are read one behind another: a link's reader has one buffer for all of them.
pub(crate) const FRAMES: usize = 16;
/// Entries after which the log is purged.
const KEEP: u64 = 1024;

struct Propose {
    commands: Vec<Bytes>,
}

pub(crate) fn propose() -> anyhow::Result<Box<dyn Work>> {
    Ok(Box::new(Propose { commands: commands(1)? }))
}

impl Work for Propose {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let capacity = self.commands.iter().map(|command| command.len() + 4).sum();
        let mut payload = Entry::begin(1_700_000_000_000, true, [7; 16], capacity);
        self.commands.iter().for_each(|command| Entry::push(&mut payload, command));
        ensure!(payload.len() == capacity + Entry::HEAD_BYTES, "{} bytes", payload.len());
        black_box(payload.freeze());
        Ok(())
    }
}

/// The fields end in the order in which they stand: the log, its store, then its folder.
struct Append {
    log: LogProbe,
    _store: Store,
    runtime: Runtime,
    payload: Bytes,
    next: u64,
    purged: u64,
    _folder: tempfile::TempDir,
}

pub(crate) fn append() -> anyhow::Result<Box<dyn Work>> {
    let folder = tempfile::TempDir::with_prefix("rookery-stages-")?;
    let store = Store::open(StoreOptions::new(folder.path()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut log = LogProbe::open(&store, 1)?;
    runtime.block_on(log.vote((1, 1, true)))?;
    let payload = entry(1)?;
    Ok(Box::new(Append { log, _store: store, runtime, payload, next: 1, purged: 0, _folder: folder }))
}

impl Work for Append {
    fn prepare(&mut self) -> anyhow::Result<()> {
        let last = self.next - 1;
        if last - self.purged >= KEEP {
            self.runtime.block_on(self.log.purge((1, last)))?;
            self.purged = last;
        }
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let (first, payload) = (self.next, self.payload.clone());
        let log = &mut self.log;
        self.runtime.block_on(async move { log.append(1, first, vec![payload]).await?.await })?;
        self.next += 1;
        Ok(())
    }
}

struct Seal {
    envelope: Envelope,
    payload: usize,
}

pub(crate) fn seal() -> anyhow::Result<Box<dyn Work>> {
    let payload = entry(1)?;
    let bytes = payload.len();
    Ok(Box::new(Seal { envelope: Envelope::new(1, 1, 2, vec![payload]), payload: bytes }))
}

impl Work for Seal {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let pieces = self.envelope.seal();
        ensure!(
            pieces.iter().map(Bytes::len).sum::<usize>() > self.payload,
            "a frame that lacks its payload"
        );
        black_box(pieces);
        Ok(())
    }
}

struct Open {
    frames: Vec<u8>,
}

pub(crate) fn open() -> anyhow::Result<Box<dyn Work>> {
    let payload = entry(1)?;
    let mut frames = Vec::new();
    for first in 0..FRAMES as u64 {
        let pieces = Envelope::new(1, 1, first + 2, vec![payload.clone()]).seal();
        pieces.iter().for_each(|piece| frames.extend_from_slice(piece));
    }
    Ok(Box::new(Open { frames }))
}

impl Work for Open {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let payloads = Envelope::open(&self.frames).context("frames that cannot be read")?;
        ensure!(payloads.len() == FRAMES, "{} frames", payloads.len());
        black_box(payloads);
        Ok(())
    }
}
