//! The whole chat as a plain struct: what happened goes in, what is to be done comes out as [`Action`]s, and how that
//! went is told in [`super::outcomes`]. Knows neither the terminal nor the network, so that every behaviour can be tested as it stands.

use std::collections::HashMap;

use rookery_client::wire::own::SessionSettings;
use rookery_client::wire::{DeviceId, GroupAction, GroupId, SessionId, SessionSetting, UserAction, UserId};
use rookery_client::{Event, Goes};

use super::acts::Action;
use super::asking::Ask;
use super::commands;
use super::company::Company;
use super::conversation::{Body, Conversation, Pending, Rewrites};
use super::history;
use super::input::Input;
use super::popup::Popup;
use super::wrap::harmless;
use crate::cli::people::relation_words;

/// How long a notice stays in the status line, milliseconds.
const NOTICE_MS: u64 = 6_000;
/// How often the list is read again while something is unread: of what expires nobody is told.
const LIST_MS: u64 = 60_000;
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
    /// Messages are shown with their numbers.
    pub(super) numbers: bool,
    /// The list is being read; and whether it is to be read again then.
    listing: Option<bool>,
    /// When it was last asked for, or read.
    listed_ms: u64,
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
            numbers: false,
            listing: None,
            listed_ms: 0,
            next_id: 0,
            actions: Vec::new(),
        }
    }

    /// Sessions as they are listed: pinned ones first, then the newest activity. What the user has hidden is not among them,
    /// unless it is open.
    pub(super) fn listed(&self) -> Vec<&Conversation> {
        let is_open = |session: &Conversation| self.open.as_ref() == Some(&session.id);
        let mut list: Vec<&Conversation> =
            self.sessions.values().filter(|session| !session.is_hidden() || is_open(session)).collect();
        let by_time = |a: &Conversation, b: &Conversation| b.time_ms.cmp(&a.time_ms);
        list.sort_by(|a, b| {
            b.settings
                .pinned
                .cmp(&a.settings.pinned)
                .then_with(|| by_time(a, b))
                .then_with(|| a.id.cmp(&b.id))
        });
        list
    }

    /// The open session.
    pub(super) fn current(&self) -> Option<&Conversation> {
        self.sessions.get(self.open.as_ref()?)
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut Conversation> {
        self.sessions.get_mut(self.open.as_ref()?)
    }

    /// Unread messages in sessions that are not open, muted ones and hidden ones aside.
    pub(super) fn unread_elsewhere(&self) -> u64 {
        let others = self.listed().into_iter().filter(|session| Some(&session.id) != self.open.as_ref());
        others.filter(|session| !session.is_muted(self.now_ms)).map(|session| session.unread).sum()
    }

    /// The list is to be read: now, or again when the reading under way has ended.
    pub(super) fn want_list(&mut self) {
        if self.listing.is_some() {
            self.listing = Some(true);
            return;
        }
        (self.listing, self.listed_ms) = (Some(false), self.now_ms);
        self.sessions.values_mut().for_each(|session| session.set_lately = false);
        self.actions.push(Action::Sync);
    }

    /// It was read, or could not be.
    pub(super) fn list_is_read(&mut self) {
        self.listed_ms = self.now_ms;
        if self.listing.take() == Some(true) {
            self.want_list();
        }
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
        let is_old = now_ms.saturating_sub(self.listed_ms) >= LIST_MS;
        if is_old && self.listing.is_none() && self.sessions.values().any(|session| session.unread > 0) {
            self.want_list();
        }
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
        self.leave();
        if let Some(left) = self.current_mut() {
            left.new_after = None;
            left.scroll = 0;
        }
        let now_ms = self.now_ms;
        let session = self.session(&id);
        session.new_after = (session.unread > 0).then_some(session.read_seq);
        session.time_ms = if session.last_seq == 0 { now_ms } else { session.time_ms };
        session.ends_mark = session.settings.marked_unread;
        // Whether own messages that burn are gone, their reader may not let be known.
        let ask = !std::mem::replace(&mut session.opened, true) || session.waits_for_other();
        session.facts.open();
        let again = session.waits_for_other();
        let loaded = session.entries.first_key_value().map(|(seq, _)| *seq).filter(|_| !again);
        let known = session.last_seq > 0;
        session.loading = ask && known;
        if ask && known {
            self.actions.push(Action::Pull { session: id.clone(), before: loaded.unwrap_or(0) });
        }
        self.watch_group(Some(&id));
        self.open = Some(id);
        self.enter_draft();
    }

    /// The end: what is written and not sent is saved.
    pub(super) fn quit(&mut self) {
        self.leave();
        self.actions.push(Action::Quit);
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
        match commands::understand(self.input.text()) {
            Ok(deed) => {
                self.input.take();
                deed(self);
            }
            Err(wrong) => self.say(wrong),
        }
    }

    /// Does something to the open session for this user alone.
    pub(super) fn own(&mut self, action: impl FnOnce(SessionId, u64) -> UserAction) {
        match self.current().map(|session| (session.id.clone(), session.last_seq)) {
            Some((session, last)) => self.actions.push(Action::Own(action(session, last))),
            None => self.say("no session is open"),
        }
    }

    /// Sets something of the open session for this user.
    pub(super) fn set(&mut self, setting: SessionSetting) {
        self.own(|session, _| UserAction::SetSession { session, setting });
    }

    /// Does something about the open session.
    pub(super) fn in_open(&mut self, action: impl FnOnce(SessionId) -> Action) {
        match self.open.clone() {
            Some(session) => self.actions.push(action(session)),
            None => self.say("no session is open; /dm USER or /open #GROUP opens one"),
        }
    }

    /// Does something about the open group.
    pub(super) fn in_group(&mut self, action: impl FnOnce(SessionId) -> Action) {
        match self.open {
            Some(SessionId::Direct { .. }) => self.say("that is for groups"),
            _ => self.in_open(action),
        }
    }

    pub(super) fn ask(&mut self, ask: impl FnOnce(SessionId) -> Ask) {
        self.in_open(|session| Action::Ask(ask(session)));
    }

    pub(super) fn ask_group(&mut self, ask: impl FnOnce(SessionId) -> Ask) {
        self.in_group(|session| Action::Ask(ask(session)));
    }

    /// In so many minutes; never, if none are named.
    pub(super) fn in_minutes(&self, minutes: Option<u64>) -> u64 {
        minutes.map_or(u64::MAX, |minutes| self.now_ms.saturating_add(minutes.saturating_mul(60_000)))
    }

    /// Ends the open group for ever, if it is the one that is named.
    pub(super) fn dissolve(&mut self, named: &GroupId) {
        match &self.open {
            Some(SessionId::Group(open)) if open != named => {
                let text = format!("{open} is open, and not {named}; write /set dissolve {open} to end it");
                self.say(text);
            }
            _ => self.manage(GroupAction::Dissolve),
        }
    }

    /// Sends what is to go once the other one has read it.
    pub(super) fn burn(&mut self, text: String, goes: Goes) {
        match self.open {
            Some(SessionId::Group(_)) => {
                self.say("only in a direct session is there one who reads it; /lasting is for all")
            }
            _ => self.send(text, goes),
        }
    }

    /// Sends a message to the open session.
    pub(super) fn send(&mut self, text: String, goes: Goes) {
        let (id, time_ms) = (self.next_id, self.now_ms);
        let Some(session) = self.current_mut() else {
            self.input.set(&text);
            return self.say("no session is open; /dm USER opens one");
        };
        session.pending.push(Pending { id, text: text.clone(), time_ms, goes, failed: None });
        session.scroll = 0;
        session.new_after = None;
        let session = session.id.clone();
        self.next_id += 1;
        self.company.sent();
        self.actions.push(Action::Send { session, id, text, goes });
        self.draft_is_sent();
    }

    /// The message of the open session with this seq, or the last one from this terminal.
    pub(super) fn own_message(&mut self, seq: Option<u64>) -> Option<(SessionId, u64)> {
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

    pub(super) fn change(&mut self, add: bool, users: Vec<UserId>) {
        match self.open.clone() {
            Some(session @ SessionId::Group(_)) => self.actions.push(Action::Change { session, add, users }),
            Some(_) => self.say("a direct session has its two members; /group NAME USER… makes a group"),
            None => self.say("no session is open"),
        }
    }

    pub(super) fn manage(&mut self, action: GroupAction) {
        let is_of_any = matches!(action, GroupAction::SetRetention(_) | GroupAction::KeepVersions { .. });
        match is_of_any {
            true => self.in_open(|session| Action::Manage { session, action }),
            false => self.in_group(|session| Action::Manage { session, action }),
        }
    }

    /// What the client tells.
    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Message { session, record } => {
                self.company.wrote(&session, &record.sender);
                let (me, device) = (self.me.clone(), self.device.clone());
                let shape = (self.width, self.numbers);
                let session = self.session(&session);
                let rows_before = history::rows_of(session, record.seq, &me, shape);
                let news = record.seq > session.last_seq;
                session.arrive(&record, &me, &device);
                match session.rewritten(&record) {
                    Rewrites::Count if news => return self.want_list(),
                    Rewrites::Nothing | Rewrites::Count => {}
                    Rewrites::Message(seq) => {
                        // What it says now is pulled; the signal does not say it, for it may be recalled later.
                        let (session, before) = (session.id.clone(), seq + 1);
                        self.actions.push(Action::Pull { session, before });
                        return;
                    }
                }
                if session.scroll > 0 {
                    // Whoever reads older messages is not moved.
                    session.scroll +=
                        history::rows_of(session, record.seq, &me, shape).saturating_sub(rows_before);
                }
            }
            Event::ReadMark(mark) => {
                let session = mark.session.clone();
                self.session(&session).read(&mark);
            }
            Event::Settings(SessionSettings { session, settings }) => {
                if let Some(known) = self.sessions.get_mut(&session) {
                    known.set_lately = true;
                }
                // Of a session that is not known here, and of what is unread and not at hand, the list says it.
                if !self.sessions.contains_key(&session) || self.set_as(&session, &settings) {
                    self.want_list();
                }
            }
            Event::Relation(relation) => self.say(relation_words(&relation)),
            Event::Receipt(receipt) => {
                if let Some(session) = self.sessions.get_mut(&receipt.session) {
                    session.read_by_other(receipt.seq);
                }
            }
            Event::Ephemeral(message) => self.passing(&message),
            Event::Presence(lines) => self.company.present(lines),
            Event::SessionPresence(presence) => self.company.in_group(presence),
            Event::Joined(session) => {
                let known = self.sessions.contains_key(&session);
                let joined = self.session(&session);
                joined.member = true;
                joined.facts.changed();
                match known {
                    // Opened here before anything was written there.
                    true => self.watch(std::iter::once(&session)),
                    false => self.want_list(),
                }
                if self.open.as_ref() == Some(&session) {
                    self.watch_group(Some(&session));
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
        let wanted = session.ends_mark || last > session.read_seq.max(session.read_sent);
        if loaded && session.scroll == 0 && session.member && wanted {
            session.read_sent = last;
            session.ends_mark = false;
            session.seen();
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
        let now_ms = self.now_ms;
        self.sessions.entry(id.clone()).or_insert_with(|| Conversation::new(id.clone(), now_ms))
    }
}
