//! What a client is told before it connects. Plain data; every bound of the client is here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rookery_wire::request::Role;
use rookery_wire::{DeviceId, SessionId, UserId};

use crate::connector::{Connector, TcpConnector};

/// Where a device keeps what it must know after a restart: its epoch, its nonce, what it has had of each session
/// and its last number there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nowhere: every run registers the device anew.
    Volatile,
    /// In this file, replaced atomically and synced, about once a second while something changes. One process at a
    /// time.
    File(PathBuf),
    /// With the application, which keeps its cursors beside what it makes of the messages, in one transaction perhaps: for
    /// each session the last seq that it is done with, of an [`Event::Message`](crate::Event::Message) or the `to` of an
    /// [`Event::Skipped`](crate::Event::Skipped). With [`StartAt::Resume`] this run begins behind these, whatever the cluster
    /// believes the device to have had, so what a run that died had been given and was not done with comes again, and nothing
    /// else. Of a session that is not named, nothing was had: it is given from where the user joined. A cursor beyond a
    /// session's end counts as its end. As with `Volatile`, every run registers the device anew.
    ///
    /// ```no_run
    /// # use std::collections::BTreeMap;
    /// # use rookery_client::wire::{Record, SessionId};
    /// # fn load() -> BTreeMap<SessionId, u64> { BTreeMap::new() }
    /// # fn store(session: &SessionId, cursor: u64, record: Option<&Record>) {}
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use rookery_client::{Client, Event, Memory, Options};
    /// let mut options = Options::new(["127.0.0.1:7401"], "ann".parse()?, "archive".parse()?);
    /// options.memory = Memory::Cursors(load());
    /// let (_client, mut events) = Client::connect(options).await?;
    /// while let Some(event) = events.recv().await {
    ///     match event {
    ///         // The record and the cursor in one transaction: a crash comes before both or after both.
    ///         Event::Message { session, record } => store(&session, record.seq, Some(&record)),
    ///         Event::Skipped { session, to, .. } => store(&session, to, None),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    Cursors(BTreeMap<SessionId, u64>),
}

/// Which messages the application is given, per session, on its first connection. Later connections of the same
/// [`Client`](crate::Client) always continue where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// What this device has not had: after the memory's cursor or the delivered cursor that the cluster keeps for the device,
    /// whichever is further (after the memory's alone with [`Memory::Cursors`]), and nothing from before the user joined.
    Resume,
    /// Only what is sent from now on; of sessions joined later, all since joining.
    Now,
    /// Everything the session still keeps.
    Beginning,
}

/// How a client behaves. Begin with [`Options::new`] and change fields.
#[derive(Clone)]
pub struct Options {
    /// Addresses of nodes, `host:port`; tried in turn, beginning with the first.
    pub seeds: Vec<String>,
    /// Who connects.
    pub user: UserId,
    /// From which device; one connection per device, a newer one replaces the older.
    pub device: DeviceId,
    /// As a user (default) or as the business backend.
    pub role: Role,
    /// The token, where the cluster asks for one.
    pub token: Option<String>,
    /// Where the device's memory is (default: volatile).
    pub memory: Memory,
    /// What the application is given at first (default: [`StartAt::Resume`]).
    pub start: StartAt,
    /// How long a request may take, reconnections included (default 30 s). Waiting for a place in the window comes
    /// before and has the same bound.
    pub request_deadline: Duration,
    /// Sends in flight at once (default 256). [`Client::send_pipelined`](crate::Client::send_pipelined) waits beyond.
    pub window: usize,
    /// Events kept for a slow application (default 1024); beyond it the client stops reading, or, while answers are
    /// awaited, lets pushes go and pulls them later.
    pub event_queue: usize,
    /// Name and version of the program, for people; cut at 64 bytes.
    pub agent: String,
    /// What kind of device it is (`ios`, `web`, …); cut at 32 bytes.
    pub platform: String,
    /// How connections are made (default: [`TcpConnector`]).
    pub connector: Arc<dyn Connector>,
    /// Shortest and longest pause between attempts to connect (default 50 ms, 2 s); doubles, with jitter.
    pub backoff: (Duration, Duration),
    /// Whether own messages are given to the application as events too, in their place (default true).
    pub echo_own: bool,
    /// How long connecting and HELLO may take for one attempt (default 2 s).
    pub connect_timeout: Duration,
    /// With requests unanswered, or after a PING, a server that says nothing for so long is given up (default 3 s); so is
    /// one that goes on pushing and has not answered the PING in five times as long, not counting when the client reads
    /// nothing because the application takes no events.
    pub silence: Duration,
    /// Seed of jitter and nonces, for simulations; random if none.
    pub random_seed: Option<u64>,
}

impl Options {
    /// The defaults for a user's device.
    pub fn new<S: Into<String>>(seeds: impl IntoIterator<Item = S>, user: UserId, device: DeviceId) -> Self {
        Self {
            seeds: seeds.into_iter().map(Into::into).collect(),
            user,
            device,
            role: Role::User,
            token: None,
            memory: Memory::Volatile,
            start: StartAt::Resume,
            request_deadline: Duration::from_secs(30),
            window: 256,
            event_queue: 1024,
            agent: concat!("rookery-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            platform: std::env::consts::OS.to_owned(),
            connector: Arc::new(TcpConnector),
            backoff: (Duration::from_millis(50), Duration::from_secs(2)),
            echo_own: true,
            connect_timeout: Duration::from_secs(2),
            silence: Duration::from_secs(3),
            random_seed: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret and the connector has nothing to show.
        f.debug_struct("Options")
            .field("seeds", &self.seeds)
            .field("user", &self.user)
            .field("device", &self.device)
            .field("role", &self.role)
            .field("memory", &self.memory)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}
