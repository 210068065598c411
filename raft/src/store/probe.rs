//! A group's log in plain terms, for tests of the store that live outside the crate.
//!
//! `src/` never sees a log: it speaks to groups. The crash, damage and power-cut tests must write logs without a group
//! around them, and without naming openraft; so must the measuring of the log alone (benches/stages). Owns nothing; hidden
//! from the documentation; not for anybody else.

use std::future::Future;
use std::io;

use bytes::Bytes;
use openraft::async_runtime::AsyncRuntime;
use openraft::async_runtime::Oneshot;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};

use crate::machine::Mark;
use crate::types::{Entry, EntryPayload, GroupId, LeaderId, LogId, Payload, RaftId, TypeConfig, Vote};

use super::Store;
use super::error::StoreError;
use super::group_log::GroupLog;

/// (term, node) of a vote, and whether it is committed.
pub type ProbeVote = (u64, u16, bool);
/// (term, index) of an entry.
pub type ProbeId = (u64, u64);
/// (term, index, payload) of an entry; a blank one has no payload.
pub type ProbeEntry = (u64, u64, Option<Bytes>);

/// Everything a group's log promises, apart from its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeState {
    /// The saved vote.
    pub vote: Option<ProbeVote>,
    /// The purge point.
    pub purged: Option<ProbeId>,
    /// The last entry or the purge point.
    pub last: Option<ProbeId>,
}

/// One group's log.
#[derive(Debug)]
pub struct LogProbe(GroupLog);

fn leader(term: u64, node: u16) -> LeaderId {
    LeaderId { term, node_id: RaftId::new(node, 7) }
}

fn id((term, index): ProbeId) -> LogId {
    LogId { leader_id: leader(term, 1), index }
}

/// A mark at this entry, without members.
pub fn mark(at: ProbeId) -> Mark {
    Mark::new(id(at), Default::default())
}

fn plain(id: LogId) -> ProbeId {
    (id.leader_id.term, id.index)
}

impl LogProbe {
    /// The log of `group`. One at a time.
    pub fn open(store: &Store, group: GroupId) -> Result<Self, StoreError> {
        Ok(Self(store.group_log(group)?))
    }

    /// Appends `payloads` of `term` from `first` on. Readable when it resolves; durable when what it returns resolves.
    pub async fn append(
        &mut self,
        term: u64,
        first: u64,
        payloads: Vec<Bytes>,
    ) -> io::Result<impl Future<Output = io::Result<()>> + Send + use<>> {
        let entries = payloads.into_iter().zip(first..).map(|(payload, index)| Entry {
            log_id: id((term, index)),
            payload: EntryPayload::Normal(Payload(payload)),
        });
        let entries: Vec<_> = entries.collect();
        type Runtime = <TypeConfig as openraft::RaftTypeConfig>::AsyncRuntime;
        let (flushed, durable) = <<Runtime as AsyncRuntime>::Oneshot as Oneshot>::channel();
        self.0.append(entries, IOFlushed::signal(flushed)).await?;
        Ok(async move { durable.await.unwrap_or_else(|_| Err(io::Error::other("never told"))) })
    }

    /// Saves a vote, durably.
    pub async fn vote(&mut self, (term, node, committed): ProbeVote) -> io::Result<()> {
        self.0.save_vote(&Vote { leader_id: leader(term, node), committed }).await
    }

    /// Cuts the log behind `after`, durably.
    pub async fn truncate_after(&mut self, after: Option<ProbeId>) -> io::Result<()> {
        self.0.truncate_after(after.map(id)).await
    }

    /// Purges up to and including `upto`, durably.
    pub async fn purge(&mut self, upto: ProbeId) -> io::Result<()> {
        self.0.purge(id(upto)).await
    }

    /// Notes the commit point, not durably.
    pub async fn commit(&mut self, at: ProbeId) -> io::Result<()> {
        self.0.save_committed(Some(id(at))).await
    }

    /// The commit point last noted.
    pub async fn committed(&mut self) -> io::Result<Option<ProbeId>> {
        Ok(self.0.read_committed().await?.map(plain))
    }

    /// The commit point as it was noted, be there such an entry or not.
    pub fn noted(&self) -> Option<ProbeId> {
        self.0.noted().map(plain)
    }

    /// Vote, purge point, last id.
    pub async fn state(&mut self) -> io::Result<ProbeState> {
        let ids = self.0.get_log_state().await?;
        let vote = self.0.read_vote().await?;
        Ok(ProbeState {
            vote: vote.map(|v| (v.leader_id.term, v.leader_id.node_id.node, v.committed)),
            purged: ids.last_purged_log_id.map(plain),
            last: ids.last_log_id.map(plain),
        })
    }

    /// All entries of `from..to`.
    pub async fn read(&mut self, from: u64, to: u64) -> io::Result<Vec<ProbeEntry>> {
        Ok(self.0.try_get_log_entries(from..to).await?.into_iter().map(plain_entry).collect())
    }

    /// The first entries of `from..to`, about 1 MiB.
    pub async fn read_some(&mut self, from: u64, to: u64) -> io::Result<Vec<ProbeEntry>> {
        Ok(self.0.limited_get_log_entries(from, to).await?.into_iter().map(plain_entry).collect())
    }

    /// All entries of `from..to`, through the stream that applying uses.
    pub async fn stream(&mut self, from: u64, to: u64) -> io::Result<Vec<ProbeEntry>> {
        let stream = self.0.entries_stream(from..to).await;
        let entries: Vec<Entry> = futures::TryStreamExt::try_collect(stream).await?;
        Ok(entries.into_iter().map(plain_entry).collect())
    }
}

fn plain_entry(entry: Entry) -> ProbeEntry {
    let (term, index) = plain(entry.log_id);
    let payload = match entry.payload {
        EntryPayload::Normal(payload) => Some(payload.0),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    };
    (term, index, payload)
}
