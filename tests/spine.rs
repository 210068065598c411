//! Three nodes without gateways: store, links, groups, shards, router and delivery wired together in one process.
//! Commands go in at any node; what they did is read at another; a node is stopped and another leads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking and says why on the terminal"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rookery::delivery::{Delivery, DeliveryLimits};
use rookery::router::{LaneLimits, Router, RouterOptions};
use rookery::shard::{Answer, Freshness, Read, ReadReply, ShardHandle, ShardOptions, Surroundings};
use rookery::stage::Stages;
use rookery::state::{Act, Actor, ChangeKind, Command, EntityKey, SessionLimits};
use rookery::system::Placement;
use rookery_raft::{
    Entropy, Host, HostOptions, OsEntropy, PeerNet, PeerOptions, RaftId, Store, StoreOptions, SystemClock,
    TcpNetwork,
};
use rookery_wire::codec::{Blob, decode};
use rookery_wire::reply::Page;
use rookery_wire::request::{Consistency, Direction, Pull};
use rookery_wire::{
    AttributeKey, DeviceId, ErrorCode, GroupAction, GroupId, MemberRole, RecordKind, SessionId, UserId,
};

#[path = "spine/full.rs"]
mod full;

const SHARDS: u32 = 4;
/// One group, forty peers, and room for one session more.
const SESSIONS_PER_USER: u32 = 42;

struct Node {
    host: Host,
    peers: PeerNet,
    router: Router,
    shards: Vec<ShardHandle>,
    store: Store,
    stages: Stages,
}

async fn start(nodes: &Nodes) -> BTreeMap<u16, Node> {
    start_over(nodes, |_, _| {}).await
}

/// Over stores that are opened as `adjust` says.
async fn start_over(nodes: &Nodes, adjust: impl Fn(u16, &mut StoreOptions)) -> BTreeMap<u16, Node> {
    let addrs: BTreeMap<u16, String> = nodes.iter().map(|(id, addr, _)| (*id, addr.clone())).collect();
    let mut stores = BTreeMap::new();
    for (id, _, dir) in nodes {
        let mut options = StoreOptions::new(dir);
        options.journal_segment_bytes = 1 << 20;
        options.free_disk_low_water = 0;
        adjust(*id, &mut options);
        stores.insert(*id, Store::open(options).expect("a store"));
    }
    let voters: Vec<RaftId> =
        stores.iter().map(|(node, store)| RaftId { node: *node, store: store.store_id() }).collect();
    let placement = Placement::spread(SHARDS, &addrs.keys().copied().collect::<Vec<_>>(), 3);
    let mut started = BTreeMap::new();
    for (id, store) in stores {
        let options = PeerOptions::new(
            id,
            store.store_id(),
            &addrs[&id],
            addrs.clone(),
            b"a secret of 16 bytes".to_vec(),
        );
        let peers = PeerNet::start(options, Arc::new(TcpNetwork), Arc::new(OsEntropy)).await.expect("links");
        let fatal = Arc::new(|fault| eprintln!("FATAL {fault}"));
        let me = RaftId { node: id, store: store.store_id() };
        let host = Host::start(HostOptions::new(me), store.clone(), peers.clone(), fatal.clone());
        let delivery = Arc::new(Delivery::new(DeliveryLimits::default()));
        let (_, placed) = tokio::sync::watch::channel(Arc::new(placement.clone()));
        let router = Router::start(
            RouterOptions {
                node: id,
                shards: SHARDS,
                lane: LaneLimits { requests: 4096, bytes: 8 << 20, deadline: Duration::from_secs(10) },
                reads: 1024,
                named: 1000,
                runtime: tokio::runtime::Handle::current(),
            },
            Arc::new(peers.clone()),
            placed,
            delivery.clone(),
            &OsEntropy as &dyn Entropy,
        );
        peers.on_app(router.handler());
        let around = Surroundings {
            node: id,
            shards: SHARDS,
            store: store.clone(),
            delivery,
            answers: router.answers(),
            traffic: Arc::default(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            time_agrees: Arc::new(|| true),
            scattered: Arc::new(tokio::sync::Semaphore::new(1)),
            stop: fatal,
        };
        let options = ShardOptions {
            limits: SessionLimits { ring: 8, ring_bytes: 64 << 10 },
            checkpoint_every: Duration::from_millis(200),
            unwritten_bytes: 4 << 20,
            resident_sessions: 4,
            resident_idle: Duration::from_millis(300),
            resident_users: 4,
            entries_in_flight: 4,
            entry_bytes: 64 << 10,
            queue: 4096,
            page_cache_bytes: 1 << 20,
            retention: rookery::shard::retention::Defaults::default(),
            sweep_every: Duration::from_secs(1),
            compare_every: Duration::from_millis(50),
            sessions_per_user: SESSIONS_PER_USER,
            left_per_user: 2_000,
            users_only: false,
            relations_per_user: 1_000,
            requests_per_user: 1_000,
        };
        let stages = Stages::start(2).expect("arbiters");
        let mut shards = Vec::new();
        for shard in 1..=SHARDS {
            let handle =
                ShardHandle::open(shard, options, &around, &host, &stages.of(shard)).await.expect("a shard");
            handle.connect(router.outbound());
            router.add_replica(shard, Arc::new(handle.clone()));
            shards.push(handle);
        }
        started.insert(id, Node { host, peers, router, shards, store, stages });
    }
    for node in started.values() {
        for shard in &node.shards {
            // Refused where another replica was faster, or where the folder holds a log already.
            if let Err(refused) = shard.initialize(&voters).await {
                println!("shard {}: {refused}", shard.id());
            }
        }
    }
    started
}

fn nodes(dir: &std::path::Path) -> Vec<(u16, String, std::path::PathBuf)> {
    let free = rookery::fleet::free_addresses(3).expect("free ports");
    (1..=3u16).zip(free).map(|(id, addr)| (id, addr, dir.join(format!("node-{id}")))).collect()
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a name")
}

fn act(who: &str, session: &SessionId, client_seq: u64, act: Act) -> Command {
    let device = DeviceId::new("phone").expect("a name");
    let actor = Actor { user: user(who), device, epoch: 1, on_behalf_of: None, service: false };
    Command::Act { actor, session: session.clone(), client_seq, act }
}

fn text(content: &str) -> Act {
    Act::Send { content_type: Blob::from("text/plain"), content: Blob::from(content), extensions: Vec::new() }
}

async fn acked(router: &Router, command: Command) -> u64 {
    match router.execute(&command).await {
        Answer::Ack(ack) => ack.seq,
        other => panic!("expected an ack, got {other:?}"),
    }
}

async fn pull(router: &Router, session: &SessionId, who: &str) -> Page {
    let shard = router.shard_of(&EntityKey::Session(session.clone()));
    let pull = Pull {
        session: session.clone(),
        from_seq: 1,
        direction: Direction::Forward,
        max_count: 1000,
        max_bytes: 1 << 20,
        consistency: Consistency::Linearizable,
    };
    let read = Read::Pull { user: Some(user(who)), pull };
    match router.read(shard, read, Freshness::Linearizable).await.expect("a page") {
        ReadReply::Page(body) => decode(&body.0).expect("a page"),
        other => panic!("expected a page, got {other:?}"),
    }
}

#[test]
fn messages_survive_passivation_a_lost_leader_and_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let nodes = nodes(dir.path());
    let group = SessionId::group(GroupId::new("team").expect("a name"));
    // A life is a runtime of its own: when it ends nothing of it is left, as when a process ends.
    in_a_life(until_a_leader_is_lost(&nodes, &group));
    in_a_life(after_a_restart(&nodes, &group));
}

fn in_a_life(life: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(life);
    runtime.shutdown_timeout(Duration::from_secs(10));
}

type Nodes = [(u16, String, std::path::PathBuf)];

async fn until_a_leader_is_lost(nodes: &Nodes, group: &SessionId) {
    let mut cluster = start(nodes).await;
    let create = Act::Change { kind: ChangeKind::Create, users: vec![user("bob")], most: 100, unknown: None };
    assert_eq!(acked(&cluster[&1].router, act("ann", group, 1, create)).await, 1);
    for n in 2..=40u64 {
        let router = &cluster[&((n % 3) as u16 + 1)].router;
        assert_eq!(acked(router, act("ann", group, n, text(&format!("message {n}")))).await, n);
    }
    a_group_is_set(&cluster[&1].router).await;
    // Other sessions push the first one out of memory (4 residents a shard).
    for n in 0..40 {
        let other = SessionId::direct(&user("ann"), &user(&format!("peer-{n}"))).expect("a pair");
        assert_eq!(acked(&cluster[&2].router, act("ann", &other, 1, text("hello"))).await, 1);
    }
    let page = pull(&cluster[&3].router, group, "bob").await;
    let seqs: Vec<u64> = page.records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());

    // The acknowledged creation is in bob's list, whichever node is asked (G5).
    let shard = cluster[&2].router.shard_of(&EntityKey::User(user("bob")));
    let device = DeviceId::new("tv").expect("a name");
    let read = Read::UserSessions { user: user("bob"), device, after: None, left_since: None };
    match cluster[&2].router.read(shard, read, Freshness::Linearizable).await.expect("a list") {
        ReadReply::UserSessions { sessions, .. } => {
            assert!(sessions.iter().any(|line| line.session == *group))
        }
        other => panic!("expected a list, got {other:?}"),
    }

    a_full_list_refuses(&cluster).await;

    // The leader goes; a late retry of an old number and a new send go on at the others.
    let shard = cluster[&1].router.shard_of(&EntityKey::Session(group.clone()));
    let leader = cluster[&1].shards[shard as usize - 1].leader().expect("a leader");
    let gone = cluster.remove(&leader).expect("the leader");
    stop(gone).await;
    let router = cluster.values().next().expect("a node").router.clone();
    assert_eq!(acked(&router, act("ann", group, 2, text("message 2"))).await, 2);
    assert_eq!(acked(&router, act("ann", group, 41, text("message 41"))).await, 41);
    assert_eq!(pull(&router, group, "bob").await.last_seq, 41);
    for node in std::mem::take(&mut cluster).into_values() {
        stop(node).await;
    }
}

fn named(name: &str) -> SessionId {
    SessionId::group(GroupId::new(name).expect("a name"))
}

fn of(kind: ChangeKind, users: &[&str]) -> Act {
    Act::Change { kind, users: users.iter().map(|name| user(name)).collect(), most: 100, unknown: None }
}

async fn refused(router: &Router, command: Command) -> ErrorCode {
    match router.execute(&command).await {
        Answer::Refused(error) => error.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

async fn has(router: &Router, who: &str, session: &SessionId) -> bool {
    let shard = router.shard_of(&EntityKey::User(user(who)));
    let device = DeviceId::new("tv").expect("a name");
    let read = Read::UserSessions { user: user(who), device, after: None, left_since: None };
    match router.read(shard, read, Freshness::Linearizable).await.expect("a list") {
        ReadReply::UserSessions { sessions, .. } => sessions.iter().any(|line| line.session == *session),
        other => panic!("expected a list, got {other:?}"),
    }
}

/// ann is in a group and 40 direct sessions: one more finds room, whoever begins it, and the next does not.
async fn a_full_list_refuses(cluster: &BTreeMap<u16, Node>) {
    let (one, two) = (&cluster[&1].router, &cluster[&2].router);
    assert_eq!(acked(one, act("ann", &named("last"), 1, of(ChangeKind::Create, &[]))).await, 1);
    let create = || act("ann", &named("too-many"), 1, of(ChangeKind::Create, &["bob"]));
    assert_eq!(refused(one, create()).await, ErrorCode::TooManySessions);
    let direct = SessionId::direct(&user("ann"), &user("zoe")).expect("a pair");
    assert_eq!(refused(two, act("zoe", &direct, 1, text("hello"))).await, ErrorCode::TooManySessions);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while has(one, "zoe", &direct).await {
        assert!(std::time::Instant::now() < deadline, "zoe's list keeps a session that never began");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // One who is added beyond the bound leaves again, for everybody to see.
    let bobs = named("bobs");
    assert_eq!(acked(two, act("bob", &bobs, 1, of(ChangeKind::Create, &[]))).await, 1);
    assert_eq!(acked(two, act("bob", &bobs, 2, of(ChangeKind::Add, &["ann"]))).await, 2);
    let page = pull(one, &bobs, "bob").await;
    let left = page.records.get(2).expect("it comes before the ACK of the addition");
    assert_eq!((left.kind, left.client_seq), (RecordKind::MEMBERS_REMOVED, 0));
    assert!(!has(one, "ann", &bobs).await);
    // A session less is room for another, under the number that was refused before.
    assert_eq!(acked(one, act("ann", &named("last"), 2, of(ChangeKind::Remove, &["ann"]))).await, 2);
    assert_eq!(acked(one, create()).await, 1);
}

/// What is not in the head row of a session must be found again too.
async fn a_group_is_set(router: &Router) {
    let crows = named("crows");
    let key = AttributeKey::new("colour").expect("a key");
    let changes = [
        GroupAction::SetProfile { name: Some(Blob::from("Crows")), avatar: None },
        GroupAction::SetAttribute { key, value: Some(Blob::from("black")) },
        GroupAction::SetRole { user: user("hal"), role: MemberRole::Admin },
    ];
    assert_eq!(acked(router, act("gil", &crows, 1, of(ChangeKind::Create, &["hal"]))).await, 1);
    for (number, action) in (2..).zip(changes) {
        assert_eq!(acked(router, act("gil", &crows, number, Act::Manage { action })).await, number);
    }
}

async fn the_group_is_as_it_was_set(router: &Router) {
    let crows = named("crows");
    let shard = router.shard_of(&EntityKey::Session(crows.clone()));
    let read = Read::Group { user: Some(user("hal")), session: crows };
    match router.read(shard, read, Freshness::Linearizable).await.expect("a group") {
        ReadReply::Group(group) => {
            assert_eq!((&group.name, group.attributes.len()), (&Blob::from("Crows"), 1));
            assert_eq!((group.owner, group.role), (Some(user("gil")), Some(MemberRole::Admin)));
        }
        other => panic!("expected a group, got {other:?}"),
    }
}

/// All of them again, from their folders.
async fn after_a_restart(nodes: &Nodes, group: &SessionId) {
    let cluster = start(nodes).await;
    let page = pull(&cluster[&1].router, group, "bob").await;
    assert_eq!(page.records.len(), 41);
    the_group_is_as_it_was_set(&cluster[&2].router).await;
    assert_eq!(acked(&cluster[&1].router, act("ann", group, 7, text("message 7"))).await, 7);
    assert_eq!(acked(&cluster[&3].router, act("ann", group, 42, text("message 42"))).await, 42);
    replicas_agree(&cluster).await;
    for node in cluster.into_values() {
        stop(node).await;
    }
}

/// The leaders have compared most of the sessions with the other replicas, most of them asleep, and found no difference.
async fn replicas_agree(cluster: &BTreeMap<u16, Node>) {
    let sum = |figure: fn(&ShardHandle) -> u64| -> u64 {
        cluster.values().flat_map(|node| &node.shards).map(figure).sum()
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while sum(|shard| shard.divergences().compared()) < 60 {
        assert!(std::time::Instant::now() < deadline, "replicas are not compared");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(sum(|shard| shard.divergences().total()), 0);
}

async fn stop(node: Node) {
    node.router.stop().await;
    for shard in &node.shards {
        shard.stop().await;
        node.router.remove_replica(shard.id());
    }
    node.host.stop().await;
    node.peers.stop().await;
    drop(node.shards);
    tokio::task::spawn_blocking(move || node.stages.stop()).await.expect("the arbiters end");
    node.store.close().await;
}
