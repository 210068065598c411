//! The limit probe: how fast a message could be made durable on this machine, and how fast one could be handed out, if
//! nothing else had to be done.
//!
//! `durable` is three processes over loopback TCP: a leader and two followers, each with a preallocated file. What clients
//! send is forwarded as it is, written, and synced with fdatasync; an acknowledgement is a running count, sent when two of
//! the three have the bytes on disk. No consensus, no parsing, no state: no election could ever be held here, and nothing
//! could be found again. `fanout` is one buffer and N sockets. Both take the shapes of `rookery bench`. It must never
//! acknowledge before a majority has synced, and compares the three files before it prints a figure.

#[path = "../../../src/bench/content.rs"]
mod content;
mod driver;
mod fanout;
mod follower;
mod leader;
mod part;
mod report;
mod ring;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// What this machine gives to any system.
#[derive(Parser, Debug)]
#[command(
    name = "rookery-limit-probe",
    after_help = "Examples:
  rookery-limit-probe durable                          8 senders x 256 in flight, 256 B
  rookery-limit-probe durable --senders 1 --window 1
  rookery-limit-probe fanout --sockets 1000 --batch 16"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Majority fdatasync with coalesced acknowledgements.
    Durable(DurableArgs),
    /// One buffer to many sockets.
    Fanout(FanoutArgs),
    /// A process of `durable`.
    #[command(hide = true)]
    Leader(LeaderArgs),
    /// A process of `durable`.
    #[command(hide = true)]
    Follower(FileArgs),
    /// A process of `fanout`.
    #[command(hide = true)]
    Readers,
}

/// The load: as `rookery bench`.
#[derive(Args, Clone, Debug)]
struct DurableArgs {
    /// Senders, each a connection of its own.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    senders: u32,
    /// Messages in flight per sender.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,
    /// Bytes of content.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    size: u32,
    /// Seconds measured.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before that, not measured.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Seed of what messages say (default: drawn).
    #[arg(long)]
    seed: Option<u64>,
    /// Where the three files are made (default: the system's temporary folder).
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Figures as JSON on stdout.
    #[arg(long)]
    json: bool,
}

/// How far one buffer goes.
#[derive(Args, Clone, Debug)]
struct FanoutArgs {
    /// Sockets.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=30_000))]
    sockets: u32,
    /// Bytes of one delivery: content, and what a MESSAGE frame adds to it.
    #[arg(long, default_value_t = 344, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    size: u32,
    /// Deliveries to one socket with one call.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    batch: u32,
    /// Seconds of writing.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Figures as JSON on stdout.
    #[arg(long)]
    json: bool,
}

/// Where one process keeps its bytes.
#[derive(Args, Clone, Debug)]
struct FileArgs {
    #[arg(long)]
    file: PathBuf,
}

#[derive(Args, Clone, Debug)]
struct LeaderArgs {
    #[command(flatten)]
    file: FileArgs,
    #[arg(long)]
    size: u64,
    #[arg(long, value_delimiter = ',')]
    followers: Vec<std::net::SocketAddr>,
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Durable(args) => driver::run(&args)?,
        Command::Fanout(args) => fanout::run(&args)?,
        Command::Leader(args) => leader::run(&args)?,
        Command::Follower(args) => follower::run(&args)?,
        Command::Readers => fanout::readers()?,
    }
    Ok(ExitCode::SUCCESS)
}
