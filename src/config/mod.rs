//! The configuration: one `cluster.toml` that all nodes of a cluster share.
//!
//! Owns: reading the file, its defaults and bounds, and the words with which a mistake is told. The table of keys
//! (`sections.rs`) is the only place where a key is declared; `docs/config.md` is compared with it by a test.
//! Must never guess: an unknown key, a wrong type or a value out of bounds is refused, with the nearest right one.

mod cross;
mod error;
pub mod keys;
mod read;
mod secret;
mod sections;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use cross::is_loopback;
pub use error::{ConfigError, Problem};
pub use secret::Secret;
pub use sections::{
    Auth, AuthMode, Beyond, Cluster, Limits, Log, LogFormat, NodeConfig, SECTIONS, Storage, Timing, Users,
};

/// The `cluster.toml` of the repository: three nodes on this machine. What `config init` writes and `demo` uses.
pub const SAMPLE: &str = include_str!("../../cluster.toml");

/// The cluster secret of [`SAMPLE`]. Known to everybody, so it is refused as soon as a listener is reachable from
/// another machine.
pub const SAMPLE_SECRET: &str = "rookery-sample-secret-change-me";

/// Names, numbers, labels and extensions that travel with a content take no more, bytes.
const AROUND_CONTENT: u32 = 8192;
/// Largest log entry between nodes (`rookery_raft::HostOptions::max_entry`), which fits a frame of the peer link, bytes.
const LARGEST_ENTRY: u64 = 4 << 20;
/// A larger content could be taken from a client, and not be sent from node to node.
const LARGEST_CONTENT: u64 = LARGEST_ENTRY - AROUND_CONTENT as u64;

/// A whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What all nodes share.
    pub cluster: Cluster,
    /// The nodes, in the order of the file. Data folders are absolute or relative to the working directory.
    #[serde(rename = "node")]
    pub nodes: Vec<NodeConfig>,
    /// Who may connect.
    pub auth: Auth,
    /// Bounds of requests, queues and memory.
    pub limits: Limits,
    /// Journal, databases, checkpoints.
    pub storage: Storage,
    /// Heartbeats, elections, deadlines.
    pub timing: Timing,
    /// What a node writes to stderr.
    pub log: Log,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] names every key that is wrong, its line, and what is allowed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(source) => Self::parse(&source, path),
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => {
                Err(ConfigError::Missing { path: shown })
            }
            Err(source) => Err(ConfigError::Unreadable { path: shown, source }),
        }
    }

    /// Checks a text as if it stood in the file `path`, whose folder relative data folders start from.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(source: &str, path: &Path) -> Result<Self, ConfigError> {
        let invalid = |problems| ConfigError::Invalid { path: path.to_owned(), problems };
        let problems = read::problems(source);
        if !problems.is_empty() {
            return Err(invalid(problems));
        }
        let mut config: Config = toml::from_str(source).map_err(|fault| {
            let line = fault.span().map_or(0, |span| read::line_of(source, span.start));
            invalid(vec![Problem { line, text: fault.message().to_owned() }])
        })?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            for node in &mut config.nodes {
                node.data = folder.join(&node.data);
            }
        }
        config.check(path)?;
        Ok(config)
    }

    /// Checks what concerns several keys together. For configurations made in code; [`Config::load`] has done it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with every problem.
    pub fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let problems: Vec<_> =
            cross::problems(self).into_iter().map(|text| Problem { line: 0, text }).collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Invalid { path: path.to_owned(), problems })
        }
    }

    /// What deserves a warning at each start, e.g. a listener that other machines can reach without TLS.
    pub fn warnings(&self) -> Vec<String> {
        cross::warnings(self)
    }

    /// The node of this number.
    pub fn node(&self, id: u16) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The node of this number, or an error that lists those there are.
    ///
    /// # Errors
    /// [`ConfigError::NoSuchNode`].
    pub fn require_node(&self, id: u16, path: &Path) -> Result<&NodeConfig, ConfigError> {
        self.node(id).ok_or_else(|| ConfigError::NoSuchNode {
            path: path.display().to_string(),
            node: id,
            known: self.nodes.iter().map(|node| node.id.to_string()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The addresses clients connect to, in the order of the file.
    pub fn client_addrs(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.client.clone()).collect()
    }

    /// A cluster on loopback with the given nodes and the sample secret: for tests, demo and benchmarks.
    pub fn local(nodes: Vec<NodeConfig>) -> Self {
        let replication = u16::try_from(nodes.len()).unwrap_or(3).min(3);
        let cluster = Cluster { replication, secret: Secret::new(SAMPLE_SECRET), ..Cluster::default() };
        Self { cluster, nodes, ..Self::default() }
    }

    /// Where the data of a node lies.
    pub fn data_dir(&self, id: u16) -> Option<PathBuf> {
        self.node(id).map(|node| node.data.clone())
    }
}
