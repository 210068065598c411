//! The command line: what a person or a script says to the one binary, and what it prints back.
//!
//! Owns arguments, output and exit codes. Results go to stdout, everything else to stderr; an error is one message
//! there and a non-zero exit: 1 when the work failed, 2 when the words were wrong. Must never hold logic that another
//! program would want: that lives in the library beside it.

mod admin;
mod admin_words;
mod chat;
mod cluster;
mod config;
mod connect;
mod digest;
mod group;
mod group_join;
pub(crate) mod group_words;
mod live;
mod own;
pub(crate) mod people;
mod record;
mod serve;
mod sessions;
mod talk;
mod token;
mod versions;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::terminal as out;

/// Store-and-deliver cluster for instant messages.
#[derive(Debug, Parser)]
#[command(
    name = "rookery",
    version,
    long_version = LONG_VERSION.as_str(),
    max_term_width = 100,
    after_help = "Examples:
  rookery demo                             three nodes, a conversation, a leader killed: see it work
  rookery cluster up                       start the nodes of ./cluster.toml
  rookery chat --user ann                  chat in the terminal
  rookery send --user ann @bob 'hello'     send one message
  rookery cluster down                     stop them

Every command has --help with examples of its own."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// With what nodes compare when they meet.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let (version, speaks) = (env!("CARGO_PKG_VERSION"), crate::node::speaks());
    format!("{version} (between nodes: {speaks}; format {})", crate::system::FORMAT)
});

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a conversation on three nodes, kill a leader in the middle of it, and prove that nothing was lost
    Demo(crate::demo::DemoArgs),
    /// Run one node in the foreground
    Serve(serve::ServeArgs),
    /// Start, stop and watch the nodes of a configuration on this machine
    Cluster(cluster::ClusterArgs),
    /// Check a configuration file, or write a sample
    Config(config::ConfigArgs),
    /// Chat in the terminal
    Chat(Box<chat::ChatArgs>),
    /// Send messages
    Send(talk::SendArgs),
    /// Take the content of a message back
    Recall(talk::RecallArgs),
    /// Put other content in the place of a message's
    Edit(talk::EditArgs),
    /// Print what a message says, and what it said before it was edited
    Versions(versions::VersionsArgs),
    /// Print who has read a message, or who has not
    Receipts(live::ReceiptsArgs),
    /// Say something to who is there now, and to nobody later
    Ephemeral(live::EphemeralArgs),
    /// Print who is online, and who comes and goes
    Watch(live::WatchArgs),
    /// Print messages as they arrive
    Tail(talk::TailArgs),
    /// Print a part of a session's history
    Pull(talk::PullArgs),
    /// Prove that the records of a session are those that the cluster holds
    Digest(digest::DigestArgs),
    /// List a user's sessions with unread counts
    Sessions(sessions::SessionsArgs),
    /// Create groups, manage them and their members
    Group(Box<group::GroupArgs>),
    /// Pin, mute, hide, clear: how you have your sessions
    Session(Box<own::SessionArgs>),
    /// Manage friends, requests and blocked users
    People(Box<people::PeopleArgs>),
    /// List, name and end your devices
    Device(Box<own::DeviceArgs>),
    /// Act for the business: create, send, manage and export for named users
    Admin(Box<admin::AdminArgs>),
    /// Issue a token for `auth.mode = "token"`
    Token(token::TokenArgs),
    /// Load a cluster, hurt it, and prove that no message was lost, doubled or reordered
    Check(Box<crate::check::CheckArgs>),
    /// Measure throughput, latency, memory of connections and the time of a restart
    Bench(Box<crate::bench::BenchArgs>),
}

/// Where the configuration is, for every command that needs it.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigPath {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "cluster.toml", env = "ROOKERY_CONFIG", global = true)]
    pub config: PathBuf,
}

/// Reads the arguments, does what they say, and tells how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        // The reader of our output has gone away (`rookery tail | head`): nothing is wrong.
        Err(fault) if is_broken_pipe(&fault) => ExitCode::SUCCESS,
        Err(fault) => {
            out::error(&fault);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Serve(args) => return serve::run(args),
        Command::Config(args) => config::run(&args)?,
        Command::Token(args) => token::run(&args)?,
        Command::Cluster(args) => return block_on(cluster::run(args)),
        Command::Chat(args) => block_on(chat::run(*args))?,
        Command::Send(args) => block_on(talk::send(args))?,
        Command::Recall(args) => block_on(talk::recall(args))?,
        Command::Edit(args) => block_on(talk::edit(args))?,
        Command::Versions(args) => block_on(versions::versions(args))?,
        Command::Receipts(args) => block_on(live::receipts(args))?,
        Command::Ephemeral(args) => block_on(live::ephemeral(args))?,
        Command::Watch(args) => block_on(live::watch(args))?,
        Command::Tail(args) => block_on(talk::tail(args))?,
        Command::Pull(args) => block_on(talk::pull(args))?,
        Command::Digest(args) => block_on(digest::digest(args))?,
        Command::Sessions(args) => block_on(sessions::sessions(args))?,
        Command::Group(args) => block_on(group::group(*args))?,
        Command::Session(args) => block_on(own::session(*args))?,
        Command::People(args) => block_on(people::people(*args))?,
        Command::Device(args) => block_on(own::device(*args))?,
        Command::Admin(args) => block_on(admin::admin(*args))?,
        Command::Demo(args) => return crate::demo::main(&args),
        Command::Check(args) => return crate::check::main(*args),
        Command::Bench(args) => return crate::bench::main(*args),
    }
    Ok(ExitCode::SUCCESS)
}

/// One thread is enough for a command.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    out::init_log("warn", crate::config::LogFormat::Text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(Box::pin(work))
}

fn is_broken_pipe(fault: &anyhow::Error) -> bool {
    fault.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Every command, and every command of a command, shows examples.
    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  rookery "), "{} has no examples", command.get_name());
        }
    }
}
