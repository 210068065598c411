//! What counts as a change of a line: what shows in it, and nothing else.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::{Blob, DeviceId, Retention, SessionId, SessionSetting, UserAction};

use super::command::ReadTo;
use super::own_tests::{act, pair, person};
use super::tests::{Disk, LIMITS, actor, apply, at, says, text, user};
use super::{Act, Answer, DeviceBounds, Given, Link, Session, User, UserAct};

/// All that a line of SYNC takes of a session, for both of its users.
type Line = (u64, u64, u64, u64, u32, Vec<Option<(u64, u64)>>, Vec<u64>, Option<Bytes>);

fn line(session: &Session) -> Line {
    let members = ["ann", "bob"].map(|name| session.member(&user(name)).map(|m| (m.joined_seq, m.own_count)));
    let recalled = (0..=session.count()).map(|count| session.recalled_after(count)).collect();
    let last = session.record(session.last_seq()).cloned();
    (
        session.first_seq(),
        session.last_seq(),
        session.count(),
        session.time_ms(),
        session.present(),
        members.to_vec(),
        recalled,
        last,
    )
}

/// Random commands, carried out and in vain: the index moves exactly with what shows, over checkpoints and loading too.
#[test]
fn a_session_changed_when_its_line_did() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut session = Session::new(pair("ann", "bob"));
        let mut disk = Disk::default();
        let (mut numbers, mut still, mut moved) = ([0u64; 2], 0, 0);
        for index in 1..200 {
            let (before, face, changed) = (line(&session), session.face(), session.changed());
            let who = random.random_range(0..2);
            let name = ["ann", "bob"][who];
            let ours = random.random_range(1..=session.last_seq().max(1));
            match random.random_range(0..12) {
                0 => drop(session.bar(&user(name), index, random.random_bool(0.2))),
                1 => drop(session.trim(ours / 2, session.first_count(), Retention::default())),
                2 => drop(session.linked(&at(index), &[(user(name), index, true)])),
                3 => drop(apply(&mut session, &disk, &at(index), &actor("eve"), 1, &text("let me in"))),
                4 => {
                    drop(apply(&mut session, &disk, &at(index), &actor(name), numbers[who] + 5, &text("gap")))
                }
                turn => {
                    let what = match turn {
                        5 | 6 => Act::Recall { seq: ours, window_ms: u64::MAX },
                        _ => text("hello"),
                    };
                    let outcome =
                        apply(&mut session, &disk, &at(index), &actor(name), numbers[who] + 1, &what);
                    let taken = match outcome.answer {
                        Some(Answer::Ack(_)) => true,
                        Some(Answer::Refused(error)) => error.takes_client_seq(),
                        _ => false,
                    };
                    numbers[who] += u64::from(taken);
                }
            }
            session.applied_at(index, face);
            session.reflect(index);
            session.forget_recalled();
            let shows = line(&session) != before;
            // Before its first record it opens: that may move what nobody sees.
            if session.last_seq() > 1 {
                assert_eq!(session.changed() == index, shows, "seed {seed}, index {index}");
            } else {
                assert!(!shows || session.changed() == index, "seed {seed}, index {index}");
            }
            assert!(session.changed() == index || session.changed() == changed, "it never goes back");
            if shows {
                moved += 1
            } else {
                still += 1
            }
            if random.random_ratio(1, 8) {
                disk.write(session.collect());
                session.written(&LIMITS);
                let loaded = Session::load(&disk, session.id()).expect("rows");
                assert_eq!(loaded.changed(), session.changed(), "rows have it");
                if random.random_bool(0.3) {
                    session = loaded;
                }
            }
        }
        assert!(moved > 10 && still > 10, "{moved} moved, {still} did not");
    }
}

fn changed(user: &User, session: &SessionId) -> u64 {
    user.links.get(session).map_or(0, |link| link.changed)
}

#[test]
fn a_line_changed_by_cursors_settings_and_membership_and_not_by_what_a_device_has_had() {
    let mut ann = person("ann");
    let session = pair("ann", "bob");
    let link =
        |version, member| Link { session: session.clone(), version, member, joined_seq: 1, from: None };
    let to = |seq| ReadTo { session: session.clone(), seq, count: seq, burns: false };
    let mut index = 0;
    let mut step = |ann: &mut User| {
        index += 1;
        ann.applies(index);
        index
    };
    let joined = step(&mut ann);
    ann.link(&link(1, true), 9);
    assert_eq!(changed(&ann, &session), joined);
    step(&mut ann);
    ann.link(&link(1, true), 9);
    assert_eq!(changed(&ann, &session), joined, "the same intent again");
    step(&mut ann);
    ann.delivered((&actor("ann").device, 1), &[(session.clone(), 7)], 5);
    assert_eq!(changed(&ann, &session), joined, "the device knows what it has had");
    let read = step(&mut ann);
    ann.read(&at(read), &to(7));
    assert_eq!(changed(&ann, &session), read);
    let older = step(&mut ann);
    ann.read(&at(older), &to(3));
    assert_eq!(changed(&ann, &session), read, "a cursor does not go back");
    let acts = [
        UserAct { given: Given::Heads { cursors: vec![to(9)], unread: 2 }, ..act(1, UserAction::ReadAll) },
        act(2, UserAction::SetSession { session: session.clone(), setting: SessionSetting::Pin(Some(1)) }),
        act(
            3,
            UserAction::SetSession {
                session: session.clone(),
                setting: SessionSetting::Draft(Blob::from("so")),
            },
        ),
        UserAct {
            given: Given::Count(4),
            ..act(4, UserAction::ClearSession { session: session.clone(), seq: 4 })
        },
        UserAct {
            given: Given::Range { before: 5, count: 6 },
            ..act(5, UserAction::DeleteMessages { session: session.clone(), from_seq: 6, to_seq: 6 })
        },
    ];
    for what in acts {
        let index = step(&mut ann);
        ann.act(&at(index), &actor("ann"), &what);
        assert_eq!(changed(&ann, &session), index, "{what:?}");
    }
    // Back to nothing set is a change as well, though nothing is kept of it.
    let mut bob = person("bob");
    bob.applies(1);
    bob.link(&link(1, true), 9);
    for (number, pin) in [(1, Some(3)), (2, None)] {
        bob.applies(10 + number);
        let setting = SessionSetting::Pin(pin);
        bob.act(
            &at(10 + number),
            &actor("bob"),
            &act(number, UserAction::SetSession { session: session.clone(), setting }),
        );
        assert_eq!(changed(&bob, &session), 10 + number);
    }

    let left = step(&mut ann);
    ann.link(&link(2, false), 9);
    assert_eq!(ann.left_since(left - 1, 5), (vec![session.clone()], true));
    assert_eq!(ann.left_since(left - 1, 0), (vec![], false), "more than are named");
    assert_eq!(ann.left_since(left, 5), (vec![], true));
    let mut disk = Disk::default();
    ann.reflect(left);
    disk.write(ann.collect());
    ann = User::load(&disk, &user("ann")).expect("rows");
    assert_eq!(ann.left_since(left - 1, 5), (vec![session.clone()], true), "rows have it");
    let again = step(&mut ann);
    ann.link(&link(3, true), 9);
    assert_eq!((ann.left_since(0, 5), changed(&ann, &session)), ((vec![], true), again));
}

#[test]
fn a_device_began_when_it_was_not_there_before() {
    let mut ann = person("ann");
    let tv = DeviceId::new("tv").expect("a name");
    let register = |ann: &mut User, index: u64, nonce: u64| {
        ann.applies(index);
        ann.register(&tv, &says(nonce), &DeviceBounds::default(), index);
        ann.device_began(&tv)
    };
    assert_eq!(ann.device_began(&tv), 0);
    assert_eq!(register(&mut ann, 5, 1), 5);
    assert_eq!(register(&mut ann, 6, 2), 5, "another epoch of the device that was there");
    ann.applies(7);
    ann.act(&at(7), &actor("ann"), &act(1, UserAction::EndDevice { device: tv.clone() }));
    assert_eq!(ann.device_began(&tv), 0);
    assert_eq!(register(&mut ann, 9, 3), 9, "ended in between: another one");
    let mut disk = Disk::default();
    disk.write(ann.collect());
    ann.reflect(9);
    disk.write(ann.collect());
    assert_eq!(User::load(&disk, &user("ann")).expect("rows").device_began(&tv), 9);
}

#[test]
fn a_membership_that_ended_and_began_again_on_its_way_is_told() {
    let mut ann = User::new(user("ann"));
    let told = |ann: &mut User, version, joined_seq| {
        let link = Link { session: pair("ann", "bob"), version, member: true, joined_seq, from: None };
        ann.link(&link, 9).user_frames.iter().map(|frame| frame[5]).collect::<Vec<u8>>()
    };
    let joined = vec![rookery_wire::Kind::Joined as u8];
    assert_eq!(told(&mut ann, 1, 1), joined);
    assert!(told(&mut ann, 2, 1).is_empty(), "the same membership");
    assert_eq!(told(&mut ann, 4, 11), joined, "removed at version 3: that intent was never carried");
    assert!(told(&mut ann, 3, 1).is_empty(), "an older one");
}
