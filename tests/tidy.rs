//! Style as a test: what a reviewer would otherwise have to say again and again.
//!
//! Walks the sources with the standard library alone. Judges code, not prose: comments and the insides of string
//! literals are blanked before anything is looked for, except where the rule is about the whole file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking and says why on the terminal"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines a source file may have; most should have less than half of it.
const MOST_LINES: usize = 600;

/// The arrows of ARCHITECTURE.md: what a module under `src/` may import of the others there. A module that is missing
/// here is a mistake of whoever added it; `node`, `cli` and the commands stand above all and are not listed.
const ARROWS: &[(&str, &[&str])] = &[
    ("state", &[]),
    ("delivery", &[]),
    ("status", &[]),
    ("config", &[]),
    ("identity", &["config"]),
    ("shard", &["state", "delivery"]),
    ("router", &["shard", "state", "delivery", "system"]),
    ("stage", &["shard"]),
    ("system", &["shard"]),
    ("gateway", &["router", "shard", "state", "delivery", "identity", "config", "system"]),
];
/// Leaves that any layer may use.
const LEAVES: &[&str] = &["plant"];
/// What stands above the arrows: the wiring, and the program's commands.
const ABOVE: &[&str] = &["bench", "check", "cli", "demo", "fleet", "http", "main", "node", "terminal"];

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = sources(&["src", "raft", "wire", "client", "tests", "benches"])
        .iter()
        .map(|file| (file, read(file).lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(file, lines)| {
            format!("{}: {lines} lines, at most {MOST_LINES}; one idea per file", shown(file))
        })
        .collect();
    nothing(long);
}

#[test]
fn the_layers_do_not_name_each_other() {
    let mut wrong = Vec::new();
    let mut ban = |folder: &str, names: &[&str], why: &str| {
        for file in sources(&[folder]) {
            let code = code_of(&read(&file));
            for (at, word) in words(&code) {
                if names.contains(&word) {
                    wrong.push(format!("{}:{}: `{word}`: {why}", shown(&file), line_of(&code, at)));
                }
            }
        }
    };
    ban(
        "src",
        &["openraft", "openraft_rt_tokio", "sled"],
        "only raft/ knows the log's library and the database",
    );
    ban("raft", &["rookery_wire", "rookery_client", "rookery"], "raft/ knows nothing of chat");
    ban("wire", &["rookery_raft", "rookery_client", "rookery"], "the wire format is a leaf");
    ban("client", &["rookery_raft", "rookery"], "the client knows frames and nothing of the server");
    nothing(wrong);
}

#[test]
fn the_client_brings_no_server_with_it() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-p", "rookery-client", "-e", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("text");
    let packages: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(packages.contains("tokio"), "the list is not what it seems:\n{tree}");
    let unwanted = |name: &&&str| ["actix", "openraft", "sled", "rookery", "rookery-raft"].contains(*name);
    nothing(
        packages.iter().filter(unwanted).map(|name| format!("rookery-client depends on {name}")).collect(),
    );
}

#[test]
fn state_is_a_function_of_its_input() {
    let banned = [
        "HashMap",
        "HashSet",
        "DashMap",
        "RandomState",
        "Instant",
        "SystemTime",
        "chrono",
        "rand",
        "getrandom",
        "tokio",
        "actix",
        "fs",
        "net",
        "thread",
        "rookery_raft",
    ];
    let mut wrong = Vec::new();
    for file in sources(&["src/state"]).iter().filter(|file| !is_test(file)) {
        let code = code_of(&read(file));
        for (at, word) in words(&code) {
            if banned.contains(&word) {
                wrong.push(format!("{}:{}: `{word}`", shown(file), line_of(&code, at)));
            }
        }
    }
    nothing(wrong);
}

#[test]
fn arrows_run_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let modules: BTreeSet<&str> =
        ARROWS.iter().map(|(name, _)| *name).chain(ABOVE.iter().chain(LEAVES).copied()).collect();
    let mut wrong = Vec::new();
    for file in sources(&["src"]).iter().filter(|file| !is_test(file)) {
        let Some(module) = module_of(file).filter(|module| module != "lib") else { continue };
        if !modules.contains(module.as_str()) {
            wrong.push(format!(
                "{}: module `{module}` has no place among the arrows; give it one",
                shown(file)
            ));
            continue;
        }
        let above = ABOVE.contains(&module.as_str());
        let may = allowed.get(module.as_str()).copied().unwrap_or_default();
        for import in imports(&code_of(&read(file))) {
            let listed = may.contains(&import.as_str()) || LEAVES.contains(&import.as_str());
            if !above && import != module && modules.contains(import.as_str()) && !listed {
                wrong.push(format!("{}: `{module}` imports `{import}`", shown(file)));
            }
        }
    }
    nothing(wrong);
}

#[test]
fn every_file_is_reached() {
    let mut wrong = Vec::new();
    for (folder, roots) in [
        ("src", &["lib.rs", "main.rs"][..]),
        ("raft/src", &["lib.rs"]),
        ("wire/src", &["lib.rs"]),
        ("client/src", &["lib.rs"]),
    ] {
        let mut reached = BTreeSet::new();
        let mut next: Vec<PathBuf> = roots.iter().map(|name| root().join(folder).join(name)).collect();
        while let Some(file) = next.pop() {
            if file.exists() && reached.insert(file.clone()) {
                next.extend(children(&file));
            }
        }
        let dead = sources(&[folder]).into_iter().filter(|file| !reached.contains(file));
        wrong.extend(
            dead.map(|file| format!("{}: no `mod` line leads here; delete it or use it", shown(&file))),
        );
    }
    nothing(wrong);
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else {
        // A source archive has no list of tracked files; the check belongs to the repository.
        return;
    };
    // Put together here, so that this file does not contain what it looks for.
    let banned: Vec<String> = ["work", "root", "home"].iter().map(|top| format!("/{top}/")).collect();
    let mut wrong = Vec::new();
    for name in
        String::from_utf8(listed.stdout).expect("names are text").split('\0').filter(|name| !name.is_empty())
    {
        let Ok(text) = std::fs::read_to_string(root().join(name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let absolute =
                |path: &String| line.match_indices(path.as_str()).any(|(at, _)| begins_a_path(line, at));
            if banned.iter().any(absolute) {
                wrong.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    nothing(wrong);
}

/// docs/features.md names the tests that show each feature, in the last cell of its row.
#[test]
fn every_feature_is_shown_by_tests_that_exist() {
    let page = read(&root().join("docs/features.md"));
    let all: String =
        sources(&["src", "raft", "wire", "client", "tests"]).iter().map(|file| read(file)).collect();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let mut wrong = Vec::new();
    for row in rows.filter(|row| !row.starts_with("feature ")) {
        let tests: Vec<&str> = row.rsplit(" | ").next().unwrap_or("").split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            wrong.push(format!("no test shows: {row}"));
        }
        let dead = tests.iter().filter(|test| !all.contains(&format!("fn {test}()")));
        wrong.extend(dead.map(|test| format!("there is no test {test}")));
    }
    nothing(wrong);
}

#[test]
fn the_rules_see_what_they_look_for() {
    let source = "//! openraft\nuse sled::Db; /* sled /* sled */ */ let a = \"sled\"; let b = 'x'; // sled\nlet c = r#\"sled\"#;";
    let code = code_of(source);
    let found = words(&code).filter(|(_, word)| *word == "sled").map(|(at, _)| line_of(&code, at));
    assert_eq!(found.collect::<Vec<_>>(), [2]);
    let both = "use crate::{gateway::Gateway, shard};\nfn f() -> crate::router::Router {}";
    assert_eq!(imports(both), ["gateway", "shard", "router"].map(str::to_owned).into());
    assert!(begins_a_path(" /x/y", 1) && !begins_a_path("a/x/y", 1));
    let lifetimes = code_of("fn f<'a>(x: &'a str) { g('\"'); sled(); h('\\''); sled() }");
    assert_eq!(words(&lifetimes).filter(|(_, word)| *word == "sled").count(), 2);
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|fault| panic!("{}: {fault}", file.display()))
}

/// Fails with everything that was found, so that one run is enough to mend it.
fn nothing(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every `.rs` file under the folders, in order; build output aside.
fn sources(folders: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = next.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten().map(|entry| entry.path()) {
            if entry.is_dir() {
                if entry.file_name().is_none_or(|name| name != "target") {
                    next.push(entry);
                }
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }
    assert!(!found.is_empty(), "no sources under {folders:?}");
    found.sort();
    found
}

fn is_test(file: &Path) -> bool {
    let inside = |part: &std::ffi::OsStr| part == "tests";
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem == "tests" || stem.ends_with("_tests") || file.iter().any(inside)
}

/// The module right under `src/` to which a file belongs.
fn module_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(root().join("src")).ok()?;
    let first = Path::new(inside.iter().next()?);
    Some(first.file_stem()?.to_str()?.to_owned())
}

/// The top-level names that follow `crate::`, grouped imports included.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_names(group)),
            None => found.extend(words(rest).next().map(|(_, word)| word.to_owned())),
        }
    }
    found
}

/// The first name of each part of `a::b, c::{d, e}}…`.
fn group_names(group: &str) -> Vec<String> {
    let (mut depth, mut fresh, mut names) = (0, true, Vec::new());
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && (char.is_alphanumeric() || char == '_') => {
                names.extend(words(&group[at..]).next().map(|(_, word)| word.to_owned()));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// Files that the `mod x;` lines of a file name. Both of the places a module can lie in are given.
fn children(file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().expect("a folder");
    let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("a name");
    let home = if ["lib", "main", "mod"].contains(&stem) { folder.to_owned() } else { folder.join(stem) };
    let mut found = Vec::new();
    let mut elsewhere = None;
    for line in read(file).lines().map(str::trim) {
        if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            elsewhere = Some(folder.join(path));
            continue;
        }
        let Some(before) = line.strip_suffix(';') else { continue };
        let mut parts = before.split_whitespace().skip_while(|part| *part != "mod");
        if let (Some(_), Some(name), None) = (parts.next(), parts.next(), parts.next()) {
            match elsewhere.take() {
                Some(path) => found.push(path),
                None => found.extend([home.join(format!("{name}.rs")), home.join(name).join("mod.rs")]),
            }
        }
    }
    found
}

/// Whether the slash at `at` begins a path instead of going on with one.
fn begins_a_path(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|before: char| before.is_alphanumeric() || "_-./}{*~>".contains(before))
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Identifiers and numbers with their places.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let part = |char: char| !(char.is_alphanumeric() || char == '_');
    code.split(part)
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

/// The source with comments and the insides of literals blanked; line breaks stay, so that lines keep their numbers.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = comment(rest).or_else(|| literal(rest, code.chars().last())).unwrap_or(0);
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|char| if char == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

fn literal(rest: &str, before: Option<char>) -> Option<usize> {
    let bytes = rest.as_bytes();
    let begins_word = before.is_none_or(|before| !(before.is_alphanumeric() || before == '_'));
    if begins_word && (bytes[0] == b'r' || rest.starts_with("br")) {
        let opening = rest.find(|char: char| char != 'b' && char != 'r' && char != '#')?;
        let hashes = rest[..opening].matches('#').count();
        if bytes[opening] != b'"' {
            return None;
        }
        let closing = format!("\"{}", "#".repeat(hashes));
        return Some(
            rest[opening + 1..].find(&closing).map_or(rest.len(), |at| opening + 1 + at + closing.len()),
        );
    }
    let end = match bytes {
        [b'"', ..] => b'"',
        // Not a lifetime: an escape, or a quote right after one character.
        [b'\'', b'\\', ..] => b'\'',
        [b'\'', ..] if rest.chars().nth(2) == Some('\'') => b'\'',
        _ => return None,
    };
    let mut at = 1;
    while at < bytes.len() && bytes[at] != end {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    Some((at + 1).min(rest.len()))
}
