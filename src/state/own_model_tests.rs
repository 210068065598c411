//! Random acts of three users on their own things against a plain model, with retries, late and repeated errands, and a
//! checkpoint followed by a replay at any moment.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::own::RelationFilter;
use rookery_wire::{Blob, RelationState, SessionId, SessionSetting, UserAction};

use super::own_tests::{ROOM, act, pair, person};
use super::tests::{Disk, LIST, actor, at, user};
use super::{Answer, At, Command, Given, Link, Listing, Outcome, Says, Session, User, UserAct};

const NAMES: [&str; 3] = ["ann", "bob", "cid"];

/// What one person has set, deleted and wants, as a person would say it.
#[derive(Default)]
struct Model {
    last: u64,
    answers: BTreeMap<u64, (UserAct, Option<Answer>)>,
    pinned: BTreeMap<SessionId, u64>,
    cleared: BTreeMap<SessionId, u64>,
    deleted: BTreeMap<SessionId, BTreeSet<u64>>,
    blocked: BTreeSet<&'static str>,
}

/// The entities, their rows, and what they were told since the last checkpoint.
struct World {
    users: BTreeMap<&'static str, User>,
    disks: BTreeMap<&'static str, Disk>,
    logs: BTreeMap<&'static str, Vec<(At, Command)>>,
    sessions: BTreeMap<SessionId, Session>,
    models: BTreeMap<&'static str, Model>,
    /// Errands that were seen and may arrive again.
    seen: Vec<(&'static str, Command)>,
    index: u64,
}

fn apply(user: &mut User, at: &At, command: &Command) -> Outcome {
    let outcome = match command {
        Command::UserAct { actor, act } => user.act(at, actor, act),
        Command::Hear { from, stance, text, room, .. } => user.hear(at, from, stance, text, *room),
        Command::Carried { done, .. } => user.carried(done),
        Command::Link { link, list, .. } => user.take_link(link, list),
        other => panic!("{other:?}"),
    };
    user.reflect(at.index);
    outcome
}

/// Everything that rows keep, in words.
fn picture(user: &User) -> String {
    format!(
        "{:?}",
        (
            &user.devices,
            &user.ended,
            &user.links,
            &user.extras,
            &user.series,
            &user.relations,
            user.live_relations,
            (user.refuses_strangers, user.privacy),
            user.version,
            &user.errands,
            user.index,
        )
    )
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            users: NAMES.map(|name| (name, person(name))).into(),
            disks: NAMES.map(|name| (name, Disk::default())).into(),
            logs: NAMES.map(|name| (name, Vec::new())).into(),
            sessions: BTreeMap::new(),
            models: NAMES.map(|name| (name, Model::default())).into(),
            seen: Vec::new(),
            index: 1,
        };
        for name in NAMES {
            let user = world.users.get_mut(name).expect("one");
            user.reflect(1);
            world.disks.get_mut(name).expect("one").write(user.collect());
            for other in NAMES.iter().filter(|other| **other != name) {
                let link =
                    Link { session: pair(name, other), version: 1, member: true, joined_seq: 1, from: None };
                let list = Listing { users_only: true, ..LIST };
                world.tell(name, Command::Link { user: super::tests::user(name), link, list });
                world.sessions.entry(pair(name, other)).or_insert_with(|| Session::new(pair(name, other)));
            }
        }
        world
    }

    fn tell(&mut self, name: &'static str, command: Command) -> Outcome {
        self.index += 1;
        let at = at(self.index);
        let outcome = apply(self.users.get_mut(name).expect("one"), &at, &command);
        self.logs.get_mut(name).expect("one").push((at, command));
        outcome
    }

    /// Rows of some moment, then what came after: as if nothing had happened.
    fn crash(&mut self, name: &'static str, checkpoint: bool) {
        let user = self.users.get_mut(name).expect("one");
        let before = picture(user);
        let disk = self.disks.get_mut(name).expect("one");
        if checkpoint {
            disk.write(user.collect());
        }
        let mut loaded = User::load(disk, user.id()).expect("rows");
        for (at, command) in &self.logs[name] {
            if at.index > loaded.index() {
                apply(&mut loaded, at, command);
            }
        }
        assert_eq!(picture(&loaded), before, "{name} after a checkpoint and a replay");
        *user = loaded;
    }

    /// One errand of a user arrives somewhere; it is cleared now or later.
    fn carry(&mut self, name: &'static str, rng: &mut StdRng, clears: bool) -> bool {
        let errands: Vec<_> =
            self.users[name].pending_errands().map(|(k, e)| (k.clone(), e.clone())).collect();
        if errands.is_empty() {
            return false;
        }
        let (key, errand) = &errands[rng.random_range(0..errands.len())];
        let other = NAMES.into_iter().find(|other| user(other) == key.1).expect("one of them");
        match &errand.says {
            Says::Bar(on) => {
                let session = self.sessions.get_mut(&pair(name, other)).expect("one");
                session.bar(&user(name), errand.version, *on);
            }
            Says::Stance(stance, text) => {
                let (stance, text, room) = (*stance, text.clone(), ROOM);
                let hear = Command::Hear { user: user(other), from: user(name), stance, text, room };
                self.seen.push((other, hear.clone()));
                self.tell(other, hear);
            }
            Says::Burn(_) => panic!("nothing burns here"),
        }
        if clears {
            self.tell(name, Command::Carried { user: user(name), done: vec![(key.clone(), errand.version)] });
        }
        true
    }

    fn settle(&mut self, rng: &mut StdRng) {
        while NAMES.into_iter().any(|name| self.carry(name, rng, true)) {}
    }
}

fn random_act(rng: &mut StdRng, name: &str, number: u64) -> UserAct {
    let others: Vec<&str> = NAMES.into_iter().filter(|other| *other != name).collect();
    let other = others[rng.random_range(0..others.len())];
    let (session, who) = (pair(name, other), user(other));
    let text = Blob::from("it is me");
    match rng.random_range(0..12) {
        0 => act(number, UserAction::SetSession { session, setting: SessionSetting::Pin(Some(number)) }),
        1 => act(number, UserAction::SetSession { session, setting: SessionSetting::Pin(None) }),
        2 => {
            let seq = rng.random_range(1..60u64);
            let clear = UserAction::ClearSession { session, seq };
            UserAct { given: Given::Count(seq / 2), ..act(number, clear) }
        }
        3 | 4 => {
            let from_seq = rng.random_range(1..90u64);
            let to_seq = from_seq + rng.random_range(0..9);
            let given = Given::Range { before: (from_seq - 1) / 2, count: to_seq / 2 };
            UserAct { given, ..act(number, UserAction::DeleteMessages { session, from_seq, to_seq }) }
        }
        5 | 6 => act(number, UserAction::RequestFriend { user: who, text }),
        7 => act(number, UserAction::AcceptFriend { user: who }),
        8 => act(number, UserAction::DeclineFriend { user: who }),
        9 => act(number, UserAction::RemoveFriend { user: who }),
        10 => act(number, UserAction::Block { user: who }),
        _ => act(number, UserAction::Unblock { user: who }),
    }
}

impl Model {
    fn carry_out(&mut self, name: &str, act: &UserAct) {
        let named =
            |id: &rookery_wire::UserId| NAMES.into_iter().find(|name| user(name) == *id).expect("one");
        match &act.action {
            UserAction::SetSession { session, setting: SessionSetting::Pin(order) } => {
                match order {
                    Some(order) => self.pinned.insert(session.clone(), *order),
                    None => self.pinned.remove(session),
                };
            }
            UserAction::ClearSession { session, seq } => {
                let cleared = self.cleared.entry(session.clone()).or_default();
                *cleared = (*cleared).max(*seq);
            }
            UserAction::DeleteMessages { session, from_seq, to_seq } => {
                self.deleted.entry(session.clone()).or_default().extend(*from_seq..=*to_seq);
            }
            UserAction::Block { user } => drop(self.blocked.insert(named(user))),
            UserAction::Unblock { user } => drop(self.blocked.remove(named(user))),
            _ => {}
        }
        assert!(!self.blocked.contains(name));
    }

    fn is_of(&self, person: &User, at: &str) {
        for other in NAMES.iter().filter(|other| user(other) != *person.id()) {
            let session = person.direct_with(&user(other)).expect("a pair");
            let extras = person.extras(&session).cloned().unwrap_or_default();
            assert_eq!(extras.pinned, self.pinned.get(&session).copied(), "{at}");
            let cleared = self.cleared.get(&session).copied().unwrap_or(0);
            assert_eq!(extras.cleared_seq, cleared, "{at}");
            let settings = extras.settings();
            let hidden: BTreeSet<u64> = settings.deleted.iter().flat_map(|(from, to)| *from..=*to).collect();
            let mut wanted = self.deleted.get(&session).cloned().unwrap_or_default();
            wanted.retain(|seq| *seq > cleared);
            assert_eq!(hidden, wanted, "{at}");
            assert_eq!(person.blocks(&user(other)), self.blocked.contains(other), "{at}");
        }
    }
}

#[test]
fn random_acts_of_three_users_go_as_the_model_says() {
    let (mut carried_out, mut refused, mut retried, mut friends) = (0, 0, 0, 0);
    for seed in 0..60u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        for step in 0..250 {
            let name = NAMES[rng.random_range(0..NAMES.len())];
            let place = format!("seed {seed}, step {step}, {name}");
            match rng.random_range(0..100) {
                0..50 => {
                    let number = world.models[name].last + 1;
                    let act = random_act(&mut rng, name, number);
                    let command = Command::UserAct { actor: actor(name), act: act.clone() };
                    let answer = world.tell(name, command).answer;
                    let model = world.models.get_mut(name).expect("one");
                    model.last = number;
                    match &answer {
                        Some(Answer::Own(_)) => {
                            model.carry_out(name, &act);
                            carried_out += 1;
                        }
                        Some(Answer::Refused(_)) => refused += 1,
                        other => panic!("{place}: {other:?}"),
                    }
                    model.answers.insert(number, (act, answer));
                }
                50..60 => {
                    let model = &world.models[name];
                    let Some(number) = model.last.checked_sub(rng.random_range(0..10)) else { continue };
                    let Some((act, answer)) = model.answers.get(&number).cloned() else { continue };
                    // What the gateway learned is another by now; the act is the same.
                    let act = UserAct { given: Given::Nothing, ..act };
                    let again = world.tell(name, Command::UserAct { actor: actor(name), act });
                    let code = |answer: &Option<Answer>| match answer {
                        Some(Answer::Refused(error)) => Some(error.code),
                        _ => None,
                    };
                    assert_eq!(code(&again.answer), code(&answer), "{place}");
                    if code(&answer).is_none() {
                        assert_eq!(again.answer, answer, "{place}");
                    }
                    assert!(again.user_frames.is_empty(), "{place}");
                    retried += 1;
                }
                60..80 => {
                    let clears = rng.random_bool(0.7);
                    world.carry(name, &mut rng, clears);
                }
                80..88 if !world.seen.is_empty() => {
                    let (to, command) = world.seen[rng.random_range(0..world.seen.len())].clone();
                    world.tell(to, command);
                }
                _ => {
                    let checkpoint = rng.random_bool(0.5);
                    world.crash(name, checkpoint);
                }
            }
            world.models[name].is_of(&world.users[name], &place);
        }
        world.settle(&mut rng);
        friends += agree(&world, seed);
    }
    println!("{carried_out} carried out, {refused} refused, {retried} retried, {friends} friends in the end");
    assert!(carried_out > 3000 && refused > 20 && retried > 500 && friends > 10);
}

/// With nothing on its way any more both sides of every pair see the same, and sessions bar who is blocked.
fn agree(world: &World, seed: u64) -> usize {
    let mut friends = 0;
    for (name, other) in [("ann", "bob"), ("ann", "cid"), ("bob", "cid")] {
        let here = world.users[name].relation(&user(other));
        let there = world.users[other].relation(&user(name));
        let mirrored = match here {
            RelationState::Requested => RelationState::Asked,
            RelationState::Asked => RelationState::Requested,
            same => same,
        };
        assert_eq!(there, mirrored, "seed {seed}: {name} and {other}");
        friends += usize::from(here == RelationState::Friends);
        let session = &world.sessions[&pair(name, other)];
        for (who, whom) in [(name, other), (other, name)] {
            let blocks = world.users[who].blocks(&user(whom));
            let barred = session.bars.get(&user(who)).is_some_and(|(_, on)| *on);
            assert_eq!(barred, blocks, "seed {seed}: {who} and {whom}");
            let shown = world.users[who].relations_after(RelationFilter::Blocked, None);
            assert_eq!(shown.filter(|line| line.user == user(whom)).count(), usize::from(blocks));
        }
    }
    friends
}
