//! Threads of a node beside its runtime, owned here and ended here: the arbiters on which shards act, one thread each, one per
//! core; and those that write to connections.

use actix::{Arbiter, ArbiterHandle, System};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::shard::Stage;

/// Arbiters on threads of their own, or the current thread in a simulation.
pub struct Stages {
    arbiters: Vec<Arbiter>,
    system: Option<(System, std::thread::JoinHandle<()>)>,
}

impl Stages {
    /// Starts actix's system and `count` arbiters.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            let runner = System::new();
            let arbiters: Vec<Arbiter> = (0..count.max(1)).map(|_| Arbiter::new()).collect();
            // The starter waits for exactly this.
            let _ = ready.send((System::current(), arbiters));
            if let Err(fault) = runner.run() {
                tracing::error!(%fault, "the actor system ended with an error");
            }
        };
        let thread = std::thread::Builder::new().name("actors".to_owned()).spawn(run)?;
        let (system, arbiters) = started.recv().map_err(std::io::Error::other)?;
        Ok(Self { arbiters, system: Some((system, thread)) })
    }

    /// Everything on the current thread, whose actor system somebody else runs.
    pub fn here() -> Self {
        Self { arbiters: Vec::new(), system: None }
    }

    /// Where shard number `shard` acts: arbiters in turn.
    pub fn of(&self, shard: u32) -> Stage {
        match self.arbiters.len() {
            0 => Stage::Here,
            count => Stage::Arbiter(self.handle(shard as usize % count)),
        }
    }

    fn handle(&self, at: usize) -> ArbiterHandle {
        self.arbiters[at].handle()
    }

    /// Ends every arbiter and joins the system's thread. Blocks until they are gone.
    pub fn stop(mut self) {
        for arbiter in self.arbiters.drain(..) {
            arbiter.stop();
            if arbiter.join().is_err() {
                tracing::error!("an arbiter ended in a panic");
            }
        }
        if let Some((system, thread)) = self.system.take() {
            system.stop();
            if thread.join().is_err() {
                tracing::error!("the actor system ended in a panic");
            }
        }
    }
}

/// Threads on which connections are written to, or the current runtime in a simulation.
///
/// A message to a large group wakes a writer for each device that is online here. On the threads of Raft's tasks each step of
/// the next message would wait behind all of them, several times before it is acknowledged. The kernel shares the cores between
/// threads better than a queue shares a thread between tasks.
#[derive(Debug)]
pub struct Writers(Option<Runtime>);

impl Writers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(count.max(1)).thread_name("rookery-writer").enable_all();
        builder.build().map(|runtime| Self(Some(runtime)))
    }

    /// No thread of their own.
    pub fn here() -> Self {
        Self(None)
    }

    /// Where writers are spawned. To be asked on a runtime.
    pub fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for Writers {
    /// The gateway has waited for its tasks before. Joining threads would block, which a runtime's own must not.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
