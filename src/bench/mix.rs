//! Who speaks where: the senders of a load, their groups and direct sessions, and those who only receive.

use rookery_wire::{GroupId, SessionId, UserId};

use super::args::LoadArgs;

/// Sessions and users of one run. The first senders have direct sessions, one each; the others share the groups.
pub(super) struct Plan {
    tag: String,
    /// The groups.
    pub(super) sessions: Vec<SessionId>,
    /// The direct sessions.
    pub(super) direct: Vec<SessionId>,
}

impl Plan {
    pub(super) fn of(load: &LoadArgs) -> anyhow::Result<Self> {
        let senders = load.senders.max(1);
        let direct = (senders * load.direct.min(100) + 50) / 100;
        let in_groups = senders - direct;
        let tag = format!("b{:x}", rand::random::<u32>());
        let mut plan = Self { tag, sessions: Vec::new(), direct: Vec::new() };
        for at in 0..load.sessions.clamp(1, in_groups.max(1)).min(in_groups) {
            plan.sessions.push(SessionId::group(GroupId::new(&format!("{}-session{at}", plan.tag))?));
        }
        for at in 0..direct {
            plan.direct.push(SessionId::direct(&plan.sender(at)?, &plan.peer(at)?)?);
        }
        Ok(plan)
    }

    pub(super) fn sender(&self, at: u32) -> anyhow::Result<UserId> {
        Ok(UserId::new(&format!("{}-sender{at}", self.tag))?)
    }

    /// The other user of a sender's direct session.
    pub(super) fn peer(&self, at: u32) -> anyhow::Result<UserId> {
        Ok(UserId::new(&format!("{}-peer{at}", self.tag))?)
    }

    pub(super) fn receiver(&self, session: usize, at: u32) -> anyhow::Result<UserId> {
        Ok(UserId::new(&format!("{}-receiver{session}-{at}", self.tag))?)
    }

    pub(super) fn backend(&self) -> anyhow::Result<UserId> {
        Ok(UserId::new(&format!("{}-backend", self.tag))?)
    }

    /// Where a sender speaks.
    pub(super) fn session_of(&self, sender: u32) -> Option<&SessionId> {
        let at = sender as usize;
        match at.checked_sub(self.direct.len()) {
            None => self.direct.get(at),
            Some(at) => self.sessions.get(at.checked_rem(self.sessions.len())?),
        }
    }

    /// All sessions, each with the number of records that nobody sent: a group's creation is one.
    pub(super) fn all(&self) -> impl Iterator<Item = (&SessionId, u64)> {
        self.sessions.iter().map(|session| (session, 1)).chain(self.direct.iter().map(|session| (session, 0)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn load(senders: u32, sessions: u32, direct: u32) -> LoadArgs {
        LoadArgs {
            senders,
            window: 1,
            rate: None,
            direct,
            sessions,
            size: 1,
            receivers: 0,
            seconds: 1.0,
            warmup: 0.0,
            at_leader: false,
            library: false,
            markdown: false,
            plot: None,
        }
    }

    #[test]
    fn every_sender_has_a_session_and_every_session_a_sender() {
        for (senders, sessions, direct, groups, pairs) in [
            (8, 8, 0, 8, 0),
            (8, 3, 0, 3, 0),
            (2, 8, 0, 2, 0),
            (8, 3, 50, 3, 4),
            (4, 9, 100, 0, 4),
            (1, 1, 49, 1, 0),
        ] {
            let plan = Plan::of(&load(senders, sessions, direct)).unwrap();
            assert_eq!((plan.sessions.len(), plan.direct.len()), (groups, pairs));
            let used: BTreeSet<&SessionId> = (0..senders).filter_map(|at| plan.session_of(at)).collect();
            assert_eq!(used, plan.all().map(|(session, _)| session).collect());
            assert!((0..senders).all(|at| plan.session_of(at).is_some()));
            for at in 0..pairs {
                let direct = plan.session_of(at as u32).unwrap();
                assert_eq!(direct.pair_has(&plan.sender(at as u32).unwrap()), Some(true));
            }
        }
    }
}
