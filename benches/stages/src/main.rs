//! `rookery-stages`: one stage for a number of rounds, and nothing else, so that a counter of instructions can be laid
//! around it. scripts/instructions.sh does, and takes the difference of two runs, one of which only prepares.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// As in the program itself: allocating is a part of what a stage costs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The stages of one message, each alone.
#[derive(Parser, Debug)]
#[command(name = "rookery-stages")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Name, where it runs, messages of a round, what it does: one a line, with tabs between.
    List,
    /// Runs one stage.
    Run {
        /// Which.
        stage: String,
        /// How often.
        #[arg(long, default_value_t = 64)]
        rounds: u32,
        /// Make what the rounds need, and do not run them.
        #[arg(long)]
        prepare_only: bool,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::List => {
            let mut out = std::io::stdout().lock();
            for stage in rookery_stages::STAGES {
                writeln!(out, "{}\t{}\t{}\t{}", stage.name, stage.at.name(), stage.messages, stage.about)?;
            }
        }
        Command::Run { stage, rounds, prepare_only } => {
            let Some(stage) = rookery_stages::stage(&stage) else {
                anyhow::bail!("there is no stage {stage}; `rookery-stages list` names them")
            };
            let mut work = stage.work()?;
            for _ in 0..rounds {
                work.prepare()?;
                if !prepare_only {
                    work.round()?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
