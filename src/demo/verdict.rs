//! The judgement: what was sent and acknowledged, what every device was given, what every replica holds.
//!
//! Pure: it takes records and gives a verdict. A message counts as *lost* when it was acknowledged and a log lacks it
//! or holds another at its place, or when a device of a member was not given it; as *doubled* when a log holds a send
//! twice or a device was given a seq twice; as *reordered* when a device was given seqs out of order, when two sends
//! of one device stand in the wrong order, or when two replicas differ.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rookery_wire::{Record, SessionId};

/// How a send ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Acknowledged under this number at this seq.
    Acked {
        /// The device's number.
        client_seq: u64,
        /// Its place.
        seq: u64,
    },
    /// Refused for good.
    Refused(String),
    /// Nobody knows.
    Unknown(String),
}

/// One send of a device, in the order in which the device sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) device: usize,
    pub(super) session: SessionId,
    pub(super) text: String,
    pub(super) outcome: Outcome,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

/// What a device was given: session and seq, in the order of arrival, with the message's id.
pub(super) type Stream = Vec<(SessionId, u64, u64)>;

/// Everything there is to judge.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// All sends.
    pub(super) sends: Vec<Sent>,
    /// By device: user and what it was given.
    pub(super) streams: Vec<Stream>,
    /// By session: the devices of its members.
    pub(super) audience: BTreeMap<SessionId, Vec<usize>>,
    /// By session and node: the replica's whole log.
    pub(super) logs: BTreeMap<SessionId, BTreeMap<u16, Vec<Record>>>,
    /// Replicas each session must have been read from.
    pub(super) replicas: usize,
    /// When nodes were killed.
    pub(super) kills: Vec<Instant>,
    /// What else went wrong on the way.
    pub(super) troubles: Vec<String>,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) sent: usize,
    pub(super) acked: usize,
    pub(super) refused: usize,
    pub(super) unknown: usize,
    pub(super) delivered: usize,
    pub(super) expected: usize,
    pub(super) lost: usize,
    pub(super) doubled: usize,
    pub(super) reordered: usize,
    pub(super) replicas_read: usize,
    /// Longest time without an ack for a device with sends waiting, around a kill.
    pub(super) gap: Option<Duration>,
    /// Median time to an ack.
    pub(super) median: Option<Duration>,
    /// In words, at most [`MAX_REASONS`].
    pub(super) reasons: Vec<String>,
}

const MAX_REASONS: usize = 8;
/// A gap that ends later than this after a kill is not the kill's.
const AFTER_KILL: Duration = Duration::from_secs(10);

impl Verdict {
    /// Whether nothing was lost, doubled, reordered or left undone.
    pub(super) fn is_good(&self) -> bool {
        self.reasons.is_empty()
    }

    fn because(&mut self, reason: String) {
        if self.reasons.len() < MAX_REASONS {
            self.reasons.push(reason);
        }
    }
}

/// Judges.
pub(super) fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict { reasons: evidence.troubles.clone(), ..Verdict::default() };
    verdict.reasons.truncate(MAX_REASONS);
    count(evidence, &mut verdict);
    for (session, logs) in &evidence.logs {
        replicas(session, logs, evidence.replicas, &mut verdict);
        if let Some(log) = logs.values().max_by_key(|log| log.len()) {
            log_alone(session, log, &mut verdict);
        }
    }
    sends(evidence, &mut verdict);
    streams(evidence, &mut verdict);
    verdict.gap = evidence.kills.iter().filter_map(|kill| gap_at(&evidence.sends, *kill)).max();
    verdict
}

fn count(evidence: &Evidence, verdict: &mut Verdict) {
    verdict.sent = evidence.sends.len();
    let mut times = Vec::new();
    for sent in &evidence.sends {
        match &sent.outcome {
            Outcome::Acked { .. } => {
                verdict.acked += 1;
                times.push(sent.ended.saturating_duration_since(sent.began));
            }
            Outcome::Refused(why) => {
                verdict.refused += 1;
                verdict.because(format!("a send to {} was refused: {why}", sent.session));
            }
            Outcome::Unknown(why) => {
                verdict.unknown += 1;
                verdict.because(format!("a send to {} has no answer: {why}", sent.session));
            }
        }
    }
    times.sort_unstable();
    verdict.median = times.get(times.len() / 2).copied();
    if verdict.acked == 0 {
        verdict.because("nothing was acknowledged".to_owned());
    }
}

/// All replicas hold the same.
fn replicas(session: &SessionId, logs: &BTreeMap<u16, Vec<Record>>, wanted: usize, verdict: &mut Verdict) {
    verdict.replicas_read += logs.len();
    if logs.len() < wanted {
        verdict.because(format!("{session}: {} of {wanted} replicas could be read", logs.len()));
    }
    let Some((first, reference)) = logs.first_key_value() else { return };
    for (node, log) in logs.iter().skip(1) {
        if log.len() != reference.len() {
            verdict.lost += log.len().abs_diff(reference.len());
            let (here, there) = (reference.len(), log.len());
            verdict.because(format!("{session}: node {first} holds {here} messages, node {node} {there}"));
        }
        if let Some((a, _)) = reference.iter().zip(log).find(|(a, b)| a != b) {
            verdict.reordered += 1;
            verdict.because(format!("{session}: nodes {first} and {node} differ at seq {}", a.seq));
        }
    }
}

/// Seqs are 1..n, and no send is there twice.
fn log_alone(session: &SessionId, log: &[Record], verdict: &mut Verdict) {
    let mut seen = BTreeSet::new();
    for (at, record) in log.iter().enumerate() {
        if record.seq != at as u64 + 1 {
            verdict.lost += 1;
            verdict.because(format!("{session}: seq {} stands where {} belongs", record.seq, at + 1));
            return;
        }
        // Of a backend's key or the cluster itself: those have no number.
        let numbered = record.client_seq > 0;
        if numbered && !seen.insert((&record.sender, &record.device, record.epoch, record.client_seq)) {
            verdict.doubled += 1;
            verdict.because(format!("{session}: seq {} holds a send that is there already", record.seq));
        }
    }
}

/// Every acknowledged send is at its place, and those of one device are in the order in which it sent them.
fn sends(evidence: &Evidence, verdict: &mut Verdict) {
    let mut last: BTreeMap<(usize, &SessionId), u64> = BTreeMap::new();
    for sent in &evidence.sends {
        let Outcome::Acked { client_seq, seq } = sent.outcome else { continue };
        let before = last.insert((sent.device, &sent.session), seq);
        if before.is_some_and(|before| before >= seq) {
            verdict.reordered += 1;
            verdict.because(format!("{}: a device's later send was acknowledged at seq {seq}", sent.session));
        }
        for (node, log) in evidence.logs.get(&sent.session).into_iter().flatten() {
            let at = usize::try_from(seq).ok().and_then(|seq| log.get(seq.checked_sub(1)?));
            let there =
                at.is_some_and(|r| r.client_seq == client_seq && r.content.as_ref() == sent.text.as_bytes());
            if !there {
                verdict.lost += 1;
                verdict.because(format!(
                    "{}: node {node} lacks the message acknowledged at {seq}",
                    sent.session
                ));
            }
        }
    }
}

/// Every device of every member was given every message once, in order.
fn streams(evidence: &Evidence, verdict: &mut Verdict) {
    for (session, audience) in &evidence.audience {
        let log = evidence.logs.get(session).and_then(|logs| logs.values().max_by_key(|log| log.len()));
        let Some(log) = log else {
            verdict.because(format!("{session}: no log to compare with"));
            continue;
        };
        for device in audience {
            verdict.expected += log.len();
            let Some(stream) = evidence.streams.get(*device) else { continue };
            let mine: Vec<_> = stream.iter().filter(|(at, ..)| at == session).collect();
            one_stream(session, *device, log, &mine, verdict);
        }
    }
}

fn one_stream(
    session: &SessionId,
    device: usize,
    log: &[Record],
    mine: &[&(SessionId, u64, u64)],
    verdict: &mut Verdict,
) {
    let mut given = BTreeSet::new();
    let mut highest = 0;
    for (_, seq, id) in mine.iter().copied() {
        if !given.insert(*seq) {
            verdict.doubled += 1;
            verdict.because(format!("{session}: device {device} was given seq {seq} twice"));
            continue;
        }
        if *seq < highest {
            verdict.reordered += 1;
            verdict.because(format!("{session}: device {device} was given seq {seq} after {highest}"));
        }
        highest = highest.max(*seq);
        let stored = usize::try_from(*seq).ok().and_then(|seq| log.get(seq.checked_sub(1)?));
        if stored.is_some_and(|record| record.message_id == *id) {
            verdict.delivered += 1;
        } else {
            verdict.lost += 1;
            verdict
                .because(format!("{session}: what device {device} was given as seq {seq} is not in the log"));
        }
    }
    let missing = log.iter().filter(|record| !given.contains(&record.seq)).count();
    if missing > 0 {
        verdict.lost += missing;
        verdict.because(format!("{session}: device {device} was not given {missing} messages"));
    }
}

/// The longest time without an ack, for any one device with sends waiting, that touches the time after a kill.
pub(super) fn gap_at(sends: &[Sent], kill: Instant) -> Option<Duration> {
    let mut by_device: BTreeMap<usize, Vec<(Instant, i64)>> = BTreeMap::new();
    for sent in sends {
        let moments = by_device.entry(sent.device).or_default();
        moments.push((sent.began, 1));
        moments.push((sent.ended, -1));
    }
    let mut longest = None;
    for moments in by_device.values_mut() {
        moments.sort_unstable();
        let (mut waiting, mut since) = (0i64, kill);
        for (at, change) in moments.iter() {
            if *change > 0 && waiting == 0 {
                since = *at;
            }
            waiting += change;
            if *change < 0 {
                let touches = *at >= kill && since <= kill + AFTER_KILL;
                longest = longest.max(touches.then(|| at.saturating_duration_since(since)));
                since = *at;
            }
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_wire::{Blob, RecordKind};

    fn pair() -> SessionId {
        SessionId::direct(&"ann".parse().expect("ann"), &"bob".parse().expect("bob")).expect("pair")
    }

    fn record(seq: u64) -> Record {
        Record {
            seq,
            message_id: 100 + seq,
            time_ms: 0,
            count: seq,
            sender: "ann".parse().expect("ann"),
            device: "phone".parse().expect("phone"),
            epoch: 1,
            client_seq: seq,
            kind: RecordKind::CONTENT,
            content_type: Blob::default(),
            content: Blob::from(format!("text {seq}").as_str()),
            extensions: Vec::new(),
        }
    }

    /// Three messages of one device, given to two devices, on three replicas: all is well.
    fn good() -> Evidence {
        let now = Instant::now();
        let send = |seq| Sent {
            device: 0,
            session: pair(),
            text: format!("text {seq}"),
            outcome: Outcome::Acked { client_seq: seq, seq },
            began: now,
            ended: now + Duration::from_millis(seq),
        };
        let log: Vec<Record> = (1..=3).map(record).collect();
        let stream: Stream = log.iter().map(|record| (pair(), record.seq, record.message_id)).collect();
        Evidence {
            sends: (1..=3).map(send).collect(),
            streams: vec![stream.clone(), stream],
            audience: [(pair(), vec![0, 1])].into(),
            logs: [(pair(), (1..=3).map(|node| (node, log.clone())).collect())].into(),
            replicas: 3,
            ..Evidence::default()
        }
    }

    fn log(evidence: &mut Evidence, node: u16) -> &mut Vec<Record> {
        evidence.logs.get_mut(&pair()).and_then(|logs| logs.get_mut(&node)).expect("log")
    }

    #[test]
    fn records_without_a_number_are_no_doubles() {
        let mut evidence = good();
        for node in 1..=3 {
            for record in log(&mut evidence, node).iter_mut().skip(1) {
                record.client_seq = 0;
            }
        }
        assert_eq!(judge(&evidence).doubled, 0);
        // Of equal logs one is counted.
        (1..=3).for_each(|node| log(&mut evidence, node)[1].client_seq = 1);
        assert_eq!(judge(&evidence).doubled, 1);
    }

    #[test]
    fn a_good_run_is_good() {
        let verdict = judge(&good());
        assert!(verdict.is_good(), "{verdict:?}");
        assert_eq!((verdict.sent, verdict.acked, verdict.delivered, verdict.expected), (3, 3, 6, 6));
        assert_eq!((verdict.lost, verdict.doubled, verdict.reordered, verdict.replicas_read), (0, 0, 0, 3));
    }

    #[test]
    fn each_fault_is_seen_as_what_it_is() {
        type Plant = fn(&mut Evidence);
        type Seen = fn(&Verdict) -> bool;
        let faults: [(&str, Plant, Seen); 9] = [
            ("not given", |e| drop(e.streams[1].remove(1)), |v| v.lost == 1),
            (
                "given twice",
                |e| {
                    let again = e.streams[1][0].clone();
                    e.streams[1].push(again);
                },
                |v| v.doubled == 1,
            ),
            ("given out of order", |e| e.streams[1].swap(0, 1), |v| v.reordered == 1),
            ("gone from a replica", |e| drop(log(e, 2).pop()), |v| v.lost > 0),
            ("gone from all", |e| (1..=3).for_each(|node| drop(log(e, node).pop())), |v| v.lost > 0),
            (
                "replicas differ",
                |e| log(e, 3)[1].content = Blob::from("other"),
                |v| v.reordered > 0 && v.lost > 0,
            ),
            ("stored twice", |e| (1..=3).for_each(|n| log(e, n)[2].client_seq = 1), |v| v.doubled == 1),
            (
                "a replica unread",
                |e| drop(e.logs.get_mut(&pair()).and_then(|l| l.remove(&3))),
                |v| v.lost == 0,
            ),
            ("unanswered", |e| e.sends[2].outcome = Outcome::Unknown("late".to_owned()), |v| v.unknown == 1),
        ];
        for (name, plant, seen) in faults {
            let mut evidence = good();
            plant(&mut evidence);
            let verdict = judge(&evidence);
            assert!(!verdict.is_good(), "{name}: judged good");
            assert!(seen(&verdict), "{name}: {verdict:?}");
        }
    }

    #[test]
    fn the_gap_is_the_longest_wait_of_one_device_around_the_kill() {
        let kill = Instant::now();
        let ms = Duration::from_millis;
        let send = |device, began, ended| Sent {
            device,
            session: pair(),
            text: String::new(),
            outcome: Outcome::Acked { client_seq: 1, seq: 1 },
            began,
            ended,
        };
        // Device 0 waits 400 ms across the kill; device 1 has acks all the time although one send took 600 ms.
        let sends = vec![
            send(0, kill - ms(100), kill + ms(300)),
            send(1, kill, kill + ms(600)),
            send(1, kill + ms(1), kill + ms(250)),
            send(1, kill + ms(2), kill + ms(400)),
            send(2, kill - ms(2000), kill - ms(900)),
        ];
        assert_eq!(gap_at(&sends, kill), Some(ms(400)));
        assert_eq!(gap_at(&[], kill), None);
    }
}
