//! The same logins while others send, in an open loop: what is due does not wait for the cluster, so a login that makes senders
//! wait shows in their latency, and one that waits for them in its own. In the end what was acknowledged is read back.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::super::args::{LoadArgs, LoginRate};
use super::super::load::{Run, make_sessions, measure, once};
use super::super::mix::Plan;
use super::super::phases::{Phase, Phases};
use super::{Ground, Logins};

/// Senders, each with a session of its own, and what each has in flight at most.
const SENDERS: u32 = 8;
const WINDOW: usize = 256;
/// Bytes of content.
const SIZE: usize = 256;
/// Seconds of the closed loop, and of those before it.
const CLOSED: (f64, f64) = (5.0, 2.0);
/// The load goes for so long before the first login.
const WARMUP: Duration = Duration::from_secs(2);
/// It must have begun by then, and all logins must have come through.
const BEGIN: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(600);
/// A rate counts as kept when so much of it was answered meanwhile.
const KEPT: f64 = 0.99;

#[derive(Serialize)]
pub(super) struct UnderLoad {
    /// Messages per second that were due.
    rate: f64,
    /// What the same senders reached in a closed loop before, where the rate is half of that.
    closed_loop: Option<f64>,
    /// Whether so many were answered while there were logins, to a hundredth, and nothing due remained unsent.
    kept_rate: bool,
    unsent: u64,
    /// Messages per second that were answered while there were logins.
    acked_per_second: f64,
    /// Latencies of the messages that were due while there were logins, from the time at which each was.
    send: Phase,
    /// Acknowledged in all …
    acked_in_all: u64,
    /// … and found when read back.
    read_back: u64,
    logins: Logins,
}

/// Logs in under that load.
///
/// # Errors
/// A login that failed, a load that has not begun or not ended in time, and what is missing when it is read back.
pub(super) async fn run(
    ground: &Ground,
    rate: LoginRate,
    logins: impl Future<Output = anyhow::Result<Logins>>,
) -> anyhow::Result<UnderLoad> {
    let closed_loop = match rate {
        LoginRate::Half => Some(once(ground, &shape(None)).await?.acked_per_second),
        LoginRate::Of(_) => None,
    };
    let rate = match (rate, closed_loop) {
        (LoginRate::Of(rate), _) => rate,
        (LoginRate::Half, reached) => reached.unwrap_or_default() / 2.0,
    };
    ensure!(rate > 0.0, "a closed loop had no message acknowledged");
    let load = shape(Some(rate));
    let plan = Plan::of(&load)?;
    make_sessions(ground, &plan, &load).await?;
    let phases = Phases::new(2)?;
    let run = Run { warmup: Duration::ZERO, length: LONGEST, most: u64::MAX, phases: Some(phases.clone()) };
    let logging_in = async {
        let begun = phases.begun(BEGIN).await?;
        sleep_until(begun + WARMUP).await;
        phases.turn(Instant::now());
        let logins = tokio::time::timeout(LONGEST, logins).await??;
        phases.turn(Instant::now());
        Ok(logins)
    };
    let (report, logins) =
        Box::pin(async { tokio::try_join!(measure(ground, &plan, &load, &run), logging_in) }).await?;
    ensure!(
        report.read_back >= report.acked_in_all,
        "{} messages were acknowledged, {} are there",
        report.acked_in_all,
        report.read_back
    );
    let [_, send] = phases.report().try_into().map_err(|_| anyhow::anyhow!("a phase is missing"))?;
    let acked_per_second = send.answered as f64 / send.seconds.max(f64::MIN_POSITIVE);
    Ok(UnderLoad {
        rate,
        closed_loop,
        kept_rate: report.unsent == 0 && acked_per_second >= rate * KEPT,
        unsent: report.unsent,
        acked_per_second,
        send,
        acked_in_all: report.acked_in_all,
        read_back: report.read_back,
        logins,
    })
}

fn shape(rate: Option<f64>) -> LoadArgs {
    LoadArgs {
        senders: SENDERS,
        window: WINDOW,
        rate,
        direct: 0,
        sessions: Some(SENDERS),
        size: SIZE,
        receivers: 0,
        seconds: CLOSED.0,
        warmup: CLOSED.1,
        at_leader: false,
        library: false,
        markdown: false,
        plot: None,
    }
}

impl UnderLoad {
    pub(super) fn words(&self) -> String {
        let half = self.closed_loop.map_or_else(String::new, |reached| {
            format!(" (half of the {reached:.0}/s that a closed loop reached before)")
        });
        let kept = if self.kept_rate { "" } else { ", which was NOT kept" };
        format!(
            "under {:.0} messages/s of {SIZE} B{half}{kept}: {}\n\
             these messages: {:.0} acked/s meanwhile, p50 {:.2} ms  p99 {:.2} ms  max {:.0} ms; read back {} of {} acked, {} that \
             were due were never sent",
            self.rate,
            self.logins.words(),
            self.acked_per_second,
            self.send.p50_ms,
            self.send.p99_ms,
            self.send.max_ms,
            self.read_back,
            self.acked_in_all,
            self.unsent,
        )
    }
}
