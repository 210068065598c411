//! Lines of sessions that were left go in the end, and nothing is lost with them: neither what a device missed nor the order of
//! intents.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::{GroupId, SessionId, UserAction};

use super::command::ChangeKind;
use super::own_tests::{act, pair, person};
use super::tests::{Disk, LIST, actor, apply, at, change, user};
use super::{Answer, Link, Listing, Outcome, RowReader, Session, User};

fn group(number: usize) -> SessionId {
    SessionId::group(GroupId::new(&format!("g{number}")).expect("a name"))
}

fn link(session: &SessionId, version: u64, member: bool) -> Link {
    Link { session: session.clone(), version, member, joined_seq: 1, from: None }
}

fn take(ann: &mut User, index: u64, link: &Link, kept: u32, sure: u64) -> Outcome {
    ann.applies(index);
    let outcome = ann.take_link(link, &Listing { kept, sure, ..LIST });
    ann.reflect(index);
    outcome
}

/// As loaded from the rows of now.
fn again(ann: &mut User, disk: &mut Disk) -> User {
    disk.write(ann.collect());
    User::load(disk, &user("ann")).expect("rows")
}

fn lines(disk: &Disk) -> usize {
    let mut lines = 0;
    let count = disk.scan(&[super::key::letter::LINK], &mut |_, _| {
        lines += 1;
        Ok(true)
    });
    count.expect("rows");
    lines
}

#[test]
fn of_what_was_left_the_last_lines_stay_and_an_older_mark_brings_everything() {
    let (mut ann, mut disk) = (person("ann"), Disk::default());
    // In and out of six groups, at 1 and 2, 3 and 4 …
    for number in 0..6 {
        let index = 2 * number as u64 + 1;
        take(&mut ann, index, &link(&group(number), index, true), 3, index);
        // The intents that say so come of other shards: their versions tell nothing of when they came.
        take(&mut ann, index + 1, &link(&group(number), index + 1, false), 3, index);
    }
    let left = |ann: &User, since| {
        let (left, all) = ann.left_since(since, 9);
        (left.into_iter().collect::<BTreeSet<_>>(), all)
    };
    let last = |from: usize| (from..6).map(group).collect::<BTreeSet<_>>();
    let mut loaded = again(&mut ann, &mut disk);
    assert_eq!(lines(&disk), 3, "dropped lines are no rows any more");
    for ann in [&ann, &loaded] {
        assert_eq!(left(ann, 12), (last(6), true));
        assert_eq!(left(ann, 7), (last(3), true));
        assert_eq!(left(ann, 6), (last(3), true), "what went at 6 is known to who has been told then");
        assert_eq!(left(ann, 5), (last(3), false), "one that went at 6 is forgotten");
        assert!(!ann.left_since(6, 2).1, "more than are named");
    }
    // Who comes again takes its line out of the ones left, and of a present one none is dropped.
    take(&mut loaded, 13, &link(&group(3), 13, true), 3, 0);
    take(&mut loaded, 14, &link(&group(9), 14, true), 3, 13);
    assert_eq!(left(&loaded, 6), (last(4), true));
    take(&mut loaded, 15, &link(&group(9), 15, false), 3, 0);
    assert_eq!(left(&loaded, 6), ([4, 5, 9].map(group).into(), true));
}

#[test]
fn a_late_intent_brings_nobody_back_whose_removal_is_forgotten() {
    let (mut ann, mut disk) = (person("ann"), Disk::default());
    let late = link(&group(0), 1, true);
    take(&mut ann, 1, &late, 1, 0);
    take(&mut ann, 2, &link(&group(0), 2, false), 1, 0);
    assert_eq!(take(&mut ann, 3, &late, 1, 0).answer, Some(Answer::Done), "the line is there and newer");
    take(&mut ann, 4, &link(&group(1), 9, false), 1, 0);
    let mut ann = again(&mut ann, &mut disk);
    assert_eq!(take(&mut ann, 5, &late, 1, 0).answer, Some(Answer::Unsure(5)), "it cannot be told any more");
    assert_eq!(take(&mut ann, 6, &late, 1, 1).answer, Some(Answer::Unsure(6)), "asked before it was removed");
    assert_eq!(ann.sessions().count(), 0);
    // One that is an intent still is taken, whatever its version: groups of other shards count otherwise.
    assert_eq!(take(&mut ann, 7, &link(&group(2), 1, true), 1, 6).answer, Some(Answer::Done));
    // So it is with removals: what the line of a late one says would let in what came before a later one.
    let removal = link(&group(3), 5, false);
    assert_eq!(take(&mut ann, 8, &removal, 1, 0).answer, Some(Answer::Unsure(8)));
    assert_eq!(take(&mut ann, 9, &removal, 1, 8).answer, Some(Answer::Done));
    assert_eq!(take(&mut ann, 10, &link(&group(3), 4, true), 1, 9).answer, Some(Answer::Done));
    assert_eq!(ann.sessions().count(), 1);
}

#[test]
fn a_direct_session_with_somebody_who_was_blocked_is_not_forgotten() {
    let mut ann = person("ann");
    let both = pair("ann", "bob");
    take(&mut ann, 1, &link(&both, 1, true), 1, 0);
    ann.applies(2);
    ann.act(&at(2), &actor("ann"), &act(1, UserAction::Block { user: user("bob") }));
    take(&mut ann, 3, &link(&both, 3, false), 1, 0);
    for number in 0..3 {
        take(&mut ann, 4 + number, &link(&group(number as usize), 4, false), 1, 4 + number);
    }
    assert!(ann.links.contains_key(&both), "an unblock has to be carried there");
    assert_eq!(ann.links.len(), 1);
    ann.applies(8);
    let outcome = ann.act(&at(8), &actor("ann"), &act(2, UserAction::Unblock { user: user("bob") }));
    assert!(outcome.errands && outcome.gate.is_some());
}

const GROUPS: usize = 5;

/// Groups that ann comes into and leaves, her list, and what is on its way.
struct World {
    groups: Vec<(Session, u64)>,
    ann: User,
    disk: Disk,
    log: Vec<(u64, Link, Listing)>,
    index: u64,
    /// Intents that may arrive any time, more than once.
    bag: Vec<(usize, Link, u64)>,
    /// Those of which the list was not sure, and what it reflected then.
    doubts: Vec<(usize, Link, u64)>,
    /// Whether sessions are asked in doubt.
    careful: bool,
}

impl World {
    fn new(careful: bool) -> Self {
        let disk = Disk::default();
        let create = |number| {
            let mut session = Session::new(group(number));
            apply(&mut session, &disk, &at(1), &actor("bob"), 1, &change(ChangeKind::Create, &[]));
            (session, 1)
        };
        let groups = (0..GROUPS).map(create).collect();
        let (bag, doubts, log) = (Vec::new(), Vec::new(), Vec::new());
        Self { groups, ann: person("ann"), disk: Disk::default(), log, index: 1, bag, doubts, careful }
    }

    fn turn(&mut self, which: usize) {
        self.index += 1;
        let (session, number) = &mut self.groups[which];
        let is_in = session.member(&user("ann")).is_some();
        let kind = if is_in { ChangeKind::Remove } else { ChangeKind::Add };
        *number += 1;
        let rows = Disk::default();
        apply(session, &rows, &at(self.index), &actor("bob"), *number, &change(kind, &["ann"]));
    }

    fn look(&mut self, which: usize) {
        let pending = self.groups[which].0.pending_intents();
        self.bag.extend(pending.filter(|intent| intent.user == user("ann")).map(|it| (which, it.link, 0)));
    }

    fn doubt(&mut self, at: usize) {
        let (which, link, index) = self.doubts.swap_remove(at);
        let session = &self.groups[which].0;
        if session.still_intends(&user("ann"), link.version).answer == Some(Answer::Done) {
            self.bag.push((which, link, index));
        }
    }

    /// It arrives; whether anybody is there who tells the session is another matter.
    fn arrive(&mut self, at: usize, stays: bool, told: bool) {
        let (which, link, sure) = self.bag[at].clone();
        if !stays {
            self.bag.swap_remove(at);
        }
        self.index += 1;
        let list = Listing { kept: 2, sure: if self.careful { sure } else { u64::MAX }, ..LIST };
        self.log.push((self.index, link.clone(), list));
        self.ann.applies(self.index);
        let outcome = self.ann.take_link(&link, &list);
        self.ann.reflect(self.index);
        match outcome.answer {
            Some(Answer::Done) if told => {
                let done = [(user("ann"), link.version, link.member)];
                let session = &mut self.groups[which].0;
                session.linked(&super::tests::at(self.index), &done);
                session.reflect(self.index);
            }
            Some(Answer::Done) => {}
            Some(Answer::Unsure(index)) => self.doubts.push((which, link, index)),
            other => panic!("{other:?}"),
        }
    }

    fn crash(&mut self, checkpoint: bool) {
        let picture = |ann: &User| format!("{:?}", (&ann.links, &ann.left, ann.present, ann.index));
        let before = picture(&self.ann);
        if checkpoint {
            self.disk.write(self.ann.collect());
        }
        let mut loaded = User::load(&self.disk, &user("ann")).expect("rows");
        for (index, link, list) in
            self.log.iter().filter(|(index, ..)| *index > loaded.index()).cloned().collect::<Vec<_>>()
        {
            loaded.applies(index);
            loaded.take_link(&link, &list);
            loaded.reflect(index);
        }
        assert_eq!(picture(&loaded), before, "after a replay");
        self.ann = loaded;
    }

    /// All intents are carried, and what else is on its way arrives before.
    fn settle(&mut self) {
        while !self.bag.is_empty() {
            self.arrive(0, false, false);
        }
        self.doubts.clear();
        for round in 0.. {
            assert!(round < 100, "intents never get through");
            (0..GROUPS).for_each(|which| self.look(which));
            if self.bag.is_empty() {
                return;
            }
            while !(self.bag.is_empty() && self.doubts.is_empty()) {
                (0..self.doubts.len()).rev().for_each(|at| self.doubt(at));
                (0..self.bag.len()).rev().for_each(|at| self.arrive(at, false, true));
            }
        }
    }

    fn agrees(&self) -> bool {
        self.groups.iter().all(|(session, _)| {
            let listed = self.ann.sessions().any(|(listed, _)| listed == session.id());
            session.member(&user("ann")).is_some() == listed
        })
    }
}

/// Whether the list and the sessions agree in the end.
fn random_days(seed: u64, careful: bool) -> bool {
    let (mut world, mut random) = (World::new(careful), StdRng::seed_from_u64(seed));
    world.ann.reflect(1);
    world.disk.write(world.ann.collect());
    for _ in 0..400 {
        match random.random_range(0..12) {
            0..2 => world.turn(random.random_range(0..GROUPS)),
            2..6 => world.look(random.random_range(0..GROUPS)),
            6..10 if !world.bag.is_empty() => {
                let at = random.random_range(0..world.bag.len());
                world.arrive(at, random.random_bool(0.4), random.random_bool(0.7));
            }
            10 if !world.doubts.is_empty() => world.doubt(random.random_range(0..world.doubts.len())),
            11 if random.random_bool(0.3) => world.crash(random.random_bool(0.5)),
            _ => {}
        }
        let left = world.ann.links.values().filter(|link| !link.member).count();
        assert!(left <= 2, "seed {seed}: {left} lines of what was left");
    }
    world.settle();
    world.agrees()
}

#[test]
fn a_list_that_forgets_and_its_sessions_agree_whatever_arrives_late() {
    for seed in 0..150 {
        assert!(random_days(seed, true), "seed {seed}");
    }
    let careless = (0..150).filter(|seed| !random_days(*seed, false)).count();
    assert!(careless > 0, "nothing ever came late: this test cannot fail");
}
