//! How users of the [reference](super::reference) come into groups by themselves: open groups, requests that somebody
//! answers, codes of invitation, users who are kept out; and how they set their sessions.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rookery_client::InviteCode;
use rookery_wire::{
    ErrorCode, GroupAction, Join, MemberRole, RecordKind, SessionId, SessionSetting, Signal, UserId, Who,
    encode,
};

use super::reference::{Answer, Conversation, Refused, Set, World};

/// Codes of a group that can be used.
const MOST_CODES: usize = 32;

/// A code: its hash, how many users it still lets in, and who made it.
#[derive(Clone, Debug)]
struct Code {
    hash: Bytes,
    left: u32,
    maker: UserId,
}

/// The ways into a group.
#[derive(Clone, Debug, Default)]
pub(super) struct Doors {
    asking: BTreeSet<UserId>,
    /// Who was declined, or took its request back: it asks again no sooner than a test is over.
    waiting: BTreeSet<UserId>,
    barred: BTreeSet<UserId>,
    codes: BTreeMap<u64, Code>,
}

impl Doors {
    pub(super) fn bars(&self, user: &UserId) -> bool {
        self.barred.contains(user)
    }

    /// The user is in: nothing is known of it any more.
    pub(super) fn entered(&mut self, user: &UserId) {
        self.asking.remove(user);
        self.waiting.remove(user);
    }

    /// One of the codes, if there is any.
    pub(super) fn nth_code(&self, nth: usize) -> Option<u64> {
        self.codes.keys().nth(nth % self.codes.len().max(1)).copied()
    }

    fn opens(&self, hash: &Bytes) -> Result<u64, Refused> {
        let of_hash = || self.codes.iter().filter(|(_, code)| code.hash == hash);
        match of_hash().find(|(_, code)| code.left > 0) {
            Some((id, _)) => Ok(*id),
            None if of_hash().next().is_some() => Err(ErrorCode::CodeUsedUp),
            None => Err(ErrorCode::CodeUnknown),
        }
    }
}

impl Conversation {
    pub(super) fn invites(&self, role: MemberRole) -> Result<(), Refused> {
        let may = self.policy.invite == Who::All || role >= MemberRole::Admin;
        if may { Ok(()) } else { Err(ErrorCode::NotAllowed) }
    }

    /// Somebody comes in by itself, or is let in.
    fn enters(&mut self, by: &UserId, user: &UserId) -> Answer {
        self.doors.entered(user);
        self.members.insert(user.clone(), self.last() + 1);
        self.append(by, RecordKind::MEMBERS_ADDED, encode(&Signal { users: vec![user.clone()] }))
    }

    /// What is done to the ways into it; none if the action is about something else.
    pub(super) fn keep_doors(
        &mut self,
        user: &UserId,
        role: MemberRole,
        action: &GroupAction,
    ) -> Option<Result<Answer, Refused>> {
        let done = match action {
            GroupAction::Answer { user: other, accept } => {
                return Some(self.answer(user, role, other, *accept));
            }
            GroupAction::MakeCode { hash, uses, .. } => self.make_code(user, role, &hash.0, *uses),
            GroupAction::RevokeCode { id } => match self.doors.codes.get(id) {
                None => Err(ErrorCode::CodeUnknown),
                Some(code) if code.maker == *user || role >= MemberRole::Admin => {
                    self.doors.codes.remove(id);
                    Ok(())
                }
                Some(_) => Err(ErrorCode::NotAllowed),
            },
            GroupAction::Bar { user: other, on } => self.bar(role, other, *on),
            _ => return None,
        };
        // Of a code the record says nothing from which it could be found.
        let told = match action.clone() {
            GroupAction::MakeCode { until_ms, uses, .. } => {
                GroupAction::MakeCode { hash: Default::default(), until_ms, uses }
            }
            other => other,
        };
        Some(done.map(|()| self.append(user, RecordKind::GROUP_CHANGED, encode(&told))))
    }

    fn answer(
        &mut self,
        by: &UserId,
        role: MemberRole,
        user: &UserId,
        accept: bool,
    ) -> Result<Answer, Refused> {
        self.invites(role)?;
        if !self.doors.asking.contains(user) {
            return Err(ErrorCode::NotMember);
        }
        if accept { Ok(self.enters(by, user)) } else { Ok(self.decline(by, user)) }
    }

    fn decline(&mut self, by: &UserId, user: &UserId) -> Answer {
        self.doors.asking.remove(user);
        self.doors.waiting.insert(user.clone());
        let told = GroupAction::Answer { user: user.clone(), accept: false };
        self.append(by, RecordKind::GROUP_CHANGED, encode(&told))
    }

    fn make_code(
        &mut self,
        maker: &UserId,
        role: MemberRole,
        hash: &Bytes,
        left: u32,
    ) -> Result<(), Refused> {
        self.invites(role)?;
        if self.doors.codes.values().filter(|code| code.left > 0).count() >= MOST_CODES {
            return Err(ErrorCode::NoRoom);
        }
        let code = Code { hash: hash.clone(), left, maker: maker.clone() };
        self.doors.codes.insert(self.last() + 1, code);
        Ok(())
    }

    fn bar(&mut self, role: MemberRole, other: &UserId, on: bool) -> Result<(), Refused> {
        if role < MemberRole::Admin || self.role(other).is_some_and(|of| of >= role) {
            return Err(ErrorCode::NotAllowed);
        }
        if on {
            self.doors.entered(other);
            self.doors.barred.insert(other.clone());
        } else {
            self.doors.barred.remove(other);
        }
        Ok(())
    }

    fn comes(&mut self, user: &UserId, code: Option<&Bytes>) -> Result<Answer, Refused> {
        if self.dissolved {
            return Err(ErrorCode::Dissolved);
        }
        if self.members.contains_key(user) {
            return Err(ErrorCode::NotAllowed);
        }
        if self.doors.bars(user) {
            return Err(ErrorCode::Barred);
        }
        if self.members.is_empty() {
            return Err(ErrorCode::JoinClosed);
        }
        if let Some(hash) = code {
            let id = self.doors.opens(hash)?;
            self.doors.codes.entry(id).and_modify(|code| code.left -= 1);
            return Ok(self.enters(user, user));
        }
        match self.policy.join {
            Join::Closed => Err(ErrorCode::JoinClosed),
            Join::Open => Ok(self.enters(user, user)),
            Join::Request if self.doors.asking.contains(user) || self.doors.waiting.contains(user) => {
                Err(ErrorCode::AskedLately)
            }
            Join::Request => {
                self.doors.asking.insert(user.clone());
                let told = GroupAction::Asked { user: user.clone() };
                Ok(self.append(user, RecordKind::GROUP_CHANGED, encode(&told)))
            }
        }
    }
}

impl World {
    pub(super) fn join(
        &mut self,
        user: &UserId,
        session: &SessionId,
        code: Option<&InviteCode>,
    ) -> Result<Answer, Refused> {
        let group = self.sessions.get_mut(session).ok_or(ErrorCode::NoSuchSession)?;
        group.comes(user, code.map(|code| code.hash().0).as_ref())
    }

    /// Takes its own request back; none if there is nothing of the kind.
    pub(super) fn takes_back(
        &mut self,
        user: &UserId,
        session: &SessionId,
        action: &GroupAction,
    ) -> Option<Result<Answer, Refused>> {
        let GroupAction::Answer { user: of, accept: false } = action else { return None };
        let group = self.sessions.get_mut(session)?;
        if of != user || group.dissolved || group.members.contains_key(user) {
            return None;
        }
        if !group.doors.asking.contains(user) {
            return Some(Err(ErrorCode::NotMember));
        }
        Some(Ok(group.decline(user, user)))
    }

    /// Who asks to join, as a user may see it.
    pub(super) fn asking(&self, user: &UserId, session: &SessionId) -> Result<Answer, Refused> {
        let group = self.sessions.get(session).ok_or(ErrorCode::NoSuchSession)?;
        if group.dissolved {
            return Err(ErrorCode::Dissolved);
        }
        let Some(role) = group.role(user) else {
            let own = group.doors.asking.iter().filter(|asks| *asks == user);
            return Ok(Answer::Members(own.cloned().collect()));
        };
        group.invites(role)?;
        Ok(Answer::Members(group.doors.asking.iter().cloned().collect()))
    }

    pub fn nth_code(&self, session: &SessionId, nth: usize) -> Option<u64> {
        self.sessions.get(session)?.doors.nth_code(nth)
    }

    pub(super) fn set(
        &mut self,
        user: &UserId,
        session: &SessionId,
        setting: &SessionSetting,
    ) -> Result<Answer, Refused> {
        let group = self.sessions.get(session);
        if !group.is_some_and(|group| group.members.contains_key(user)) {
            return Err(ErrorCode::NotMember);
        }
        let set = &mut self.own(user, session).set;
        let before = set.clone();
        match setting {
            SessionSetting::Pin(order) => set.pinned = *order,
            SessionSetting::Mute(until_ms) => set.muted_until_ms = *until_ms,
            SessionSetting::Hide(count) => set.hidden_count = *count,
            SessionSetting::MarkUnread(on) => set.marked_unread = *on,
            SessionSetting::Draft(text) => set.draft = text.0.clone(),
        }
        Ok(Answer::Own(u64::from(*set != before)))
    }
}

impl Set {
    /// As a list says it.
    pub fn of(settings: &rookery_wire::own::Settings) -> Self {
        Self {
            pinned: settings.pinned,
            muted_until_ms: settings.muted_until_ms,
            hidden_count: settings.hidden_count,
            marked_unread: settings.marked_unread,
            draft: settings.draft.0.clone(),
        }
    }
}
