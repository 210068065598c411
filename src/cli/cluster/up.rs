//! `rookery cluster up`.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::board;
use crate::fleet::{self, Fleet};
use crate::terminal as out;

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// Only this node
    node: Option<u16>,
    /// Seconds until it counts as failed
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// This node has lost its data folder: it comes back with an empty one
    #[arg(long, requires = "node")]
    replace: bool,
    /// Start the processes and return at once
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn run(fleet: &Fleet, args: &UpArgs) -> Result<()> {
    let began = Instant::now();
    if let Some(id) = args.node {
        fleet.node(id)?;
    }
    for warning in fleet.config.warnings() {
        out::tell(format_args!("{}: {warning}", out::paint(out::WARN, "warning")));
    }
    let program = fleet::own_program()?;
    let more: &[&str] = if args.replace { &["--replace"] } else { &[] };
    let mut started = Vec::new();
    for node in fleet.config.nodes.iter().filter(|node| args.node.is_none_or(|id| id == node.id)) {
        match Fleet::process(node) {
            Some(process) => {
                out::tell(format_args!("node {} runs already, as process {}", node.id, process.pid))
            }
            None => {
                let child = fleet.spawn(node, &program, more)?;
                out::tell(format_args!(
                    "node {} started as process {}, log {}",
                    node.id,
                    child.id(),
                    Fleet::log_path(node).display()
                ));
                started.push((node.id, child));
            }
        }
    }
    if args.no_wait {
        return Ok(());
    }
    // One node alone is waited for with what runs beside it.
    let running: Vec<u16> =
        fleet.config.nodes.iter().filter(|n| Fleet::process(n).is_some()).map(|n| n.id).collect();
    let wanted: Vec<u16> = match args.node {
        Some(id) => running.into_iter().chain([id]).collect(),
        None => fleet.config.nodes.iter().map(|node| node.id).collect(),
    };
    let spinner = out::spinner("waiting for the nodes");
    let patience = Duration::from_secs(args.patience);
    let show = |missing: &str| spinner.set_message(missing.to_owned());
    let board = fleet::wait_until_led(fleet, &wanted, &mut started, patience, show).await;
    spinner.finish_and_clear();
    let board = board?;
    out::line(board::nodes(fleet, &board))?;
    out::tell(format_args!("every shard has a leader after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}
