//! What a group is called and how many are in it: asked of the cluster when that is not known or has changed, a few at a
//! time. A name arrives with the signal that gives it, too.

use rookery_client::wire::group::Group;
use rookery_client::wire::{Blob, SessionId};

use super::acts::Action;
use super::state::{Chat, Connection};
use super::wrap::harmless;

/// Groups asked for at once.
const AT_ONCE: usize = 8;

/// What is known of a group, and whether it is still so.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Its name for people, fit to be shown; none if it has none.
    pub(super) name: Option<String>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// To be asked for.
    #[default]
    Wanted,
    /// Asked for; whether it has changed since.
    Asked {
        again: bool,
    },
    Known,
    /// The cluster would not say; asked again when the group is opened, and after a reconnection.
    Refused,
}

impl Facts {
    /// Something that counts has changed.
    pub(super) fn changed(&mut self) {
        self.state = match self.state {
            State::Asked { .. } => State::Asked { again: true },
            _ => State::Wanted,
        };
    }

    /// The group has been given a name, as a signal says.
    pub(super) fn named(&mut self, name: &Blob) {
        self.call(name);
        // An answer that is on its way may not know it.
        if matches!(self.state, State::Asked { .. }) {
            self.changed();
        }
    }

    fn call(&mut self, name: &Blob) {
        let text = harmless(&String::from_utf8_lossy(name.as_ref())).replace('\n', " ");
        let text = text.trim();
        self.name = (!text.is_empty()).then(|| text.to_owned());
    }

    /// The group is looked at, or the cluster is there again.
    pub(super) fn open(&mut self) {
        if self.state == State::Refused {
            self.state = State::Wanted;
        }
    }

    fn told(&mut self, known: bool) {
        self.state = match (self.state, known) {
            (State::Asked { again: true }, _) => State::Wanted,
            (_, true) => State::Known,
            (_, false) => State::Refused,
        };
    }
}

impl Chat {
    /// Asks for what is wanted, the open session first, then by what was last written to.
    pub(super) fn ask_facts(&mut self) {
        if !matches!(self.connection, Connection::Up { .. }) {
            return;
        }
        let groups = || self.sessions.values().filter(|one| matches!(one.id, SessionId::Group(_)));
        let asked = groups().filter(|one| matches!(one.facts.state, State::Asked { .. })).count();
        let mut wanted: Vec<_> =
            groups().filter(|one| one.facts.state == State::Wanted && one.member).collect();
        if wanted.is_empty() || asked >= AT_ONCE {
            return;
        }
        wanted.sort_by_key(|one| (Some(&one.id) != self.open.as_ref(), std::cmp::Reverse(one.time_ms)));
        let wanted: Vec<SessionId> =
            wanted.into_iter().take(AT_ONCE - asked).map(|one| one.id.clone()).collect();
        for session in wanted {
            self.session(&session).facts.state = State::Asked { again: false };
            self.actions.push(Action::Facts { session });
        }
    }

    /// What the cluster has said of a group; without it the screen says less.
    pub(super) fn facts(&mut self, session: &SessionId, told: Option<&Group>) {
        let conversation = self.session(session);
        if let Some(group) = told {
            conversation.members = Some(group.members);
            conversation.facts.call(&group.name);
        }
        conversation.facts.told(told.is_some());
    }
}
