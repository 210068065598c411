//! The sample is valid, mistakes are named with a remedy, and the page says what the code does.

use std::path::Path;

use super::keys::{Kind, Section};
use super::{AuthMode, Config, ConfigError, SAMPLE, SAMPLE_SECRET, SECTIONS};

fn parse(source: &str) -> Result<Config, ConfigError> {
    Config::parse(source, Path::new("cluster.toml"))
}

/// The message for the sample with `from` replaced by `to`.
fn refused(from: &str, to: &str) -> String {
    assert!(SAMPLE.contains(from), "the sample has no {from:?}");
    parse(&SAMPLE.replacen(from, to, 1)).expect_err(to).to_string()
}

#[test]
fn the_sample_is_valid_and_has_three_nodes() {
    let config = parse(SAMPLE).expect("cluster.toml of the repository");
    assert_eq!(config.nodes.len(), 3);
    assert_eq!(config.cluster.secret.expose(), SAMPLE_SECRET);
    assert_eq!(config.client_addrs(), ["127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403"]);
    assert_eq!(config.warnings(), Vec::<String>::new());
    assert_eq!(Config::local(config.nodes.clone()).cluster.replication, 3);
}

#[test]
fn defaults_keep_their_own_bounds() {
    let config = parse(SAMPLE).expect("sample");
    let text = toml::to_string(&config).expect("serialize").replace("•••", SAMPLE_SECRET);
    // An absent token key is allowed while the mode is open.
    let text = text.replace("secret = \"\"\n", "");
    assert_eq!(parse(&text).expect("defaults written out"), config);
}

#[test]
fn data_folders_start_at_the_file() {
    let config = Config::parse(SAMPLE, Path::new("/etc/rookery/cluster.toml")).expect("sample");
    assert_eq!(config.data_dir(2).expect("node 2"), Path::new("/etc/rookery/rookery-data/node-2"));
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_and_its_line() {
    let message = refused("replication = 3", "replicaton = 3");
    assert!(message.starts_with("cluster.toml:8: "), "{message}");
    assert!(message.contains("cluster.replicaton"), "{message}");
    assert!(message.contains("did you mean cluster.replication?"), "{message}");
    let message = refused("[auth]", "[oauth]");
    assert!(message.contains("no section oauth; did you mean [auth]?"), "{message}");
    let message = refused("name = \"rookery\"", "heartbeat_ms = 50");
    assert!(message.contains("heartbeat_ms belongs into [timing]"), "{message}");
    let message = refused("[cluster]", "frame = 70000\n[cluster]");
    assert!(message.contains("frame belongs into [limits]"), "{message}");
}

#[test]
fn a_key_of_before_is_told_with_those_in_its_place() {
    for (old, new) in [
        ("retention_age_ms", ["retention_direct_age_ms", "retention_group_age_ms"]),
        ("retention_count", ["retention_direct_count", "retention_group_count"]),
    ] {
        let message = refused("[auth]", &format!("[storage]\n{old} = 5000\n[auth]"));
        assert!(message.contains(&format!("storage.{old} is no key any more")), "{message}");
        let [one, other] = new;
        assert!(message.contains(one) && message.contains(other), "{message}");
        let with = |key: &str| SAMPLE.replacen("[auth]", &format!("[storage]\n{key} = 5000\n[auth]"), 1);
        assert!(parse(&with(one)).is_ok() && parse(&with(other)).is_ok());
    }
}

#[test]
fn wrong_values_name_key_value_and_range() {
    let message = refused("shards = 16", "shards = 0");
    assert!(message.contains("cluster.shards is 0; allowed: 1 to 256"), "{message}");
    let message = refused("shards = 16", "shards = \"many\"");
    assert!(message.contains("cluster.shards is the text \"many\"; allowed: 1 to 256"), "{message}");
    let message = refused("mode = \"open\"", "mode = \"opn\"");
    assert!(message.contains("allowed: \"open\" or \"token\""), "{message}");
    let message = refused(&format!("secret = \"{SAMPLE_SECRET}\""), "secret = \"short\"");
    assert!(message.contains("a text of 5 bytes; allowed: a text of 16 to 256"), "{message}");
    assert!(!message.contains("short"), "the secret is not repeated: {message}");
    let message = refused("[auth]", "[timing]\nelection_ms = [300, 150]\n[auth]");
    assert!(message.contains("the first must be less"), "{message}");
    let message = refused("[auth]", "[timing]\nelection_ms = [100, 149]\n[auth]");
    assert!(message.contains("ends at 149: at least three times timing.heartbeat_ms (50)"), "{message}");
    let message = refused("[auth]", "[timing]\nelection_ms = 300\n[auth]");
    assert!(message.contains("timing.election_ms is 300; allowed: [low, high]"), "{message}");
}

#[test]
fn all_problems_are_told_at_once() {
    let source = SAMPLE.replace("shards = 16", "shards = 1000").replace("level = ", "levl = ");
    let message = parse(&source).expect_err("two problems").to_string();
    assert_eq!(message.lines().count(), 2, "{message}");
}

#[test]
fn nodes_that_collide_are_refused() {
    assert!(refused("id = 2", "id = 1").contains("two nodes have id 1"));
    let message = refused("127.0.0.1:7502", "127.0.0.1:7401");
    assert!(message.contains("client of node 1 and peer of node 2 are both 127.0.0.1:7401"), "{message}");
    let message = refused("rookery-data/node-3", "rookery-data/node-1");
    assert!(message.contains("nodes 1 and 3 share the data folder"), "{message}");
    let message = refused("replication = 3", "replication = 5");
    assert!(message.contains("cluster.replication is 5 with 3 nodes"), "{message}");
    let message = refused("peer = \"127.0.0.1:7501\" ", "# ");
    assert!(message.contains("node.peer is missing"), "{message}");
    let message = refused("127.0.0.1:7601", "127.0.0.1");
    assert!(message.contains("http of node 1 is \"127.0.0.1\"; allowed: host:port"), "{message}");
}

#[test]
fn a_reachable_listener_needs_consent_a_token_and_a_secret_of_its_own() {
    let message = refused("127.0.0.1:7401", "0.0.0.0:7401");
    for part in ["insecure_no_tls = true", "auth.mode = \"token\"", "the sample everybody knows"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let source = SAMPLE
        .replace("127.0.0.1:7401", "0.0.0.0:7401")
        .replace("shards = 16", "insecure_no_tls = true")
        .replace(SAMPLE_SECRET, "a secret of our own")
        .replace("mode = \"open\"", "mode = \"token\"\nsecret = \"0123456789abcdef0123456789abcdef\"");
    let config = parse(&source).expect("all remedies taken");
    assert_eq!(config.auth.mode, AuthMode::Token);
    let warnings = config.warnings();
    assert!(warnings[0].contains("node 1 client = 0.0.0.0:7401"), "{warnings:?}");
    assert!(!format!("{config:?}").contains("0123456789abcdef"), "secrets do not print");
}

#[test]
fn token_mode_needs_its_secret() {
    assert!(refused("mode = \"open\"", "mode = \"token\"").contains("auth.secret is missing"));
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    let message = Config::load(Path::new("no/such/cluster.toml")).expect_err("missing").to_string();
    assert!(message.contains("rookery config init no/such/cluster.toml"), "{message}");
}

#[test]
fn broken_toml_names_the_line() {
    let message = refused("shards = 16", "shards = = 16");
    assert!(message.starts_with("cluster.toml:7: not TOML"), "{message}");
}

/// A row of `docs/config.md`: `| key | default | allowed | meaning |`.
fn expected_row(section: &Section, at: usize, defaults: &toml::Table) -> String {
    let key = &section.keys[at];
    let default = match defaults.get(section.name).and_then(|table| table.get(key.name)) {
        _ if key.required => "*required*".to_owned(),
        Some(value) if value.as_str() == Some("") => "none".to_owned(),
        Some(value) => format!("`{value}`"),
        None => panic!("{}.{} has no default", section.name, key.name),
    };
    let default = default.replace("\n", " ");
    let kind: Kind = key.kind;
    format!("| `{}` | {default} | {} | {} |", key.name, kind.allowed(), key.doc.trim())
}

#[test]
fn the_page_has_every_key_default_and_bound() {
    let page = include_str!("../../docs/config.md");
    let defaults = toml::Table::try_from(Config::default()).expect("defaults");
    let mut missing = Vec::new();
    let mut rows = 0;
    for section in SECTIONS {
        let header = if section.many {
            format!("## `[[{}]]`", section.name)
        } else {
            format!("## `[{}]`", section.name)
        };
        if !page.contains(&header) {
            missing.push(header);
        }
        for at in 0..section.keys.len() {
            let row = expected_row(section, at, &defaults);
            rows += 1;
            if !page.lines().any(|line| line == row) {
                missing.push(row);
            }
        }
    }
    assert!(missing.is_empty(), "docs/config.md lacks these lines:\n{}", missing.join("\n"));
    let written = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(written, rows, "docs/config.md has rows for keys that do not exist");
}

#[test]
fn a_content_that_cannot_travel_between_nodes_is_refused() {
    let me = rookery_raft::RaftId { node: 1, store: 1 };
    let entry = rookery_raft::HostOptions::new(me).max_entry as u64;
    let peers = rookery_raft::PeerOptions::new(1, 1, "", std::collections::BTreeMap::new(), Vec::new());
    assert_eq!(super::LARGEST_ENTRY, entry, "the largest entry of the raft crate has moved");
    // An entry travels in a frame with the entry's own header and that of the request around it.
    assert!(super::LARGEST_ENTRY + (64 << 10) <= peers.max_frame as u64);
    let limits = |frame: u64, content: u64| {
        let rest = "queue_bytes = 33554432\nlane_bytes = 67108864\n";
        parse(&format!("{SAMPLE}\n[limits]\nframe = {frame}\ncontent = {content}\n{rest}"))
    };
    let largest = super::LARGEST_CONTENT;
    assert!(limits(8 << 20, largest).is_ok());
    let message = limits(16 << 20, largest + 1).expect_err("larger than an entry").to_string();
    assert!(message.contains(&format!("allowed: 256 to {largest}")), "{message}");
    let small = format!("{SAMPLE}\n[limits]\ncontent = 600000\n[storage]\njournal_segment_mib = 1\n");
    let message = parse(&small).expect_err("larger than a segment").to_string();
    assert!(message.contains("a message must fit half a segment; allowed: 2 or more"), "{message}");
    let message = limits(largest, largest).expect_err("no room in a frame").to_string();
    assert!(message.contains(&format!("allowed: {} or more", largest + 8192)), "{message}");
}

#[test]
fn how_a_session_is_set_fits_a_frame_however_much_that_may_be() {
    let limits = |rest: &str| parse(&format!("{SAMPLE}\n[limits]\nframe = 16384\ncontent = 4096\n{rest}"));
    assert!(limits("").is_ok(), "the smallest frame, with the default bounds");
    let message =
        limits("deletions_per_session = 1000\ndraft_bytes = 8192\n").expect_err("no room").to_string();
    assert!(message.contains("limits.deletions_per_session = 1000"), "{message}");
    assert!(message.contains("allowed: 28240 or more"), "{message}");
}

/// The program's own source, line comments left out, without the configuration itself and without tests.
fn source(folder: &Path, text: &mut String) {
    let entries = std::fs::read_dir(folder).expect("a folder of sources");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !["config", "tests"].contains(&name) {
                source(&path, text);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let source = std::fs::read_to_string(&path).expect("a source file");
            let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                text.push_str(line.trim());
            }
        }
    }
}

/// Whether `section.key` is read: as a field, not as the beginning of a longer name.
fn reads(code: &str, wanted: &str) -> bool {
    code.match_indices(wanted).any(|(at, _)| {
        let next = code[at + wanted.len()..].chars().next();
        !next.is_some_and(|next| next.is_alphanumeric() || next == '_')
    })
}

#[test]
fn every_key_is_read_by_the_program() {
    let mut code = String::new();
    source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut code);
    assert!(reads("limits.page;", "limits.page") && !reads("limits.pages;", "limits.page"));
    // Judged while the configuration is read, and of no meaning afterwards.
    let judged_here = ["cluster.insecure_no_tls"];
    for section in SECTIONS.iter().filter(|section| !section.many) {
        for key in section.keys {
            let name = format!("{}.{}", section.name, key.name);
            assert!(
                reads(&code, &name) || judged_here.contains(&name.as_str()),
                "{name} is declared and documented, and nothing reads it"
            );
        }
    }
}
