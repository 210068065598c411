//! Reads the whole log of every session from every replica, as a service client would.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rookery_client::{Client, Options};
use rookery_wire::request::{Consistency, Direction, Role};
use rookery_wire::{ErrorCode, Record, SessionId};

use crate::config::NodeConfig;

/// How long a replica may take to catch up with the others.
const CATCH_UP: Duration = Duration::from_secs(10);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(10);
const PAGE: u32 = 500;
const POLL: Duration = Duration::from_millis(50);

/// Every session's log on every node that has a replica.
pub(super) async fn read(
    nodes: &[NodeConfig],
    sessions: &BTreeSet<SessionId>,
) -> Result<BTreeMap<SessionId, BTreeMap<u16, Vec<Record>>>> {
    let auditors = futures::future::try_join_all(nodes.iter().map(connect)).await?;
    let mut logs = BTreeMap::new();
    let first = auditors.first().map(|(_, client)| client).context("a cluster without nodes")?;
    for session in sessions {
        // What the leader says now is what every replica must come to hold.
        let last = first.pull(session, 0, Direction::Backward, 1, Consistency::Linearizable).await;
        let last = match last {
            Ok(page) => page.last_seq,
            // A session of the transcript in which nothing was sent.
            Err(fault) if fault.code() == Some(ErrorCode::NoSuchSession) => continue,
            Err(fault) => return Err(fault).with_context(|| format!("cannot read {session}")),
        };
        let replicas = auditors.iter().map(|(node, client)| async move {
            let log = whole_log(client, session, last).await;
            log.map(|log| (*node, log)).with_context(|| format!("cannot read {session} from node {node}"))
        });
        let replicas = futures::future::try_join_all(replicas).await?;
        logs.insert(
            session.clone(),
            replicas.into_iter().filter_map(|(node, log)| Some((node, log?))).collect(),
        );
    }
    futures::future::join_all(auditors.into_iter().map(|(_, client)| client.close())).await;
    Ok(logs)
}

async fn connect(node: &NodeConfig) -> Result<(u16, Client)> {
    let device = format!("node-{}", node.id).parse().context("device")?;
    let mut options = Options::new([node.client.clone()], "demo-auditor".parse().context("user")?, device);
    options.role = Role::Service;
    options.request_deadline = REQUEST;
    let (client, events) = Client::connect(options).await.with_context(|| format!("node {}", node.id))?;
    drop(events);
    Ok((node.id, client))
}

/// The log up to at least `last`; `None` when this node has no replica.
async fn whole_log(client: &Client, session: &SessionId, last: u64) -> Result<Option<Vec<Record>>> {
    let end = Instant::now() + CATCH_UP;
    let mut log: Vec<Record> = Vec::new();
    while (log.len() as u64) < last {
        let from = log.len() as u64 + 1;
        match client.pull(session, from, Direction::Forward, PAGE, Consistency::Replica).await {
            Ok(page) if !page.records.is_empty() => log.extend(page.records),
            Ok(_) => tokio::time::sleep(POLL).await,
            Err(fault) if fault.code() == Some(ErrorCode::NoReplica) => return Ok(None),
            Err(fault) if fault.code() == Some(ErrorCode::NoSuchSession) => tokio::time::sleep(POLL).await,
            Err(fault) => return Err(fault.into()),
        }
        if Instant::now() > end {
            bail!("the replica has {} of {last} messages after {} s", log.len(), CATCH_UP.as_secs());
        }
    }
    Ok(Some(log))
}
