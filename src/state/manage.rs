//! How a group is managed: profile, roles, policy, mutes, and its end.
//!
//! Owns the judgement of who may do what in a group, membership itself aside, and what a [`GroupAction`] changes. All of
//! it is judged when the entry is applied, by the session's state and the entry's time, so that every replica judges
//! alike (G8). As everywhere in a session, an act is decided in full before anything changes (R9).

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::codec::{Blob, Source};
use rookery_wire::group::{Group, MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES, RoleLine};
use rookery_wire::{
    AttributeKey, ErrorBody, ErrorCode, GroupAction, MemberRole, Policy, Retention, SessionId, UserId, Who,
};

use super::command::{Act, Actor, ChangeKind};
use super::naming::no_user;
use super::outcome::Outcome;
use super::session::{At, Member, Session};

/// Name and avatar: a row of their own, for they are rarely read and the head often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Profile {
    /// Name for people.
    pub name: Blob,
    /// Picture or its address.
    pub avatar: Blob,
}

/// The part of a group's settings that every judgement needs; it stands in the head row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Settings {
    /// Who may do what.
    pub policy: Policy,
    /// Only admins and the owner write.
    pub mute_all: bool,
    /// It accepts nothing any more.
    pub dissolved: bool,
    /// How long messages are kept here, if that was set.
    pub retention: Retention,
}

impl Settings {
    /// The first seq a member may read that joined with `joined_seq`, in a session that keeps `first_seq` and later.
    pub fn readable_from(&self, first_seq: u64, joined_seq: u64) -> u64 {
        if self.policy.history_before_joining { first_seq } else { first_seq.max(joined_seq) }
    }
}

impl Session {
    /// Whether the group has come to its end.
    pub fn dissolved(&self) -> bool {
        self.settings.dissolved
    }

    /// The first seq that `user` may read; none is a service, which reads everything.
    pub fn readable_from(&self, user: Option<&UserId>) -> u64 {
        let member = user.and_then(|user| self.member(user));
        member.map_or(self.first_seq, |member| self.settings.readable_from(self.first_seq, member.joined_seq))
    }

    /// What a present member is; none for anybody else.
    pub fn role_of(&self, user: &UserId) -> Option<MemberRole> {
        self.member(user).map(|member| self.role_as(user, member))
    }

    /// The role of a user who is this member.
    fn role_as(&self, user: &UserId, member: &Member) -> MemberRole {
        match (self.owner.as_ref() == Some(user), member.admin) {
            (true, _) => MemberRole::Owner,
            (false, true) => MemberRole::Admin,
            (false, false) => MemberRole::Member,
        }
    }

    /// The group as `user` sees it; none is a service.
    pub fn group_for(&self, user: Option<&UserId>) -> Group {
        Group {
            session: self.id.clone(),
            name: self.profile.name.clone(),
            avatar: self.profile.avatar.clone(),
            attributes: self.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            policy: self.settings.policy,
            mute_all: self.settings.mute_all,
            owner: self.owner.clone(),
            role: user.and_then(|user| self.role_of(user)),
            muted_until_ms: user.map_or(0, |user| self.muted_until(user)),
            members: self.present,
            dissolved: self.settings.dissolved,
            retention: self.settings.retention,
        }
    }

    /// Present members that are more than that, or muted, by name after `after`.
    pub fn roles_after(&self, after: Option<&UserId>) -> impl Iterator<Item = RoleLine> {
        self.members_after(after).filter_map(move |user| {
            let (role, muted_until_ms) = (self.role_of(user)?, self.muted_until(user));
            let special = role > MemberRole::Member || muted_until_ms > 0;
            special.then(|| RoleLine { user: user.clone(), role, muted_until_ms })
        })
    }

    /// Until when a member is muted. Nobody mutes an owner, and who becomes one is muted no longer.
    fn muted_until(&self, user: &UserId) -> u64 {
        match self.role_of(user) {
            Some(MemberRole::Owner) | None => 0,
            Some(_) => self.member(user).map_or(0, |member| member.muted_until),
        }
    }

    /// Whether the act is allowed, its number aside: the whole judgement.
    pub fn decide(&self, at: &At, actor: &Actor, act: &Act) -> Result<(), ErrorBody> {
        if self.settings.dissolved {
            let text = format!("{} has been dissolved", self.id);
            return Err(ErrorBody::new(ErrorCode::Dissolved, text));
        }
        if let Some(judged) = self.judge_coming(at, actor, act) {
            return judged;
        }
        self.judge(at, actor, act)?;
        self.has_room_to_expire(act)?;
        if matches!(self.id, SessionId::Direct { .. }) {
            return match act {
                Act::Manage { action: GroupAction::SetRetention(_) } => self.may_wish(actor, act),
                Act::Manage { action: GroupAction::KeepVersions { .. } } => {
                    self.may_keep_versions(actor, act)
                }
                Act::Manage { .. } => Err(not_allowed("nobody manages a direct session")),
                _ => self.let_through(actor, act),
            };
        }
        match act {
            Act::Send { .. } | Act::Edit { .. } => self.may_write(at, actor),
            Act::Recall { .. } => Ok(()),
            Act::Change { kind: ChangeKind::Create, unknown, .. } => all_users(unknown.as_ref()),
            Act::Change { kind: ChangeKind::Add, users, unknown, .. } => {
                self.needs(actor, least(self.settings.policy.invite), "add members")?;
                users.iter().try_for_each(|user| self.lets_in(user))?;
                all_users(unknown.as_ref())
            }
            Act::Change { kind: ChangeKind::Remove, users, .. } => self.may_remove(actor, users),
            Act::Manage { action } => self.may_manage(at, actor, action),
            Act::Join { .. } => Ok(()),
            Act::Answer { user, accept, most } => self.may_answer(actor, user, *accept, *most),
        }
    }

    /// As what an actor manages: a service may what an owner may.
    pub(super) fn standing(&self, actor: &Actor) -> MemberRole {
        if actor.service {
            return MemberRole::Owner;
        }
        self.role_of(actor.name()).unwrap_or(MemberRole::Member)
    }

    pub(super) fn needs(&self, actor: &Actor, least: MemberRole, what: &str) -> Result<(), ErrorBody> {
        if self.standing(actor) >= least {
            return Ok(());
        }
        let who = if least == MemberRole::Owner { "the owner" } else { "admins and the owner" };
        Err(not_allowed(format!("only {who} may {what} here")))
    }

    /// A service that writes in its own name is no member, so nothing that binds members binds it; in the name of a member
    /// it may write what that member may.
    fn may_write(&self, at: &At, actor: &Actor) -> Result<(), ErrorBody> {
        let member = self.member(actor.name());
        let role = member.map_or(MemberRole::Member, |member| self.role_as(actor.name(), member));
        if role == MemberRole::Owner || (actor.service && actor.on_behalf_of.is_none()) {
            return Ok(());
        }
        let muted_until = member.map_or(0, |member| member.muted_until);
        if muted_until > self.time_ms.max(at.time_ms) {
            let text = format!("{} is muted in {}", actor.name(), self.id);
            return Err(ErrorBody::new(ErrorCode::Muted, text).with_detail(muted_until));
        }
        if role == MemberRole::Admin {
            return Ok(());
        }
        if self.settings.mute_all {
            return Err(ErrorBody::new(ErrorCode::Muted, format!("all of {} is muted", self.id)));
        }
        match self.settings.policy.write {
            Who::All => Ok(()),
            Who::Admins => Err(not_allowed("only admins and the owner may write here")),
        }
    }

    /// Everybody may leave; others are removed by who stands above them.
    fn may_remove(&self, actor: &Actor, users: &[UserId]) -> Result<(), ErrorBody> {
        let standing = self.standing(actor);
        let below = |user: &UserId| actor.service || self.role_of(user).is_none_or(|role| role < standing);
        if users.iter().all(|user| user == actor.name() || (standing > MemberRole::Member && below(user))) {
            return Ok(());
        }
        Err(not_allowed(match standing {
            MemberRole::Member => "only admins and the owner remove others",
            _ => "an admin removes neither the owner nor other admins",
        }))
    }

    fn may_manage(&self, at: &At, actor: &Actor, action: &GroupAction) -> Result<(), ErrorBody> {
        if let Some(judged) = self.may_keep_doors(at, actor, action) {
            return judged;
        }
        match action {
            GroupAction::SetProfile { .. } => {
                self.needs(actor, least(self.settings.policy.change), "change the profile")
            }
            GroupAction::SetAttribute { key, value } => {
                self.needs(actor, least(self.settings.policy.change), "change attributes")?;
                value.as_ref().map_or(Ok(()), |value| self.has_room(key, value))
            }
            GroupAction::SetRole { user, role } => {
                self.needs(actor, MemberRole::Owner, "set roles")?;
                if *role == MemberRole::Owner || self.present_role(user)? == MemberRole::Owner {
                    return Err(not_allowed("ownership is handed over, not set"));
                }
                Ok(())
            }
            GroupAction::HandOver { user } => {
                self.needs(actor, MemberRole::Owner, "hand the group over")?;
                self.present_role(user).map(|_| ())
            }
            GroupAction::SetPolicy(_) => self.needs(actor, MemberRole::Owner, "set who may do what"),
            GroupAction::Mute { user, .. } => {
                self.needs(actor, MemberRole::Admin, "mute")?;
                if self.present_role(user)? >= self.standing(actor) {
                    return Err(not_allowed("an admin mutes plain members only, and nobody mutes the owner"));
                }
                Ok(())
            }
            GroupAction::MuteAll { .. } => self.needs(actor, MemberRole::Admin, "mute all"),
            GroupAction::Dissolve => self.needs(actor, MemberRole::Owner, "dissolve the group"),
            GroupAction::SetRetention(_) => {
                self.needs(actor, MemberRole::Owner, "set how long messages are kept")
            }
            GroupAction::KeepVersions { .. } => {
                self.needs(actor, MemberRole::Owner, "set whether versions are kept")
            }
            // Judged above.
            GroupAction::Answer { .. }
            | GroupAction::MakeCode { .. }
            | GroupAction::RevokeCode { .. }
            | GroupAction::Bar { .. }
            | GroupAction::Asked { .. } => Ok(()),
        }
    }

    /// The role of somebody whom an action names.
    fn present_role(&self, user: &UserId) -> Result<MemberRole, ErrorBody> {
        self.role_of(user).ok_or_else(|| {
            ErrorBody::new(ErrorCode::NotMember, format!("{user} is not a member of {}", self.id))
        })
    }

    /// Whether the attributes stay within their bounds with this one among them. Part of what apply decides.
    fn has_room(&self, key: &AttributeKey, value: &Blob) -> Result<(), ErrorBody> {
        let full = |most: usize, what: &str| {
            let text = format!("{} would have more than {most} {what}", self.id);
            Err(ErrorBody::new(ErrorCode::AttributesFull, text).with_detail(most as u64))
        };
        let others = self.attributes.iter().filter(|(other, _)| *other != key);
        let (count, bytes) = others.fold((1, key.as_str().len() + value.len()), |(count, bytes), other| {
            (count + 1, bytes + other.0.as_str().len() + other.1.len())
        });
        if count > MAX_ATTRIBUTES {
            return full(MAX_ATTRIBUTES, "attributes");
        }
        if bytes > MAX_ATTRIBUTE_BYTES {
            return full(MAX_ATTRIBUTE_BYTES, "bytes of attributes");
        }
        Ok(())
    }

    /// Carries out an action that [`Session::decide`] allowed, before its record is appended.
    pub(super) fn manage(&mut self, at: &At, actor: &Actor, action: &GroupAction, outcome: &mut Outcome) {
        self.dirty.head = true;
        match action {
            GroupAction::SetProfile { name, avatar } => {
                let Profile { name: old_name, avatar: old_avatar } = &mut self.profile;
                for (new, old) in [(name, old_name), (avatar, old_avatar)] {
                    if let Some(new) = new {
                        *old = own(new);
                    }
                }
                self.dirty.profile = true;
            }
            GroupAction::SetAttribute { key, value } => {
                match value {
                    Some(value) => self.attributes.insert(key.clone(), own(value)),
                    None => self.attributes.remove(key),
                };
                self.dirty.attributes.insert(key.clone());
            }
            GroupAction::SetRole { user, role } => {
                self.change_member(user, |member| member.admin = *role == MemberRole::Admin);
            }
            GroupAction::HandOver { user } => self.hand_over(user),
            GroupAction::SetPolicy(policy) => self.settings.policy = *policy,
            GroupAction::Mute { user, until_ms } => {
                self.change_member(user, |member| member.muted_until = *until_ms);
            }
            GroupAction::MuteAll { on } => self.settings.mute_all = *on,
            GroupAction::SetRetention(retention) => {
                self.keep(actor.name(), *retention);
                outcome.timers_moved = true;
            }
            GroupAction::KeepVersions { on } => self.keep_versions(actor.name(), *on),
            GroupAction::Dissolve => {
                self.settings.dissolved = true;
                self.owner = None;
                self.doors.close();
                self.dissolve(at, outcome);
            }
            GroupAction::Answer { .. }
            | GroupAction::MakeCode { .. }
            | GroupAction::RevokeCode { .. }
            | GroupAction::Bar { .. }
            | GroupAction::Asked { .. } => self.keep_doors(at, actor, action),
        }
    }

    fn hand_over(&mut self, user: &UserId) {
        let before = self.owner.replace(user.clone()).filter(|before| before != user);
        if let Some(before) = before {
            self.change_member(&before, |member| (member.admin, member.muted_until) = (true, 0));
        }
        // Nobody mutes an owner, and what is left of the role before would show when this one hands over in turn.
        self.change_member(user, |member| (member.admin, member.muted_until) = (false, 0));
    }

    fn change_member(&mut self, user: &UserId, change: impl FnOnce(&mut super::session::Member)) {
        if let Some(member) = self.members.get_mut(user) {
            change(member);
            self.dirty.members.insert(user.clone());
        }
    }
}

/// Attributes by key.
pub(super) type Attributes = BTreeMap<AttributeKey, Blob>;

pub(super) fn least(who: Who) -> MemberRole {
    match who {
        Who::All => MemberRole::Member,
        Who::Admins => MemberRole::Admin,
    }
}

pub(super) fn not_allowed(text: impl AsRef<str>) -> ErrorBody {
    ErrorBody::new(ErrorCode::NotAllowed, text)
}

/// A copy: what is kept for long must not hold the whole log entry it came in.
pub(super) fn own(blob: &Blob) -> Blob {
    Blob(Bytes::copy_from_slice(blob.as_ref()))
}

/// Whether all who are brought in are users, by what the act says of them.
fn all_users(unknown: Option<&UserId>) -> Result<(), ErrorBody> {
    unknown.map_or(Ok(()), |name| Err(no_user(name)))
}
