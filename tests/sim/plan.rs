//! The weather: which nodes die and which links go silent, when, and for how long. All drawn from the seed.

use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use super::{CAST, NODES, node_name};

/// Something that is done to the world at one instant.
#[derive(Debug, Clone)]
pub enum Act {
    /// The process dies; its disk keeps what was written.
    Kill(u16),
    /// These nodes lose power at once; of the writes that were not synced so many happen to be on each disk.
    PowerCut(Vec<u16>, usize),
    /// The process starts again.
    Start(u16),
    /// Nothing passes between two hosts; what is under way is lost.
    Silence(String, String),
    /// Nothing passes from one host to another; the other direction works.
    Mute(String, String),
    /// The link carries again.
    Mend(String, String),
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(node) => write!(f, "kill node {node}"),
            Self::PowerCut(nodes, kept) => {
                write!(f, "power cut of {nodes:?}, {kept} unsynced write(s) survive")
            }
            Self::Start(node) => write!(f, "start node {node}"),
            Self::Silence(a, b) => write!(f, "{a} and {b} do not hear each other"),
            Self::Mute(from, to) => write!(f, "{to} does not hear {from}"),
            Self::Mend(a, b) => write!(f, "{a} and {b} hear each other"),
        }
    }
}

/// Every pair of hosts that talk.
pub fn links() -> Vec<(String, String)> {
    let mut links = Vec::new();
    for node in 1..=NODES {
        links.extend((node + 1..=NODES).map(|other| (node_name(node), node_name(other))));
        links.extend(CAST.iter().map(|name| (node_name(node), (*name).to_owned())));
    }
    links
}

/// Faults and their ends within `storm`, in order of time. Faults overlap; a majority may be gone for a while.
pub fn draw(random: &mut StdRng, storm: Duration) -> Vec<(Duration, Act)> {
    let mut acts = Vec::new();
    let mut at = Duration::from_millis(300);
    while at < storm {
        let ends = (at + Duration::from_millis(random.random_range(100..3_500))).min(storm);
        for (act, undo) in fault(random) {
            acts.push((at, act));
            acts.extend(undo.into_iter().map(|undo| (ends, undo)));
        }
        at += Duration::from_millis(random.random_range(200..2_500));
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

/// One fault: what is done, and what undoes it.
fn fault(random: &mut StdRng) -> Vec<(Act, Vec<Act>)> {
    let node = random.random_range(1..=NODES);
    let all: Vec<u16> = (1..=NODES).collect();
    let kept = random.random_range(0..4);
    match random.random_range(0..10) {
        0..3 => vec![(Act::Kill(node), vec![Act::Start(node)])],
        3..5 => vec![(Act::PowerCut(vec![node], kept), vec![Act::Start(node)])],
        5 => vec![(Act::PowerCut(all.clone(), kept), all.into_iter().map(Act::Start).collect())],
        6 => {
            let others = all.into_iter().filter(|other| *other != node).map(node_name);
            others.map(|other| silence(node_name(node), other)).collect()
        }
        7 => {
            let links = links();
            let (a, b) = links[random.random_range(0..links.len())].clone();
            vec![silence(a, b)]
        }
        8 => {
            let links = links();
            let (a, b) = links[random.random_range(0..links.len())].clone();
            let (from, to) = if random.random() { (a, b) } else { (b, a) };
            vec![(Act::Mute(from.clone(), to.clone()), vec![Act::Mend(from, to)])]
        }
        _ => {
            let next = node % NODES + 1;
            vec![silence(node_name(node), node_name(next))]
        }
    }
}

fn silence(a: String, b: String) -> (Act, Vec<Act>) {
    (Act::Silence(a.clone(), b.clone()), vec![Act::Mend(a, b)])
}
