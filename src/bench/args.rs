//! Arguments of `rookery bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

/// Measure a cluster: throughput and latency of acknowledged messages, memory of idle connections, time of a
/// restart.
#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  rookery bench                                         8 senders × 256 in flight, 8 sessions, 256 B
  rookery bench --senders 1 --window 1 --at-leader      latency of one message at a time
  rookery bench --receivers 50 --json
  rookery bench --rate 20000 --plot latency.svg         open loop: latency from the intended time
  rookery bench --direct 50 --receivers 10 --markdown   half of the senders in direct sessions
  rookery bench sweep --plot sweep.svg                  latency against throughput, rate after rate
  rookery bench spread                                  1,000 groups of 10, 4,096 users online: every push is counted
  rookery bench spread --devices 3 --markdown
  rookery bench spread --groups 1 --members 5000 --online 5000 --rate 20 --senders 20
  rookery bench idle --connections 3000
  rookery bench idle --connections 18000 --at 1
  rookery bench group --members 99000
  rookery bench receipts --members 9999
  rookery bench login --sessions 1000 --logins 10000
  rookery bench login --rounds 300 --logins 0 --rate    the same again while others send
  rookery bench crowd --clients 10000
  rookery bench hot
  rookery bench sessions --sessions 1000000
  rookery bench pull --messages 1000000
  rookery bench away --away 300
  rookery bench growth --markdown
  rookery bench restart --messages 1000000"
)]
pub struct BenchArgs {
    /// What to measure (default: load).
    #[command(subcommand)]
    pub mode: Option<Mode>,
    /// The load, where no mode is named.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Use this running cluster and not one of our own.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Token for every connection, where the cluster asks for one.
    #[arg(long, global = true, default_value = "", hide_default_value = true)]
    pub token: String,
    /// Nodes of the own cluster.
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=5))]
    pub nodes: u16,
    /// Shards of the own cluster.
    #[arg(long, global = true, default_value_t = 16)]
    pub shards: u32,
    /// Where the own cluster's folder is made (default: the system's temporary folder).
    #[arg(long, global = true, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Seed of what messages say (default: drawn); printed with the figures.
    #[arg(long, global = true)]
    pub seed: Option<u64>,
    /// Figures as JSON on stdout.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to measure.
#[derive(Subcommand, Clone, Debug)]
pub enum Mode {
    /// Acknowledged messages per second and their latency.
    Load(LoadArgs),
    /// The same at one rate after another, each in an open loop.
    Sweep(SweepArgs),
    /// Many groups whose members are all online: pushes per second, their latency, and whether every device had every one.
    Spread(SpreadArgs),
    /// What a cluster takes of the cores when nothing happens, and memory of connections that do nothing.
    Idle(IdleArgs),
    /// What a large group costs: joining, a send, a login.
    Group(GroupArgs),
    /// Time in which it is told who of a large group has read a message.
    Receipts(ReceiptsArgs),
    /// Many clients that pull the same old page, and read the same message, at the same instant.
    Crowd(CrowdArgs),
    /// Latency of quiet sessions alone and beside a group at full speed.
    Hot(HotArgs),
    /// Memory of sessions that are idle.
    Sessions(SessionsArgs),
    /// Latency of pulling messages: new ones, and old ones that no cache has.
    Pull(PullArgs),
    /// What a message costs where there is a hundred times as much of something.
    Growth(GrowthArgs),
    /// How soon a node that was away under load has everything again, and what that costs the others.
    Away(AwayArgs),
    /// Time until a cluster with stored messages serves again.
    Restart(RestartArgs),
    /// Time until the session list is there: one user's with many sessions, and everybody's at once after an outage.
    Login(LoginArgs),
}

/// A closed loop, in which every sender has a fixed number of messages in flight; with a rate, an open one.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Senders, each a connection of its own.
    #[arg(long, default_value_t = 8)]
    pub senders: u32,
    /// Messages in flight per sender; with a rate, at most.
    #[arg(long, default_value_t = 256)]
    pub window: usize,
    /// Messages per second of all senders together, each due at its time whatever became of those before it.
    #[arg(long, value_name = "PER SECOND", value_parser = rate, conflicts_with = "library")]
    pub rate: Option<f64>,
    /// Percent of the senders who speak in a direct session of their own, with the other user online.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub direct: u32,
    /// Groups (default: 8, or as many as there are senders for them). Sender i speaks in group i mod this; where groups are
    /// more than senders, each has several and takes them in turn.
    #[arg(long)]
    pub sessions: Option<u32>,
    /// Bytes of content.
    #[arg(long, default_value_t = 256)]
    pub size: usize,
    /// Members online in each session who only receive.
    #[arg(long, default_value_t = 0)]
    pub receivers: u32,
    /// Seconds measured.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds before that, not measured.
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Connect every sender to the node that leads its session's shard.
    #[arg(long)]
    pub at_leader: bool,
    /// Send through the client library and not straight over the protocol.
    #[arg(long)]
    pub library: bool,
    /// Figures as a table in Markdown on stdout.
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Draw a picture: latency over time; of a sweep, latency against throughput.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

/// A positive number of messages per second.
fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|fault| format!("{fault}"))?;
    if rate.is_finite() && (0.01..=1e8).contains(&rate) {
        Ok(rate)
    } else {
        Err("0.01 to 100000000".to_owned())
    }
}

/// A number of seconds, at most a day.
fn span(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|fault| format!("{fault}"))?;
    if (0.1..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("0.1 to 86400".to_owned()) }
}

/// The load, and at which rates.
#[derive(Args, Clone, Debug)]
pub struct SweepArgs {
    /// The load; its own rate is not used.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Rates, messages per second (default: parts of what a closed loop of the same load reaches first).
    #[arg(long, value_name = "PER SECOND", value_delimiter = ',', value_parser = rate)]
    pub rates: Vec<f64>,
}

/// Users online, with their devices spread over the nodes, and groups drawn among them.
#[derive(Args, Clone, Debug)]
pub struct SpreadArgs {
    /// Users online.
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub online: u32,
    /// Devices of each, all connected. Each is an open file here and at a node.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub devices: u32,
    /// Groups.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub groups: u32,
    /// Members of each, dealt so that every user is in about as many groups.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub members: u32,
    /// Members who speak, each with one device and in all of its groups in turn (default: as many as there are groups).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub senders: Option<u32>,
    /// Messages in flight per sender; with a rate, at most.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub window: u32,
    /// Messages per second of all senders together, each due at its time whatever became of those before it.
    #[arg(long, value_name = "PER SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// Bytes of content; the first 8 say when it was sent, or due.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(8..=65_536))]
    pub size: u32,
    /// Seconds measured.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds before that, not measured.
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Figures as a table in Markdown on stdout.
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
}

/// Connections that say HELLO and SYNC and then nothing.
#[derive(Args, Clone, Debug)]
pub struct IdleArgs {
    /// Connections per node; 0 leaves them out. Each is an open file here and at a node.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(..=90_000))]
    pub connections: u32,
    /// All of them at this node, and none at the others.
    #[arg(long, value_name = "NODE")]
    pub at: Option<u16>,
}

/// A group of which few are online.
#[derive(Args, Clone, Debug)]
pub struct GroupArgs {
    /// Members who are never online.
    #[arg(long, default_value_t = 9_900, value_parser = clap::value_parser!(u32).range(50..=99_000))]
    pub members: u32,
    /// Members who are, and only receive.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=900))]
    pub online: u32,
    /// Messages sent one after the other, in this group and in one of those who are online.
    #[arg(long, default_value_t = 500)]
    pub sends: u32,
}

/// A group, and how often it is asked about.
#[derive(Args, Clone, Debug)]
pub struct ReceiptsArgs {
    /// Members of the group, beside the one who asks.
    #[arg(long, default_value_t = 9_999)]
    pub members: u32,
    /// Requests measured, with cursors in memory and without.
    #[arg(long, default_value_t = 50)]
    pub rounds: u32,
}

/// A number of messages per second, or half of what is reached without one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LoginRate {
    /// Half of what a closed loop of the same senders reaches first.
    Half,
    /// So many.
    Of(f64),
}

fn login_rate(text: &str) -> Result<LoginRate, String> {
    match text {
        HALF => Ok(LoginRate::Half),
        number => rate(number).map(LoginRate::Of).map_err(|fault| format!("{fault}, or {HALF}")),
    }
}

/// [`LoginRate::Half`] in a word.
const HALF: &str = "half";

/// Sessions of the one who logs in, and how many log in at once.
#[derive(Args, Clone, Debug)]
pub struct LoginArgs {
    /// Sessions of one user, at least 10.
    #[arg(long, default_value_t = 1_000)]
    pub sessions: u32,
    /// Logins of that user measured, each whole and since a mark.
    #[arg(long, default_value_t = 50)]
    pub rounds: u32,
    /// Measure these logins once more while 8 senders with at most 256 messages in flight each send so many messages per
    /// second in sessions of their own. Without a number it is half of what they reach in a closed loop, measured before.
    #[arg(long, value_name = "PER SECOND", value_parser = login_rate, num_args = 0..=1, default_missing_value = HALF)]
    pub rate: Option<LoginRate>,
    /// The user has read nothing: then the badge of a first page takes the heads of 500 sessions more.
    #[arg(long)]
    pub unread: bool,
    /// Devices that log in at once, each of a user of its own; 0 leaves that out. Each is an open file here and at a node.
    #[arg(long, default_value_t = 10_000)]
    pub logins: u32,
}

/// How long a node is away, and under what load.
#[derive(Args, Clone, Debug)]
pub struct AwayArgs {
    /// Seconds from the node's end to its new start.
    #[arg(long, default_value_t = 300.0, value_parser = span)]
    pub away: f64,
    /// Messages per second of all senders together, about half of what the machine can take.
    #[arg(long, value_name = "PER SECOND", default_value_t = 20_000.0, value_parser = rate)]
    pub rate: f64,
    /// Seconds measured before it goes.
    #[arg(long, default_value_t = 10.0, value_parser = span)]
    pub before: f64,
    /// Senders, each a connection to one of the other nodes, and with a session of its own.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub senders: u32,
    /// Bytes of content.
    #[arg(long, default_value_t = 256)]
    pub size: usize,
}

/// Something of which a cluster may have much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// Sessions in use.
    Sessions,
    /// Members of the groups who are not online.
    Members,
    /// Messages stored before.
    History,
}

impl Dimension {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Members => "members",
            Self::History => "history",
        }
    }
}

/// What is to grow, and at which rate the cost of a message is measured.
#[derive(Args, Clone, Debug)]
pub struct GrowthArgs {
    /// What grows, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "sessions,members,history")]
    pub of: Vec<Dimension>,
    /// How many of it (default: 100, 1000 and 10000 sessions and members, ten thousand to a million messages stored before).
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub steps: Option<Vec<u64>>,
    /// Messages per second of all senders together.
    #[arg(long, value_name = "PER SECOND", default_value_t = 5_000.0, value_parser = rate)]
    pub rate: f64,
    /// Seconds measured of each.
    #[arg(long, default_value_t = 10.0, value_parser = span)]
    pub seconds: f64,
    /// Bytes of content.
    #[arg(long, default_value_t = 256)]
    pub size: usize,
    /// The table alone on stdout, in Markdown.
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
}

/// Messages to store, and how often some of them are pulled.
#[derive(Args, Clone, Debug)]
pub struct PullArgs {
    /// Messages stored, at least.
    #[arg(long, default_value_t = 1_000_000)]
    pub messages: u64,
    /// Bytes of content.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(..=4096))]
    pub size: u16,
    /// Sessions they are spread over, 400 messages or more in each; from half of them old messages are pulled once each, from the other half
    /// once more after the kernel was asked to let go of the files.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    pub sessions: u32,
    /// Pulls of each kind, at most one in a session for old messages.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub pulls: u32,
}

/// Messages to store before the restart.
#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// Messages stored before the restart, at least.
    #[arg(long, default_value_t = 1_000_000)]
    pub messages: u64,
    /// Bytes of content.
    #[arg(long, default_value_t = 256)]
    pub size: usize,
    /// Sessions they are spread over.
    #[arg(long, default_value_t = 64)]
    pub sessions: u32,
}

/// Clients that do the same at the same instant.
#[derive(Args, Clone, Debug)]
pub struct CrowdArgs {
    /// How many; as many files may have to be open at once, here and in each node a third of it.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=30_000))]
    pub clients: u32,
}

/// Quiet sessions, and one that is not.
#[derive(Args, Clone, Debug)]
pub struct HotArgs {
    /// Quiet sessions, with a message every 20 ms each.
    #[arg(long, default_value_t = 16)]
    pub quiet: u32,
    /// Senders of the hot group, with 256 messages in flight each.
    #[arg(long, default_value_t = 4)]
    pub senders: u32,
    /// Seconds measured, alone and again beside the hot group.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
}

/// Direct sessions of one message each.
#[derive(Args, Clone, Debug)]
pub struct SessionsArgs {
    /// How many.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(200..=1_200_000))]
    pub sessions: u64,
}
