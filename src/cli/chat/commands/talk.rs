//! Messages, and the chat itself.

use rookery_client::Goes;
use rookery_client::wire::SessionId;

use super::super::acts::Action;
use super::super::asking::Ask;
use super::super::popup;
use super::super::state::Chat;
use super::words::{Words, Wrong};
use super::{Command, Parsed, command, does};

pub(super) const COMMANDS: &[Command] = &[
    command("dm", "USER", "open the conversation with a user", dm),
    command("open", "@USER|#GROUP", "open a session, also a hidden one", open),
    command("group", "NAME USER…", "create a group and open it", group),
    command("recall", "[N]", "take back your last message, or number N", |words| {
        about(words, |session, seq| Action::Recall { session, seq })
    }),
    command("edit", "TEXT", "say something else in the place of your last message", edit),
    command("versions", "[N]", "what your last message, or number N, said before", |words| {
        about(words, |session, seq| Action::Versions { session, seq })
    }),
    command("receipts", "[N]", "who has read your last message, or number N", |words| {
        about(words, |session, seq| Action::Ask(Ask::Receipts { session, seq }))
    }),
    command("lasting", "TIME TEXT", "say something that goes after 30s, 5m, 2h, 1d", |mut words| {
        let goes = Goes::After(words.time()?);
        let text = words.text()?;
        does(move |chat| chat.send(text, goes))
    }),
    command("burning", "TIME TEXT", "the same, after the other user has read it", |mut words| {
        let goes = Goes::OnceRead(words.time()?);
        let text = words.text()?;
        does(move |chat| chat.burn(text, goes))
    }),
    command("passing", "TEXT", "say something to who is there now; it is kept nowhere", |words| {
        let text = words.text()?;
        does(move |chat| chat.ask(|session| Ask::Passing { session, text }))
    }),
    command("verify", "", "prove that the history is the one the cluster holds", |words| {
        words.end()?;
        does(|chat| chat.ask(|session| Ask::Digest { session }))
    }),
    command("members", "", "who is in the open session", |words| {
        words.end()?;
        does(|chat| chat.in_open(|session| Action::Members { session }))
    }),
];

pub(super) const CHAT: &[Command] = &[
    command("help", "[TOPIC|COMMAND]", "keys and commands, or some of them", help),
    command("numbers", "", "show the numbers of messages, or no longer", |words| {
        words.end()?;
        does(|chat| chat.numbers = !chat.numbers)
    }),
    command("quit", "", "end", quit),
    command("exit", "", "the same", quit),
];

fn dm(words: Words<'_>) -> Parsed {
    let user = words.only_user()?;
    does(move |chat| match SessionId::direct(&chat.me, &user) {
        Ok(session) => chat.open(session),
        Err(fault) => chat.say(fault.to_string()),
    })
}

fn open(mut words: Words<'_>) -> Parsed {
    let name = words.next().ok_or(Wrong::Usage)?.to_owned();
    words.end()?;
    does(move |chat| match crate::cli::connect::session(&chat.me, &name) {
        // A group nobody here has heard of is none that could be opened.
        Ok(session @ SessionId::Group(_)) if !chat.sessions.contains_key(&session) => {
            chat.say(format!("you are not in {name}; /join asks to come in, /group makes one"));
        }
        Ok(session) => chat.open(session),
        Err(fault) => chat.say(fault.to_string()),
    })
}

fn group(mut words: Words<'_>) -> Parsed {
    let (group, members) = (words.group()?, words.users()?);
    does(move |chat| {
        chat.say(format!("creating #{group}…"));
        chat.actions.push(Action::Create { group, members });
    })
}

/// Something about one message of the open session.
fn about(words: Words<'_>, action: fn(SessionId, u64) -> Action) -> Parsed {
    let seq = words.only_number()?;
    does(move |chat| {
        if let Some((session, seq)) = chat.own_message(seq) {
            chat.actions.push(action(session, seq));
        }
    })
}

fn edit(words: Words<'_>) -> Parsed {
    let text = words.text()?;
    does(move |chat| {
        if let Some((session, seq)) = chat.own_message(None) {
            chat.actions.push(Action::Edit { session, seq, text });
        }
    })
}

fn help(words: Words<'_>) -> Parsed {
    let about = words.rest().trim_start_matches('/').to_owned();
    match popup::help(&about) {
        Some(popup) => does(move |chat| chat.popup = Some(popup)),
        None => Err(Wrong::Said(format!("there is nothing about {about}; /help shows all there is"))),
    }
}

fn quit(words: Words<'_>) -> Parsed {
    words.end()?;
    does(Chat::quit)
}
