//! What the index of who is pushed what takes, counted by the allocator, beside what a node says it takes.
//!
//! A binary of its own with a single test, because the count is of the whole process.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, which may fail and tells its figures")]
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait around the system's own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rookery::delivery::{Delivery, DeliveryLimits, Push, Receiver, Topic, next_receiver_id};
use rookery_wire::{DeviceId, GroupId, SessionId, UserId};

/// Counts live bytes.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; the counter touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the pointer came from `alloc` above, thus from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Phone {
    id: u64,
    of: (UserId, DeviceId),
}

impl Receiver for Phone {
    fn id(&self) -> u64 {
        self.id
    }
    fn origin(&self) -> Option<(&UserId, &DeviceId, u32)> {
        Some((&self.of.0, &self.of.1, 1))
    }
    fn push(&self, _: &Topic, _: &[Push]) -> bool {
        true
    }
    fn lagged(&self, _: &Topic) {}
}

fn phones(count: usize) -> Vec<Arc<dyn Receiver>> {
    let phone = |number| -> Arc<dyn Receiver> {
        let user = UserId::new(&format!("user-{number:06}")).unwrap();
        Arc::new(Phone { id: next_receiver_id(), of: (user, DeviceId::new("phone").unwrap()) })
    };
    (0..count).map(phone).collect()
}

/// Phones, each in so many of the groups. Bytes of the index by the allocator, as the node says, and of one (member, device).
fn index(phones: &[Arc<dyn Receiver>], groups: usize, each: usize) -> (u64, u64, u64) {
    let topics: Vec<Topic> = (0..groups)
        .map(|number| Topic::Session(SessionId::group(GroupId::new(&format!("group-{number:06}")).unwrap())))
        .collect();
    let before = LIVE.load(Relaxed);
    let delivery = Delivery::new(DeliveryLimits::default());
    phones.iter().for_each(|phone| delivery.connect(Arc::clone(phone)));
    let connected = LIVE.load(Relaxed);
    for (at, phone) in phones.iter().enumerate() {
        for nth in 0..each {
            let topic = &topics[(at * each + nth) % groups];
            delivery.attach(topic, phone, 7);
            delivery.admit(topic, phone.id(), 1).unwrap();
        }
    }
    let now = LIVE.load(Relaxed);
    let stats = delivery.stats();
    assert_eq!(stats.subscriptions, (phones.len() * (each + 1)) as u64);
    ((now - before) as u64, stats.bytes, ((now - connected) / (phones.len() * each)) as u64)
}

#[test]
fn the_index_takes_what_the_node_says() {
    let phones = phones(20_000);
    for (what, groups, each) in [
        ("one group of 20,000 online", 1, 1),
        ("20,000 online, each in 20 of 40,000 groups of 10", 40_000, 20),
        ("20,000 online, each in 100 of 2,000 groups of 1,000", 2_000, 100),
    ] {
        let (bytes, said, one) = index(&phones, groups, each);
        println!("{what}: {bytes} bytes, the node says {said}; {one} for each (member, device)");
        // A list that has just grown has room for as many again.
        assert!(said * 3 > bytes * 2 && said * 2 < bytes * 3, "{what}: {bytes} bytes, the node says {said}");
    }
}
