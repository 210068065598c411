//! The tables of `cluster status`.

use comfy_table::{Cell, Table, presets};

use crate::fleet::{Board, Fleet, Seen};
use crate::terminal::{self as out, BAD, GOOD, WARN, paint};

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().map(Cell::new));
    table
}

/// One row a node.
pub(super) fn nodes(fleet: &Fleet, board: &Board) -> String {
    let header =
        ["node", "state", "pid", "clients at", "leads", "lag", "connections", "disk", "memory", "up for"];
    let mut table = table(&header);
    for seen in &board.nodes {
        let addr = fleet.config.node(seen.node).map(|node| node.client.clone()).unwrap_or_default();
        let pid = seen.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let mut row = vec![seen.node.to_string(), state(seen).to_owned(), pid, addr];
        if let Some(status) = &seen.status {
            row.push(board.leads(seen.node, fleet.config.cluster.shards).to_string());
            row.push(board.lag(seen.node).map(|lag| lag.to_string()).unwrap_or_default());
            row.push(status.connections.to_string());
            row.push(out::bytes(status.disk.used_bytes));
            row.push(out::bytes(status.memory_bytes));
            row.push(out::duration(status.uptime_ms));
        }
        table.add_row(row);
    }
    // Coloured after the columns were measured, for escapes have no width on the screen.
    let plain = table.trim_fmt();
    let lines = plain.lines().enumerate().map(|(at, line)| {
        match at.checked_sub(1).and_then(|at| board.nodes.get(at)) {
            None => paint(out::DIM, line),
            Some(seen) => {
                let word = state(seen);
                let style = match word {
                    "serving" => GOOD,
                    "down" => BAD,
                    _ => WARN,
                };
                line.replacen(word, &paint(style, word), 1)
            }
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn state(seen: &Seen) -> &'static str {
    match (seen.state, &seen.not_ready) {
        ("running", None) => "serving",
        ("running", Some(_)) => "not ready",
        (other, _) => other,
    }
}

/// One row a shard.
pub(super) fn shards(fleet: &Fleet, board: &Board) -> String {
    let mut table =
        table(&["shard", "leader", "kept for", "term", "committed", "applied on each node", "voters"]);
    for id in 1..=fleet.config.cluster.shards {
        let replicas: Vec<_> = board
            .statuses()
            .filter_map(|status| Some((status.node, status.shards.iter().find(|shard| shard.id == id)?)))
            .collect();
        let leader = board.leader(id).map_or_else(|| "none".to_owned(), |leader| leader.to_string());
        // The leader's word, for it acts on it.
        let kept = replicas.iter().max_by_key(|(_, shard)| (shard.leading, shard.applied));
        let kept = kept.and_then(|(_, shard)| shard.preferred).map(|node| node.to_string());
        let term = replicas.iter().map(|(_, shard)| shard.term).max().unwrap_or(0);
        let committed = replicas.iter().map(|(_, shard)| shard.committed).max().unwrap_or(0);
        let applied: Vec<_> =
            replicas.iter().map(|(node, shard)| format!("{node}: {}", shard.applied)).collect();
        let voters = replicas.iter().max_by_key(|(_, shard)| (shard.term, shard.applied));
        let voters =
            voters.map(|(_, shard)| shard.voters.iter().map(u16::to_string).collect::<Vec<_>>().join(" "));
        table.add_row([
            id.to_string(),
            leader,
            kept.unwrap_or_default(),
            term.to_string(),
            committed.to_string(),
            applied.join("  "),
            voters.unwrap_or_default(),
        ]);
    }
    format!("\n{}", table.trim_fmt())
}

/// What a person should know beside the table.
pub(super) fn remarks(fleet: &Fleet, board: &Board) -> Vec<String> {
    let mut remarks = Vec::new();
    let warn = |text: String| format!("{}: {text}", paint(WARN, "note"));
    for seen in &board.nodes {
        if let Some(why) = seen.not_ready.as_ref().filter(|_| seen.state != "down") {
            remarks.push(warn(format!("node {}: {why}", seen.node)));
        }
        let Some(status) = &seen.status else { continue };
        if status.disk.low {
            let free = out::bytes(status.disk.free_bytes);
            remarks.push(warn(format!("node {}: disk low ({free} free), writes are refused", seen.node)));
        }
        if status.journal.full {
            remarks.push(warn(format!("node {}: the journal is full, writes wait", seen.node)));
        }
    }
    for (node, shard) in board.statuses().flat_map(|it| it.shards.iter().map(move |shard| (it.node, shard))) {
        for it in &shard.divergences {
            let (session, other) = (&it.session, it.node);
            remarks.push(format!(
                "{}: {session} (shard {}): nodes {node} and {other} hold different histories, from a record of \
                 {} to {} on; see docs/operations.md, \"Replicas that differ\"",
                paint(BAD, "FAULT"), shard.id, it.from_seq, it.to_seq
            ));
        }
    }
    let leaderless = board.leaderless(fleet.config.cluster.shards);
    if !leaderless.is_empty() && leaderless.len() < fleet.config.cluster.shards as usize {
        let list = leaderless.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        remarks.push(warn(format!("no leader of shard {list}")));
    } else if !leaderless.is_empty() {
        remarks.push(warn("no shard has a leader; start the nodes with `rookery cluster up`".to_owned()));
    }
    remarks
}
