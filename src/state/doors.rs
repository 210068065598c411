//! What a group knows of users who are no members, and its codes of invitation: what [`super::joining`] judges by and changes.
//!
//! Each user and each code is a row. Who has come by a code is remembered until its list has answered for the group: only a list
//! that refuses gives the use back.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use rookery_wire::codec::{Blob, Source};
use rookery_wire::join::{CODE_HASH, MAX_CODES};
use rookery_wire::{ErrorCode, UserId};

/// SHA-256 of a code.
pub type CodeHash = [u8; CODE_HASH];

/// Users who were declined, or took their request back, that a group remembers.
const MAX_WAITING: usize = 1_000;

/// What a group knows of a user who is no member. One that is barred may be a member still.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum Outsider {
    /// It has asked to join.
    Asks {
        /// For those who answer.
        text: Blob,
        /// When.
        since_ms: u64,
    },
    /// It was declined, or took its request back, and asks again only some time later.
    Waits {
        /// When that was.
        since_ms: u64,
    },
    /// It is kept out.
    Barred {
        /// Since when.
        since_ms: u64,
    },
    /// As the next, of one of whom nothing else is known: as rows of before have it.
    Came {
        /// The code's number.
        code: u64,
    },
    /// It has come by a code, and its list has not answered yet. If that is full, the use is given back, whatever else has
    /// become of the user meanwhile.
    CameBy {
        /// The code's number.
        code: u64,
        /// Of the membership with which it came; 0 if that is not known.
        version: u64,
        /// Since when it is kept out, if it is.
        barred_ms: Option<u64>,
    },
}

impl Outsider {
    /// Since when this user is kept out, if it is.
    pub(super) fn barred_ms(&self) -> Option<u64> {
        match self {
            Outsider::Barred { since_ms } => Some(*since_ms),
            Outsider::CameBy { barred_ms, .. } => *barred_ms,
            _ => None,
        }
    }
}

/// A code of invitation.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Code {
    /// Of the code.
    pub hash: CodeHash,
    /// Who made it.
    pub maker: UserId,
    /// When.
    pub made_ms: u64,
    /// Until when it is good.
    pub until_ms: u64,
    /// Users it lets in.
    pub uses: u32,
    /// Users it has let in.
    pub used: u32,
}

impl Code {
    pub(super) fn state(&self, now_ms: u64) -> Result<(), ErrorCode> {
        if self.until_ms <= now_ms {
            return Err(ErrorCode::CodeExpired);
        }
        if self.used >= self.uses { Err(ErrorCode::CodeUsedUp) } else { Ok(()) }
    }
}

/// The ways into a group.
#[derive(Debug, Default)]
pub(super) struct Doors {
    pub(super) outsiders: BTreeMap<UserId, Outsider>,
    pub(super) codes: BTreeMap<u64, Code>,
    dirty: (BTreeSet<UserId>, BTreeSet<u64>),
}

impl Doors {
    /// As rows have it.
    pub(super) fn loaded(mut outsiders: BTreeMap<UserId, Outsider>, codes: BTreeMap<u64, Code>) -> Self {
        for outsider in outsiders.values_mut() {
            if let Outsider::Came { code } = *outsider {
                *outsider = Outsider::CameBy { code, version: 0, barred_ms: None };
            }
        }
        Self { outsiders, codes, dirty: Default::default() }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.dirty.0.is_empty() && self.dirty.1.is_empty()
    }

    /// What has changed since this was last asked; none for what is there no more.
    pub(super) fn collect(&mut self) -> (Vec<(UserId, Option<&Outsider>)>, Vec<(u64, Option<&Code>)>) {
        let (users, ids) = std::mem::take(&mut self.dirty);
        let outsiders = users.into_iter().map(|user| {
            let found = self.outsiders.get(&user);
            (user, found)
        });
        let codes = ids.into_iter().map(|id| (id, self.codes.get(&id)));
        (outsiders.collect(), codes.collect())
    }

    pub(super) fn bars(&self, user: &UserId) -> bool {
        self.outsiders.get(user).is_some_and(|outsider| outsider.barred_ms().is_some())
    }

    /// Keeps a user out, or lets it come again.
    pub(super) fn bar(&mut self, user: &UserId, since_ms: Option<u64>) {
        match (self.outsiders.get(user), since_ms) {
            (Some(Outsider::CameBy { code, version, .. }), barred_ms) => {
                let becomes = Outsider::CameBy { code: *code, version: *version, barred_ms };
                self.set(user.clone(), becomes);
            }
            (_, Some(since_ms)) => self.set(user.clone(), Outsider::Barred { since_ms }),
            (_, None) => self.forget(user),
        }
    }

    pub(super) fn asks(&self, user: &UserId) -> bool {
        matches!(self.outsiders.get(user), Some(Outsider::Asks { .. }))
    }

    pub(super) fn count(&self, which: impl Fn(&Outsider) -> bool) -> usize {
        self.outsiders.values().filter(|outsider| which(outsider)).count()
    }

    pub(super) fn set(&mut self, user: UserId, becomes: Outsider) {
        self.dirty.0.insert(user.clone());
        self.outsiders.insert(user, becomes);
        self.forget_the_first_to_wait();
    }

    /// Nothing is known of the user any more.
    pub(super) fn forget(&mut self, user: &UserId) {
        if self.outsiders.remove(user).is_some() {
            self.dirty.0.insert(user.clone());
        }
    }

    /// Of those who wait the latest are remembered.
    fn forget_the_first_to_wait(&mut self) {
        let waiting = self.outsiders.iter().filter_map(|(user, outsider)| match outsider {
            Outsider::Waits { since_ms } => Some((*since_ms, user)),
            _ => None,
        });
        if waiting.clone().count() > MAX_WAITING
            && let Some((_, first)) = waiting.min()
        {
            let first = first.clone();
            self.forget(&first);
        }
    }

    /// The group has come to its end.
    pub(super) fn close(&mut self) {
        self.dirty.0.extend(std::mem::take(&mut self.outsiders).into_keys());
        self.dirty.1.extend(std::mem::take(&mut self.codes).into_keys());
    }

    /// The number of the code with this hash that lets somebody in now, or why none does.
    pub(super) fn opens(&self, hash: &CodeHash, now_ms: u64) -> Result<u64, ErrorCode> {
        let found = self.codes.iter().filter(|(_, code)| code.hash == *hash);
        let mut why = ErrorCode::CodeUnknown;
        for (id, code) in found {
            match code.state(now_ms) {
                Ok(()) => return Ok(*id),
                Err(state) => why = state,
            }
        }
        Err(why)
    }

    pub(super) fn make(&mut self, id: u64, code: Code) {
        // Those that let nobody in any more are kept only to say so.
        while self.codes.len() >= MAX_CODES {
            let over = self.codes.iter().find(|(_, known)| known.state(code.made_ms).is_err());
            let Some(over) = over.map(|(id, _)| *id) else { break };
            self.revoke(over);
        }
        self.dirty.1.insert(id);
        self.codes.insert(id, code);
    }

    pub(super) fn revoke(&mut self, id: u64) {
        self.codes.remove(&id);
        self.dirty.1.insert(id);
    }

    /// Lets the user in, whose list is still to take the group.
    pub(super) fn uses(&mut self, id: u64, user: UserId, version: u64) {
        if let Some(code) = self.codes.get_mut(&id) {
            code.used += 1;
            self.dirty.1.insert(id);
            self.set(user, Outsider::CameBy { code: id, version, barred_ms: None });
        }
    }

    /// What a user came by, with that version, is answered for: only whether it is kept out is still known.
    fn answered(&mut self, user: &UserId, barred_ms: Option<u64>) {
        match barred_ms {
            Some(since_ms) => self.set(user.clone(), Outsider::Barred { since_ms }),
            None => self.forget(user),
        }
    }

    /// The list of one who has come by a code has taken the group with this version, or has let go of it with a later one: the use
    /// stands. Who was removed before its list took the group may have been in, so only a list that refuses gives a use back.
    pub(super) fn stays_used(&mut self, user: &UserId, version: u64) {
        if let Some(Outsider::CameBy { version: came, barred_ms, .. }) = self.outsiders.get(user)
            && *came <= version
        {
            self.answered(user, *barred_ms);
        }
    }

    /// The list of this user does not take the group with this version: what it came by may let in another, if it is still
    /// there.
    pub(super) fn gives_back(&mut self, user: &UserId, version: u64) {
        let Some(Outsider::CameBy { code, version: came, barred_ms }) = self.outsiders.get(user) else {
            return;
        };
        let (id, barred_ms) = (*code, *barred_ms);
        if *came != version && *came != 0 {
            return;
        }
        self.answered(user, barred_ms);
        if let Some(code) = self.codes.get_mut(&id) {
            code.used = code.used.saturating_sub(1);
            self.dirty.1.insert(id);
        }
    }
}
