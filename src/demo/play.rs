//! Plays the steps of the transcript: lines go out in order, a node dies in the middle of them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rookery_wire::SessionId;
use tokio::sync::oneshot;

use super::arena::Arena;
use super::cast::Cast;
use super::screen::Screen;
use super::transcript::{Step, Transcript, Victim};
use crate::fleet;

/// Pause between two lines unless the transcript sets another.
const PACE: Duration = Duration::from_millis(45);
/// How long a kill waits for sends to be in flight.
const IN_FLIGHT: Duration = Duration::from_secs(2);
/// How long nodes are asked who leads.
const ASK: Duration = Duration::from_secs(1);
/// Lines that may wait for their ack before the next is said.
const AHEAD: usize = 12;
/// A machine so slow that the script has not been said by now hears the rest of it without pauses and small talk.
const HURRY_AFTER: Duration = Duration::from_secs(25);

/// A line that is on its way.
struct Line {
    device: usize,
    session: SessionId,
    text: String,
    done: oneshot::Receiver<bool>,
}

/// The player.
pub(super) struct Player<'a> {
    pub(super) transcript: &'a Transcript,
    pub(super) cast: &'a Cast,
    pub(super) arena: &'a mut Arena,
    pub(super) screen: &'a Screen,
    /// When nodes were killed.
    pub(super) kills: Vec<Instant>,
}

impl Player<'_> {
    /// Plays everything, then waits until every line is acknowledged or given up.
    pub(super) async fn play(&mut self) -> Result<()> {
        let mut pace = PACE;
        let hurry_at = Instant::now() + HURRY_AFTER;
        let mut lines = VecDeque::new();
        for step in &self.transcript.steps {
            match step {
                Step::Message { device, session, text } => {
                    let hurry = Instant::now() > hurry_at;
                    if hurry {
                        self.cast.background(0);
                    } else {
                        tokio::time::sleep(pace).await;
                    }
                    // One conversation is said in order: an answer is not sent before what it answers is stored.
                    let waits = |line: &Line| line.session == *session && !hurry;
                    while lines.len() >= AHEAD || lines.iter().any(waits) {
                        self.settle_first(&mut lines).await?;
                    }
                    let done = self.cast.say(*device, session, text).await;
                    lines.push_back(Line {
                        device: *device,
                        session: session.clone(),
                        text: text.clone(),
                        done,
                    });
                    self.settle_ready(&mut lines)?;
                }
                Step::Say(text) => {
                    self.settle_all(&mut lines).await?;
                    self.screen.say(text)?;
                }
                Step::Pace(new) => pace = *new,
                Step::Pause(pause) => tokio::time::sleep(*pause).await,
                Step::Background(rate) => self.cast.background(*rate),
                Step::Kill(victim) => self.kill(victim).await?,
                Step::Restart => self.restart()?,
            }
        }
        self.cast.background(0);
        self.settle_all(&mut lines).await
    }

    async fn settle_first(&self, lines: &mut VecDeque<Line>) -> Result<()> {
        if let Some(line) = lines.pop_front() {
            // A sender that is gone has noted its trouble itself.
            let acked = line.done.await.unwrap_or(false);
            self.screen.line(&self.transcript.devices[line.device], &line.session, &line.text, acked)?;
        }
        Ok(())
    }

    async fn settle_all(&self, lines: &mut VecDeque<Line>) -> Result<()> {
        while !lines.is_empty() {
            self.settle_first(lines).await?;
        }
        Ok(())
    }

    /// Shows what has been acknowledged meanwhile, without waiting.
    fn settle_ready(&self, lines: &mut VecDeque<Line>) -> Result<()> {
        while let Some(line) = lines.front_mut() {
            let Ok(acked) = line.done.try_recv() else { break };
            self.screen.line(&self.transcript.devices[line.device], &line.session, &line.text, acked)?;
            lines.pop_front();
        }
        Ok(())
    }

    async fn kill(&mut self, victim: &Victim) -> Result<()> {
        let (node, why) = match victim {
            Victim::Node(node) => (*node, "as the transcript says".to_owned()),
            Victim::LeaderOf(session) => {
                let shard = self.shard_of(session);
                (self.leader(shard).await?, format!("leader of shard {shard}, which has {session}"))
            }
            Victim::Busiest => {
                let (shard, count) = self.busiest();
                (
                    self.leader(shard).await?,
                    format!("leader of shard {shard}, the busiest ({count} messages so far)"),
                )
            }
        };
        let end = Instant::now() + IN_FLIGHT;
        while self.cast.ledger.waiting() == 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waiting = self.cast.ledger.waiting();
        if waiting == 0 {
            self.cast.ledger.trouble("no send was in flight at the kill: it proves nothing".to_owned());
        }
        self.kills.push(self.arena.kill(node)?);
        self.screen.killed(node, &why, waiting)
    }

    fn restart(&mut self) -> Result<()> {
        for node in self.arena.spawn_missing()? {
            self.screen.restarted(node)?;
        }
        Ok(())
    }

    fn shard_of(&self, session: &SessionId) -> u64 {
        session.hash64() % u64::from(self.arena.fleet.config.cluster.shards) + 1
    }

    /// The shard with the most acknowledged messages, and how many.
    fn busiest(&self) -> (u64, usize) {
        let mut by_shard: BTreeMap<u64, usize> = BTreeMap::new();
        for (session, count) in self.cast.ledger.acked() {
            *by_shard.entry(self.shard_of(&session)).or_default() += count;
        }
        by_shard.into_iter().max_by_key(|(_, count)| *count).unwrap_or((1, 0))
    }

    async fn leader(&self, shard: u64) -> Result<u16> {
        let shard = u32::try_from(shard).context("shard")?;
        let end = Instant::now() + IN_FLIGHT;
        loop {
            if let Some(node) = fleet::ask_all(&self.arena.fleet, ASK).await.leader(shard) {
                return Ok(node);
            }
            if Instant::now() > end {
                anyhow::bail!("nobody says that it leads shard {shard}");
            }
            tokio::time::sleep(fleet::POLL).await;
        }
    }
}
