//! What is wrong with a configuration, told all at once: file, line, key, value, remedy.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 when it belongs to no line.
    pub line: usize,
    /// What is wrong and what would be right.
    pub text: String,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error(
        "there is no configuration at {path}: write one with `rookery config init {path}`, \
         or name another with --config"
    )]
    Missing {
        /// Where it was looked for.
        path: String,
    },
    /// It is there and cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It says something that cannot be.
    #[error("{}", list(.path, .problems))]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Everything that is wrong with it, in the order of lines.
        problems: Vec<Problem>,
    },
    /// There is no node of this number in it.
    #[error("{path} has no node {node}: it has {known}")]
    NoSuchNode {
        /// Which file.
        path: String,
        /// The number asked for.
        node: u16,
        /// The numbers there are.
        known: String,
    },
}

fn list(path: &std::path::Path, problems: &[Problem]) -> String {
    let mut out = String::new();
    for (at, problem) in problems.iter().enumerate() {
        let lead = if at == 0 { "" } else { "\n" };
        let _ = match problem.line {
            0 => fmt::Write::write_fmt(&mut out, format_args!("{lead}{}: {}", path.display(), problem.text)),
            line => fmt::Write::write_fmt(
                &mut out,
                format_args!("{lead}{}:{line}: {}", path.display(), problem.text),
            ),
        };
    }
    out
}
