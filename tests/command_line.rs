//! The program as a person meets it: real processes, real ports, what is printed and how it exits.

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

#[path = "command_line/help.rs"]
mod help;
#[path = "command_line/measures.rs"]
mod measures;
#[path = "command_line/orphans.rs"]
mod orphans;
#[path = "command_line/readme.rs"]
mod readme;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// No command of these tests may take longer.
const BOUND: Duration = Duration::from_secs(120);

fn rookery(folder: &Path, args: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rookery"))
        .current_dir(folder)
        .args(args)
        .env_remove("ROOKERY_CONFIG")
        .env_remove("ROOKERY_USER")
        .env_remove("ROOKERY_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let end = Instant::now() + BOUND;
    while child.try_wait().expect("wait").is_none() {
        if Instant::now() > end {
            child.kill().expect("kill");
            panic!("{args:?} has not ended within {BOUND:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("output")
}

fn good(folder: &Path, args: &[&str]) -> String {
    let output = rookery(folder, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {}\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The error of a command that must fail with this code, printing nothing on stdout.
fn bad(folder: &Path, args: &[&str], code: i32) -> String {
    let output = rookery(folder, args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(
        output.stdout.is_empty(),
        "{args:?} printed on stdout: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    stderr
}

/// The sample configuration on free ports.
fn configuration(folder: &Path) -> Vec<String> {
    let free = rookery::fleet::free_addresses(9).expect("free ports");
    let mut text = include_str!("../cluster.toml").to_owned();
    for (at, usual) in [7401, 7501, 7601, 7402, 7502, 7602, 7403, 7503, 7603].into_iter().enumerate() {
        text = text.replace(&format!("\"127.0.0.1:{usual}\""), &format!("\"{}\"", free[at]));
    }
    fs::write(folder.join("cluster.toml"), text).expect("write");
    free
}

/// One cluster at a time: two of them on two cores say more about the machine than about the program.
static ONE_CLUSTER: Mutex<()> = Mutex::new(());

/// Stops the cluster of a folder however its test ends.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        rookery(self.0, &["cluster", "down", "--patience", "5"]);
    }
}

#[test]
fn mistakes_are_one_clear_error_with_a_remedy() {
    let temp = tempfile::tempdir().expect("folder");
    let folder = temp.path();
    let missing = bad(folder, &["serve", "--node", "1"], 1);
    assert!(missing.contains("rookery config init cluster.toml"), "{missing}");
    good(folder, &["config", "init"]);
    good(folder, &["config", "check"]);
    assert!(bad(folder, &["config", "init"], 1).contains("cluster.toml"));
    assert!(bad(folder, &["serve", "--node", "9"], 1).contains("no node 9: it has 1, 2, 3"));
    assert!(bad(folder, &["token", "ann"], 1).contains("auth.secret is missing"));
    assert!(bad(folder, &["cluster", "kill", "1"], 1).contains("node 1 is not running"));
    assert!(bad(folder, &["send", "--user", "ann", "@ann", "hi"], 1).contains("two different users"));
    assert!(bad(folder, &["send", "--user", "ann", "bob", "hi"], 1).contains("write @USER"));
    bad(folder, &["explode"], 2);
    // What nodes compare when they meet; whoever upgrades compares it before.
    let version = good(folder, &["--version"]);
    let said = format!("(between nodes: {}; format {})", rookery::node::speaks(), rookery::system::FORMAT);
    assert!(
        version.contains(&said) && version.contains("messages ") && version.lines().count() == 1,
        "{version}"
    );
    let nobody = bad(folder, &["sessions", "--user", "ann", "--seed", "127.0.0.1:1", "--timeout", "1"], 1);
    assert!(nobody.contains("cannot connect as ann to 127.0.0.1:1"), "{nobody}");
    fs::write(folder.join("cluster.toml"), "[cluster]\nshrads = 3\n").expect("write");
    let misspelt = bad(folder, &["config", "check"], 1);
    assert!(
        misspelt.contains("cluster.toml:2: ") && misspelt.contains("did you mean cluster.shards?"),
        "{misspelt}"
    );
}

#[test]
fn a_port_in_use_names_address_and_key() {
    let temp = tempfile::tempdir().expect("folder");
    let free = configuration(temp.path());
    // The client port is taken only when the cluster has formed, which one node alone cannot do.
    let file = temp.path().join("cluster.toml");
    let config = fs::read_to_string(&file).expect("read");
    for (at, key) in [(1, "peer"), (2, "http")] {
        let held = TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = held.local_addr().expect("address").to_string();
        fs::write(&file, config.replace(&format!("\"{}\"", free[at]), &format!("\"{taken}\"")))
            .expect("write");
        let error = bad(temp.path(), &["serve", "--node", "1"], 1);
        assert!(error.contains(&taken) && error.contains(key), "{key}: {error}");
    }
}

#[test]
fn a_cluster_comes_up_talks_loses_a_node_and_goes_down() {
    let temp = tempfile::tempdir().expect("folder");
    let folder = temp.path();
    let _alone = ONE_CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    configuration(folder);
    let _down = Down(folder);
    let table = good(folder, &["cluster", "up"]);
    assert_eq!(table.matches("serving").count(), 3, "{table}");
    // As the demo prints it: the configuration named after the command.
    assert!(
        good(folder, &["cluster", "up", "--config", "cluster.toml"]).contains("serving"),
        "up twice is up"
    );
    let twice = bad(folder, &["serve", "--node", "1"], 1);
    assert!(twice.contains("runs already, as process"), "{twice}");

    good(folder, &["group", "--user", "ann", "create", "team", "bob", "eve"]);
    let ack = good(folder, &["send", "--user", "ann", "#team", "hello there", "--json"]);
    assert!(ack.contains("\"seq\":2"), "{ack}");
    good(folder, &["send", "--user", "bob", "@ann", "psst"]);
    let page = good(folder, &["pull", "--user", "eve", "#team", "--json"]);
    assert!(page.contains("\"text\":\"hello there\""), "{page}");
    assert_eq!(page.lines().count(), 2, "{page}");
    let tail = good(folder, &["tail", "--user", "ann", "--beginning", "-n", "1", "@bob"]);
    assert!(tail.contains("psst"), "{tail}");
    assert!(bad(folder, &["pull", "--user", "sam", "#team"], 1).contains("NOT_MEMBER"));

    groups_are_managed(folder);
    groups_are_joined(folder);
    edits_are_kept(folder);
    what_is_ones_own(folder);
    people_as_they_are(folder);
    the_business_acts(folder);
    good(folder, &["cluster", "kill", "2"]);
    good(folder, &["send", "--user", "ann", "#team", "one of us is gone"]);
    let status = good(folder, &["cluster", "status", "--json"]);
    let board: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(board["nodes"][1]["state"], "down", "{status}");
    assert_eq!(board["nodes"][0]["state"], "running", "{status}");
    good(folder, &["cluster", "up"]);
    let moved = good(folder, &["cluster", "transfer", "1", "2"]);
    assert!(moved.contains("shard 1") && moved.contains("node 2"), "{moved}");
    let moved = good(folder, &["cluster", "transfer", "1", "2"]);
    assert!(moved.contains("node 2 leads shard 1 already, and keeps it"), "{moved}");
    let shards = good(folder, &["cluster", "status", "--shards"]);
    let of_1 =
        shards.lines().skip_while(|line| !line.trim_start().starts_with("shard")).nth(1).expect("a line");
    assert_eq!(of_1.split_whitespace().take(3).collect::<Vec<_>>(), ["1", "2", "2"], "{shards}");
    good(folder, &["cluster", "pause", "3"]);
    assert!(good(folder, &["cluster", "status"]).contains("paused"));
    good(folder, &["cluster", "resume", "3"]);
    let sessions = good(folder, &["sessions", "--user", "eve", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&sessions).expect("JSON");
    assert_eq!(list[0]["session"], "group:team");
    assert_eq!(list[0]["unread"], 2, "{sessions}");
    since_a_mark(folder);

    let down = good(folder, &["cluster", "down"]);
    assert_eq!(down.matches("stopped").count(), 3, "{down}");
    bad_status(folder);
}

/// `rookery sessions --since`.
fn since_a_mark(folder: &Path) {
    let since = |mark: &str| {
        let told = good(folder, &["sessions", "--user", "eve", "--json", "--since", mark]);
        serde_json::from_str::<serde_json::Value>(&told).expect("JSON")
    };
    let whole = since("");
    assert_eq!((&whole["full"], whole["sessions"].as_array().map(Vec::len)), (&true.into(), Some(2)));
    let mark = whole["mark"].as_str().expect("a mark").to_owned();
    let nothing = since(&mark);
    assert_eq!((&nothing["full"], nothing["sessions"].as_array().map(Vec::len)), (&false.into(), Some(0)));
    assert_eq!((&nothing["total"], nothing["left"].as_array().map(Vec::len)), (&2.into(), Some(0)));
    good(folder, &["send", "--user", "ann", "#team", "and now?"]);
    assert_eq!(since(&mark)["sessions"][0]["session"], "group:team");
    let words = good(folder, &["sessions", "--user", "eve", "--since", &mark]);
    assert!(words.contains("1 of 2 sessions, changed; next time: --since "), "{words}");
    assert!(bad(folder, &["sessions", "--user", "ann", "--since", &mark], 1).contains("BAD_REQUEST"));
    assert!(bad(folder, &["sessions", "--user", "eve", "--since", "mark"], 2).contains("hexadecimal"));
}

/// The commands of `rookery session`, `people` and `device`.
fn what_is_ones_own(folder: &Path) {
    let of = |who: &str, command: &str, more: &[&str]| {
        let told = good(folder, &[&[command, "--user", who, "--json"], more].concat());
        serde_json::from_str::<serde_json::Value>(&told).expect("JSON")
    };
    for setting in
        [&["pin", "@bob"][..], &["mute", "@bob", "60"], &["hide", "@bob"], &["draft", "@bob", "so"]]
    {
        assert_eq!(of("ann", "session", setting)["value"], 1, "{setting:?}");
    }
    let list = good(folder, &["sessions", "--user", "ann", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let all = list.as_array().expect("a list");
    let with_bob = all.iter().find(|line| line["session"] == "direct:ann,bob").expect("the session");
    assert_eq!((with_bob["settings"]["draft"].as_str(), with_bob["unread"].as_u64()), (Some("so"), Some(1)));
    assert_eq!(of("ann", "session", &["delete", "@bob", "1"])["value"], 1);
    let page = good(folder, &["pull", "--user", "ann", "@bob", "--json"]);
    assert!(page.contains("\"kind\":\"deleted\"") && !page.contains("psst"), "{page}");
    assert!(good(folder, &["pull", "--user", "bob", "@ann"]).contains("psst"));
    assert!(good(folder, &["session", "--user", "ann", "read-all"]).contains("messages read"));

    assert_eq!(of("ann", "people", &["request", "bob", "it is me"])["state"], "requested");
    assert!(good(folder, &["people", "--user", "bob", "list", "requests"]).contains("ann asks you"));
    assert_eq!(of("bob", "people", &["accept", "ann"])["state"], "friends");
    assert_eq!(of("ann", "people", &["remark", "bob", "Bobby"])["value"], 3);
    assert_eq!(of("ann", "people", &["list", "friends"])["remark"], "Bobby");
    assert_eq!(of("ann", "people", &["block", "eve"])["state"], "none");
    let refused = bad(folder, &["send", "--user", "eve", "@ann", "hi"], 1);
    assert!(refused.contains("REFUSED_BY_PEER"), "{refused}");
    of("ann", "people", &["unblock", "eve"]);
    good(folder, &["send", "--user", "eve", "@ann", "hi"]);
    of("ann", "people", &["strangers", "refuse"]);
    assert!(bad(folder, &["send", "--user", "sam", "@ann", "hi"], 1).contains("REFUSED_BY_PEER"));

    let devices = good(folder, &["device", "--user", "bob", "list"]);
    let first = devices.split_whitespace().next().expect("a device").to_owned();
    good(folder, &["device", "--user", "bob", "--device", "pad", "name", &first, "the old one"]);
    assert!(good(folder, &["device", "--user", "bob", "--device", "pad", "list"]).contains("(the old one)"));
    good(folder, &["device", "--user", "bob", "--device", "pad", "end", &first]);
    let gone = bad(folder, &["device", "--user", "bob", "--device", "pad", "end", &first], 1);
    assert!(gone.contains("no such device"), "{gone}");
}

/// The commands of `rookery group` beside those that change members.
fn groups_are_managed(folder: &Path) {
    let ann = |more: &[&str]| good(folder, &[&["group", "--user", "ann", "--json"], more].concat());
    let changed = ann(&["profile", "team", "--name", "The team"]);
    assert!(changed.contains("\"seq\":3"), "{changed}");
    ann(&["attribute", "team", "colour", "black"]);
    ann(&["role", "team", "bob", "admin"]);
    ann(&["policy", "team", "--invite", "admins"]);
    let info: serde_json::Value = serde_json::from_str(&ann(&["info", "team"])).expect("JSON");
    assert_eq!((&info["name"], &info["owner"]), (&"The team".into(), &"ann".into()), "{info}");
    assert_eq!(
        (&info["attributes"]["colour"], &info["policy"]["invite"]),
        (&"black".into(), &"admins".into())
    );
    assert_eq!(info["policy"]["write"], "all", "what was not named stays");
    ann(&["mute", "team", "eve", "600"]);
    assert!(bad(folder, &["send", "--user", "eve", "#team", "hi"], 1).contains("MUTED"));
    let roles = good(folder, &["group", "--user", "ann", "roles", "team"]);
    assert!(roles.starts_with("ann owner\nbob admin\neve member muted until "), "{roles}");
    ann(&["unmute", "team", "eve"]);
    let page = good(folder, &["pull", "--user", "eve", "#team"]);
    assert!(page.contains("ann: made bob an admin") && page.contains("lets eve write again"), "{page}");
    let page = good(folder, &["pull", "--user", "eve", "#team", "--from", "5", "-n", "1", "--json"]);
    assert!(page.contains("\"kind\":\"group_changed\"") && page.contains("\"set_role\""), "{page}");
    good(folder, &["group", "--user", "bob", "create", "brief"]);
    good(folder, &["group", "--user", "bob", "dissolve", "brief"]);
    assert!(bad(folder, &["send", "--user", "bob", "#brief", "hi"], 1).contains("DISSOLVED"));
}

/// What a message said before it was edited, where that is kept.
fn edits_are_kept(folder: &Path) {
    let bob = |more: &[&str]| good(folder, &[&[more[0], "--user", "bob"], &more[1..]].concat());
    bob(&["group", "create", "draft"]);
    assert_eq!(bob(&["versions", "#draft"]).trim(), "#draft: what is said before an edit is not kept");
    bob(&["group", "keep-versions", "draft", "on"]);
    assert!(bob(&["versions", "#draft", "--json"]).contains(r#""kept":true"#));
    let said: serde_json::Value =
        serde_json::from_str(&bob(&["send", "#draft", "see you at 8", "--json"])).expect("JSON");
    let seq = said["seq"].to_string();
    bob(&["edit", "#draft", &seq, "see you at 9"]);
    let lines = bob(&["versions", "#draft", &seq]);
    let texts: Vec<&str> = lines.lines().filter_map(|line| line.split_once("bob: ").map(|it| it.1)).collect();
    assert_eq!(texts, ["see you at 9", "see you at 8"], "{lines}");
    let lines = bob(&["versions", "#draft", &seq, "--json"]);
    let first: serde_json::Value = serde_json::from_str(lines.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&first["number"], &first["text"], &first["by"]),
        (&1.into(), &"see you at 8".into(), &"bob".into())
    );
    let page = bob(&["pull", "#draft", "--json"]);
    assert!(
        page.contains(r#""version":{"kept":1,"number":2}"#)
            || page.contains(r#""version":{"number":2,"kept":1}"#)
    );
    bob(&["group", "keep-versions", "draft", "off"]);
    assert_eq!(bob(&["versions", "#draft", &seq]).lines().count(), 1);
    assert!(bad(folder, &["versions", "--user", "bob", "#draft", "1"], 1).contains("NO_SUCH_MESSAGE"));
}

/// The ways into a group, and how long a direct session is kept.
fn groups_are_joined(folder: &Path) {
    let bob = |more: &[&str]| good(folder, &[&["group", "--user", "bob"], more].concat());
    let kim = |more: &[&str]| good(folder, &[&["group", "--user", "kim"], more].concat());
    let refused = |more: &[&str]| bad(folder, &[&["group", "--user", "kim"], more].concat(), 1);
    bob(&["create", "club"]);
    assert!(refused(&["join", "club"]).contains("JOIN_CLOSED"));
    bob(&["policy", "club", "--join", "request"]);
    assert!(kim(&["join", "club", "--text", "it is me"]).contains("is asked to let you in"));
    assert_eq!(bob(&["requests", "club"]).trim(), "kim it is me");
    assert!(bob(&["requests", "club", "--json"]).contains(r#""text":"it is me""#));
    kim(&["withdraw", "club"]);
    assert!(refused(&["join", "club"]).contains("ASKED_LATELY"));
    let code = bob(&["invite", "club", "--uses", "2"]);
    let made: serde_json::Value =
        serde_json::from_str(&bob(&["invite", "club", "--age", "60", "--json"])).expect("JSON");
    assert!(kim(&["join", "club", "--code", &code.to_lowercase()]).contains("you are a member"));
    let codes = bob(&["codes", "club"]);
    assert!(codes.contains("1 of 2 used") && codes.lines().count() == 2, "{codes}");
    bob(&["revoke", "club", &made["id"].to_string()]);
    bob(&["remove", "club", "kim"]);
    bob(&["bar", "club", "kim"]);
    assert_eq!(bob(&["requests", "club", "--barred"]).trim(), "kim");
    assert!(refused(&["join", "club", "--code", code.trim()]).contains("BARRED"));
    bob(&["bar", "club", "kim", "--off"]);
    bob(&["policy", "club", "--join", "open"]);
    let joined = good(folder, &["group", "--user", "kim", "join", "club", "--json"]);
    assert!(joined.contains(r#""member":true"#), "{joined}");
    let page = good(folder, &["pull", "--user", "bob", "#club"]);
    assert!(page.contains("kim: asks to join") && page.contains("keeps kim out"), "{page}");
    assert!(!page.contains(code.trim()), "{page}");
}

/// Receipts, ephemeral messages, presence, and messages that do not stay.
fn people_as_they_are(folder: &Path) {
    let read = good(folder, &["receipts", "--user", "bob", "@ann", "1", "--json"]);
    let (counts, reader) = (r#"{"read":1,"unread":0,"hidden":0}"#, r#"{"user":"ann","read_seq":1}"#);
    assert_eq!(read.lines().collect::<Vec<_>>(), [counts, reader], "she has read everything");
    assert!(bad(folder, &["receipts", "--user", "bob", "@ann", "9"], 1).contains("NO_SUCH_MESSAGE"));
    good(folder, &["ephemeral", "--user", "ann", "@bob", "--typing"]);
    assert!(bad(folder, &["ephemeral", "--user", "sam", "#team", "hi"], 1).contains("NOT_MEMBER"));
    let seen = good(folder, &["watch", "--user", "ann", "bob", "--once", "--json"]);
    assert!(seen.contains(r#""online":false"#) && seen.contains(r#""user":"bob""#), "{seen}");
    assert!(bad(folder, &["watch", "--user", "ann", "sam", "--once"], 1).contains("NOT_ALLOWED"));
    let seen = good(folder, &["watch", "--user", "ann", "--group", "team", "--once", "--json"]);
    assert!(seen.contains(r#""others":0"#) && seen.contains(r#""whole":true"#), "{seen}");
    assert!(bad(folder, &["watch", "--user", "sam", "--group", "team", "--once"], 1).contains("NOT_MEMBER"));
    good(folder, &["people", "--user", "bob", "privacy", "--presence", "nobody"]);
    let set = good(folder, &["people", "--user", "bob", "privacy", "--json"]);
    assert_eq!(set.trim(), r#"{"receipts":"all","presence":"nobody"}"#);
    assert!(bad(folder, &["watch", "--user", "ann", "bob", "--once"], 1).contains("NOT_ALLOWED"));
    good(folder, &["people", "--user", "bob", "privacy", "--presence", "all"]);
    good(folder, &["send", "--user", "bob", "@ann", "for a moment", "--lasts", "3600"]);
    assert_eq!(good(folder, &["receipts", "--user", "bob", "@ann", "2", "--unread"]).trim(), "ann");
    let page = good(folder, &["pull", "--user", "ann", "@bob", "--from", "2", "--json"]);
    assert!(page.contains(r#""expires_ms":"#), "{page}");
    let proof = good(folder, &["digest", "--user", "ann", "@bob", "--json"]);
    assert!(proof.contains(r#""from_seq":1,"#) && proof.contains(r#""agree":true"#), "{proof}");
    let proof = good(folder, &["digest", "--user", "bob", "#team"]);
    assert!(proof.contains("are those of the cluster"), "{proof}");
    assert!(bad(folder, &["digest", "--user", "sam", "#team"], 1).contains("NOT_MEMBER"));
    good(folder, &["group", "--user", "ann", "retention", "team", "--count", "1000"]);
    assert!(good(folder, &["group", "--user", "bob", "info", "team"]).contains("the last 1000 messages"));
    good(folder, &["group", "--user", "bob", "retention", "@ann", "--count", "500"]);
    assert!(good(folder, &["group", "--user", "ann", "info", "@bob"]).contains("the last 500 messages"));
}

/// The commands of `rookery admin`.
fn the_business_acts(folder: &Path) {
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let admin = |more: &[&str]| good(folder, &[&["admin", "--user", "shop", "--json"], more].concat());
    let (one, again) = (["--key", "u1", "user", "create", "ivy"], ["--key", "u2", "user", "create", "ivy"]);
    let made = parsed(&admin(&one));
    assert_eq!((&made["key"], &made["value"]), (&"u1".into(), &1.into()), "{made}");
    assert_eq!(parsed(&admin(&one)), made, "the first answer again");
    let refused = bad(folder, &[&["admin", "--user", "shop"][..], &again].concat(), 1);
    assert!(refused.contains("not done") && refused.contains("USER_EXISTS"), "{refused}");
    let drawn = parsed(&admin(&["--for", "ivy", "group", "create", "crew", "lee"]));
    assert!(drawn["key"].as_str().is_some_and(|key| key.starts_with("cli-") && key.len() == 36), "{drawn}");
    admin(&["group", "add", "crew", "moe"]);
    admin(&["group", "role", "crew", "lee", "admin"]);
    admin(&["group", "remove", "#crew", "moe"]);
    let roles = good(folder, &["group", "--user", "ivy", "roles", "crew"]);
    assert_eq!(roles, "ivy owner\nlee admin\n");
    let sent = parsed(&admin(&["--key", "order-7", "send", "#crew", "order 7 has left"]));
    assert_eq!((&sent["session"], &sent["seq"]), (&"group:crew".into(), &5.into()), "{sent}");
    let reused = ["admin", "--user", "shop", "--key", "order-7", "send", "#crew", "order 8"];
    assert!(bad(folder, &reused, 1).contains("KEY_REUSED"));
    admin(&["--for", "lee", "send", "@ivy", "from lee"]);
    admin(&["edit", "#crew", "5", "order 7 is there"]);
    admin(&["recall", "direct:ivy,lee", "1"]);
    admin(&["people", "ivy", "block", "lee"]);
    assert_eq!(parsed(&admin(&["people", "ivy", "list"]))["blocked"], true);
    assert!(bad(folder, &["send", "--user", "lee", "@ivy", "hi"], 1).contains("REFUSED_BY_PEER"));
    let devices = admin(&["device", "lee", "list"]);
    let device =
        parsed(devices.lines().next().expect("a device"))["device"].as_str().expect("a name").to_owned();
    assert_eq!(parsed(&admin(&["device", "lee", "end", &device]))["value"], 1);

    let sessions = admin(&["sessions", "ivy"]);
    let names: Vec<_> = sessions.lines().map(|line| parsed(line)["session"].clone()).collect();
    assert_eq!(names, ["direct:ivy,lee", "group:crew"]);
    let export = admin(&["export", "#crew"]);
    let told: Vec<_> = export.lines().map(parsed).collect();
    assert_eq!(told.iter().map(|record| record["seq"].clone()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!((&told[4]["text"], &told[4]["sender"]), (&"order 7 is there".into(), &"shop".into()));
    let rest = admin(&["export", "#crew", "--from", "5"]);
    assert_eq!(rest, export.lines().skip(4).map(|line| format!("{line}\n")).collect::<String>());

    let audit = admin(&["audit"]);
    let lines: Vec<_> = audit.lines().map(parsed).collect();
    let of_order: Vec<_> = lines.iter().filter(|line| line["key"] == "order-7").collect();
    assert_eq!(of_order.len(), 1, "one line for all that is asked under a key: {audit}");
    assert_eq!((&of_order[0]["action"], &of_order[0]["session"]), (&"send".into(), &"group:crew".into()));
    assert_eq!(lines.iter().filter(|line| line["key"] == "u1").count(), 1, "asked for twice");
    let after = lines[lines.len() - 2]["number"].to_string();
    let last = parsed(&admin(&["audit", "--after", &after]));
    assert_eq!((&last["action"], &last["for"]), (&"end_device".into(), &"lee".into()));
    let words = good(folder, &["admin", "--user", "shop", "audit", "-n", "1"]);
    assert!(words.starts_with("1 ") && words.contains(" shop create_user user ivy, key u1"), "{words}");
}

/// A cluster that is down is a failure, although the table is shown.
/// An open loop sends what is due and no more, half of it into direct sessions; what it cannot send it counts and says.
#[test]
fn the_bench_says_which_rate_it_kept() {
    let temp = tempfile::tempdir().unwrap();
    let args = "bench sweep --rates 300,200000 --senders 4 --window 8 --direct 50 --sessions 2 --receivers 1 --size 100 \
                --seconds 1.5 --warmup 0.3 --shards 4 --json --plot sweep.svg";
    let args: Vec<&str> = args.split_whitespace().collect();
    let reports: serde_json::Value = serde_json::from_str(&good(temp.path(), &args)).expect("JSON");
    let of =
        |at: usize, name: &str| reports[at][name].as_u64().unwrap_or_else(|| panic!("{name}: {reports}"));
    // What was due: the rate for 1.8 seconds. Every message of it was sent, answered and read back, or is counted as unsent.
    for (at, due) in [(0, 540), (1, 360_000)] {
        assert_eq!(of(at, "acked_in_all") + of(at, "unsent"), due, "{reports}");
        assert_eq!(of(at, "read_back"), of(at, "acked_in_all"));
        assert!(reports[at]["pushed_per_second"].as_f64().unwrap() > 0.0, "those written to are online");
        assert!(!reports[at]["over_time"].as_array().unwrap().is_empty());
    }
    assert_eq!(of(0, "unsent"), 0);
    assert!(of(1, "unsent") > 0 && reports[1]["kept_rate"] == false, "{reports}");
    // A queue that grows for the whole span is in the latencies, though no answer took so long.
    assert!(reports[1]["p99_ms"].as_f64().unwrap() > 500.0, "{reports}");
    let picture = fs::read_to_string(temp.path().join("sweep.svg")).unwrap();
    assert!(picture.contains("<svg") && picture.contains("acked/s"));
    bad(temp.path(), &["bench", "--rate", "0"], 2);
    bad(temp.path(), &["bench", "--rate", "5", "--library"], 2);
}

/// Every device of every member has every message, those of the senders too, and it is counted out.
#[test]
fn the_bench_counts_every_delivery() {
    let temp = tempfile::tempdir().unwrap();
    let args = "bench spread --online 12 --devices 2 --groups 6 --members 4 --senders 5 --window 3 --seconds 1 --warmup 0.3 \
                --size 64 --shards 4 --seed 9 --json";
    let args: Vec<&str> = args.split_whitespace().collect();
    let report: serde_json::Value = serde_json::from_str(&good(temp.path(), &args)).expect("JSON");
    let of = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"));
    assert_eq!((of("connections"), of("senders"), of("seed")), (24, 5, 9));
    // Four members with two devices each, less the one that sent it.
    let acked = of("acked_in_all");
    assert!(acked > 0);
    assert_eq!((of("expected"), of("received"), of("read_back")), (acked * 7, acked * 7, acked));
    assert_eq!((of("missing"), of("doubled"), of("surplus"), of("ended"), of("lagged")), (0, 0, 0, 0, 0));
    assert!(
        of("delivered") > of("acked") && report["delivery"]["p50_ms"].as_f64().unwrap() > 0.0,
        "{report}"
    );
    assert!(report["cpu_seconds"]["nodes"].as_f64().unwrap() > 0.0, "{report}");
    // 64 bytes of content and what a MESSAGE has around them; what was written together is for the machine to say.
    assert!((80.0..300.0).contains(&report["bytes_per_delivery"].as_f64().unwrap()), "{report}");
    assert!(report["deliveries_per_write"].as_f64().unwrap() > 0.0, "{report}");
    bad(temp.path(), &["bench", "spread", "--online", "3", "--members", "4"], 1);
    bad(temp.path(), &["bench", "spread", "--size", "7"], 2);
}

fn bad_status(folder: &Path) {
    let output = rookery(folder, &["cluster", "status"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("down").count(), 3);
}

#[test]
fn tokens_open_the_door_and_nothing_else_does() {
    let temp = tempfile::tempdir().expect("folder");
    let folder = temp.path();
    let _alone = ONE_CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    configuration(folder);
    let path = folder.join("cluster.toml");
    let text = fs::read_to_string(&path).expect("read");
    let secret = "mode = \"token\"\nsecret = \"0123456789abcdef0123456789abcdef\"";
    fs::write(&path, text.replacen("mode = \"open\"", secret, 1)).expect("write");
    let _down = Down(folder);
    good(folder, &["cluster", "up"]);
    let token = good(folder, &["token", "ann", "--valid-for", "10m"]);
    good(folder, &["send", "--user", "ann", "@bob", "hi", "--token", token.trim()]);
    let other = bad(folder, &["send", "--user", "bob", "@ann", "hi", "--token", token.trim()], 1);
    assert!(other.contains("TOKEN_MISMATCH") && other.contains("for user ann, HELLO says bob"), "{other}");
    assert!(bad(folder, &["sessions", "--user", "ann"], 1).contains("BAD_TOKEN"));
    let shop = good(folder, &["token", "shop", "--role", "service"]);
    let service = ["send", "--user", "shop", "--service", "--token", shop.trim()];
    good(folder, &[&service[..], &["--for", "bob", "direct:ann,bob", "from the backend"]].concat());
    let page = good(folder, &["pull", "--user", "ann", "@bob", "--token", token.trim()]);
    assert!(page.contains("bob: from the backend"), "{page}");
    let as_ann = ["admin", "--user", "ann", "--token", token.trim(), "user", "create", "eve"];
    assert!(bad(folder, &as_ann, 1).contains("TOKEN_MISMATCH"), "a user's token opens no backend");
    good(folder, &["admin", "--user", "shop", "--token", shop.trim(), "user", "create", "eve"]);
}
