//! Texts shown over the history until a key is pressed.

use rookery_client::wire::versions::VersionsPage;

use super::words::{COMMANDS, KEYS};
use super::wrap::{columns, harmless};

/// Versions shown by `/versions`.
pub(super) const VERSIONS_SHOWN: u32 = 20;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Popup {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
}

/// Keys and commands.
pub(super) fn help() -> Popup {
    let commands = COMMANDS.iter().map(|(name, arguments, does)| (format!("{name} {arguments}"), *does));
    let keys = KEYS.iter().map(|(key, does)| ((*key).to_owned(), *does));
    let line = |(what, does): (String, &str)| {
        let pad = " ".repeat(19usize.saturating_sub(columns(&what)));
        format!("{what}{pad} {does}")
    };
    let lines = commands.map(line).chain([String::new()]).chain(keys.map(line)).collect();
    Popup { title: "Keys and commands".to_owned(), lines }
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
    Popup { title: format!("Message {}", page.seq), lines }
}
