//! Does what the chat wants done: each action is one task, and its outcome comes back when that has ended.

use parking_lot::Mutex;
use rookery_client::wire::join::Outside;
use rookery_client::wire::live::{WatchMode, Which};
use rookery_client::wire::request::{Consistency, Direction};
use rookery_client::wire::{Blob, GroupAction, SessionId};
use rookery_client::{Client, InviteCode, Mark, Outgoing};

use super::acts::{About, Action, Outcome, Told};
use super::asking;
use super::listed;
use super::outcomes::LINES_SHOWN;
use super::popup::VERSIONS_SHOWN;

/// Messages asked for at once when history is shown.
const PAGE: u32 = 60;

/// What an action comes to. Sending and quitting are the loop's own.
pub(super) async fn outcome_of(client: &Client, mark: &Mutex<Mark>, action: Action) -> Outcome {
    match action {
        Action::Own(action) => Outcome::Own(action.clone(), client.manage_self(action).await),
        Action::Typing { session, on } => {
            // Whether it got there is of no interest.
            let _ = client.typing(&session, on).await;
            Outcome::Nothing
        }
        Action::Watch { users } => Outcome::Present(client.watch(WatchMode::Add, &users).await),
        Action::WatchGroup { session, on } => {
            let told = client.watch_session(&session, on).await;
            Outcome::About(session, About::Company(told))
        }
        Action::Sync => Outcome::Synced(listed(client, mark).await),
        Action::Create { group, members } => {
            let told = client.create_group(group.clone(), &members).await;
            Outcome::About(SessionId::group(group.clone()), About::Done(format!("#{group} is there"), told))
        }
        Action::Join { group, code } => {
            let session = SessionId::group(group);
            let told = join(client, &session, code.as_ref()).await;
            Outcome::About(session, About::Joined(told))
        }
        Action::Pull { session, before } => {
            let from = before.saturating_sub(u64::from(before > 0));
            let (way, how) = (Direction::Backward, Consistency::Linearizable);
            let told = client.pull(&session, from, way, PAGE, how).await;
            Outcome::About(session, About::Page(told))
        }
        Action::Read { session, seq } => {
            let told = client.read(&session, seq).await;
            Outcome::About(session, About::Read(told))
        }
        Action::Change { session, add, users } => {
            let told = match add {
                true => client.add_members(&session, &users).await,
                false => client.remove_members(&session, &users).await,
            };
            done(session, "done".to_owned(), told)
        }
        Action::Recall { session, seq } => {
            let told = client.recall(&session, seq).await;
            done(session, "recalled".to_owned(), told)
        }
        Action::Edit { session, seq, text } => {
            let told = client.edit(&session, seq, Outgoing::text(&text)).await;
            done(session, "edited".to_owned(), told)
        }
        Action::Manage { session, action } => {
            let words = match &action {
                GroupAction::Answer { user, accept: true } => format!("{user} was let in"),
                GroupAction::Answer { user, accept: false } => format!("{user} was not let in"),
                _ => "done".to_owned(),
            };
            let told = client.manage(&session, action).await;
            done(session, words, told)
        }
        Action::Facts { session } => {
            let told = client.group_info(&session).await.map(Box::new);
            Outcome::About(session, About::Facts(told))
        }
        Action::Members { session } => {
            let told = client.members(&session, None, LINES_SHOWN).await;
            Outcome::About(session, About::Members(told))
        }
        Action::Requests { session } => {
            let told = client.requests(&session, Outside::Asking, None, LINES_SHOWN).await;
            Outcome::About(session, About::Requests(told))
        }
        Action::Versions { session, seq } => {
            let told = client.versions(&session, seq, 0, VERSIONS_SHOWN).await;
            Outcome::About(session, About::Versions(told))
        }
        Action::HasRead { session, seq } => {
            // Whoever does not show it is on no page. Without an answer the message waits to be pulled again.
            let told = client.receipts(&session, seq, Which::Read, None, 1).await;
            let read = told.ok().and_then(|page| page.users.first().map(|line| line.read_seq.max(seq)));
            Outcome::About(session, About::OtherRead(read))
        }
        Action::Ask(ask) => Outcome::Answered(asking::answer(client, ask).await),
        Action::Send { .. } | Action::Quit => Outcome::Nothing,
    }
}

fn done(session: SessionId, words: String, told: Told<rookery_client::wire::reply::Ack>) -> Outcome {
    Outcome::About(session, About::Done(words, told))
}

/// Comes into a group or asks to; says which.
async fn join(client: &Client, session: &SessionId, code: Option<&InviteCode>) -> Told<bool> {
    client.join_group(session, code, Blob::default()).await?;
    client.is_member(session).await
}
