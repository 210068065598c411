//! The whole chat as a plain struct: what happened goes in, what is to be done comes out as [`Action`]s, and how that
//! went is told in [`super::outcomes`]. Knows neither the terminal nor the network, so that every behaviour can be tested as it stands.

use std::collections::HashMap;

use rookery_client::Event;
use rookery_client::wire::own::SessionSettings;
use rookery_client::wire::{DeviceId, GroupAction, SessionId, SessionSetting, UserAction, UserId};

use super::acts::Action;
use super::company::Company;
use super::conversation::{Body, Conversation, Pending};
use super::history;
use super::input::Input;
use super::popup::{self, Popup};
use super::words::{self, Line};
use super::wrap::harmless;
use crate::cli::people::relation_words;

/// How long a notice stays in the status line, milliseconds.
const NOTICE_MS: u64 = 6_000;
/// The connection, for the status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Up { node: u16, addr: String },
    Down { reason: String },
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Chat {
    pub(super) me: UserId,
    pub(super) device: DeviceId,
    pub(super) sessions: HashMap<SessionId, Conversation>,
    pub(super) open: Option<SessionId>,
    pub(super) input: Input,
    pub(super) company: Company,
    pub(super) connection: Connection,
    pub(super) popup: Option<Popup>,
    pub(super) notice: Option<(String, u64)>,
    /// Whether the person looks at this terminal.
    pub(super) focused: bool,
    pub(super) now_ms: u64,
    /// Columns of the history when it was last drawn.
    pub(super) width: usize,
    next_id: u64,
    pub(super) actions: Vec<Action>,
}

impl Chat {
    pub(super) fn new(me: UserId, device: DeviceId, connection: Connection) -> Self {
        Self {
            me,
            device,
            sessions: HashMap::new(),
            open: None,
            input: Input::default(),
            company: Company::default(),
            connection,
            popup: None,
            notice: None,
            focused: true,
            now_ms: 0,
            width: 0,
            next_id: 0,
            actions: Vec::new(),
        }
    }

    /// Sessions as they are listed: newest activity first.
    pub(super) fn listed(&self) -> Vec<&Conversation> {
        let mut list: Vec<&Conversation> = self.sessions.values().collect();
        list.sort_by(|a, b| b.time_ms.cmp(&a.time_ms).then_with(|| a.id.cmp(&b.id)));
        list
    }

    /// The open session.
    pub(super) fn current(&self) -> Option<&Conversation> {
        self.sessions.get(self.open.as_ref()?)
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut Conversation> {
        self.sessions.get_mut(self.open.as_ref()?)
    }

    /// Unread messages in sessions that are not open.
    pub(super) fn unread_elsewhere(&self) -> u64 {
        let others = self.sessions.values().filter(|session| Some(&session.id) != self.open.as_ref());
        others.map(|session| session.unread).sum()
    }

    /// Takes what must be done.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        self.see();
        self.ask_facts();
        if let Some((session, on)) = self.company.types(self.open.as_ref(), self.input.text(), self.now_ms) {
            self.actions.push(Action::Typing { session, on });
        }
        std::mem::take(&mut self.actions)
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.company.tick(now_ms);
        self.sessions.values_mut().for_each(|session| session.tick(now_ms));
        if self.notice.as_ref().is_some_and(|(_, until)| now_ms >= *until) {
            self.notice = None;
        }
    }

    pub(super) fn say(&mut self, text: impl Into<String>) {
        self.notice = Some((harmless(&text.into()).replace('\n', " "), self.now_ms + NOTICE_MS));
    }

    /// Opens a session, known or not yet.
    pub(super) fn open(&mut self, id: SessionId) {
        if self.open.as_ref() == Some(&id) {
            return;
        }
        let typed = self.input.text().to_owned();
        if let Some(left) = self.current_mut() {
            left.draft = typed;
            left.new_after = None;
            left.scroll = 0;
        }
        let now_ms = self.now_ms;
        let session = self.session(&id);
        session.new_after = (session.unread > 0).then_some(session.read_seq);
        session.time_ms = if session.last_seq == 0 { now_ms } else { session.time_ms };
        let draft = std::mem::take(&mut session.draft);
        let ask = !std::mem::replace(&mut session.opened, true);
        session.facts.open();
        let (known, loaded) = (session.last_seq > 0, session.entries.first_key_value().map(|(seq, _)| *seq));
        session.loading = ask && known;
        self.input.set(&draft);
        if ask && known {
            self.actions.push(Action::Pull { session: id.clone(), before: loaded.unwrap_or(0) });
        }
        self.open = Some(id);
    }

    /// Opens the session after (or before) the open one in the list.
    pub(super) fn step(&mut self, forward: bool) {
        let listed = self.listed();
        let at = listed.iter().position(|session| Some(&session.id) == self.open.as_ref());
        let next = match (at, listed.len()) {
            (_, 0) => return,
            (None, _) => 0,
            (Some(at), count) if forward => (at + 1) % count,
            (Some(at), count) => (at + count - 1) % count,
        };
        let id = listed[next].id.clone();
        self.open(id);
    }

    /// The input line is finished.
    pub(super) fn enter(&mut self) {
        if self.input.text().trim().is_empty() {
            return;
        }
        match words::understand(self.input.text()) {
            Ok(line) => {
                self.input.take();
                self.act(line);
            }
            Err(wrong) => self.say(wrong),
        }
    }

    fn act(&mut self, line: Line) {
        match line {
            Line::Message(text) => self.send(text),
            Line::Direct(user) => match SessionId::direct(&self.me, &user) {
                Ok(session) => self.open(session),
                Err(fault) => self.say(fault.to_string()),
            },
            Line::Group(group, members) => {
                self.say(format!("creating #{group}…"));
                self.actions.push(Action::Create { group, members });
            }
            Line::Add(users) => self.change(true, users),
            Line::Remove(users) => self.change(false, users),
            Line::Recall(seq) => {
                if let Some((session, seq)) = self.own_message(seq) {
                    self.actions.push(Action::Recall { session, seq });
                }
            }
            Line::Versions(seq) => {
                if let Some((session, seq)) = self.own_message(seq) {
                    self.actions.push(Action::Versions { session, seq });
                }
            }
            Line::Edit(text) => {
                if let Some((session, seq)) = self.own_message(None) {
                    self.actions.push(Action::Edit { session, seq, text });
                }
            }
            Line::Join(group, code) => self.actions.push(Action::Join { group, code }),
            Line::Leave => self.change(false, vec![self.me.clone()]),
            Line::Manage(action) => self.manage(action),
            Line::Mute(user, minutes) => {
                let now_ms = self.now_ms;
                let until = |minutes: u64| now_ms.saturating_add(minutes.saturating_mul(60_000));
                self.manage(GroupAction::Mute { user, until_ms: minutes.map_or(u64::MAX, until) });
            }
            Line::People(action) => self.actions.push(Action::Own(action)),
            Line::Pin => {
                let setting = SessionSetting::Pin(Some(self.now_ms));
                self.own(|session, _| UserAction::SetSession { session, setting });
            }
            Line::Clear => self.own(|session, seq| UserAction::ClearSession { session, seq }),
            Line::Delete(seq) => {
                self.own(|session, _| UserAction::DeleteMessages { session, from_seq: seq, to_seq: seq });
            }
            Line::Members => match self.open.clone() {
                Some(session) => self.actions.push(Action::Members { session }),
                None => self.say("no session is open"),
            },
            Line::Requests => match self.open.clone() {
                Some(session @ SessionId::Group(_)) => self.actions.push(Action::Requests { session }),
                Some(_) => self.say("that is for groups"),
                None => self.say("no session is open"),
            },
            Line::Answer(users, accept) => {
                for user in users {
                    self.manage(GroupAction::Answer { user, accept });
                }
            }
            Line::Help => self.popup = Some(popup::help()),
            Line::Quit => self.actions.push(Action::Quit),
        }
    }

    /// Does something to the open session for this user alone.
    fn own(&mut self, action: impl FnOnce(SessionId, u64) -> UserAction) {
        match self.current().map(|session| (session.id.clone(), session.last_seq)) {
            Some((session, last)) => self.actions.push(Action::Own(action(session, last))),
            None => self.say("no session is open"),
        }
    }

    fn send(&mut self, text: String) {
        let (id, time_ms) = (self.next_id, self.now_ms);
        let Some(session) = self.current_mut() else {
            self.input.set(&text);
            return self.say("no session is open; /dm USER opens one");
        };
        session.pending.push(Pending { id, text: text.clone(), time_ms, failed: None });
        session.scroll = 0;
        session.new_after = None;
        let session = session.id.clone();
        self.next_id += 1;
        self.company.sent();
        self.actions.push(Action::Send { session, id, text });
    }

    /// The message of the open session with this seq, or the last one from this terminal.
    fn own_message(&mut self, seq: Option<u64>) -> Option<(SessionId, u64)> {
        let Some(session) = self.current() else {
            self.say("no session is open");
            return None;
        };
        let last = session
            .entries
            .iter()
            .rev()
            .find(|(_, entry)| entry.own && !matches!(entry.body, Body::Signal(_)));
        let found = seq.or(last.map(|(seq, _)| *seq)).map(|seq| (session.id.clone(), seq));
        if found.is_none() {
            self.say("no message of yours is loaded; name its number");
        }
        found
    }

    fn change(&mut self, add: bool, users: Vec<UserId>) {
        match self.open.clone() {
            Some(session @ SessionId::Group(_)) => self.actions.push(Action::Change { session, add, users }),
            Some(_) => self.say("a direct session has its two members; /group NAME USER… makes a group"),
            None => self.say("no session is open"),
        }
    }

    fn manage(&mut self, action: GroupAction) {
        match self.open.clone() {
            Some(SessionId::Direct { .. }) if !words::is_of_any(&action) => {
                self.say("that is for groups");
            }
            Some(session) => self.actions.push(Action::Manage { session, action }),
            None => self.say("no session is open"),
        }
    }

    /// What the client tells.
    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Message { session, record } => {
                self.company.wrote(&session, &record.sender);
                let (me, device, width) = (self.me.clone(), self.device.clone(), self.width);
                let session = self.session(&session);
                let rows_before = history::rows_of(session, record.seq, &me, width);
                session.arrive(&record, &me, &device);
                if let Some(edited) = session.rewritten(&record) {
                    // What it says now is pulled; the signal does not say it, for it may be recalled later.
                    let (session, before) = (session.id.clone(), edited + 1);
                    self.actions.push(Action::Pull { session, before });
                    return;
                }
                if session.scroll > 0 {
                    // Whoever reads older messages is not moved.
                    session.scroll +=
                        history::rows_of(session, record.seq, &me, width).saturating_sub(rows_before);
                }
            }
            Event::ReadMark(mark) => {
                let session = mark.session.clone();
                self.session(&session).read(&mark);
            }
            Event::Settings(SessionSettings { session, settings }) => {
                let gone = |seq: u64| {
                    let deleted = |(from, to): &(u64, u64)| *from <= seq && seq <= *to;
                    seq <= settings.cleared_seq || settings.deleted.iter().any(deleted)
                };
                self.session(&session).entries.retain(|seq, _| !gone(*seq));
            }
            Event::Relation(relation) => self.say(relation_words(&relation)),
            Event::Receipt(receipt) => self.company.receipt(&receipt),
            Event::Ephemeral(message) => self.company.ephemeral(&message, self.now_ms),
            Event::Presence(lines) => self.company.present(lines),
            Event::Joined(session) => {
                let known = self.sessions.contains_key(&session);
                let joined = self.session(&session);
                joined.member = true;
                joined.facts.changed();
                if !known {
                    self.actions.push(Action::Sync);
                }
            }
            Event::Left(session) => {
                self.session(&session).member = false;
                self.say(format!("you are no longer in {}", self.name(&session)));
            }
            Event::Connected { node, addr } => {
                self.connection = Connection::Up { node, addr };
                // What could not be said before may be known now.
                self.sessions.values_mut().for_each(|session| session.facts.open());
            }
            Event::Disconnected { reason } => {
                self.connection = Connection::Down { reason: harmless(&reason) };
            }
            // Told where it matters: the page that is pulled begins later.
            _ => {}
        }
    }

    /// What is on the screen and looked at counts as read.
    fn see(&mut self) {
        if !self.focused || !matches!(self.connection, Connection::Up { .. }) {
            return;
        }
        let Some(session) = self.current_mut() else { return };
        let loaded = session.entries.contains_key(&session.last_seq);
        let last = session.last_seq;
        if loaded && session.scroll == 0 && session.member && last > session.read_seq.max(session.read_sent) {
            session.read_sent = last;
            session.unread = 0;
            let session = session.id.clone();
            self.actions.push(Action::Read { session, seq: last });
        }
    }

    /// The history cannot be scrolled further: older messages are wanted.
    pub(super) fn want_older(&mut self) {
        let Some(session) = self.current_mut().filter(|session| !session.loading) else { return };
        if let Some(before) = session.older_than() {
            session.loading = true;
            let session = session.id.clone();
            self.actions.push(Action::Pull { session, before });
        }
    }

    /// A session as it is called: `@` and the other user, or `#` and the group's name for people, its id where it has none.
    pub(super) fn name(&self, session: &SessionId) -> String {
        match self.sessions.get(session).and_then(|known| known.facts.name.as_ref()) {
            Some(name) => format!("#{name}"),
            None => harmless(&crate::cli::connect::session_name(&self.me, session)),
        }
    }

    pub(super) fn session(&mut self, id: &SessionId) -> &mut Conversation {
        self.sessions.entry(id.clone()).or_insert_with(|| Conversation::new(id.clone()))
    }
}
