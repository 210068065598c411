//! Tests of `limits.sessions_per_user`: who begins a session hears that a list is full, who is added to one leaves
//! again, and nothing is left behind where nothing came to be.

use rookery_wire::record::Signal;
use rookery_wire::{Record, RecordKind, decode};

use super::tests::*;
use super::*;
use rookery_wire::{ErrorCode, SessionId, UserId};

fn link(session: &SessionId, version: u64, member: bool) -> Link {
    Link { session: session.clone(), version, member, joined_seq: 1, from: None }
}

fn full(most: u32) -> Unwanted {
    Unwanted::Full { most }
}

/// The intents of members, by name, as refused by full lists.
fn refused_by(session: &Session, names: &[&str]) -> Vec<(UserId, u64)> {
    let of = session.pending_intents().filter(|intent| names.iter().any(|name| intent.user == user(name)));
    of.map(|intent| (intent.user, intent.link.version)).collect()
}

#[test]
fn a_list_takes_so_many_sessions_and_no_more() {
    let mut bob = User::new(user("bob"));
    let sessions: Vec<SessionId> =
        (0..4).map(|n| SessionId::direct(&user("bob"), &user(&format!("u{n}"))).expect("a pair")).collect();
    for session in &sessions[..2] {
        bob.link(&link(session, 1, true), 2);
    }
    let full = bob.link(&link(&sessions[2], 1, true), 2);
    assert_eq!(code_of(&full), ErrorCode::TooManySessions);
    assert!(full.user_frames.is_empty());
    assert_eq!(bob.sessions().count(), 2);
    let mut disk = Disk::default();
    let rows = bob.collect();
    assert_eq!(rows.rows.len(), 2, "what was refused leaves no row");
    disk.write(rows);
    // One that is in already may change, and one that leaves makes room.
    assert_eq!(bob.link(&link(&sessions[0], 2, true), 2).answer, Some(Answer::Done));
    bob.link(&link(&sessions[0], 3, false), 2);
    assert_eq!(bob.link(&link(&sessions[2], 1, true), 2).answer, Some(Answer::Done));

    bob.reflect(9);
    disk.write(bob.collect());
    let mut bob = User::load(&disk, &user("bob")).expect("rows");
    assert_eq!(code_of(&bob.link(&link(&sessions[3], 1, true), 2)), ErrorCode::TooManySessions);
}

#[test]
fn a_creator_whose_list_is_full_is_told_and_no_group_comes_to_be() {
    let disk = Disk::default();
    let mut session = Session::new(group());
    let create = change(ChangeKind::Create, &["bob"]);
    assert!(session.apply(&at(1), &LIMITS, &actor("ann"), 1, &create).parked);
    let outcome = session.unlinked(&at(2), &LIMITS, &refused_by(&session, &["ann"]), full(7));
    let given_up = outcome.given_up.expect("it cannot open");
    assert_eq!((given_up.refusal.code, given_up.refusal.detail), (ErrorCode::TooManySessions, 7));
    assert_eq!(given_up.of, Some(user("ann")), "others may create it");
    assert!(!session.exists() && !session.opening() && session.pending_intents().next().is_none());
    assert_eq!(session.last_seq(), 0);
    // Nothing of it has to be kept.
    session.reflect(2);
    assert!(session.is_over());
    let mut rows = Disk::default();
    rows.write(session.collect());
    let found = Session::rows_if_over(&rows, session.id()).expect("rows");
    assert_eq!(found.map(|(index, keys)| (index, keys.len())), Some((2, 1)), "the head alone");
    // Another may, and the number of the first is free.
    let other = apply(&mut session, &disk, &at(3), &actor("bob"), 1, &change(ChangeKind::Create, &[]));
    assert_eq!(seq_of(&other), 1);
    let late = apply(&mut session, &disk, &at(4), &actor("ann"), 1, &create);
    assert_eq!(code_of(&late), ErrorCode::SessionExists);
}

#[test]
fn a_direct_session_with_a_full_list_on_either_side_does_not_begin() {
    let id = SessionId::direct(&user("ann"), &user("bob")).expect("a pair");
    let disk = Disk::default();
    let mut session = Session::new(id);
    assert!(session.apply(&at(1), &LIMITS, &actor("ann"), 1, &text("hi")).parked);
    assert!(session.apply(&at(2), &LIMITS, &actor("ann"), 2, &text("there")).parked, "in order behind it");
    // The sender's list had room, in one order of arrival or the other.
    let anns: Vec<_> = arrived(&session).into_iter().filter(|(of, ..)| *of == user("ann")).collect();
    assert!(session.awaits(&user("ann")) && session.awaits(&user("bob")) && !session.awaits(&user("eve")));
    session.reflect(2);
    let mut early = Disk::default();
    early.write(session.collect());
    let awaited = |name| session_rows::awaits(&early, session.id(), &user(name)).expect("rows");
    assert!(awaited("ann") && awaited("bob") && !awaited("eve"), "whose list has it already can ask for it");
    session.linked(&at(3), &anns);
    let outcome = session.unlinked(&at(4), &LIMITS, &refused_by(&session, &["bob"]), full(3));
    assert!(outcome.given_up.is_some_and(|given_up| given_up.of.is_none()), "whoever waits is told");
    assert!(!session.exists() && !session.opening());
    let undone: Vec<_> = session.pending_intents().collect();
    assert_eq!(undone.len(), 1, "the list that took it lets it go: {undone:?}");
    assert!(undone[0].user == user("ann") && !undone[0].link.member);
    assert!(undone[0].link.version > anns[0].1);
    session.reflect(4);
    assert!(!session.is_over(), "not before that list has let go");
    // A checkpoint, a new life, and room at last.
    let mut rows = Disk::default();
    session.reflect(4);
    rows.write(session.collect());
    let mut session = Session::load(&rows, session.id()).expect("rows");
    assert!(!session.exists() && !session.opening());
    session.linked(&at(5), &arrived(&session));
    session.reflect(5);
    assert!(session.is_over());
    rows.write(session.collect());
    let found = Session::rows_if_over(&rows, session.id()).expect("rows");
    assert_eq!(
        found.map(|(index, keys)| (index, keys.len())),
        Some((5, 2)),
        "a head, and a member of before"
    );
    let first = apply(&mut session, &disk, &at(9), &actor("ann"), 1, &text("hi"));
    assert_eq!(seq_of(&first), 1);
    assert_eq!(session.present(), 2);
}

#[test]
fn an_opened_session_survives_a_checkpoint_before_its_first_record() {
    let id = SessionId::direct(&user("ann"), &user("bob")).expect("a pair");
    let mut session = Session::new(id);
    session.apply(&at(1), &LIMITS, &actor("ann"), 1, &text("hi"));
    session.linked(&at(2), &arrived(&session));
    session.reflect(2);
    let mut disk = Disk::default();
    disk.write(session.collect());
    let mut session = Session::load(&disk, session.id()).expect("rows");
    let first = session.apply(&at(3), &LIMITS, &actor("ann"), 1, &text("hi"));
    assert_eq!((seq_of(&first), first.added.len()), (1, 2));
    assert!(first.gate.is_none(), "both lists have it");
}

#[test]
fn a_member_whose_list_is_full_leaves_by_a_record() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    let added =
        apply(&mut session, &disk, &at(2), &actor("ann"), 2, &change(ChangeKind::Add, &["cid", "dan"]));
    let gate = added.gate.expect("the ack waits for the lists");
    let cids = refused_by(&session, &["cid"]);
    let outcome = session.unlinked(&at(3), &LIMITS, &cids, full(7));
    assert_eq!(outcome.removed, vec![user("cid")]);
    let left = outcome.published.expect("everybody learns of it");
    let record: Record = decode(&left.record).expect("a record");
    let signal: Signal = decode(&record.content.0).expect("a signal");
    assert_eq!(
        (record.kind, record.client_seq, signal.users),
        (RecordKind::MEMBERS_REMOVED, 0, vec![user("cid")])
    );
    assert!(session.member(&user("cid")).is_none() && session.member(&user("dan")).is_some());
    assert!(!session.gate_open(gate), "the others' lists are still to come");
    let rest: Vec<_> = arrived(&session).into_iter().filter(|(of, ..)| *of != user("cid")).collect();
    session.linked(&at(4), &rest);
    assert!(session.gate_open(gate));
    // The refusal again changes nothing.
    let seq = session.last_seq();
    assert!(session.unlinked(&at(5), &LIMITS, &cids, full(7)).published.is_none());
    assert_eq!(session.last_seq(), seq);
    // A repeat of the intent found room after all: that list is told that he is no member.
    session.linked(&at(6), &[(user("cid"), cids[0].1, true)]);
    let healing = session.pending_intents().find(|intent| intent.user == user("cid")).expect("an intent");
    assert!(!healing.link.member && healing.link.version > cids[0].1);
}
