//! A session: its sequence, its senders' numbers and its recent messages; its members come and go in [`super::members`],
//! and [`super::manage`] says who may do what.
//!
//! Every command is decided in full, its record encoded, before anything changes; what follows are assignments and
//! insertions. So a panic leaves the copy in memory as it was before the command, and freezing it is enough (R9).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rookery_wire::codec::Blob;
use rookery_wire::{
    AttributeKey, DeviceId, Digest, ErrorBody, ErrorCode, RecordKind, Salt, SessionId, Signal, UserId,
};

pub use super::at::At;
use super::bars::Bars;
use super::command::{Act, Actor, Link, NO_DEVICE};
use super::doors::Doors;
use super::fingerprint::Fingerprint;
use super::keeping::Wishes;
use super::key::SenderKey;
use super::keyed::Keys;
use super::manage::{Attributes, Profile, Settings};
use super::numbers::{taking, trimmed};
use super::outcome::{About, Answer, Gate, Intent, Outcome, Publication};
use super::placing::{Extensions, Placed, Written, signal};
use super::rewrite::Rewrites;
use super::seal::Chain;
use super::sender::{Fate, Known, Number, Sender, Stored};
use super::trim::Expiries;
use super::versions::Versions;

/// Bounds of what a session keeps in memory. None of them may change what apply decides.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Written messages kept in memory, beside those that are not written yet.
    pub ring: usize,
    /// Bytes of encoded messages beyond which written ones leave memory, the oldest first; the last one stays.
    pub ring_bytes: usize,
}

/// A member of a session, present or past.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Member {
    /// Version of the session's membership when this last changed.
    pub version: u64,
    /// Still a member.
    pub present: bool,
    /// Seq of the record with which the user came.
    pub joined_seq: u64,
    /// Running count before that record.
    pub joined_count: u64,
    /// Running count at the user's own last content (0 = none).
    pub own_count: u64,
    /// May what admins may.
    pub admin: bool,
    /// May not write before this time, unix milliseconds (0 = not muted). Leaving and coming again does not end it.
    pub muted_until: u64,
}

/// Senders of a session that stay in memory though nobody used them since the last checkpoint.
const SENDERS: usize = 256;

/// What has changed since the rows were last collected.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) head: bool,
    pub(super) members: BTreeSet<UserId>,
    pub(super) senders: BTreeSet<SenderKey>,
    pub(super) intents: BTreeSet<UserId>,
    pub(super) profile: bool,
    pub(super) attributes: BTreeSet<AttributeKey>,
    /// The first kept seq has moved on from here: rows before it are to be deleted.
    pub(super) trimmed: Option<u64>,
}

/// One session. See the module's words.
#[derive(Debug)]
pub struct Session {
    pub(super) id: SessionId,
    /// Log index it reflects.
    pub(super) index: u64,
    /// Log index at which it last changed in what lists show of it.
    pub(super) changed: u64,
    pub(super) exists: bool,
    pub(super) frozen: bool,
    pub(super) owner: Option<UserId>,
    pub(super) settings: Settings,
    pub(super) profile: Profile,
    pub(super) attributes: Attributes,
    pub(super) last_seq: u64,
    pub(super) first_seq: u64,
    /// The running count before the first kept seq.
    pub(super) first_count: u64,
    pub(super) expiries: Expiries,
    pub(super) count: u64,
    pub(super) time_ms: u64,
    /// Grows with every membership change.
    pub(super) version: u64,
    pub(super) present: u32,
    pub(super) members: BTreeMap<UserId, Member>,
    /// Those in memory; of the others rows know the last number.
    pub(super) senders: BTreeMap<SenderKey, Sender>,
    /// Whether there may be senders that only rows know.
    pub(super) senders_in_rows: bool,
    pub(super) intents: BTreeMap<UserId, Link>,
    /// Encoded records `last_seq - tail.len() + 1 ..= last_seq`.
    pub(super) tail: VecDeque<Bytes>,
    /// Bytes of the records in `tail`.
    pub(super) tail_bytes: usize,
    /// Records up to this seq are rows.
    pub(super) written_seq: u64,
    pub(super) collected_seq: u64,
    pub(super) dirty: Dirty,
    pub(super) rewrites: Rewrites,
    pub(super) versions: Versions,
    pub(super) bars: Bars,
    pub(super) chain: Chain,
    pub(super) doors: Doors,
    pub(super) wishes: Wishes,
    /// What was asked for under request keys.
    pub(super) keys: Keys<Stored>,
    /// Old numbers read from rows for the batch at hand.
    pub(super) recalled: BTreeMap<(SenderKey, u64), Option<Number>>,
}

impl Session {
    /// A session of which nothing is known yet.
    pub fn new(id: SessionId) -> Self {
        Self {
            chain: Chain::at(0, Digest::begin(&id)),
            id,
            index: 0,
            changed: 0,
            exists: false,
            frozen: false,
            owner: None,
            settings: Settings::default(),
            profile: Profile::default(),
            attributes: Attributes::new(),
            last_seq: 0,
            first_seq: 1,
            first_count: 0,
            expiries: Expiries::default(),
            count: 0,
            time_ms: 0,
            version: 0,
            present: 0,
            members: BTreeMap::new(),
            senders: BTreeMap::new(),
            senders_in_rows: false,
            intents: BTreeMap::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            written_seq: 0,
            collected_seq: 0,
            dirty: Dirty::default(),
            rewrites: Rewrites::default(),
            versions: Versions::default(),
            bars: Bars::new(),
            doors: Doors::default(),
            wishes: Wishes::new(),
            keys: Keys::default(),
            recalled: BTreeMap::new(),
        }
    }

    /// Its name.
    pub fn id(&self) -> &SessionId {
        &self.id
    }
    /// Log index it reflects; commands of entries up to it are passed over.
    pub fn index(&self) -> u64 {
        self.index
    }
    /// Whether it has come to be.
    pub fn exists(&self) -> bool {
        self.exists
    }
    /// Whether it holds anything that must be kept. A session that was only asked for in vain holds nothing.
    pub fn is_something(&self) -> bool {
        self.exists || self.frozen || self.version > 0 || !(self.senders.is_empty() && self.bars.is_empty())
    }
    /// Last seq.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }
    /// First seq kept.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }
    /// Countable messages.
    pub fn count(&self) -> u64 {
        self.count
    }
    /// Time of the last record.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }
    /// Present members.
    pub fn present(&self) -> u32 {
        self.present
    }
    /// The member of that name, if present.
    pub fn member(&self, user: &UserId) -> Option<&Member> {
        self.members.get(user).filter(|member| member.present)
    }
    /// Present members by name, after `after`.
    pub fn members_after(&self, after: Option<&UserId>) -> impl Iterator<Item = &UserId> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.members
            .range::<UserId, _>((from, Unbounded))
            .filter(|(_, member)| member.present)
            .map(|(user, _)| user)
    }
    /// The last number a device used; `None` when only rows know.
    pub fn last_number_here(&self, key: &SenderKey) -> Option<u64> {
        let here = self.senders.get(key).map(|sender| sender.last);
        here.or((!self.senders_in_rows).then_some(0))
    }
    /// The same where the batch at hand has read what it needs.
    pub(super) fn last_number(&self, key: &SenderKey) -> u64 {
        self.last_number_here(key).unwrap_or(0)
    }
    /// Records from memory: the seq of the first one held.
    pub fn tail_first(&self) -> u64 {
        self.last_seq + 1 - self.tail.len() as u64
    }
    /// A record from memory.
    pub fn record(&self, seq: u64) -> Option<&Bytes> {
        let at = seq.checked_sub(self.tail_first())?;
        self.tail.get(usize::try_from(at).ok()?)
    }
    /// Intents that have not arrived, as they must be carried.
    pub fn pending_intents(&self) -> impl Iterator<Item = Intent> {
        self.intents.iter().map(|(user, link)| Intent { user: user.clone(), link: link.clone() })
    }
    /// Whether the intents that an answer waits for have arrived.
    pub fn gate_open(&self, gate: &Gate) -> bool {
        let is_over = |link: &Link| !gate.spans(link.version);
        match &gate.about {
            About::Lists(users) => users.iter().all(|user| self.intents.get(user).is_none_or(is_over)),
            About::All => self.intents.values().all(is_over),
            // A session has none.
            About::Errands(..) => true,
        }
    }
    /// What the answer to a change waits for, also to a repeat of it: what is on its way by now to the lists of those it names.
    pub(super) fn gate_of(&self, actor: &Actor, act: &Act) -> Option<Gate> {
        Some(Gate::by_now(self.version, act.about_lists(actor)?))
    }
    /// Refuses every later act with FROZEN, after a panic (R9). What was decided before goes on: intents still clear.
    pub fn freeze(&mut self, index: u64) {
        self.frozen = true;
        self.reflect(index);
    }
    /// Everything of entries up to `index` is in.
    pub fn reflect(&mut self, index: u64) {
        self.index = self.index.max(index);
        self.dirty.head = self.is_something();
    }

    /// Applies a numbered act.
    pub fn apply(
        &mut self,
        at: &At,
        limits: &SessionLimits,
        actor: &Actor,
        client_seq: u64,
        act: &Act,
    ) -> Outcome {
        if self.frozen {
            return refused(ErrorCode::Frozen, "this session was frozen after a fault".to_owned(), 0);
        }
        if !self.exists
            && let Some(outcome) = self.before_it_exists(at, actor, Some(client_seq), act)
        {
            return outcome;
        }
        let key = sender_key(actor);
        let fingerprint = act.fingerprint(actor.on_behalf_of.as_ref());
        let sender = self.senders.get(&key);
        let last = sender.map_or(0, |sender| sender.last);
        let known = sender.map_or(if client_seq == 1 { Known::Next } else { Known::Gap }, |sender| {
            sender.known(client_seq)
        });
        match known {
            Known::Next => {}
            Known::Gap => {
                let text = format!("client_seq {client_seq} skips numbers, expected {}", last + 1);
                return refused(ErrorCode::ClientSeqGap, text, last + 1);
            }
            Known::Used(number) => return self.again(&number, fingerprint, client_seq, actor, act),
            Known::Forgotten => return trimmed(client_seq),
            Known::Old => {
                return match self.recalled.get(&(key, client_seq)) {
                    Some(Some(number)) => self.again(number, fingerprint, client_seq, actor, act),
                    _ => trimmed(client_seq),
                };
            }
        }
        match self.decide(at, actor, act) {
            Ok(()) => match self.store(at, limits, actor, client_seq, act) {
                Ok((outcome, stored, salt)) => {
                    let fingerprint = Fingerprint::new(fingerprint, salt);
                    self.consume(key, Number { fingerprint, fate: Fate::Stored(stored) });
                    outcome
                }
                Err(refusal) => Outcome::answer(Answer::Refused(refusal)),
            },
            Err(refusal) if self.leaves_nothing(actor, act, last) => {
                Outcome::answer(Answer::Refused(refusal))
            }
            Err(refusal) => {
                // Nothing was stored: there is no salt to key it with, and nothing to be found by it.
                let fingerprint = Fingerprint::Plain(fingerprint);
                self.consume(key, Number { fingerprint, fate: Fate::Refused(refusal.code) });
                Outcome::answer(Answer::Refused(taking(refusal, client_seq)))
            }
        }
    }

    /// Carries out an act that was allowed: where its record stands, with what follows from it, and the salt of that record
    /// if it has content.
    pub(super) fn store(
        &mut self,
        at: &At,
        limits: &SessionLimits,
        actor: &Actor,
        client_seq: u64,
        act: &Act,
    ) -> Result<(Outcome, Stored, Option<Salt>), ErrorBody> {
        let mut outcome = Outcome::default();
        let version = self.version;
        let (mut turnover, mut rewriting, mut entry) = (None, None, None);
        // What the record of anything but a message says.
        let (kind, told) = match act {
            Act::Send { .. } => {
                if !self.exists {
                    outcome.added.extend(self.founders(actor));
                }
                (RecordKind::CONTENT, Blob::default())
            }
            Act::Recall { .. } | Act::Edit { .. } => {
                let kind =
                    if matches!(act, Act::Recall { .. }) { RecordKind::RECALL } else { RecordKind::EDIT };
                let Some((decided, target)) = self.decide_rewrite(at, actor.name(), act) else {
                    // Judged just now, so it is there.
                    let text = format!("{} has no such message", self.id);
                    return Err(ErrorBody::new(ErrorCode::NoSuchMessage, text));
                };
                rewriting = Some(decided);
                (kind, Blob(rookery_wire::encode(&target)))
            }
            Act::Change { kind, users, .. } => {
                let (kind, users, decided) = self.decide_change(*kind, users, actor);
                turnover = Some(decided);
                (kind, Blob(rookery_wire::encode(&Signal { users })))
            }
            Act::Manage { action } => {
                (RecordKind::GROUP_CHANGED, Blob(rookery_wire::encode(&self.as_told(at, action))))
            }
            Act::Join { .. } | Act::Answer { .. } => {
                let (kind, content, decided) = self.decide_entry(at, actor, act);
                entry = Some(decided);
                (kind, content)
            }
        };
        let ((content_type, content, sent), salt) = match act {
            Act::Send { content_type, content, extensions } => {
                ((content_type, content, &extensions[..]), Some(at.salt()))
            }
            _ => (signal(&told), None),
        };
        let written = Written {
            sender: actor.name(),
            device: &actor.device,
            epoch: actor.epoch,
            client_seq,
            kind,
            content_type,
            content,
            extensions: Extensions { sent, salt },
        };
        let placed = self.place(at, &written);
        // The ACK of one who comes says nothing of what its device has: it is pushed the record as everybody is.
        let of_nobody = if matches!(act, Act::Join { .. }) { DeviceId::new(NO_DEVICE).ok() } else { None };
        let from = match of_nobody {
            Some(device) => (actor.user.clone(), device, 0),
            None => (actor.user.clone(), actor.device.clone(), actor.epoch),
        };
        // All is decided; from here on the session changes.
        if let Some(turnover) = turnover {
            self.carry_out(at, turnover, &mut outcome);
        }
        if let Some(entry) = entry {
            self.enter(at, entry, &mut outcome);
        }
        if let Some(rewriting) = rewriting {
            // It may have been the next one to go.
            outcome.timers_moved |= rewriting.recalled.is_some() && self.expiries.contains(rewriting.seq);
            let (rewritten, held_bytes) = self.rewrite(at, rewriting);
            (outcome.rewritten, outcome.held_bytes) = (Some(rewritten), held_bytes);
        }
        if let Act::Manage { action } = act {
            self.manage(at, actor, action, &mut outcome);
        }
        let (stored, record) = self.append(limits, placed);
        outcome.timers_moved |= self.note_expiry(stored.seq, stored.time_ms, actor.name(), act);
        outcome.answer = Some(Answer::Ack(stored.ack(self.id.clone(), client_seq)));
        if !outcome.intents.is_empty() {
            outcome.gate = Some(Gate::of_all(version, self.version));
        }
        outcome.published = Some(Publication { seq: stored.seq, record, from });
        Ok((outcome, stored, salt))
    }

    /// Takes the record that [`Session::place`] made.
    pub(super) fn append(&mut self, limits: &SessionLimits, placed: Placed) -> (Stored, Bytes) {
        let Placed { stored, encoded, sender } = placed;
        let countable = stored.count > self.count;
        self.exists = true;
        self.last_seq = stored.seq;
        self.time_ms = stored.time_ms;
        self.count = stored.count;
        if countable && let Some(member) = self.members.get_mut(&sender) {
            member.own_count = stored.count;
            self.dirty.members.insert(sender);
        }
        self.push_tail(encoded.clone());
        self.trim_tail(limits);
        (stored, encoded)
    }

    /// Lets go of senders whose rows say all, when there are many; those used since the last time stay.
    pub(super) fn trim_senders(&mut self) {
        if self.senders.len() > SENDERS {
            let dirty = &self.dirty.senders;
            self.senders.retain(|key, sender| dirty.contains(key) || !sender.is_idle());
            self.senders_in_rows = true;
        }
        self.senders.values_mut().for_each(Sender::rest);
    }

    fn consume(&mut self, key: SenderKey, number: Number) {
        match self.senders.get_mut(&key) {
            // It is noted already: it has used a number since the last checkpoint.
            Some(sender) if !sender.is_collected() => sender.consume(number),
            _ => {
                self.senders.entry(key.clone()).or_default().consume(number);
                self.dirty.senders.insert(key);
            }
        }
    }

    /// Keeps the newest record in memory.
    pub(super) fn push_tail(&mut self, record: Bytes) {
        self.tail_bytes += record.len();
        self.tail.push_back(record);
    }

    /// Lets go of the records that rows hold and the ring need not.
    pub(super) fn trim_tail(&mut self, limits: &SessionLimits) {
        let unwritten = (self.last_seq - self.written_seq) as usize;
        while self.tail.len() > unwritten.max(1)
            && (self.tail.len() > limits.ring || self.tail_bytes > limits.ring_bytes)
            && let Some(record) = self.tail.pop_front()
        {
            self.tail_bytes -= record.len();
        }
    }
}

pub(super) fn sender_key(actor: &Actor) -> SenderKey {
    SenderKey { user: actor.user.clone(), device: actor.device.clone(), epoch: actor.epoch }
}

pub(super) fn refused(code: ErrorCode, text: String, detail: u64) -> Outcome {
    Outcome::answer(Answer::Refused(ErrorBody::new(code, text).with_detail(detail)))
}
