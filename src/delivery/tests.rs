//! Delivery with receivers that write down what they are pushed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_wire::{DeviceId, GroupId, SessionId, UserId};

use super::*;

/// Of every device here.
const EPOCH: u32 = 4;

struct Fake {
    id: u64,
    origin: Option<(UserId, DeviceId)>,
    room: AtomicUsize,
    got: Mutex<Vec<(Topic, u64)>>,
    lags: Mutex<Vec<Topic>>,
    /// Whether something waits to be written.
    holds: AtomicBool,
    /// What was said of what waits.
    said: Mutex<Vec<(&'static str, u64)>>,
}

impl Receiver for Fake {
    fn id(&self) -> u64 {
        self.id
    }
    fn origin(&self) -> Option<(&UserId, &DeviceId, u32)> {
        self.origin.as_ref().map(|(user, device)| (user, device, EPOCH))
    }
    fn push(&self, topic: &Topic, items: &[Push]) -> bool {
        if self.room.load(Ordering::Relaxed) < items.len() {
            return false;
        }
        self.room.fetch_sub(items.len(), Ordering::Relaxed);
        self.got.lock().extend(items.iter().map(|item| (topic.clone(), item.seq)));
        true
    }
    fn lagged(&self, topic: &Topic) {
        self.lags.lock().push(topic.clone());
    }
    fn replace(&self, _: &Topic, (seq, _): &(u64, Bytes)) {
        self.said.lock().push(("replace", *seq));
    }
    fn withdraw(&self, _: &Topic, (seq, _): &(u64, Bytes)) {
        self.said.lock().push(("withdraw", *seq));
    }
    fn discard(&self, _: &Topic) {
        self.said.lock().push(("discard", 0));
    }
    fn holds(&self, _: &Topic) -> bool {
        self.holds.load(Ordering::Relaxed)
    }
}

impl Fake {
    fn device(user: &str, device: &str) -> Arc<Fake> {
        Self::make(Some((UserId::new(user).unwrap(), DeviceId::new(device).unwrap())))
    }
    fn node() -> Arc<Fake> {
        Self::make(None)
    }
    fn make(origin: Option<(UserId, DeviceId)>) -> Arc<Fake> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Fake {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            origin,
            room: AtomicUsize::new(usize::MAX / 2),
            got: Mutex::default(),
            lags: Mutex::default(),
            holds: AtomicBool::new(false),
            said: Mutex::default(),
        })
    }
    fn seqs(&self) -> Vec<u64> {
        self.got.lock().iter().map(|(_, seq)| *seq).collect()
    }
    fn as_dyn(self: &Arc<Self>) -> Arc<dyn Receiver> {
        Arc::clone(self) as Arc<dyn Receiver>
    }
}

/// Attaches a device whose user is a member.
fn join(delivery: &Delivery, topic: &Topic, fake: &Arc<Fake>, last_seq: u64) -> u64 {
    match delivery.attach(topic, &fake.as_dyn(), last_seq) {
        NOT_LIVE => NOT_LIVE,
        _ => delivery.admit(topic, fake.id, 0).unwrap(),
    }
}

fn delivery() -> Delivery {
    Delivery::new(DeliveryLimits::default())
}

fn session(name: &str) -> SessionId {
    SessionId::group(GroupId::new(name).unwrap())
}

fn topic(name: &str) -> Topic {
    Topic::Session(session(name))
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn items(seqs: impl IntoIterator<Item = u64>) -> Vec<Push> {
    seqs.into_iter().map(|seq| Push { seq, frame: Bytes::new(), from: None, replaces: None }).collect()
}

fn sent_by(seq: u64, user: &str, device: &str) -> Push {
    let from = Arc::new((UserId::new(user).unwrap(), DeviceId::new(device).unwrap(), EPOCH));
    Push { seq, frame: Bytes::new(), from: Some(from), replaces: None }
}

#[test]
fn pushes_in_order_from_the_seq_after_the_one_known() {
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    delivery.connect(ada.as_dyn());
    assert_eq!(join(&delivery, &topic("g"), &ada, 7), 8);
    delivery.publish(&session("g"), &items(6..=9));
    delivery.publish(&session("g"), &items([10]));
    assert_eq!(ada.seqs(), [8, 9, 10]);
}

#[test]
fn a_device_registered_anew_is_pushed_what_it_sent_before() {
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    delivery.connect(ada.as_dyn());
    join(&delivery, &topic("g"), &ada, 0);
    let now = sent_by(1, "ada", "phone");
    let before = Arc::new((user("ada"), DeviceId::new("phone").unwrap(), EPOCH - 1));
    delivery.publish(&session("g"), &[now, Push { from: Some(before), ..sent_by(2, "ada", "phone") }]);
    assert_eq!(ada.seqs(), [2], "the ACK of the second went to a connection that is gone");
}

#[test]
fn never_pushes_a_seq_twice() {
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    delivery.connect(ada.as_dyn());
    join(&delivery, &topic("g"), &ada, 0);
    for batch in [1..=3, 2..=3, 1..=5, 5..=5, 6..=6] {
        delivery.publish(&session("g"), &items(batch));
    }
    assert_eq!(ada.seqs(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(delivery.stats().lags, 0);
}

#[test]
fn an_attach_that_is_repeated_changes_nothing() {
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    delivery.connect(ada.as_dyn());
    join(&delivery, &topic("g"), &ada, 0);
    delivery.publish(&session("g"), &items(1..=4));
    assert_eq!(join(&delivery, &topic("g"), &ada, 9), 1, "whole since its beginning");
    delivery.publish(&session("g"), &items([5]));
    assert_eq!(ada.seqs(), [1, 2, 3, 4, 5]);
    assert_eq!(delivery.stats().subscriptions, 2, "the session and the user's own topic");
}

#[test]
fn the_sending_device_is_passed_over_and_the_users_other_devices_are_not() {
    let delivery = delivery();
    let (phone, desk) = (Fake::device("ada", "phone"), Fake::device("ada", "desk"));
    for receiver in [&phone, &desk] {
        delivery.connect(receiver.as_dyn());
        join(&delivery, &topic("g"), receiver, 0);
    }
    let batch = [
        sent_by(1, "ada", "phone"),
        sent_by(2, "bob", "phone"),
        sent_by(3, "ada", "phone"),
        sent_by(4, "ada", "phone"),
        sent_by(5, "bob", "phone"),
        sent_by(6, "ada", "phone"),
    ];
    delivery.publish(&session("g"), &batch);
    delivery.publish(&session("g"), &items([7]));
    assert_eq!(phone.seqs(), [2, 5, 7]);
    assert_eq!(desk.seqs(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(delivery.stats().lags, 0);
}

#[test]
fn no_room_lags_until_resumed_and_goes_on_at_the_head() {
    let (delivery, slow, fast) = (delivery(), Fake::device("ada", "phone"), Fake::device("bob", "phone"));
    for receiver in [&slow, &fast] {
        delivery.connect(receiver.as_dyn());
        join(&delivery, &topic("g"), receiver, 0);
    }
    slow.room.store(2, Ordering::Relaxed);
    for seq in 1..=5 {
        delivery.publish(&session("g"), &items([seq]));
    }
    assert_eq!(*slow.lags.lock(), [topic("g")], "told once");
    slow.room.store(100, Ordering::Relaxed);
    delivery.publish(&session("g"), &items([6]));
    assert_eq!(slow.seqs(), [1, 2], "nothing before it is resumed");
    assert_eq!(delivery.resume(slow.id), [(topic("g"), 7)]);
    assert!(delivery.resume(slow.id).is_empty());
    delivery.publish(&session("g"), &items([7]));
    assert_eq!(slow.seqs(), [1, 2, 7]);
    assert_eq!(fast.seqs(), [1, 2, 3, 4, 5, 6, 7], "a slow reader slows only itself");
}

#[test]
fn a_gap_is_a_lag_and_never_silent() {
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    delivery.connect(ada.as_dyn());
    join(&delivery, &topic("g"), &ada, 0);
    delivery.publish(&session("g"), &items([1]));
    delivery.publish(&session("g"), &items([3]));
    assert_eq!(ada.seqs(), [1]);
    assert_eq!(*ada.lags.lock(), [topic("g")]);
    assert_eq!(delivery.resume(ada.id), [(topic("g"), 4)]);
}

/// Whoever reads the answer of a SYNC may be another than who keeps what was pushed: only LAGGED is told to all.
#[test]
fn a_sync_while_lagging_does_not_take_the_lag_away() {
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    let news = Topic::User(user("ada"));
    delivery.connect(ada.as_dyn());
    join(&delivery, &topic("g"), &ada, 0);
    ada.room.store(0, Ordering::Relaxed);
    delivery.publish(&session("g"), &items(1..=3));
    delivery.publish_user(&user("ada"), &items([0]));
    ada.room.store(100, Ordering::Relaxed);
    delivery.attach(&news, &ada.as_dyn(), 0);
    assert_eq!(join(&delivery, &topic("g"), &ada, 3), 4);
    delivery.publish(&session("g"), &items([4]));
    assert!(ada.seqs().is_empty(), "live again when it was told");
    let mut resumed = delivery.resume(ada.id);
    resumed.sort();
    assert_eq!(resumed, [(topic("g"), 5), (news, 0)]);
    delivery.publish(&session("g"), &items([5]));
    assert_eq!(ada.seqs(), [5]);
}

/// Two there may have asked at once, and the second answer is told to one of them alone: what was skipped is said to all when the
/// node resumes.
#[test]
fn a_node_that_lags_and_subscribes_again_lags_until_it_resumes() {
    let (delivery, node) = (delivery(), Fake::node());
    delivery.connect(node.as_dyn());
    delivery.attach(&topic("g"), &node.as_dyn(), 0);
    node.room.store(0, Ordering::Relaxed);
    delivery.publish(&session("g"), &items(1..=3));
    node.room.store(100, Ordering::Relaxed);
    assert_eq!(delivery.attach(&topic("g"), &node.as_dyn(), 3), 4);
    delivery.publish(&session("g"), &items([4]));
    assert!(node.seqs().is_empty());
    assert_eq!(delivery.resume(node.id), [(topic("g"), 5)]);
    delivery.publish(&session("g"), &items([5]));
    assert_eq!(node.seqs(), [5]);
}

#[test]
fn members_come_and_go_with_the_log() {
    let (delivery, bob) = (delivery(), Fake::device("bob", "phone"));
    delivery.connect(bob.as_dyn());
    delivery.publish(&session("g"), &items(1..=3));
    delivery.member_added(&session("g"), &user("bob"), 3);
    delivery.member_added(&session("g"), &user("nobody-here"), 3);
    delivery.publish(&session("g"), &items([4]));
    delivery.publish(&session("g"), &items([5, 6]));
    delivery.member_removed(&session("g"), &user("bob"));
    delivery.publish(&session("g"), &items([7]));
    assert_eq!(bob.seqs(), [4, 5, 6], "from the signal that added to the one that removed");
    assert!(!delivery.has(&topic("g")));
    delivery.member_added(&session("g"), &user("bob"), 9);
    delivery.publish(&session("g"), &items([10]));
    assert_eq!(bob.seqs(), [4, 5, 6, 10]);
}

#[test]
fn a_users_news_goes_to_every_device_and_to_nodes_that_ask() {
    let delivery = delivery();
    let (phone, desk, node) = (Fake::device("ada", "phone"), Fake::device("ada", "desk"), Fake::node());
    delivery.connect(phone.as_dyn());
    delivery.connect(desk.as_dyn());
    delivery.connect(node.as_dyn());
    let news = Topic::User(user("ada"));
    delivery.attach(&news, &node.as_dyn(), 0);
    delivery.publish_user(&user("ada"), &items([0, 0]));
    for receiver in [&phone, &desk, &node] {
        assert_eq!(receiver.got.lock().len(), 2);
    }
    assert!(delivery.online(&user("ada")));
    delivery.disconnect(phone.id);
    delivery.disconnect(desk.id);
    assert!(!delivery.online(&user("ada")), "a node is no device");
    delivery.member_added(&session("g"), &user("ada"), 0);
    assert!(!delivery.has(&topic("g")));
}

#[test]
fn news_without_room_asks_for_a_new_sync() {
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    delivery.connect(ada.as_dyn());
    ada.room.store(0, Ordering::Relaxed);
    delivery.publish_user(&user("ada"), &items([0]));
    assert_eq!(delivery.resume(ada.id), [(Topic::User(user("ada")), 0)]);
}

#[test]
fn a_device_is_pushed_nothing_before_its_user_is_known_as_a_member() {
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    delivery.connect(ada.as_dyn());
    delivery.attach(&topic("g"), &ada.as_dyn(), 3);
    delivery.publish(&session("g"), &items(4..=6));
    assert!(ada.seqs().is_empty());
    assert_eq!(delivery.admit(&topic("g"), ada.id, 1), Some(7), "what was skipped is before live_from");
    delivery.publish(&session("g"), &items([7]));
    assert_eq!(ada.seqs(), [7]);
    assert_eq!(delivery.stats().lags, 0);
}

#[test]
fn one_who_was_removed_before_being_admitted_is_not_let_in() {
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    delivery.connect(ada.as_dyn());
    delivery.attach(&topic("g"), &ada.as_dyn(), 3);
    delivery.member_removed(&session("g"), &user("ada"));
    assert_eq!(delivery.admit(&topic("g"), ada.id, 1), None);
    // Removed and added again: the log itself admits.
    delivery.attach(&topic("g"), &ada.as_dyn(), 5);
    delivery.member_added(&session("g"), &user("ada"), 8);
    delivery.publish(&session("g"), &items([9]));
    assert_eq!(delivery.admit(&topic("g"), ada.id, 9), Some(9), "what was pushed meanwhile counts");
    assert_eq!(ada.seqs(), [9]);
}

#[test]
fn a_member_is_pushed_nothing_from_before_it_came() {
    // The replica here is behind: it has 3, the leader says that ada came with 6.
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    delivery.connect(ada.as_dyn());
    delivery.attach(&topic("g"), &ada.as_dyn(), 3);
    assert_eq!(delivery.admit(&topic("g"), ada.id, 6), Some(6));
    for seq in 4..=7 {
        delivery.publish(&session("g"), &items([seq]));
    }
    assert_eq!(ada.seqs(), [6, 7]);
}

#[test]
fn after_a_snapshot_devices_of_its_shard_sync_again_and_no_others() {
    let (delivery, ada, node) = (delivery(), Fake::device("ada", "phone"), Fake::node());
    delivery.connect(ada.as_dyn());
    delivery.connect(node.as_dyn());
    join(&delivery, &topic("a"), &ada, 0);
    join(&delivery, &topic("b"), &ada, 0);
    delivery.attach(&topic("a"), &node.as_dyn(), 0);
    delivery.lag_all(|at| (*at == topic("a")).then_some(41));
    assert_eq!(delivery.resume(ada.id), [(Topic::User(user("ada")), 0)], "who is a member is not known");
    assert_eq!(delivery.resume(node.id), [(topic("a"), 42)]);
    delivery.publish(&session("b"), &items([1]));
    delivery.publish(&session("a"), &items([42]));
    assert_eq!(ada.seqs(), [1]);
    assert_eq!(node.seqs(), [42]);
    join(&delivery, &topic("a"), &ada, 42);
    delivery.publish(&session("a"), &items([43]));
    assert_eq!(ada.seqs(), [1, 43]);
    assert_eq!(delivery.stats().subscriptions, 4);
}

fn recalling(seq: u64, recalled: u64) -> Push {
    Push { seq, frame: Bytes::new(), from: None, replaces: Some(Arc::new((recalled, Bytes::new()))) }
}

#[test]
fn who_was_removed_hears_of_recalls_until_nothing_waits_for_it() {
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    delivery.connect(ada.as_dyn());
    join(&delivery, &topic("g"), &ada, 0);
    delivery.publish(&session("g"), &items(1..=3));
    delivery.publish(&session("g"), &[recalling(4, 1)]);
    ada.holds.store(true, Ordering::Relaxed);
    delivery.member_removed(&session("g"), &user("ada"));
    delivery.publish(&session("g"), &[recalling(5, 2)]);
    delivery.detach(&topic("g"), ada.id);
    delivery.publish(&session("g"), &[recalling(6, 3)]);
    assert_eq!(*ada.said.lock(), [("replace", 1), ("withdraw", 2), ("withdraw", 3)]);
    assert_eq!(ada.seqs(), [1, 2, 3, 4], "nothing from behind its end");
    assert_eq!(delivery.admit(&topic("g"), ada.id, 1), None, "it is not attached");
    assert!(delivery.resume(ada.id).is_empty() && delivery.has(&topic("g")), "something has come in between");
    ada.holds.store(false, Ordering::Relaxed);
    assert!(delivery.resume(ada.id).is_empty() && !delivery.has(&topic("g")));
    assert_eq!(delivery.stats().subscriptions, 1, "of its user");
}

#[test]
fn who_comes_back_before_all_is_written_is_pushed_everything() {
    let (delivery, ada, bob) = (delivery(), Fake::device("ada", "phone"), Fake::device("bob", "phone"));
    for device in [&ada, &bob] {
        delivery.connect(device.as_dyn());
        join(&delivery, &topic("g"), device, 0);
        device.holds.store(true, Ordering::Relaxed);
    }
    delivery.publish(&session("g"), &items([1]));
    delivery.member_removed(&session("g"), &user("ada"));
    delivery.member_removed(&session("g"), &user("bob"));
    // One by the log, one by a SYNC.
    delivery.member_added(&session("g"), &user("ada"), 4);
    assert_eq!(join(&delivery, &topic("g"), &bob, 4), 5);
    delivery.publish(&session("g"), &items([5]));
    for device in [&ada, &bob] {
        device.holds.store(false, Ordering::Relaxed);
        assert!(delivery.resume(device.id).is_empty());
    }
    delivery.publish(&session("g"), &items([6]));
    assert_eq!((ada.seqs(), bob.seqs()), (vec![1, 5, 6], vec![1, 5, 6]));
    assert_eq!(delivery.stats().lags, 0);
    // And one who goes for good leaves nothing behind.
    ada.holds.store(true, Ordering::Relaxed);
    delivery.member_removed(&session("g"), &user("ada"));
    delivery.disconnect(ada.id);
    delivery.disconnect(bob.id);
    let stats = delivery.stats();
    assert_eq!((stats.topics, stats.subscriptions, stats.receivers), (0, 0, 0));
}

#[test]
fn what_waits_is_let_go_where_a_recall_may_have_been_skipped() {
    let (delivery, ada, node) = (delivery(), Fake::device("ada", "phone"), Fake::node());
    delivery.connect(ada.as_dyn());
    delivery.connect(node.as_dyn());
    for name in ["a", "b"] {
        join(&delivery, &topic(name), &ada, 0);
        delivery.attach(&topic(name), &node.as_dyn(), 0);
    }
    delivery.lag(&topic("a"), 7);
    assert_eq!((ada.said.lock().len(), ada.lags.lock().len()), (1, 1));
    delivery.lag_all(|at| (*at == topic("b")).then_some(3));
    assert_eq!(*ada.said.lock(), [("discard", 0), ("discard", 0)]);
    assert_eq!(delivery.resume(ada.id), [(Topic::User(user("ada")), 0)], "and it is told to sync");
    assert_eq!(*node.said.lock(), [("discard", 0), ("discard", 0)]);
    assert_eq!(delivery.resume(node.id).len(), 2, "it goes on behind what was skipped");
}

#[test]
fn bounds_hold_and_say_so() {
    let limits = DeliveryLimits { subscriptions: 4, topics_per_receiver: 3 };
    let delivery = Delivery::new(limits);
    let (ada, bob) = (Fake::device("ada", "phone"), Fake::device("bob", "phone"));
    delivery.connect(ada.as_dyn());
    assert_eq!(join(&delivery, &topic("a"), &ada, 0), 1);
    assert_eq!(join(&delivery, &topic("b"), &ada, 0), 1);
    assert_eq!(join(&delivery, &topic("c"), &ada, 0), NOT_LIVE, "topics of one receiver");
    delivery.connect(bob.as_dyn());
    assert_eq!(join(&delivery, &topic("a"), &bob, 0), NOT_LIVE, "subscriptions of the node");
    assert_eq!(delivery.stats().refused, 2);
    assert_eq!(join(&delivery, &topic("a"), &ada, 0), 1, "who is there already needs no more room");
    delivery.detach(&topic("b"), ada.id);
    assert_eq!(join(&delivery, &topic("a"), &bob, 0), 1);
}

#[test]
fn a_node_has_the_topics_of_all_its_devices() {
    let delivery = Delivery::new(DeliveryLimits { subscriptions: 5, topics_per_receiver: 1 });
    let node = Fake::node();
    delivery.connect(node.as_dyn());
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(delivery.attach(&topic(name), &node.as_dyn(), 7), 8);
    }
    assert_eq!(delivery.attach(&topic("f"), &node.as_dyn(), 7), NOT_LIVE, "subscriptions of this one");
}

#[test]
fn nothing_is_left_of_a_receiver_that_went() {
    let (delivery, ada) = (delivery(), Fake::device("ada", "phone"));
    assert_eq!(join(&delivery, &topic("a"), &ada, 0), NOT_LIVE, "not connected yet");
    delivery.connect(ada.as_dyn());
    for name in ["a", "b", "c"] {
        join(&delivery, &topic(name), &ada, 0);
    }
    delivery.disconnect(ada.id);
    assert_eq!(join(&delivery, &topic("a"), &ada, 0), NOT_LIVE);
    let stats = delivery.stats();
    assert_eq!((stats.topics, stats.subscriptions, stats.receivers, stats.bytes), (0, 0, 0, 0));
}

#[test]
fn concurrent_comings_and_goings_leave_nothing_behind_and_keep_order() {
    let delivery = Arc::new(delivery());
    let publisher = {
        let delivery = Arc::clone(&delivery);
        std::thread::spawn(move || {
            for seq in 1..=20_000 {
                delivery.publish(&session("g"), &items([seq]));
            }
        })
    };
    let visitors: Vec<_> = (0..3)
        .map(|number| {
            let delivery = Arc::clone(&delivery);
            std::thread::spawn(move || {
                for visit in 0..500 {
                    let fake = Fake::device(&format!("user{number}"), &format!("device{visit}"));
                    delivery.connect(fake.as_dyn());
                    delivery.member_added(&session("g"), &user(&format!("user{number}")), 0);
                    delivery.resume(fake.id);
                    delivery.disconnect(fake.id);
                    let seqs = fake.seqs();
                    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "in order: {seqs:?}");
                }
            })
        })
        .collect();
    publisher.join().unwrap();
    for visitor in visitors {
        visitor.join().unwrap();
    }
    let stats = delivery.stats();
    assert_eq!((stats.topics, stats.subscriptions, stats.receivers), (0, 0, 0));
}
