//! What waits to be proposed in a shard, and who of it yields. Plain data: time comes as an argument.
//!
//! As long as nobody else wants the cores, all goes into entries as it came. When others are served here (the
//! proposer says so), a session of which much waits is *loud*: its commands wait apart, the others' pass them, and
//! of all loud ones together an entry takes a share. The order of the commands of one entity is kept, which is all
//! that anybody may rely on (G2): no two entities see each other (R6).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::api::Submission;
use super::traffic::LOUD;
use crate::state::{At, Command, EntityKey};

/// Commands of loud entities in one entry while they yield, at least.
const SHARE: usize = 64;
/// Entities that are told apart as loud; more of them are no longer few that keep many waiting.
const MOST_LOUD: usize = 16;
/// An entity is loud for so long after more than [`LOUD`] of its commands waited.
const MEMORY: Duration = Duration::from_secs(1);

/// See the module's words.
#[derive(Default)]
pub(super) struct Queue {
    /// Whoever is not loud, in the order of arrival; with the entity while some yield.
    waiting: VecDeque<(Submission, Option<EntityKey>)>,
    /// How many of them each entity has, while some yield.
    counts: HashMap<EntityKey, usize>,
    loud: Vec<Loud>,
    yielding: bool,
    /// Where the next share begins among the loud.
    turn: usize,
}

struct Loud {
    entity: EntityKey,
    commands: VecDeque<Submission>,
    heard_at: Instant,
}

/// What goes into one entry.
#[derive(Default)]
pub(super) struct Picked {
    /// In order; none if nothing may go.
    pub(super) submissions: Vec<Submission>,
    /// So many of them are of loud entities: when the next of those may go, the proposer decides.
    pub(super) loud: usize,
}

impl Picked {
    /// Whether one more fits an entry of which `bytes` are used and `most` are there; the first always does.
    fn has_room(&self, bytes: &mut usize, most: usize, submission: &Submission) -> bool {
        let more = *bytes + submission.command.len() + 4;
        let fits = more <= most && self.submissions.len() < At::MAX_COMMANDS;
        let has_room = fits || self.submissions.is_empty();
        if has_room {
            *bytes = more;
        }
        has_room
    }
}

impl Queue {
    /// Appends what has come.
    pub(super) fn take(&mut self, batch: Vec<Submission>, now: Instant) {
        if self.yielding {
            for submission in batch {
                self.sort(submission, now);
            }
        } else {
            self.waiting.extend(batch.into_iter().map(|submission| (submission, None)));
        }
    }

    /// Whether loud entities yield from here on.
    pub(super) fn yields(&mut self, yielding: bool, now: Instant) {
        if self.yielding != yielding {
            self.yielding = yielding;
            self.counts.clear();
            if yielding {
                for (submission, _) in std::mem::take(&mut self.waiting) {
                    self.sort(submission, now);
                }
            } else {
                // All that an entity has waits in one place, so each keeps its order.
                for loud in std::mem::take(&mut self.loud) {
                    self.waiting.extend(loud.commands.into_iter().map(|submission| (submission, None)));
                }
            }
        }
        let all = std::mem::take(&mut self.loud);
        let is_loud =
            |loud: &Loud| loud.commands.len() > LOUD || now.saturating_duration_since(loud.heard_at) < MEMORY;
        let (loud, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_loud);
        self.loud = loud;
        for Loud { entity, commands, .. } in others.into_iter().filter(|other| !other.commands.is_empty()) {
            self.counts.insert(entity.clone(), commands.len());
            self.waiting.extend(commands.into_iter().map(|submission| (submission, Some(entity.clone()))));
        }
    }

    /// Commands that are not held back.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Commands of loud entities.
    pub(super) fn apart(&self) -> usize {
        self.loud.iter().map(|loud| loud.commands.len()).sum()
    }

    /// Whether there is something to propose, with or without loud entities.
    pub(super) fn is_ready(&self, with_loud: bool) -> bool {
        !self.waiting.is_empty() || (with_loud && self.loud.iter().any(|loud| !loud.commands.is_empty()))
    }

    /// Takes out what one entry holds, within its bounds of commands and `most_bytes`; at least one command if it may.
    pub(super) fn pick(&mut self, most_bytes: usize, with_loud: bool) -> Picked {
        let mut picked = Picked::default();
        let many = self.loud.iter().filter(|loud| !loud.commands.is_empty()).count();
        let share = if with_loud && many > 0 { self.share() } else { 0 };
        // However much the others have to say, the loud are not left out.
        let for_others = if share > 0 { most_bytes - most_bytes / 4 } else { most_bytes };
        let mut bytes = 0;
        while let Some((submission, entity)) = self.waiting.pop_front() {
            if !picked.has_room(&mut bytes, for_others, &submission) {
                self.waiting.push_front((submission, entity));
                break;
            }
            if let Some(entity) = entity
                && let Some(count) = self.counts.get_mut(&entity)
            {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&entity);
                }
            }
            picked.submissions.push(submission);
        }
        if share == 0 {
            return picked;
        }
        let each = share.div_ceil(many);
        self.turn = (self.turn + 1) % self.loud.len();
        let (before, from) = self.loud.split_at_mut(self.turn);
        for loud in from.iter_mut().chain(before) {
            for _ in 0..each {
                let Some(submission) = loud.commands.pop_front() else { break };
                if !picked.has_room(&mut bytes, most_bytes, &submission) {
                    loud.commands.push_front(submission);
                    return picked;
                }
                picked.submissions.push(submission);
                picked.loud += 1;
            }
        }
        picked
    }

    /// Takes out all there is, each entity's in order.
    pub(super) fn drain(&mut self) -> Vec<Submission> {
        let loud = std::mem::take(&mut self.loud).into_iter().flat_map(|loud| loud.commands);
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|(submission, _)| submission);
        waiting.chain(loud).collect()
    }

    /// Commands of the loud in one entry: the more wait, the more go, so that none waits for more than some sixteen entries.
    fn share(&self) -> usize {
        SHARE.max(self.apart() / 16)
    }

    fn sort(&mut self, submission: Submission, now: Instant) {
        // One that cannot be read has no order to keep.
        let Ok(command) = Command::decode(&submission.command) else {
            return self.waiting.push_back((submission, None));
        };
        let entity = command.entity().key();
        if let Some(loud) = self.loud.iter_mut().find(|loud| loud.entity == entity) {
            loud.commands.push_back(submission);
            if loud.commands.len() > LOUD {
                loud.heard_at = now;
            }
            return;
        }
        self.waiting.push_back((submission, Some(entity.clone())));
        let count = self.counts.entry(entity.clone()).or_default();
        *count += 1;
        if *count > LOUD && self.loud.len() < MOST_LOUD {
            self.counts.remove(&entity);
            let is_its = |of: &Option<EntityKey>| of.as_ref() == Some(&entity);
            let (its, others): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut self.waiting).into_iter().partition(|(_, of)| is_its(of));
            self.waiting = others;
            let commands = its.into_iter().map(|(submission, _)| submission).collect();
            self.loud.push(Loud { entity, commands, heard_at: now });
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
