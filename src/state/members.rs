//! The members of a session: how it comes to be, who joins and leaves, and the lists of users that must learn of it.
//!
//! A session that has founders (both users of a direct session, the creator of a group) *opens* before its first record
//! is stored: an intent goes to each founder's list, and the act that would begin the session waits outside of this
//! state, taking no number. Once every list has it the act is applied; if a list is full the opening is given up, and
//! the act is refused. So who begins a session hears at once that a list is full, and no session is left behind.
//!
//! Users added later join at once. One whose list turns out to be full, or does not let in who added it, leaves again by a
//! record of its own, so that nobody is a member who does not see it.

use std::collections::BTreeSet;

use rookery_wire::codec::Blob;
use rookery_wire::{DeviceId, ErrorBody, ErrorCode, RecordKind, Retry, SessionId, Signal, UserId};

use super::command::{Act, Actor, ChangeKind, Link, NO_DEVICE, Unwanted};
use super::naming::no_user;
use super::outcome::{Answer, GivenUp, Intent, Outcome, Publication};
use super::placing::{Extensions, Placed, Written, signal};
use super::session::{At, Member, Session, SessionLimits, refused, sender_key};

/// A membership change that is decided and not yet carried out.
pub(super) struct Turnover {
    joins: Vec<UserId>,
    leaves: Vec<UserId>,
    /// Who brings in those who join, if their lists are to be asked whether they let themselves be brought in by that one.
    by: Option<UserId>,
    /// Who makes the group and was taken in when it opened.
    founder: Option<UserId>,
    owner: Option<UserId>,
}

impl Turnover {
    /// Of those who wanted to come themselves: whoever lets them in, their lists do not ask who that is.
    pub(super) fn of_their_own(self) -> Self {
        Self { by: None, ..self }
    }
}

/// When a group is to be asked again that is about to be created, milliseconds.
const SOON_MS: u32 = 50;

impl Session {
    /// Whether it waits for the lists of its founders.
    pub fn opening(&self) -> bool {
        !self.exists && self.intents.values().any(|link| link.member)
    }

    /// Whether it opened in vain, and every list that took it has let it go: nothing of it differs any more from a session of which
    /// nothing is known. Another opening has a greater version, for that is at least the index of its log entry.
    pub fn is_over(&self) -> bool {
        let opened = self.version > 0 && self.version <= self.index;
        let nothing = self.intents.is_empty() && self.senders.is_empty() && self.bars.is_empty();
        opened && nothing && self.keys.is_empty() && !self.exists && !self.frozen && self.present == 0
    }

    /// Whether it opens for this user: his list may have it already, and he is a member as soon as all lists have it.
    pub fn awaits(&self, user: &UserId) -> bool {
        !self.exists && self.intents.get(user).is_some_and(|link| link.member)
    }

    /// What becomes of an act while there is no record yet; none when it is to be judged like any other. One under a request
    /// key has no number.
    pub(super) fn before_it_exists(
        &mut self,
        at: &At,
        actor: &Actor,
        client_seq: Option<u64>,
        act: &Act,
    ) -> Option<Outcome> {
        if self.opening() {
            return Some(Outcome { parked: true, ..Outcome::default() });
        }
        let next = self.last_number(&sender_key(actor)) + 1;
        let opened = self.present > 0;
        let skips = client_seq.filter(|client_seq| *client_seq != next);
        if let Some(client_seq) = skips.filter(|_| opened) {
            let text = format!("client_seq {client_seq} skips numbers, expected {next}");
            return Some(refused(ErrorCode::ClientSeqGap, text, next));
        }
        if !self.may_begin(act) {
            if opened && matches!(self.id, SessionId::Group(_)) {
                // Its creation is on its way into the log once more, and with it what waited behind that. This may be a repeat of
                // the latter, so no refusal is the last word on it.
                let text =
                    format!("{} is about to be created; this may or may not be carried out then", self.id);
                let soon = ErrorBody::new(ErrorCode::Unavailable, text).with_retry(Retry::After(SOON_MS));
                return Some(Outcome::answer(Answer::Refused(soon)));
            }
            return Some(refused(ErrorCode::NoSuchSession, format!("there is no {}", self.id), 0));
        }
        if opened || skips.is_some() {
            return None;
        }
        if let Err(refusal) = self.decide(at, actor, act) {
            return Some(Outcome::answer(Answer::Refused(refusal)));
        }
        let founders = self.founders(actor);
        if founders.is_empty() {
            return None;
        }
        let mut outcome = Outcome { parked: true, ..Outcome::default() };
        self.next_version(at);
        let direct = matches!(self.id, SessionId::Direct { .. });
        let from = (direct && !actor.is_system()).then(|| actor.name().clone());
        for user in founders {
            self.intend_from(user, true, 1, from.clone(), &mut outcome);
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
            self.doors.stays_used(user, *version);
            match self.intents.get(user) {
                Some(link) if link.version <= *version => {
                    let link = link.clone();
                    self.intents.remove(user);
                    self.dirty.intents.insert(user.clone());
                    if !self.exists && link.member {
                        self.found(user.clone(), link.version);
                    }
                }
                // A repeat of an intent that had been refused arrived after all, where the list knew of nothing newer any more: it
                // is put right.
                None if *member && self.member(user).is_none() && !self.frozen => {
                    self.version = version_after(self.version.max(*version), at);
                    self.intend(user.clone(), false, 1, &mut outcome);
                }
                Some(_) | None => {}
            }
        }
        outcome
    }

    /// Whether an intent is one still, as its place in the log has it.
    pub fn still_intends(&self, user: &UserId, version: u64) -> Outcome {
        if self.intents.get(user).is_some_and(|link| link.version == version) {
            return Outcome::answer(Answer::Done);
        }
        refused(ErrorCode::NotMember, format!("{} intends nothing like that for {user}", self.id), 0)
    }

    /// Intents that were refused: the users' lists are full, they do not let in who begins or adds them, or nobody is there.
    pub fn unlinked(
        &mut self,
        at: &At,
        limits: &SessionLimits,
        refused: &[(UserId, u64)],
        why: Unwanted,
    ) -> Outcome {
        let mut outcome = Outcome { answer: Some(Answer::Done), gates_moved: true, ..Outcome::default() };
        let pending = |(user, version): &&(UserId, u64)| {
            self.intents.get(user).is_some_and(|link| link.member && link.version == *version)
        };
        let full: BTreeSet<UserId> = refused.iter().filter(pending).map(|(user, _)| user.clone()).collect();
        // Of who was removed, or has left, before its list refused: it was never in.
        for (user, version) in refused.iter().filter(|(user, _)| !self.frozen && !full.contains(user)) {
            self.doors.gives_back(user, *version);
        }
        let Some(first) = full.first().cloned() else { return outcome };
        if self.frozen {
            // Nothing is undone any more; only the carrying ends.
            self.intents.retain(|user, _| !full.contains(user));
            self.dirty.intents.extend(full);
            return outcome;
        }
        let leaving = if self.exists { self.record_of_leaving(at, &first, &full) } else { None };
        let owner = self.owner_without(&full);
        self.next_version(at);
        for user in &full {
            self.dirty.intents.insert(user.clone());
            let version = self.intents.remove(user).map_or(0, |link| link.version);
            self.doors.gives_back(user, version);
            let joined_seq = self.drop_member(user).unwrap_or(1);
            // The lane may have sent what was refused once more, and nobody waits for what becomes of that: where it finds room
            // later it must be the older one (R12).
            self.intend(user.clone(), false, joined_seq, &mut outcome);
        }
        match leaving {
            Some((from, placed)) => {
                self.owner = owner;
                outcome.removed.extend(full);
                let (stored, record) = self.append(limits, placed);
                outcome.published = Some(Publication { seq: stored.seq, record, from });
            }
            None => self.give_up(first, why, &mut outcome),
        }
        outcome
    }

    /// The opening has failed: lists that took the session let it go again.
    fn give_up(&mut self, full: UserId, why: Unwanted, outcome: &mut Outcome) {
        let waiting = self.intents.iter().filter(|(_, link)| link.member).map(|(user, _)| user.clone());
        let present = self.members.iter().filter(|(_, member)| member.present).map(|(user, _)| user.clone());
        let told: BTreeSet<UserId> = waiting.chain(present).collect();
        for user in told {
            self.drop_member(&user);
            self.intend(user, false, 1, outcome);
        }
        let (refusal, of) = match why {
            Unwanted::Full { most } => {
                let text =
                    format!("{full} is in {most} sessions, as many as allowed (limits.sessions_per_user)");
                let refusal = ErrorBody::new(ErrorCode::TooManySessions, text).with_detail(u64::from(most));
                (refusal, matches!(self.id, SessionId::Group(_)).then_some(full))
            }
            Unwanted::Unknown => (no_user(&full), matches!(self.id, SessionId::Group(_)).then_some(full)),
            // The one who does not let the other in may begin it itself.
            Unwanted::Stranger => {
                let refusal = ErrorBody::new(ErrorCode::RefusedByPeer, ErrorCode::RefusedByPeer.remedy());
                (refusal, self.id.peer_of(&full).cloned())
            }
        };
        outcome.given_up = Some(GivenUp { refusal, of });
    }

    /// The record with which users leave whose lists did not take the session, and from whom it is said to be. Its client_seq is 0: no
    /// device asked for it.
    fn record_of_leaving(
        &self,
        at: &At,
        sender: &UserId,
        users: &BTreeSet<UserId>,
    ) -> Option<((UserId, DeviceId, u32), Placed)> {
        // The name is a good one, so there always is a record.
        let device = DeviceId::new(NO_DEVICE).ok()?;
        let users = users.iter().cloned().collect();
        let told = Blob(rookery_wire::encode(&Signal { users }));
        let (content_type, content, sent) = signal(&told);
        let written = Written {
            sender,
            device: &device,
            epoch: 0,
            client_seq: 0,
            kind: RecordKind::MEMBERS_REMOVED,
            content_type,
            content,
            extensions: Extensions { sent, salt: None },
        };
        let placed = self.place(at, &written);
        Some(((sender.clone(), device, 0), placed))
    }

    /// Decides a membership change: the kind of its record, whom it really concerns, and what is to be carried out.
    pub(super) fn decide_change(
        &self,
        kind: ChangeKind,
        users: &[UserId],
        actor: &Actor,
    ) -> (RecordKind, Vec<UserId>, Turnover) {
        let mut concerned: BTreeSet<UserId> = users.iter().cloned().collect();
        concerned.retain(|user| self.member(user).is_some() == (kind == ChangeKind::Remove));
        let all = |users: &BTreeSet<UserId>| users.iter().cloned().collect::<Vec<_>>();
        let (by, owner) = (creator(actor), self.owner.clone());
        let mut turnover = Turnover { joins: Vec::new(), leaves: Vec::new(), by, founder: None, owner };
        let kind = match kind {
            ChangeKind::Remove => {
                turnover.leaves = all(&concerned);
                turnover.owner = self.owner_without(&concerned);
                RecordKind::MEMBERS_REMOVED
            }
            ChangeKind::Add => {
                turnover.joins = all(&concerned);
                RecordKind::MEMBERS_ADDED
            }
            ChangeKind::Create => {
                turnover.joins = all(&concerned);
                if let Some(founder) = creator(actor) {
                    concerned.insert(founder.clone());
                    turnover.owner = Some(founder.clone());
                    turnover.founder = Some(founder);
                }
                RecordKind::CREATED
            }
        };
        (kind, all(&concerned), turnover)
    }

    /// Carries out what [`Session::decide_change`] decided, before its record is appended.
    pub(super) fn carry_out(&mut self, at: &At, turnover: Turnover, outcome: &mut Outcome) {
        self.next_version(at);
        let seq = self.last_seq + 1;
        for user in turnover.joins {
            self.join(user, seq, turnover.by.clone(), outcome);
        }
        for user in &turnover.leaves {
            self.leave(user, outcome);
        }
        // A member since the opening; for everybody else from this record on.
        outcome.added.extend(turnover.founder);
        self.owner = turnover.owner;
    }

    /// Whose the session is once these have left: a group whose owner leaves belongs to the admin, or else the member,
    /// that is in it longest, by name among equals.
    fn owner_without(&self, left: &BTreeSet<UserId>) -> Option<UserId> {
        if self.owner.as_ref().is_none_or(|owner| !left.contains(owner)) {
            return self.owner.clone();
        }
        let staying = self.members.iter().filter(|(user, member)| member.present && !left.contains(user));
        staying
            .min_by_key(|(user, member)| (!member.admin, member.joined_seq, (*user).clone()))
            .map(|(user, _)| user.clone())
    }

    fn next_version(&mut self, at: &At) {
        self.version = version_after(self.version, at);
    }

    /// A founder's list has the session.
    fn found(&mut self, user: UserId, version: u64) {
        let member = Member {
            version,
            present: true,
            joined_seq: 1,
            joined_count: 0,
            own_count: 0,
            admin: false,
            muted_until: 0,
        };
        self.present += 1;
        self.dirty.members.insert(user.clone());
        self.members.insert(user, member);
    }

    fn join(&mut self, user: UserId, seq: u64, by: Option<UserId>, outcome: &mut Outcome) {
        let before = self.members.get(&user);
        let (own_count, muted_until) = before.map_or((0, 0), |member| (member.own_count, member.muted_until));
        let member = Member {
            version: self.version,
            present: true,
            joined_seq: seq,
            joined_count: self.count,
            own_count,
            admin: false,
            muted_until,
        };
        self.present += 1;
        self.doors.forget(&user);
        self.members.insert(user.clone(), member);
        self.dirty.members.insert(user.clone());
        // Who is brought in by somebody is pushed nothing before its list has let it in: JOINED attaches its devices then. Else
        // what one whom it blocks writes at once would be there before the refusal.
        if by.is_none() {
            outcome.added.push(user.clone());
        }
        self.intend_from(user, true, seq, by, outcome);
    }

    fn leave(&mut self, user: &UserId, outcome: &mut Outcome) {
        if let Some(joined_seq) = self.drop_member(user) {
            outcome.removed.push(user.clone());
            self.intend(user.clone(), false, joined_seq, outcome);
        }
    }

    /// The end of a group: every member's list lets go of it. Nobody is named as removed: nothing is ever pushed after
    /// the record, and each device is detached when it hears that its user has left.
    pub(super) fn dissolve(&mut self, at: &At, outcome: &mut Outcome) {
        self.next_version(at);
        let present = self.members.iter().filter(|(_, member)| member.present).map(|(user, _)| user.clone());
        for user in present.collect::<Vec<_>>() {
            if let Some(joined_seq) = self.drop_member(&user) {
                self.intend(user, false, joined_seq, outcome);
            }
        }
    }

    /// Not present any more; the seq at which the user had joined, if he was.
    fn drop_member(&mut self, user: &UserId) -> Option<u64> {
        let version = self.version;
        let member = self.members.get_mut(user).filter(|member| member.present)?;
        member.present = false;
        member.admin = false;
        member.version = version;
        self.present = self.present.saturating_sub(1);
        self.dirty.members.insert(user.clone());
        Some(member.joined_seq)
    }

    fn intend(&mut self, user: UserId, member: bool, joined_seq: u64, outcome: &mut Outcome) {
        self.intend_from(user, member, joined_seq, None, outcome);
    }

    fn intend_from(
        &mut self,
        user: UserId,
        member: bool,
        joined_seq: u64,
        from: Option<UserId>,
        outcome: &mut Outcome,
    ) {
        let link = Link { session: self.id.clone(), version: self.version, member, joined_seq, from };
        self.dirty.intents.insert(user.clone());
        self.intents.insert(user.clone(), link.clone());
        outcome.intents.push(Intent { user, link });
    }
}

/// Grows with every change, and beyond every version an earlier opening of the session can have had.
fn version_after(version: u64, at: &At) -> u64 {
    (version + 1).max(at.index)
}

/// The user who makes a group, or adds to it; none when a service does so in its own name, for it is no member, and what users
/// set against each other does not bind it.
pub(super) fn creator(actor: &Actor) -> Option<UserId> {
    (!actor.service || actor.on_behalf_of.is_some()).then(|| actor.name().clone())
}
