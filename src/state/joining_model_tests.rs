//! Random comings into a group against a plain model of their rules, with checkpoints and crashes in between.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::codec::Blob;
use rookery_wire::join::{Join, Outside};
use rookery_wire::{ErrorCode, GroupAction, Policy, Who};

use super::command::{Act, ChangeKind};
use super::tests::{Disk, LIMITS, actor, apply, at, change, group, last_number, new_group, user};
use super::{Answer, Session};

const NAMES: [&str; 7] = ["ann", "bob", "cid", "dan", "eve", "fay", "gil"];
const MOST: u32 = 5;
const AGAIN_MS: u64 = 25;

#[derive(Clone, Copy, Debug)]
enum Step {
    Join(Option<u8>),
    Answer(&'static str, bool),
    Make(u8, u64, u32),
    Revoke(usize),
    Bar(&'static str, bool),
    Add(&'static str),
    Remove(&'static str),
    Policy(Join, Who),
}

/// A code: what opens it, until when, for how many; and who made it.
struct Code {
    key: u8,
    until_ms: u64,
    left: u32,
    maker: &'static str,
}

/// A group as a person at its door would describe it. Ann owns it and never leaves.
struct Model {
    members: BTreeSet<&'static str>,
    asking: BTreeSet<&'static str>,
    /// Since when they wait.
    waiting: BTreeMap<&'static str, u64>,
    barred: BTreeSet<&'static str>,
    codes: BTreeMap<u64, Code>,
    join: Join,
    invite: Who,
    last_seq: u64,
}

/// What came of a step, where it was not refused.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    In(&'static str),
    Out(&'static str),
    Nobody,
}

impl Model {
    fn code(&self, key: u8, now_ms: u64) -> Result<u64, ErrorCode> {
        let of_key = || self.codes.iter().filter(|(_, code)| code.key == key);
        let good = of_key().find(|(_, code)| code.until_ms > now_ms && code.left > 0);
        match (good, of_key().next_back()) {
            (Some((id, _)), _) => Ok(*id),
            (None, Some((_, code))) if code.until_ms <= now_ms => Err(ErrorCode::CodeExpired),
            (None, Some(_)) => Err(ErrorCode::CodeUsedUp),
            (None, None) => Err(ErrorCode::CodeUnknown),
        }
    }

    fn full(&self) -> bool {
        self.members.len() >= MOST as usize
    }

    fn enters(&mut self, who: &'static str) -> Came {
        self.asking.remove(who);
        self.waiting.remove(who);
        self.members.insert(who);
        Came::In(who)
    }

    fn step(&mut self, who: &'static str, step: Step, now_ms: u64) -> Result<Came, ErrorCode> {
        let came = self.judged(who, step, now_ms);
        self.last_seq += u64::from(came.is_ok());
        came
    }

    fn judged(&mut self, who: &'static str, step: Step, now_ms: u64) -> Result<Came, ErrorCode> {
        let member = self.members.contains(who);
        let invites = who == "ann" || self.invite == Who::All;
        let may = |allowed: bool| if allowed { Ok(()) } else { Err(ErrorCode::NotAllowed) };
        match step {
            Step::Join(_) if member => return Err(ErrorCode::NotAllowed),
            Step::Join(_) if self.barred.contains(who) => return Err(ErrorCode::Barred),
            Step::Join(Some(key)) => {
                let id = self.code(key, now_ms)?;
                if self.full() {
                    return Err(ErrorCode::NoRoom);
                }
                self.codes.entry(id).and_modify(|code| code.left -= 1);
                return Ok(self.enters(who));
            }
            Step::Join(None) => return self.comes(who, now_ms),
            Step::Answer(whom, false) if whom == who && !member => {
                if !self.asking.remove(who) {
                    return Err(ErrorCode::NotMember);
                }
                self.waiting.insert(who, now_ms);
                return Ok(Came::Nobody);
            }
            _ if !member => return Err(ErrorCode::NotMember),
            _ => {}
        }
        match step {
            Step::Join(_) => {}
            Step::Answer(whom, accept) => {
                may(invites)?;
                if !self.asking.contains(whom) {
                    return Err(ErrorCode::NotMember);
                }
                if accept && self.full() {
                    return Err(ErrorCode::GroupFull);
                }
                if accept {
                    return Ok(self.enters(whom));
                }
                self.asking.remove(whom);
                self.waiting.insert(whom, now_ms);
            }
            Step::Make(key, until_ms, left) => {
                may(invites)?;
                if until_ms <= now_ms {
                    return Err(ErrorCode::CodeExpired);
                }
                self.codes.insert(self.last_seq + 1, Code { key, until_ms, left, maker: who });
            }
            Step::Revoke(at) => {
                let (id, maker) = self.nth_code(at).ok_or(ErrorCode::CodeUnknown)?;
                may(who == "ann" || maker == who)?;
                self.codes.remove(&id);
            }
            Step::Bar(whom, on) => {
                may(who == "ann" && whom != "ann")?;
                if on {
                    self.asking.remove(whom);
                    self.waiting.remove(whom);
                    self.barred.insert(whom);
                } else {
                    self.barred.remove(whom);
                }
            }
            Step::Add(whom) => {
                if !self.members.contains(whom) && self.full() {
                    return Err(ErrorCode::GroupFull);
                }
                may(invites)?;
                if self.barred.contains(whom) {
                    return Err(ErrorCode::Barred);
                }
                if !self.members.contains(whom) {
                    return Ok(self.enters(whom));
                }
            }
            Step::Remove(whom) => {
                may(who == whom || who == "ann")?;
                if self.members.remove(whom) {
                    return Ok(Came::Out(whom));
                }
            }
            Step::Policy(join, invite) => {
                may(who == "ann")?;
                (self.join, self.invite) = (join, invite);
            }
        }
        Ok(Came::Nobody)
    }

    fn comes(&mut self, who: &'static str, now_ms: u64) -> Result<Came, ErrorCode> {
        match self.join {
            Join::Closed => Err(ErrorCode::JoinClosed),
            Join::Open if self.full() => Err(ErrorCode::NoRoom),
            Join::Open => Ok(self.enters(who)),
            Join::Request => {
                let waits = self.waiting.get(who).is_some_and(|since| since + AGAIN_MS > now_ms);
                if waits || !self.asking.insert(who) {
                    return Err(ErrorCode::AskedLately);
                }
                self.waiting.remove(who);
                Ok(Came::Nobody)
            }
        }
    }

    /// One of the codes, and one that is not there.
    fn nth_code(&self, at: usize) -> Option<(u64, &'static str)> {
        self.codes.iter().nth(at).map(|(id, code)| (*id, code.maker))
    }
}

fn random_step(rng: &mut StdRng, now_ms: u64) -> Step {
    let whom = NAMES[rng.random_range(0..NAMES.len())];
    let key = rng.random_range(0..3);
    match rng.random_range(0..100) {
        0..22 => Step::Join(None),
        22..36 => Step::Join(Some(key)),
        36..56 => Step::Answer(whom, rng.random_bool(0.5)),
        56..62 => Step::Make(key, now_ms + rng.random_range(0..40), rng.random_range(1..4)),
        62..66 => Step::Revoke(rng.random_range(0..4)),
        66..76 => Step::Bar(whom, rng.random_bool(0.4)),
        76..81 => Step::Add(whom),
        // Ann stays, so that there always is an owner.
        81..93 => Step::Remove(if whom == "ann" { "bob" } else { whom }),
        _ => {
            let join = [Join::Closed, Join::Request, Join::Request, Join::Open][rng.random_range(0..4)];
            Step::Policy(join, if rng.random_bool(0.5) { Who::All } else { Who::Admins })
        }
    }
}

fn act(step: Step, model: &Model) -> Act {
    let action = match step {
        Step::Join(key) => {
            let text = Blob::from("it is me");
            return Act::Join { code: key.map(|key| [key; 32]), text, most: MOST, again_ms: AGAIN_MS };
        }
        Step::Answer(whom, accept) => return Act::Answer { user: user(whom), accept, most: MOST },
        Step::Add(whom) => return change(ChangeKind::Add, &[whom]),
        Step::Remove(whom) => return change(ChangeKind::Remove, &[whom]),
        Step::Make(key, until_ms, uses) => {
            let hash = Blob(Bytes::copy_from_slice(&[key; 32]));
            GroupAction::MakeCode { hash, until_ms, uses }
        }
        Step::Revoke(at) => GroupAction::RevokeCode { id: model.nth_code(at).map_or(9_999, |(id, _)| id) },
        Step::Bar(whom, on) => GroupAction::Bar { user: user(whom), on },
        Step::Policy(join, invite) => GroupAction::SetPolicy(Policy { join, invite, ..Policy::default() }),
    };
    Act::Manage { action }
}

fn same(session: &Session, model: &Model, place: &str) {
    let members: Vec<_> = session.members_after(None).map(ToString::to_string).collect();
    assert_eq!(members, model.members.iter().map(ToString::to_string).collect::<Vec<_>>(), "{place}");
    for (which, wanted) in [(Outside::Asking, &model.asking), (Outside::Barred, &model.barred)] {
        let found: Vec<_> = session.outside_after(which, None).map(|line| line.user.to_string()).collect();
        assert_eq!(found, wanted.iter().map(ToString::to_string).collect::<Vec<_>>(), "{which:?} {place}");
    }
    let codes: Vec<_> = session.codes_after(0).map(|code| (code.id, code.uses - code.used)).collect();
    let wanted: Vec<_> = model.codes.iter().map(|(id, code)| (*id, code.left)).collect();
    assert_eq!(codes, wanted, "{place}");
    assert_eq!(session.last_seq(), model.last_seq, "{place}");
}

#[test]
fn random_comings_of_seven_users_go_as_the_model_says() {
    let (mut came, mut refused) = (0, BTreeMap::new());
    for seed in 0..80u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut disk = Disk::default();
        let mut session = new_group(&disk);
        let mut model = Model {
            members: ["ann", "bob"].into(),
            asking: BTreeSet::new(),
            waiting: BTreeMap::new(),
            barred: BTreeSet::new(),
            codes: BTreeMap::new(),
            join: Join::Closed,
            invite: Who::All,
            last_seq: 1,
        };
        for index in 2..250u64 {
            let who = NAMES[rng.random_range(0..NAMES.len())];
            // More codes than there may be are a test of their own.
            let step = match random_step(&mut rng, 1000 + index) {
                Step::Make(..) if model.codes.len() > 20 => Step::Revoke(0),
                step => step,
            };
            let sent = act(step, &model);
            let number = last_number(&session, &disk, &actor(who)) + 1;
            let outcome = apply(&mut session, &disk, &at(index), &actor(who), number, &sent);
            let wanted = model.step(who, step, 1000 + index);
            let place = format!("after {who} {step:?}, seed {seed}, index {index}");
            match (&outcome.answer, wanted) {
                (Some(Answer::Ack(_)), Ok(wanted)) => {
                    let lists = outcome.intents.iter().filter(|intent| intent.link.member);
                    let added: Vec<_> = lists.map(|intent| intent.user.clone()).collect();
                    let found = match (&added[..], &outcome.removed[..]) {
                        ([], []) => None,
                        ([one], []) => Some((true, one.clone())),
                        ([], [one]) => Some((false, one.clone())),
                        other => panic!("{other:?} {place}"),
                    };
                    let wanted = match wanted {
                        Came::In(name) => Some((true, user(name))),
                        Came::Out(name) => Some((false, user(name))),
                        Came::Nobody => None,
                    };
                    assert_eq!(found, wanted, "{place}");
                    came += u32::from(wanted.is_some());
                }
                (Some(Answer::Refused(refusal)), Err(code)) => {
                    assert_eq!(refusal.code, code, "{place}: {refusal}");
                    *refused.entry(code).or_insert(0) += 1;
                }
                (found, wanted) => panic!("{found:?}, not {wanted:?}, {place}"),
            }
            same(&session, &model, &place);
            if rng.random_bool(0.1) {
                disk.write(session.collect());
                session.written(&LIMITS);
                session = Session::load(&disk, &group()).expect("rows");
                same(&session, &model, &format!("from rows {place}"));
            }
        }
    }
    use ErrorCode::{AskedLately, Barred, CodeExpired, CodeUnknown, CodeUsedUp, GroupFull, JoinClosed};
    let codes = [AskedLately, Barred, CodeExpired, CodeUnknown, CodeUsedUp, GroupFull, JoinClosed];
    assert!(came > 500 && codes.iter().all(|code| refused.contains_key(code)), "{came}, {refused:?}");
}
