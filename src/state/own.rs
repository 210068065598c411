//! What a user does to its own things: one numbered act, judged and carried out.
//!
//! As in a session, everything is decided and every frame is encoded before anything changes (R9): [`User::decide`] makes a
//! [`Change`] of new values, [`User::carry_out`] assigns them.

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::codec::Source;
use rookery_wire::frame::frame_bytes;
use rookery_wire::own::SelfAck;
use rookery_wire::reply::ReadMark;
use rookery_wire::{Blob, DeviceId, ErrorBody, ErrorCode, Kind, SessionId, UserAction, UserId};
use xxhash_rust::xxh3::Xxh3;

use super::command::{Actor, ReadTo};
use super::devices::{Device, end_notice};
use super::exceptions::{Deleted, Extras};
use super::key::SenderKey;
use super::manage::own;
use super::outcome::{About, Answer, Gate, Outcome};
use super::parts::PartOf;
use super::privacy::Privacy;
use super::relations::{ErrandKind, RelationEntry, Says, Step, Turned};
use super::series::{Kept, taking};
use super::session::At;
use super::user::{User, frozen};

/// What the node that took an act has learned for it from sessions; it is no part of what makes a retry the same.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Given {
    /// Nothing is needed.
    Nothing,
    /// The running count at the seq up to which a session is cleared.
    Count(u64),
    /// The running counts before and at the end of a range that is deleted.
    Range {
        /// Before its first message.
        before: u64,
        /// At its last.
        count: u64,
    },
    /// Where the sessions stand that are read now, and how many messages were unread.
    Heads {
        /// Where each of them stands.
        cursors: Vec<ReadTo>,
        /// In all sessions, those included that an earlier command has moved.
        unread: u64,
    },
}

/// Bounds that are judged at apply, by the configuration of the node that took the request (G8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OwnBounds {
    /// Deleted ranges of one session.
    pub deletions: u32,
    /// Relations of one user.
    pub relations: u32,
}

/// An act as it is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct UserAct {
    /// The device's number.
    pub number: u64,
    /// What.
    pub action: UserAction,
    /// What the gateway learned for it.
    pub given: Given,
    /// Bounds.
    pub bounds: OwnBounds,
}

impl UserAct {
    /// A stable hash that tells a retry from another act under the same number. Part of the data format.
    pub fn fingerprint(&self) -> u64 {
        fingerprint(&self.action)
    }

    /// The errands to other entities that must have arrived before it is acknowledged; none if it concerns nobody else.
    pub(super) fn about_errands(&self) -> Option<About> {
        Some(match &self.action {
            UserAction::RequestFriend { user, .. }
            | UserAction::AcceptFriend { user }
            | UserAction::DeclineFriend { user }
            | UserAction::RemoveFriend { user } => About::Errands(ErrandKind::Stance, Some(user.clone())),
            UserAction::Block { user } | UserAction::Unblock { user } => {
                About::Errands(ErrandKind::Bar, Some(user.clone()))
            }
            UserAction::ReadAll => About::Errands(ErrandKind::Burn, None),
            _ => return None,
        })
    }
}

/// As [`UserAct::fingerprint`].
pub(super) fn fingerprint(action: &UserAction) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&rookery_wire::encode(action));
    hash.digest()
}

/// New values, and what is told of them.
#[derive(Default)]
struct Change {
    value: u64,
    frames: Vec<Bytes>,
    extras: Vec<(SessionId, Extras)>,
    cursors: Vec<ReadTo>,
    relation: Option<(UserId, RelationEntry, Vec<(ErrandKind, Says)>)>,
    refuses_strangers: Option<bool>,
    privacy: Option<Privacy>,
    device: Option<(DeviceId, Device)>,
    ended: Option<DeviceId>,
}

impl User {
    /// Applies a numbered act on this user's own things.
    pub fn act(&mut self, at: &At, actor: &Actor, act: &UserAct) -> Outcome {
        if self.frozen {
            return frozen();
        }
        let fingerprint = act.fingerprint();
        let key = match self.judge_act(actor, act.number, fingerprint) {
            Ok(key) => key,
            Err(answer) => {
                let about = act.about_errands().filter(|_| matches!(answer, Answer::Own(_)));
                let gate = about.map(|about| Gate::by_now(self.version, about));
                return Outcome { gate, ..Outcome::answer(answer) };
            }
        };
        let of = PartOf::Numbered { actor: actor.clone(), number: act.number };
        let reads_all = act.action == UserAction::ReadAll;
        let (fate, answer, change) = match self.decide(at, act) {
            Ok(mut change) => {
                change.value = self.counted_before(&of).filter(|_| reads_all).unwrap_or(change.value);
                let ack = SelfAck { number: act.number, time_ms: at.time_ms, value: change.value };
                (Ok((at.time_ms, change.value)), Answer::Own(ack), Some(change))
            }
            Err(refusal) => (Err(refusal.code), Answer::Refused(taking(refusal, act.number)), None),
        };
        let (mut outcome, version) = (Outcome::answer(answer), self.version);
        self.consume_own(key, Kept { fingerprint, fate }, at.time_ms);
        self.counts_no_more(&of);
        if let Some(change) = change {
            self.carry_out(at, act, change, &mut outcome);
            outcome.gate = act.about_errands().map(|about| self.gate_behind(version, about));
        }
        outcome
    }

    /// The series in which this number is the next one; else what is answered to it.
    pub(super) fn judge_act(
        &self,
        actor: &Actor,
        number: u64,
        fingerprint: u64,
    ) -> Result<SenderKey, Answer> {
        if actor.user == self.id && self.epoch(&actor.device) != actor.epoch {
            let text = format!("epoch {} is not this device's any more", actor.epoch);
            return Err(Answer::Refused(ErrorBody::new(ErrorCode::BadEpoch, text)));
        }
        let key = SenderKey { user: actor.user.clone(), device: actor.device.clone(), epoch: actor.epoch };
        match self.judge_number(&key, number, fingerprint) {
            Some(answer) => Err(answer),
            None => Ok(key),
        }
    }

    /// Carries out an act if it is allowed: what came of it, with what follows. Nothing has changed if it is not.
    pub(super) fn carry_out_judged(&mut self, at: &At, act: &UserAct) -> Result<(u64, Outcome), ErrorBody> {
        let change = self.decide(at, act)?;
        let (value, mut outcome) = (change.value, Outcome::default());
        self.carry_out(at, act, change, &mut outcome);
        Ok((value, outcome))
    }

    fn decide(&self, at: &At, act: &UserAct) -> Result<Change, ErrorBody> {
        let text = Blob::default();
        match &act.action {
            UserAction::SetSession { session, setting } => {
                let mut extras = self.extras_of_member(session)?;
                let moved = extras.set(setting, at.time_ms);
                Ok(self.change_extras(session, extras, moved))
            }
            UserAction::ReadAll => Ok(self.read_all(&act.given)),
            UserAction::ClearSession { session, seq } => {
                let mut extras = self.extras_of_member(session)?;
                let Given::Count(count) = act.given else { return Err(incomplete()) };
                let moved = extras.clear(*seq, count);
                Ok(self.change_extras(session, extras, moved))
            }
            UserAction::DeleteMessages { session, from_seq, to_seq } => {
                let mut extras = self.extras_of_member(session)?;
                let Given::Range { before, count } = act.given else { return Err(incomplete()) };
                let range = Deleted { from_seq: *from_seq, to_seq: *to_seq, before, count };
                let moved = extras.delete(range);
                if moved && extras.deleted.len() > act.bounds.deletions as usize {
                    let most = act.bounds.deletions;
                    let text = format!("{session} would have more than {most} deleted ranges");
                    let full = ErrorBody::new(ErrorCode::TooManyDeletions, text);
                    return Err(full.with_detail(u64::from(most)));
                }
                Ok(self.change_extras(session, extras, moved))
            }
            UserAction::RequestFriend { user, text } => {
                self.turn(user, self.step(at, user, Step::Request, text), act.bounds.relations)
            }
            UserAction::AcceptFriend { user } => {
                self.turn(user, self.step(at, user, Step::Accept, &text), act.bounds.relations)
            }
            UserAction::DeclineFriend { user } | UserAction::RemoveFriend { user } => {
                self.turn(user, self.step(at, user, Step::Refuse, &text), act.bounds.relations)
            }
            UserAction::Block { user } => {
                self.turn(user, self.bar(user, true, at.time_ms), act.bounds.relations)
            }
            UserAction::Unblock { user } => {
                self.turn(user, self.bar(user, false, at.time_ms), act.bounds.relations)
            }
            UserAction::SetRemark { user, remark } => {
                let mut entry = self.relations.get(user).cloned().unwrap_or_default();
                // A remark is on somebody this user has to do with.
                if entry.is_live() {
                    entry.remark = own(remark);
                }
                self.turn(user, Turned { entry, errands: Vec::new() }, act.bounds.relations)
            }
            UserAction::SetStrangers { refuse } => Ok(Change {
                value: u64::from(self.refuses_strangers != *refuse),
                refuses_strangers: Some(*refuse),
                ..Change::default()
            }),
            UserAction::SetPrivacy { receipts, presence } => {
                let privacy = Privacy { receipts: *receipts, presence: *presence };
                let value = u64::from(privacy != self.privacy);
                Ok(Change { value, privacy: Some(privacy), ..Change::default() })
            }
            UserAction::NameDevice { device, name } => Ok(self.name_device(device, name)),
            UserAction::EndDevice { device } => Ok(self.end_device(device)),
        }
    }

    fn carry_out(&mut self, at: &At, act: &UserAct, change: Change, outcome: &mut Outcome) {
        outcome.user_frames = change.frames;
        for (session, extras) in change.extras {
            self.store_extras(&session, extras);
        }
        for to in change.cursors {
            outcome.errands |= self.tell_read(at, &to);
            if let Some(link) = self.links.get_mut(&to.session) {
                (link.read_seq, link.read_count) = (to.seq, to.count);
                link.changed = self.applying;
                self.dirty.links.insert(to.session);
            }
        }
        if let Some((user, entry, errands)) = change.relation {
            outcome.errands |= !errands.is_empty();
            self.send_errands(&user, errands, at);
            self.store_relation(&user, entry, act.bounds.relations);
        }
        if let Some(refuse) = change.refuses_strangers {
            self.refuses_strangers = refuse;
        }
        if let Some(privacy) = change.privacy {
            self.privacy = privacy;
        }
        if let Some((id, device)) = change.device {
            self.devices.insert(id, device);
        }
        if let Some(device) = change.ended {
            self.end(&device, at.time_ms);
        }
    }

    fn change_extras(&self, session: &SessionId, extras: Extras, moved: bool) -> Change {
        let mut change = Change { value: u64::from(moved), ..Change::default() };
        if moved {
            change.frames.push(extras.frame(session));
            change.extras.push((session.clone(), extras));
        }
        change
    }

    /// Cursors go forward to where the sessions stood, and nothing is marked as unread any more.
    fn read_all(&self, given: &Given) -> Change {
        let Given::Heads { cursors, unread } = given else { return Change::default() };
        let mut change = Change { value: *unread, ..Change::default() };
        for to in cursors {
            if self.links.get(&to.session).is_some_and(|link| link.member && link.read_seq < to.seq) {
                let mark = ReadMark { session: to.session.clone(), seq: to.seq, count: to.count };
                change.frames.push(frame_bytes(Kind::ReadMark, 0, &mark));
                change.cursors.push(to.clone());
            }
        }
        for (session, extras) in self.extras.iter().filter(|(_, extras)| extras.marked_unread) {
            let mut extras = extras.clone();
            extras.end_mark();
            change.frames.push(extras.frame(session));
            change.extras.push((session.clone(), extras));
        }
        change
    }

    fn turn(&self, user: &UserId, turned: Turned, most: u32) -> Result<Change, ErrorBody> {
        let Turned { entry, errands } = turned;
        if entry.is_own() && self.is_full_for(user, most) {
            let text = format!("{} has {most} relations, as many as allowed", self.id);
            return Err(ErrorBody::new(ErrorCode::RelationsFull, text).with_detail(u64::from(most)));
        }
        let mut change = Change { value: entry.state() as u64, ..Change::default() };
        change.frames.extend(self.told(user, &entry));
        if self.relations.get(user).is_some_and(|known| *known != entry)
            || (!self.relations.contains_key(user) && entry.is_live())
        {
            change.relation = Some((user.clone(), entry, errands));
        }
        Ok(change)
    }

    fn name_device(&self, id: &DeviceId, name: &Blob) -> Change {
        let Some(known) = self.devices.get(id) else { return Change::default() };
        let device = Device { name: own(name), ..known.clone() };
        Change { value: 1, device: Some((id.clone(), device)), ..Change::default() }
    }

    fn end_device(&self, id: &DeviceId) -> Change {
        // One that made room for another may have tokens still.
        let known = self.devices.get(id);
        let frames = known.map(|known| end_notice(id, known.epoch)).into_iter().collect();
        Change { value: u64::from(known.is_some()), frames, ended: Some(id.clone()), ..Change::default() }
    }

    fn extras_of_member(&self, session: &SessionId) -> Result<Extras, ErrorBody> {
        if self.links.get(session).is_none_or(|link| !link.member) {
            let text = format!("{session} is not in the list of {}", self.id);
            return Err(ErrorBody::new(ErrorCode::NotMember, text));
        }
        Ok(self.extras.get(session).cloned().unwrap_or_default())
    }
}

/// The gateway always gives what is needed; another program's command would be refused alike everywhere.
fn incomplete() -> ErrorBody {
    ErrorBody::new(ErrorCode::BadRequest, "the act lacks what the session says to it")
}
