//! Which node is to lead a shard: an operator says so to any node, and the facts keep it.
//!
//! The first node of a shard's placement is given the lead whenever it can take it (`node/balance.rs`), so a lead that is to
//! stay where it was moved must stand first there. That is a fact like others: in the system group, the same for every
//! node, and there after any restart. Saying it twice changes nothing, so whoever hears no answer asks again.

use std::time::Duration;

use tokio::time::Instant;

use super::facts::FactsCommand;
use super::forming::{Forming, Question, ROUND, Reply};

/// How long the system group is asked, elections included.
const PATIENCE: Duration = Duration::from_secs(5);

impl Forming {
    /// Has the facts say that a node is to lead a shard.
    ///
    /// # Errors
    /// What they have against it, or that the system group cannot be asked; then it may still come to be.
    pub async fn prefer(&self, shard: u32, node: u16) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let why = match self.prefer_once(shard, node).await {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            if Instant::now() + ROUND >= until {
                return Err(format!(
                    "the system group does not note that node {node} is to lead shard {shard}: {why}"
                ));
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn prefer_once(&self, shard: u32, node: u16) -> Result<(), String> {
        let leader = self.group.lock().as_ref().and_then(|group| group.status().leader);
        let Some(leader) = leader else { return Err("it has no leader".to_owned()) };
        if leader.node == self.node {
            return self.propose(FactsCommand::Prefer { shard, node }).await;
        }
        match self.ask(leader.node, rookery_wire::encode(&Question::Prefer { shard, node })).await {
            Some(Reply::Done) => Ok(()),
            Some(Reply::No(why)) => Err(why),
            _ => Err(format!("its leader, node {}, does not answer", leader.node)),
        }
    }
}
