//! Nodes that go on trying a request for longer than they do by default, and tell so: how long a number waits follows.

use super::*;

/// What an operator may set it to who would rather wait than be told UNAVAILABLE.
const LONG: Millis = 60_000;

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.cluster.deadline = LONG;
    world
}

/// Two sends leave for a node that is cut off from the leader. The first is no request at all and its number stays free; the
/// second waits there, and its connection is lost. Half a minute later that node reaches the leader and carries it out.
#[test]
fn a_copy_that_waits_on_a_node_for_its_whole_deadline_is_not_stored_twice() {
    let mut world = world(1);
    world.cluster.calm = true;
    (world.others, world.sends) = (0.0, false);
    (0..10).for_each(|_| world.step());
    for kind in ["bad", "good"] {
        let permit = Arc::clone(&world.window).try_acquire_owned().unwrap();
        world.submit_to(sessions()[0].clone(), kind, permit);
    }
    world.engine.pump(world.now);
    let mut out: BytesMut = world.engine.out.split();
    while let Some(frame) = Decoder::new(1 << 20).next(&mut out).unwrap() {
        if frame.kind != Kind::Send as u8 {
            continue;
        }
        let send: Send = decode(&frame.body).unwrap();
        if send.client_seq == 1 {
            world.cluster.serve(&frame);
        } else {
            world.cluster.ghosts.push((world.now + LONG / 2, send));
        }
    }
    world.deliver();
    world.cut();
    let begun = world.now;
    while world.now < begun + LONG / 2 + 100 {
        world.step();
        assert!(!world.cluster.ghosts.is_empty() || world.now >= begun + LONG / 2);
    }
    assert!(world.cluster.ghosts.is_empty(), "the copy came to life, behind a number that nothing has");
    assert!(world.cluster.logs[&sessions()[0]].records.is_empty(), "and its number was nobody else's yet");
    sessions().iter().for_each(|session| world.cluster.other_sends(session));
    world.settle();
}

#[test]
fn every_send_once_whatever_the_deadline() {
    for seed in 0..8 {
        println!("seed {seed}");
        let mut world = world(seed);
        for _ in 0..8_000 {
            world.step();
        }
        world.settle();
    }
}

/// A node that tells less, or nonsense, shortens nothing and stops nothing for ever.
#[test]
fn the_longest_deadline_counts_and_has_an_end() {
    let mut link = super::super::link::Link::default();
    let mut told = |deadline: u32| {
        link.open(0);
        link.welcome(&Welcome { deadline_ms: deadline, ..welcome(0) });
        link.hold()
    };
    assert_eq!([500, 10_000, 60_000, 10_000].map(&mut told), [15_000, 15_000, 65_000, 65_000]);
    assert_eq!(told(u32::MAX), 600_000);
}
