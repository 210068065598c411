//! What all nodes say together: who leads, who lags, and waiting until every shard is led.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Fleet, POLL, State};
use crate::config::NodeConfig;
use crate::http::fetch;
use crate::status::NodeStatus;

/// One node as seen from here.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Seen {
    /// Its number.
    pub node: u16,
    /// `running`, `paused`, `silent` (lives, does not answer), `down`.
    pub state: &'static str,
    /// Its process, when that was started on this machine.
    pub pid: Option<i32>,
    /// Why it cannot serve, if it says so.
    pub not_ready: Option<String>,
    /// What it says of itself.
    pub status: Option<NodeStatus>,
}

/// All nodes as seen from here.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Board {
    /// In the order of the configuration.
    pub nodes: Vec<Seen>,
}

/// Asks one node.
pub async fn ask(node: &NodeConfig, deadline: Duration) -> Seen {
    let process = Fleet::process(node);
    let paused = process.and_then(|process| process.state()) == Some(State::Paused);
    let mut seen =
        Seen { node: node.id, state: "down", pid: process.map(|p| p.pid), not_ready: None, status: None };
    if paused {
        seen.state = "paused";
        return seen;
    }
    match fetch::status(&node.http, deadline).await {
        Ok(status) if status.node == node.id => {
            seen.state = "running";
            seen.status = Some(status);
            seen.not_ready = fetch::ready(&node.http, deadline).await.err().map(|why| why.to_string());
        }
        Ok(other) => seen.not_ready = Some(format!("{} is answered by node {}", node.http, other.node)),
        Err(why) => {
            seen.state = if process.is_some() { "silent" } else { "down" };
            seen.not_ready = Some(why.to_string());
        }
    }
    seen
}

/// Asks all nodes at once.
pub async fn ask_all(fleet: &Fleet, deadline: Duration) -> Board {
    let asked = fleet.config.nodes.iter().map(|node| ask(node, deadline));
    Board { nodes: futures::future::join_all(asked).await }
}

impl Board {
    /// The node that says it leads a shard; of two that say so, the one of the later term.
    pub fn leader(&self, shard: u32) -> Option<u16> {
        let claims = self.statuses().flat_map(|status| {
            status.shards.iter().filter(|s| s.id == shard && s.leading).map(|s| (s.term, status.node))
        });
        claims.max().map(|(_, node)| node)
    }

    /// Shards of 1..=`shards` nobody leads.
    pub fn leaderless(&self, shards: u32) -> Vec<u32> {
        (1..=shards).filter(|shard| self.leader(*shard).is_none()).collect()
    }

    /// How many shards a node leads.
    pub fn leads(&self, node: u16, shards: u32) -> usize {
        (1..=shards).filter(|shard| self.leader(*shard) == Some(node)).count()
    }

    /// Log entries a node has yet to apply, of what is committed anywhere: the worst of its replicas.
    pub fn lag(&self, node: u16) -> Option<u64> {
        let mut committed: BTreeMap<u32, u64> = BTreeMap::new();
        for shard in self.statuses().flat_map(|status| &status.shards) {
            let most = committed.entry(shard.id).or_default();
            *most = (*most).max(shard.committed);
        }
        let status = self.statuses().find(|status| status.node == node)?;
        let behind =
            |id: &u32, applied: u64| committed.get(id).map_or(0, |most| most.saturating_sub(applied));
        Some(status.shards.iter().map(|shard| behind(&shard.id, shard.applied)).max().unwrap_or(0))
    }

    /// Every status there is.
    pub fn statuses(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.iter().filter_map(|seen| seen.status.as_ref())
    }

    /// What is missing until all of `nodes` serve and every shard is led; `None` when nothing is.
    pub fn missing(&self, nodes: &[u16], shards: u32) -> Option<String> {
        for seen in self.nodes.iter().filter(|seen| nodes.contains(&seen.node)) {
            if seen.state != "running" || seen.not_ready.is_some() {
                let why = seen.not_ready.as_deref().unwrap_or(seen.state);
                return Some(format!("node {}: {why}", seen.node));
            }
        }
        let leaderless = self.leaderless(shards);
        let list = leaderless.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        (!leaderless.is_empty()).then(|| format!("no leader yet of shard {list}"))
    }
}

/// Waits until `nodes` serve and every shard has a leader, telling `progress` what is missing. `started` are the
/// children among them: one that ends is an error at once, with the end of its log.
///
/// # Errors
/// A node that ended, or the deadline with what was missing.
pub async fn wait_until_led(
    fleet: &Fleet,
    nodes: &[u16],
    started: &mut [(u16, Child)],
    patience: Duration,
    mut progress: impl FnMut(&str),
) -> Result<Board> {
    let end = Instant::now() + patience;
    loop {
        for (id, child) in started.iter_mut() {
            if let Some(exit) = child.try_wait()? {
                let node = fleet.node(*id)?;
                let tail = Fleet::last_words(node);
                let log = Fleet::log_path(node);
                bail!("node {id} ended ({exit}); the end of its log {}:\n{tail}", log.display());
            }
        }
        let board = ask_all(fleet, Duration::from_secs(1)).await;
        let Some(missing) = board.missing(nodes, fleet.config.cluster.shards) else {
            return Ok(board);
        };
        if Instant::now() >= end {
            bail!("not all served within {} s: {missing}; see `rookery cluster logs`", patience.as_secs());
        }
        progress(&missing);
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ShardStatus;

    fn seen(node: u16, shards: &[(u32, bool, u64, u64, u64)]) -> Seen {
        let shards = shards.iter().map(|&(id, leading, term, committed, applied)| ShardStatus {
            id,
            leading,
            term,
            committed,
            applied,
            ..ShardStatus::default()
        });
        let status = NodeStatus { node, shards: shards.collect(), ..NodeStatus::default() };
        Seen { node, state: "running", pid: None, not_ready: None, status: Some(status) }
    }

    #[test]
    fn the_later_term_leads_and_lag_is_against_the_best() {
        let board = Board {
            nodes: vec![
                seen(1, &[(1, true, 3, 90, 90), (2, false, 1, 10, 10)]),
                seen(2, &[(1, true, 4, 100, 100), (2, true, 1, 10, 7)]),
            ],
        };
        assert_eq!(board.leader(1), Some(2), "node 1 does not know yet that it was replaced");
        assert_eq!((board.lag(1), board.lag(2), board.lag(3)), (Some(10), Some(3), None));
        assert_eq!(board.leaderless(3), [3]);
        assert_eq!((board.leads(1, 3), board.leads(2, 3)), (0, 2));
        assert_eq!(board.missing(&[1, 2], 2), None);
        assert!(board.missing(&[1, 2], 3).expect("shard 3").contains("shard 3"));
    }
}
