//! Tests of what refusals leave behind: the last ones of a device are answered again, and none of it grows.

use rookery_wire::{ErrorCode, SessionId};

use super::tests::*;
use super::*;

/// How long each row's value is.
fn sizes(disk: &Disk) -> Vec<usize> {
    let mut sizes = Vec::new();
    let all = disk.scan(&[], &mut |_, value| {
        sizes.push(value.len());
        Ok(true)
    });
    all.expect("rows");
    sizes
}

#[test]
fn past_members_who_are_refused_from_new_registrations_leave_nothing() {
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    apply(&mut session, &disk, &at(2), &actor("bob"), 1, &text("I am off"));
    apply(&mut session, &disk, &at(3), &actor("ann"), 2, &change(ChangeKind::Remove, &["bob"]));
    disk.write(session.collect());
    let before = sizes(&disk).len();
    for n in 0..50u64 {
        let bob = Actor { epoch: n as u32 + 2, ..actor("bob") };
        let refused = apply(&mut session, &disk, &at(10 + n), &bob, 1, &text("let me in"));
        let Some(Answer::Refused(refusal)) = &refused.answer else { panic!("expected a refusal") };
        assert!(refusal.code == ErrorCode::NotMember && !refusal.takes_client_seq(), "{refusal}");
    }
    disk.write(session.collect());
    assert_eq!(sizes(&disk).len(), before, "not a row more");
}

/// Whoever may not write can try as often as it likes: what it leaves does not grow, and what it had stored before is still
/// answered (G3).
#[test]
fn refusals_are_remembered_for_the_last_numbers_alone_and_their_rows_are_bounded() {
    const TRIES: u64 = 5_000;
    let mut disk = Disk::default();
    let mut session = Session::new(SessionId::direct(&user("eve"), &user("bob")).expect("a pair"));
    assert_eq!(seq_of(&apply(&mut session, &disk, &at(1), &actor("eve"), 1, &text("hi"))), 1);
    session.bar(&user("bob"), 1, true);
    let (mut rows, mut bytes) = (0, 0);
    for number in 2..=TRIES {
        let refused = apply(&mut session, &disk, &at(number), &actor("eve"), number, &text("look here"));
        assert_eq!(code_of(&refused), ErrorCode::RefusedByPeer);
        // Checkpoints come often, or late, and sometimes the session leaves memory.
        if number.is_multiple_of(700) || (number < 700 && number.is_multiple_of(10)) {
            disk.write(session.collect());
            session.written(&LIMITS);
            let now: usize = sizes(&disk).iter().sum();
            if number == 2_100 {
                (rows, bytes) = (sizes(&disk).len(), now);
            } else if number > 2_100 {
                assert_eq!(sizes(&disk).len(), rows, "at {number}");
                assert!(now < bytes + 1024, "{now} bytes at {number}, {bytes} before");
            }
        }
        if number.is_multiple_of(1_400) {
            session = Session::load(&disk, session.id()).expect("rows");
        }
    }
    let mut loaded = disk.clone();
    loaded.write(session.collect());
    let mut again = Session::load(&loaded, session.id()).expect("rows");
    for session in [&mut session, &mut again] {
        let mut retry = |index: u64, number: u64, what: &str| {
            apply(session, &loaded, &at(index), &actor("eve"), number, &text(what))
        };
        assert_eq!(seq_of(&retry(TRIES + 1, 1, "hi")), 1, "what was stored");
        let (kept, over) = (TRIES - sender::REFUSED + 1, TRIES - sender::REFUSED);
        assert_eq!(code_of(&retry(TRIES + 2, kept, "look here")), ErrorCode::RefusedByPeer);
        assert_eq!(code_of(&retry(TRIES + 3, kept, "or here")), ErrorCode::ClientSeqReused);
        for (n, what) in [(4, "look here"), (5, "or here")] {
            assert_eq!(code_of(&retry(TRIES + n, over, what)), ErrorCode::AlreadyTrimmed);
        }
        assert_eq!(code_of(&retry(TRIES + 6, TRIES + 2, "hi")), ErrorCode::ClientSeqGap);
    }
}
