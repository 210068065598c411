//! One log per session, read from the replicas' dumps (rule 1), with the look-ups that the other rules share.

use std::collections::{BTreeMap, HashMap};

use rookery_wire::RecordKind;

use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{
    Act, DeviceIx, Dump, Entry, History, NEVER, Outcome, Print, Send, SessionIx, UserIx,
};

/// What names a numbered request.
pub(super) type Key = (SessionIx, DeviceIx, u32, u64);

/// A stretch of membership by seq: from the record that brought the user in, to the one that took him out (both
/// included); `u64::MAX` while it lasts.
pub(super) type Span = (u64, u64);

/// The log all replicas of one session agree on (or the longest, when they do not).
#[derive(Default)]
pub(super) struct Log<'a> {
    pub(super) entries: &'a [Entry],
    pub(super) spans: BTreeMap<UserIx, Vec<Span>>,
    /// Seqs of the countable messages each user sent, ascending.
    sent: BTreeMap<UserIx, Vec<u64>>,
    /// Countable messages up to each seq, recounted by kind and not taken from the records' own counts.
    counts: Vec<u64>,
}

impl Log<'_> {
    /// Last seq.
    pub(super) fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The record at a seq.
    pub(super) fn at(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(seq).ok()?.checked_sub(1)?)
    }

    /// Hash of the record at a seq.
    pub(super) fn print(&self, seq: u64) -> Option<Print> {
        self.at(seq).map(|entry| entry.print)
    }

    /// Countable messages up to a seq, recounted.
    pub(super) fn count(&self, seq: u64) -> u64 {
        let upto = usize::try_from(seq).unwrap_or(usize::MAX).min(self.counts.len());
        upto.checked_sub(1).and_then(|at| self.counts.get(at)).copied().unwrap_or(0)
    }

    /// Seq of the user's last message at or before `seq`; 0 for none.
    pub(super) fn own_last(&self, user: UserIx, seq: u64) -> u64 {
        let Some(sent) = self.sent.get(&user) else { return 0 };
        let upto = sent.partition_point(|at| *at <= seq);
        upto.checked_sub(1).and_then(|at| sent.get(at)).copied().unwrap_or(0)
    }

    /// The stretch of membership that covers a seq.
    pub(super) fn span_at(&self, user: UserIx, seq: u64) -> Option<Span> {
        self.spans.get(&user)?.iter().copied().find(|(from, to)| *from <= seq && seq <= *to)
    }

    /// Members right after the record at `seq`.
    pub(super) fn members_at(&self, seq: u64) -> u64 {
        let inside = |spans: &&Vec<Span>| spans.iter().any(|(from, to)| *from <= seq && seq < *to);
        self.spans.values().filter(inside).count() as u64
    }
}

/// The history with its logs and the index of its requests.
pub(super) struct Book<'a> {
    pub(super) history: &'a History,
    pub(super) logs: Vec<Log<'a>>,
    pub(super) sends: HashMap<Key, &'a Send>,
    /// The sends of one device in one session, as recorded.
    pub(super) by_device: HashMap<(SessionIx, DeviceIx), Vec<&'a Send>>,
    /// When a session was first asked for anything: it may stand in lists from then on.
    pub(super) first_asked: HashMap<SessionIx, u64>,
}

impl<'a> Book<'a> {
    /// Reads the dumps and holds them against each other (rule 1).
    pub(super) fn open(history: &'a History, verdict: &mut Verdict) -> Self {
        let mut dumps: BTreeMap<SessionIx, Vec<&'a Dump>> = BTreeMap::new();
        for dump in &history.dumps {
            dumps.entry(dump.session).or_default().push(dump);
        }
        let mut logs: Vec<Log<'a>> = history.names.sessions.iter().map(|_| Log::default()).collect();
        for (session, dumps) in &dumps {
            let Some(best) = dumps.iter().max_by_key(|dump| dump.entries.len()) else { continue };
            for dump in dumps {
                compare(history, best, dump, verdict);
            }
            sequence(history, best, verdict);
            if let Some(log) = logs.get_mut(session.0 as usize) {
                *log = read_log(history, best);
            }
        }
        for (node, session, why) in &history.unread {
            let text = history.session_text(*session);
            verdict.inconclusive.push(format!("{text} was not read on node {node}: {why}"));
        }
        let mut sends = HashMap::with_capacity(history.sends.len());
        let mut by_device: HashMap<_, Vec<&'a Send>> = HashMap::new();
        let mut first_asked: HashMap<SessionIx, u64> = HashMap::new();
        for send in &history.sends {
            let first = first_asked.entry(send.session).or_insert(send.invoke);
            *first = send.invoke.min(*first);
            by_device.entry((send.session, send.device)).or_default().push(send);
            let key = (send.session, send.device, send.epoch, send.client_seq);
            if sends.insert(key, send).is_some() {
                verdict.inconclusive.push(format!("recorder: {} used twice", told(history, key)));
            }
        }
        let book = Self { history, logs, sends, by_device, first_asked };
        book.count_replicas(&dumps, verdict);
        book
    }

    fn count_replicas(&self, dumps: &BTreeMap<SessionIx, Vec<&Dump>>, verdict: &mut Verdict) {
        for at in 0..self.history.names.sessions.len() as u32 {
            let session = SessionIx(at);
            let found = dumps.get(&session).map_or(0, Vec::len);
            if found < self.history.setup.replication as usize {
                let (name, want) = (self.history.session_text(session), self.history.setup.replication);
                verdict.inconclusive.push(format!("{name}: {found} of {want} replicas were read"));
            }
        }
    }

    /// The log of a session.
    pub(super) fn log(&self, session: SessionIx) -> Option<&Log<'a>> {
        self.logs.get(session.0 as usize)
    }

    /// The send an entry stems from.
    pub(super) fn send_of(&self, session: SessionIx, entry: &Entry) -> Option<&'a Send> {
        self.sends.get(&(session, entry.device?, entry.epoch, entry.client_seq)).copied()
    }

    /// From when to when an entry may have come to be: its send's first attempt and its first ack.
    pub(super) fn window(&self, session: SessionIx, entry: &Entry) -> Option<(u64, u64)> {
        let send = self.send_of(session, entry)?;
        let acked = matches!(send.outcome, Outcome::Acked { .. });
        Some((send.invoke, if acked { send.done } else { NEVER }))
    }
}

/// A request for people.
pub(super) fn told(history: &History, (session, device, epoch, client_seq): Key) -> String {
    let (session, device) = (history.session_text(session), history.device_text(device));
    format!("{session}: send #{client_seq} of {device} (epoch {epoch})")
}

fn compare(history: &History, best: &Dump, dump: &Dump, verdict: &mut Verdict) {
    if best.node == dump.node && std::ptr::eq(best, dump) {
        return;
    }
    let name = history.session_text(dump.session);
    let pairs = best.entries.iter().zip(&dump.entries);
    if let Some((a, b)) = pairs.into_iter().find(|(a, b)| a.print != b.print) {
        let moved = dump.entries.iter().any(|entry| entry.message_id == a.message_id && entry.seq != a.seq);
        let harm = if moved { Harm::Reordered } else { Harm::Wrong };
        verdict.add(Rule::Replicas, harm, || {
            format!(
                "{name} seq {}: node {} and node {} hold different records (ids {:x} and {:x})",
                a.seq, best.node, dump.node, a.message_id, b.message_id
            )
        });
    }
    if dump.entries.len() < best.entries.len() {
        verdict.add(Rule::Replicas, Harm::Lost, || {
            let (ours, theirs) = (dump.entries.len(), best.entries.len());
            format!("{name}: node {} has {ours} records, node {} has {theirs}", dump.node, best.node)
        });
    }
}

/// Seqs are 1..n, ids and times and counts as the protocol promises.
fn sequence(history: &History, dump: &Dump, verdict: &mut Verdict) {
    let name = || history.session_text(dump.session);
    let (mut time, mut count) = (0, 0);
    for (at, entry) in dump.entries.iter().enumerate() {
        let want = at as u64 + 1;
        if entry.seq != want {
            let harm = if entry.seq > want { Harm::Lost } else { Harm::Reordered };
            verdict.add(Rule::Replicas, harm, || {
                format!("{} on node {}: seq {} stands at place {want}", name(), dump.node, entry.seq)
            });
            return;
        }
        if entry.time_ms < time {
            verdict.add(Rule::Replicas, Harm::Wrong, || {
                format!("{} seq {want}: time goes back from {time} to {} ms", name(), entry.time_ms)
            });
        }
        time = entry.time_ms;
        count += u64::from(RecordKind(entry.kind).is_countable());
        if entry.count != count {
            verdict.add(Rule::Replicas, Harm::Wrong, || {
                format!("{} seq {want}: count is {} and should be {count}", name(), entry.count)
            });
            count = entry.count;
        }
    }
}

fn read_log<'a>(history: &History, dump: &'a Dump) -> Log<'a> {
    let mut log = Log { entries: &dump.entries, ..Log::default() };
    for user in history.pair_of(dump.session).into_iter().flatten() {
        log.spans.insert(user, vec![(1, u64::MAX)]);
    }
    let mut count = 0;
    for entry in &dump.entries {
        count += u64::from(RecordKind(entry.kind).is_countable());
        log.counts.push(count);
        match RecordKind(entry.kind) {
            RecordKind::CREATED => {
                let all = entry.sender.into_iter().chain(entry.users.iter().copied());
                all.for_each(|user| enter(&mut log, user, entry.seq));
            }
            RecordKind::MEMBERS_ADDED => {
                entry.users.iter().for_each(|user| enter(&mut log, *user, entry.seq));
            }
            RecordKind::MEMBERS_REMOVED => {
                entry.users.iter().for_each(|user| leave(&mut log, *user, entry.seq));
            }
            _ => {}
        }
        if let Some(user) = entry.sender.filter(|_| RecordKind(entry.kind).is_countable()) {
            log.sent.entry(user).or_default().push(entry.seq);
        }
    }
    log
}

fn enter(log: &mut Log<'_>, user: UserIx, seq: u64) {
    let spans = log.spans.entry(user).or_default();
    if spans.last().is_none_or(|(_, to)| *to != u64::MAX) {
        spans.push((seq, u64::MAX));
    }
}

fn leave(log: &mut Log<'_>, user: UserIx, seq: u64) {
    let open = log.spans.get_mut(&user).and_then(|spans| spans.last_mut());
    if let Some((_, to)) = open
        && *to == u64::MAX
    {
        *to = seq;
    }
}

/// The kind of record a request asks for.
pub(super) fn kind_of(act: &Act) -> RecordKind {
    match act {
        Act::Content => RecordKind::CONTENT,
        Act::Create(_) => RecordKind::CREATED,
        Act::Add(_) => RecordKind::MEMBERS_ADDED,
        Act::Remove(_) => RecordKind::MEMBERS_REMOVED,
    }
}
