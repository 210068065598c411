//! Texts shown over the history until a key is pressed.

use rookery_client::InviteCode;
use rookery_client::wire::group::{Group, RolePage};
use rookery_client::wire::join::{CodePage, RequestPage};
use rookery_client::wire::live::ReceiptPage;
use rookery_client::wire::own::{DevicePage, RelationPage};
use rookery_client::wire::versions::VersionsPage;
use rookery_client::wire::{Blob, SessionId};

use super::commands::{Command, KEYS, TOPICS};
use super::wrap::{columns, harmless};
use crate::cli::group_words::{policy_words, retention_words, role_word, until_words};
use crate::cli::own::device_words;
use crate::cli::people::relation_words;

/// Versions shown by `/versions`.
pub(super) const VERSIONS_SHOWN: u32 = 20;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Popup {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    /// Rows scrolled down; the view brings it back to what there is.
    pub(super) top: usize,
}

impl Popup {
    pub(super) fn new(title: impl Into<String>, lines: Vec<String>) -> Self {
        Self { title: title.into(), lines, top: 0 }
    }

    /// One that says so when there is nothing to be listed.
    fn listing(title: &str, lines: Vec<String>, more: bool, none: &str) -> Self {
        let mut lines: Vec<String> = lines.iter().map(|line| harmless(line).replace('\n', " ")).collect();
        if lines.is_empty() {
            lines.push(format!("({none})"));
        }
        lines.extend(more.then(|| "… and more".to_owned()));
        Self::new(title, lines)
    }
}

/// Keys and commands: all of them, those of a topic, or those whose names begin so. None if there are none.
pub(super) fn help(about: &str) -> Option<Popup> {
    let of = |commands: &[&Command]| -> Vec<String> {
        commands.iter().map(|command| line(&command.usage(), command.does)).collect()
    };
    let about = about.trim();
    if !about.is_empty() {
        let topic = TOPICS.iter().find(|topic| topic.name == about);
        let named = |command: &&Command| {
            command.name.strip_prefix(about).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let mut found: Vec<&Command> = topic.iter().flat_map(|topic| topic.commands).collect();
        if found.is_empty() {
            found = TOPICS.iter().flat_map(|topic| topic.commands).filter(named).collect();
        }
        let title = topic.map_or_else(|| format!("/{about}"), |topic| topic.title.to_owned());
        return (!found.is_empty()).then(|| Popup::new(title, of(&found)));
    }
    let mut lines = Vec::new();
    for topic in TOPICS {
        lines.push(format!("── {} (/help {})", topic.title, topic.name));
        lines.extend(of(&topic.commands.iter().collect::<Vec<_>>()));
    }
    lines.push("── Keys".to_owned());
    lines.extend(KEYS.iter().map(|(key, does)| line(key, does)));
    Some(Popup::new("Keys and commands", lines))
}

/// What stands before the words that say what it does, columns.
const NAMES: usize = 25;

fn line(what: &str, does: &str) -> String {
    format!("{what}{} {does}", " ".repeat(NAMES.saturating_sub(columns(what))))
}

/// What a message says and said, the newest first.
pub(super) fn versions(page: &VersionsPage) -> Popup {
    let line = |version: &rookery_client::wire::versions::VersionLine| {
        if version.is_lost() {
            return format!("{} (the cluster has lost it)", version.number);
        }
        let text = match std::str::from_utf8(version.content.as_ref()) {
            Ok(text) => harmless(text),
            Err(_) => format!("({} bytes)", version.content.len()),
        };
        let time = crate::cli::record::clock(version.time_ms);
        format!("{} {time} {}: {text}", version.number, harmless(version.by.as_str()))
    };
    let mut lines: Vec<String> = page.versions.iter().map(line).collect();
    if page.versions.len() == 1 {
        let kept = if page.kept { "it was not edited since that is kept" } else { "edits are not kept here" };
        lines.push(format!("({kept})"));
    }
    if page.more {
        lines.push("…".to_owned());
    }
    Popup::new(format!("Message {}", page.seq), lines)
}

/// Who has read a message, and who has not.
pub(super) fn receipts(seq: u64, read: &ReceiptPage, unread: &ReceiptPage) -> Popup {
    let mut lines = Vec::new();
    if let Some(counts) = read.counts {
        let hidden =
            if counts.hidden > 0 { format!(", {} do not show it", counts.hidden) } else { String::new() };
        lines.push(format!("{} have read it, {} have not{hidden}", counts.read, counts.unread));
    }
    let names = |page: &ReceiptPage| -> Vec<String> {
        page.users.iter().map(|line| harmless(line.user.as_str())).collect()
    };
    let more = |page: &ReceiptPage| if page.next.is_some() { " …" } else { "" };
    for (what, page) in [("read by", read), ("not read by", unread)] {
        let names = names(page);
        if !names.is_empty() {
            lines.push(format!("{what} {}{}", names.join(", "), more(page)));
        }
    }
    if !read.unresolved.is_empty() {
        lines.push(format!("({} could not be asked)", read.unresolved.len()));
    }
    Popup::new(format!("Message {seq}"), lines)
}

/// How a group is set, or a direct session is kept.
pub(super) fn info(group: &Group, keeps_versions: bool) -> Popup {
    let shown = |blob: &Blob| harmless(&String::from_utf8_lossy(blob.as_ref())).replace('\n', " ");
    let versions = if keeps_versions { "is kept" } else { "is not kept" };
    let mut lines = Vec::new();
    if matches!(group.session, SessionId::Group(_)) {
        if !group.name.is_empty() {
            lines.push(format!("name {}", shown(&group.name)));
        }
        if !group.avatar.is_empty() {
            lines.push(format!("avatar {}", shown(&group.avatar)));
        }
        for (key, value) in &group.attributes {
            lines.push(format!("{} {}", harmless(key.as_str()), shown(value)));
        }
        let owner = group.owner.as_ref().map_or("nobody", |owner| owner.as_str());
        lines.push(format!("{} members, owned by {}", group.members, harmless(owner)));
        if let Some(role) = group.role {
            lines.push(format!("you are: {}", role_word(role)));
        }
        lines.push(policy_words(group.policy));
        if group.mute_all {
            lines.push("everybody but admins and the owner is muted".to_owned());
        }
        if group.muted_until_ms > 0 {
            lines.push(format!("you are muted {}", until_words(group.muted_until_ms)));
        }
    }
    lines.push(retention_words(group.retention));
    lines.push(format!("what is said before an edit {versions}"));
    Popup::new(harmless(&group.session.to_string()), lines)
}

/// Who in a group is more or less than a plain member.
pub(super) fn roles(page: &RolePage) -> Popup {
    let line = |line: &rookery_client::wire::group::RoleLine| {
        let muted = match line.muted_until_ms {
            0 => String::new(),
            until_ms => format!(", muted {}", until_words(until_ms)),
        };
        format!("{} {}{muted}", line.user, role_word(line.role))
    };
    Popup::listing("Roles", page.roles.iter().map(line).collect(), page.more, "all are plain members")
}

/// A code that was made; nobody can show it again.
pub(super) fn code(session: &SessionId, code: &InviteCode, number: u64, uses: u32, until_ms: u64) -> Popup {
    let group = match session {
        SessionId::Group(group) => group.to_string(),
        direct @ SessionId::Direct { .. } => direct.to_string(),
    };
    let lines = vec![
        code.to_string(),
        format!("lets in {uses}, good {}; it is not shown again", until_words(until_ms)),
        format!("/join {} CODE uses it, /revoke {number} takes it back", harmless(&group)),
    ];
    Popup::new("Code of invitation", lines)
}

/// The codes there are.
pub(super) fn codes(page: &CodePage) -> Popup {
    let line = |line: &rookery_client::wire::join::CodeLine| {
        let until = until_words(line.until_ms);
        format!("{} by {}, {} of {} used, good {until}", line.id, line.maker, line.used, line.uses)
    };
    Popup::listing("Codes of invitation", page.codes.iter().map(line).collect(), page.more, "there are none")
}

/// Who is kept out.
pub(super) fn barred(page: &RequestPage) -> Popup {
    let names = page.requests.iter().map(|line| line.user.to_string()).collect();
    Popup::listing("Kept out", names, page.more, "nobody")
}

/// How the user stands to others.
pub(super) fn relations(page: &RelationPage) -> Popup {
    let lines = page.relations.iter().map(relation_words).collect();
    Popup::listing("People", lines, page.more, "nobody")
}

/// The user's devices.
pub(super) fn devices(page: &DevicePage) -> Popup {
    let mut popup =
        Popup::listing("Your devices", page.devices.iter().map(device_words).collect(), page.more, "none");
    popup.lines.push("/my end DEVICE ends one".to_owned());
    popup
}
