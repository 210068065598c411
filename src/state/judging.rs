//! Whether an act is one for a session and for the user who does it, before the group's settings are asked.

use std::collections::BTreeSet;

use rookery_wire::{ErrorBody, ErrorCode, SessionId, UserId};

use super::command::{Act, Actor, ChangeKind};
use super::members::creator;
use super::session::{At, Session};
use crate::plant::planted;

impl Session {
    /// Whether the act is one for this session and this user. Judged here, at apply, so that every replica judges alike
    /// (G8); what the group's settings say to it, [`Session::decide`] adds.
    pub(super) fn judge(&self, at: &At, actor: &Actor, act: &Act) -> Result<(), ErrorBody> {
        let name = actor.name();
        let stranger =
            || ErrorBody::new(ErrorCode::NotMember, format!("{name} is not a member of {}", self.id));
        let speaks_for_itself = actor.service && actor.on_behalf_of.is_none();
        let is_member = speaks_for_itself || self.member(name).is_some() || planted("no-membership");
        let Act::Change { kind, users, most, .. } = act else {
            let allowed = is_member || (!self.exists && self.id.pair_has(name) == Some(true));
            return if allowed { self.judge_rewrite(at, actor, act) } else { Err(stranger()) };
        };
        if matches!(self.id, SessionId::Direct { .. }) {
            return Err(ErrorBody::new(
                ErrorCode::NotAllowed,
                "the members of a direct session are its two users",
            ));
        }
        match kind {
            ChangeKind::Create if self.exists || (self.present > 0 && self.member(name).is_none()) => {
                return Err(ErrorBody::new(ErrorCode::SessionExists, format!("{} exists already", self.id)));
            }
            ChangeKind::Create => {}
            ChangeKind::Add | ChangeKind::Remove if !is_member => return Err(stranger()),
            ChangeKind::Add | ChangeKind::Remove => {}
        }
        if *kind != ChangeKind::Remove {
            // Who makes a group is in it, whether or not it is named; a service in its own name is not.
            let founder = creator(actor).filter(|_| *kind == ChangeKind::Create);
            let named: BTreeSet<&UserId> = users.iter().chain(&founder).collect();
            let fresh = named.iter().filter(|user| self.member(user).is_none()).count();
            let total = u64::from(self.present) + fresh as u64;
            if total > u64::from(*most) {
                let text = format!("{} would have {total} members, at most {most} are allowed", self.id);
                return Err(ErrorBody::new(ErrorCode::GroupFull, text).with_detail(u64::from(*most)));
            }
        }
        Ok(())
    }
}
