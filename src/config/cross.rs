//! Checks that concern several keys: addresses, folders, replicas, times, who may reach the listeners.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::{AuthMode, Config, NodeConfig, SAMPLE_SECRET};

/// Bytes that a deleted range takes at most among the settings of a session.
const DELETION: u32 = 18;
/// Bytes of a frame that tells them, also with what else a list says of the session.
const AROUND_SETTINGS: u32 = 2 << 10;

/// What is wrong with the configuration as a whole, in words.
pub(super) fn problems(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    nodes(config, &mut found);
    addresses(config, &mut found);
    exposure(config, &mut found);
    sizes(config, &mut found);
    found
}

/// What deserves a warning at each start.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let open: Vec<_> =
        exposed(config).map(|(node, key, addr)| format!("node {node} {key} = {addr}")).collect();
    if open.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "cluster.insecure_no_tls = true: nothing is encrypted and other machines can reach {}; \
         put a private network or a TLS tunnel around it",
        open.join(", ")
    )]
}

/// Whether only this machine can reach an address. A name that is not `localhost` counts as reachable.
pub fn is_loopback(addr: &str) -> bool {
    if let Ok(addr) = addr.parse::<SocketAddr>() {
        return addr.ip().is_loopback();
    }
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn listeners(node: &NodeConfig) -> [(&'static str, &str); 3] {
    [("client", &node.client), ("peer", &node.peer), ("http", &node.http)]
}

fn exposed(config: &Config) -> impl Iterator<Item = (u16, &'static str, &str)> {
    config.nodes.iter().flat_map(|node| {
        listeners(node)
            .into_iter()
            .filter(|(_, addr)| !is_loopback(addr))
            .map(|(key, addr)| (node.id, key, addr))
    })
}

fn nodes(config: &Config, found: &mut Vec<String>) {
    let count = config.nodes.len();
    if count == 0 {
        found.push(
            "there is no [[node]]: a cluster has at least one, and three survive the loss of one".to_owned(),
        );
    }
    if count > 64 {
        found.push(format!("{count} nodes; allowed: 1 to 64"));
    }
    if count > 0 && usize::from(config.cluster.replication) > count {
        found.push(format!(
            "cluster.replication is {} with {count} nodes; allowed: 1 to {count}, or add nodes",
            config.cluster.replication
        ));
    }
    let mut ids = BTreeMap::new();
    let mut folders = BTreeMap::new();
    for node in &config.nodes {
        if ids.insert(node.id, ()).is_some() {
            found.push(format!("two nodes have id {}; each has its own", node.id));
        }
        if let Some(other) = folders.insert(&node.data, node.id) {
            let folder = node.data.display();
            found.push(format!(
                "nodes {other} and {} share the data folder {folder}; each has its own",
                node.id
            ));
        }
    }
}

fn addresses(config: &Config, found: &mut Vec<String>) {
    let mut taken: BTreeMap<&str, String> = BTreeMap::new();
    for node in &config.nodes {
        for (key, addr) in listeners(node) {
            let name = format!("{key} of node {}", node.id);
            match addr.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
                Some((host, Ok(port))) if !host.is_empty() && port > 0 => {}
                _ => found.push(format!("{name} is \"{addr}\"; allowed: host:port, such as 127.0.0.1:7401")),
            }
            if let Some(other) = taken.insert(addr, name.clone()) {
                found.push(format!("{other} and {name} are both {addr}; each listener has its own port"));
            }
        }
    }
}

fn exposure(config: &Config, found: &mut Vec<String>) {
    let first = exposed(config).next();
    if let Some((node, key, addr)) = first {
        let who = format!("{key} of node {node} is {addr}, which other machines can reach");
        if !config.cluster.insecure_no_tls {
            found.push(format!(
                "{who}, and nothing is encrypted: listen on 127.0.0.1, or accept it with cluster.insecure_no_tls = true"
            ));
        }
        if config.auth.mode == AuthMode::Open {
            found
                .push(format!("{who}: auth.mode = \"open\" is for loopback only; set auth.mode = \"token\""));
        }
        if config.cluster.secret.expose() == SAMPLE_SECRET {
            found.push(format!(
                "{who}: cluster.secret is the sample everybody knows; choose another, \
                 for example with `openssl rand -hex 24`"
            ));
        }
    }
    if config.auth.mode == AuthMode::Token && config.auth.secret.is_empty() {
        found.push("auth.secret is missing: auth.mode = \"token\" needs the key tokens are signed with (32 bytes or more)".to_owned());
    }
    if config.cluster.secret.is_empty() {
        found.push("cluster.secret is missing: nodes prove it to each other (16 bytes or more)".to_owned());
    }
}

fn sizes(config: &Config, found: &mut Vec<String>) {
    let (limits, timing) = (&config.limits, &config.timing);
    // Ids, extensions and the header travel in the same frame as the content.
    let least = limits.content.saturating_add(super::AROUND_CONTENT);
    if limits.frame < least {
        found.push(format!(
            "limits.frame is {} and limits.content {}: a frame holds more than its content; allowed: {least} or more",
            limits.frame, limits.content
        ));
    }
    // How a user has set a session goes in one frame: two numbers of each deleted range, the draft, and names around them.
    let settings = limits.deletions_per_session.saturating_mul(DELETION).saturating_add(limits.draft_bytes);
    let settings = settings.saturating_add(AROUND_SETTINGS);
    if limits.frame < settings {
        found.push(format!(
            "limits.frame is {}: a session's settings with limits.deletions_per_session = {} and limits.draft_bytes = {} must \
             fit; allowed: {settings} or more",
            limits.frame, limits.deletions_per_session, limits.draft_bytes
        ));
    }
    if limits.queue_bytes < limits.frame {
        found.push(format!(
            "limits.queue_bytes is {}: one frame (limits.frame = {}) must fit",
            limits.queue_bytes, limits.frame
        ));
    }
    if limits.lane_bytes < u64::from(limits.frame) {
        found.push(format!(
            "limits.lane_bytes is {}: one frame (limits.frame = {}) must fit",
            limits.lane_bytes, limits.frame
        ));
    }
    let segment = u64::from(config.storage.journal_segment_mib) << 20;
    if segment < u64::from(least) * 2 {
        found.push(format!(
            "storage.journal_segment_mib is {} and limits.content {}: a message must fit half a segment; allowed: {} or more",
            config.storage.journal_segment_mib,
            limits.content,
            (u64::from(least) * 2).div_ceil(1 << 20)
        ));
    }
    let (low, high) = timing.election_ms;
    if low >= high {
        found.push(format!("timing.election_ms is [{low}, {high}]: the first must be less than the second"));
    }
    if low < timing.heartbeat_ms.saturating_mul(2) {
        found.push(format!(
            "timing.election_ms begins at {low}: at least twice timing.heartbeat_ms ({}), or every late heartbeat is an election",
            timing.heartbeat_ms
        ));
    }
    if high < timing.heartbeat_ms.saturating_mul(3) {
        found.push(format!(
            "timing.election_ms ends at {high}: at least three times timing.heartbeat_ms ({}), or a heartbeat that is left out costs the lease",
            timing.heartbeat_ms
        ));
    }
}
