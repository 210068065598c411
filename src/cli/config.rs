//! `rookery config check` and `config init`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::ConfigPath;
use crate::config::{AuthMode, Config, SAMPLE};
use crate::terminal as out;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery config init                      write ./cluster.toml, three nodes on this machine
  rookery config check
  rookery config check --config /etc/rookery/cluster.toml

All keys, their defaults and bounds are in docs/config.md.")]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read a configuration and tell everything that is wrong with it
    Check(ConfigPath),
    /// Write the sample configuration: three nodes on this machine
    Init {
        /// File to write; must not exist yet
        #[arg(default_value = "cluster.toml")]
        file: PathBuf,
    },
}

pub(super) fn run(args: &ConfigArgs) -> Result<()> {
    match &args.command {
        ConfigCommand::Check(at) => {
            let config = Config::load(&at.config)?;
            for warning in config.warnings() {
                out::tell(format_args!("{}: {warning}", out::paint(out::WARN, "warning")));
            }
            let (nodes, cluster) = (config.nodes.len(), &config.cluster);
            let auth = if config.auth.mode == AuthMode::Open { "open" } else { "token" };
            out::line(format_args!(
                "{} is good: {nodes} nodes, {} shards × {} replicas, auth {auth}",
                at.config.display(),
                cluster.shards,
                cluster.replication
            ))?;
        }
        ConfigCommand::Init { file } => {
            let made = OpenOptions::new().write(true).create_new(true).open(file);
            let mut made = made.with_context(|| format!("cannot make {}", file.display()))?;
            made.write_all(SAMPLE.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
            out::line(format_args!("wrote {}; next: rookery cluster up", file.display()))?;
        }
    }
    Ok(())
}
