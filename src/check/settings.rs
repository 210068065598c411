//! What the own cluster's configuration says beyond its addresses.
//!
//! Owns the settings of a run for snapshots and the form of `--set`. Whether a key exists and what it may be is judged
//! by the nodes, which refuse to start and say why.

use std::collections::BTreeMap;

/// With these a node that was away for half a second finds that the others have purged what it lacks, and actors are
/// loaded again and again.
const SHORT_MEMORY: [(&str, &str, &str); 3] = [
    ("storage", "log_keep", "20"),
    ("storage", "checkpoint_ms", "200"),
    ("limits", "resident_idle_ms", "1000"),
];

/// What is to go is to go while the run lasts.
const OFTEN: (&str, &str, &str) = ("storage", "retention_sweep_ms", "500");

/// One key of the configuration and its value, in TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    section: String,
    key: String,
    value: String,
}

/// Reads `section.key=value`.
pub(super) fn parse(text: &str) -> Result<Setting, String> {
    let parts = text.split_once('=').and_then(|(name, value)| Some((name.split_once('.')?, value)));
    let Some(((section, key), value)) = parts else {
        return Err("not section.key=value, such as storage.log_keep=50".to_owned());
    };
    let [section, key, value] = [section, key, value].map(|part| part.trim().to_owned());
    Ok(Setting { section, key, value })
}

/// The sections as they stand in the file; a later setting of a key counts.
pub(super) fn text(snapshots: bool, more: &[Setting]) -> String {
    let mut sections: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (section, key, value) in SHORT_MEMORY.into_iter().filter(|_| snapshots).chain([OFTEN]) {
        sections.entry(section).or_default().insert(key, value);
    }
    for Setting { section, key, value } in more {
        sections.entry(section).or_default().insert(key, value);
    }
    let mut text = String::new();
    for (section, keys) in sections {
        text += &format!("[{section}]\n");
        keys.into_iter().for_each(|(key, value)| text += &format!("{key} = {value}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{parse, text};

    #[test]
    fn each_section_stands_once_and_the_last_setting_counts() {
        assert_eq!(text(false, &[]), "[storage]\nretention_sweep_ms = 500\n");
        let set = ["storage.settle_lag_mib=7", "log.level = \"warn\"", "storage.log_keep=5"];
        let set: Vec<_> = set.iter().map(|text| parse(text).unwrap()).collect();
        assert_eq!(
            text(true, &set),
            "[limits]\nresident_idle_ms = 1000\n[log]\nlevel = \"warn\"\n\
             [storage]\ncheckpoint_ms = 200\nlog_keep = 5\nretention_sweep_ms = 500\nsettle_lag_mib = 7\n"
        );
        for wrong in ["", "log_keep=5", "storage.log_keep", "storage"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
