//! How the user stands to others, and what they are shown of it.

use rookery_client::wire::own::{RelationFilter, ShowTo};
use rookery_client::wire::{Blob, UserAction, UserId};

use super::super::acts::Action;
use super::super::asking::Ask;
use super::words::{Words, Wrong};
use super::{Command, Parsed, command, does};

pub(super) const COMMANDS: &[Command] = &[
    command("my friend", "USER [TEXT]", "ask to be friends, or accept", |mut words| {
        let user = words.user()?;
        let text = Blob::from(words.rest());
        own(UserAction::RequestFriend { user, text })
    }),
    command("my accept", "USER", "accept a request", |words| {
        to(words, |user| UserAction::AcceptFriend { user })
    }),
    command("my decline", "USER", "decline a request", |words| {
        to(words, |user| UserAction::DeclineFriend { user })
    }),
    command("my unfriend", "USER", "end a friendship, or take a request back", |words| {
        to(words, |user| UserAction::RemoveFriend { user })
    }),
    command("my remark", "USER [TEXT]", "what you call a user; nothing takes it away", |mut words| {
        let user = words.user()?;
        let remark = Blob::from(words.rest());
        own(UserAction::SetRemark { user, remark })
    }),
    command("my people", "[WHICH]", "your friends, requests, blocked users, or all", |mut words| {
        let which = match words.next() {
            None | Some("all") => RelationFilter::All,
            Some("friends") => RelationFilter::Friends,
            Some("requests") => RelationFilter::Requests,
            Some("blocked") => RelationFilter::Blocked,
            Some(_) => return Err(Wrong::Usage),
        };
        words.end()?;
        does(move |chat| chat.actions.push(Action::Ask(Ask::Relations { which })))
    }),
    command("my block", "USER", "take nothing that a user writes any more", |words| {
        to(words, |user| UserAction::Block { user })
    }),
    command("my unblock", "USER", "take that back", |words| to(words, |user| UserAction::Unblock { user })),
    command("my strangers", "allow|refuse", "whether who is no friend may write first", |words| {
        let refuse = words.only_one_of(&[("allow", false), ("refuse", true)])?;
        own(UserAction::SetStrangers { refuse })
    }),
    command("my receipts", "WHOM", "who sees how far you read: all, friends, nobody", |words| {
        let to = words.only_one_of(WHOM)?;
        does(move |chat| chat.actions.push(Action::Ask(Ask::Privacy { receipts: Some(to), presence: None })))
    }),
    command("my presence", "WHOM", "who sees that you are there: all, friends, nobody", |words| {
        let to = words.only_one_of(WHOM)?;
        does(move |chat| chat.actions.push(Action::Ask(Ask::Privacy { receipts: None, presence: Some(to) })))
    }),
    command("my privacy", "", "what others see of you", |words| {
        words.end()?;
        does(|chat| chat.actions.push(Action::Ask(Ask::Privacy { receipts: None, presence: None })))
    }),
];

const WHOM: &[(&str, ShowTo)] =
    &[("all", ShowTo::All), ("friends", ShowTo::Friends), ("nobody", ShowTo::Nobody)];

fn to(words: Words<'_>, action: fn(UserId) -> UserAction) -> Parsed {
    own(action(words.only_user()?))
}

fn own(action: UserAction) -> Parsed {
    does(move |chat| chat.actions.push(Action::Own(action)))
}
