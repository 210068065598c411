//! The bounds of what memory keeps, and of the devices a user has.

use rookery_wire::own::RelationFilter;
use rookery_wire::{Blob, DeviceId, ErrorCode, GroupId, RelationState, SessionId, UserAction};

use super::command::ChangeKind;
use super::devices::MAX_DEVICES;
use super::own_tests::{act, person};
use super::relations::Wish;
use super::tests::{
    Disk, LIMITS, actor, apply, at, change, code_of, group, new_group, says, seq_of, text, user,
};
use super::{
    Actor, At, DeviceBounds, Link, OwnBounds, Room, RowReader, Session, SessionLimits, Stance, User, UserAct,
};

/// Sends `content` under the next number, straight to the session.
fn send(session: &mut Session, limits: &SessionLimits, number: u64, content: &str) {
    let at = At { index: session.index() + 1, ..at(0) };
    session.apply(&at, limits, &actor("ann"), number, &text(content));
    session.reflect(at.index);
}

#[test]
fn the_ring_is_bounded_in_bytes_and_keeps_what_no_row_holds() {
    let limits = SessionLimits { ring: 100, ring_bytes: 4096 };
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    let long = "x".repeat(1000);
    for number in 2..=21 {
        send(&mut session, &limits, number, &long);
    }
    assert_eq!(session.tail_first(), 1, "nothing is written, so nothing leaves");
    disk.write(session.collect());
    session.written(&limits);
    let kept = |session: &Session| session.last_seq() + 1 - session.tail_first();
    assert_eq!(kept(&session), 3, "three records of a little more than 1000 bytes fit into 4096");
    let bytes = |session: &Session| -> usize {
        (session.tail_first()..=session.last_seq())
            .filter_map(|seq| session.record(seq))
            .map(|r| r.len())
            .sum()
    };
    assert_eq!(session.tail_bytes, bytes(&session));
    // One more than fits all by itself stays, as the last one.
    send(&mut session, &limits, 22, &"y".repeat(9000));
    disk.write(session.collect());
    session.written(&limits);
    assert_eq!((kept(&session), session.tail_bytes), (1, bytes(&session)));
    // Short ones make room for it to leave; loading counts the bytes as well.
    let mut session = Session::load(&disk, &group()).expect("rows");
    assert_eq!(session.tail_bytes, bytes(&session));
    send(&mut session, &limits, 23, "short");
    assert_eq!(kept(&session), 1, "the long one is in a row and leaves when the next one comes");
    assert_eq!(session.tail_bytes, bytes(&session));
}

#[test]
fn a_repeated_message_waits_for_nobody_and_a_repeated_change_for_its_intents() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    seq_of(&apply(&mut session, &disk, &at(2), &actor("ann"), 2, &text("hi")));
    let add = change(ChangeKind::Add, &["eve"]);
    let first = apply(&mut session, &disk, &at(3), &actor("ann"), 3, &add).gate.expect("a gate");
    assert!(!session.gate_open(&first), "the intent for eve has not arrived");
    let message = apply(&mut session, &disk, &at(4), &actor("ann"), 2, &text("hi"));
    assert_eq!((seq_of(&message), message.gate), (2, None));
    let change = apply(&mut session, &disk, &at(5), &actor("ann"), 3, &add);
    assert_eq!(seq_of(&change), 3);
    assert!(change.gate.is_some_and(|gate| !session.gate_open(&gate)));
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).expect("a name")
}

/// Bob in one session, with a phone and as many scripts as still fit, registered one a second.
fn bob_with_all_devices() -> User {
    let mut bob = User::new(user("bob"));
    bob.link(&Link { session: group(), version: 2, member: true, joined_seq: 1, from: None }, 9);
    bob.register(&device("phone"), &says(1), &DeviceBounds::default(), 0);
    for number in 1..MAX_DEVICES as u64 {
        bob.register(&device(&format!("script-{number}")), &says(1), &DeviceBounds::default(), number * 1000);
    }
    bob
}

#[test]
fn the_device_least_recently_used_makes_room_and_not_the_one_in_use() {
    let mut bob = bob_with_all_devices();
    bob.delivered((&device("phone"), 1), &[(group(), 5)], 500_000);
    // A registration repeated counts as use as well, and gives the same epoch.
    bob.register(&device("script-1"), &says(1), &DeviceBounds::default(), 600_000);
    bob.register(&device("tablet"), &says(1), &DeviceBounds::default(), 700_000);
    assert_eq!(bob.epoch(&device("script-2")), 0, "the one least recently used is gone");
    for kept in ["phone", "script-1", "script-3", "tablet"] {
        assert_ne!(bob.epoch(&device(kept)), 0, "{kept} stays");
    }
    assert_eq!(bob.epoch(&device("phone")), 1);
    // What is judged is what the rows say, so a node that has just loaded the user judges alike.
    let mut disk = Disk::default();
    bob.reflect(9);
    disk.write(bob.collect());
    let mut loaded = User::load(&disk, &user("bob")).expect("rows");
    loaded.register(&device("desk"), &says(1), &DeviceBounds::default(), 1);
    bob.register(&device("desk"), &says(1), &DeviceBounds::default(), 1);
    for user in [&bob, &loaded] {
        assert_eq!((user.epoch(&device("script-3")), user.epoch(&device("desk"))), (0, 66));
    }
}

#[test]
fn only_registered_devices_have_cursors() {
    let mut bob = bob_with_all_devices();
    let cursors =
        |bob: &User| bob.sessions().map(|(_, link)| link.delivered.clone()).next().expect("a session");
    bob.delivered((&device("nobody"), 1), &[(group(), 3)], 1);
    assert!(cursors(&bob).is_empty(), "a name that was never registered leaves nothing");
    bob.delivered((&device("phone"), 2), &[(group(), 9)], 1);
    assert!(cursors(&bob).is_empty(), "nor does another registration of that name");
    bob.delivered(
        (&device("phone"), 1),
        &[(group(), 5), (SessionId::group(GroupId::new("other").expect("a name")), 1)],
        1,
    );
    assert_eq!(
        (cursors(&bob).get(&device("phone")), bob.links.len()),
        (Some(&5), 1),
        "nor does an unknown session"
    );
    let mut disk = Disk::default();
    bob.reflect(9);
    disk.write(bob.collect());
    bob.register(&device("tablet"), &says(1), &DeviceBounds::default(), 700_000);
    assert_eq!(bob.epoch(&device("phone")), 0);
    bob.delivered((&device("phone"), 1), &[(group(), 8)], 800_000);
    bob.reflect(10);
    disk.write(bob.collect());
    for user in [bob, User::load(&disk, &user("bob")).expect("rows")] {
        assert!(cursors(&user).is_empty(), "evicted with its cursors, in memory and in rows");
    }
}

#[test]
fn senders_are_read_when_they_are_needed_and_leave_memory_when_there_are_many() {
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    let names: Vec<String> = (0..400).map(|n| format!("script{n}")).collect();
    let service = |name: &str| Actor { service: true, ..actor(name) };
    for (name, index) in names.iter().zip(10..) {
        let sent = apply(&mut session, &disk, &at(index), &service(name), 1, &text(name));
        assert_eq!(seq_of(&sent), index - 8);
    }
    for _ in 0..2 {
        disk.write(session.collect());
        session.written(&LIMITS);
    }
    assert!(session.senders.len() < names.len(), "{} stay", session.senders.len());

    // Loaded anew nobody is in memory; whoever asks is answered as ever.
    let loaded = Session::load(&disk, session.id()).expect("rows");
    assert!(loaded.senders.is_empty());
    for mut session in [session, loaded] {
        let again = apply(&mut session, &disk, &at(1000), &service("script7"), 1, &text("script7"));
        assert_eq!(seq_of(&again), 9, "its first answer");
        let next = apply(&mut session, &disk, &at(1001), &service("script8"), 2, &text("more"));
        assert_eq!(seq_of(&next), 402);
        let gap = apply(&mut session, &disk, &at(1002), &service("script9"), 3, &text("more"));
        assert_eq!(code_of(&gap), ErrorCode::ClientSeqGap);
    }
}

fn rows_of(disk: &Disk) -> usize {
    let mut rows = 0;
    let all = disk.scan(&[], &mut |_, _| {
        rows += 1;
        Ok(true)
    });
    all.expect("rows");
    rows
}

/// Names that nobody has can be blocked: they count like any other, and leave no row with the user once that is over. What a
/// late errand could bring back is known where it would arrive.
#[test]
fn names_that_are_blocked_in_vain_are_counted_and_leave_nothing_with_the_user() {
    let (mut ann, mut disk) = (person("ann"), Disk::default());
    ann.reflect(1);
    disk.write(ann.collect());
    let before = rows_of(&disk);
    let bounds = OwnBounds { relations: 20, deletions: 1 };
    let (mut number, mut index) = (0, 1);
    let mut does = |ann: &mut User, action: UserAction| {
        (number, index) = (number + 1, index + 1);
        let outcome = ann.act(&at(index), &actor("ann"), &UserAct { bounds, ..act(number, action) });
        let arrived: Vec<_> =
            ann.pending_errands().map(|(key, errand)| (key.clone(), errand.version)).collect();
        ann.carried(&arrived);
        ann.reflect(index);
        outcome
    };
    let invented = |round: u32, n: u32| user(&format!("nobody{round}-{n}"));
    for round in 0..3 {
        for n in 0..20 {
            does(&mut ann, UserAction::Block { user: invented(round, n) });
        }
        let full = does(&mut ann, UserAction::Block { user: invented(round, 20) });
        assert_eq!(code_of(&full), ErrorCode::RelationsFull);
        disk.write(ann.collect());
        ann = User::load(&disk, &user("ann")).expect("rows");
        assert!(ann.blocks(&invented(round, 19)));
        for n in 0..20 {
            does(&mut ann, UserAction::Unblock { user: invented(round, n) });
        }
        disk.write(ann.collect());
        assert_eq!(ann.relations_after(RelationFilter::All, None).count(), 0);
    }
    // One row more: the numbers of the device.
    assert_eq!(rows_of(&disk), before + 1);
    // Where there was more than a block, the row stays: what the other wanted must not come again.
    let eve = user("eve");
    let wants = Stance { version: 5, wish: Wish::Ask, refuses_up_to: 0 };
    let room = Room { relations: 20, requests: 20 };
    ann.hear(&at(200), &eve, &wants, &Blob::default(), room);
    does(&mut ann, UserAction::DeclineFriend { user: eve.clone() });
    does(&mut ann, UserAction::Block { user: eve.clone() });
    does(&mut ann, UserAction::Unblock { user: eve.clone() });
    ann.hear(&at(300), &eve, &wants, &Blob::default(), room);
    assert_eq!(ann.relation(&eve), RelationState::None, "that was declined");
}
