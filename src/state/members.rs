//! The members of a session: how it comes to be, who joins and leaves, and the lists of users that must learn of it.
//!
//! A session that has founders (both users of a direct session, the creator of a group) *opens* before its first record
//! is stored: an intent goes to each founder's list, and the act that would begin the session waits outside of this
//! state, taking no number. Once every list has it the act is applied; if a list is full the opening is given up, and
//! the act is refused. So who begins a session hears at once that a list is full, and no session is left behind.
//!
//! Users added later join at once. One whose list turns out to be full leaves again by a record of its own, so that
//! nobody is a member who does not see it.

use std::collections::BTreeSet;

use bytes::Bytes;
use rookery_wire::codec::Blob;
use rookery_wire::{DeviceId, ErrorBody, ErrorCode, RecordKind, SessionId, Signal, UserId};

use super::command::{Act, Actor, ChangeKind, Link};
use super::outcome::{Answer, GivenUp, Intent, Outcome, Publication};
use super::session::{At, Member, Session, SessionLimits, Written, refused, sender_key};

/// Stands as the device of records that no device sent: a user leaves whose list is full.
const NO_DEVICE: &str = "-";

impl Session {
    /// Whether it waits for the lists of its founders.
    pub fn opening(&self) -> bool {
        !self.exists && self.intents.values().any(|link| link.member)
    }

    /// Whether it opens for this user: his list may have it already, and he is a member as soon as all lists have it.
    pub fn awaits(&self, user: &UserId) -> bool {
        !self.exists && self.intents.get(user).is_some_and(|link| link.member)
    }

    /// What becomes of an act while there is no record yet; none when it is to be judged like any other.
    pub(super) fn before_it_exists(
        &mut self,
        at: &At,
        actor: &Actor,
        client_seq: u64,
        act: &Act,
    ) -> Option<Outcome> {
        if self.opening() {
            return Some(Outcome { parked: true, ..Outcome::default() });
        }
        let next = self.last_number(&sender_key(actor)) + 1;
        let opened = self.present > 0;
        if opened && client_seq != next {
            let text = format!("client_seq {client_seq} skips numbers, expected {next}");
            return Some(refused(ErrorCode::ClientSeqGap, text, next));
        }
        if !self.may_begin(act) {
            return Some(refused(ErrorCode::NoSuchSession, format!("there is no {}", self.id), 0));
        }
        if opened || client_seq != next {
            return None;
        }
        if let Err(refusal) = self.judge(actor, act) {
            return Some(Outcome::answer(Answer::Refused(refusal)));
        }
        let founders = self.founders(actor);
        if founders.is_empty() {
            return None;
        }
        let mut outcome = Outcome { parked: true, ..Outcome::default() };
        self.next_version(at);
        for user in founders {
            self.intend(user, true, 1, &mut outcome);
        }
        Some(outcome)
    }

    fn may_begin(&self, act: &Act) -> bool {
        matches!(
            (&self.id, act),
            (SessionId::Direct { .. }, Act::Send { .. })
                | (SessionId::Group(_), Act::Change { kind: ChangeKind::Create, .. })
        )
    }

    /// Who must have the session in his list before it begins.
    pub(super) fn founders(&self, actor: &Actor) -> Vec<UserId> {
        match &self.id {
            SessionId::Direct { low, high } => vec![low.clone(), high.clone()],
            SessionId::Group(_) => creator(actor).into_iter().collect(),
        }
    }

    /// Intents that have arrived: user, version, and whether it was that of a member.
    pub fn linked(&mut self, at: &At, done: &[(UserId, u64, bool)]) -> Outcome {
        let mut outcome = Outcome { answer: Some(Answer::Done), gates_moved: true, ..Outcome::default() };
        for (user, version, member) in done {
            match self.intents.get(user) {
                Some(link) if link.version <= *version => {
                    let link = link.clone();
                    self.intents.remove(user);
                    self.dirty.intents.insert(user.clone());
                    if !self.exists && link.member {
                        self.found(user.clone(), link.version);
                    }
                }
                // A repeat of an intent that had been refused arrived after all: that list is put right.
                None if *member && self.member(user).is_none() => {
                    self.version = self.version.max(*version);
                    self.next_version(at);
                    self.intend(user.clone(), false, 1, &mut outcome);
                }
                Some(_) | None => {}
            }
        }
        outcome
    }

    /// Intents that were refused because the users' lists are full: `most` sessions each.
    pub fn unlinked(
        &mut self,
        at: &At,
        limits: &SessionLimits,
        refused: &[(UserId, u64)],
        most: u32,
    ) -> Outcome {
        let mut outcome = Outcome { answer: Some(Answer::Done), gates_moved: true, ..Outcome::default() };
        let pending = |(user, version): &&(UserId, u64)| {
            self.intents.get(user).is_some_and(|link| link.member && link.version == *version)
        };
        let full: BTreeSet<UserId> = refused.iter().filter(pending).map(|(user, _)| user.clone()).collect();
        let Some(first) = full.first().cloned() else { return outcome };
        self.next_version(at);
        for user in &full {
            self.intents.remove(user);
            self.dirty.intents.insert(user.clone());
            self.drop_member(user);
        }
        if self.exists {
            outcome.removed.extend(full.iter().cloned());
            self.hand_over(&full);
            self.record_leaving(at, limits, first, full, &mut outcome);
        } else {
            self.give_up(first, most, &mut outcome);
        }
        outcome
    }

    /// The opening has failed: lists that took the session let it go again.
    fn give_up(&mut self, full: UserId, most: u32, outcome: &mut Outcome) {
        let waiting = self.intents.iter().filter(|(_, link)| link.member).map(|(user, _)| user.clone());
        let present = self.members.iter().filter(|(_, member)| member.present).map(|(user, _)| user.clone());
        let told: BTreeSet<UserId> = waiting.chain(present).collect();
        for user in told {
            self.drop_member(&user);
            self.intend(user, false, 1, outcome);
        }
        let text = format!("{full} is in {most} sessions, as many as allowed (limits.sessions_per_user)");
        let refusal = ErrorBody::new(ErrorCode::TooManySessions, text).with_detail(u64::from(most));
        let of = matches!(self.id, SessionId::Group(_)).then_some(full);
        outcome.given_up = Some(GivenUp { refusal, of });
    }

    /// The record with which users leave whose lists are full. Its client_seq is 0: no device asked for it.
    fn record_leaving(
        &mut self,
        at: &At,
        limits: &SessionLimits,
        sender: UserId,
        users: BTreeSet<UserId>,
        outcome: &mut Outcome,
    ) {
        let Ok(device) = DeviceId::new(NO_DEVICE) else { return };
        let users = users.into_iter().collect();
        let written = Written {
            sender: sender.clone(),
            device: device.clone(),
            epoch: 0,
            client_seq: 0,
            kind: RecordKind::MEMBERS_REMOVED,
            content_type: Blob::default(),
            content: Blob(rookery_wire::encode(&Signal { users })),
            extensions: Vec::new(),
        };
        let (stored, record): (_, Bytes) = self.append(at, limits, written);
        outcome.published = Some(Publication { seq: stored.seq, record, from: (sender, device) });
    }

    /// Carries out a membership change; returns the kind of its record and whom it really concerned.
    pub(super) fn change(
        &mut self,
        at: &At,
        kind: ChangeKind,
        users: &[UserId],
        actor: &Actor,
        outcome: &mut Outcome,
    ) -> (RecordKind, Vec<UserId>) {
        self.next_version(at);
        let seq = self.last_seq + 1;
        let mut concerned: BTreeSet<UserId> = users.iter().cloned().collect();
        concerned.retain(|user| self.member(user).is_some() == (kind == ChangeKind::Remove));
        for user in &concerned {
            if kind == ChangeKind::Remove {
                self.leave(user, outcome);
            } else {
                self.join(user.clone(), seq, outcome);
            }
        }
        if kind == ChangeKind::Remove {
            self.hand_over(&concerned);
        }
        if kind == ChangeKind::Create
            && let Some(creator) = creator(actor)
        {
            // A member since the opening; for everybody else from this record on.
            outcome.added.push(creator.clone());
            concerned.insert(creator.clone());
            self.owner = Some(creator);
        }
        let kind = match kind {
            ChangeKind::Create => RecordKind::CREATED,
            ChangeKind::Add => RecordKind::MEMBERS_ADDED,
            ChangeKind::Remove => RecordKind::MEMBERS_REMOVED,
        };
        (kind, concerned.into_iter().collect())
    }

    /// A group whose owner has left belongs to the member that is in it longest, by name among equals.
    fn hand_over(&mut self, left: &BTreeSet<UserId>) {
        if self.owner.as_ref().is_some_and(|owner| left.contains(owner)) {
            let present = self.members.iter().filter(|(_, member)| member.present);
            self.owner = present
                .min_by_key(|(user, member)| (member.joined_seq, (*user).clone()))
                .map(|(user, _)| user.clone());
        }
    }

    /// Grows with every change, and beyond every version an earlier opening of this session can have had.
    fn next_version(&mut self, at: &At) {
        self.version = (self.version + 1).max(at.index);
    }

    /// A founder's list has the session.
    fn found(&mut self, user: UserId, version: u64) {
        let member = Member { version, present: true, joined_seq: 1, joined_count: 0, own_count: 0 };
        self.present += 1;
        self.dirty.members.insert(user.clone());
        self.members.insert(user, member);
    }

    fn join(&mut self, user: UserId, seq: u64, outcome: &mut Outcome) {
        let own_count = self.members.get(&user).map_or(0, |member| member.own_count);
        let member = Member {
            version: self.version,
            present: true,
            joined_seq: seq,
            joined_count: self.count,
            own_count,
        };
        self.present += 1;
        self.members.insert(user.clone(), member);
        self.dirty.members.insert(user.clone());
        outcome.added.push(user.clone());
        self.intend(user, true, seq, outcome);
    }

    fn leave(&mut self, user: &UserId, outcome: &mut Outcome) {
        if let Some(joined_seq) = self.drop_member(user) {
            outcome.removed.push(user.clone());
            self.intend(user.clone(), false, joined_seq, outcome);
        }
    }

    /// Not present any more; the seq at which the user had joined, if he was.
    fn drop_member(&mut self, user: &UserId) -> Option<u64> {
        let version = self.version;
        let member = self.members.get_mut(user).filter(|member| member.present)?;
        member.present = false;
        member.version = version;
        self.present = self.present.saturating_sub(1);
        self.dirty.members.insert(user.clone());
        Some(member.joined_seq)
    }

    fn intend(&mut self, user: UserId, member: bool, joined_seq: u64, outcome: &mut Outcome) {
        let link = Link { session: self.id.clone(), version: self.version, member, joined_seq };
        self.dirty.intents.insert(user.clone());
        self.intents.insert(user.clone(), link.clone());
        outcome.intents.push(Intent { user, link });
    }
}

/// The user who makes a group; none when a service makes it in its own name, for it is no member.
fn creator(actor: &Actor) -> Option<UserId> {
    (!actor.service || actor.on_behalf_of.is_some()).then(|| actor.name().clone())
}
