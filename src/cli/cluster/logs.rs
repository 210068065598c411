//! `rookery cluster logs`.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::config::NodeConfig;
use crate::fleet::Fleet;
use crate::terminal::{self as out, DIM, paint};

/// How often files are looked at with `--follow`.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// Only this node
    node: Option<u16>,
    /// So many last lines of each
    #[arg(long, short = 'n', default_value_t = 20)]
    lines: usize,
    /// Go on with what is written from now on
    #[arg(long, short)]
    follow: bool,
}

/// A file that is being followed.
struct Followed {
    node: u16,
    file: BufReader<File>,
    part: String,
}

pub(super) async fn run(fleet: &Fleet, args: &LogsArgs) -> Result<()> {
    if let Some(id) = args.node {
        fleet.node(id)?;
    }
    let mut followed = Vec::new();
    for node in fleet.config.nodes.iter().filter(|node| args.node.is_none_or(|id| id == node.id)) {
        if let Some(file) = open(node)? {
            for line in Fleet::last_lines(node, args.lines) {
                show(node.id, &line)?;
            }
            followed.push(Followed { node: node.id, file, part: String::new() });
        }
    }
    if followed.is_empty() {
        bail!("no node has written a log here yet; start them with `rookery cluster up`");
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(LOOK).await;
        for log in &mut followed {
            // A line without its end is kept until the end is there.
            while log.file.read_line(&mut log.part).context("cannot read a log")? > 0
                && log.part.ends_with('\n')
            {
                show(log.node, log.part.trim_end())?;
                log.part.clear();
            }
        }
    }
}

/// The log, placed at its end; `None` when there is none.
fn open(node: &NodeConfig) -> Result<Option<BufReader<File>>> {
    let path = Fleet::log_path(node);
    match File::open(&path) {
        Ok(mut file) => {
            file.seek(SeekFrom::End(0))?;
            Ok(Some(BufReader::new(file)))
        }
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(fault).with_context(|| format!("cannot open {}", path.display())),
    }
}

fn show(node: u16, line: &str) -> Result<()> {
    out::line(format_args!("{} {line}", paint(DIM, format_args!("{node} │"))))?;
    Ok(())
}
