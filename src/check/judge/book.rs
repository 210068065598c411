//! One log per session, read from the replicas' dumps (rule 1), with the look-ups that the other rules share.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use rookery_wire::{RecordKind, Rewritten};

use super::expiry;
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{
    Act, DeviceIx, Dump, Entry, History, Keyed, Micros, NEVER, Outcome, Print, Send, SessionIx, UserIx,
};
use crate::check::print::{Parts, content_hash, mark_hash};

/// What names a numbered request.
pub(super) type Key = (SessionIx, DeviceIx, u32, u64);

/// A stretch of membership by seq: from the record that brought the user in, to the one that took him out (both
/// included); `u64::MAX` while it lasts.
pub(super) type Span = (u64, u64);

/// What became of a message when it was edited or recalled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    /// The signal that made it so.
    pub(super) from: u64,
    /// The kind it has since.
    pub(super) kind: RecordKind,
    /// Its hash since.
    pub(super) print: Print,
}

/// A message that lasts for a time only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lasting {
    /// It has not gone before this.
    pub(super) early: Micros,
    /// It goes by itself at this time at the latest, give or take what the judge allows.
    pub(super) due: Micros,
    /// Its hash since it has gone.
    pub(super) print: Print,
}

/// The log all replicas of one session agree on (or the longest, when they do not).
#[derive(Default)]
pub(super) struct Log<'a> {
    pub(super) entries: Cow<'a, [Entry]>,
    /// The first seq that is kept; what stands before it was read before it was trimmed.
    pub(super) first: u64,
    /// How many records it keeps, and when that was asked for first; none keeps all.
    pub(super) keep: Option<(u64, Micros)>,
    /// From when to when a fault held things up.
    pub(super) faults: Vec<(Micros, Micros)>,
    /// Messages that last for a time only, and were not recalled.
    pub(super) lasting: BTreeMap<u64, Lasting>,
    /// Those that were, with the seq of the recall. Where the entry by which one goes is late, it is shown as gone before, and the
    /// recall may still come.
    pub(super) overdue: BTreeMap<u64, (Lasting, u64)>,
    pub(super) spans: BTreeMap<UserIx, Vec<Span>>,
    /// Seqs of the countable messages each user sent, ascending.
    sent: BTreeMap<UserIx, Vec<u64>>,
    /// Countable messages up to each seq, recounted by kind and not taken from the records' own counts.
    counts: Vec<u64>,
    /// The hash of each record as it was stored first.
    firsts: Vec<Print>,
    /// What became of those that were edited or recalled, by seq, in the order of the signals.
    rewritten: BTreeMap<u64, Vec<Version>>,
    /// The first signal that recalls a message, by its seq.
    pub(super) recalls: BTreeMap<u64, u64>,
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

    /// Which version of the record at a seq has this hash: from which seq on it was so, and the signal that ended it
    /// (`u64::MAX` if it is the last). None if the record was never like that.
    pub(super) fn version(&self, seq: u64, print: Print) -> Option<(u64, u64)> {
        if self.lasting.get(&seq).is_some_and(|lasting| lasting.print == print) {
            return Some((seq, u64::MAX));
        }
        if let Some((_, recall)) = self.overdue.get(&seq).filter(|(lasting, _)| lasting.print == print) {
            return Some((seq, *recall));
        }
        let later = self.versions(seq);
        let first = std::iter::once((seq, self.first_print(seq)?));
        let prints = first.chain(later.iter().map(|later| (later.from, later.print)));
        let ends = later.iter().map(|later| later.from).chain([u64::MAX]);
        prints.zip(ends).find(|((_, of), _)| *of == print).map(|((from, _), until)| (from, until))
    }

    /// What became of the record at a seq, in order.
    pub(super) fn versions(&self, seq: u64) -> &[Version] {
        self.rewritten.get(&seq).map_or(&[][..], Vec::as_slice)
    }

    fn first_print(&self, seq: u64) -> Option<Print> {
        self.firsts.get(usize::try_from(seq).ok()?.checked_sub(1)?).copied()
    }

    /// Countable messages after `floor` that signals up to `seq` have taken back.
    pub(super) fn recalled(&self, floor: u64, seq: u64) -> u64 {
        if seq <= floor {
            return 0;
        }
        let targets = self.recalls.range(floor + 1..=seq);
        targets.filter(|(_, signal)| **signal <= seq).count() as u64
    }

    /// Countable messages after `floor` and up to `seq` that went by themselves: how many surely had by `invoke`, and how many
    /// may have by `done`.
    pub(super) fn expired(&self, (floor, seq): (u64, u64), (invoke, done): (Micros, Micros)) -> (u64, u64) {
        if seq <= floor {
            return (0, 0);
        }
        let within = || self.lasting.range(floor + 1..=seq).map(|(_, lasting)| lasting);
        let surely = within().filter(|lasting| lasting.gone_by(self, invoke)).count() as u64;
        (surely, within().filter(|lasting| lasting.early <= done).count() as u64)
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
    /// What came under request keys, by what it says.
    keyed: HashMap<(SessionIx, u64), &'a Keyed>,
    /// The sends of one device in one session, as recorded.
    pub(super) by_device: HashMap<(SessionIx, DeviceIx), Vec<&'a Send>>,
    /// Sessions of which something was trimmed that nobody had read.
    pub(super) holes: BTreeSet<SessionIx>,
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
        let logs: Vec<Log<'a>> = history.names.sessions.iter().map(|_| Log::default()).collect();
        let keyed = history.keyed.iter().map(|act| ((act.session, act.hash), act)).collect();
        let mut book = Self { history, logs, sends, keyed, by_device, holes: BTreeSet::new(), first_asked };
        for (session, dumps) in &dumps {
            let longest = |dump: &&&Dump| (last_of(dump), dump.entries.len());
            let Some(best) = dumps.iter().max_by_key(longest) else { continue };
            for dump in dumps {
                compare(history, best, dump, verdict);
            }
            let Some(entries) = whole(history, best) else {
                let name = history.session_text(*session);
                verdict.inconclusive.push(format!("recorder: {name} was trimmed before it was read"));
                book.holes.insert(*session);
                continue;
            };
            sequence(history, best.session, &entries, verdict);
            let first = first_of(best);
            let log = book.read_log(*session, entries, first);
            if let Some(place) = book.logs.get_mut(session.0 as usize) {
                *place = log;
            }
        }
        for (node, session, why) in &history.unread {
            let text = history.session_text(*session);
            verdict.inconclusive.push(format!("{text} was not read on node {node}: {why}"));
        }
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

    fn read_log(&self, session: SessionIx, entries: Cow<'a, [Entry]>, first: u64) -> Log<'a> {
        let mut log = read_members(self.history, session, &entries);
        let keeps = |send: &&&Send| matches!(send.act, Act::Keep(_)) && send.session == session;
        let keep = self.sends.values().filter(keeps).map(|send| (send.act.clone(), send.invoke)).next();
        if let Some((Act::Keep(count), at)) = keep {
            log.keep = Some((count, at));
        }
        for entry in entries.iter() {
            let kind = born_as(entry.kind);
            let send = self.send_of(session, entry).filter(|send| send.act == Act::Content);
            let said = send.filter(|_| kind == RecordKind::CONTENT);
            let hash = said.map_or(entry.hash, |send| send.hash);
            let first = Parts { stem: entry.stem, kind: kind.0, hash, mark: 0 };
            log.firsts.push(first.print());
            if let Some((target, version)) = self.rewriting(session, &entries, entry) {
                if version.kind == RecordKind::RECALLED {
                    log.recalls.entry(target).or_insert(version.from);
                }
                log.rewritten.entry(target).or_default().push(version);
            }
        }
        let moments = self.moments(session, &entries);
        for (entry, (begun, done)) in entries.iter().zip(moments) {
            let lasts = self.send_of(session, entry).map_or(0, |send| send.lasts_ms) * 1000;
            if lasts > 0 {
                let gone = RecordKind::EXPIRED.0;
                let print =
                    Parts { stem: entry.stem, kind: gone, hash: content_hash(b"", b"", &[]), mark: 0 };
                let early = (begun + lasts).saturating_sub(self.history.setup.clock);
                let due = done.saturating_add(lasts + self.history.setup.clock);
                let lasting = Lasting { early, due, print: print.print() };
                match log.recalls.get(&entry.seq) {
                    None => _ = log.lasting.insert(entry.seq, lasting),
                    Some(recall) => _ = log.overdue.insert(entry.seq, (lasting, *recall)),
                }
            }
        }
        (log.entries, log.first, log.faults) = (entries, first, expiry::faults(self.history));
        log
    }

    /// Between which instants each entry came to be: not before any request up to it was begun, and not after any from it
    /// on was answered.
    pub(super) fn moments(&self, session: SessionIx, entries: &[Entry]) -> Vec<(Micros, Micros)> {
        let windows = entries.iter().map(|entry| self.window(session, entry).unwrap_or((0, NEVER)));
        let mut moments: Vec<(Micros, Micros)> = windows.collect();
        let mut begun = 0;
        for (invoke, _) in &mut moments {
            begun = begun.max(*invoke);
            *invoke = begun;
        }
        let mut done = NEVER;
        for (_, answered) in moments.iter_mut().rev() {
            done = done.min(*answered);
            *answered = done;
        }
        moments
    }

    /// What a signal makes of the message it names.
    fn rewriting(&self, session: SessionIx, entries: &[Entry], signal: &Entry) -> Option<(u64, Version)> {
        let target = signal.target?;
        let of = entries.get(usize::try_from(target).ok()?.checked_sub(1)?)?;
        let (kind, hash) = match RecordKind(signal.kind) {
            RecordKind::RECALL => (RecordKind::RECALLED, content_hash(b"", b"", &[])),
            _ => (RecordKind::CONTENT, self.send_of(session, signal)?.hash),
        };
        let by = self.history.names.users.get(signal.sender?.0 as usize)?.clone();
        let mark = mark_hash(&Rewritten { by, time_ms: signal.time_ms, seq: signal.seq });
        let print = Parts { stem: of.stem, kind: kind.0, hash, mark }.print();
        Some((target, Version { from: signal.seq, kind, print }))
    }

    /// The log of a session.
    pub(super) fn log(&self, session: SessionIx) -> Option<&Log<'a>> {
        self.logs.get(session.0 as usize)
    }

    /// The send an entry stems from.
    pub(super) fn send_of(&self, session: SessionIx, entry: &Entry) -> Option<&'a Send> {
        self.sends.get(&(session, entry.device?, entry.epoch, entry.client_seq)).copied()
    }

    /// The act under a request key that an entry stems from.
    pub(super) fn keyed_of(&self, session: SessionIx, entry: &Entry) -> Option<&'a Keyed> {
        let without_number = entry.device.is_none() && (entry.epoch, entry.client_seq) == (0, 0);
        self.keyed.get(&(session, entry.hash)).copied().filter(|_| without_number)
    }

    /// From when to when an entry may have come to be: its send's first attempt and its first ack.
    pub(super) fn window(&self, session: SessionIx, entry: &Entry) -> Option<(u64, u64)> {
        if let Some(act) = self.keyed_of(session, entry) {
            let acked = act.asked.iter().filter(|asking| matches!(asking.outcome, Outcome::Acked { .. }));
            let done = acked.map(|asking| asking.done).min().unwrap_or(NEVER);
            return Some((act.asked.iter().map(|asking| asking.invoke).min()?, done));
        }
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
    // One may have let go of more than the other; judged with what is trimmed.
    let from = first_of(best).max(first_of(dump));
    let of =
        |dump: &'_ Dump| dump.entries.iter().filter(|entry| entry.seq >= from).cloned().collect::<Vec<_>>();
    let (ours, theirs) = (of(best), of(dump));
    let pairs = ours.iter().zip(&theirs);
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
    if theirs.len() < ours.len() {
        verdict.add(Rule::Replicas, Harm::Lost, || {
            let (ours, theirs) = (theirs.len(), ours.len());
            format!("{name}: node {} has {ours} records, node {} has {theirs}", dump.node, best.node)
        });
    }
}

/// Seqs are 1..n, ids and times and counts as the protocol promises.
fn sequence(history: &History, session: SessionIx, entries: &[Entry], verdict: &mut Verdict) {
    let name = || history.session_text(session);
    let (mut time, mut count) = (0, 0);
    for (at, entry) in entries.iter().enumerate() {
        let want = at as u64 + 1;
        if entry.seq != want {
            let harm = if entry.seq > want { Harm::Lost } else { Harm::Reordered };
            verdict.add(Rule::Replicas, harm, || {
                format!("{}: seq {} stands at place {want}", name(), entry.seq)
            });
            return;
        }
        if entry.time_ms < time {
            verdict.add(Rule::Replicas, Harm::Wrong, || {
                format!("{} seq {want}: time goes back from {time} to {} ms", name(), entry.time_ms)
            });
        }
        time = entry.time_ms;
        count += u64::from(born_as(entry.kind).is_countable());
        if entry.count != count {
            verdict.add(Rule::Replicas, Harm::Wrong, || {
                format!("{} seq {want}: count is {} and should be {count}", name(), entry.count)
            });
            count = entry.count;
        }
    }
}

/// The first seq of a replica.
fn first_of(dump: &Dump) -> u64 {
    dump.entries.first().map_or(1, |entry| entry.seq)
}

fn last_of(dump: &Dump) -> u64 {
    dump.entries.last().map_or(0, |entry| entry.seq)
}

/// A replica with what was trimmed before it; none if nobody has read that in time.
fn whole<'a>(history: &'a History, dump: &'a Dump) -> Option<Cow<'a, [Entry]>> {
    let first = first_of(dump);
    let trimmed = history.trimmed.iter().filter(|(session, _)| *session == dump.session);
    let before: Vec<&Entry> =
        trimmed.flat_map(|(_, entries)| entries).filter(|entry| entry.seq < first).collect();
    let keeps = |send: &Send| matches!(send.act, Act::Keep(_)) && send.session == dump.session;
    if before.is_empty() && !(first > 1 && history.sends.iter().any(keeps)) {
        // A hole without anything before it is a record that is missing: the seqs say so.
        return Some(Cow::Borrowed(&dump.entries));
    }
    let all: Vec<Entry> = before.into_iter().chain(&dump.entries).cloned().collect();
    let is_whole = (1..).zip(&all).take(first as usize).all(|(seq, entry)| entry.seq == seq);
    is_whole.then_some(Cow::Owned(all))
}

fn read_members<'a>(history: &History, session: SessionIx, entries: &[Entry]) -> Log<'a> {
    let mut log = Log { first: 1, ..Log::default() };
    for user in history.pair_of(session).into_iter().flatten() {
        log.spans.insert(user, vec![(1, u64::MAX)]);
    }
    let mut count = 0;
    for entry in entries {
        count += u64::from(born_as(entry.kind).is_countable());
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
        if let Some(user) = entry.sender.filter(|_| born_as(entry.kind).is_countable()) {
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
        Act::Keep(_) => RecordKind::GROUP_CHANGED,
        Act::Recall(_) => RecordKind::RECALL,
        Act::Edit(_) => RecordKind::EDIT,
    }
}

/// The kind a record was stored with.
pub(super) fn born_as(kind: u16) -> RecordKind {
    match RecordKind(kind) {
        RecordKind::RECALLED | RecordKind::EXPIRED => RecordKind::CONTENT,
        other => other,
    }
}
