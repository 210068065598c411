//! The open group: who is in it and what they may do, what it looks like, its end; and the ways into groups.

use rookery_client::InviteCode;
use rookery_client::wire::{Blob, GroupAction, Join, MemberRole, Retention, UserId, Who};

use super::super::acts::Action;
use super::super::asking::{Ask, Rule};
use super::words::{Words, Wrong};
use super::{Command, Parsed, command, does};

/// A day, milliseconds.
const DAY: u64 = 86_400_000;
/// For how many days a code is good unless something else is said.
const CODE_DAYS: u64 = 7;

pub(super) const COMMANDS: &[Command] = &[
    command("add", "USER…", "add members", |words| change(words, true)),
    command("remove", "USER…", "remove members", |words| change(words, false)),
    command("leave", "", "leave the group", |words| {
        words.end()?;
        does(|chat| {
            let me = chat.me.clone();
            chat.change(false, vec![me]);
        })
    }),
    command("info", "", "how the group is set, or the session is kept", |words| {
        words.end()?;
        does(|chat| chat.ask(|session| Ask::Info { session }))
    }),
    command("roles", "", "the owner, the admins, who is muted", |words| {
        words.end()?;
        does(|chat| chat.ask_group(|session| Ask::Roles { session }))
    }),
    command("set name", "TEXT", "name the group for people; nothing takes it away", |words| {
        let name = words.rest().split_whitespace().collect::<Vec<_>>().join(" ");
        manage(GroupAction::SetProfile { name: Some(Blob::from(name.as_str())), avatar: None })
    }),
    command("set avatar", "[ADDRESS]", "the address of a picture; nothing takes it away", |words| {
        manage(GroupAction::SetProfile { name: None, avatar: Some(Blob::from(words.rest())) })
    }),
    command("set attribute", "KEY [VALUE]", "an attribute; nothing takes it away", |mut words| {
        let key = words.named()?;
        let value = words.rest();
        manage(GroupAction::SetAttribute { key, value: (!value.is_empty()).then(|| Blob::from(value)) })
    }),
    command("set admin", "USER", "make a member an admin", |words| role(words, MemberRole::Admin)),
    command("set member", "USER", "make an admin a plain member", |words| role(words, MemberRole::Member)),
    command("set owner", "USER", "hand the group over; you stay as an admin", |words| {
        manage(GroupAction::HandOver { user: words.only_user()? })
    }),
    command("set mute", "USER [MINUTES]", "forbid a member to write, or for good", |mut words| {
        let user = words.user()?;
        let minutes = words.only_number()?;
        does(move |chat| {
            let until_ms = chat.in_minutes(minutes);
            chat.manage(GroupAction::Mute { user, until_ms });
        })
    }),
    command("set unmute", "USER", "let it write again", |words| {
        manage(GroupAction::Mute { user: words.only_user()?, until_ms: 0 })
    }),
    command("set mute-all", "on|off", "let nobody write but admins and the owner", |words| {
        manage(GroupAction::MuteAll { on: words.only_one_of(ON_OFF)? })
    }),
    command("set write", "all|admins", "who may write", |words| rule(Rule::Write(words.only_one_of(WHO)?))),
    command("set invite", "all|admins", "who may add members", |words| {
        rule(Rule::Invite(words.only_one_of(WHO)?))
    }),
    command("set change", "all|admins", "who may change name, avatar, attributes", |words| {
        rule(Rule::Change(words.only_one_of(WHO)?))
    }),
    command("set history", "visible|hidden", "whether older history is shown to who joins", |words| {
        rule(Rule::History(words.only_one_of(&[("visible", true), ("hidden", false)])?))
    }),
    command("set join", "HOW", "who comes by itself: closed, request, open", |words| {
        let how = [("closed", Join::Closed), ("request", Join::Request), ("open", Join::Open)];
        rule(Rule::Join(words.only_one_of(&how)?))
    }),
    command("set keep", "DAYS", "how long messages are kept; 0 is no bound", |words| {
        let days = words.only_number()?.ok_or(Wrong::Usage)?;
        manage(GroupAction::SetRetention(Retention { age_ms: days.saturating_mul(DAY), count: 0 }))
    }),
    command("set versions", "on|off", "keep what was said before edits, or not", |words| {
        manage(GroupAction::KeepVersions { on: words.only_one_of(ON_OFF)? })
    }),
    command("set dissolve", "NAME", "end the group for ever; name it to be sure", |mut words| {
        let named = words.group()?;
        words.end()?;
        does(move |chat| chat.dissolve(&named))
    }),
];

pub(super) const DOOR: &[Command] = &[
    command("join", "NAME [CODE]", "come into a group, or ask to", |mut words| {
        let group = words.group()?;
        let code: String = words.rest().split_whitespace().collect();
        let code = (!code.is_empty()).then(|| code.parse::<InviteCode>()).transpose();
        let code = code.map_err(|fault| Wrong::Said(fault.to_string()))?;
        does(move |chat| chat.actions.push(Action::Join { group, code }))
    }),
    command("withdraw", "NAME", "take back your request to join a group", |mut words| {
        let group = words.group()?;
        words.end()?;
        does(move |chat| chat.actions.push(Action::Ask(Ask::Withdraw { group, me: chat.me.clone() })))
    }),
    command("requests", "", "who asks to join the open group", |words| {
        words.end()?;
        does(|chat| chat.in_group(|session| Action::Requests { session }))
    }),
    command("requests accept", "USER…", "let them in", |words| answer(words, true)),
    command("requests decline", "USER…", "do not", |words| answer(words, false)),
    command("invite", "[USES] [DAYS]", "make a code of invitation; it is shown once", |mut words| {
        let uses = words.number()?.unwrap_or(1);
        let days = words.only_number()?.unwrap_or(CODE_DAYS);
        let uses = u32::try_from(uses).map_err(|_| Wrong::Usage)?;
        does(move |chat| {
            let until_ms = chat.now_ms.saturating_add(days.saturating_mul(DAY));
            chat.ask_group(|session| Ask::Invite { session, uses, until_ms });
        })
    }),
    command("codes", "", "the codes of invitation there are, by number", |words| {
        words.end()?;
        does(|chat| chat.ask_group(|session| Ask::Codes { session }))
    }),
    command("revoke", "NUMBER", "take a code back", |words| {
        manage(GroupAction::RevokeCode { id: words.only_number()?.ok_or(Wrong::Usage)? })
    }),
    command("set bar", "USER", "keep a user out, whoever would let it in", |words| bar(words, true)),
    command("set unbar", "USER", "no longer", |words| bar(words, false)),
    command("barred", "", "who is kept out", |words| {
        words.end()?;
        does(|chat| chat.ask_group(|session| Ask::Barred { session }))
    }),
];

const ON_OFF: &[(&str, bool)] = &[("on", true), ("off", false)];
const WHO: &[(&str, Who)] = &[("all", Who::All), ("admins", Who::Admins)];

fn manage(action: GroupAction) -> Parsed {
    does(move |chat| chat.manage(action))
}

fn rule(rule: Rule) -> Parsed {
    does(move |chat| chat.ask_group(|session| Ask::Rule { session, rule }))
}

fn role(words: Words<'_>, role: MemberRole) -> Parsed {
    manage(GroupAction::SetRole { user: words.only_user()?, role })
}

fn bar(words: Words<'_>, on: bool) -> Parsed {
    manage(GroupAction::Bar { user: words.only_user()?, on })
}

fn change(words: Words<'_>, add: bool) -> Parsed {
    let users = words.some_users()?;
    does(move |chat| chat.change(add, users))
}

fn answer(words: Words<'_>, accept: bool) -> Parsed {
    let users: Vec<UserId> = words.some_users()?;
    does(move |chat| {
        for user in users {
            chat.manage(GroupAction::Answer { user, accept });
        }
    })
}
