//! Random acts on a group against a plain model of its rules, written down a second time and in another way.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::{Blob, ErrorCode, GroupAction, MemberRole, Policy, Who};

use super::command::{Act, ChangeKind};
use super::tests::{Disk, actor, apply, at, change, new_group, text, user};
use super::{Answer, Session};

const NAMES: [&str; 5] = ["ann", "bob", "cid", "dan", "eve"];

/// A group as a person would describe it.
struct Model {
    owner: Option<&'static str>,
    admins: BTreeSet<&'static str>,
    /// Members, and with which record they came.
    joined: BTreeMap<&'static str, u64>,
    muted: BTreeMap<&'static str, u64>,
    mute_all: bool,
    policy: Policy,
    dissolved: bool,
    last_seq: u64,
}

/// What is done next. Names, not ids, so that the model needs no lookups.
#[derive(Clone, Copy, Debug)]
enum Step {
    Say,
    Add(&'static str),
    Remove(&'static str),
    Name,
    Role(&'static str, bool),
    HandOver(&'static str),
    Policy(Policy),
    Mute(&'static str, u64),
    MuteAll(bool),
    Dissolve,
}

impl Model {
    fn new() -> Self {
        Self {
            owner: Some("ann"),
            admins: BTreeSet::new(),
            joined: [("ann", 1), ("bob", 1)].into(),
            muted: BTreeMap::new(),
            mute_all: false,
            policy: Policy::default(),
            dissolved: false,
            last_seq: 1,
        }
    }

    /// 0 for a plain member, 1 for an admin, 2 for the owner.
    fn rank(&self, who: &str) -> u8 {
        if self.owner == Some(who) { 2 } else { u8::from(self.admins.contains(who)) }
    }

    fn refuses(&self, who: &str, step: Step, now_ms: u64) -> Option<ErrorCode> {
        let rank = self.rank(who);
        let needs = |least: u8| (rank < least).then_some(ErrorCode::NotAllowed);
        let by = |allowed: Who| needs(u8::from(allowed == Who::Admins));
        let absent = |whom: &str| (!self.joined.contains_key(whom)).then_some(ErrorCode::NotMember);
        let below = |whom: &str| (self.rank(whom) >= rank).then_some(ErrorCode::NotAllowed);
        if self.dissolved {
            return Some(ErrorCode::Dissolved);
        }
        absent(who).or_else(|| match step {
            Step::Say => {
                let until = self.muted.get(who).copied().unwrap_or(0);
                let muted = (rank < 2 && until > now_ms) || (rank == 0 && self.mute_all);
                if muted { Some(ErrorCode::Muted) } else { by(self.policy.write) }
            }
            Step::Add(_) => by(self.policy.invite),
            Step::Remove(whom) if whom == who => None,
            Step::Remove(whom) => {
                needs(1).or_else(|| self.joined.contains_key(whom).then(|| below(whom)).flatten())
            }
            Step::Name => by(self.policy.change),
            Step::Role(whom, _) => needs(2).or_else(|| absent(whom)).or_else(|| below(whom)),
            Step::HandOver(whom) => needs(2).or_else(|| absent(whom)),
            Step::Mute(whom, _) => needs(1).or_else(|| absent(whom)).or_else(|| below(whom)),
            Step::MuteAll(_) => needs(1),
            Step::Policy(_) | Step::Dissolve => needs(2),
        })
    }

    fn carry_out(&mut self, step: Step) {
        self.last_seq += 1;
        match step {
            Step::Say | Step::Name => {}
            Step::Add(whom) => {
                self.joined.entry(whom).or_insert(self.last_seq);
            }
            Step::Remove(whom) => {
                self.joined.remove(whom);
                self.admins.remove(whom);
                if self.owner == Some(whom) {
                    let next =
                        |(name, seq): (&&'static str, &u64)| (!self.admins.contains(name), *seq, *name);
                    self.owner = self.joined.iter().map(next).min().map(|(_, _, name)| name);
                }
            }
            Step::Role(whom, true) => drop(self.admins.insert(whom)),
            Step::Role(whom, false) => drop(self.admins.remove(whom)),
            Step::HandOver(whom) => {
                if let Some(before) = self.owner.replace(whom) {
                    self.admins.insert(before);
                    self.muted.remove(before);
                }
                self.admins.remove(whom);
                self.muted.remove(whom);
            }
            Step::Policy(policy) => self.policy = policy,
            Step::Mute(whom, until_ms) => drop(self.muted.insert(whom, until_ms)),
            Step::MuteAll(on) => self.mute_all = on,
            Step::Dissolve => (self.dissolved, self.owner, self.joined) = (true, None, BTreeMap::new()),
        }
    }
}

fn random_step(rng: &mut StdRng, now_ms: u64) -> Step {
    let whom = NAMES[rng.random_range(0..NAMES.len())];
    let join = rookery_wire::Join::Closed;
    let mut who = || if rng.random_bool(0.5) { Who::All } else { Who::Admins };
    let policy = Policy { write: who(), invite: who(), change: who(), history_before_joining: true, join };
    match rng.random_range(0..1000) {
        0..300 => Step::Say,
        300..450 => Step::Add(whom),
        450..520 => Step::Remove(whom),
        520..600 => Step::Name,
        600..760 => Step::Role(whom, rng.random_bool(0.6)),
        760..800 => Step::HandOver(whom),
        800..860 => Step::Policy(policy),
        860..940 => Step::Mute(whom, now_ms + rng.random_range(0..30)),
        940..997 => Step::MuteAll(rng.random_bool(0.4)),
        _ => Step::Dissolve,
    }
}

fn act(step: Step) -> Act {
    let action = match step {
        Step::Say => return text("hi"),
        Step::Add(whom) => return change(ChangeKind::Add, &[whom]),
        Step::Remove(whom) => return change(ChangeKind::Remove, &[whom]),
        Step::Name => GroupAction::SetProfile { name: Some(Blob::from("crows")), avatar: None },
        Step::Role(whom, true) => GroupAction::SetRole { user: user(whom), role: MemberRole::Admin },
        Step::Role(whom, false) => GroupAction::SetRole { user: user(whom), role: MemberRole::Member },
        Step::HandOver(whom) => GroupAction::HandOver { user: user(whom) },
        Step::Policy(policy) => GroupAction::SetPolicy(policy),
        Step::Mute(whom, until_ms) => GroupAction::Mute { user: user(whom), until_ms },
        Step::MuteAll(on) => GroupAction::MuteAll { on },
        Step::Dissolve => GroupAction::Dissolve,
    };
    Act::Manage { action }
}

fn same_people(session: &Session, model: &Model, at: &str) {
    for name in NAMES {
        let ranks = [MemberRole::Member, MemberRole::Admin, MemberRole::Owner];
        let role = model.joined.contains_key(name).then(|| ranks[usize::from(model.rank(name))]);
        assert_eq!(session.role_of(&user(name)), role, "{name} {at}");
    }
    let group = session.group_for(None);
    assert_eq!(group.owner, model.owner.map(user), "{at}");
    assert_eq!((group.members as usize, group.dissolved), (model.joined.len(), model.dissolved), "{at}");
}

#[test]
fn random_acts_of_five_users_go_as_the_model_says() {
    let (mut stored, mut refused) = (0, BTreeMap::new());
    for seed in 0..60u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = Disk::default();
        let (mut session, mut model) = (new_group(&disk), Model::new());
        for index in 2..250u64 {
            let who = NAMES[rng.random_range(0..NAMES.len())];
            let step = random_step(&mut rng, 1000 + index);
            let number = session.last_number(&super::session::sender_key(&actor(who))) + 1;
            let outcome = apply(&mut session, &disk, &at(index), &actor(who), number, &act(step));
            let found = match outcome.answer {
                Some(Answer::Ack(_)) => None,
                Some(Answer::Refused(refusal)) => Some(refusal.code),
                other => panic!("seed {seed}: {other:?}"),
            };
            let wanted = model.refuses(who, step, 1000 + index);
            let place = format!("after {who} {step:?}, seed {seed}, index {index}");
            assert_eq!(found, wanted, "{place}");
            match wanted {
                None => {
                    model.carry_out(step);
                    stored += 1;
                }
                Some(code) => *refused.entry(code).or_insert(0) += 1,
            }
            assert_eq!(session.last_seq(), model.last_seq, "{place}");
            same_people(&session, &model, &place);
        }
    }
    let codes = [ErrorCode::NotMember, ErrorCode::NotAllowed, ErrorCode::Muted, ErrorCode::Dissolved];
    assert!(stored > 1000 && codes.iter().all(|code| refused.contains_key(code)), "{stored}, {refused:?}");
}
