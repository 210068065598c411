//! A seeded workload for the store and the judge of what is left of it after a crash.
//!
//! Operations of a group are a function of the random source and of the group's state alone, so the judge can replay
//! what a killed process was doing. The process says when it begins an operation and when it was acknowledged; after
//! the crash each group must stand at some operation between the last acknowledged and the last begun. Each is whole, but for
//! the append that was under way: it may take more than one batch of the journal, and then its beginning may be there.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "shared by several test binaries")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_raft::probe::{LogProbe, ProbeEntry, ProbeState};
use rookery_raft::{Batch, Step, StepHook, Store, StoreOptions};

pub const GROUPS: u32 = 3;
pub const MAP: &str = "facts";

/// One operation on one group's log.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    Append { term: u64, first: u64, payloads: Vec<Bytes> },
    Vote(u64, u16, bool),
    Truncate(Option<(u64, u64)>),
    Purge(u64, u64),
}

/// What a log amounts to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub state: ProbeState,
    pub entries: BTreeMap<u64, (u64, Bytes)>,
}

impl Model {
    pub fn apply(&mut self, act: &Act) {
        match act {
            Act::Vote(term, node, committed) => self.state.vote = Some((*term, *node, *committed)),
            Act::Append { term, first, payloads } => {
                for (payload, index) in payloads.iter().zip(*first..) {
                    self.entries.insert(index, (*term, payload.clone()));
                    self.state.last = Some((*term, index));
                }
            }
            Act::Truncate(after) => {
                self.entries.split_off(&after.map_or(0, |(_, i)| i + 1));
                let last = self.entries.last_key_value().map(|(i, (t, _))| (*t, *i));
                self.state.last = last.or(self.state.purged);
            }
            Act::Purge(term, upto) => {
                self.entries = self.entries.split_off(&(upto + 1));
                self.state.purged = Some((*term, *upto));
                if self.entries.is_empty() {
                    self.state.last = self.state.purged;
                }
            }
        }
    }

    /// The next operation, with entries of up to `most` bytes.
    pub fn draw(&self, rng: &mut StdRng, most: usize) -> Act {
        let next = self.state.last.map_or(0, |(_, i)| i + 1);
        let term = self.state.last.map_or(1, |(t, _)| t) + u64::from(rng.random_ratio(1, 20));
        match rng.random_range(0..100) {
            0..75 => {
                let payloads = (0..rng.random_range(1..6)).map(|_| payload(rng, most)).collect();
                Act::Append { term, first: next, payloads }
            }
            75..83 => Act::Vote(rng.random_range(1..1000), rng.random_range(1..4), rng.random()),
            83..91 => {
                let points: Vec<_> = self.entries.iter().map(|(i, (t, _))| (*t, *i)).collect();
                match points.len() {
                    0 => Act::Vote(term, 1, false),
                    n => Act::Truncate(Some(points[n - 1 - rng.random_range(0..n.min(12))])),
                }
            }
            _ => {
                let points: Vec<_> = self.entries.iter().map(|(i, (t, _))| (*t, *i)).collect();
                match points.len() {
                    // Beyond the last entry too: a checkpoint may be ahead (R5).
                    0 => Act::Purge(term, next + rng.random_range(0..5)),
                    n => {
                        let (term, index) = points[rng.random_range(0..n)];
                        Act::Purge(term, index)
                    }
                }
            }
        }
    }

    pub fn as_entries(&self) -> Vec<ProbeEntry> {
        self.entries.iter().map(|(i, (t, p))| (*t, *i, Some(p.clone()))).collect()
    }
}

fn payload(rng: &mut StdRng, most: usize) -> Bytes {
    let length = match rng.random_range(0..10) {
        0 => 0,
        1..7 => rng.random_range(1..most.min(400) + 1),
        _ => rng.random_range(1..most + 1),
    };
    let mut bytes = vec![0; length];
    rng.fill(bytes.as_mut_slice());
    bytes.into()
}

/// Small segments, so that everything happens soon.
pub fn options(dir: &Path) -> StoreOptions {
    let mut options = StoreOptions::new(dir);
    options.journal_segment_bytes = 256 * 1024;
    options.journal_segments = 4;
    options.keeper_pause = Duration::from_millis(20);
    options.settle_lag_bytes = 0;
    options.entry_cache_bytes = 32 * 1024;
    // Opened anew after 1 MiB, so that this happens too.
    options.sled_cache_bytes = 256 * 1024;
    options.free_disk_low_water = 0;
    options
}

/// Reads a whole group back, by every way there is.
pub async fn read_back(store: &Store, group: u32) -> Model {
    let mut log = LogProbe::open(store, group).unwrap();
    let state = log.state().await.unwrap();
    let all = log.read(0, u64::MAX).await.unwrap();
    let streamed = log.stream(0, u64::MAX).await.unwrap();
    assert_eq!(all, streamed, "group {group}: the stream and the read differ");
    let entries = all.into_iter().map(|(t, i, p)| (i, (t, p.unwrap_or_default()))).collect();
    Model { state, entries }
}

/// What a life of the process is told to do, and what ends it.
#[derive(Debug, Clone)]
pub struct Life {
    pub seed: u64,
    /// Abort at the nth time this step is reached.
    pub stop: Option<(usize, u32)>,
    pub acts: u32,
    pub most: usize,
}

pub const STEPS: [Step; 11] = [
    Step::BeforeWrite,
    Step::HalfWritten,
    Step::Written,
    Step::Synced,
    Step::Told,
    Step::SegmentHeader,
    Step::Rotated,
    Step::Applied,
    Step::Flushed,
    Step::Recycled,
    Step::StateFlushed,
];

const CHILD: &str = "ROOKERY_STORE_CHILD";

/// Starts this test binary again as the process to be killed; its test `child` does the rest.
pub fn spawn(dir: &Path, life: &Life) -> Child {
    let Life { seed, stop, acts, most } = life;
    let (step, nth) = stop.unwrap_or((usize::MAX, 0));
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{seed} {step} {nth} {acts} {most} {}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The body of the test `child`: nothing unless started by `spawn`.
pub fn child() {
    let Ok(words) = std::env::var(CHILD) else { return };
    let mut words = words.splitn(6, ' ');
    let mut number = || words.next().unwrap().parse::<u64>().unwrap();
    let (seed, step, nth, acts, most) = (number(), number(), number(), number(), number());
    let dir = words.next().unwrap().to_owned();
    let mut options = options(Path::new(&dir));
    // Half of the lives leave the newest batches to the journal.
    options.settle_lag_bytes = if seed % 2 == 0 { 0 } else { 100_000 };
    if step < STEPS.len() as u64 {
        let (wanted, left) = (STEPS[step as usize], std::sync::atomic::AtomicU64::new(nth));
        let armed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let arm = armed.clone();
        // Opening takes steps of its own; they count too once the first life has made the folder.
        arm.store(true, std::sync::atomic::Ordering::SeqCst);
        options.steps = StepHook::new(move |step| {
            use std::sync::atomic::Ordering::SeqCst;
            if step == wanted && armed.load(SeqCst) && left.fetch_sub(1, SeqCst) == 1 {
                std::process::abort();
            }
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(live(options, seed, acts as u32, most as usize));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

async fn live(options: StoreOptions, seed: u64, acts: u32, most: usize) {
    let store = tokio::task::spawn_blocking(move || Store::open(options).unwrap()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for group in 1..=GROUPS {
        let store = store.clone();
        let rng = StdRng::seed_from_u64(seed ^ u64::from(group) << 32);
        tasks.spawn(Box::pin(live_group(store, group, rng, acts, most)));
    }
    let facts = store.clone();
    tasks.spawn(async move { live_map(facts, acts).await });
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    store.close().await;
    say("done\n");
}

async fn live_group(store: Store, group: u32, mut rng: StdRng, acts: u32, most: usize) {
    let mut model = read_back(&store, group).await;
    let mut log = LogProbe::open(&store, group).unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for number in 1..=acts {
        let act = model.draw(&mut rng, most);
        model.apply(&act);
        say(&format!("begin {group} {number}\n"));
        match act {
            Act::Append { term, first, payloads } => {
                let durable = log.append(term, first, payloads).await.unwrap();
                let wait = rng.random_ratio(1, 3);
                let ack = async move {
                    durable.await.unwrap();
                    say(&format!("ack {group} {number}\n"));
                };
                if wait {
                    ack.await
                } else {
                    drop(waiting.spawn(ack))
                }
                continue;
            }
            Act::Vote(term, node, committed) => log.vote((term, node, committed)).await.unwrap(),
            Act::Truncate(after) => log.truncate_after(after).await.unwrap(),
            Act::Purge(term, index) => log.purge((term, index)).await.unwrap(),
        }
        say(&format!("ack {group} {number}\n"));
    }
    while let Some(done) = waiting.join_next().await {
        done.unwrap();
    }
}

/// Batch n sets `last` and one of 64 keys to n; every few batches a sync.
async fn live_map(store: Store, acts: u32) {
    let opened = store.clone();
    let map = tokio::task::spawn_blocking(move || opened.map(MAP).unwrap()).await.unwrap();
    let first = map.read(|view| Ok(view.get(b"last")?.map_or(0, number))).await.unwrap() + 1;
    for n in first..first + u64::from(acts) {
        let mut batch = Batch::new();
        batch.put("last", n.to_be_bytes().to_vec());
        batch.put(format!("key {:02}", n % 64), n.to_be_bytes().to_vec());
        say(&format!("begin 0 {n}\n"));
        map.apply(batch).await.unwrap();
        if n % 5 == 0 {
            store.sync().await.unwrap();
            say(&format!("ack 0 {n}\n"));
        }
    }
}

fn number(bytes: Bytes) -> u64 {
    u64::from_be_bytes(bytes.as_ref().try_into().unwrap())
}

/// What a life said before it ended.
#[derive(Debug, Default)]
pub struct Said {
    pub begun: BTreeMap<u32, u64>,
    pub acked: BTreeMap<u32, u64>,
    pub done: bool,
    pub stderr: String,
}

/// Collects until the process ends; `stop` may end it.
pub fn listen(mut child: Child, stop: impl FnOnce(&mut Child) + Send) -> (Said, std::process::ExitStatus) {
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut err = child.stderr.take().unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut said = Said::default();
            // The harness of the child prints too, without a line end of its own; a killed child ends in mid-line.
            for line in out.lines().map_while(Result::ok) {
                let line = line.rsplit_once("... ").map_or(line.as_str(), |(_, rest)| rest);
                let words: Vec<_> = line.split(' ').collect();
                match words.as_slice() {
                    ["begin", group, n] => _ = said.begun.insert(group.parse().unwrap(), n.parse().unwrap()),
                    ["ack", group, n] => {
                        let known = said.acked.entry(group.parse().unwrap()).or_default();
                        *known = n.parse::<u64>().unwrap().max(*known);
                    }
                    ["done"] => said.done = true,
                    _ => {}
                }
            }
            said
        });
        let errors = scope.spawn(move || {
            let mut text = Vec::new();
            let _ = std::io::Read::read_to_end(&mut err, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        stop(&mut child);
        let status = child.wait().unwrap();
        let mut said = reader.join().unwrap();
        said.stderr = errors.join().unwrap();
        (said, status)
    })
}

/// Everything the store promised, across lives.
#[derive(Debug, Default)]
pub struct Judge {
    pub groups: BTreeMap<u32, Model>,
    /// Groups that were found with the beginning of an append that nobody was told of.
    pub cut: u32,
}

impl Judge {
    /// Opens the folder and compares it with what the life said; the groups then stand where they were found.
    pub fn judge(&mut self, dir: &Path, life: &Life, said: &Said) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(options(dir)).map_err(|e| format!("the store does not open: {e}"))?;
            for group in 1..=GROUPS {
                let found = read_back(&store, group).await;
                self.judge_group(group, life, said, found)?;
            }
            judge_map(&store, said).await?;
            store.close().await;
            Ok(())
        })
    }

    fn judge_group(&mut self, group: u32, life: &Life, said: &Said, found: Model) -> Result<(), String> {
        let model = self.groups.entry(group).or_default();
        let mut rng = StdRng::seed_from_u64(life.seed ^ u64::from(group) << 32);
        let begun = said.begun.get(&group).copied().unwrap_or(0);
        let acked = said.acked.get(&group).copied().unwrap_or(0);
        let mut words = String::new();
        let mut candidate = model.clone();
        for number in 0..=begun {
            if number > 0 {
                let act = candidate.draw(&mut rng, life.most);
                if number > acked && begins(&candidate, &act, &found) {
                    self.cut += 1;
                    *model = found;
                    return Ok(());
                }
                candidate.apply(&act);
                if matches!(act, Act::Append { .. }) {
                    let _: bool = rng.random_ratio(1, 3);
                }
            }
            if number >= acked && candidate == found {
                *model = found;
                return Ok(());
            }
            if number < acked && candidate == found {
                let _ = write!(words, "\n  LOST: it stands where operation {number} had left it");
            }
            if number == acked || number == begun {
                let _ = write!(words, "\n  operation {number} leaves {}", difference(&candidate, &found));
            }
        }
        let Model { state, entries } = &found;
        Err(format!(
            "group {group} (seed {}): acknowledged {acked}, begun {begun}, found {state:?} with {} entries, {:?} to {:?}{words}",
            life.seed,
            entries.len(),
            entries.keys().next(),
            entries.keys().next_back()
        ))
    }
}

/// Whether `found` is what `before` is with the first entries of this append, and not with all of them.
fn begins(before: &Model, act: &Act, found: &Model) -> bool {
    let Act::Append { term, first, payloads } = act else { return false };
    let Some((_, last)) = found.state.last.filter(|(of, last)| of == term && last >= first) else {
        return false;
    };
    let some = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
    if some >= payloads.len() {
        return false;
    }
    let mut begun = before.clone();
    begun.apply(&Act::Append { term: *term, first: *first, payloads: payloads[..some].to_vec() });
    begun == *found
}

/// What a model says, and the first entries of it that are otherwise in what was found.
fn difference(model: &Model, found: &Model) -> String {
    let entry = |of: &Model, index: &u64| of.entries.get(index).map(|(term, bytes)| (*term, bytes.len()));
    let indexes: std::collections::BTreeSet<u64> =
        model.entries.keys().chain(found.entries.keys()).copied().collect();
    let differing = indexes.iter().filter(|index| model.entries.get(index) != found.entries.get(index));
    let shown: Vec<_> =
        differing.clone().take(3).map(|index| (index, entry(model, index), entry(found, index))).collect();
    let count = differing.count();
    format!("{:?}; {count} entries differ, by index, here and found (term, bytes): {shown:?}", model.state)
}

async fn judge_map(store: &Store, said: &Said) -> Result<(), String> {
    let map = store.map(MAP).map_err(|e| e.to_string())?;
    let pairs = map
        .read(|view| view.range(b"", b"", usize::MAX, usize::MAX, false))
        .await
        .map_err(|e| e.to_string())?;
    let mut pairs: BTreeMap<_, _> = pairs.into_iter().map(|(k, v)| (k, number(v))).collect();
    let last = pairs.remove(b"last".as_slice()).unwrap_or(0);
    let acked = said.acked.get(&0).copied().unwrap_or(0);
    let begun = said.begun.get(&0).copied().unwrap_or(u64::MAX);
    if last < acked || last > begun {
        return Err(format!("map: synced {acked}, begun {begun}, found {last}"));
    }
    for n in last.saturating_sub(63).max(1)..=last {
        let key = format!("key {:02}", n % 64);
        if pairs.get(key.as_bytes()) != Some(&n) {
            return Err(format!("map: stands at {last}, but {key} says {:?}", pairs.get(key.as_bytes())));
        }
    }
    Ok(())
}
