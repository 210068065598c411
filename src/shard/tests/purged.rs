//! A shard with its group over a store on disk: a recall takes its content out of the log, though the log is to be kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rookery_raft::probe::LogProbe;
use rookery_raft::{
    GroupStatus, Host, HostOptions, OsEntropy, PeerNet, PeerOptions, RaftId, Store, StoreOptions,
    SystemClock, TcpNetwork,
};
use rookery_wire::{Blob, SessionId};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::{Heard, device, in_system, options, user};
use crate::delivery::{Delivery, DeliveryLimits};
use crate::shard::Outbound;
use crate::shard::api::{Answer, Freshness, Origin, Read, ReadRefusal, ReadReply, Submission};
use crate::shard::handle::{ShardHandle, Stage, Surroundings};
use crate::state::{Act, Actor, ChangeKind, Command};

/// Numbers of what is carried begin here.
const CARRIED: u64 = 1 << 40;
/// No step takes as long.
const SOON: Duration = Duration::from_secs(5);
const SECRET: &str = "what nobody is to find again";

/// Lists learn at once whatever they are told; what else is carried is for the shard itself.
#[derive(Default)]
struct Lists(Mutex<Option<ShardHandle>>, AtomicU64);

impl Outbound for Lists {
    fn execute(&self, command: Command, _: Duration) -> BoxFuture<'static, Answer> {
        let shard = self.0.lock().clone().filter(|_| !matches!(command, Command::Link { .. }));
        if let Some(shard) = shard {
            let request = CARRIED + self.1.fetch_add(1, Ordering::Relaxed);
            let origin = Origin { node: 1, request };
            shard.submit(vec![Submission { origin, command: command.encode() }]);
        }
        Box::pin(async { Answer::Done })
    }
    fn holders(&self, _: u32) -> Vec<u16> {
        Vec::new()
    }
    fn ask(
        &self,
        _: u16,
        _: u32,
        _: Read,
        _: Freshness,
        _: Duration,
    ) -> BoxFuture<'static, Result<ReadReply, ReadRefusal>> {
        Box::pin(async { Err(ReadRefusal::NotFresh) })
    }
}

/// The only shard of its cluster, on its only node.
struct Alone {
    handle: ShardHandle,
    host: Host,
    peers: PeerNet,
    store: Store,
    heard: Arc<Heard>,
    lists: Arc<Lists>,
    asked: u64,
}

fn opened(dir: &std::path::Path) -> Store {
    let mut options = StoreOptions::new(dir);
    (options.journal_segment_bytes, options.free_disk_low_water) = (1 << 20, 0);
    Store::open(options).expect("a store")
}

impl Alone {
    async fn over(store: Store) -> Self {
        let address = crate::fleet::free_addresses(1).expect("a port").remove(0);
        let addresses = BTreeMap::from([(1, address.clone())]);
        let secret = b"a secret of 16 bytes".to_vec();
        let peering = PeerOptions::new(1, store.store_id(), &address, addresses, secret);
        let peers = PeerNet::start(peering, Arc::new(TcpNetwork), Arc::new(OsEntropy)).await.expect("links");
        let me = RaftId { node: 1, store: store.store_id() };
        let host = Host::start(
            HostOptions::new(me),
            store.clone(),
            peers.clone(),
            Arc::new(|fault| panic!("{fault}")),
        );
        let heard = Arc::new(Heard::default());
        let around = Surroundings {
            node: 1,
            shards: 1,
            store: store.clone(),
            delivery: Arc::new(Delivery::new(DeliveryLimits::default())),
            answers: heard.clone(),
            traffic: Arc::default(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            time_agrees: Arc::new(|| true),
            scattered: Arc::new(Semaphore::new(1)),
            stop: Arc::new(|fault| panic!("{fault}")),
        };
        let options = crate::shard::ShardOptions {
            checkpoint_every: Duration::from_millis(50),
            resident_idle: Duration::from_secs(60),
            ..options()
        };
        let handle = ShardHandle::open(1, options, &around, &host, &Stage::Here).await.expect("a shard");
        let lists = Arc::new(Lists::default());
        *lists.0.lock() = Some(handle.clone());
        handle.connect(lists.clone());
        // Refused where the folder holds a log already.
        let _ = handle.initialize(&[me]).await;
        let mut leader = handle.watch_leader();
        let led = leader.wait_for(|leader| *leader == Some(1));
        timeout(SOON, led).await.expect("it leads").expect("it lives");
        Self { handle, host, peers, store, heard, lists, asked: 0 }
    }

    async fn execute(&mut self, command: Command) -> Answer {
        self.asked += 1;
        let origin = Origin { node: 1, request: self.asked };
        let command = command.encode();
        self.handle.submit(vec![Submission { origin, command: command.clone() }]);
        let end = Instant::now() + SOON;
        loop {
            let found = {
                let mut heard = self.heard.0.lock();
                let at = heard.iter().position(|(to, _)| *to == origin);
                at.map(|at| heard.remove(at).1)
            };
            match found {
                // What is carried here is carried again until it is applied, and may take all places: as a lane does.
                Some(Answer::Again { .. }) => {
                    assert!(Instant::now() < end, "no room for {:?}", Command::decode(&command));
                    self.handle.submit(vec![Submission { origin, command: command.clone() }]);
                }
                Some(answer) => return answer,
                None => assert!(Instant::now() < end, "no answer to {:?}", Command::decode(&command)),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn act(&mut self, client_seq: u64, act: Act) -> u64 {
        let actor =
            Actor { user: user("ann"), device: device(), epoch: 1, on_behalf_of: None, service: false };
        let session = SessionId::group("keepers".parse().expect("a name"));
        match self.execute(Command::Act { actor, session, client_seq, act }).await {
            Answer::Ack(ack) => (ack.message_id >> 16) & ((1 << 38) - 1),
            other => panic!("{other:?}"),
        }
    }

    async fn say(&mut self, client_seq: u64, text: &str) -> u64 {
        let (content_type, content) = (Blob::from("text/plain"), Blob::from(text));
        self.act(client_seq, Act::Send { content_type, content, extensions: Vec::new() }).await
    }

    /// Waits until its log is in that state.
    async fn comes_to(&self, what: &str, holds: impl Fn(&GroupStatus) -> bool) {
        let end = Instant::now() + SOON;
        while !holds(&self.handle.status()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.handle.status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) {
        // It holds the shard, which holds it.
        self.lists.0.lock().take();
        self.handle.stop().await;
        self.host.stop().await;
        self.peers.stop().await;
        self.store.close().await;
    }
}

/// Whether the log of this folder, as it is opened again, says it anywhere; and how many entries it has.
async fn log_says(dir: &std::path::Path, what: &str) -> (bool, usize) {
    let store = opened(dir);
    let mut log = LogProbe::open(&store, 1).expect("its log");
    let state = log.state().await.expect("a state");
    let (purged, last) = (state.purged.map_or(0, |at| at.1), state.last.map_or(0, |at| at.1));
    let entries = log.read(purged + 1, last + 1).await.expect("entries");
    let says = |payload: &bytes::Bytes| payload.windows(what.len()).any(|part| part == what.as_bytes());
    let found = entries.iter().any(|(_, _, payload)| payload.as_ref().is_some_and(says));
    drop(log);
    store.close().await;
    (found, entries.len())
}

#[test]
fn a_recall_takes_its_content_out_of_a_log_that_is_to_be_kept() {
    in_system(async {
        let folder = tempfile::tempdir().expect("a folder");
        let mut shard = Alone::over(opened(folder.path())).await;
        let create = Act::Change { kind: ChangeKind::Create, users: Vec::new(), most: 10, unknown: None };
        shard.act(1, create).await;
        shard.say(2, "before").await;
        let said = shard.say(3, SECRET).await;
        shard.say(4, "after").await;
        // Checkpoints alone keep it: 4,096 entries behind the last one.
        shard.comes_to("a checkpoint", |status| status.snapshot > said).await;
        assert!(shard.handle.status().purged < said);
        shard.stop().await;
        let (says_so, entries) = log_says(folder.path(), SECRET).await;
        assert!(says_so && entries >= 4, "{entries} entries");

        let mut shard = Alone::over(opened(folder.path())).await;
        let recalled = shard.act(5, Act::Recall { seq: 3, window_ms: u64::MAX }).await;
        shard.comes_to("purged for the recall", |status| status.purged >= recalled).await;
        shard.stop().await;
        assert!(!log_says(folder.path(), SECRET).await.0, "it is in the log still");
    });
}
