//! Who is there, who writes, what is said and kept nowhere: what the chat knows of people as they are now, and what it
//! tells of its own person.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rookery_client::wire::live::{EphemeralMessage, Passing, PresenceLine, SessionPresence};
use rookery_client::wire::{SessionId, UserId};

use super::acts::Action;
use super::state::Chat;

/// How long somebody is shown to be typing who does not say it again, milliseconds.
const TYPING_SHOWN: u64 = 6_000;
/// How often this person's typing is said, milliseconds.
const TYPING_SAID: u64 = 3_000;
/// Users that are watched at most.
const WATCHED: usize = 1_000;
/// Names shown of those who are typing.
const NAMES: usize = 3;

/// See the module's words.
#[derive(Debug, Default)]
pub(super) struct Company {
    present: HashMap<UserId, PresenceLine>,
    watched: BTreeSet<UserId>,
    /// The group that is open, who is there, and how many more are.
    group: Option<(SessionId, BTreeSet<UserId>, u32)>,
    /// Until when each is shown to be typing.
    typing: HashMap<SessionId, BTreeMap<UserId, u64>>,
    /// Where this person was last said to be typing, and when.
    said: Option<(SessionId, u64)>,
    /// The input as it was when that was last looked at.
    input: String,
}

impl Company {
    /// Users of direct sessions who are not watched yet.
    pub(super) fn begin_to_watch<'a>(
        &mut self,
        me: &UserId,
        sessions: impl Iterator<Item = &'a SessionId>,
    ) -> Vec<UserId> {
        let mut new = Vec::new();
        for peer in sessions.filter_map(|session| session.peer_of(me)) {
            if self.watched.len() < WATCHED && self.watched.insert(peer.clone()) {
                new.push(peer.clone());
            }
        }
        new
    }

    pub(super) fn present(&mut self, lines: Vec<PresenceLine>) {
        for line in lines {
            self.present.insert(line.user.clone(), line);
        }
    }

    pub(super) fn presence_of(&self, user: &UserId) -> Option<&PresenceLine> {
        self.present.get(user)
    }

    /// Who of the open group is there; what comes late of another is dropped.
    pub(super) fn in_group(&mut self, presence: SessionPresence) {
        let Some((group, there, others)) = &mut self.group else { return };
        if *group != presence.session {
            return;
        }
        if presence.whole {
            there.clear();
        }
        for line in presence.users {
            match line.online {
                true => drop(there.insert(line.user)),
                false => drop(there.remove(&line.user)),
            }
        }
        *others = presence.others;
    }

    /// Whether a member of the open group is known to be there.
    pub(super) fn is_in(&self, session: &SessionId, user: &UserId) -> bool {
        self.group.as_ref().is_some_and(|(group, there, _)| group == session && there.contains(user))
    }

    /// `4 online`, once that is known.
    pub(super) fn online_words(&self, session: &SessionId) -> Option<String> {
        let (_, there, others) = self.group.as_ref().filter(|(group, ..)| group == session)?;
        let online = there.len() + *others as usize;
        (online > 0).then(|| format!("{online} online"))
    }

    pub(super) fn ephemeral(&mut self, message: &EphemeralMessage, now_ms: u64) {
        let Passing::Typing { on } = message.body else { return };
        let typists = self.typing.entry(message.session.clone()).or_default();
        match on {
            true => drop(typists.insert(message.sender.clone(), now_ms + TYPING_SHOWN)),
            false => drop(typists.remove(&message.sender)),
        }
    }

    /// A message of theirs is here: they are done with it.
    pub(super) fn wrote(&mut self, session: &SessionId, sender: &UserId) {
        if let Some(typists) = self.typing.get_mut(session) {
            typists.remove(sender);
        }
    }

    pub(super) fn tick(&mut self, now_ms: u64) {
        self.typing.retain(|_, typists| {
            typists.retain(|_, until| *until > now_ms);
            !typists.is_empty()
        });
    }

    /// `bob is typing…`, if somebody is.
    pub(super) fn typing_words(&self, session: &SessionId) -> Option<String> {
        let typists = self.typing.get(session).filter(|typists| !typists.is_empty())?;
        let names: Vec<&str> = typists.keys().take(NAMES).map(UserId::as_str).collect();
        let (more, verb) = match typists.len() {
            1 => ("", "is"),
            2 | 3 => ("", "are"),
            _ => (" and others", "are"),
        };
        Some(format!("{}{more} {verb} typing…", names.join(", ")))
    }

    /// What is to be said of this person's own typing, if the input is this now.
    pub(super) fn types(
        &mut self,
        open: Option<&SessionId>,
        input: &str,
        now_ms: u64,
    ) -> Option<(SessionId, bool)> {
        let changed = self.input != input;
        if changed {
            self.input.clear();
            self.input.push_str(input);
        }
        let writes = changed && !input.is_empty() && !input.starts_with('/');
        let here = self.said.as_ref().is_some_and(|(session, _)| Some(session) == open);
        if changed && input.is_empty() && here {
            return self.said.take().map(|(session, _)| (session, false));
        }
        let due = self.said.as_ref().is_none_or(|(_, at)| !here || now_ms >= at + TYPING_SAID);
        let session = open.filter(|_| writes && due)?.clone();
        self.said = Some((session.clone(), now_ms));
        Some((session, true))
    }

    /// What was typed was sent: the message says it all.
    pub(super) fn sent(&mut self) {
        self.said = None;
        self.input.clear();
    }
}

impl Chat {
    /// The group that is open is watched, and no other: asked for when it is opened, and when this person comes into it.
    pub(super) fn watch_group(&mut self, open: Option<&SessionId>) {
        let group = open.filter(|session| matches!(session, SessionId::Group(_)));
        if let Some((session, ..)) = self.company.group.take().filter(|(left, ..)| Some(left) != group) {
            self.actions.push(Action::WatchGroup { session, on: false });
        }
        if let Some(session) = group.cloned() {
            self.company.group = Some((session.clone(), BTreeSet::new(), 0));
            self.actions.push(Action::WatchGroup { session, on: true });
        }
    }

    /// Somebody is typing, or says something that is kept nowhere: that one is shown for a moment, unless the session is muted.
    pub(super) fn passing(&mut self, message: &EphemeralMessage) {
        self.company.ephemeral(message, self.now_ms);
        let Passing::Content { content_type, content } = &message.body else { return };
        let muted = self.sessions.get(&message.session).is_some_and(|session| session.is_muted(self.now_ms));
        if muted {
            return;
        }
        let is_text = content_type.is_empty() || content_type.as_ref().starts_with(b"text/");
        let text = match std::str::from_utf8(content.as_ref()) {
            Ok(text) if is_text => text.to_owned(),
            _ => format!("[{}, {} bytes]", String::from_utf8_lossy(content_type.as_ref()), content.len()),
        };
        let place = match &message.session {
            SessionId::Group(_) => format!(" in {}", self.name(&message.session)),
            SessionId::Direct { .. } => String::new(),
        };
        self.say(format!("{}{place}, in passing: {text}", message.sender));
    }
}
