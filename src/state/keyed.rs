//! Request keys: a backend's name for one change, in the place of a device's number (R11).
//!
//! Whoever asks first under a key is judged; every repeat, over whichever connection and by whichever service, gets that
//! answer again. A key belongs to the one entity it was used on, and is remembered there for [`KEY_LIVES_MS`] by stamped
//! time at least; it goes when a later one comes, so on an entity that nobody asks under a key again it stays. An entity
//! remembers [`MAX_KEYS`]: one more that is asked for within that time is refused, for a key forgotten early would be
//! carried out twice. For the same reason nothing is forgotten by a clock that does not agree with a majority's, and a key
//! taken by such a clock ages only from when one that agrees has seen it.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use rookery_wire::codec::Source;
use rookery_wire::own::SelfAck;
use rookery_wire::{ErrorBody, ErrorCode, RequestKey, UserAction};

use super::command::{Act, Actor};
use super::outcome::{About, Answer, Gate, Outcome};
use super::own::UserAct;
use super::parts::PartOf;
use super::session::{At, Session, SessionLimits, refused};
use super::user::{User, frozen};
use crate::plant::planted;

/// Keys that one session or user remembers. Part of what apply decides.
pub const MAX_KEYS: usize = 10_000;

/// For how long a key is remembered at least, milliseconds. Part of what apply decides.
pub const KEY_LIVES_MS: u64 = 24 * 60 * 60 * 1000;

/// Keys forgotten with one that is taken, at most: what a checkpoint writes stays bounded. Part of what apply decides.
const FORGOTTEN_AT_ONCE: usize = 64;

/// The fingerprint of an act whose content is no more: any act may be its repeat. No act has it, but for one of 2^64.
const GONE: u64 = u64::MAX;

/// Stands as the time of a key that was taken while the leader's clock did not agree with the others': nobody knows it.
const UNSURE: u64 = u64::MAX;

/// What came of a key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeptKey<T> {
    /// Tells a repeat from another act under the same key; `GONE` once what it said is.
    fingerprint: u64,
    /// When it was taken, or [`UNSURE`].
    time_ms: u64,
    /// What its answer says, or code and detail of its refusal.
    fate: Result<T, (ErrorCode, u64)>,
}

/// The keys that one entity remembers.
#[derive(Clone, Debug)]
pub struct Keys<T> {
    known: BTreeMap<RequestKey, KeptKey<T>>,
    by_time: BTreeSet<(u64, RequestKey)>,
    dirty: BTreeSet<RequestKey>,
}

impl<T> Default for Keys<T> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), by_time: BTreeSet::new(), dirty: BTreeSet::new() }
    }
}

/// What is known of a key.
pub(super) enum Known<'a, T> {
    /// It was not used here, and there is room for it.
    Fresh,
    /// It was used for the same.
    Used(&'a Result<T, (ErrorCode, u64)>),
    /// It cannot be used for this.
    Refused(ErrorBody),
}

impl<T> Keys<T> {
    /// As rows have them.
    pub(super) fn loaded(known: BTreeMap<RequestKey, KeptKey<T>>) -> Self {
        let by_time = known.iter().map(|(key, kept)| (kept.time_ms, key.clone())).collect();
        Self { known, by_time, dirty: BTreeSet::new() }
    }

    /// Whether the key is remembered.
    pub(super) fn has(&self, key: &RequestKey) -> bool {
        self.known.contains_key(key)
    }

    /// Whether none is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether rows were collected for all of them.
    pub(super) fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Those that have changed since this was last asked, and what is known of them now.
    pub(super) fn collect(&mut self) -> Vec<(RequestKey, Option<&KeptKey<T>>)> {
        let dirty = std::mem::take(&mut self.dirty).into_iter();
        dirty.map(|key| (key.clone(), self.known.get(&key))).collect()
    }

    /// What the key says to somebody who asks for what has this fingerprint.
    pub(super) fn find(&self, key: &RequestKey, fingerprint: u64, at: &At) -> Known<'_, T> {
        if let Some(kept) =
            self.known.get(key).filter(|_| !planted("key-forgotten") || !at.index.is_multiple_of(3))
        {
            if kept.fingerprint == fingerprint || kept.fingerprint == GONE {
                return Known::Used(&kept.fate);
            }
            let text = format!("the key {key} was used for another action");
            return Known::Refused(ErrorBody::new(ErrorCode::KeyReused, text));
        }
        match self.by_time.first() {
            Some((oldest, _)) if self.known.len() >= MAX_KEYS && !is_over(*oldest, at) => {
                let text =
                    format!("{MAX_KEYS} keys of the last 24 hours are remembered here, as many as may be");
                let full = ErrorBody::new(ErrorCode::KeysFull, text);
                Known::Refused(full.with_detail(oldest.saturating_add(KEY_LIVES_MS)))
            }
            _ => Known::Fresh,
        }
    }

    fn remember(&mut self, key: &RequestKey, fingerprint: u64, at: &At, fate: Result<T, (ErrorCode, u64)>) {
        self.forget(at);
        let time_ms = if at.time_agrees { at.time_ms } else { UNSURE };
        self.by_time.insert((time_ms, key.clone()));
        self.known.insert(key.clone(), KeptKey { fingerprint, time_ms, fate });
        self.dirty.insert(key.clone());
    }

    /// Lets some go that are old enough, and gives some their time that had none.
    fn forget(&mut self, at: &At) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            if !self.by_time.first().is_some_and(|(oldest, _)| is_over(*oldest, at)) {
                break;
            }
            let Some((_, old)) = self.by_time.pop_first() else { break };
            self.known.remove(&old);
            self.dirty.insert(old);
        }
        for _ in 0..FORGOTTEN_AT_ONCE {
            if !(at.time_agrees && self.by_time.last().is_some_and(|(time_ms, _)| *time_ms == UNSURE)) {
                break;
            }
            let Some((_, unsure)) = self.by_time.pop_last() else { break };
            if let Some(kept) = self.known.get_mut(&unsure) {
                kept.time_ms = at.time_ms;
            }
            self.by_time.insert((at.time_ms, unsure.clone()));
            self.dirty.insert(unsure);
        }
    }
}

impl<T> Keys<T> {
    /// The content that was stored under the key with this fate is no more: neither is its hash (G7).
    pub(super) fn forget_content(&mut self, is_it: impl Fn(&T) -> bool) {
        let mut known = self.known.iter_mut();
        if let Some((key, kept)) = known.find(|(_, kept)| kept.fate.as_ref().is_ok_and(&is_it)) {
            kept.fingerprint = GONE;
            self.dirty.insert(key.clone());
        }
    }
}

/// Whether a key of that time may be forgotten now.
fn is_over(taken_ms: u64, at: &At) -> bool {
    at.time_agrees && taken_ms.saturating_add(KEY_LIVES_MS) < at.time_ms
}

/// What a backend does under a key to what is a user's own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum KeyedOwn {
    /// What the user might do itself; its number says nothing.
    Act(UserAct),
    /// Takes the name for a user that is not there yet.
    Create,
}

impl KeyedOwn {
    fn fingerprint(&self) -> u64 {
        match self {
            KeyedOwn::Act(act) => act.fingerprint(),
            KeyedOwn::Create => 0,
        }
    }

    fn about_errands(&self) -> Option<About> {
        match self {
            KeyedOwn::Act(act) => act.about_errands(),
            KeyedOwn::Create => None,
        }
    }
}

fn again_refused((code, detail): (ErrorCode, u64)) -> Answer {
    Answer::Refused(ErrorBody::new(code, code.remedy()).with_detail(detail))
}

impl Session {
    /// Applies an act under a request key.
    pub fn apply_keyed(
        &mut self,
        at: &At,
        limits: &SessionLimits,
        actor: &Actor,
        key: &RequestKey,
        act: &Act,
    ) -> Outcome {
        if self.frozen {
            return refused(ErrorCode::Frozen, "this session was frozen after a fault".to_owned(), 0);
        }
        let fingerprint = act.fingerprint(actor.on_behalf_of.as_ref());
        match self.keys.find(key, fingerprint, at) {
            Known::Fresh => {}
            Known::Refused(refusal) => return Outcome::answer(Answer::Refused(refusal)),
            Known::Used(Err(refusal)) => return Outcome::answer(again_refused(*refusal)),
            Known::Used(Ok(stored)) => {
                return Outcome {
                    answer: Some(Answer::Ack(stored.ack(self.id.clone(), 0))),
                    // As of a number: the first answer may still be waiting for its intents.
                    gate: self.gate_of(actor, act),
                    ..Outcome::default()
                };
            }
        }
        // What is refused before there is a session leaves nothing behind, its key included.
        if !self.exists
            && let Some(outcome) = self.before_it_exists(at, actor, None, act)
        {
            return outcome;
        }
        match self.decide(at, actor, act) {
            Ok(()) => match self.store(at, limits, actor, 0, act) {
                Ok((outcome, stored, _)) => {
                    self.keys.remember(key, fingerprint, at, Ok(stored));
                    outcome
                }
                Err(refusal) => Outcome::answer(Answer::Refused(refusal)),
            },
            Err(refusal) => {
                self.keys.remember(key, fingerprint, at, Err((refusal.code, refusal.detail)));
                Outcome::answer(Answer::Refused(refusal))
            }
        }
    }

    /// What came of a key, if it is remembered.
    #[cfg(test)]
    pub(super) fn kept_key(
        &self,
        key: &RequestKey,
    ) -> Option<&Result<super::sender::Stored, (ErrorCode, u64)>> {
        self.keys.known.get(key).map(|kept| &kept.fate)
    }
}

impl User {
    /// Applies an act under a request key on this user's own things.
    pub fn act_keyed(&mut self, at: &At, key: &RequestKey, act: &KeyedOwn) -> Outcome {
        if self.frozen {
            return frozen();
        }
        let fingerprint = act.fingerprint();
        let (version, about) = (self.version, act.about_errands());
        match self.keys.find(key, fingerprint, at) {
            Known::Fresh => {}
            Known::Refused(refusal) => return Outcome::answer(Answer::Refused(refusal)),
            Known::Used(Err(refusal)) => return Outcome::answer(again_refused(*refusal)),
            Known::Used(Ok((time_ms, value))) => {
                let ack = SelfAck { number: 0, time_ms: *time_ms, value: *value };
                let gate = about.map(|about| Gate::by_now(version, about));
                return Outcome { gate, ..Outcome::answer(Answer::Own(ack)) };
            }
        }
        let of = PartOf::Keyed(key.clone());
        let reads_all = matches!(act, KeyedOwn::Act(act) if act.action == UserAction::ReadAll);
        let first = self.counted_before(&of).filter(|_| reads_all);
        let done = match act {
            KeyedOwn::Create => self.create(at),
            KeyedOwn::Act(act) => self.carry_out_judged(at, act),
        };
        match done {
            Ok((value, mut outcome)) => {
                let value = first.unwrap_or(value);
                self.counts_no_more(&of);
                self.keys.remember(key, fingerprint, at, Ok((at.time_ms, value)));
                outcome.answer = Some(Answer::Own(SelfAck { number: 0, time_ms: at.time_ms, value }));
                outcome.gate = about.map(|about| self.gate_behind(version, about));
                outcome
            }
            Err(refusal) => {
                self.counts_no_more(&of);
                self.keys.remember(key, fingerprint, at, Err((refusal.code, refusal.detail)));
                Outcome::answer(Answer::Refused(refusal))
            }
        }
    }

    /// Whether a key is remembered here.
    pub fn knows_key(&self, key: &RequestKey) -> bool {
        self.keys.has(key)
    }

    fn create(&mut self, at: &At) -> Result<(u64, Outcome), ErrorBody> {
        if self.is_taken() {
            let text = format!("there is a user {} already", self.id);
            return Err(ErrorBody::new(ErrorCode::UserExists, text));
        }
        self.created_ms = at.time_ms.max(1);
        Ok((1, Outcome::default()))
    }
}
