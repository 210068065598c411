//! What the chat makes of how its actions went.

use rookery_client::ClientError;
use rookery_client::wire::join::RequestPage;
use rookery_client::wire::own::SelfAck;
use rookery_client::wire::reply::MemberPage;
use rookery_client::wire::{RelationState, SessionId, SessionSetting, UserAction, UserId};

use super::acts::{About, Action, Outcome, Told};
use super::asking::Answer;
use super::popup::{self, Popup};
use super::state::Chat;
use super::wrap::harmless;
use crate::cli::group_words::until_words;

/// Members shown by `/members`, and requests by `/requests`.
pub(super) const LINES_SHOWN: u32 = 200;

impl Chat {
    /// How an action went.
    pub(super) fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::About(session, about) => self.about(session, about),
            Outcome::Own(action, told) => self.owned(&action, told),
            Outcome::Synced(Ok(list)) => {
                let me = self.me.clone();
                for summary in &list.sessions {
                    if !self.session(&summary.session).set_lately {
                        self.set_as(&summary.session, &summary.settings);
                    }
                    self.session(&summary.session).learn(summary, &me);
                }
                self.list_is_read();
                // Those that were only opened here are not there yet, and their users not to be watched.
                self.watch(list.sessions.iter().map(|summary| &summary.session));
            }
            Outcome::Present(Ok(page)) => self.company.present(page.users),
            // Presence is an extra: without it the header says less.
            Outcome::Present(Err(_)) | Outcome::Nothing => {}
            Outcome::Synced(Err(error)) => {
                self.list_is_read();
                self.say(brief(&error));
            }
            Outcome::Answered(Ok(Answer::Said(text))) => self.say(text),
            Outcome::Answered(Ok(Answer::Shown(popup))) => self.popup = Some(popup),
            Outcome::Answered(Err(error)) => self.say(brief(&error)),
        }
    }

    /// What is the user's own was changed, or not.
    fn owned(&mut self, action: &UserAction, told: Told<SelfAck>) {
        if let UserAction::SetSession { session, setting: SessionSetting::Draft(_) } = action {
            self.draft_saved(session);
            if let Err(error) = told {
                let name = self.name(session);
                self.say(format!("the draft in {name} is kept here alone: {}", brief(&error)));
            }
            return;
        }
        match told {
            Ok(ack) => self.say(own_words(action, ack.value)),
            Err(error) => return self.say(brief(&error)),
        }
        if let UserAction::SetSession { session, setting: SessionSetting::Hide(Some(_)) } = action
            && self.open.as_ref() == Some(session)
        {
            self.step(true);
        }
    }

    fn about(&mut self, session: SessionId, about: About) {
        let (me, device) = (self.me.clone(), self.device.clone());
        match about {
            About::Sent(id, told) => {
                let session = self.session(&session);
                match told {
                    Ok(ack) => session.acked(id, &ack, &me),
                    Err(error) => {
                        if let Some(sent) = session.pending.iter_mut().find(|pending| pending.id == id) {
                            sent.failed = Some(brief(&error));
                        }
                    }
                }
            }
            About::Page(told) => {
                let conversation = self.session(&session);
                conversation.loading = false;
                match told {
                    Ok(page) => {
                        conversation.page(&page, &me, &device);
                        self.ask_whether_read(&session);
                    }
                    Err(error) => {
                        conversation.opened = !conversation.entries.is_empty();
                        self.say(format!("history of {}: {}", self.name(&session), brief(&error)));
                    }
                }
            }
            About::Read(Ok(mark)) => self.session(&session).read(&mark),
            // Tried again when the next message is seen.
            About::Read(Err(_)) => self.session(&session).read_sent = 0,
            About::Done(what, Ok(_)) => {
                self.say(what);
                self.open(session);
            }
            About::OtherRead(read) => {
                if let Some(seq) = read {
                    self.session(&session).read_by_other(seq);
                }
            }
            About::Joined(Ok(true)) => self.joined(session),
            About::Joined(Ok(false)) => self.say(format!("{} is asked to let you in", self.name(&session))),
            About::Facts(told) => self.facts(&session, told.ok().as_deref()),
            About::Members(Ok(page)) => self.show_members(&session, &page),
            About::Requests(Ok(page)) => self.show_requests(&session, &page),
            About::Versions(Ok(page)) => self.popup = Some(popup::versions(&page)),
            About::Company(Ok(presence)) => self.company.in_group(presence),
            // As below: without it the header says less.
            About::Company(Err(_)) => {}
            About::Done(_, Err(error))
            | About::Joined(Err(error))
            | About::Members(Err(error))
            | About::Requests(Err(error))
            | About::Versions(Err(error)) => self.say(brief(&error)),
        }
    }

    /// Whoever the user has a direct session with is watched from now on.
    pub(super) fn watch<'a>(&mut self, sessions: impl Iterator<Item = &'a SessionId>) {
        let users = self.company.begin_to_watch(&self.me, sessions);
        if !users.is_empty() {
            self.actions.push(Action::Watch { users });
        }
    }

    /// The user is in a group that this terminal has perhaps never heard of.
    fn joined(&mut self, session: SessionId) {
        let conversation = self.session(&session);
        conversation.member = true;
        conversation.facts.changed();
        self.open(session);
        self.want_list();
    }

    /// Of a direct session whose last own message is not known to be read that is asked: a RECEIPT may have come before.
    pub(super) fn ask_whether_read(&mut self, session: &SessionId) {
        let me = self.me.clone();
        let Some(known) = self.sessions.get(session).filter(|_| session.peer_of(&me).is_some()) else {
            return;
        };
        let own = known.entries.iter().rev().find(|(_, entry)| entry.sender == me && entry.is_content());
        if let Some((seq, _)) = own.filter(|(seq, _)| **seq > known.other_read) {
            let (session, seq) = (session.clone(), *seq);
            self.actions.push(Action::HasRead { session, seq });
        }
    }

    /// A connection stands: what was set or read meanwhile is asked for.
    pub(super) fn connected(&mut self) {
        self.want_list();
        let waiting = self.sessions.values().filter(|session| session.waits_for_other());
        for session in waiting.map(|session| session.id.clone()).collect::<Vec<_>>() {
            self.ask_whether_read(&session);
        }
    }

    /// The sessions that are hidden, by name.
    pub(super) fn show_hidden(&mut self) {
        let hidden = self.sessions.values().filter(|session| session.is_hidden());
        let mut lines: Vec<String> = hidden
            .map(|session| harmless(&crate::cli::connect::session_name(&self.me, &session.id)))
            .collect();
        if lines.is_empty() {
            return self.say("no session is hidden");
        }
        lines.sort_unstable();
        lines.push("/open opens one, /my show shows it again".to_owned());
        self.popup = Some(Popup::new("Hidden sessions", lines));
    }

    fn show_members(&mut self, session: &SessionId, page: &MemberPage) {
        self.session(session).members = Some(page.total);
        let there = |user: &UserId| if self.company.is_in(session, user) { " · online" } else { "" };
        let mut lines: Vec<String> =
            page.users.iter().map(|user| format!("{}{}", harmless(user.as_str()), there(user))).collect();
        if page.more {
            lines.push(format!("… and {} more", page.total as usize - page.users.len()));
        }
        let title = format!("{}: {} members", self.name(session), page.total);
        self.popup = Some(Popup::new(title, lines));
    }

    fn show_requests(&mut self, session: &SessionId, page: &RequestPage) {
        if page.requests.is_empty() {
            return self.say(format!("nobody asks to join {}", self.name(session)));
        }
        let line = |user: &str, text: &str| harmless(&format!("{user} {text}")).replace('\n', " ");
        let requests = page.requests.iter();
        let mut lines: Vec<String> = requests
            .map(|one| line(one.user.as_str(), &String::from_utf8_lossy(one.text.as_ref())))
            .map(|line| line.trim_end().to_owned())
            .collect();
        lines.extend(page.more.then(|| "… and more".to_owned()));
        lines.push("/requests accept USER… or decline USER…".to_owned());
        let title = format!("{}: who asks to join", self.name(session));
        self.popup = Some(Popup::new(title, lines));
    }
}

/// What came of a change to what is the user's own.
fn own_words(action: &UserAction, value: u64) -> String {
    let relation = |user: &UserId| match value {
        number if number == RelationState::Requested as u64 => format!("{user} is asked to be a friend"),
        number if number == RelationState::Asked as u64 => format!("{user} asks to be a friend"),
        number if number == RelationState::Friends as u64 => format!("{user} and you are friends"),
        _ => format!("there is nothing between {user} and you"),
    };
    match action {
        UserAction::Block { user } => format!("{user} is blocked"),
        UserAction::Unblock { user } => format!("{user} is blocked no more"),
        UserAction::RequestFriend { user, .. }
        | UserAction::AcceptFriend { user }
        | UserAction::DeclineFriend { user }
        | UserAction::RemoveFriend { user } => relation(user),
        UserAction::SetRemark { user, .. } if value == 0 => {
            format!("nothing was changed: a remark is on one with whom there is something; /my friend {user}")
        }
        UserAction::EndDevice { device } | UserAction::NameDevice { device, .. } if value == 0 => {
            format!("there is no device {device}; /my devices lists them")
        }
        UserAction::EndDevice { device } => format!("{device} has ended"),
        UserAction::ReadAll => format!("{value} messages read"),
        UserAction::SetStrangers { refuse: true } => "strangers may not write first".to_owned(),
        UserAction::SetStrangers { refuse: false } => "strangers may write first".to_owned(),
        UserAction::SetSession { setting, .. } => match setting {
            SessionSetting::Pin(Some(_)) => "pinned".to_owned(),
            SessionSetting::Pin(None) => "pinned no more".to_owned(),
            SessionSetting::Mute(0) => "muted no more".to_owned(),
            SessionSetting::Mute(until_ms) => format!("muted {}", until_words(*until_ms)),
            SessionSetting::Hide(Some(u64::MAX)) => "hidden; /my hidden lists it".to_owned(),
            SessionSetting::Hide(Some(_)) => "hidden until somebody writes; /my hidden lists it".to_owned(),
            SessionSetting::Hide(None) => "hidden no more".to_owned(),
            SessionSetting::MarkUnread(_) => "marked as unread".to_owned(),
            SessionSetting::Draft(_) => "done".to_owned(),
        },
        _ => "done".to_owned(),
    }
}

/// An error in a few words.
fn brief(error: &ClientError) -> String {
    match error {
        ClientError::Refused(body) => {
            let text = body.message();
            if text.is_empty() { body.code.name().to_owned() } else { text.into_owned() }
        }
        ClientError::Deadline { written: true, .. } => {
            "no answer in time; it may have been stored".to_owned()
        }
        other => other.to_string(),
    }
}
