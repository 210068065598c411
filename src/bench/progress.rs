//! How far a bench has come, for a person who waits for it: on stderr, and only where that is a terminal. With `--json` there
//! is none: whoever reads that is a program.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::terminal;

/// How often what goes by time moves.
const TICK: Duration = Duration::from_millis(250);

const COUNTED: &str = "{msg}  {wide_bar}  {human_pos} of {human_len}, {eta} left";
const TIMED: &str = "{msg}  {wide_bar}  {eta} left";

/// Makes bars; each is gone from the screen when it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    seen: bool,
    of: String,
}

impl Progress {
    /// Bars that somebody sees, if there is somebody.
    pub(super) fn new(json: bool) -> Self {
        Self { seen: !json && terminal::watched(), of: String::new() }
    }

    /// The same for a part of the bench, which each bar names.
    pub(super) fn of(&self, part: impl Into<String>) -> Self {
        Self { seen: self.seen, of: part.into() + ": " }
    }

    /// So many of these, counted by `inc`.
    pub(super) fn counted(&self, what: &str, all: u64) -> Bar {
        let bar = self.bar(Some(all), what);
        bar.set_style(style(COUNTED));
        Bar { bar, ticker: None }
    }

    /// Something that takes so long.
    pub(super) fn timed(&self, what: &str, length: Duration) -> Bar {
        let bar = self.bar(Some(length.as_millis() as u64), what);
        bar.set_style(style(TIMED));
        let ticker = self.seen.then(|| {
            let (bar, begun) = (bar.clone(), Instant::now());
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(TICK).await;
                    bar.set_position(begun.elapsed().as_millis() as u64);
                }
            })
            .abort_handle()
        });
        Bar { bar, ticker }
    }

    /// Something of which nobody knows how long it takes.
    pub(super) fn open(&self, what: &str) -> Bar {
        let bar = self.bar(None, what);
        if self.seen {
            bar.enable_steady_tick(TICK);
        }
        Bar { bar, ticker: None }
    }

    fn bar(&self, length: Option<u64>, what: &str) -> ProgressBar {
        let target = if self.seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(length, target);
        bar.set_message(Cow::Owned(format!("bench: {}{what}", self.of)));
        bar
    }
}

fn style(template: &str) -> ProgressStyle {
    // A template that cannot be read leaves the plain bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// One bar, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    ticker: Option<AbortHandle>,
}

impl Bar {
    /// So many more.
    pub(super) fn inc(&self, more: u64) {
        self.bar.inc(more);
    }

    /// For tasks that count what they do; does not keep it on the screen.
    pub(super) fn counter(&self) -> ProgressBar {
        self.bar.clone()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(ticker) = &self.ticker {
            ticker.abort();
        }
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_drawn_for_programs_and_what_is_counted_is_counted() {
        // Whatever stderr is here, `--json` shows nothing.
        let progress = Progress::new(true).of("rate 2 of 3");
        for bar in [
            progress.counted("sends", 5),
            progress.timed("sending", Duration::from_secs(3)),
            progress.open("waiting"),
        ] {
            assert!(bar.bar.is_hidden());
            assert!(bar.ticker.is_none(), "and nothing runs for it");
            bar.inc(2);
            bar.counter().inc(1);
            assert_eq!(bar.bar.position(), 3);
            assert!(bar.bar.message().starts_with("bench: rate 2 of 3: "));
            let counter = bar.counter();
            drop(bar);
            assert!(counter.is_finished());
        }
    }

    #[test]
    fn the_bars_are_drawn_as_they_are_meant() {
        for template in [COUNTED, TIMED] {
            ProgressStyle::with_template(template).expect("a template");
        }
    }
}
