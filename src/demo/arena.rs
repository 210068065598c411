//! The cluster of the demo: a fresh folder, free ports, real processes, and an end to all of them.
//!
//! Owns the children: whatever happens to the demo, dropping this kills and reaps every one of them.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::config::{Config, SAMPLE};
use crate::fleet::{self, Board, Fleet, PidFile, Process, free_addresses};

/// Marks a folder as one that the demo made and may empty.
const MARK: &str = ".made-by-rookery-demo";
/// How long the nodes may take to serve.
const FORM: Duration = Duration::from_secs(30);
/// How long an orderly stop may take.
const STOP: Duration = Duration::from_secs(5);

/// The running cluster.
pub(super) struct Arena {
    /// Its nodes.
    pub(super) fleet: Fleet,
    /// Whether other ports than the usual ones were taken, because those are in use.
    pub(super) moved: bool,
    program: PathBuf,
    children: Vec<(u16, Child)>,
}

impl Arena {
    /// Empties or makes the folder and writes a configuration of `nodes` nodes into it. Starts nothing.
    pub(super) fn prepare(folder: &Path, nodes: u16) -> Result<Self> {
        fresh(folder)?;
        let (text, moved) = configuration(nodes)?;
        let path = folder.join("cluster.toml");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let fleet = Fleet::load(&path)?;
        Ok(Self { fleet, moved, program: fleet::own_program()?, children: Vec::new() })
    }

    /// Starts the nodes that do not run and returns at once.
    pub(super) fn spawn_missing(&mut self) -> Result<Vec<u16>> {
        let mut started = Vec::new();
        for node in &self.fleet.config.nodes {
            if !self.children.iter().any(|(id, _)| *id == node.id) {
                let child = self.fleet.spawn(
                    node,
                    &self.program,
                    &["--with-parent", &std::process::id().to_string()],
                )?;
                self.children.push((node.id, child));
                started.push(node.id);
            }
        }
        Ok(started)
    }

    /// Waits until all nodes serve and every shard is led.
    pub(super) async fn wait_until_led(&mut self, progress: impl FnMut(&str)) -> Result<Board> {
        let all: Vec<u16> = self.fleet.config.nodes.iter().map(|node| node.id).collect();
        fleet::wait_until_led(&self.fleet, &all, &mut self.children, FORM, progress).await
    }

    /// kill -9 of a node. Returns when the signal is given: what dies, dies while the conversation goes on.
    pub(super) fn kill(&mut self, id: u16) -> Result<Instant> {
        let at = self.children.iter().position(|(node, _)| *node == id);
        let at = at.with_context(|| format!("node {id} is not running"))?;
        let (_, mut child) = self.children.remove(at);
        let when = Instant::now();
        child.kill().with_context(|| format!("cannot kill node {id}"))?;
        child.wait().with_context(|| format!("cannot reap node {id}"))?;
        Ok(when)
    }

    /// The process ids by node.
    pub(super) fn pids(&self) -> Vec<(u16, u32)> {
        let mut pids: Vec<_> = self.children.iter().map(|(id, child)| (*id, child.id())).collect();
        pids.sort_unstable();
        pids
    }

    /// Stops every node in order; what does not stop in time is killed and named.
    pub(super) async fn stop(mut self) -> Vec<String> {
        let children = std::mem::take(&mut self.children);
        let stops = children.into_iter().map(|(id, mut child)| async move {
            let process = Process::of(child.id().cast_signed());
            let stopped = match process {
                Some(process) => fleet::stop(&process, STOP).await,
                None => Ok(false),
            };
            let exit = child.wait();
            match (stopped, exit) {
                (Ok(false), Ok(exit)) if exit.success() => None,
                (Ok(true), _) => {
                    Some(format!("node {id} did not stop within {} s and was killed", STOP.as_secs()))
                }
                (Ok(false), Ok(exit)) => Some(format!("node {id} ended with {exit}")),
                (Err(why), _) => Some(format!("node {id}: {why:#}")),
                (_, Err(why)) => Some(format!("node {id}: {why}")),
            }
        });
        futures::future::join_all(stops).await.into_iter().flatten().collect()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Makes the folder, or empties one that a former demo made.
fn fresh(folder: &Path) -> Result<()> {
    let shown = folder.display();
    if folder.exists() {
        let empty = fs::read_dir(folder).with_context(|| format!("cannot read {shown}"))?.next().is_none();
        if !empty && !folder.join(MARK).exists() {
            bail!("{shown} is not empty and was not made by the demo: name another with --folder");
        }
        if let Ok(fleet) = Fleet::load(&folder.join("cluster.toml")) {
            let running = fleet.config.nodes.iter().find_map(|node| PidFile::of(&node.data).process());
            if let Some(process) = running {
                let how = format!("rookery cluster down --config {}", fleet.path.display());
                bail!("a cluster runs in {shown} (process {}): stop it with `{how}`", process.pid);
            }
        }
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {shown}"))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {shown}"))?;
    fs::write(folder.join(MARK), "the demo empties this folder when it is run again\n")?;
    Ok(())
}

/// The sample configuration for `nodes` nodes, with data beside it, on the usual ports or on free ones.
fn configuration(nodes: u16) -> Result<(String, bool)> {
    let sample = Config::parse(SAMPLE, Path::new("cluster.toml"))?;
    let (head, tail) =
        split_nodes(SAMPLE).context("cluster.toml has no [[node]] followed by another section")?;
    let usual: Vec<String> = (1..=nodes)
        .flat_map(|id| match sample.node(id) {
            Some(node) => [node.client.clone(), node.peer.clone(), node.http.clone()],
            None => [7400 + id, 7500 + id, 7600 + id].map(|port| format!("127.0.0.1:{port}")),
        })
        .collect();
    let moved = usual.iter().any(|addr| TcpListener::bind(addr).is_err());
    let addrs = if moved { free_addresses(usual.len()).context("no free ports")? } else { usual };
    let mut text = head.to_owned();
    for (at, addrs) in addrs.chunks(3).enumerate() {
        if let [client, peer, http] = addrs {
            let id = at + 1;
            text += &format!(
                "[[node]]\nid = {id}\nclient = \"{client}\"\npeer = \"{peer}\"\nhttp = \"{http}\"\ndata = \"node-{id}\"\n\n"
            );
        }
    }
    Ok((text + tail, moved))
}

/// What stands before the first `[[node]]` and from the first section after the last one.
fn split_nodes(text: &str) -> Option<(&str, &str)> {
    let first = text.find("[[node]]")?;
    let last = text.rfind("[[node]]")? + "[[node]]".len();
    let next = text[last..].find("\n[")? + last + 1;
    Some((&text[..first], &text[next..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_of_any_size_is_valid() {
        for nodes in [1, 3, 5] {
            let (text, _) = configuration(nodes).expect("made");
            let text = text.replace("replication = 3", &format!("replication = {}", nodes.min(3)));
            let config = Config::parse(&text, Path::new("demo/cluster.toml")).expect("valid");
            assert_eq!(config.nodes.len(), usize::from(nodes));
            assert_eq!(config.nodes[0].data, Path::new("demo/node-1"));
        }
    }

    #[test]
    fn ports_in_use_are_avoided() {
        // Holding the usual client port makes the whole cluster move; if somebody else has it, that serves as well.
        let _held = TcpListener::bind("127.0.0.1:7401");
        let (text, moved) = configuration(3).expect("made");
        assert!(moved && !text.contains("127.0.0.1:7401"));
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let temp = tempfile::tempdir().expect("folder");
        fs::write(temp.path().join("thesis.txt"), "years of work").expect("write");
        let refused = fresh(temp.path()).expect_err("not ours");
        assert!(refused.to_string().contains("--folder"), "{refused}");
        assert!(temp.path().join("thesis.txt").exists());
        let own = temp.path().join("demo");
        fresh(&own).expect("made");
        fs::write(own.join("old"), "").expect("write");
        fresh(&own).expect("emptied");
        assert!(!own.join("old").exists());
    }
}
