use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::{GroupId, SessionId, UserId};

use super::*;
use crate::shard::api::Origin;

fn group(name: usize) -> SessionId {
    SessionId::group(GroupId::new(&format!("g{name}")).expect("a name"))
}

/// A command of the session `of`; its origin says of whom it is the how manieth.
fn command(of: usize, number: u64) -> Submission {
    let user = UserId::new("ann").expect("a name");
    let command = Command::StillIntended { session: group(of), user, version: number };
    Submission { origin: Origin { node: of as u16, request: number }, command: command.encode() }
}

fn commands(of: usize, numbers: std::ops::Range<u64>) -> Vec<Submission> {
    numbers.map(|number| command(of, number)).collect()
}

fn whose(picked: &Picked) -> Vec<(u16, u64)> {
    picked.submissions.iter().map(|submission| (submission.origin.node, submission.origin.request)).collect()
}

const BYTES: usize = 1 << 20;

#[test]
fn beside_nobody_all_goes_as_it_came() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.yields(false, now);
    queue.take(commands(1, 0..500), now);
    queue.take(commands(2, 0..1), now);
    let picked = queue.pick(BYTES, false);
    let expected: Vec<_> = (0..500).map(|number| (1, number)).chain([(2, 0)]).collect();
    assert_eq!((whose(&picked), picked.loud), (expected, 0));
    assert!(!queue.is_ready(true));
}

#[test]
fn a_quiet_session_passes_a_loud_one_that_yields() {
    let mut queue = Queue::default();
    let now = Instant::now();
    // What waits already is sorted as what comes.
    queue.take(commands(1, 0..200), now);
    queue.take(commands(2, 0..1), now);
    queue.yields(true, now);
    queue.take(commands(1, 200..300), now);
    queue.take(commands(3, 0..LOUD as u64), now);
    assert_eq!((queue.len(), queue.apart()), (1 + LOUD, 300));

    let shut = queue.pick(BYTES, false);
    let expected: Vec<_> = [(2, 0)].into_iter().chain((0..LOUD as u64).map(|number| (3, number))).collect();
    assert_eq!((whose(&shut), shut.loud), (expected, 0), "as many as LOUD are not loud yet");
    assert!(!queue.is_ready(false) && queue.is_ready(true));

    let open = queue.pick(BYTES, true);
    let share: Vec<_> = (0..SHARE as u64).map(|number| (1, number)).collect();
    assert_eq!((whose(&open), open.loud), (share, SHARE));

    // Who was loud a moment ago is so with its next command; later no more.
    while queue.is_ready(true) {
        queue.pick(BYTES, true);
    }
    queue.yields(true, now + MEMORY / 2);
    queue.take(commands(1, 300..301), now + MEMORY / 2);
    assert!(!queue.is_ready(false));
    queue.pick(BYTES, true);
    queue.yields(true, now + MEMORY * 2);
    queue.take(commands(1, 301..302), now + MEMORY * 2);
    assert!(queue.is_ready(false));
}

#[test]
fn loud_ones_share_and_none_starves() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.yields(true, now);
    for of in 0..MOST_LOUD + 1 {
        queue.take(commands(of, 0..500), now);
    }
    // One more than are told apart: it goes as if nobody yielded, and no byte bound is passed for the others.
    let mut seen = BTreeMap::new();
    let first = queue.pick(BYTES, true);
    assert_eq!(first.submissions.len() - first.loud, 500);
    for _ in 0..MOST_LOUD {
        let most = SHARE.max(queue.apart() / 16) + MOST_LOUD;
        let picked = queue.pick(BYTES, true);
        assert!(picked.loud == picked.submissions.len() && picked.loud <= most, "{}", picked.loud);
        for (of, _) in whose(&picked) {
            *seen.entry(of).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.len(), MOST_LOUD, "{seen:?}");
    let (least, most) = (seen.values().min(), seen.values().max());
    assert_eq!(least, most, "{seen:?}");
}

/// A session that was loud and says little now is like any other, also if it never falls silent.
#[test]
fn who_says_little_is_loud_no_more() {
    let mut queue = Queue::default();
    let mut now = Instant::now();
    queue.yields(true, now);
    queue.take(commands(1, 0..100), now);
    assert_eq!(queue.apart(), 100);
    let mut next = 100;
    for _ in 0..6 {
        queue.pick(BYTES, true);
        now += MEMORY / 4;
        queue.yields(true, now);
        queue.take(commands(1, next..next + 20), now);
        next += 20;
    }
    assert_eq!(queue.apart(), 0);
    assert_eq!(queue.counts.values().sum::<usize>(), queue.len());
    let rest = queue.drain();
    assert_eq!(rest.last().map(|last| last.origin.request), Some(next - 1));
}

#[test]
fn the_loud_are_not_left_out_where_others_have_more_than_an_entry_holds() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.yields(true, now);
    queue.take(commands(1, 0..2_000), now);
    for of in 2..60 {
        queue.take(commands(of, 0..20), now);
    }
    let picked = queue.pick(8_000, true);
    assert!(picked.loud > 0 && picked.loud < picked.submissions.len(), "{}", picked.loud);
    assert!(queue.is_ready(false), "others wait still");
    // The more wait, the more go.
    while queue.is_ready(false) {
        queue.pick(8_000, false);
    }
    let waits = queue.apart();
    assert_eq!(queue.pick(BYTES, true).loud, waits / 16);
}

/// Whatever comes when, whoever yields when, and wherever entries are cut: every command goes out once, and those of one
/// entity in their order.
#[test]
fn nothing_is_lost_and_each_entity_keeps_its_order() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut queue = Queue::default();
    let mut now = Instant::now();
    let mut given = BTreeMap::<u16, u64>::new();
    let mut taken = BTreeMap::<u16, u64>::new();
    let mut passed = 0;
    for step in 0..3_000 {
        now += Duration::from_millis(rng.random_range(0..300));
        if rng.random_bool(0.1) {
            queue.yields(rng.random_bool(0.7), now);
        }
        if step < 2_900 {
            let of = rng.random_range(0..20_u16).min(rng.random_range(0..20));
            let from = given.entry(of).or_default();
            let many = if of < 3 { rng.random_range(0..120) } else { rng.random_range(0..4) };
            let batch = commands(of.into(), *from..*from + many);
            *from += many;
            queue.take(batch, now);
        }
        let (most, with_loud) = (rng.random_range(1..8_000), rng.random_bool(0.5));
        if queue.is_ready(with_loud) {
            let picked = queue.pick(most, with_loud);
            assert!(!picked.submissions.is_empty(), "seed {seed}: nothing, though something was ready");
            assert!(with_loud || picked.loud == 0, "seed {seed}");
            for (of, number) in whose(&picked) {
                let next = taken.entry(of).or_default();
                assert_eq!(number, *next, "seed {seed}: order of {of}");
                *next += 1;
            }
            passed += usize::from(queue.apart() > 0 && picked.loud == 0);
        }
    }
    queue.yields(false, now);
    while queue.is_ready(false) {
        for (of, _) in whose(&queue.pick(BYTES, false)) {
            *taken.entry(of).or_default() += 1;
        }
    }
    given.retain(|_, many| *many > 0);
    assert_eq!(given, taken, "seed {seed}");
    assert!(passed > 0, "seed {seed}: nobody ever yielded");
}
