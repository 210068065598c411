//! Who is a user, and who has merely been named. A user is who has registered a device, or was created by a backend; that never
//! becomes untrue. Others may name any name: by `limits.users` that is enough for a list to take a session (`named`), or it is
//! refused (`created`), and then nothing is stored for the name. Which of the two, the command says (G8).

use rookery_wire::{ErrorBody, ErrorCode, UserId};

use super::command::Link;
use super::outcome::Answer;
use super::privacy::Privacy;
use super::relations::{RelationEntry, Wish};
use super::user::User;

impl User {
    /// Whether it has registered a device, or was created.
    pub fn is_known(&self) -> bool {
        self.created_ms > 0 || self.last_epoch > 0
    }

    /// Whether a backend may not create it any more: it is a user, or something was done in its name. What others did with the
    /// name, sessions and requests of theirs, does not count, or anybody could take it first.
    pub(super) fn is_taken(&self) -> bool {
        let wants =
            |entry: &RelationEntry| entry.blocked || !entry.remark.is_empty() || entry.mine.wish != Wish::No;
        let set = self.refuses_strangers || self.privacy != Privacy::default();
        let has_set = set || !self.extras.is_empty() || !self.ended.is_empty();
        self.is_known() || has_set || !self.series.is_empty() || self.relations.values().any(wants)
    }

    /// Whether there is nothing of it that rows need to hold: whatever named it was refused.
    pub(super) fn is_nothing(&self) -> bool {
        let begun = self.index > 0 || self.version > 0 || self.frozen || self.is_taken();
        let unnamed = self.links.is_empty() && self.relations.is_empty() && self.errands.is_empty();
        !begun && unnamed && self.keys.is_empty() && self.counted.is_empty() && self.is_clean()
    }

    /// What is answered in the name of one who is no user: nobody comes into a session. A removal of what is not in the list
    /// leaves no line, and a repeat of what was taken is answered as it was. (Should somebody become that user while a repeat of
    /// a refused intent is still under way, the list takes it; SYNC finds that the session does not have the user.)
    pub(super) fn answer_of_nobody(&self, link: &Link) -> Option<Answer> {
        let known = self.links.get(&link.session);
        if self.is_known() || known.is_some_and(|known| known.member || link.version <= known.version) {
            return None;
        }
        match link.member {
            true => Some(Answer::Refused(no_user(&self.id))),
            false => known.is_none().then_some(Answer::Done),
        }
    }
}

/// The refusal of whatever names one who is no user.
pub fn no_user(name: &UserId) -> ErrorBody {
    let text =
        format!("there is no user {name}: it has registered no device and was not created (limits.users)");
    ErrorBody::new(ErrorCode::UnknownUser, text)
}
