//! Flipped bits in the files of a stopped node: noticed, or harmless, never served (G12).
//!
//! Each one is opened by a process of its own, because sled may spin or panic over what it finds; the store's watchdog
//! ends such a process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking"
)]

mod store_history;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_raft::probe::LogProbe;
use rookery_raft::{Batch, Store, StoreOptions};
use store_history::{GROUPS, MAP, Model, options, read_back};

const CHECK: &str = "ROOKERY_STORE_CHECK";
/// Write the content there, and die.
const DIE: &str = "ROOKERY_STORE_DIE";
/// The store has the options of [`unsettled`].
const UNSETTLED: &str = "ROOKERY_STORE_UNSETTLED";

/// Not a test of its own: does to the folder named by the environment what that says.
#[test]
fn child() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Ok(dir) = std::env::var(DIE) {
        runtime().block_on(write_and_die(Path::new(&dir)));
    }
    let Ok(dir) = std::env::var(CHECK) else { return };
    let dir = Path::new(&dir);
    let options = if std::env::var_os(UNSETTLED).is_some() { unsettled(dir) } else { options(dir) };
    println!("\nverdict: {}", runtime().block_on(check(options)));
}

/// Everything that is written stays in the journal: there is room for all of it in what is left alone.
fn unsettled(dir: &Path) -> StoreOptions {
    let mut options = options(dir);
    options.journal_segment_bytes = 1 << 20;
    options.settle_lag_bytes = usize::MAX;
    options
}

/// The same content every time: three groups and a map.
fn content() -> (BTreeMap<u32, Model>, BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut rng = StdRng::seed_from_u64(5);
    let groups = (1..=GROUPS).map(|group| {
        let mut model = Model::default();
        (0..60).for_each(|_| model.apply(&model.draw(&mut rng, 3000)));
        (group, model)
    });
    let groups = groups.collect();
    let map = (0..500_u32)
        .map(|n| (n.to_be_bytes().to_vec(), (0..rng.random_range(0..200)).map(|_| rng.random()).collect()));
    (groups, map.collect())
}

async fn write(options: StoreOptions) -> Store {
    let store = Store::open(options).unwrap();
    let mut rng = StdRng::seed_from_u64(5);
    for group in 1..=GROUPS {
        let mut model = Model::default();
        let mut log = LogProbe::open(&store, group).unwrap();
        for _ in 0..60 {
            let act = model.draw(&mut rng, 3000);
            model.apply(&act);
            match act {
                store_history::Act::Append { term, first, payloads } => {
                    log.append(term, first, payloads).await.unwrap().await.unwrap();
                }
                store_history::Act::Vote(term, node, committed) => {
                    log.vote((term, node, committed)).await.unwrap()
                }
                store_history::Act::Truncate(after) => log.truncate_after(after).await.unwrap(),
                store_history::Act::Purge(term, index) => log.purge((term, index)).await.unwrap(),
            }
        }
    }
    let map = store.map(MAP).unwrap();
    let mut batch = Batch::new();
    content().1.into_iter().for_each(|(key, value)| batch.put(key, value));
    map.apply(batch).await.unwrap();
    store
}

/// Leaves the whole content of the logs in the journal, and behind it something of a group that nobody looks at: damage to
/// the journal's last batch alone looks like one that was never written whole.
async fn write_and_die(dir: &Path) {
    let store = write(unsettled(dir)).await;
    store.sync().await.unwrap();
    let mut log = LogProbe::open(&store, GROUPS + 1).unwrap();
    for index in 0..3 {
        log.append(1, index, vec![vec![7; 100].into()]).await.unwrap().await.unwrap();
    }
    println!("\nverdict: written");
    std::process::abort();
}

/// `refused: why`, `good`, or `WRONG: what`.
async fn check(mut options: StoreOptions) -> String {
    options.watchdog = Duration::from_secs(2);
    let store = match Store::open(options) {
        Ok(store) => store,
        Err(error) => return format!("refused: {error}"),
    };
    let (groups, pairs) = content();
    for (group, model) in groups {
        let mut log = LogProbe::open(&store, group).unwrap();
        let (state, entries) = (log.state().await.unwrap(), log.read(0, u64::MAX).await);
        match entries {
            Err(error) => return format!("refused: group {group}: {error}"),
            Ok(entries) if entries == model.as_entries() && state == model.state => {}
            Ok(_) => return format!("WRONG: group {group}: {state:?}, expected {:?}", model.state),
        }
    }
    let map = match store.map(MAP) {
        Ok(map) => map,
        Err(error) => return format!("refused: {error}"),
    };
    match map.read(|view| view.range(b"", b"", usize::MAX, usize::MAX, false)).await {
        Err(error) => format!("refused: {error}"),
        Ok(read) => {
            let read: BTreeMap<Vec<u8>, Vec<u8>> =
                read.into_iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            if read == pairs {
                "good".into()
            } else {
                format!("WRONG: map: {} of {} pairs", read.len(), pairs.len())
            }
        }
    }
}

/// Runs `child` in a process with these variables; one that says nothing counts as a refusal, with what it died of.
fn verdict(variables: &[(&str, &Path)]) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .envs(variables.iter().copied())
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let done = child.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&done.stdout);
    match out.lines().find_map(|line| line.strip_prefix("verdict: ")) {
        Some(verdict) => verdict.to_owned(),
        None => {
            let err = String::from_utf8_lossy(&done.stderr);
            format!("refused: died: {:?}: {}", done.status, err.lines().last().unwrap_or_default())
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

fn written() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { write(options(&temp.path().join("base"))).await.close().await });
    runtime.block_on(async {
        let store = Store::open(options(&temp.path().join("base"))).unwrap();
        for (group, model) in content().0 {
            assert_eq!(read_back(&store, group).await, model, "the undamaged store");
        }
        store.close().await;
    });
    temp
}

/// The same left by a process that died, so that the logs are read from the journal.
fn died() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().join("base");
    assert_eq!(verdict(&[(DIE, &base)]), "written");
    let whole = temp.path().join("whole");
    copy(&base, &whole);
    assert_eq!(verdict(&[(CHECK, &whole), (UNSETTLED, &whole)]), "good", "the undamaged store");
    temp
}

/// Flips one random bit in each of `per_file` parts of every file of `part`; returns (good, refused).
fn flip_through(temp: &tempfile::TempDir, part: &str, per_file: u64, rng: &mut StdRng) -> (u32, u32) {
    let (base, copied) = (temp.path().join("base"), temp.path().join("copy"));
    let mut names = Vec::new();
    files(&base.join(part), &mut names);
    names.sort();
    let (mut good, mut refused) = (0, 0);
    for name in names {
        let length = fs::metadata(&name).unwrap().len();
        for slice in 0..per_file.min(length) {
            let at = (length * slice / per_file..length * (slice + 1) / per_file).start;
            let at = rng.random_range(at..(length * (slice + 1) / per_file).max(at + 1));
            let _ = fs::remove_dir_all(&copied);
            copy(&base, &copied);
            let target = copied.join(name.strip_prefix(&base).unwrap());
            let mut bytes = fs::read(&target).unwrap();
            bytes[at as usize] ^= 1 << rng.random_range(0..8);
            fs::write(&target, bytes).unwrap();
            let mut told: Vec<(&str, &Path)> = vec![(CHECK, &copied)];
            told.extend((part == "journal").then_some((UNSETTLED, &*copied)));
            let verdict = verdict(&told);
            assert!(!verdict.starts_with("WRONG"), "{} byte {at} of {length}: {verdict}", target.display());
            if verdict == "good" { good += 1 } else { refused += 1 }
        }
    }
    println!("{part}: {good} flips harmless, {refused} refused");
    (good, refused)
}

fn rng() -> StdRng {
    let seed = std::env::var("ROOKERY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("replay with ROOKERY_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

#[test]
fn flipped_bits_in_sleds_log_are_never_served() {
    let (_, refused) = flip_through(&written(), "log", 10, &mut rng());
    assert!(refused > 0, "no flip was noticed: the test flips nothing that matters");
}

#[test]
fn flipped_bits_in_sleds_state_are_never_served() {
    let (_, refused) = flip_through(&written(), "state", 10, &mut rng());
    assert!(refused > 0, "no flip was noticed: the test flips nothing that matters");
}

#[test]
fn flipped_bits_in_the_journal_are_never_served() {
    let (_, refused) = flip_through(&died(), "journal", 12, &mut rng());
    // What is written fills most of one file, and none of it is anywhere else.
    assert!(refused >= 6, "only {refused} flips were noticed: the entries are not read from the journal");
}

#[test]
fn a_missing_part_is_refused_by_name() {
    let temp = written();
    for part in ["journal", "log"] {
        let path = temp.path().join("base").join(part);
        let away = temp.path().join("away");
        fs::rename(&path, &away).unwrap();
        let started = Instant::now();
        let error = Store::open(options(&temp.path().join("base"))).unwrap_err().to_string();
        assert!(error.contains("join as a replacement"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
        fs::rename(&away, &path).unwrap();
    }
    // An empty folder in place of sled's log: sled would make a new one without a word.
    let log = temp.path().join("base").join("log");
    fs::remove_dir_all(&log).unwrap();
    fs::create_dir(&log).unwrap();
    let verdict = verdict(&[(CHECK, &temp.path().join("base"))]);
    assert!(!verdict.starts_with("WRONG"), "{verdict}");
}
