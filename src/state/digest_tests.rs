//! The digest against the plainest model there is: the digest over every record as it was when it was published. Whatever
//! happens to a record after that, and however the session came to memory and to rows, nothing else comes out.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::codec::decode;
use rookery_wire::{ContentHash, Digest, Record, RecordKind, Retention, Salt};

use super::command::Act;
use super::key::letter;
use super::records::{self, runs_with};
use super::tests::{Disk, LIMITS, actor, apply, at, group, new_group, text};
use super::trim_tests::{checkpoint, edit, lasting, recall};
use super::{Outcome, RowReader, Session, key};

const NONE: Retention = Retention { age_ms: 0, count: 0 };

/// What a reader finds, as the shell does: from memory behind the tip, else from rows.
fn digest_at(session: &Session, disk: &Disk, seq: u64) -> Option<Digest> {
    let tip = session.tip();
    if seq < tip.seq {
        return records::digest_at(disk, session.id(), seq).expect("rows");
    }
    let hot: Vec<Bytes> = (tip.seq + 1..=seq).filter_map(|seq| session.record(seq).cloned()).collect();
    tip.over(&hot, seq).expect("records")
}

enum Op {
    Act(u64, Act),
    Trim(u64, u64),
    Expire(Vec<u64>),
}

/// What the log says, from the entry after what the session reflects on.
fn play(session: &mut Session, disk: &Disk, log: &[Op]) -> Vec<Bytes> {
    let mut published = Vec::new();
    for (index, op) in (2..).zip(log) {
        if index <= session.index() {
            continue;
        }
        let at = at(index);
        let outcome = match op {
            Op::Act(number, act) => apply(session, disk, &at, &actor("ann"), *number, act),
            Op::Trim(upto, count) => session.trim(*upto, *count, NONE),
            Op::Expire(seqs) => expire(session, disk, index, seqs),
        };
        session.reflect(index);
        published.extend(outcome.published.map(|published| published.record));
    }
    published
}

fn expire(session: &mut Session, disk: &Disk, index: u64, seqs: &[u64]) -> Outcome {
    for seq in session.expiring_in_rows(seqs).collect::<Vec<_>>() {
        session.give_runs(runs_with(disk, session.id(), seq).expect("rows"));
    }
    let outcome = session.expire(&at(index), seqs);
    session.forget_recalled();
    outcome
}

/// Digests at 0, 1, 2, … and running counts.
struct Model {
    digests: Vec<Digest>,
    counts: Vec<u64>,
    numbers: u64,
}

impl Model {
    fn saw(&mut self, records: &[Bytes]) {
        for bytes in records {
            let record: Record = decode(bytes).expect("a record");
            assert_eq!(record.seq, self.digests.len() as u64);
            self.digests.push(self.digests[self.digests.len() - 1].then(bytes).expect("a record"));
            self.counts.push(record.count);
        }
    }

    fn last(&self) -> u64 {
        self.digests.len() as u64 - 1
    }

    fn agrees(&self, session: &Session, disk: &Disk, what: &str) {
        assert_eq!(session.last_seq(), self.last(), "{what}");
        for seq in session.first_seq() - 1..=self.last() {
            let found = digest_at(session, disk, seq);
            assert_eq!(found, Some(self.digests[seq as usize]), "{what}: at {seq} of {}", self.last());
        }
        for past in [self.last() + 1, self.last() + 100] {
            assert_eq!(digest_at(session, disk, past), None, "{what}");
        }
    }
}

fn random_op(rng: &mut StdRng, model: &mut Model) -> Op {
    let any = rng.random_range(1..=model.last());
    let act = match rng.random_range(0..20) {
        0..2 => recall(any),
        2..5 => edit(any, &"e".repeat(rng.random_range(0..2000))),
        5..8 => lasting("brief", 1),
        8 => {
            let upto = rng.random_range(1..=model.last());
            return Op::Trim(upto, model.counts[upto as usize]);
        }
        9..11 => return Op::Expire((0..4).map(|_| rng.random_range(1..=model.last())).collect()),
        _ => text(&"m".repeat(rng.random_range(1..200))),
    };
    model.numbers += 1;
    Op::Act(model.numbers, act)
}

#[test]
fn whatever_happens_later_the_digest_is_that_of_what_was_published() {
    for seed in 0..60u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut disk = Disk::default();
        let mut session = new_group(&disk);
        let created = session.record(1).cloned().expect("in memory");
        let begin = Digest::begin(&group());
        let mut model = Model { digests: vec![begin], counts: vec![0], numbers: 1 };
        model.saw(&[created]);
        checkpoint(&mut session, &mut disk, true);
        let mut log = Vec::new();
        let mut begun: Option<Disk> = None;
        for step in 0..rng.random_range(50..300u64) {
            log.push(random_op(&mut rng, &mut model));
            model.saw(&play(&mut session, &disk, &log));
            let what = format!("seed {seed}, step {step}");
            match rng.random_range(0..12) {
                0..3 => checkpoint(&mut session, &mut disk, begun.is_none()),
                3 => {
                    // On its way into rows, and more comes meanwhile.
                    let rows = session.collect();
                    log.push(random_op(&mut rng, &mut model));
                    model.saw(&play(&mut session, &disk, &log));
                    model.agrees(&session, &disk, &format!("{what}, collected"));
                    disk.write(rows);
                    session.written(&LIMITS);
                }
                4 => {
                    session = Session::load(&disk, &group()).expect("rows");
                    play(&mut session, &disk, &log);
                }
                5 if begun.is_none() => {
                    checkpoint(&mut session, &mut disk, true);
                    begun = Some(disk.clone());
                }
                6 => {
                    if let Some(mut mixed) = begun.take() {
                        checkpoint(&mut session, &mut disk, false);
                        // A snapshot: the small rows of then, the records of now; then the log again, cut elsewhere.
                        mixed.take_newer(&disk, letter::RECORD);
                        let mut installed = Session::load(&mixed, &group()).expect("rows");
                        play(&mut installed, &mixed, &log);
                        model.agrees(&installed, &mixed, &format!("{what}, from a snapshot"));
                        checkpoint(&mut installed, &mut mixed, true);
                        model.agrees(&installed, &mixed, &format!("{what}, from a snapshot, written"));
                    }
                }
                _ => {}
            }
            model.agrees(&session, &disk, &what);
        }
    }
}

#[test]
fn a_session_of_which_everything_is_trimmed_goes_on_from_its_head() {
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    for number in 2..10 {
        apply(&mut session, &disk, &at(number), &actor("ann"), number, &text("hi"));
    }
    let digest = digest_at(&session, &disk, 9).expect("in memory");
    session.trim(9, 8, NONE);
    session.reflect(20);
    checkpoint(&mut session, &mut disk, true);
    assert!(records::read_one(&disk, &group(), 9).expect("rows").is_none(), "no row is left");
    let mut session = Session::load(&disk, &group()).expect("rows");
    assert_eq!(digest_at(&session, &disk, 9), Some(digest));
    apply(&mut session, &disk, &at(21), &actor("ann"), 10, &text("again"));
    let next = digest.then(session.record(10).expect("in memory")).expect("a record");
    checkpoint(&mut session, &mut disk, true);
    assert_eq!(digest_at(&session, &disk, 10), Some(next));
    assert_eq!(
        records::digest_at(&disk, &group(), 9).expect("rows"),
        Some(digest),
        "before the first kept one"
    );
}

#[test]
fn the_salt_goes_with_the_content_and_is_another_for_every_message() {
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    let mut salts = std::collections::BTreeSet::new();
    for (number, act) in [(2, text("one")), (3, text("two")), (4, lasting("three", 1))] {
        apply(&mut session, &disk, &at(number), &actor("ann"), number, &act);
        let record: Record = decode(session.record(number).expect("in memory")).expect("a record");
        let salt = record.extensions.iter().find(|extension| extension.tag == Salt::TAG).expect("a salt");
        assert_eq!(salt.data.len(), Salt::BYTES);
        salts.insert(salt.data.0.clone());
    }
    assert_eq!(salts.len(), 3);
    // The same place in an entry of which another secret was drawn.
    let (here, there) = (at(2), super::At { secret: [99; 16], ..at(2) });
    assert_ne!(here.salt(), there.salt());
    assert_eq!(here.salt(), at(2).salt());

    let rows_hold = |disk: &Disk, what: &[u8]| {
        let mut found = false;
        let all = disk.scan(&[], &mut |_, value| {
            found |= value.windows(what.len()).any(|window| window == what);
            Ok(true)
        });
        all.expect("rows");
        found
    };
    checkpoint(&mut session, &mut disk, true);
    assert!(salts.iter().all(|salt| rows_hold(&disk, salt)));
    apply(&mut session, &disk, &at(5), &actor("ann"), 5, &recall(2));
    apply(&mut session, &disk, &at(6), &actor("ann"), 6, &edit(3, "other"));
    expire(&mut session, &disk, 7, &[4]);
    session.reflect(7);
    checkpoint(&mut session, &mut disk, true);
    assert!(!salts.iter().any(|salt| rows_hold(&disk, salt)), "nobody can guess what they said");
    for seq in 2..5 {
        let bytes = records::read_one(&disk, &group(), seq).expect("rows").expect("a record");
        let record: Record = decode(&bytes).expect("a record");
        let tags: Vec<u16> = record.extensions.iter().map(|extension| extension.tag).collect();
        assert!(tags.contains(&ContentHash::TAG) && !tags.contains(&Salt::TAG), "{tags:?}");
    }
    let signal: Record = decode(session.record(5).expect("in memory")).expect("a record");
    assert_eq!(
        (signal.kind, signal.extensions.len()),
        (RecordKind::RECALL, 0),
        "a signal has nothing to hide"
    );
}

#[test]
fn a_damaged_run_is_told_and_not_taken() {
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    checkpoint(&mut session, &mut disk, true);
    let row = disk.get(&key::record(&group(), 1)).expect("rows").expect("a run");
    for cut in [1, 20, 33, 36, row.len() - 1] {
        let mut rows = super::RowWrites::default();
        rows.put(key::record(&group(), 1), row.slice(..cut));
        disk.write(rows);
        let found = records::digest_at(&disk, &group(), 1);
        assert!(!matches!(found, Ok(Some(_))), "{cut} bytes: {found:?}");
    }
}
