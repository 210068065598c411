//! What the judge says: violations with what they harm, figures, and whether the run proves anything at all.

use std::fmt;

use serde::Serialize;

use super::gaps::RoundReport;

/// Violations of one rule kept word for word; the rest are only counted.
const MAX_TOLD: usize = 8;
/// The percentile of the rounds' ack gaps that a bound is for: 19 of 20 rounds keep it.
const GAP_PERCENTILE: f64 = 95.0;

/// What a violation means to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    /// A message that was promised is not there.
    Lost,
    /// A message is there twice.
    Doubled,
    /// Messages changed places.
    Reordered,
    /// An answer was not true.
    Wrong,
}

/// The rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Replicas are byte-identical, seqs are 1..n, times and counts run on (rule 1).
    Replicas,
    /// Every entry maps to one invoked send, none twice (rule 2).
    Entries,
    /// Acked sends sit at their seq, retries got it too, refused ones are absent; every request is answered (rule 3).
    Answers,
    /// What one device sent keeps its order (G2).
    DeviceOrder,
    /// Only members send (G8).
    Membership,
    /// Appends and reads of a session are linearizable (rule 4).
    Linear,
    /// Pages are contiguous slices of the log (rule 5).
    Pages,
    /// Pushes strictly increase and hold what the log holds (rule 5).
    Pushes,
    /// What a push skipped was told and arrived by pull (rule 5, G4).
    Delivery,
    /// Read cursors never go back (rule 6).
    Cursors,
    /// Unread equals a recount (rule 6).
    Unread,
    /// A session list names every session, truly (G5).
    Lists,
    /// Who is online is told of the sessions that its user comes into and leaves.
    News,
    /// The server kept to the protocol.
    Protocol,
    /// What was recalled or edited is shown no more, and became the same everywhere (G7).
    Recall,
    /// What lasts for a time only is there for that time and gone after it.
    Expiry,
    /// What is kept is kept, and what is trimmed is told as such.
    Trimmed,
    /// Whoever has the same records has the same digest.
    Digest,
    /// Under one request key there is one effect, one answer, one line of the audit.
    Keys,
    /// Nothing enters a direct session against a block (rule 7, G8).
    Blocks,
}

/// One broken rule, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// What it means.
    pub harm: Harm,
    /// Session, seq and operation, in words.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({:?}): {}", self.rule, self.harm, self.text)
    }
}

/// Plain counts of what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Numbered requests.
    pub sent: u64,
    /// Of these acknowledged.
    pub acked: u64,
    /// Refused for good.
    pub refused: u64,
    /// Without an answer to the end.
    pub unknown: u64,
    /// Acknowledged recalls.
    pub recalled: u64,
    /// Acknowledged edits.
    pub edited: u64,
    /// Blocks, and their ends, that were acknowledged.
    pub barred: u64,
    /// READs that were answered.
    pub read: u64,
    /// Copies that devices have proved by digest.
    pub proved: u64,
    /// Acts under request keys that were asked for again after they were answered.
    pub keyed: u64,
    /// Session lists that were asked for since a mark.
    pub since: u64,
    /// Lines that these left as they were.
    pub carried: u64,
    /// Changes of a membership of which a device that was online had to be told.
    pub told: u64,
    /// Messages that went by themselves.
    pub expired: u64,
    /// Records that were trimmed.
    pub trimmed: u64,
    /// Further attempts.
    pub retried: u64,
    /// Messages pushed.
    pub delivered: u64,
    /// Records pulled.
    pub pulled: u64,
    /// Snapshots that nodes installed.
    pub snapshots: u64,
    /// Replica dumps compared.
    pub replicas: u64,
    /// Sessions.
    pub sessions: u64,
}

/// The verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Standing {
    /// Nothing is wrong, and the run was hard enough to say so.
    Good,
    /// A rule was broken, or a bound on time was not kept.
    Bad,
    /// No rule was broken, but the run proves nothing.
    Inconclusive,
}

/// Everything the judge has to say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Counts.
    pub totals: Totals,
    /// Violations that lose a message.
    pub lost: u64,
    /// Violations that double one.
    pub doubled: u64,
    /// Violations of order.
    pub reordered: u64,
    /// Every other violation.
    pub wrong: u64,
    /// The first of them, in words.
    pub violations: Vec<Violation>,
    /// Round by round.
    pub rounds: Vec<RoundReport>,
    /// What took longer than it may, if something did: figure and bound.
    pub too_slow: Vec<String>,
    /// Why the run proves nothing, if so.
    pub inconclusive: Vec<String>,
}

impl Verdict {
    /// Notes a violation; its words are made only while there is room for them.
    pub(super) fn add(&mut self, rule: Rule, harm: Harm, text: impl FnOnce() -> String) {
        match harm {
            Harm::Lost => self.lost += 1,
            Harm::Doubled => self.doubled += 1,
            Harm::Reordered => self.reordered += 1,
            Harm::Wrong => self.wrong += 1,
        }
        let told = self.violations.iter().filter(|violation| violation.rule == rule).count();
        if told < MAX_TOLD {
            self.violations.push(Violation { rule, harm, text: text() });
        }
    }

    /// How many violations there are, told or only counted.
    pub fn broken(&self) -> u64 {
        self.lost + self.doubled + self.reordered + self.wrong
    }

    /// Holds the rounds' ack gaps against a bound: the shortest gap that 19 of 20 rounds do not exceed, which is the p95
    /// by nearest rank and with fewer than 20 rounds the longest of all.
    pub fn hold_gap(&mut self, most_ms: u64) {
        let Some(gap_ms) = self.gap_ms(GAP_PERCENTILE) else { return };
        if gap_ms > most_ms as f64 {
            let rounds = self.rounds.len();
            let rank = (GAP_PERCENTILE / 100.0 * rounds as f64).ceil();
            self.too_slow.push(format!(
                "the rounds' ack gaps have a p95 of {gap_ms:.1} ms (number {rank} of {rounds}, shortest first), {most_ms} ms are the most"
            ));
        }
    }

    /// The verdict in one word: what is broken or too slow outweighs a weak run.
    pub fn standing(&self) -> Standing {
        match (self.broken() == 0 && self.too_slow.is_empty(), self.inconclusive.is_empty()) {
            (true, true) => Standing::Good,
            (true, false) => Standing::Inconclusive,
            (false, _) => Standing::Bad,
        }
    }

    /// Percentile (0–100) of the rounds' ack gaps in milliseconds; none without rounds.
    pub fn gap_ms(&self, percentile: f64) -> Option<f64> {
        let mut gaps: Vec<u64> = self.rounds.iter().map(|round| round.ack_gap).collect();
        gaps.sort_unstable();
        let last = gaps.len().checked_sub(1)?;
        let rank = ((percentile / 100.0) * gaps.len() as f64).ceil() as usize;
        let gap = gaps.get(rank.saturating_sub(1).min(last))?;
        Some(*gap as f64 / 1000.0)
    }
}
