//! The journal's writer thread: group commit for all groups of the node.
//!
//! Takes whatever waits, encodes it into one batch, has the journal write and sync it once, tells everybody, and hands
//! the batch to the keeper. While it syncs, the next batch gathers; there is no timer. Owns the metas as of the last
//! durable batch. Must never tell anybody before the sync, and never go on after one that failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::plant::planted;
use crate::types::GroupId;

use super::BATCH_TARGET;
use super::backlog::{Backlog, Batch};
use super::fault::{FaultPolicy, Step, StepHook};
use super::journal::format::Draft;
use super::journal::{Journal, JournalStop};
use super::meta::{GroupMeta, Metas, chain};
use super::queue::{Done, Op, Queue, Work};
use super::record::{self, Kind, Record};
use super::tail::Group;

/// The writer's state, moved onto its thread.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) queue: Arc<Queue>,
    pub(crate) journal: Journal,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) body_max: usize,
    /// As of the last durable batch.
    pub(crate) durable: Metas,
    pub(crate) policy: FaultPolicy,
    pub(crate) steps: StepHook,
    pub(crate) draft: Draft,
    /// As of the draft, for the groups it touches.
    pub(crate) running: Metas,
    pub(crate) dones: Vec<Op>,
    pub(crate) touched: BTreeMap<GroupId, (Arc<Group>, u64)>,
    /// Whether the draft holds a truncation.
    pub(crate) truncates: bool,
}

impl Writer {
    /// Runs until the queue is closed and empty, or a fault.
    pub(crate) fn run(mut self) {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work()));
        let reason = match ended {
            Ok(Ok(()) | Err(JournalStop::Stopped)) => {
                self.backlog.close();
                return;
            }
            Ok(Err(JournalStop::Failed(e))) => format!("writing the journal failed: {e}"),
            Err(_panic) => "the journal's writer panicked".to_owned(),
        };
        self.policy.fault(&reason);
        self.queue.abandon();
        self.backlog.abandon();
    }

    fn work(&mut self) -> Result<(), JournalStop> {
        let mut ops = Vec::new();
        while self.queue.take(&mut ops) {
            // One allocation of about the right size: what is sealed stays in memory until it is settled.
            self.draft = Draft::new(ops.iter().map(Op::bytes).sum::<usize>().min(BATCH_TARGET));
            for op in ops.drain(..) {
                self.encode(op)?;
            }
            self.commit()?;
        }
        Ok(())
    }

    fn encode(&mut self, mut op: Op) -> Result<(), JournalStop> {
        let group = op.group.clone();
        let group = &group;
        if let Some(committed) = op.committed {
            self.small(group, |out| record::push_point(out, Kind::Committed, group.id, Some(committed)))?;
        }
        match std::mem::replace(&mut op.work, Work::Note) {
            Work::Note => {}
            Work::Vote(vote) => self.small(group, |out| record::push_vote(out, group.id, &vote))?,
            Work::Truncate(after) => {
                self.small(group, |out| record::push_point(out, Kind::Truncate, group.id, after))?;
                // Of the draft that it is in now: there may have been no room in the one before.
                self.truncates = true;
            }
            Work::Purge(upto) => {
                self.small(group, |out| record::push_point(out, Kind::Purge, group.id, Some(upto)))?;
            }
            Work::Append(entries) => {
                for entry in &entries {
                    let size = record::entry_size(entry);
                    let before = self.meta(group.id).chain;
                    self.push(size, group, |out| {
                        record::push_entry(out, group.id, entry, |crc| chain(before, crc)).map(drop)
                    })?;
                }
            }
        }
        let covered = &mut self.touched.entry(group.id).or_insert_with(|| (group.clone(), 0)).1;
        *covered = op.number.max(*covered);
        self.dones.push(op);
        Ok(())
    }

    fn small(
        &mut self,
        group: &Group,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), &'static str>,
    ) -> Result<(), JournalStop> {
        self.push(record::HEAD, group, write)
    }

    /// Adds one record to the draft, committing first what it has no room for.
    fn push(
        &mut self,
        size: usize,
        group: &Group,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), &'static str>,
    ) -> Result<(), JournalStop> {
        let full = self.draft.body() + size > self.body_max || self.draft.body() >= BATCH_TARGET;
        if full && !self.draft.is_empty() {
            self.commit()?;
        }
        let start = self.draft.bytes.len();
        let impossible = |why: &str| JournalStop::Failed(std::io::Error::other(why.to_owned()));
        write(&mut self.draft.bytes).map_err(impossible)?;
        self.draft.records += 1;
        let meta = match self.running.entry(group.id) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(self.durable.get(&group.id).cloned().unwrap_or_default())
            }
        };
        let folded = Record::iter_trusted(&self.draft.bytes[start..]).try_for_each(|r| meta.fold(&r));
        folded.map_err(impossible)
    }

    fn meta(&self, group: GroupId) -> GroupMeta {
        self.running.get(&group).or_else(|| self.durable.get(&group)).cloned().unwrap_or_default()
    }

    fn commit(&mut self) -> Result<(), JournalStop> {
        if self.draft.is_empty() {
            self.tell();
            return Ok(());
        }
        if planted("ack-before-write") {
            self.tell();
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let draft = std::mem::replace(&mut self.draft, Draft::new(0));
        let sealed = self.journal.commit(draft, &self.durable)?;
        let metas = self.running.iter().map(|(id, meta)| (*id, meta.clone())).collect();
        self.durable.append(&mut self.running);
        self.backlog.durable(sealed.head.number);
        self.tell();
        self.steps.at(Step::Told);
        let batch = Batch {
            number: sealed.head.number,
            length: sealed.bytes.len(),
            metas,
            ended: std::mem::take(&mut self.touched).into_values().collect(),
            truncates: std::mem::take(&mut self.truncates),
            sealed: Some(Arc::new(sealed)),
        };
        if !self.backlog.push(batch) {
            return Err(JournalStop::Stopped);
        }
        Ok(())
    }

    fn tell(&mut self) {
        for op in self.dones.drain(..) {
            std::mem::replace(&mut { op }.done, Done::Nobody).tell();
        }
    }
}
