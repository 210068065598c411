//! Node processes of a `cluster.toml` on this machine: start, find, signal, wait.
//!
//! For `rookery cluster …` and `rookery demo`. Owns the pid file and the log file in each node's data folder. Finds a
//! process by pid *and* start time, so that a pid that the system gave to somebody else is never signalled. Must never
//! end a process it has not found that way.

mod open_files;
mod pid;
mod ports;
mod wait;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::config::{Config, NodeConfig};

pub use open_files::{TooFew, allow, allow_most};
pub use pid::{PidFile, Process, State};
pub use ports::free_addresses;
pub use wait::{Board, Seen, ask, ask_all, wait_until_led};

/// Name of the log file in the data folder.
const LOG_NAME: &str = "rookery.log";
/// How often a condition is looked at while waiting.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// The nodes of one configuration file, as processes of this machine.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// The file all nodes read; absolute.
    pub path: PathBuf,
    /// What it says.
    pub config: Config,
}

impl Fleet {
    /// Reads the configuration file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load(path: &Path) -> Result<Self> {
        let config = Config::load(path)?;
        let path = fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
        Ok(Self { path, config })
    }

    /// The node of this number.
    ///
    /// # Errors
    /// Names the numbers there are.
    pub fn node(&self, id: u16) -> Result<&NodeConfig> {
        Ok(self.config.require_node(id, &self.path)?)
    }

    /// Its log file.
    pub fn log_path(node: &NodeConfig) -> PathBuf {
        node.data.join(LOG_NAME)
    }

    /// The process that runs this node, if one does.
    pub fn process(node: &NodeConfig) -> Option<Process> {
        PidFile::of(&node.data).process()
    }

    /// Starts a node as `PROGRAM serve`, apart from this terminal, with its output appended to its log file.
    /// `more` are further arguments of `serve`.
    ///
    /// # Errors
    /// When it runs already, or the program or the log file cannot be opened.
    pub fn spawn(&self, node: &NodeConfig, program: &Path, more: &[&str]) -> Result<Child> {
        if let Some(running) = Self::process(node) {
            bail!("node {} is running already, as process {}", node.id, running.pid);
        }
        let data = &node.data;
        fs::create_dir_all(data)
            .with_context(|| format!("cannot make the data folder {}", data.display()))?;
        let path = Self::log_path(node);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot open the log file {}", path.display()))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(&self.path).arg("--node").arg(node.id.to_string());
        command.args(more);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C in this terminal is not meant for it.
        command.process_group(0);
        command.spawn().with_context(|| format!("cannot start {}", program.display()))
    }

    /// Signals the process of a node.
    ///
    /// # Errors
    /// When it does not run or may not be signalled.
    pub fn signal(node: &NodeConfig, signal: Signal) -> Result<Process> {
        let Some(process) = Self::process(node) else {
            bail!(
                "node {} is not running (no live process by {})",
                node.id,
                PidFile::of(&node.data).path().display()
            );
        };
        process.signal(signal).with_context(|| format!("cannot signal process {}", process.pid))?;
        Ok(process)
    }

    /// The end of a node's log, for an error: from the last line that tells one, or the last dozen lines.
    pub fn last_words(node: &NodeConfig) -> String {
        let lines = Self::last_lines(node, 200);
        let error = lines.iter().rposition(|line| line.starts_with("error: "));
        lines[error.unwrap_or(lines.len().saturating_sub(12))..].join("\n")
    }

    /// The last lines of a node's log file; empty when there is none.
    pub fn last_lines(node: &NodeConfig, lines: usize) -> Vec<String> {
        last_lines(&Self::log_path(node), lines).unwrap_or_default()
    }
}

/// This program, to start nodes with.
///
/// # Errors
/// When the system does not tell.
pub fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find the path of this program")
}

/// Stops a process: SIGTERM (and SIGCONT, should it be paused), then SIGKILL after `patience`. Says whether it had
/// to be killed.
///
/// # Errors
/// When it may not be signalled, or lives on after SIGKILL.
pub async fn stop(process: &Process, patience: Duration) -> Result<bool> {
    process.signal(Signal::TERM)?;
    process.signal(Signal::CONT)?;
    if gone(process, patience).await {
        return Ok(false);
    }
    process.signal(Signal::KILL)?;
    if gone(process, Duration::from_secs(5)).await {
        return Ok(true);
    }
    bail!("process {} is still there 5 s after SIGKILL; it may hang in the kernel", process.pid)
}

/// Waits until a process is gone; false when it is still there after `patience`.
pub async fn gone(process: &Process, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    while process.is_alive() {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}

/// The last `lines` lines of a file, reading its end only.
fn last_lines(path: &Path, lines: usize) -> io::Result<Vec<String>> {
    const END: u64 = 256 << 10;
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(END)))?;
    let mut bytes = Vec::new();
    file.take(END).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect())
}
