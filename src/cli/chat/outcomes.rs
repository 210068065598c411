//! What the chat makes of how its actions went.

use rookery_client::ClientError;
use rookery_client::wire::join::RequestPage;
use rookery_client::wire::reply::MemberPage;
use rookery_client::wire::{SessionId, UserAction};

use super::acts::{About, Action, Outcome};
use super::popup::{self, Popup};
use super::state::Chat;
use super::wrap::harmless;

/// Members shown by `/members`, and requests by `/requests`.
pub(super) const LINES_SHOWN: u32 = 200;

impl Chat {
    /// How an action went.
    pub(super) fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::About(session, about) => self.about(session, about),
            Outcome::Own(action, told) => match (action, told) {
                (UserAction::Block { user }, Ok(_)) => self.say(format!("{user} is blocked")),
                (UserAction::Unblock { user }, Ok(_)) => self.say(format!("{user} is blocked no more")),
                (_, Ok(_)) => self.say("done"),
                (_, Err(error)) => self.say(brief(&error)),
            },
            Outcome::Synced(Ok(list)) => {
                let me = self.me.clone();
                for summary in &list.sessions {
                    self.session(&summary.session).learn(summary, &me);
                }
                let users = self.company.begin_to_watch(&me, self.sessions.keys());
                if !users.is_empty() {
                    self.actions.push(Action::Watch { users });
                }
            }
            Outcome::Present(Ok(page)) => self.company.present(page.users),
            // Presence is an extra: without it the header says less.
            Outcome::Present(Err(_)) | Outcome::Nothing => {}
            Outcome::Synced(Err(error)) => self.say(brief(&error)),
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
                    Ok(page) => conversation.page(&page, &me, &device),
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
            About::Joined(Ok(true)) => self.joined(session),
            About::Joined(Ok(false)) => self.say(format!("{} is asked to let you in", self.name(&session))),
            About::Facts(told) => self.facts(&session, told.ok().as_deref()),
            About::Members(Ok(page)) => self.show_members(&session, &page),
            About::Requests(Ok(page)) => self.show_requests(&session, &page),
            About::Versions(Ok(page)) => self.popup = Some(popup::versions(&page)),
            About::Done(_, Err(error))
            | About::Joined(Err(error))
            | About::Members(Err(error))
            | About::Requests(Err(error))
            | About::Versions(Err(error)) => self.say(brief(&error)),
        }
    }

    /// The user is in a group that this terminal has perhaps never heard of.
    fn joined(&mut self, session: SessionId) {
        let conversation = self.session(&session);
        conversation.member = true;
        conversation.facts.changed();
        self.open(session);
        self.actions.push(Action::Sync);
    }

    fn show_members(&mut self, session: &SessionId, page: &MemberPage) {
        self.session(session).members = Some(page.total);
        let mut lines: Vec<String> = page.users.iter().map(|user| harmless(user.as_str())).collect();
        if page.more {
            lines.push(format!("… and {} more", page.total as usize - page.users.len()));
        }
        let title = format!("{}: {} members", self.name(session), page.total);
        self.popup = Some(Popup { title, lines });
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
        self.popup = Some(Popup { title, lines });
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
