//! Versions against a plain model: random edits, recalls, expiries, trims and changes of mind, with checkpoints, crashes between
//! any two rows of one, and snapshots whose records are newer than their session and whose versions are newer than those.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::codec::{Blob, encode};
use rookery_wire::{ErrorCode, Expires, Extension, Retention};

use super::command::Act;
use super::key::letter;
use super::records::runs_with;
use super::tests::{Disk, LIMITS, actor, apply, at, group, new_group, text};
use super::versions_tests::{checkpoint, edit, free, keep, listed, recall, version_rows};
use super::{RowReader, RowWrites, Session, VersionBounds, key};

/// Acts under numbers of Ann's, and what the leader's clock brings.
#[derive(Clone)]
enum Op {
    Act(u64, Act),
    Trim(u64, u64),
    Expire(Vec<u64>),
}

#[derive(Clone, Default)]
struct Message {
    /// What it says; none if it is a signal or gone.
    text: Option<String>,
    recalled: bool,
    lasts: bool,
    count: u64,
    number: u64,
    kept: VecDeque<(u64, String)>,
}

impl Message {
    fn lists(&self) -> Result<Vec<(u64, String)>, ErrorCode> {
        match &self.text {
            Some(text) => {
                let now = std::iter::once((self.number, text.clone()));
                Ok(now.chain(self.kept.iter().rev().cloned()).collect())
            }
            None if self.recalled => Err(ErrorCode::Recalled),
            None => Err(ErrorCode::NoSuchMessage),
        }
    }
}

struct Model {
    messages: Vec<Message>,
    first: u64,
    said: Option<bool>,
    /// Her last number.
    number: u64,
}

impl Model {
    fn last(&self) -> u64 {
        self.messages.len() as u64
    }

    fn count(&self) -> u64 {
        self.messages.last().map_or(0, |message| message.count)
    }

    fn push(&mut self, text: Option<String>, lasts: bool) {
        let count = self.count() + u64::from(text.is_some());
        self.messages.push(Message { text, lasts, count, number: 1, ..Message::default() });
    }

    fn of(&mut self, seq: u64) -> Option<&mut Message> {
        let kept = seq >= self.first;
        let message = self.messages.get_mut(seq.checked_sub(1)? as usize);
        message.filter(|message| kept && message.text.is_some())
    }

    fn act(&mut self, act: &Act) {
        self.number += 1;
        let said = |content: &Blob| String::from_utf8(content.as_ref().to_vec()).expect("text");
        match act {
            Act::Send { content, extensions, .. } => {
                self.push(Some(said(content)), !extensions.is_empty());
                return;
            }
            Act::Edit { seq, versions, content, .. } => {
                let keeps = self.said.unwrap_or(versions.kept);
                let Some(message) = self.of(*seq) else { return };
                let before = message.text.replace(said(content)).expect("it has one");
                message.kept.push_back((message.number, before));
                message.number += 1;
                let most = if keeps { versions.most as usize } else { 0 };
                message.kept.drain(..message.kept.len().saturating_sub(most));
            }
            Act::Recall { seq, .. } => {
                let Some(message) = self.of(*seq) else { return };
                (message.text, message.recalled) = (None, true);
            }
            other => {
                let on = *other == keep(true);
                self.said = Some(on);
                if !on {
                    self.messages.iter_mut().for_each(|message| message.kept.clear());
                }
            }
        }
        self.push(None, false);
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Act(_, act) => self.act(act),
            Op::Trim(upto, _) => self.first = self.first.max(upto + 1),
            Op::Expire(seqs) => {
                for seq in seqs {
                    if let Some(message) = self.of(*seq) {
                        message.text = None;
                    }
                }
            }
        }
    }

    fn rows(&self) -> usize {
        let kept = self.messages.iter().skip(self.first as usize - 1);
        kept.filter(|message| message.text.is_some()).map(|message| message.kept.len()).sum()
    }
}

fn random_op(rng: &mut StdRng, model: &Model, step: u64) -> Op {
    let last = model.last();
    let seq = rng.random_range(model.first..=last + 1);
    let act = |act| Op::Act(model.number + 1, act);
    match rng.random_range(0..100) {
        0..20 => act(text(&format!("said at {step}"))),
        20..28 => {
            let data = Blob(encode(&Expires { after_ms: 1 }));
            let extensions = vec![Extension { tag: Expires::TAG, data }];
            let (content_type, content) = (Blob::default(), Blob::from(format!("lasts at {step}").as_str()));
            act(Act::Send { content_type, content, extensions })
        }
        28..78 => {
            // Most often one of a few, so that bounds are passed.
            let seq =
                if rng.random_bool(0.7) { (model.first + rng.random_range(0..5)).min(last) } else { seq };
            let versions = VersionBounds { most: rng.random_range(1..4), kept: rng.random_bool(0.8) };
            let long = if rng.random_bool(0.03) { 20_000 } else { 0 };
            act(edit(seq, &format!("edited at {step}{}", " ".repeat(long)), versions))
        }
        78..85 => act(recall(seq)),
        85..90 => act(keep(rng.random_bool(0.6))),
        90..92 => {
            let upto = (model.first + rng.random_range(0..4)).min(last);
            Op::Trim(upto, model.messages[upto as usize - 1].count)
        }
        _ => {
            let due = (model.first..=last).filter(|seq| {
                let message = &model.messages[*seq as usize - 1];
                message.lasts && message.text.is_some()
            });
            Op::Expire(due.take(2).collect())
        }
    }
}

/// Plays what the session has not got yet, as the shell does.
fn play(session: &mut Session, disk: &Disk, log: &[Op]) {
    for (index, op) in (2..).zip(log) {
        let at = at(index);
        if index <= session.index() {
            continue;
        }
        match op {
            Op::Act(number, act) => drop(apply(session, disk, &at, &actor("ann"), *number, act)),
            Op::Trim(upto, count) => drop(session.trim(*upto, *count, Retention::default())),
            Op::Expire(seqs) => {
                let wanted: Vec<u64> = session.expiring_in_rows(seqs).collect();
                for seq in wanted {
                    session.give_runs(runs_with(disk, session.id(), seq).expect("rows"));
                }
                session.expire(&at, seqs);
            }
        }
        session.reflect(index);
        session.forget_recalled();
    }
}

fn agree(session: &Session, disk: &Disk, model: &Model, what: &str) {
    assert_eq!((session.first_seq(), session.last_seq()), (model.first, model.last()), "{what}");
    for seq in model.first..=model.last() {
        assert_eq!(listed(session, disk, seq), model.messages[seq as usize - 1].lists(), "{what}: seq {seq}");
    }
    let trimmed = model.first - 1;
    assert_eq!(listed(session, disk, trimmed), Err(ErrorCode::NoSuchMessage), "{what}");
}

/// Some of the rows that go ahead of the others, and none of those; the session is lost.
fn crash_in_a_checkpoint(rng: &mut StdRng, session: &mut Session, disk: &mut Disk) {
    let mut rows = session.collect();
    rows.seal().expect("records");
    let written = rng.random_range(0..=rows.ahead.len());
    let mut part = RowWrites::default();
    part.rows.extend_from_slice(&rows.ahead[..written]);
    disk.write(part);
    *session = Session::load(disk, &group()).expect("rows");
}

/// A snapshot on its way: small rows of one moment, records of a later one, versions of one later still.
struct Streamed {
    rows: Disk,
    /// As its head says: nothing of what begins behind that is sent.
    last: u64,
    records: bool,
}

impl Streamed {
    fn goes_on(&mut self, disk: &Disk) -> bool {
        let kind = if self.records { letter::VERSION } else { letter::RECORD };
        let mut rows = self.rows.all_but(kind);
        rows.take_newer(disk, kind);
        let mut beyond = RowWrites::default();
        let prefix = key::session(kind, &group());
        let all = rows.scan(&prefix, &mut |key, _| {
            let seq = key[prefix.len()..].first_chunk::<8>().map(|seq| u64::from_be_bytes(*seq));
            if seq.is_some_and(|seq| seq > self.last) {
                beyond.delete(key.to_vec());
            }
            Ok(true)
        });
        all.expect("rows");
        rows.write(beyond);
        self.rows = rows;
        std::mem::replace(&mut self.records, true)
    }
}

#[test]
fn random_edits_with_checkpoints_crashes_and_snapshots_keep_what_the_model_says() {
    for seed in 0..80 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut disk = Disk::default();
        let mut session = new_group(&disk);
        let signal = Message { number: 1, ..Message::default() };
        let mut model = Model { messages: vec![signal], first: 1, said: None, number: 1 };
        let mut log: Vec<Op> = Vec::new();
        checkpoint(&mut session, &mut disk);
        let mut streamed: Option<Streamed> = None;
        for step in 0..rng.random_range(50..220u64) {
            let op = random_op(&mut rng, &model, step);
            model.op(&op);
            log.push(op);
            play(&mut session, &disk, &log);
            let what = format!("seed {seed}, step {step}");
            agree(&session, &disk, &model, &what);
            match rng.random_range(0..14) {
                0..3 => {
                    disk.write(session.collect());
                    // While a snapshot is sent nothing is deleted behind a checkpoint.
                    if streamed.is_none() {
                        free(&mut disk);
                    }
                    if rng.random_bool(0.8) {
                        session.written(&LIMITS);
                    } else {
                        // Acts come between the rows and the word that they are there.
                        let op = random_op(&mut rng, &model, step);
                        model.op(&op);
                        log.push(op);
                        play(&mut session, &disk, &log);
                        agree(&session, &disk, &model, &format!("{what}, meanwhile"));
                        session.written(&LIMITS);
                    }
                    agree(&session, &disk, &model, &format!("{what}, written"));
                }
                3..5 => {
                    crash_in_a_checkpoint(&mut rng, &mut session, &mut disk);
                    play(&mut session, &disk, &log);
                    agree(&session, &disk, &model, &format!("{what}, after a crash in a checkpoint"));
                }
                5 if streamed.is_none() => {
                    checkpoint(&mut session, &mut disk);
                    streamed =
                        Some(Streamed { rows: disk.clone(), last: session.last_seq(), records: false });
                }
                6..8 => {
                    let Some(mut sent) = streamed.take() else { continue };
                    if !sent.goes_on(&disk) {
                        streamed = Some(sent);
                        continue;
                    }
                    let mut rows = sent.rows;
                    let mut installed = Session::load(&rows, &group()).expect("rows");
                    play(&mut installed, &rows, &log);
                    agree(&installed, &rows, &model, &format!("{what}, from a snapshot"));
                    checkpoint(&mut installed, &mut rows);
                    agree(&installed, &rows, &model, &format!("{what}, from a snapshot, written"));
                    assert_eq!(version_rows(&rows), model.rows(), "{what}: rows of a snapshot");
                }
                _ => {}
            }
        }
        checkpoint(&mut session, &mut disk);
        let loaded = Session::load(&disk, &group()).expect("rows");
        agree(&loaded, &disk, &model, &format!("seed {seed}, loaded"));
        assert_eq!(version_rows(&disk), model.rows(), "seed {seed}: no row but those of kept versions");
    }
}
