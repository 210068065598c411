//! The processes of a probe: started from this very program, they say on stdout where they listen, and at the end what
//! they have. They end with whoever started them, for their stdin then closes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};

/// A child process; killed when it is dropped.
pub(crate) struct Part {
    name: &'static str,
    child: Child,
    lines: BufReader<ChildStdout>,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Part {
    /// Starts a process and waits until it listens.
    pub(crate) fn start(name: &'static str, args: &[String]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut child = Command::new(program)
            .arg(name)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting the {name}"))?;
        let stdout = child.stdout.take().context("a child's stdout")?;
        let mut part =
            Self { name, child, lines: BufReader::new(stdout), addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        part.addr = part.line()?.parse().with_context(|| format!("where the {name} listens"))?;
        Ok(part)
    }

    /// The next line that it says; waits for it.
    pub(crate) fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            bail!("the {} ended early", self.name);
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has ended, or it has to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a child: ends the process when its parent is gone.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        // Nothing is ever written to it.
        let _ = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(1);
    });
}

/// In a child: says something to the parent.
pub(crate) fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Allows this process as many open files as the system lets it.
pub(crate) fn many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Without it the connections themselves fail, and say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
