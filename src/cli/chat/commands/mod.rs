//! What a person means by a line: a message, or a command that begins with a slash.
//!
//! Every command is a line of a table: its name (`set mute`, which is written `/set mute`), its arguments, what it does in a
//! few words, and the function that reads the arguments. That one says what is wrong with them, or gives the [`Deed`] that
//! the chat then does; it never looks at the chat itself, so that a line that makes no sense changes nothing.

mod group;
mod own;
mod people;
mod talk;
mod words;

use self::words::{Words, Wrong};
use super::state::Chat;

/// What a line comes to.
pub(super) type Deed = Box<dyn FnOnce(&mut Chat)>;

/// A line that was read.
type Parsed = Result<Deed, Wrong>;

/// A command.
pub(super) struct Command {
    /// One word or two, without the slash.
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
    pub(super) does: &'static str,
    read: for<'a> fn(Words<'a>) -> Parsed,
}

/// Commands that belong together.
pub(super) struct Topic {
    /// What `/help` calls it.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) commands: &'static [Command],
}

/// All of them, in the order in which they are shown.
pub(super) const TOPICS: &[Topic] = &[
    Topic { name: "talk", title: "Talking", commands: talk::COMMANDS },
    Topic { name: "session", title: "The open session, for you alone", commands: own::SESSION },
    Topic { name: "group", title: "The open group", commands: group::COMMANDS },
    Topic { name: "join", title: "Coming into groups", commands: group::DOOR },
    Topic { name: "people", title: "People", commands: people::COMMANDS },
    Topic { name: "device", title: "Your devices", commands: own::DEVICES },
    Topic { name: "chat", title: "This chat", commands: talk::CHAT },
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

const fn command(
    name: &'static str,
    arguments: &'static str,
    does: &'static str,
    read: for<'a> fn(Words<'a>) -> Parsed,
) -> Command {
    Command { name, arguments, does, read }
}

impl Command {
    /// As it is written.
    pub(super) fn usage(&self) -> String {
        format!("/{} {}", self.name, self.arguments).trim_end().to_owned()
    }

    /// What stands behind its name, if the line is of this command.
    fn of<'a>(&self, line: &'a str) -> Option<&'a str> {
        let mut rest = line.trim_start();
        for word in self.name.split(' ') {
            rest = rest.strip_prefix(word)?;
            if !(rest.is_empty() || rest.starts_with(char::is_whitespace)) {
                return None;
            }
            rest = rest.trim_start();
        }
        Some(rest)
    }
}

fn commands() -> impl Iterator<Item = &'static Command> {
    TOPICS.iter().flat_map(|topic| topic.commands)
}

/// A deed, boxed.
#[allow(clippy::unnecessary_wraps, reason = "it ends the functions of the table, which may refuse")]
fn does(deed: impl FnOnce(&mut Chat) + 'static) -> Parsed {
    Ok(Box::new(deed))
}

/// Understands a line; `Err` says what is wrong with it. A second slash makes a message that begins with one.
pub(super) fn understand(line: &str) -> Result<Deed, String> {
    let message = |text: &str| -> Result<Deed, String> {
        let text = text.to_owned();
        Ok(Box::new(move |chat: &mut Chat| chat.send(text, rookery_client::Goes::Never)))
    };
    let Some(typed) = line.strip_prefix('/') else { return message(line) };
    if typed.starts_with('/') {
        return message(typed);
    }
    let found = commands().filter_map(|command| Some((command, command.of(typed)?)));
    let Some((command, rest)) = found.max_by_key(|(command, _)| command.name.len()) else {
        return Err(unknown(typed));
    };
    (command.read)(Words::new(rest)).map_err(|wrong| match wrong {
        Wrong::Usage => format!("write {}: {}", command.usage(), command.does),
        Wrong::Said(text) => text,
    })
}

/// What to write instead.
fn unknown(typed: &str) -> String {
    let first = typed.split_whitespace().next().unwrap_or("");
    let of_first = || commands().filter_map(|command| command.name.strip_prefix(first)?.strip_prefix(' '));
    if of_first().next().is_none() {
        return format!("no command /{first}; /help shows them");
    }
    let words: Vec<&str> = of_first().collect();
    format!("write /{first} and one of: {}; /help {first} says what they do", words.join(", "))
}

/// The line as far as it can only be meant: a whole command, or what those that fit have in common.
pub(super) fn complete(line: &str) -> Option<String> {
    let fitting: Vec<String> = commands()
        .map(|command| format!("/{}", command.name))
        .filter(|name| name.starts_with(line))
        .collect();
    let (first, others) = fitting.split_first()?;
    if others.is_empty() {
        return Some(format!("{first} "));
    }
    let same = |other: &String| first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let common = others.iter().map(same).min().unwrap_or(0);
    (common > line.len()).then(|| first[..common].to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Command, TOPICS, commands, complete, understand};

    fn wrong(line: &str) -> String {
        understand(line).err().unwrap_or_else(|| panic!("{line} is understood"))
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(wrong("/dm"), "write /dm USER: open the conversation with a user");
        for line in ["/my", "/my delete", "/my delete it", "/my block", "/my block a b", "/my own"] {
            assert!(wrong(line).starts_with("write /my"), "{line}: {}", wrong(line));
        }
        assert!(wrong("/recall it").starts_with("write /recall [N]"));
        assert!(wrong("/recall 1 2").starts_with("write /recall [N]"));
        assert!(wrong("/edit").starts_with("write /edit TEXT"));
        assert!(wrong("/remove").starts_with("write /remove USER…"));
        for line in [
            "/set",
            "/set keep",
            "/set keep long",
            "/set bob",
            "/set mute",
            "/set mute bob soon",
            "/set owner bob cat",
            "/set admin bob 3",
            "/set versions",
            "/set versions on now",
            "/set write everybody",
            "/set dissolve",
        ] {
            assert!(wrong(line).starts_with("write /set"), "{line}: {}", wrong(line));
        }
        for line in ["/requests accept", "/requests eve"] {
            assert!(wrong(line).starts_with("write /requests"), "{line}: {}", wrong(line));
        }
        assert!(wrong("/dn bob").contains("/help"));
        assert!(wrong("/").contains("/help"));
        assert!(wrong(&format!("/dm {}", "x".repeat(65))).contains("xxx"));
        assert!(wrong("/join team U").contains("code"), "{}", wrong("/join team U"));
        assert!(wrong("/join").starts_with("write /join"));
        assert!(wrong("/lasting 5 hello").contains("30s"), "{}", wrong("/lasting 5 hello"));
        assert!(wrong("/lasting 0s hello").contains("10 years"));
        assert!(wrong("/burning 5s").starts_with("write /burning"));
        assert!(wrong("/leave now").starts_with("write /leave"));
    }

    #[test]
    fn names_are_whole_words_and_the_longest_one_counts() {
        assert!(wrong("/members2").starts_with("no command"));
        assert!(understand("/my  unpin ").is_ok());
        assert!(understand("//my own words").is_ok() && understand("hello /dm").is_ok());
    }

    #[test]
    fn commands_are_completed_when_there_is_one() {
        assert_eq!(complete("/g").as_deref(), Some("/group "));
        assert_eq!(complete("/"), None);
        assert_eq!(complete("/x"), None);
        assert_eq!(complete("/my unp").as_deref(), Some("/my unpin "));
        assert_eq!(complete("/my rem").as_deref(), Some("/my remark "));
        assert_eq!(complete("/set un").as_deref(), None, "unmute and unbar part here");
        assert_eq!(complete("/set mu").as_deref(), Some("/set mute"), "and perhaps mute-all");
    }

    #[test]
    fn the_table_is_one_that_can_be_shown() {
        let mut names: Vec<&str> = commands().map(|command| command.name).collect();
        names.sort_unstable();
        let whole = names.len();
        names.dedup();
        assert_eq!(names.len(), whole, "a name stands for one command");
        assert!(TOPICS.iter().all(|topic| !topic.commands.is_empty()));
        for Command { name, arguments, does, .. } in commands() {
            assert!(name.split(' ').count() <= 2 && !does.ends_with('.') && !does.is_empty(), "{name}");
            assert!(name.len() + arguments.chars().count() < 28 && does.chars().count() <= 60, "{name}");
        }
    }
}
