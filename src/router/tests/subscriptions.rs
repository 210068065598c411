//! A node without a replica of the shard takes its pushes from one that has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use parking_lot::Mutex;
use rookery_wire::reply::Message;
use rookery_wire::{
    Blob, DeviceId, GroupId, Kind, Record, RecordKind, SessionId, Signal, UserId, encode, encode_frame,
};

use super::*;
use crate::delivery::{Push, next_receiver_id};

pub(super) struct Phone {
    pub(super) id: u64,
    origin: (UserId, DeviceId),
    pub(super) seqs: Mutex<Vec<u64>>,
    pub(super) lags: AtomicUsize,
}

impl Receiver for Phone {
    fn id(&self) -> u64 {
        self.id
    }
    fn origin(&self) -> Option<(&UserId, &DeviceId, u32)> {
        Some((&self.origin.0, &self.origin.1, 1))
    }
    fn push(&self, _topic: &Topic, items: &[Push]) -> bool {
        self.seqs.lock().extend(items.iter().map(|item| item.seq));
        true
    }
    fn lagged(&self, _topic: &Topic) {
        self.lags.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn phone(user: &str) -> Arc<Phone> {
    Arc::new(Phone {
        id: next_receiver_id(),
        origin: (UserId::new(user).unwrap(), DeviceId::new("phone").unwrap()),
        seqs: Mutex::default(),
        lags: AtomicUsize::new(0),
    })
}

pub(super) fn session() -> SessionId {
    SessionId::group(GroupId::new("g").unwrap())
}

pub(super) fn topic() -> Topic {
    Topic::Session(session())
}

pub(super) fn push(seq: u64, kind: RecordKind, users: &[&str], from: (&str, &str)) -> Push {
    let users = users.iter().map(|user| UserId::new(user).unwrap()).collect();
    let from = (UserId::new(from.0).unwrap(), DeviceId::new(from.1).unwrap(), 1);
    let record = Record {
        seq,
        message_id: seq,
        time_ms: 0,
        count: seq,
        sender: from.0.clone(),
        device: from.1.clone(),
        epoch: 1,
        client_seq: seq,
        kind,
        content_type: Blob::default(),
        content: Blob(encode(&Signal { users })),
        extensions: Vec::new(),
    };
    let mut frame = BytesMut::new();
    encode_frame(Kind::Message, 0, &Message { session: session(), record }, &mut frame);
    Push { seq, frame: frame.freeze(), from: Some(Arc::new(from)), replaces: None }
}

pub(super) fn content(seq: u64) -> Push {
    push(seq, RecordKind::CONTENT, &[], ("bob", "desk"))
}

/// Applies records on all replicas.
pub(super) fn apply(cluster: &Cluster, items: &[Push]) {
    for node in cluster.nodes.values() {
        if let Some(replica) = &node.replica {
            replica.head.store(items.last().unwrap().seq, Ordering::Relaxed);
            replica.delivery.publish(&session(), items);
        }
    }
}

pub(super) async fn attach(cluster: &Cluster, node: u16, phone: &Arc<Phone>) -> u64 {
    let receiver = Arc::clone(phone) as Arc<dyn Receiver>;
    cluster.nodes[&node].delivery.connect(Arc::clone(&receiver));
    let attached = cluster.nodes[&node].router.attach(SHARD, receiver, vec![topic()]).await;
    assert_eq!(attached.len(), 1);
    assert!(attached[0].1 >= 1);
    // As if the leader had been asked, and had said that the user is a member.
    cluster.nodes[&node].delivery.admit(&topic(), phone.id, 1).unwrap()
}

#[tokio::test(start_paused = true)]
async fn pushes_come_once_per_node_and_in_order() {
    let cluster = cluster(3, 2);
    apply(&cluster, &[content(1)]);
    let (ada, eve) = (phone("ada"), phone("eve"));
    assert_eq!(attach(&cluster, 3, &ada).await, 2);
    apply(&cluster, &[content(2), content(3)]);
    until("pushed", || ada.seqs.lock().len() == 2).await;
    assert_eq!(attach(&cluster, 3, &eve).await, 4, "what this node has heard already");
    // The sending device is passed over on its own node too.
    apply(&cluster, &[content(4), push(5, RecordKind::CONTENT, &[], ("ada", "phone")), content(6)]);
    until("pushed", || eve.seqs.lock().len() == 3).await;
    assert_eq!(*ada.seqs.lock(), [2, 3, 4, 6]);
    assert_eq!(*eve.seqs.lock(), [4, 5, 6]);
    let feeds: u64 = [1, 2].iter().map(|node| cluster.nodes[node].delivery.stats().subscriptions).sum();
    assert_eq!(feeds, 1, "one subscription for the whole node");
}

#[tokio::test(start_paused = true)]
async fn membership_signals_attach_and_detach() {
    let cluster = cluster(3, 2);
    let (ada, eve) = (phone("ada"), phone("eve"));
    attach(&cluster, 3, &ada).await;
    cluster.nodes[&3].delivery.connect(Arc::clone(&eve) as Arc<dyn Receiver>);
    apply(&cluster, &[content(1), push(2, RecordKind::MEMBERS_ADDED, &["eve"], ("bob", "desk")), content(3)]);
    apply(&cluster, &[push(4, RecordKind::MEMBERS_REMOVED, &["eve"], ("bob", "desk")), content(5)]);
    until("pushed", || ada.seqs.lock().len() == 5).await;
    assert_eq!(*eve.seqs.lock(), [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_link_that_missed_something_is_a_lag() {
    let cluster = cluster(3, 2);
    let ada = phone("ada");
    attach(&cluster, 3, &ada).await;
    apply(&cluster, &[content(1)]);
    until("pushed", || ada.seqs.lock().len() == 1).await;
    cluster.net.cut(1, 3);
    cluster.net.cut(2, 3);
    apply(&cluster, &[content(2)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.net.heal(2, 3);
    until("told", || ada.lags.load(Ordering::Relaxed) == 1).await;
    let news = Topic::User(UserId::new("ada").unwrap());
    assert_eq!(
        cluster.nodes[&3].delivery.resume(ada.id),
        [(news, 0)],
        "who is a member may have changed too"
    );
    assert_eq!(attach(&cluster, 3, &ada).await, 3, "the sync attaches again");
    apply(&cluster, &[content(3)]);
    until("pushed", || ada.seqs.lock().len() == 2).await;
    assert_eq!(*ada.seqs.lock(), [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_link_that_missed_nothing_is_no_lag() {
    let cluster = cluster(3, 2);
    let ada = phone("ada");
    attach(&cluster, 3, &ada).await;
    apply(&cluster, &[content(1)]);
    until("pushed", || ada.seqs.lock().len() == 1).await;
    cluster.net.cut(1, 3);
    cluster.net.cut(2, 3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.net.heal(1, 3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    apply(&cluster, &[content(2)]);
    until("pushed", || ada.seqs.lock().len() == 2).await;
    assert_eq!(ada.lags.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_overtakes_the_answer_to_a_renewal_is_not_lost() {
    let cluster = cluster(3, 2);
    let ada = phone("ada");
    attach(&cluster, 3, &ada).await;
    apply(&cluster, &[content(1)]);
    until("pushed", || ada.seqs.lock().len() == 1).await;
    let served_by = |node: u16| cluster.nodes[&node].delivery.stats().subscriptions == 1;
    let (first, other) = if served_by(1) { (1, 2) } else { (2, 1) };
    cluster.net.late_answers.store(500, Ordering::Relaxed);
    cluster.net.cut(first, 3);
    until("asked at the other", || served_by(other)).await;
    apply(&cluster, &[content(2)]);
    until("pushed", || ada.seqs.lock().len() == 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((ada.seqs.lock().clone(), ada.lags.load(Ordering::Relaxed)), (vec![1, 2], 0));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_any_more_is_given_up() {
    let cluster = cluster(3, 1);
    let ada = phone("ada");
    attach(&cluster, 3, &ada).await;
    cluster.nodes[&3].delivery.disconnect(ada.id);
    apply(&cluster, &[content(1)]);
    until("given up", || {
        cluster.nodes[&3].router.stats().remote_topics == 0
            && cluster.nodes[&1].delivery.stats().subscriptions == 0
    })
    .await;
    let again = phone("ada");
    assert_eq!(attach(&cluster, 3, &again).await, 2, "and taken up anew");
}

#[tokio::test(start_paused = true)]
async fn nobody_to_subscribe_at_is_said() {
    let cluster = cluster(2, 1);
    cluster.net.cut(1, 2);
    let ada = phone("ada");
    let receiver = Arc::clone(&ada) as Arc<dyn Receiver>;
    cluster.nodes[&2].delivery.connect(Arc::clone(&receiver));
    assert!(cluster.nodes[&2].router.attach(SHARD, receiver, vec![topic()]).await.is_empty());
    assert_eq!(cluster.nodes[&2].router.stats().remote_topics, 0);
}
