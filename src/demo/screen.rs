//! What the demo shows: phases, the conversation, the verdict.

use std::path::Path;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use rookery_wire::SessionId;

use super::transcript::Device;
use super::verdict::Verdict;
use crate::terminal::{self, BAD, BOLD, DIM, GOOD, WARN, paint};

/// Colours of names; a name always has the same.
const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
];

/// The screen, with its clock.
pub(super) struct Screen {
    began: Instant,
    quiet: bool,
}

impl Screen {
    /// A screen whose clock starts now. `quiet` leaves the conversation out.
    pub(super) fn new(quiet: bool) -> Self {
        Self { began: Instant::now(), quiet }
    }

    /// A new phase.
    pub(super) fn phase(&self, text: &str) -> Result<()> {
        terminal::line(format_args!("{} {}", self.stamp(), paint(BOLD, text)))?;
        Ok(())
    }

    /// A word from the narrator.
    pub(super) fn say(&self, text: &str) -> Result<()> {
        terminal::line(format_args!("{} {}", self.stamp(), paint(BOLD, text)))?;
        Ok(())
    }

    /// One line of the conversation.
    pub(super) fn line(&self, from: &Device, session: &SessionId, text: &str, acked: bool) -> Result<()> {
        if self.quiet && acked {
            return Ok(());
        }
        let place = match (session, session.peer_of(&from.user)) {
            (_, Some(peer)) => format!("@{peer}"),
            (SessionId::Group(group), None) => format!("#{group}"),
            (other, None) => other.to_string(),
        };
        let mark = if acked { String::new() } else { paint(BAD, "  not acknowledged") };
        let name = paint(colour(from.user.as_str()), format_args!("{:>6}", from.user.as_str()));
        terminal::line(format_args!(
            "{} {name} {} {text}{mark}",
            self.stamp(),
            paint(DIM, format_args!("{place:<11}"))
        ))?;
        Ok(())
    }

    /// A node was killed.
    pub(super) fn killed(&self, node: u16, why: &str, waiting: usize) -> Result<()> {
        let text = format!("✗ kill -9 node {node}: {why}; {waiting} sends in flight");
        terminal::line(format_args!("{} {}", self.stamp(), paint(BAD, text)))?;
        Ok(())
    }

    /// A node was started again.
    pub(super) fn restarted(&self, node: u16) -> Result<()> {
        terminal::line(format_args!(
            "{} {}",
            self.stamp(),
            paint(GOOD, format_args!("✓ node {node} started again"))
        ))?;
        Ok(())
    }

    /// The table at the end.
    pub(super) fn verdict(&self, verdict: &Verdict, killed: usize) -> Result<()> {
        let row = |name: &str, value: String, good: bool| {
            let value = if good { value } else { paint(BAD, value) };
            terminal::line(format_args!("  {name:<22}{value}"))
        };
        terminal::line("")?;
        row("sent", verdict.sent.to_string(), true)?;
        row("acknowledged", verdict.acked.to_string(), verdict.acked == verdict.sent)?;
        row(
            "delivered",
            format!("{} of {} (each device of each member)", verdict.delivered, verdict.expected),
            verdict.delivered == verdict.expected,
        )?;
        for (name, count) in
            [("lost", verdict.lost), ("doubled", verdict.doubled), ("reordered", verdict.reordered)]
        {
            row(name, count.to_string(), count == 0)?;
        }
        row("replica logs compared", verdict.replicas_read.to_string(), true)?;
        row("median time to an ack", verdict.median.map_or_else(|| "none".to_owned(), millis), true)?;
        if killed > 0 {
            row("ack gap at the kill", verdict.gap.map_or_else(|| "none".to_owned(), millis), true)?;
        }
        for reason in &verdict.reasons {
            terminal::line(format_args!("  {} {reason}", paint(WARN, "!")))?;
        }
        let (style, word) = if verdict.is_good() { (GOOD, "GOOD") } else { (BAD, "BAD") };
        let took = self.began.elapsed().as_secs_f64();
        terminal::line(format_args!(
            "\n{} sent={} acked={} delivered={}/{} lost={} doubled={} reordered={} gap_ms={} in {took:.1} s",
            paint(style, format_args!("demo: {word}")),
            verdict.sent,
            verdict.acked,
            verdict.delivered,
            verdict.expected,
            verdict.lost,
            verdict.doubled,
            verdict.reordered,
            verdict.gap.map_or_else(|| "none".to_owned(), |gap| gap.as_millis().to_string()),
        ))?;
        Ok(())
    }

    /// How to go on by oneself.
    pub(super) fn invite(&self, config: &Path, users: [&str; 2]) -> Result<()> {
        let program = std::env::args().next().unwrap_or_else(|| "rookery".to_owned());
        let config = config.display();
        let [one, other] = users;
        terminal::line(format_args!(
            "\nThe conversation is still there. To join it:\n  \
             {program} cluster up --config {config}\n  \
             {program} chat --config {config} --user {one}\n  \
             {program} chat --config {config} --user {other}     {}\n  \
             {program} cluster down --config {config}",
            paint(DIM, "in another terminal")
        ))?;
        Ok(())
    }

    fn stamp(&self) -> String {
        paint(DIM, format_args!("{:5.1}s", self.began.elapsed().as_secs_f64()))
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn colour(name: &str) -> Style {
    let sum: usize = name.bytes().map(usize::from).sum();
    COLOURS[sum % COLOURS.len()].on_default()
}
