//! Who speaks where: the senders of a load, their groups and direct sessions, and those who only receive.

use rookery_wire::{GroupId, SessionId, UserId};

use super::args::LoadArgs;

/// Groups of a load that says nothing of them, if it has senders for so many.
const SESSIONS: u32 = 8;

/// Sessions and users of one run. The first senders have direct sessions, one each; the others share the groups, or have
/// several each when there are more groups than they are.
pub(super) struct Plan {
    tag: String,
    /// The groups.
    pub(super) sessions: Vec<SessionId>,
    /// The direct sessions.
    pub(super) direct: Vec<SessionId>,
    /// Members of each group who are never there.
    absent: u32,
}

impl Plan {
    pub(super) fn of(load: &LoadArgs) -> anyhow::Result<Self> {
        let senders = load.senders.max(1);
        let direct = (senders * load.direct.min(100) + 50) / 100;
        let in_groups = senders - direct;
        let tag = format!("b{:x}", rand::random::<u32>());
        let mut plan = Self { tag, sessions: Vec::new(), direct: Vec::new(), absent: 0 };
        let groups = match load.sessions {
            _ if in_groups == 0 => 0,
            Some(sessions) => sessions.max(1),
            None => in_groups.min(SESSIONS),
        };
        for at in 0..groups {
            plan.sessions.push(SessionId::group(GroupId::new(&format!("{}-session{at}", plan.tag))?));
        }
        for at in 0..direct {
            plan.direct.push(SessionId::direct(&plan.sender(at)?, &plan.peer(at)?)?);
        }
        Ok(plan)
    }

    /// The same with so many members in each group who are never there.
    pub(super) fn with_absent(self, absent: u32) -> Self {
        Self { absent, ..self }
    }

    /// Those members; the same in every group.
    pub(super) fn absent(&self) -> impl Iterator<Item = anyhow::Result<UserId>> {
        (0..self.absent).map(|at| Ok(UserId::new(&format!("{}-absent{at}", self.tag))?))
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

    /// Where a sender of `senders` speaks.
    pub(super) fn sessions_of(&self, sender: u32, senders: u32) -> Vec<&SessionId> {
        let at = sender as usize;
        let Some(at) = at.checked_sub(self.direct.len()) else {
            return self.direct.get(at).into_iter().collect();
        };
        let in_groups = (senders as usize).saturating_sub(self.direct.len()).max(1);
        match at.checked_rem(self.sessions.len()) {
            Some(shared) if in_groups >= self.sessions.len() => {
                self.sessions.get(shared).into_iter().collect()
            }
            _ => self.sessions.iter().skip(at).step_by(in_groups).collect(),
        }
    }

    /// All sessions.
    pub(super) fn all(&self) -> impl Iterator<Item = &SessionId> {
        self.sessions.iter().chain(&self.direct)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn load(senders: u32, sessions: Option<u32>, direct: u32) -> LoadArgs {
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
            (8, None, 0, 8, 0),
            (9, None, 0, 8, 0),
            (2, None, 0, 2, 0),
            (8, None, 50, 4, 4),
            (8, Some(3), 0, 3, 0),
            (2, Some(8), 0, 8, 0),
            (3, Some(8), 0, 8, 0),
            (8, Some(3), 50, 3, 4),
            (4, Some(9), 100, 0, 4),
            (4, Some(9), 50, 9, 2),
            (1, Some(1), 49, 1, 0),
        ] {
            let plan = Plan::of(&load(senders, sessions, direct)).unwrap();
            assert_eq!((plan.sessions.len(), plan.direct.len()), (groups, pairs));
            let used: BTreeSet<&SessionId> =
                (0..senders).flat_map(|at| plan.sessions_of(at, senders)).collect();
            assert_eq!(used, plan.all().collect());
            assert!((0..senders).all(|at| !plan.sessions_of(at, senders).is_empty()));
            let spoken: usize = (0..senders).map(|at| plan.sessions_of(at, senders).len()).sum();
            assert_eq!(spoken, (senders as usize).max(groups + pairs));
            for at in 0..pairs {
                let direct = plan.sessions_of(at as u32, senders).pop().unwrap();
                assert_eq!(direct.pair_has(&plan.sender(at as u32).unwrap()), Some(true));
            }
        }
    }
}
