//! How two users stand to each other: friends, requests, blocks.
//!
//! Each user's entity decides what that user wants of the other, its *stance*, and has a copy of the other's stance, which
//! an errand carries over. How they stand is a function of the two stances, the same seen from either side; so both sides
//! agree as soon as the errands have arrived, in whatever order they did, and requests that cross make friends. A stance
//! has a version, and an older one never takes the place of a newer (R12); so a relation that is over keeps its row for a
//! while, and is no more shown. One in which neither ever wanted anything, of a block that was taken back, leaves none.
//!
//! A block is the blocking user's alone. The direct session of the two enforces it, if this user's list has ever had it: then the
//! block is carried there. Else there is nothing to carry it to, and nothing is stored for it but here: the session does not
//! begin without this user's list, which refuses one that the blocked user begins, and has any other know of the block before
//! it opens. So blocks of people one has nothing to do with, or of names that nobody has, leave nothing when they are taken
//! back.

use bincode::{Decode, Encode};
use rookery_wire::codec::{Blob, Source};
use rookery_wire::frame::frame_bytes;
use rookery_wire::own::{Relation, RelationFilter};
use rookery_wire::{Kind, RelationState, SessionId, UserId};

use super::command::ReadTo;
use super::manage::own;
use super::outcome::{About, Answer, Gate, Outcome};
use super::session::At;
use super::user::{User, frozen};
use crate::plant::planted;

/// What one user wants of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Wish {
    /// Nothing.
    #[default]
    No,
    /// To be friends.
    Ask,
    /// To be friends, as that one has asked by its stance of this version.
    Accept(u64),
}

/// What one user wants of another, and what it has turned down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Stance {
    /// Grows with every change; 0 for none yet.
    pub version: u64,
    /// What is wanted.
    pub wish: Wish,
    /// Stances of the other up to this version count for nothing: declined, or ended.
    pub refuses_up_to: u64,
}

impl Stance {
    /// Whether this wish counts against the other's stance.
    fn counts(&self, other: &Stance) -> bool {
        self.version > other.refuses_up_to
            && match self.wish {
                Wish::No => false,
                Wish::Ask => true,
                Wish::Accept(of) => {
                    other.wish == Wish::Ask && other.version == of && other.version > self.refuses_up_to
                }
            }
    }
}

/// One user's relation to another, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct RelationEntry {
    /// What this user wants.
    pub mine: Stance,
    /// What the other wants, as far as it has come here.
    pub theirs: Stance,
    /// This user takes nothing that one writes.
    pub blocked: bool,
    /// What this user calls that one.
    pub remark: Blob,
    /// Of the request, while there is one.
    pub text: Blob,
    /// Since when they stand so, unix milliseconds.
    pub since_ms: u64,
}

impl RelationEntry {
    /// How they stand.
    pub fn state(&self) -> RelationState {
        match (self.mine.counts(&self.theirs), self.theirs.counts(&self.mine)) {
            (true, true) => RelationState::Friends,
            (true, false) => RelationState::Requested,
            (false, true) => RelationState::Asked,
            (false, false) => RelationState::None,
        }
    }

    /// Whether there is anything to show.
    pub fn is_live(&self) -> bool {
        self.blocked || !self.remark.is_empty() || self.state() != RelationState::None
    }

    /// Whether all there is of it is a request of the other: this user has had no part in it.
    pub(super) fn is_only_asked(&self) -> bool {
        self.state() == RelationState::Asked && !self.blocked && self.remark.is_empty()
    }

    /// Whether it counts as one of this user's own.
    pub(super) fn is_own(&self) -> bool {
        self.is_live() && !self.is_only_asked()
    }

    /// Whether neither has ever wanted anything of the other, as far as is known here.
    fn is_blank(&self) -> bool {
        self.mine == Stance::default() && self.theirs == Stance::default()
    }

    fn line(&self, user: &UserId) -> Relation {
        Relation {
            user: user.clone(),
            state: self.state(),
            blocked: self.blocked,
            remark: self.remark.clone(),
            text: self.text.clone(),
            since_ms: self.since_ms,
        }
    }

    /// What follows from a change of state.
    fn settled(mut self, before: RelationState, time_ms: u64) -> Self {
        let after = self.state();
        if after != before {
            self.since_ms = time_ms;
        }
        if !matches!(after, RelationState::Requested | RelationState::Asked) {
            self.text = Blob::default();
        }
        if !self.is_live() {
            self.since_ms = time_ms;
        }
        self
    }
}

/// Where an errand goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum ErrandKind {
    /// To the direct session of the two: whether the other is blocked.
    Bar,
    /// To the other user: this one's stance.
    Stance,
    /// To the direct session of the two: how far this one has read, for messages wait for that.
    Burn,
}

/// What must still happen elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Errand {
    /// Which version of this user's doings left it; a newer one to the same place takes its place.
    pub version: u64,
    /// What it says there.
    pub says: Says,
}

/// What an errand says where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum Says {
    /// Whether messages of the other are refused.
    Bar(bool),
    /// The stance, and the text of a request.
    Stance(Stance, Blob),
    /// Messages up to this seq are read.
    Burn(u64),
}

/// Names an errand of one user: where it goes, and whom it is about.
pub type ErrandKey = (ErrandKind, UserId);

/// How many relations a user may have, by the configuration of the node that carries an errand (G8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Room {
    /// Its own: friends, those whom it has asked or blocked, remarks.
    pub relations: u32,
    /// Beside those, requests of others.
    pub requests: u32,
}

/// What a user does to a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Asks, or accepts what was asked.
    Request,
    /// Accepts, if something was asked.
    Accept,
    /// Wants it no more, and turns down what was asked.
    Refuse,
}

/// A relation as it will be, and the errands that follow.
pub(super) struct Turned {
    pub(super) entry: RelationEntry,
    pub(super) errands: Vec<(ErrandKind, Says)>,
}

impl User {
    /// How this user stands to another.
    pub fn relation(&self, other: &UserId) -> RelationState {
        self.relations.get(other).map_or(RelationState::None, RelationEntry::state)
    }

    /// Whether this user takes nothing that another writes.
    pub fn blocks(&self, other: &UserId) -> bool {
        self.relations.get(other).is_some_and(|entry| entry.blocked)
    }

    /// Whether users who are no friends may neither begin a direct session nor add this user to a group.
    pub fn refuses_strangers(&self) -> bool {
        self.refuses_strangers
    }

    /// Whether another may begin a direct session with this user, or add it to a group.
    pub(super) fn lets_in(&self, other: &UserId) -> bool {
        !self.blocks(other) && (!self.refuses_strangers || self.relation(other) == RelationState::Friends)
    }

    /// Relations by name, after `after`.
    pub fn relations_after(
        &self,
        which: RelationFilter,
        after: Option<&UserId>,
    ) -> impl Iterator<Item = Relation> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let wanted = move |entry: &RelationEntry| match which {
            RelationFilter::All => entry.is_live(),
            RelationFilter::Friends => entry.state() == RelationState::Friends,
            RelationFilter::Requests => {
                matches!(entry.state(), RelationState::Requested | RelationState::Asked)
            }
            RelationFilter::Blocked => entry.blocked,
        };
        let all = self.relations.range::<UserId, _>((from, Unbounded));
        all.filter(move |(_, entry)| wanted(entry)).map(|(user, entry)| entry.line(user))
    }

    /// Errands that have not arrived.
    pub fn pending_errands(&self) -> impl Iterator<Item = (&ErrandKey, &Errand)> {
        self.errands.iter()
    }

    /// Whether the errands that an answer waits for have arrived.
    pub fn gate_open(&self, gate: &Gate) -> bool {
        let is_over = |errand: &Errand| !gate.spans(errand.version);
        planted("block-early")
            || match &gate.about {
                About::Errands(kind, Some(other)) => {
                    self.errands.get(&(*kind, other.clone())).is_none_or(is_over)
                }
                About::Errands(kind, None) => {
                    self.errands.iter().filter(|((of, _), _)| of == kind).all(|(_, errand)| is_over(errand))
                }
                About::All => self.errands.values().all(is_over),
                // A user has none.
                About::Lists(_) => true,
            }
    }

    /// What the first answer to an act waits for, before which the version was this. Where it has left nothing for another, what
    /// an earlier one has left there may be on its way still; one that is about many waits for what it has left itself.
    pub(super) fn gate_behind(&self, before: u64, about: About) -> Gate {
        match about {
            About::Errands(_, Some(_)) => Gate::by_now(self.version, about),
            _ => Gate::of_all(before, self.version),
        }
    }

    /// What an answer waits for that is about how far this user has read a direct session, or about a block that it learns of.
    pub(super) fn gate_to(&self, kind: ErrandKind, session: &SessionId) -> Option<Gate> {
        let other = session.peer_of(&self.id)?.clone();
        Some(Gate::by_now(self.version, About::Errands(kind, Some(other))))
    }

    /// A relation after a step of this user's; as it is when there is nothing to do.
    pub(super) fn step(&self, at: &At, other: &UserId, step: Step, text: &Blob) -> Turned {
        let entry = self.relations.get(other).cloned().unwrap_or_default();
        let before = entry.state();
        let version = self.version_after(at);
        let mut next = entry.clone();
        let asked = Wish::Accept(entry.theirs.version);
        match (step, before) {
            (Step::Request, RelationState::None) => {
                (next.mine.wish, next.text) = (Wish::Ask, own(text));
            }
            (Step::Request | Step::Accept, RelationState::Asked) => next.mine.wish = asked,
            (Step::Refuse, RelationState::Asked | RelationState::Friends | RelationState::Requested) => {
                (next.mine.wish, next.mine.refuses_up_to) = (Wish::No, entry.theirs.version);
            }
            _ => return Turned { entry, errands: Vec::new() },
        }
        next.mine.version = version;
        let entry = next.settled(before, at.time_ms);
        let errands = vec![(ErrandKind::Stance, Says::Stance(entry.mine, entry.text.clone()))];
        Turned { entry, errands }
    }

    /// Blocks another, or takes that back. The direct session of the two hears of it if there may be one.
    pub(super) fn bar(&self, other: &UserId, on: bool, time_ms: u64) -> Turned {
        let mut entry = self.relations.get(other).cloned().unwrap_or_default();
        let moved = entry.blocked != on;
        entry.blocked = on;
        let before = entry.state();
        let entry = entry.settled(before, time_ms);
        let carried =
            moved && self.direct_with(other).is_some_and(|session| self.links.contains_key(&session));
        Turned { entry, errands: if carried { vec![(ErrandKind::Bar, Says::Bar(on))] } else { Vec::new() } }
    }

    /// Leaves the errand that tells a direct session which has just come to this user's list that the other is blocked; says
    /// whether there is one.
    pub(super) fn bar_from_the_beginning(&mut self, session: &SessionId) -> bool {
        let Some(other) = session.peer_of(&self.id).filter(|other| self.blocks(other)).cloned() else {
            return false;
        };
        self.send_errands_from(&other, vec![(ErrandKind::Bar, Says::Bar(true))], self.applying);
        true
    }

    /// What waits for the errand that is carrying a block, or the end of one, to this session; none if none is.
    pub(super) fn bar_under_way(&self, session: &SessionId) -> Option<Gate> {
        let other = session.peer_of(&self.id)?;
        self.errands.get(&(ErrandKind::Bar, other.clone()))?;
        self.gate_to(ErrandKind::Bar, session)
    }

    /// The frame that tells this user's devices how a relation is now, if that is another than before.
    pub(super) fn told(&self, other: &UserId, entry: &RelationEntry) -> Option<bytes::Bytes> {
        let line = entry.line(other);
        let before = self.relations.get(other).cloned().unwrap_or_default().line(other);
        // Since when there is nothing is no news.
        let same = before == line || (!entry.is_live() && before.state == line.state && !before.blocked);
        (!same).then(|| frame_bytes(Kind::Relation, 0, &line))
    }

    /// Whether a relation of this user's own to another would be one too many. Requests of others have a bound of their own: else
    /// whoever can make accounts could keep this user from blocking them.
    pub(super) fn is_full_for(&self, other: &UserId, most: u32) -> bool {
        let known = self.relations.get(other).is_some_and(RelationEntry::is_own);
        !known && self.live_relations.saturating_sub(self.asked) >= most
    }

    /// Whether one more request, of this one, would be too many.
    fn has_no_ear_for(&self, other: &UserId, next: &RelationEntry, room: &Room) -> bool {
        let known = self.relations.get(other).is_some_and(RelationEntry::is_only_asked);
        next.is_only_asked() && !known && self.asked >= room.requests
    }

    /// Stores a relation, and lets the oldest go of those that are over when there are too many.
    pub(super) fn store_relation(&mut self, other: &UserId, entry: RelationEntry, most: u32) {
        let known = self.relations.get(other);
        let (was, asked) = known.map_or((false, false), |known| (known.is_live(), known.is_only_asked()));
        let is = entry.is_live();
        self.live_relations = self.live_relations.saturating_sub(u32::from(was)) + u32::from(is);
        self.asked = self.asked.saturating_sub(u32::from(asked)) + u32::from(entry.is_only_asked());
        if !is && entry.is_blank() {
            // Nothing of it can come in the wrong order: the block that is over has its version where it was carried to, if it
            // ever was.
            if self.relations.remove(other).is_some() {
                self.dirty.relations.insert(other.clone());
            }
        } else if self.relations.get(other) != Some(&entry) {
            self.relations.insert(other.clone(), entry);
            self.dirty.relations.insert(other.clone());
        }
        let over = self.relations.len().saturating_sub(self.live_relations as usize);
        if over > most.max(16) as usize {
            let errand = |user: &UserId| self.errands.contains_key(&(ErrandKind::Stance, user.clone()));
            let oldest = self.relations.iter().filter(|(user, entry)| !entry.is_live() && !errand(user));
            let oldest = oldest.min_by_key(|(user, entry)| (entry.since_ms, (*user).clone()));
            if let Some(user) = oldest.map(|(user, _)| user.clone()) {
                self.relations.remove(&user);
                self.dirty.relations.insert(user);
            }
        }
    }

    /// Leaves errands under one version.
    pub(super) fn send_errands(&mut self, other: &UserId, errands: Vec<(ErrandKind, Says)>, at: &At) {
        self.send_errands_from(other, errands, at.index);
    }

    fn send_errands_from(&mut self, other: &UserId, errands: Vec<(ErrandKind, Says)>, index: u64) {
        if errands.is_empty() {
            return;
        }
        self.version = (self.version + 1).max(index);
        for (kind, says) in errands {
            let key = (kind, other.clone());
            self.errands.insert(key.clone(), Errand { version: self.version, says });
            self.dirty.errands.insert(key);
        }
    }

    /// Leaves the errand that tells a direct session that what waits in it is read; says whether there is one.
    pub(super) fn tell_read(&mut self, at: &At, to: &ReadTo) -> bool {
        let Some(other) = to.session.peer_of(&self.id).filter(|_| to.burns).cloned() else { return false };
        // One that is still on its way is replaced, and must not be made to say less.
        let read = self.links.get(&to.session).map_or(to.seq, |link| link.read_seq.max(to.seq));
        self.send_errands(&other, vec![(ErrandKind::Burn, Says::Burn(read))], at);
        true
    }

    /// Another user's stance arrives. What cannot be taken, from one who is blocked or because there is no room, is
    /// declined on the spot: to the other that looks like any other no.
    pub fn hear(&mut self, at: &At, from: &UserId, stance: &Stance, text: &Blob, room: Room) -> Outcome {
        if self.frozen {
            return frozen();
        }
        let entry = self.relations.get(from).cloned().unwrap_or_default();
        if stance.version <= entry.theirs.version {
            return Outcome::answer(Answer::Done);
        }
        let before = entry.state();
        let mut next = entry;
        next.theirs = *stance;
        if next.mine.version <= stance.refuses_up_to {
            // What they refused is over for good, also when they have forgotten by then that they did.
            next.mine.wish = Wish::No;
        }
        let asked = next.state() == RelationState::Asked;
        let mut errands = Vec::new();
        if asked && (next.blocked || self.has_no_ear_for(from, &next, &room)) {
            next.mine =
                Stance { version: self.version_after(at), wish: Wish::No, refuses_up_to: stance.version };
            errands.push((ErrandKind::Stance, Says::Stance(next.mine, Blob::default())));
        } else if asked {
            next.text = own(text);
        }
        let next = next.settled(before, at.time_ms);
        let mut outcome = Outcome::answer(Answer::Done);
        outcome.user_frames.extend(self.told(from, &next));
        outcome.errands = !errands.is_empty();
        self.send_errands(from, errands, at);
        self.store_relation(from, next, room.relations);
        outcome
    }

    /// Errands that have arrived.
    pub fn carried(&mut self, done: &[(ErrandKey, u64)]) -> Outcome {
        for (key, version) in done {
            if self.errands.get(key).is_some_and(|errand| errand.version <= *version) {
                self.errands.remove(key);
                self.dirty.errands.insert(key.clone());
            }
        }
        Outcome { answer: Some(Answer::Done), gates_moved: true, ..Outcome::default() }
    }

    pub(super) fn version_after(&self, at: &At) -> u64 {
        (self.version + 1).max(at.index)
    }

    /// The direct session with another; none with itself.
    pub fn direct_with(&self, other: &UserId) -> Option<SessionId> {
        SessionId::direct(&self.id, other).ok()
    }
}
