//! The verdict in words: violations, bounds that were not kept and rounds for people on stderr, one last line for people and scripts.

use std::fmt::Write as _;

use super::judge::{RoundReport, Standing, Verdict};

/// Everything before the last line: what is wrong, what is slow, what is weak, how long clients waited.
pub(super) fn details(verdict: &Verdict) -> String {
    let mut text = String::new();
    for violation in &verdict.violations {
        let _ = writeln!(text, "violation: {violation}");
    }
    let untold = verdict.broken().saturating_sub(verdict.violations.len() as u64);
    if untold > 0 {
        let _ = writeln!(text, "violations: {untold} more of the same kinds");
    }
    for why in &verdict.too_slow {
        let _ = writeln!(text, "too slow: {why}");
    }
    for why in &verdict.inconclusive {
        let _ = writeln!(text, "inconclusive: {why}");
    }
    text
}

/// One round in a line.
pub(super) fn round(round: &RoundReport) -> String {
    let nodes = round.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
    let who = round.waited.as_deref().unwrap_or("nobody");
    format!(
        "round {:>3}  node {nodes:<5}  acked {:>6}  in flight {:>4}  retried {:>5}  ack gap {:>6.0} ms ({who})  snapshots {:>2}  whole after {:>5.0} ms",
        round.number,
        round.acked,
        round.in_flight,
        round.retried,
        round.ack_gap as f64 / 1000.0,
        round.snapshots,
        round.healed as f64 / 1000.0,
    )
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Good => "GOOD",
        Standing::Bad => "BAD",
        Standing::Inconclusive => "INCONCLUSIVE",
    }
}

/// The last line of a run that came to nothing that could be judged: verdict first, then why.
pub(super) fn unfinished(what: &str, seed: u64, standing: Standing, why: &anyhow::Error) -> String {
    let why = format!("{why:#}").replace(['\n', '\r'], " | ");
    format!("{what}: {}  seed {seed}  because {why}", word(standing))
}

/// Why a verdict is what it is, in one line; nothing if it is good.
fn because(verdict: &Verdict) -> String {
    let violations = verdict.violations.iter().map(ToString::to_string);
    let reasons: Vec<String> = violations
        .chain(verdict.too_slow.iter().cloned())
        .chain(verdict.inconclusive.iter().cloned())
        .collect();
    match reasons.split_first() {
        None => String::new(),
        Some((first, [])) => format!("  because {first}"),
        Some((first, more)) => format!("  because {first} (and {} more)", more.len()),
    }
}

/// The last line: verdict first, then figures by name, then why if it is not good.
pub(super) fn line(what: &str, seed: u64, verdict: &Verdict) -> String {
    let (word, because) = (word(verdict.standing()), because(verdict));
    let totals = &verdict.totals;
    let gap = |percentile| verdict.gap_ms(percentile).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
    format!(
        "{what}: {word}  rounds {}  sent {}  acked {}  refused {}  unknown {}  retried {}  delivered {}  snapshots {}  proved {}  expired {}  trimmed {}  since {}  keyed {}  lost {}  doubled {}  reordered {}  wrong {}  ack gap ms p50 {} p90 {} p95 {} max {}  seed {seed}{because}",
        verdict.rounds.len(),
        totals.sent,
        totals.acked,
        totals.refused,
        totals.unknown,
        totals.retried,
        totals.delivered,
        totals.snapshots,
        totals.proved,
        totals.expired,
        totals.trimmed,
        totals.since,
        totals.keyed,
        verdict.lost,
        verdict.doubled,
        verdict.reordered,
        verdict.wrong,
        gap(50.0),
        gap(90.0),
        gap(95.0),
        gap(100.0),
    )
}

/// 0 good, 1 bad, 2 inconclusive.
pub(super) fn exit_code(standing: Standing) -> u8 {
    match standing {
        Standing::Good => 0,
        Standing::Bad => 1,
        Standing::Inconclusive => 2,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::super::fault::{self, ClusterFault};
    use super::*;

    #[test]
    fn a_run_that_breaks_off_still_ends_with_a_verdict_and_its_reason() {
        let own = anyhow::anyhow!("no space left").context("making history.jsonl");
        let line = unfinished("check", 7, fault::standing(&own), &own);
        assert_eq!(line, "check: INCONCLUSIVE  seed 7  because making history.jsonl: no space left");
        let clusters = Err::<(), _>(ClusterFault("node 2 ended:\nits last words".to_owned()));
        let clusters = clusters.context("the nodes' logs are in /x").unwrap_err();
        let line = unfinished("rolling", 7, fault::standing(&clusters), &clusters);
        assert_eq!(
            line,
            "rolling: BAD  seed 7  because the nodes' logs are in /x: node 2 ended: | its last words"
        );
    }

    #[test]
    fn the_last_line_says_why_a_verdict_is_not_good() {
        assert!(line("check", 7, &Verdict::default()).ends_with("  seed 7"));
        let weak = ["round 1: no send was in flight at the fault", "round 2: the same"].map(str::to_owned);
        let verdict = Verdict { inconclusive: weak.into(), ..Verdict::default() };
        let line = line("check", 7, &verdict);
        assert!(line.starts_with("check: INCONCLUSIVE  rounds"), "{line}");
        assert!(line.ends_with("because round 1: no send was in flight at the fault (and 1 more)"), "{line}");
    }
}
