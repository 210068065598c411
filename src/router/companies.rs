//! Who is there in the sessions that somebody watches, at this node and, as they say it, at the others.
//!
//! Plain data under the lock of [`super::presence`], which asks, tells and forgets over the links. Each node knows who is there
//! by its own connections from [`Delivery`], at no cost for members who are away; it names at most `most` of them for each
//! session, and counts the others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bincode::{Decode, Encode};
use rookery_wire::{SessionId, UserId};

use crate::delivery::{Company, Delivery};

/// Devices that are looked at in one visit, about; what is left is looked at in the next one.
const VISIT: usize = 50_000;

/// What has changed in a session at the node that says it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct CompanyNews {
    pub(super) session: SessionId,
    /// Nobody else is there; otherwise those who came are there too.
    pub(super) whole: bool,
    pub(super) came: Vec<UserId>,
    pub(super) gone: Vec<UserId>,
    /// How many are there in all.
    pub(super) total: u32,
}

impl CompanyNews {
    fn whole(session: &SessionId, company: &Company) -> Self {
        let came = company.named.iter().cloned().collect();
        Self { session: session.clone(), whole: true, came, gone: Vec::new(), total: company.total as u32 }
    }

    fn between(session: &SessionId, before: &Company, after: &Company) -> Self {
        let less = |one: &Company, other: &Company| one.named.difference(&other.named).cloned().collect();
        let (came, gone) = (less(after, before), less(before, after));
        Self { session: session.clone(), whole: false, came, gone, total: after.total as u32 }
    }

    /// How many names it carries, its own with them.
    pub(super) fn names(&self) -> usize {
        1 + self.came.len() + self.gone.len()
    }
}

/// Sessions that are watched here or elsewhere.
#[derive(Default)]
pub(super) struct Companies {
    sessions: HashMap<SessionId, Watched>,
    /// Still to be looked at.
    stirred: HashSet<SessionId>,
}

#[derive(Default)]
struct Watched {
    /// Connections of this node watch it.
    here: bool,
    /// Nodes of which connections do.
    wanted: BTreeSet<u16>,
    /// Those who are there by connections of this node, as they were last told to these nodes.
    own: Company,
    /// By those of the others, as these said.
    others: BTreeMap<u16, Company>,
}

impl Companies {
    fn entry(&mut self, delivery: &Delivery, most: usize, session: &SessionId) -> &mut Watched {
        self.sessions.entry(session.clone()).or_insert_with(|| {
            // Noted first: what changes behind the look is looked at again.
            delivery.look_at(session, true);
            Watched { own: delivery.company(session, &BTreeSet::new(), most), ..Watched::default() }
        })
    }

    fn drop_idle(&mut self, delivery: &Delivery, session: &SessionId) {
        if self.sessions.get(session).is_some_and(|watched| !watched.here && watched.wanted.is_empty()) {
            self.sessions.remove(session);
            self.stirred.remove(session);
            delivery.look_at(session, false);
        }
    }

    /// Connections here begin to watch these.
    pub(super) fn watch(&mut self, delivery: &Delivery, most: usize, sessions: &[SessionId]) {
        for session in sessions {
            self.entry(delivery, most, session).here = true;
        }
    }

    /// Nobody here watches these any more.
    pub(super) fn leave(&mut self, delivery: &Delivery, sessions: &[SessionId]) {
        for session in sessions {
            if let Some(watched) = self.sessions.get_mut(session) {
                watched.here = false;
                watched.others.clear();
            }
            self.drop_idle(delivery, session);
        }
    }

    /// Another node watches these; what to answer.
    pub(super) fn wanted(
        &mut self,
        delivery: &Delivery,
        most: usize,
        node: u16,
        sessions: &[SessionId],
    ) -> Vec<CompanyNews> {
        let answer = sessions.iter().map(|session| {
            let watched = self.entry(delivery, most, session);
            watched.wanted.insert(node);
            CompanyNews::whole(session, &watched.own)
        });
        answer.collect()
    }

    /// Another node watches these no longer; none: nothing.
    pub(super) fn unwanted(&mut self, delivery: &Delivery, node: u16, sessions: Option<&[SessionId]>) {
        let all: Vec<SessionId>;
        let sessions = match sessions {
            Some(sessions) => sessions,
            None => {
                let wanted = self.sessions.iter().filter(|(_, watched)| watched.wanted.contains(&node));
                all = wanted.map(|(session, _)| session.clone()).collect();
                &all
            }
        };
        for session in sessions {
            if let Some(watched) = self.sessions.get_mut(session) {
                watched.wanted.remove(&node);
            }
            self.drop_idle(delivery, session);
        }
    }

    /// Another node has said this; gives the sessions in which somebody came or went by it.
    pub(super) fn told(&mut self, node: u16, news: Vec<CompanyNews>) -> Vec<SessionId> {
        let mut changed = Vec::new();
        for CompanyNews { session, whole, came, gone, total } in news {
            let Some(watched) = self.sessions.get_mut(&session).filter(|watched| watched.here) else {
                continue;
            };
            let company = watched.others.entry(node).or_default();
            if whole {
                company.named.clear();
            }
            company.named.extend(came);
            for user in &gone {
                company.named.remove(user);
            }
            company.total = total as usize;
            changed.push(session);
        }
        changed
    }

    /// What a node has said counts no more; gives the sessions of which it had said something.
    pub(super) fn forget(&mut self, node: u16) -> Vec<SessionId> {
        let lost = self.sessions.iter_mut();
        lost.filter_map(|(session, watched)| watched.others.remove(&node).map(|_| session.clone())).collect()
    }

    /// Looks at what has changed here: what to tell which node, and the sessions that are watched here.
    pub(super) fn look(
        &mut self,
        delivery: &Delivery,
        most: usize,
    ) -> (BTreeMap<u16, Vec<CompanyNews>>, Vec<SessionId>) {
        self.stirred.extend(delivery.stirred());
        let (mut news, mut changed) = (BTreeMap::<u16, Vec<CompanyNews>>::new(), Vec::new());
        let mut looked = 0;
        while looked < VISIT {
            let Some(session) = self.stirred.iter().next().cloned() else { break };
            self.stirred.remove(&session);
            let Some(watched) = self.sessions.get_mut(&session) else { continue };
            let own = delivery.company(&session, &watched.own.named, most);
            looked += 1 + own.total;
            if watched.here {
                // Also where nobody came or went: a connection that watches may be attached again.
                changed.push(session.clone());
            }
            if own == watched.own {
                continue;
            }
            let said = CompanyNews::between(&session, &watched.own, &own);
            for node in &watched.wanted {
                news.entry(*node).or_default().push(said.clone());
            }
            watched.own = own;
        }
        (news, changed)
    }

    /// All that one node is to know.
    pub(super) fn all_for(&self, node: u16) -> Vec<CompanyNews> {
        let wanted = self.sessions.iter().filter(|(_, watched)| watched.wanted.contains(&node));
        wanted.map(|(session, watched)| CompanyNews::whole(session, &watched.own)).collect()
    }

    /// Those that are watched here.
    pub(super) fn here(&self) -> Vec<SessionId> {
        let here = self.sessions.iter().filter(|(_, watched)| watched.here);
        here.map(|(session, _)| session.clone()).collect()
    }

    /// Who is there, at all nodes together: at most `most` by name, those of `before` first. One who is there at several nodes
    /// and is named by only some of them counts for each of the others.
    pub(super) fn company(&self, session: &SessionId, before: &BTreeSet<UserId>, most: usize) -> Company {
        let Some(watched) = self.sessions.get(session) else { return Company::default() };
        let parts = || watched.others.values().chain([&watched.own]);
        let there: BTreeSet<&UserId> = parts().flat_map(|part| &part.named).collect();
        let named_twice = parts().map(|part| part.named.len()).sum::<usize>() - there.len();
        let total = parts().map(|part| part.total).sum::<usize>().saturating_sub(named_twice);
        let company = Company::of(&there, before, most);
        Company { total: total.max(company.named.len()), ..company }
    }
}
