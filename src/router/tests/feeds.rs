//! What may go wrong between a node and the one that serves its topics: what is told to go, what comes twice, late, or
//! never.

use std::sync::atomic::AtomicUsize;

use rookery_wire::{GroupId, RecordKind, SessionId, UserId};

use super::subscriptions::{Phone, apply, attach, content, phone, push, session, topic};
use super::*;
use crate::delivery::Push;
use crate::router::peer::Cast;
use crate::router::remote;

fn news(user: &str) -> Topic {
    Topic::User(UserId::new(user).unwrap())
}

/// Applies records on the replica of one node.
fn apply_on(cluster: &Cluster, node: u16, items: &[Push]) {
    let replica = cluster.nodes[&node].replica.as_ref().unwrap();
    replica.head.store(items.last().unwrap().seq, Ordering::Relaxed);
    replica.delivery.publish(&session(), items);
}

/// Of nodes 1 and 2 the one that serves node 3, and the other.
fn serving(cluster: &Cluster) -> (u16, u16) {
    if cluster.nodes[&1].delivery.stats().subscriptions == 1 { (1, 2) } else { (2, 1) }
}

fn subscribed_at(cluster: &Cluster, node: u16) -> u64 {
    cluster.nodes[&node].delivery.stats().subscriptions
}

async fn seen(phone: &Phone, seqs: &[u64]) {
    until("pushed", || phone.seqs.lock().len() >= seqs.len()).await;
    assert_eq!(*phone.seqs.lock(), seqs);
}

#[tokio::test(start_paused = true)]
async fn a_removal_between_two_subscriptions_is_never_pushed_past() {
    let cluster = cluster(3, 2);
    let (ada, bob) = (phone("ada"), phone("bob"));
    attach(&cluster, 3, &ada).await;
    attach(&cluster, 3, &bob).await;
    apply(&cluster, &[content(1)]);
    seen(&bob, &[1]).await;
    let (first, other) = serving(&cluster);
    cluster.net.late_answers.store(500, Ordering::Relaxed);
    cluster.net.cut(first, 3);
    apply(&cluster, &[push(2, RecordKind::MEMBERS_REMOVED, &["bob"], ("ada", "phone"))]);
    until("asked at the other", || subscribed_at(&cluster, other) == 1).await;
    // Overtakes the answer that would have told of the gap.
    apply(&cluster, &[content(3)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.net.late_answers.store(0, Ordering::Relaxed);
    let delivery = &cluster.nodes[&3].delivery;
    assert_eq!(delivery.resume(bob.id), [(news("bob"), 0)], "told to sync, and not to go on");
    assert_eq!(delivery.resume(ada.id), [(news("ada"), 0)]);
    assert_eq!(attach(&cluster, 3, &ada).await, 4, "who is a member still, syncs and goes on");
    apply(&cluster, &[content(4)]);
    seen(&ada, &[1, 4]).await;
    assert_eq!(*bob.seqs.lock(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_behind_repeats_nothing_to_anybody() {
    let cluster = cluster(3, 2);
    let (ada, eve) = (phone("ada"), phone("eve"));
    attach(&cluster, 3, &ada).await;
    cluster.nodes[&3].delivery.connect(Arc::clone(&eve) as Arc<dyn Receiver>);
    let by = ("bob", "desk");
    let added = push(1, RecordKind::MEMBERS_ADDED, &["eve"], by);
    let removed = push(2, RecordKind::MEMBERS_REMOVED, &["eve"], by);
    let (first, other) = serving(&cluster);
    apply_on(&cluster, first, &[added.clone(), removed.clone()]);
    seen(&ada, &[1, 2]).await;
    cluster.net.cut(first, 3);
    until("subscribed at the other", || subscribed_at(&cluster, other) == 1).await;
    apply_on(&cluster, other, &[added]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!cluster.nodes[&3].delivery.is_live(&topic(), eve.id), "who was removed is not back");
    apply_on(&cluster, other, &[removed, content(3)]);
    seen(&ada, &[1, 2, 3]).await;
    assert_eq!(*eve.seqs.lock(), [1, 2]);
    assert_eq!(ada.lags.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_new_node_skipped_before_its_answer_came_is_a_lag() {
    let cluster = cluster(3, 2);
    let ada = phone("ada");
    attach(&cluster, 3, &ada).await;
    apply(&cluster, &[content(1)]);
    seen(&ada, &[1]).await;
    let (first, other) = serving(&cluster);
    cluster.net.late_answers.store(500, Ordering::Relaxed);
    cluster.net.cut(first, 3);
    until("asked at the other", || subscribed_at(&cluster, other) == 1).await;
    remote::resumed(&cluster.nodes[&3].router.0, other, vec![(topic(), 9)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ada.lags.load(Ordering::Relaxed), 1, "though nothing was written after it");
}

#[tokio::test(start_paused = true)]
async fn two_that_asked_at_once_have_all_that_is_under_way() {
    let cluster = cluster(3, 1);
    let (ada, eve) = (phone("ada"), phone("eve"));
    cluster.net.late_answers.store(500, Ordering::Relaxed);
    cluster.net.late_casts.store(1000, Ordering::Relaxed);
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        apply(&cluster, &[content(1), content(2)]);
        // Both are asking still; the answer to the second one says that these two are pushed, which they will be.
        tokio::time::sleep(Duration::from_millis(100)).await;
        attach(&cluster, 3, &eve).await
    };
    let (of_ada, of_eve) = tokio::join!(attach(&cluster, 3, &ada), later);
    assert_eq!(of_ada, 1);
    apply(&cluster, &[content(3)]);
    seen(&ada, &[1, 2, 3]).await;
    seen(&eve, &(of_eve..=3).collect::<Vec<u64>>()).await;
    assert_eq!((ada.lags.load(Ordering::Relaxed), eve.lags.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_goes_does_not_take_the_topic_from_one_who_is_asking() {
    let cluster = cluster(3, 1);
    let (ada, eve) = (phone("ada"), phone("eve"));
    cluster.net.late_answers.store(500, Ordering::Relaxed);
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        attach(&cluster, 3, &eve).await
    };
    let first = async {
        attach(&cluster, 3, &ada).await;
        cluster.nodes[&3].delivery.disconnect(ada.id);
        apply(&cluster, &[content(1)]);
    };
    let ((), live_from) = tokio::join!(first, later);
    assert_eq!(live_from, 2);
    apply(&cluster, &[content(2)]);
    seen(&eve, &[2]).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_can_ask_between_the_thought_of_giving_up_and_its_message() {
    let cluster = cluster(3, 1);
    let (ada, core) = (phone("ada"), Arc::clone(&cluster.nodes[&3].router.0));
    let (said, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counts, opens) = (Arc::clone(&said), Arc::clone(&open));
    let seen: OnCast = Arc::new(move |body: &Bytes| {
        if let Ok(Cast::Unsubscribe { .. }) = peer::read::<Cast>(body) {
            counts.fetch_add(1, Ordering::Relaxed);
            opens.fetch_add(usize::from(!core.remotes.locked(SHARD)), Ordering::Relaxed);
        }
    });
    *cluster.net.on_cast.lock() = Some(seen);
    // Seen with the next event, and seen by the sweep.
    for way in 1..=2 {
        let ada = if way == 1 { Arc::clone(&ada) } else { phone("ada") };
        attach(&cluster, 3, &ada).await;
        cluster.nodes[&3].delivery.disconnect(ada.id);
        if way == 1 {
            apply(&cluster, &[content(1)]);
        }
        until("given up", || said.load(Ordering::Relaxed) == way).await;
    }
    assert_eq!(open.load(Ordering::Relaxed), 0, "one who attaches now would be heard before it");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_takes_no_more_is_not_believed_to_push() {
    let limits = |node: u16| match node {
        1 => DeliveryLimits { subscriptions: 0, ..DeliveryLimits::default() },
        _ => DeliveryLimits::default(),
    };
    let alone = cluster_within(3, 1, limits);
    let ada = phone("ada");
    let receiver = Arc::clone(&ada) as Arc<dyn Receiver>;
    alone.nodes[&3].delivery.connect(Arc::clone(&receiver));
    assert!(alone.nodes[&3].router.attach(SHARD, receiver, vec![topic()]).await.is_empty());
    assert_eq!(alone.nodes[&3].router.stats().remote_topics, 0);

    let cluster = cluster_within(3, 2, limits);
    apply(&cluster, &[content(1)]);
    let ada = phone("ada");
    assert_eq!(attach(&cluster, 3, &ada).await, 2, "the other replica is asked");
    apply(&cluster, &[content(2)]);
    seen(&ada, &[2]).await;
    // When that one goes, the first is asked in vain, until it is back.
    cluster.net.cut(2, 3);
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.net.heal(2, 3);
    until("subscribed anew", || subscribed_at(&cluster, 2) == 1).await;
    apply(&cluster, &[content(3)]);
    seen(&ada, &[2, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn one_who_stops_waiting_leaves_nothing_behind() {
    let cluster = cluster(3, 1);
    let ada = phone("ada");
    cluster.net.late_answers.store(1000, Ordering::Relaxed);
    let given_up = tokio::time::timeout(Duration::from_millis(300), attach(&cluster, 3, &ada)).await;
    assert!(given_up.is_err());
    assert_eq!(cluster.nodes[&3].router.stats().remote_topics, 0);
    assert_eq!(subscribed_at(&cluster, 1), 1);
    cluster.nodes[&3].delivery.disconnect(ada.id);
    apply(&cluster, &[content(1)]);
    until("given up over there", || subscribed_at(&cluster, 1) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_lag_of_more_topics_than_one_message_holds_is_told() {
    let cluster = cluster(2, 1);
    let named = |at: usize| SessionId::group(GroupId::new(&format!("{at:060}")).unwrap());
    let topics: Vec<Topic> = (0..5000).map(|at| Topic::Session(named(at))).collect();
    let ada = phone("ada");
    let receiver = Arc::clone(&ada) as Arc<dyn Receiver>;
    let [serving, here] = [1, 2].map(|node| &cluster.nodes[&node]);
    here.delivery.connect(Arc::clone(&receiver));
    assert_eq!(here.router.attach(SHARD, receiver, topics.clone()).await.len(), 5000);
    cluster.net.longest.store(200 << 10, Ordering::Relaxed);
    let item = |seq| Push { seq, frame: Bytes::new(), from: None, replaces: None };
    // More than may wait, so that the rest finds no room.
    for seq in 1..=(33 << 10) {
        serving.delivery.publish(&named(0), &[item(seq)]);
    }
    for at in 1..5000 {
        serving.delivery.publish(&named(at), &[item(1)]);
    }
    until("told", || topics[1..].iter().all(|topic| !here.delivery.has(topic))).await;
    assert_eq!(ada.lags.load(Ordering::Relaxed), 1);
    assert_eq!(here.delivery.resume(ada.id), [(news("ada"), 0)]);
}
