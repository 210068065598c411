//! The pid file of a node and the process it names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

const NAME: &str = "rookery.pid";

/// `rookery.pid` in a data folder: `PID START`, START being the process's start time in the kernel's ticks.
#[derive(Debug, Clone)]
pub struct PidFile(PathBuf);

/// A live process, known by pid and start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    start: u64,
}

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Running or waiting for something.
    Running,
    /// Stopped by SIGSTOP.
    Paused,
}

impl PidFile {
    /// The pid file of a data folder, whether it exists or not.
    pub fn of(data: &Path) -> Self {
        Self(data.join(NAME))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The process it names, if that lives.
    pub fn process(&self) -> Option<Process> {
        let text = fs::read_to_string(&self.0).ok()?;
        let (pid, start) = text.trim().split_once(' ')?;
        let process = Process { pid: pid.parse().ok()?, start: start.parse().ok()? };
        process.is_alive().then_some(process)
    }

    /// Writes this process into it.
    ///
    /// # Errors
    /// `AlreadyExists` with the pid when another live process stands in it; else what the disk says.
    pub fn take(&self) -> io::Result<()> {
        let me = Process::of(std::process::id().cast_signed())
            .ok_or_else(|| io::Error::other("cannot read /proc/self/stat"))?;
        if let Some(other) = self.process().filter(|other| *other != me) {
            let text = format!("it runs already, as process {}", other.pid);
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.0, format!("{} {}\n", me.pid, me.start))
    }

    /// Removes it if it names this process.
    pub fn release(&self) {
        let own = self.process().is_some_and(|process| process.pid == std::process::id().cast_signed());
        if own && let Err(fault) = fs::remove_file(&self.0) {
            tracing::warn!(file = %self.0.display(), %fault, "cannot remove the pid file");
        }
    }
}

impl Process {
    /// The process of this pid as it is now; `None` when there is none or it is a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let (state, start) = stat(pid)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, start })
    }

    /// Whether it lives: the same pid with the same start time.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now == *self)
    }

    /// How it is; `None` when it is gone.
    pub fn state(&self) -> Option<State> {
        let (state, _) = stat(self.pid).filter(|(_, start)| *start == self.start)?;
        match state {
            'Z' | 'X' => None,
            'T' | 't' => Some(State::Paused),
            _ => Some(State::Running),
        }
    }

    /// Signals it. A process that is gone already is no error.
    ///
    /// # Errors
    /// When it may not be signalled.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }
}

/// State and start time out of `/proc/PID/stat`. The name within may hold spaces and brackets, so fields are counted
/// from the last bracket.
///
/// The first thread of a killed process is a zombie before its other threads have ended, and until they have, its
/// ports and locks are taken: such a process is still running here.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // After the name: field 3 (state) is the first, fields 20 (threads) and 22 (start time) the 18th and 20th.
    let state = fields.first()?.chars().next()?;
    let threads: u32 = fields.get(17)?.parse().ok()?;
    let ending = state == 'Z' && threads > 1;
    Some((if ending { 'R' } else { state }, fields.get(19)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep")
    }

    fn wait_for(what: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(5);
        while !condition() {
            assert!(Instant::now() < end, "not in time: {what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_is_found_paused_and_ended() {
        let folder = tempfile::tempdir().expect("folder");
        let file = PidFile::of(folder.path());
        assert!(file.process().is_none());
        let mut child = sleeper();
        let process = Process::of(child.id().cast_signed()).expect("alive");
        fs::write(file.path(), format!("{} {}\n", process.pid, process.start)).expect("write");
        assert_eq!(file.process(), Some(process));
        process.signal(Signal::STOP).expect("stop");
        wait_for("paused", || process.state() == Some(State::Paused));
        process.signal(Signal::KILL).expect("kill");
        // A zombie counts as gone, although its pid is still taken.
        wait_for("gone", || process.state().is_none());
        assert!(!process.is_alive() && file.process().is_none());
        child.wait().expect("reap");
    }

    #[test]
    fn a_pid_that_somebody_else_has_now_is_not_ours() {
        let folder = tempfile::tempdir().expect("folder");
        let file = PidFile::of(folder.path());
        let mut child = sleeper();
        let process = Process::of(child.id().cast_signed()).expect("alive");
        fs::write(file.path(), format!("{} {}\n", process.pid, process.start + 1)).expect("write");
        assert!(file.process().is_none());
        let stale = Process { pid: process.pid, start: process.start + 1 };
        stale.signal(Signal::KILL).expect("no error");
        assert!(process.is_alive(), "the other process was not signalled");
        child.kill().expect("kill");
        child.wait().expect("reap");
    }

    #[test]
    fn the_file_is_taken_once() {
        let folder = tempfile::tempdir().expect("folder");
        let file = PidFile::of(folder.path());
        file.take().expect("free");
        file.take().expect("ours");
        assert_eq!(file.process().expect("ours").pid, std::process::id().cast_signed());
        file.release();
        assert!(!file.path().exists());
        let mut child = sleeper();
        let other = Process::of(child.id().cast_signed()).expect("alive");
        fs::write(file.path(), format!("{} {}\n", other.pid, other.start)).expect("write");
        let refused = file.take().expect_err("taken");
        assert!(refused.to_string().contains(&other.pid.to_string()), "{refused}");
        child.kill().expect("kill");
        child.wait().expect("reap");
    }
}
