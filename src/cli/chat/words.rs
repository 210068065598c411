//! What a person means by a line: a message, or a command that begins with a slash.

use rookery_client::InviteCode;
use rookery_client::wire::{Blob, GroupAction, GroupId, MemberRole, Retention, UserAction, UserId};

/// A line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A message to the open session.
    Message(String),
    /// Open the direct session with a user.
    Direct(UserId),
    /// Create a group with these members and open it.
    Group(GroupId, Vec<UserId>),
    /// Add members to the open group.
    Add(Vec<UserId>),
    /// Remove members from the open group.
    Remove(Vec<UserId>),
    /// Recall a message of the open session; the last own one if none is named.
    Recall(Option<u64>),
    /// Show what a message of the open session said before; the last own one if none is named.
    Versions(Option<u64>),
    /// Say something else in the place of the last own message.
    Edit(String),
    /// Come into a group, with a code of invitation if there is one, or ask to.
    Join(GroupId, Option<InviteCode>),
    /// Leave the open group.
    Leave,
    /// Change the open group.
    Manage(GroupAction),
    /// Mute a member of the open group, for so many minutes or for good.
    Mute(UserId, Option<u64>),
    /// Change a relation to another user.
    People(UserAction),
    /// Pin the open session.
    Pin,
    /// Clear the open session for oneself.
    Clear,
    /// Delete a message of the open session for oneself.
    Delete(u64),
    /// Show who is in the open session.
    Members,
    /// Show who asks to join the open group.
    Requests,
    /// Let users who ask to join into the open group, or not.
    Answer(Vec<UserId>, bool),
    /// Show the keys and commands.
    Help,
    /// End.
    Quit,
}

/// Command, arguments, what it does.
pub(super) const COMMANDS: &[(&str, &str, &str)] = &[
    ("/dm", "USER", "open the conversation with a user"),
    ("/group", "NAME USER…", "create a group and open it"),
    ("/add", "USER…", "add members to the open group"),
    ("/remove", "USER…", "remove members from the open group"),
    ("/recall", "[N]", "take back your last message, or the one with this number"),
    ("/edit", "TEXT", "say something else in the place of your last message"),
    ("/versions", "[N]", "show what your last message, or number N, said before"),
    ("/join", "NAME [CODE]", "come into a group, or ask to"),
    ("/leave", "", "leave the open group"),
    ("/set", "WHAT…", "name TEXT; keep DAYS; versions on|off; admin, mute, bar … USER"),
    ("/my", "WHAT…", "pin, clear, delete N; friend USER TEXT, block or unblock USER"),
    ("/members", "", "show who is in the open session"),
    ("/requests", "[WHAT USER…]", "show who asks to join; accept or decline USER…"),
    ("/help", "", "show keys and commands"),
    ("/quit", "", "end"),
];

/// Keys and what they do.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("Enter", "send"),
    ("Alt-Enter", "new line"),
    ("Tab, Alt-↓", "next session"),
    ("Shift-Tab, Alt-↑", "previous session"),
    ("PgUp, PgDn", "scroll; at the top, older messages come"),
    ("Esc", "back to the newest message"),
    ("↑, ↓", "lines typed before"),
    ("Ctrl-C", "end"),
];

/// Whether a change is one for direct sessions too.
pub(super) fn is_of_any(action: &GroupAction) -> bool {
    matches!(action, GroupAction::SetRetention(_) | GroupAction::KeepVersions { .. })
}

/// Understands a line; `Err` says what is wrong with it. A second slash makes a message that begins with one.
pub(super) fn understand(line: &str) -> Result<Line, String> {
    let Some(command) = line.strip_prefix('/') else { return Ok(Line::Message(line.to_owned())) };
    if command.starts_with('/') {
        return Ok(Line::Message(command.to_owned()));
    }
    let mut words = command.split_whitespace();
    let name = words.next().unwrap_or("");
    let usage = || match COMMANDS.iter().find(|(known, _, _)| known[1..] == *name) {
        Some((command, arguments, _)) => format!("write {command} {arguments}"),
        None => format!("no command /{name}; /help shows them"),
    };
    match name {
        "dm" => match users(words)?.as_slice() {
            [user] => Ok(Line::Direct(user.clone())),
            _ => Err(usage()),
        },
        "group" => {
            let group = words.next().ok_or_else(usage)?;
            let group = group.strip_prefix('#').unwrap_or(group);
            let group = group.parse().map_err(|fault| format!("{group}: {fault}"))?;
            Ok(Line::Group(group, users(words)?))
        }
        "add" => some(users(words)?).map(Line::Add).ok_or_else(usage),
        "remove" => some(users(words)?).map(Line::Remove).ok_or_else(usage),
        "recall" => match (words.next().map(str::parse), words.next()) {
            (None, _) => Ok(Line::Recall(None)),
            (Some(Ok(seq)), None) => Ok(Line::Recall(Some(seq))),
            _ => Err(usage()),
        },
        "versions" => match (words.next().map(str::parse), words.next()) {
            (None, _) => Ok(Line::Versions(None)),
            (Some(Ok(seq)), None) => Ok(Line::Versions(Some(seq))),
            _ => Err(usage()),
        },
        "edit" => match command.trim_start_matches("edit").trim() {
            "" => Err(usage()),
            text => Ok(Line::Edit(text.to_owned())),
        },
        "join" => {
            let group = words.next().ok_or_else(usage)?;
            let group = group.strip_prefix('#').unwrap_or(group);
            let group = group.parse().map_err(|fault| format!("{group}: {fault}"))?;
            let code = words.collect::<String>();
            let code = (!code.is_empty()).then(|| code.parse()).transpose();
            Ok(Line::Join(group, code.map_err(|fault: rookery_client::ClientError| fault.to_string())?))
        }
        "leave" => Ok(Line::Leave),
        "set" => set(words)?.ok_or_else(|| SET.to_owned()),
        "my" => my(words)?.ok_or_else(|| MY.to_owned()),
        "members" => Ok(Line::Members),
        "requests" => match words.next() {
            None => Ok(Line::Requests),
            Some(what @ ("accept" | "decline")) => some(users(words)?)
                .map(|users| Line::Answer(users, what == "accept"))
                .ok_or_else(|| REQUESTS.to_owned()),
            Some(_) => Err(REQUESTS.to_owned()),
        },
        "help" => Ok(Line::Help),
        "quit" | "exit" => Ok(Line::Quit),
        _ => Err(usage()),
    }
}

/// The command this could become, when there is only one.
pub(super) fn complete(line: &str) -> Option<String> {
    let mut fitting = COMMANDS.iter().filter(|(command, _, _)| command.starts_with(line));
    match (fitting.next(), fitting.next()) {
        (Some((command, _, _)), None) => Some(format!("{command} ")),
        _ => None,
    }
}

fn users<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<UserId>, String> {
    words
        .map(|word| word.strip_prefix('@').unwrap_or(word).trim_end_matches(','))
        .map(|word| word.parse().map_err(|fault| format!("{word}: {fault}")))
        .collect()
}

/// How to use `/requests`.
const REQUESTS: &str = "write /requests, /requests accept USER… or /requests decline USER…";

/// How to use `/set`.
const SET: &str = "write /set name TEXT, /set keep DAYS (0: no bound), /set mute USER [MINUTES], or \
    /set bar, unbar, admin, member, owner or unmute USER";

/// What `/set` does to the open group; `None` when it says nothing that can be done.
fn set<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Option<Line>, String> {
    let Some(what) = words.next() else { return Ok(None) };
    if what == "name" {
        let name = words.collect::<Vec<_>>().join(" ");
        let action = GroupAction::SetProfile { name: Some(Blob::from(name.as_str())), avatar: None };
        return Ok(Some(Line::Manage(action)));
    }
    if what == "keep" {
        let days = words.next().and_then(|word| word.parse::<u64>().ok()).filter(|_| words.next().is_none());
        let keeps = |days: u64| Retention { age_ms: days.saturating_mul(86_400_000), count: 0 };
        return Ok(days.map(|days| Line::Manage(GroupAction::SetRetention(keeps(days)))));
    }
    if what == "versions" {
        let on = match (words.next(), words.next()) {
            (Some("on"), None) => true,
            (Some("off"), None) => false,
            _ => return Ok(None),
        };
        return Ok(Some(Line::Manage(GroupAction::KeepVersions { on })));
    }
    let Some(user) = users(words.next().into_iter())?.pop() else { return Ok(None) };
    let minutes = words.next().map(str::parse::<u64>).transpose();
    let (Ok(minutes), None) = (minutes, words.next()) else { return Ok(None) };
    Ok(Some(match (what, minutes) {
        ("mute", minutes) => Line::Mute(user, minutes),
        ("unmute", None) => Line::Manage(GroupAction::Mute { user, until_ms: 0 }),
        ("bar", None) => Line::Manage(GroupAction::Bar { user, on: true }),
        ("unbar", None) => Line::Manage(GroupAction::Bar { user, on: false }),
        ("admin", None) => Line::Manage(GroupAction::SetRole { user, role: MemberRole::Admin }),
        ("member", None) => Line::Manage(GroupAction::SetRole { user, role: MemberRole::Member }),
        ("owner", None) => Line::Manage(GroupAction::HandOver { user }),
        _ => return Ok(None),
    }))
}

/// How to use `/my`.
const MY: &str = "write /my pin, clear, delete N, friend USER TEXT, block USER or unblock USER";

/// What `/my` does to what is the user's own; `None` when it says nothing that can be done.
fn my<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Option<Line>, String> {
    let what = words.next().unwrap_or("");
    let mut rest = words.collect::<Vec<_>>().into_iter();
    match (what, rest.len()) {
        ("pin", 0) => return Ok(Some(Line::Pin)),
        ("clear", 0) => return Ok(Some(Line::Clear)),
        ("delete", 1) => return Ok(rest.next().and_then(|word| word.parse().ok()).map(Line::Delete)),
        _ => {}
    }
    let Some(user) = users(rest.next().into_iter())?.pop() else { return Ok(None) };
    let text = Blob::from(rest.clone().collect::<Vec<_>>().join(" ").as_str());
    Ok(Some(Line::People(match (what, rest.len()) {
        ("friend", _) => UserAction::RequestFriend { user, text },
        ("block", 0) => UserAction::Block { user },
        ("unblock", 0) => UserAction::Unblock { user },
        _ => return Ok(None),
    })))
}

fn some(users: Vec<UserId>) -> Option<Vec<UserId>> {
    (!users.is_empty()).then_some(users)
}

#[cfg(test)]
mod tests {
    use rookery_client::wire::{Blob, GroupAction, MemberRole, Retention, UserAction};

    use super::{Line, MY, REQUESTS, complete, understand};

    #[test]
    fn lines_are_understood() {
        let user = |name: &str| name.parse().expect("a user");
        assert_eq!(understand("hello /dm"), Ok(Line::Message("hello /dm".to_owned())));
        assert_eq!(understand("//shrug"), Ok(Line::Message("/shrug".to_owned())));
        assert_eq!(understand("/dm @bob"), Ok(Line::Direct(user("bob"))));
        let group = Line::Group("team".parse().expect("a group"), vec![user("bob"), user("cat")]);
        assert_eq!(understand("/group #team @bob, cat"), Ok(group));
        assert_eq!(understand("/add bob"), Ok(Line::Add(vec![user("bob")])));
        assert_eq!(understand("/recall"), Ok(Line::Recall(None)));
        assert_eq!(understand("/recall 17"), Ok(Line::Recall(Some(17))));
        assert_eq!(understand("/versions 17"), Ok(Line::Versions(Some(17))));
        assert_eq!(understand("/edit  so it  is "), Ok(Line::Edit("so it  is".to_owned())));
        let role = GroupAction::SetRole { user: user("bob"), role: MemberRole::Admin };
        assert_eq!(understand("/set admin @bob"), Ok(Line::Manage(role)));
        assert_eq!(understand("/set mute bob"), Ok(Line::Mute(user("bob"), None)));
        assert_eq!(understand("/set mute bob 5"), Ok(Line::Mute(user("bob"), Some(5))));
        let named = GroupAction::SetProfile { name: Some(Blob::from("The team")), avatar: None };
        assert_eq!(understand("/set name The  team"), Ok(Line::Manage(named)));
        assert_eq!(understand("/requests"), Ok(Line::Requests));
        let both = vec![user("bob"), user("eve")];
        assert_eq!(understand("/requests accept @bob, eve"), Ok(Line::Answer(both, true)));
        assert_eq!(understand("/requests decline bob"), Ok(Line::Answer(vec![user("bob")], false)));
        let versions = GroupAction::KeepVersions { on: true };
        assert_eq!(understand("/set versions on"), Ok(Line::Manage(versions)));
        assert!(understand("/set versions").is_err() && understand("/set versions on now").is_err());
        let keeps = GroupAction::SetRetention(Retention { age_ms: 7 * 86_400_000, count: 0 });
        assert_eq!(understand("/set keep 7"), Ok(Line::Manage(keeps)));
        let team = || "team".parse().expect("a group");
        assert_eq!(understand("/join #team"), Ok(Line::Join(team(), None)));
        let code = "abcd-efgh".parse().expect("a code");
        assert_eq!(understand("/join team ABCD EFGH"), Ok(Line::Join(team(), Some(code))));
        assert!(understand("/join").is_err() && understand("/join team U").is_err());
        let block = UserAction::Block { user: user("bob") };
        assert_eq!(understand("/my block @bob"), Ok(Line::People(block)));
        let request = UserAction::RequestFriend { user: user("bob"), text: Blob::from("it is me") };
        assert_eq!(understand("/my friend bob it is me"), Ok(Line::People(request)));
        assert_eq!(
            (understand("/my delete 3"), understand("/my clear")),
            (Ok(Line::Delete(3)), Ok(Line::Clear))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(understand("/dm"), Err("write /dm USER".to_owned()));
        for wrong in ["/my", "/my delete", "/my delete it", "/my block", "/my block a b", "/my own"] {
            assert_eq!(understand(wrong), Err(MY.to_owned()), "{wrong}");
        }
        assert!(understand("/recall it").is_err() && understand("/edit").is_err());
        assert_eq!(understand("/remove"), Err("write /remove USER…".to_owned()));
        for line in [
            "/set",
            "/set keep",
            "/set keep long",
            "/set bob",
            "/set mute",
            "/set mute bob soon",
            "/set owner bob cat",
            "/set admin bob 3",
        ] {
            assert!(understand(line).is_err_and(|text| text.starts_with("write /set")), "{line}");
        }
        for line in ["/requests accept", "/requests eve"] {
            assert_eq!(understand(line), Err(REQUESTS.to_owned()), "{line}");
        }
        assert!(understand("/dn bob").is_err_and(|text| text.contains("/help")));
        assert!(understand(&format!("/dm {}", "x".repeat(65))).is_err());
    }

    #[test]
    fn commands_are_completed_when_there_is_one() {
        assert_eq!(complete("/g").as_deref(), Some("/group "));
        assert_eq!(complete("/"), None);
        assert_eq!(complete("/x"), None);
    }
}
