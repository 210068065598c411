//! Who comes into a group by itself: open groups, requests that somebody answers, codes of invitation, users kept out.
//!
//! What a group knows of users who are no members, that they ask, that they were declined, that they are barred, and its codes, of
//! which only the hash is kept, is in [`super::doors`]. All of it is judged when the entry is applied, by the entry's time, so
//! order decides between a request, its answer, its withdrawal and the end of the group (G8, R10). Who joins does so as if
//! added: by a record of members, with an intent for the user's list.
//!
//! Everything is bounded: requests, users kept out and codes by the protocol; of those who were declined the latest are
//! remembered.

use rookery_wire::codec::Blob;
use rookery_wire::join::{
    CodeLine, Join, ListRequests, MAX_BARRED, MAX_CODE_MS, MAX_CODES, MAX_REQUESTS, Outside, RequestLine,
};
use rookery_wire::{ErrorBody, ErrorCode, GroupAction, RecordKind, SessionId, Signal, UserId};

use super::command::{Act, Actor, ChangeKind};
use super::doors::{Code, CodeHash, Outsider};
use super::manage::{least, not_allowed, own};
use super::members::Turnover;
use super::outcome::Outcome;
use super::session::{At, Session};

/// What somebody's coming, or the answer to a request, leads to: decided and not yet carried out.
pub(super) struct Entry {
    user: UserId,
    becomes: Option<Outsider>,
    turnover: Option<Turnover>,
    code: Option<u64>,
}

impl Session {
    /// The time by which everything here is judged.
    fn now_ms(&self, at: &At) -> u64 {
        self.time_ms.max(at.time_ms)
    }

    /// Judges what one may do here who is no member; none if it is for members to do.
    pub(super) fn judge_coming(&self, at: &At, actor: &Actor, act: &Act) -> Option<Result<(), ErrorBody>> {
        let name = actor.name();
        match act {
            Act::Join { code, most, again_ms, .. } => {
                if matches!(self.id, SessionId::Direct { .. }) {
                    return Some(Err(not_allowed("nobody joins a direct session")));
                }
                // Else one who may not write could make records at will, each pushed to all.
                if self.member(name).is_some() {
                    return Some(Err(not_allowed(format!("{name} is a member of {} already", self.id))));
                }
                Some(self.may_come(at, actor, code.as_ref(), *most, *again_ms))
            }
            Act::Answer { user, accept: false, .. } if user == name && self.member(name).is_none() => {
                Some(self.asks(user))
            }
            _ => None,
        }
    }

    /// Whether this is the act of one who is no member and wants to be one, or does no more.
    pub(super) fn is_coming(&self, name: &UserId, act: &Act) -> bool {
        let coming = match act {
            Act::Join { .. } => true,
            Act::Answer { user, accept, .. } => user == name && !accept,
            _ => false,
        };
        coming && self.member(name).is_none()
    }

    fn may_come(
        &self,
        at: &At,
        actor: &Actor,
        code: Option<&CodeHash>,
        most: u32,
        again_ms: u64,
    ) -> Result<(), ErrorBody> {
        let (now_ms, name) = (self.now_ms(at), actor.name());
        self.lets_in(name)?;
        if self.present == 0 && !actor.service {
            // It would have no owner, and never get one.
            let text = format!("the last member has left {}: only a service brings somebody in", self.id);
            return Err(ErrorBody::new(ErrorCode::JoinClosed, text));
        }
        if let Some(hash) = code {
            let found = self.doors.opens(hash, now_ms);
            found.map_err(|why| ErrorBody::new(why, format!("{}: {}", self.id, why.remedy())))?;
            return self.has_place(most);
        }
        match self.settings.policy.join {
            Join::Open => self.has_place(most),
            Join::Closed => {
                let text = format!("nobody comes into {} uninvited", self.id);
                Err(ErrorBody::new(ErrorCode::JoinClosed, text))
            }
            Join::Request => self.may_ask(name, now_ms, again_ms),
        }
    }

    fn may_ask(&self, name: &UserId, now_ms: u64, again_ms: u64) -> Result<(), ErrorBody> {
        match self.doors.outsiders.get(name) {
            Some(Outsider::Asks { .. }) => {
                let text = format!("the request of {name} to join {} waits for its answer", self.id);
                Err(ErrorBody::new(ErrorCode::AskedLately, text))
            }
            Some(Outsider::Waits { since_ms }) if since_ms.saturating_add(again_ms) > now_ms => {
                let text = format!("{name} has asked {} not long ago (limits.join_again_ms)", self.id);
                let again = since_ms.saturating_add(again_ms);
                Err(ErrorBody::new(ErrorCode::AskedLately, text).with_detail(again))
            }
            _ => self.bounded(
                self.doors.count(|outsider| matches!(outsider, Outsider::Asks { .. })),
                MAX_REQUESTS,
                "requests",
            ),
        }
    }

    fn bounded(&self, count: usize, most: usize, what: &str) -> Result<(), ErrorBody> {
        if count < most {
            return Ok(());
        }
        let text = format!("{} has {most} {what}, as many as it may", self.id);
        Err(ErrorBody::new(ErrorCode::NoRoom, text))
    }

    /// Room for one more. Not GROUP_FULL, which takes the number of whoever hears it: whoever comes in vain keeps his.
    fn has_place(&self, most: u32) -> Result<(), ErrorBody> {
        self.bounded(self.present as usize, most as usize, "members")
    }

    /// Whether the group does not keep this user out, whoever brings it.
    pub(super) fn lets_in(&self, user: &UserId) -> Result<(), ErrorBody> {
        if !self.doors.bars(user) {
            return Ok(());
        }
        Err(ErrorBody::new(ErrorCode::Barred, format!("{user} is kept out of {}", self.id)))
    }

    fn asks(&self, user: &UserId) -> Result<(), ErrorBody> {
        if self.doors.asks(user) {
            return Ok(());
        }
        let text = format!("{user} has no request to join {} that waits for an answer", self.id);
        Err(ErrorBody::new(ErrorCode::NotMember, text))
    }

    /// Whether a member, or a service, may answer this request.
    pub(super) fn may_answer(
        &self,
        actor: &Actor,
        user: &UserId,
        accept: bool,
        most: u32,
    ) -> Result<(), ErrorBody> {
        self.needs(actor, least(self.settings.policy.invite), "answer requests")?;
        self.asks(user)?;
        if accept && self.present >= most {
            let text = format!("{} has {} members, at most {most} are allowed", self.id, self.present);
            return Err(ErrorBody::new(ErrorCode::GroupFull, text).with_detail(u64::from(most)));
        }
        Ok(())
    }

    /// Whether a member, or a service, may do that to the ways into the group; none if it is about something else.
    pub(super) fn may_keep_doors(
        &self,
        at: &At,
        actor: &Actor,
        action: &GroupAction,
    ) -> Option<Result<(), ErrorBody>> {
        use rookery_wire::MemberRole::Admin;
        let inviting = least(self.settings.policy.invite);
        Some(match action {
            GroupAction::MakeCode { until_ms, .. } => {
                self.needs(actor, inviting, "make codes").and_then(|()| {
                    let now_ms = self.now_ms(at);
                    if good_until(*until_ms, now_ms) <= now_ms {
                        let text =
                            format!("it is {now_ms} in {} already: the code would let nobody in", self.id);
                        return Err(ErrorBody::new(ErrorCode::CodeExpired, text));
                    }
                    let live = self.doors.codes.values().filter(|code| code.state(now_ms).is_ok());
                    self.bounded(live.count(), MAX_CODES, "codes")
                })
            }
            GroupAction::RevokeCode { id } => match self.doors.codes.get(id) {
                Some(code) if code.maker == *actor.name() => Ok(()),
                Some(_) => self.needs(actor, Admin, "take back the codes of others"),
                None => {
                    let text = format!("{} has no code {id}", self.id);
                    Err(ErrorBody::new(ErrorCode::CodeUnknown, text))
                }
            },
            GroupAction::Bar { user, on } => self.needs(actor, Admin, "keep users out").and_then(|()| {
                if self.role_of(user).is_some_and(|role| role >= self.standing(actor)) && !actor.service {
                    return Err(not_allowed("an admin keeps neither the owner nor other admins out"));
                }
                if !on || self.doors.bars(user) {
                    return Ok(());
                }
                let barred = self.doors.count(|outsider| outsider.barred_ms().is_some());
                self.bounded(barred, MAX_BARRED, "users kept out")
            }),
            // The gateway makes an act of its own of the one, and lets nobody ask for the other.
            GroupAction::Answer { .. } | GroupAction::Asked { .. } => {
                Err(not_allowed("that is no change that anybody asks for"))
            }
            _ => return None,
        })
    }

    /// Decides a coming or an answer that was allowed: the kind and content of its record, and what is to be carried out.
    pub(super) fn decide_entry(&self, at: &At, actor: &Actor, act: &Act) -> (RecordKind, Blob, Entry) {
        let now_ms = self.now_ms(at);
        let (user, joins, code, becomes, told) = match act {
            Act::Join { code, text, .. } => {
                let user = actor.name();
                let code = code.as_ref().and_then(|hash| self.doors.opens(hash, now_ms).ok());
                let joins = self.settings.policy.join == Join::Open || code.is_some();
                let asks = Outsider::Asks { text: own(text), since_ms: now_ms };
                (user, joins, code, asks, GroupAction::Asked { user: user.clone() })
            }
            Act::Answer { user, accept, .. } => {
                let told = GroupAction::Answer { user: user.clone(), accept: *accept };
                (user, *accept, None, Outsider::Waits { since_ms: now_ms }, told)
            }
            // Not one of those.
            _ => return self.nothing_entered(actor),
        };
        if !joins {
            let entry = Entry { user: user.clone(), becomes: Some(becomes), turnover: None, code: None };
            return (RecordKind::GROUP_CHANGED, Blob(rookery_wire::encode(&told)), entry);
        }
        let (kind, users, turnover) = self.decide_change(ChangeKind::Add, std::slice::from_ref(user), actor);
        let turnover = Some(turnover.of_their_own());
        let entry = Entry { user: user.clone(), becomes: None, turnover, code };
        (kind, Blob(rookery_wire::encode(&Signal { users })), entry)
    }

    fn nothing_entered(&self, actor: &Actor) -> (RecordKind, Blob, Entry) {
        let (kind, users, turnover) = self.decide_change(ChangeKind::Add, &[], actor);
        let user = actor.name().clone();
        let entry = Entry { user, becomes: None, turnover: Some(turnover), code: None };
        (kind, Blob(rookery_wire::encode(&Signal { users })), entry)
    }

    /// Carries out what [`Session::decide_entry`] decided, before its record is appended.
    pub(super) fn enter(&mut self, at: &At, entry: Entry, outcome: &mut Outcome) {
        let Entry { user, becomes, turnover, code } = entry;
        if let Some(becomes) = becomes {
            self.doors.set(user.clone(), becomes);
        }
        if let Some(turnover) = turnover {
            self.carry_out(at, turnover, outcome);
        }
        // Who joins is no outsider any more, so this comes last.
        if let Some(id) = code {
            self.doors.uses(id, user, self.version);
        }
        self.dirty.head = true;
    }

    /// Carries out what [`Session::may_keep_doors`] allowed, before its record is appended.
    pub(super) fn keep_doors(&mut self, at: &At, actor: &Actor, action: &GroupAction) {
        let now_ms = self.now_ms(at);
        match action {
            GroupAction::MakeCode { hash, until_ms, uses } => {
                let Ok(hash) = CodeHash::try_from(hash.as_ref()) else { return };
                let (maker, until_ms) = (actor.name().clone(), good_until(*until_ms, now_ms));
                let code = Code { hash, maker, made_ms: now_ms, until_ms, uses: *uses, used: 0 };
                self.doors.make(self.last_seq + 1, code);
            }
            GroupAction::RevokeCode { id } => self.doors.revoke(*id),
            GroupAction::Bar { user, on: true } if !self.doors.bars(user) => {
                self.doors.bar(user, Some(now_ms));
            }
            GroupAction::Bar { user, on: false } if self.doors.bars(user) => self.doors.bar(user, None),
            _ => {}
        }
    }

    /// An action as its record says it: of a code nothing from which it could be found, and until when it really is good.
    pub(super) fn as_told(&self, at: &At, action: &GroupAction) -> GroupAction {
        match action {
            GroupAction::MakeCode { until_ms, uses, .. } => GroupAction::MakeCode {
                hash: Blob::default(),
                until_ms: good_until(*until_ms, self.now_ms(at)),
                uses: *uses,
            },
            other => other.clone(),
        }
    }

    /// Whether `user` may see who asks and which codes there are; none is a service.
    ///
    /// # Errors
    /// NOT_ALLOWED.
    pub fn may_see_doors(&self, user: Option<&UserId>) -> Result<(), ErrorBody> {
        let role = user.and_then(|user| self.role_of(user));
        if user.is_none() || role.is_some_and(|role| role >= least(self.settings.policy.invite)) {
            return Ok(());
        }
        Err(not_allowed("only who may add members sees requests and codes"))
    }

    /// What one who is no member sees of those who ask: its own request, as long as that waits for an answer. None is
    /// somebody else, or another question.
    pub fn seen_from_outside(&self, user: Option<&UserId>, list: &ListRequests) -> Option<Vec<RequestLine>> {
        let open = self.exists && !self.settings.dissolved && list.which == Outside::Asking;
        let user = user.filter(|user| open && self.member(user).is_none())?;
        let own = match self.doors.outsiders.get(user) {
            Some(Outsider::Asks { text, since_ms })
                if list.after.as_ref().is_none_or(|after| after < user) =>
            {
                Some(RequestLine { user: user.clone(), text: text.clone(), since_ms: *since_ms })
            }
            _ => None,
        };
        Some(own.into_iter().collect())
    }

    /// Users who ask, or are kept out, by name after `after`.
    pub fn outside_after(&self, which: Outside, after: Option<&UserId>) -> impl Iterator<Item = RequestLine> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = (after.map_or(Unbounded, Excluded), Unbounded);
        self.doors.outsiders.range::<UserId, _>(range).filter_map(move |(user, outsider)| {
            let (text, since_ms) = match (which, outsider) {
                (Outside::Asking, Outsider::Asks { text, since_ms }) => (text.clone(), *since_ms),
                (Outside::Barred, outsider) => (Blob::default(), outsider.barred_ms()?),
                _ => return None,
            };
            Some(RequestLine { user: user.clone(), text, since_ms })
        })
    }

    /// Its codes by number after `after`.
    pub fn codes_after(&self, after: u64) -> impl Iterator<Item = CodeLine> {
        self.doors.codes.range(after.saturating_add(1)..).map(|(id, code)| CodeLine {
            id: *id,
            maker: code.maker.clone(),
            made_ms: code.made_ms,
            until_ms: code.until_ms,
            uses: code.uses,
            used: code.used,
        })
    }
}

/// Until when a code is good that was to be good until `until_ms`.
fn good_until(until_ms: u64, now_ms: u64) -> u64 {
    let most = now_ms.saturating_add(MAX_CODE_MS);
    if until_ms == 0 { most } else { until_ms.min(most) }
}
