//! A user: the list of sessions and the cursors in them. Its devices are in [`super::devices`], what it sets and does not
//! want to see in [`super::exceptions`], relations in [`super::relations`]; [`super::own`] changes all that.
//!
//! As in a session, a command is decided and its frames are encoded before anything changes (R9).

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::frame::frame_bytes;
use rookery_wire::reply::{Joined, Left, ReadMark};
use rookery_wire::{DeviceId, ErrorBody, ErrorCode, Kind, RelationState, SessionId, UserId};

use super::command::{Link, ReadTo};
use super::devices::Device;
use super::exceptions::Extras;
use super::key::SenderKey;
use super::keyed::Keys;
use super::left::{LeftLines, Listing};
use super::outcome::{Answer, Outcome};
use super::parts::Counted;
use super::privacy::Privacy;
use super::relations::{Errand, ErrandKey, ErrandKind, RelationEntry};
use super::series::Series;
use super::session::At;
use crate::plant::planted;

/// One session in the user's list, present or past (a removal keeps its version, R12; how long, [`super::left`] says).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LinkState {
    /// Version of the membership.
    pub version: u64,
    /// Still a member.
    pub member: bool,
    /// Seq at which the user joined.
    pub joined_seq: u64,
    /// Read cursor.
    pub read_seq: u64,
    /// The session's running count there.
    pub read_count: u64,
    /// Delivered cursor per device.
    pub delivered: BTreeMap<DeviceId, u64>,
    /// Log index of the last command that changed what the user's list says of the session, delivered cursors aside.
    pub changed: u64,
}

/// One user. See the module's words.
#[derive(Debug)]
pub struct User {
    pub(super) id: UserId,
    pub(super) index: u64,
    /// Log index of the command that is being applied: lines that it changes say so.
    pub(super) applying: u64,
    pub(super) frozen: bool,
    pub(super) last_epoch: u32,
    pub(super) devices: BTreeMap<DeviceId, Device>,
    /// When devices were ended, unix milliseconds.
    pub(super) ended: BTreeMap<DeviceId, u64>,
    pub(super) links: BTreeMap<SessionId, LinkState>,
    /// Links of a member.
    pub(super) present: u32,
    /// The other links.
    pub(super) left: LeftLines,
    pub(super) extras: BTreeMap<SessionId, Extras>,
    pub(super) series: BTreeMap<SenderKey, Series>,
    pub(super) relations: BTreeMap<UserId, RelationEntry>,
    /// Relations that are not over.
    pub(super) live_relations: u32,
    /// Of those, what is only asked by the other.
    pub(super) asked: u32,
    pub(super) refuses_strangers: bool,
    pub(super) privacy: Privacy,
    /// Grows with everything that leaves errands, and with every stance.
    pub(super) version: u64,
    pub(super) errands: BTreeMap<ErrandKey, Errand>,
    /// When a backend took the name for this user, unix milliseconds; 0 if none did.
    pub(super) created_ms: u64,
    /// What was asked for under request keys: time and value of the answer.
    pub(super) keys: Keys<(u64, u64)>,
    /// Of acts that come in parts.
    pub(super) counted: Counted,
    pub(super) dirty: Dirty,
}

/// What has changed since the rows were last collected.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) head: bool,
    pub(super) links: BTreeSet<SessionId>,
    pub(super) extras: BTreeSet<SessionId>,
    pub(super) series: BTreeSet<SenderKey>,
    pub(super) relations: BTreeSet<UserId>,
    pub(super) errands: BTreeSet<ErrandKey>,
    pub(super) counted: bool,
}

impl User {
    /// A user of whom nothing is known yet.
    pub fn new(id: UserId) -> Self {
        Self {
            id,
            index: 0,
            applying: 0,
            frozen: false,
            last_epoch: 0,
            devices: BTreeMap::new(),
            ended: BTreeMap::new(),
            links: BTreeMap::new(),
            present: 0,
            left: LeftLines::default(),
            extras: BTreeMap::new(),
            series: BTreeMap::new(),
            relations: BTreeMap::new(),
            live_relations: 0,
            asked: 0,
            refuses_strangers: false,
            privacy: Privacy::default(),
            version: 0,
            errands: BTreeMap::new(),
            created_ms: 0,
            keys: Keys::default(),
            counted: Counted::default(),
            dirty: Dirty::default(),
        }
    }

    /// Its name.
    pub fn id(&self) -> &UserId {
        &self.id
    }
    /// Log index it reflects.
    pub fn index(&self) -> u64 {
        self.index
    }
    /// Everything of entries up to `index` is in. A name that was only refused leaves nothing, this neither.
    pub fn reflect(&mut self, index: u64) {
        if self.is_nothing() {
            return;
        }
        self.index = self.index.max(index);
        self.dirty.head = true;
    }
    /// Stops every later command with FROZEN, after a panic (R9).
    pub fn freeze(&mut self, index: u64) {
        self.frozen = true;
        self.reflect(index);
    }
    /// How far the user has read a session; 0 for one that is not in the list.
    pub fn read_cursor(&self, session: &SessionId) -> u64 {
        self.links.get(session).map_or(0, |link| link.read_seq)
    }
    /// When a device was last in use as far as is known, unix milliseconds; 0 for never.
    pub fn last_used_ms(&self) -> u64 {
        self.devices.values().map(|device| device.used_ms).max().unwrap_or(0)
    }
    /// Whether the user has a direct session with another, or is its friend.
    pub fn is_acquainted_with(&self, other: &UserId) -> bool {
        let session = SessionId::direct(&self.id, other);
        session.is_ok_and(|session| self.links.get(&session).is_some_and(|link| link.member))
            || self.relation(other) == RelationState::Friends
    }
    /// Sessions the user is a member of.
    pub fn sessions(&self) -> impl Iterator<Item = (&SessionId, &LinkState)> {
        self.sessions_after(None)
    }
    /// Those of them behind `after` by name.
    pub fn sessions_after(
        &self,
        after: Option<&SessionId>,
    ) -> impl Iterator<Item = (&SessionId, &LinkState)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.links.range::<SessionId, _>((from, Unbounded)).filter(|(_, link)| link.member)
    }

    /// Moves the read cursor forward; an older one changes nothing and is answered with the newer (G6).
    pub fn read(&mut self, at: &At, to: &ReadTo) -> Outcome {
        self.read_when(at, to, u64::MAX)
    }

    /// The same for what a device has read by this time, unix milliseconds. It carries no number, and may come long after
    /// the device has read the same over another node: then it ends no mark of unread that was set meanwhile (R11).
    pub fn read_when(&mut self, at: &At, to: &ReadTo, taken_ms: u64) -> Outcome {
        if self.frozen {
            return frozen();
        }
        let ReadTo { session, seq, count, .. } = to;
        let (seq, count) = (*seq, *count);
        let Some(link) = self.links.get_mut(session).filter(|link| link.member) else {
            let text = format!("{} is not in the list of {}", session, self.id);
            return Outcome::answer(Answer::Refused(ErrorBody::new(ErrorCode::NotMember, text)));
        };
        let moved = seq > link.read_seq || (planted("cursor-back") && seq != link.read_seq);
        let (seq, count) = if moved { (seq, count) } else { (link.read_seq, link.read_count) };
        let mark = ReadMark { session: session.clone(), seq, count };
        let mut outcome = Outcome::answer(Answer::ReadMark(mark.clone()));
        if moved {
            if !planted("mark-unpushed") {
                outcome.user_frames.push(frame_bytes(Kind::ReadMark, 0, &mark));
            }
            link.read_seq = seq;
            link.read_count = count;
            link.changed = self.applying;
            if !planted("cursor-lost") {
                self.dirty.links.insert(session.clone());
            }
        }
        let marked = |extras: &&Extras| extras.marked_unread && extras.marked_ms <= taken_ms;
        if let Some(mut extras) = self.extras.get(session).filter(marked).cloned() {
            extras.end_mark();
            outcome.user_frames.push(extras.frame(session));
            self.store_extras(session, extras);
        }
        if self.tell_read(at, to) {
            (outcome.errands, outcome.gate) = (true, self.gate_to(ErrandKind::Burn, session));
        }
        outcome
    }

    /// Moves delivered cursors of a device forward, and when it was last used, also without cursors. A device that is not
    /// registered (any more, or is so anew, by its epoch) has none, and sessions that are not in the user's list are passed
    /// over.
    pub fn delivered(
        &mut self,
        (device, epoch): (&DeviceId, u32),
        cursors: &[(SessionId, u64)],
        time_ms: u64,
    ) -> Outcome {
        if self.frozen {
            return frozen();
        }
        let known = self.devices.get_mut(device).filter(|known| known.epoch == epoch);
        let Some(known) = known else { return Outcome::answer(Answer::Done) };
        known.used_ms = known.used_ms.max(time_ms);
        for (session, seq) in cursors {
            if let Some(link) = self.links.get_mut(session) {
                let cursor = link.delivered.entry(device.clone()).or_default();
                if *seq > *cursor {
                    *cursor = *seq;
                    self.dirty.links.insert(session.clone());
                }
            }
        }
        Outcome::answer(Answer::Done)
    }

    /// An intent arrives: the membership as the session decided it, unless something newer is here already. One
    /// session more than the list may hold is refused, and so is one that is begun, or to which this user is added, by a user it
    /// does not let in; that leaves nothing here. Of a direct session with one whom this user blocks the answer
    /// waits until the session knows: it opens behind that.
    pub fn take_link(&mut self, link: &Link, list: &Listing) -> Outcome {
        if self.frozen {
            return frozen();
        }
        if list.users_only
            && let Some(answer) = self.answer_of_nobody(link)
        {
            return Outcome::answer(answer);
        }
        if self.may_be_late(link, list) {
            return Outcome::answer(Answer::Unsure(self.applying));
        }
        let most = list.most;
        let known = self.links.get(&link.session);
        let stays = planted("left-listed") && !link.member;
        if stays || known.is_some_and(|known| link.version <= known.version) {
            // A block of the other is on its way to the session still: whoever carries this again waits for it too.
            return Outcome { gate: self.bar_under_way(&link.session), ..Outcome::answer(Answer::Done) };
        }
        let was_member = known.is_some_and(|known| known.member);
        if link.member && !was_member && self.present >= most {
            let text = format!("{} is in {} sessions, at most {most} are allowed", self.id, self.present);
            let full = ErrorBody::new(ErrorCode::TooManySessions, text).with_detail(u64::from(most));
            return Outcome::answer(Answer::Refused(full));
        }
        if link.member
            && !was_member
            && link.from.as_ref().is_some_and(|from| *from != self.id && !self.lets_in(from))
        {
            let refusal = ErrorBody::new(ErrorCode::RefusedByPeer, ErrorCode::RefusedByPeer.remedy());
            return Outcome::answer(Answer::Refused(refusal));
        }
        let mut outcome = Outcome::answer(Answer::Done);
        match (was_member, link.member) {
            (false, true) => {
                if !planted("joined-unpushed") {
                    outcome.user_frames.push(joined_frame(link));
                }
                self.present += 1;
            }
            (true, false) => {
                if !planted("left-unpushed") {
                    let left = Left { session: link.session.clone() };
                    outcome.user_frames.push(frame_bytes(Kind::Left, 0, &left));
                }
                self.present = self.present.saturating_sub(1);
            }
            // Let go and let in again, and the intent between took the newer one's place: whoever heard of the first by the
            // session's log alone has ended its subscription.
            (true, true) if known.is_some_and(|known| known.joined_seq != link.joined_seq) => {
                outcome.user_frames.push(joined_frame(link));
            }
            (true, true) | (false, false) => {}
        }
        self.file_line(&link.session, false);
        let known = self.links.entry(link.session.clone()).or_insert_with(|| LinkState {
            version: 0,
            member: false,
            joined_seq: 0,
            read_seq: 0,
            read_count: 0,
            delivered: BTreeMap::new(),
            changed: 0,
        });
        known.changed = self.applying;
        known.version = link.version;
        known.member = link.member;
        known.joined_seq = link.joined_seq;
        self.dirty.links.insert(link.session.clone());
        self.file_line(&link.session, true);
        self.forget_left(list.kept);
        if link.member && !was_member && self.bar_from_the_beginning(&link.session) {
            (outcome.errands, outcome.gate) = (true, self.bar_under_way(&link.session));
        }
        outcome
    }
}

/// JOINED as the user's shard says it; where pushes begin the gateway fills in.
fn joined_frame(link: &Link) -> Bytes {
    frame_bytes(Kind::Joined, 0, &Joined { session: link.session.clone(), live_from: 0 })
}

pub(super) fn frozen() -> Outcome {
    Outcome::answer(Answer::Refused(ErrorBody::new(ErrorCode::Frozen, "this user was frozen after a fault")))
}
