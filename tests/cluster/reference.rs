//! What people see of the server, in plain words: sessions as lists, users as sets, one act after another, no failures.
//!
//! It is written from docs/protocol.md and not from the server's state machine, and holds no clock: limits of time are
//! wider than a test is long.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rookery_client::InviteCode;
use rookery_client::wire::live::Which;
use rookery_wire::{
    ErrorCode, GroupAction, MemberRole, Policy, RecordKind, RelationState, SessionId, SessionSetting, Signal,
    Target, UserId, Who, encode,
};

use super::reference_doors::Doors;

/// One act or question of a user.
#[derive(Clone, Debug)]
pub enum Op {
    Send(SessionId, String),
    Recall(SessionId, u64),
    Edit(SessionId, u64, String),
    Create(SessionId, Vec<UserId>),
    Add(SessionId, Vec<UserId>),
    Remove(SessionId, Vec<UserId>),
    Manage(SessionId, GroupAction),
    /// Comes into a group, or asks to.
    Join(SessionId, Option<InviteCode>),
    /// How the user has the session shown.
    Set(SessionId, SessionSetting),
    Read(SessionId, u64),
    ReadAll,
    Clear(SessionId, u64),
    Delete(SessionId, u64, u64),
    AskFriend(UserId),
    Accept(UserId),
    Decline(UserId),
    Unfriend(UserId),
    Block(UserId, bool),
    Pull {
        session: SessionId,
        from: u64,
        backward: bool,
        max: u32,
    },
    List,
    /// The list that this device has put together since its marks.
    Since,
    Members(SessionId),
    /// Who asks to join.
    Asking(SessionId),
    Relations,
    Receipts(SessionId, u64, Which),
}

impl Op {
    /// The session it is about.
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Op::Send(session, _)
            | Op::Recall(session, _)
            | Op::Edit(session, ..)
            | Op::Create(session, _)
            | Op::Add(session, _)
            | Op::Remove(session, _)
            | Op::Manage(session, _)
            | Op::Read(session, _)
            | Op::Clear(session, _)
            | Op::Delete(session, ..)
            | Op::Pull { session, .. }
            | Op::Join(session, _)
            | Op::Set(session, _)
            | Op::Asking(session)
            | Op::Members(session)
            | Op::Receipts(session, ..) => Some(session),
            _ => None,
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Acked {
        seq: u64,
        count: u64,
    },
    Refused(ErrorCode),
    Mark {
        seq: u64,
        count: u64,
    },
    Own(u64),
    Page {
        first: u64,
        last: u64,
        records: Vec<Shown>,
    },
    List(BTreeMap<SessionId, Line>),
    Members(Vec<UserId>),
    Relations(Vec<(UserId, RelationState, bool)>),
    /// Who, with the cursor; how many read it, did not, are hidden.
    Receipts(Vec<(UserId, u64)>, (u32, u32, u32)),
}

/// A record as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub seq: u64,
    pub count: u64,
    pub sender: UserId,
    pub kind: RecordKind,
    pub content: Bytes,
    /// Who changed it last, and by which signal.
    pub changed: Option<(UserId, u64)>,
}

/// A session in a user's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub members: u32,
    pub first: u64,
    pub last: u64,
    pub count: u64,
    pub unread: u64,
    pub joined: u64,
    pub read: u64,
    pub cleared: u64,
    pub deleted: Vec<(u64, u64)>,
    /// The preview: seq and kind.
    pub preview: Option<(u64, RecordKind)>,
    pub set: Set,
}

/// How a user has a session shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub pinned: Option<u64>,
    pub muted_until_ms: u64,
    pub hidden_count: Option<u64>,
    pub marked_unread: bool,
    pub draft: Bytes,
}

/// What a user has in one session beside its messages. It outlives leaving.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    pub(super) read: u64,
    pub(super) cleared: u64,
    pub(super) deleted: BTreeSet<u64>,
    pub(super) set: Set,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Conversation {
    pub(super) records: Vec<Shown>,
    /// Where each member joined.
    pub(super) members: BTreeMap<UserId, u64>,
    owner: Option<UserId>,
    admins: BTreeSet<UserId>,
    pub(super) policy: Policy,
    mute_all: bool,
    pub(super) dissolved: bool,
    pub(super) doors: Doors,
}

/// Everything there is.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub(super) sessions: BTreeMap<SessionId, Conversation>,
    pub(super) own: BTreeMap<(UserId, SessionId), Own>,
    /// Who has asked whom, and who are friends (both ways).
    pub(super) asked: BTreeSet<(UserId, UserId)>,
    pub(super) friends: BTreeSet<(UserId, UserId)>,
    /// Who takes nothing of whom.
    pub(super) blocked: BTreeSet<(UserId, UserId)>,
}

pub(super) type Refused = ErrorCode;

impl Conversation {
    pub(super) fn last(&self) -> u64 {
        self.records.len() as u64
    }

    pub(super) fn at(&self, seq: u64) -> Option<&Shown> {
        self.records.get(usize::try_from(seq).ok()?.checked_sub(1)?)
    }

    pub(super) fn count(&self, seq: u64) -> u64 {
        self.at(seq).map_or(0, |record| record.count)
    }

    pub(super) fn role(&self, user: &UserId) -> Option<MemberRole> {
        self.members.get(user)?;
        Some(match (self.owner.as_ref() == Some(user), self.admins.contains(user)) {
            (true, _) => MemberRole::Owner,
            (false, true) => MemberRole::Admin,
            (false, false) => MemberRole::Member,
        })
    }

    pub(super) fn readable_from(&self, user: &UserId) -> u64 {
        let joined = self.members.get(user).copied().unwrap_or(1);
        if self.policy.history_before_joining { 1 } else { joined }
    }

    /// The seq of the last message of a user, taken back or not.
    pub(super) fn own_last(&self, user: &UserId) -> u64 {
        let said = |record: &&Shown| {
            record.sender == *user && matches!(record.kind, RecordKind::CONTENT | RecordKind::RECALLED)
        };
        self.records.iter().rev().find(said).map_or(0, |record| record.seq)
    }

    pub(super) fn append(&mut self, sender: &UserId, kind: RecordKind, content: Bytes) -> Answer {
        let count = self.count(self.last()) + u64::from(kind == RecordKind::CONTENT);
        let seq = self.last() + 1;
        let (sender, changed) = (sender.clone(), None);
        self.records.push(Shown { seq, count, sender, kind, content, changed });
        Answer::Acked { seq, count }
    }

    fn may_read(&self, user: &UserId) -> Result<(), Refused> {
        match () {
            () if self.dissolved => Err(ErrorCode::Dissolved),
            () if !self.members.contains_key(user) => Err(ErrorCode::NotMember),
            () => Ok(()),
        }
    }

    fn may_write(&self, user: &UserId) -> Result<(), Refused> {
        match self.role(user) {
            None => Err(ErrorCode::NotMember),
            Some(MemberRole::Member) if self.mute_all => Err(ErrorCode::Muted),
            Some(MemberRole::Member) if self.policy.write == Who::Admins => Err(ErrorCode::NotAllowed),
            Some(_) => Ok(()),
        }
    }

    fn leave(&mut self, users: &BTreeSet<UserId>) {
        for user in users {
            self.members.remove(user);
            self.admins.remove(user);
        }
        if self.owner.as_ref().is_some_and(|owner| users.contains(owner)) {
            let longest = self.members.iter();
            let next = longest
                .min_by_key(|(user, joined)| (!self.admins.contains(*user), **joined, (*user).clone()));
            self.owner = next.map(|(user, _)| user.clone());
        }
    }
}

impl World {
    /// What happens, and what is answered.
    pub fn step(&mut self, user: &UserId, op: &Op) -> Answer {
        let answered = match op {
            Op::Send(session, text) => self.send(user, session, text),
            Op::Recall(session, seq) => self.rewrite(user, session, *seq, None),
            Op::Edit(session, seq, text) => self.rewrite(user, session, *seq, Some(text)),
            Op::Create(session, users) => self.create(user, session, users),
            Op::Add(session, users) => self.add(user, session, users),
            Op::Remove(session, users) => self.remove(user, session, users),
            Op::Join(session, code) => self.join(user, session, code.as_ref()),
            Op::Set(session, setting) => self.set(user, session, setting),
            Op::Asking(session) => self.asking(user, session),
            Op::Manage(session, action) => self.manage(user, session, action),
            Op::Read(session, seq) => self.read(user, session, *seq),
            Op::ReadAll => Ok(self.read_all(user)),
            Op::Clear(session, seq) => self.clear(user, session, *seq),
            Op::Delete(session, from, to) => self.delete(user, session, *from, *to),
            Op::AskFriend(other) => Ok(self.befriend(user, other)),
            Op::Accept(other) if self.asked.contains(&(other.clone(), user.clone())) => {
                Ok(self.befriend(user, other))
            }
            Op::Accept(other) => Ok(self.stand(user, other)),
            Op::Decline(other) | Op::Unfriend(other) => Ok(self.part(user, other)),
            Op::Block(other, on) => Ok(self.block(user, other, *on)),
            Op::Pull { session, from, backward, max } => self.pull(user, session, *from, *backward, *max),
            Op::List | Op::Since => Ok(Answer::List(self.list(user))),
            Op::Members(session) => self.members(user, session),
            Op::Relations => Ok(self.relations(user)),
            Op::Receipts(session, seq, which) => self.receipts(user, session, *seq, *which),
        };
        answered.unwrap_or_else(Answer::Refused)
    }

    /// Everything a session keeps, as a replica has it.
    pub fn records(&self, session: &SessionId) -> &[Shown] {
        self.sessions.get(session).map_or(&[], |conversation| &conversation.records)
    }

    pub fn last(&self, session: &SessionId) -> u64 {
        self.sessions.get(session).map_or(0, Conversation::last)
    }

    pub fn exists(&self, session: &SessionId) -> bool {
        self.sessions.contains_key(session)
    }

    pub fn blocks(&self, user: &UserId, other: &UserId) -> bool {
        self.blocked.contains(&(user.clone(), other.clone()))
    }

    fn barred(&self, user: &UserId, session: &SessionId) -> bool {
        session.peer_of(user).is_some_and(|other| self.blocks(other, user))
    }

    fn send(&mut self, user: &UserId, session: &SessionId, text: &str) -> Result<Answer, Refused> {
        if self.barred(user, session) {
            return Err(ErrorCode::RefusedByPeer);
        }
        if let (SessionId::Direct { low, high }, false) = (session, self.exists(session)) {
            let members = [(low.clone(), 1), (high.clone(), 1)].into();
            self.sessions.insert(session.clone(), Conversation { members, ..Conversation::default() });
        }
        let conversation = self.sessions.get_mut(session).ok_or(ErrorCode::NotMember)?;
        if conversation.dissolved {
            return Err(ErrorCode::Dissolved);
        }
        conversation.may_write(user)?;
        Ok(conversation.append(user, RecordKind::CONTENT, Bytes::copy_from_slice(text.as_bytes())))
    }

    fn rewrite(
        &mut self,
        user: &UserId,
        session: &SessionId,
        seq: u64,
        text: Option<&String>,
    ) -> Result<Answer, Refused> {
        let barred = self.barred(user, session);
        let Some(conversation) = self.sessions.get_mut(session) else {
            let direct = session.peer_of(user).is_some();
            return Err(if direct { ErrorCode::NoSuchMessage } else { ErrorCode::NotMember });
        };
        conversation.may_read(user)?;
        let of = conversation.at(seq).ok_or(ErrorCode::NoSuchMessage)?;
        let admin = text.is_none() && conversation.role(user) > Some(MemberRole::Member);
        match of.kind {
            RecordKind::RECALLED => return Err(ErrorCode::Recalled),
            RecordKind::CONTENT if of.sender == *user || admin => {}
            RecordKind::CONTENT => return Err(ErrorCode::NotAllowed),
            _ => return Err(ErrorCode::NoSuchMessage),
        }
        if text.is_some() && barred {
            return Err(ErrorCode::RefusedByPeer);
        }
        if text.is_some() {
            conversation.may_write(user)?;
        }
        let kind = if text.is_some() { RecordKind::EDIT } else { RecordKind::RECALL };
        let signal = conversation.last() + 1;
        let record = &mut conversation.records[seq as usize - 1];
        record.changed = Some((user.clone(), signal));
        record.content = text.map_or_else(Bytes::new, |text| Bytes::copy_from_slice(text.as_bytes()));
        if text.is_none() {
            record.kind = RecordKind::RECALLED;
        }
        Ok(conversation.append(user, kind, encode(&Target { seq })))
    }

    fn create(&mut self, user: &UserId, session: &SessionId, users: &[UserId]) -> Result<Answer, Refused> {
        if let Some(conversation) = self.sessions.get(session) {
            let over = conversation.dissolved;
            return Err(if over { ErrorCode::Dissolved } else { ErrorCode::SessionExists });
        }
        let all: BTreeSet<UserId> = users.iter().chain([user]).cloned().collect();
        let members = all.iter().map(|user| (user.clone(), 1)).collect();
        let mut conversation = Conversation { members, owner: Some(user.clone()), ..Conversation::default() };
        let signal = Signal { users: all.into_iter().collect() };
        let answer = conversation.append(user, RecordKind::CREATED, encode(&signal));
        self.sessions.insert(session.clone(), conversation);
        Ok(answer)
    }

    /// A group in which the user may do something.
    fn group(
        &mut self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<(&mut Conversation, MemberRole), Refused> {
        let conversation = self.sessions.get_mut(session).ok_or(ErrorCode::NotMember)?;
        conversation.may_read(user)?;
        let role = conversation.role(user).ok_or(ErrorCode::NotMember)?;
        Ok((conversation, role))
    }

    fn add(&mut self, user: &UserId, session: &SessionId, users: &[UserId]) -> Result<Answer, Refused> {
        let (group, role) = self.group(user, session)?;
        group.invites(role)?;
        if users.iter().any(|user| group.doors.bars(user)) {
            return Err(ErrorCode::Barred);
        }
        let fresh: BTreeSet<UserId> =
            users.iter().filter(|user| !group.members.contains_key(*user)).cloned().collect();
        let joined = group.last() + 1;
        fresh.iter().for_each(|user| group.doors.entered(user));
        group.members.extend(fresh.iter().map(|user| (user.clone(), joined)));
        let signal = Signal { users: fresh.into_iter().collect() };
        Ok(group.append(user, RecordKind::MEMBERS_ADDED, encode(&signal)))
    }

    fn remove(&mut self, user: &UserId, session: &SessionId, users: &[UserId]) -> Result<Answer, Refused> {
        let (group, role) = self.group(user, session)?;
        let may = |other: &UserId| {
            let below = group.role(other).is_none_or(|of| of < role);
            other == user || (role > MemberRole::Member && below)
        };
        if !users.iter().all(may) {
            return Err(ErrorCode::NotAllowed);
        }
        let gone: BTreeSet<UserId> =
            users.iter().filter(|user| group.members.contains_key(*user)).cloned().collect();
        group.leave(&gone);
        let signal = Signal { users: gone.into_iter().collect() };
        Ok(group.append(user, RecordKind::MEMBERS_REMOVED, encode(&signal)))
    }

    fn manage(
        &mut self,
        user: &UserId,
        session: &SessionId,
        action: &GroupAction,
    ) -> Result<Answer, Refused> {
        if let Some(done) = self.takes_back(user, session, action) {
            return done;
        }
        let (group, role) = self.group(user, session)?;
        if let Some(done) = group.keep_doors(user, role, action) {
            return done;
        }
        let least = match action {
            GroupAction::MuteAll { .. } => MemberRole::Admin,
            GroupAction::SetProfile { .. } if group.policy.change == Who::All => MemberRole::Member,
            GroupAction::SetProfile { .. } => MemberRole::Admin,
            _ => MemberRole::Owner,
        };
        if role < least {
            return Err(ErrorCode::NotAllowed);
        }
        match action {
            GroupAction::SetRole { user: other, role } => {
                match group.role(other).ok_or(ErrorCode::NotMember)? {
                    MemberRole::Owner => return Err(ErrorCode::NotAllowed),
                    _ if *role == MemberRole::Admin => drop(group.admins.insert(other.clone())),
                    _ => drop(group.admins.remove(other)),
                }
            }
            GroupAction::HandOver { user: other } => {
                group.role(other).ok_or(ErrorCode::NotMember)?;
                group.admins.extend(group.owner.replace(other.clone()));
                group.admins.remove(other);
            }
            GroupAction::SetPolicy(policy) => group.policy = *policy,
            GroupAction::MuteAll { on } => group.mute_all = *on,
            GroupAction::Dissolve => {
                (group.dissolved, group.owner) = (true, None);
                (group.members, group.admins, group.doors) = Default::default();
            }
            _ => {}
        }
        Ok(group.append(user, RecordKind::GROUP_CHANGED, encode(action)))
    }

    /// Up to where somebody may say something of a session.
    pub(super) fn within(
        &self,
        user: &UserId,
        session: &SessionId,
        seq: u64,
    ) -> Result<&Conversation, Refused> {
        let conversation = self.sessions.get(session).ok_or(ErrorCode::NoSuchSession)?;
        conversation.may_read(user)?;
        if seq > conversation.last() { Err(ErrorCode::BeyondEnd) } else { Ok(conversation) }
    }

    pub(super) fn own(&mut self, user: &UserId, session: &SessionId) -> &mut Own {
        self.own.entry((user.clone(), session.clone())).or_default()
    }

    fn read(&mut self, user: &UserId, session: &SessionId, seq: u64) -> Result<Answer, Refused> {
        self.within(user, session, seq)?;
        let own = self.own(user, session);
        own.read = own.read.max(seq);
        own.set.marked_unread = false;
        let seq = own.read;
        Ok(Answer::Mark { seq, count: self.sessions[session].count(seq) })
    }

    fn read_all(&mut self, user: &UserId) -> Answer {
        let list = self.list(user);
        for (session, line) in &list {
            let own = self.own(user, session);
            own.read = own.read.max(line.last);
        }
        self.own
            .iter_mut()
            .filter(|((of, _), _)| of == user)
            .for_each(|(_, own)| own.set.marked_unread = false);
        Answer::Own(list.values().map(|line| line.unread).sum())
    }

    fn clear(&mut self, user: &UserId, session: &SessionId, seq: u64) -> Result<Answer, Refused> {
        self.within(user, session, seq)?;
        let own = self.own(user, session);
        let moved = seq > own.cleared;
        own.cleared = own.cleared.max(seq);
        own.deleted = own.deleted.split_off(&(own.cleared + 1));
        Ok(Answer::Own(u64::from(moved)))
    }

    fn delete(&mut self, user: &UserId, session: &SessionId, from: u64, to: u64) -> Result<Answer, Refused> {
        self.within(user, session, to)?;
        let own = self.own(user, session);
        let before = own.deleted.len();
        own.deleted.extend(from.max(own.cleared + 1)..=to);
        Ok(Answer::Own(u64::from(own.deleted.len() > before)))
    }

    pub(super) fn state(&self, user: &UserId, other: &UserId) -> RelationState {
        let (there, back) = ((user.clone(), other.clone()), (other.clone(), user.clone()));
        match () {
            () if self.friends.contains(&there) => RelationState::Friends,
            () if self.asked.contains(&there) => RelationState::Requested,
            () if self.asked.contains(&back) => RelationState::Asked,
            () => RelationState::None,
        }
    }

    fn stand(&self, user: &UserId, other: &UserId) -> Answer {
        Answer::Own(self.state(user, other) as u64)
    }

    fn befriend(&mut self, user: &UserId, other: &UserId) -> Answer {
        let (there, back) = ((user.clone(), other.clone()), (other.clone(), user.clone()));
        match self.state(user, other) {
            RelationState::None => drop(self.asked.insert(there)),
            RelationState::Asked => {
                self.asked.remove(&back);
                self.friends.extend([there, back]);
            }
            RelationState::Requested | RelationState::Friends => {}
        }
        self.stand(user, other)
    }

    fn part(&mut self, user: &UserId, other: &UserId) -> Answer {
        for pair in [(user.clone(), other.clone()), (other.clone(), user.clone())] {
            self.asked.remove(&pair);
            self.friends.remove(&pair);
        }
        self.stand(user, other)
    }

    fn block(&mut self, user: &UserId, other: &UserId, on: bool) -> Answer {
        let pair = (user.clone(), other.clone());
        if on {
            self.blocked.insert(pair)
        } else {
            self.blocked.remove(&pair)
        };
        self.stand(user, other)
    }
}
