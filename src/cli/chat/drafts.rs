//! Drafts: what is written and not sent goes with the user from device to device. It comes into the input line when its
//! session is opened, and is saved when that is left.

use rookery_client::wire::own::Settings;
use rookery_client::wire::{Blob, SessionId, SessionSetting, UserAction};

use super::acts::Action;
use super::conversation::Conversation;
use super::state::Chat;

/// The draft of one session.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// What goes into the line when the session is opened.
    text: String,
    /// What was in the line when it had gone there.
    shown: String,
    /// What the cluster keeps, as far as is known here.
    kept: Blob,
    /// Savings under way: what is heard of the draft meanwhile may be of before.
    saving: u32,
}

impl Draft {
    /// The beginning of it, for the list.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The cluster says what it keeps. One that is no text is another program's business.
    fn told(&mut self, kept: &Blob) -> bool {
        if self.saving > 0 || self.kept == *kept {
            return false;
        }
        self.kept = kept.clone();
        self.text = std::str::from_utf8(kept.as_ref()).unwrap_or_default().to_owned();
        true
    }

    fn saved(&mut self, text: &str) {
        text.clone_into(&mut self.text);
        text.clone_into(&mut self.shown);
        self.kept = Blob::from(text);
        self.saving += 1;
    }
}

impl Chat {
    /// The line is left as the draft of the open session, and saved if it is another now. Commands are no drafts.
    pub(super) fn leave(&mut self) {
        let typed = self.input.text().to_owned();
        let Some(session) = self.current_mut() else { return };
        if typed == session.draft.shown {
            return;
        }
        if typed.starts_with('/') || !is_kept(session) {
            session.draft.text.clone_from(&typed);
            session.draft.shown = typed;
            return;
        }
        self.save_draft(&typed);
    }

    /// The draft of the open session comes into the line.
    pub(super) fn enter_draft(&mut self) {
        let Some(session) = self.open.as_ref().and_then(|id| self.sessions.get_mut(id)) else { return };
        self.input.show(&session.draft.text);
        self.input.text().clone_into(&mut session.draft.shown);
    }

    /// What was in the line is a message now.
    pub(super) fn draft_is_sent(&mut self) {
        let Some(session) = self.current_mut() else { return };
        if session.draft.kept.is_empty() {
            session.draft.text.clear();
            session.draft.shown.clear();
        } else {
            self.save_draft("");
        }
    }

    fn save_draft(&mut self, text: &str) {
        let Some(session) = self.current_mut() else { return };
        session.draft.saved(text);
        let (session, setting) = (session.id.clone(), SessionSetting::Draft(Blob::from(text)));
        self.actions.push(Action::Own(UserAction::SetSession { session, setting }));
    }

    /// A saving has ended, well or not.
    pub(super) fn draft_saved(&mut self, session: &SessionId) {
        let draft = &mut self.session(session).draft;
        draft.saving = draft.saving.saturating_sub(1);
    }

    /// How a session is set, on whichever device. Says whether something is concealed that was not before.
    pub(super) fn set_as(&mut self, id: &SessionId, settings: &Settings) -> bool {
        let is_open = self.open.as_ref() == Some(id);
        let line = self.input.text().to_owned();
        let session = self.session(id);
        let untouched = line == session.draft.shown;
        if session.draft.told(&settings.draft) && is_open && untouched {
            self.enter_draft();
        }
        let session = self.session(id);
        let concealed = session.conceal(settings);
        session.settings = settings.clone();
        concealed
    }
}

/// Whether the cluster keeps settings of it: it is in the user's list.
fn is_kept(session: &Conversation) -> bool {
    session.member && session.last_seq > 0
}
