//! Tests of `limits.sessions_per_user`: who begins a session hears that a list is full, who is added to one leaves
//! again, and nothing is left behind where nothing came to be.

use rookery_wire::record::Signal;
use rookery_wire::{Record, RecordKind, decode};

use super::own_tests::{act, person};
use super::tests::*;
use super::*;
use rookery_wire::{ErrorCode, SessionId, UserAction, UserId};

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
    assert!(!session.exists() && !session.opening());
    assert!(arrived(&session).iter().all(|(of, _, member)| *of == user("ann") && !member), "no list gets it");
    assert_eq!(session.last_seq(), 0);
    // Nothing of it has to be kept, once that list has heard that it is to stay so.
    session.reflect(2);
    assert!(!session.is_over());
    session.linked(&at(2), &arrived(&session));
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

/// Her list has the group and names it to all her devices; what they say there before the group is created may be in the log
/// twice, and the other copy waits for the creation.
#[test]
fn what_comes_between_an_opening_and_the_creation_is_to_come_again() {
    let disk = Disk::default();
    let mut session = Session::new(group());
    let create = change(ChangeKind::Create, &["bob"]);
    assert!(session.apply(&at(1), &LIMITS, &actor("ann"), 1, &create).parked);
    assert!(session.apply(&at(2), &LIMITS, &actor("bob"), 1, &text("hi")).parked);
    session.linked(&at(3), &arrived(&session));
    assert!(!session.exists() && !session.opening());
    let early = session.apply(&at(4), &LIMITS, &actor("bob"), 1, &text("hi"));
    assert_eq!(code_of(&early), ErrorCode::Unavailable);
    assert_eq!(seq_of(&apply(&mut session, &disk, &at(5), &actor("ann"), 1, &create)), 1);
    assert_eq!(seq_of(&apply(&mut session, &disk, &at(6), &actor("bob"), 1, &text("hi"))), 2);
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
    let names: Vec<_> = undone.iter().map(|intent| intent.user.clone()).collect();
    assert_eq!(
        names,
        [user("ann"), user("bob")],
        "the list that took it lets it go, the other is to stay so"
    );
    assert!(undone.iter().all(|intent| !intent.link.member && intent.link.version > anns[0].1));
    session.reflect(4);
    assert!(!session.is_over(), "not before the lists have let go");
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
    assert!(!session.gate_open(&gate), "the others' lists are still to come");
    let rest: Vec<_> = arrived(&session).into_iter().filter(|(of, ..)| *of != user("cid")).collect();
    session.linked(&at(4), &rest);
    assert!(session.gate_open(&gate));
    // The refusal again changes nothing.
    let seq = session.last_seq();
    assert!(session.unlinked(&at(5), &LIMITS, &cids, full(7)).published.is_none());
    assert_eq!(session.last_seq(), seq);
    // His list is told that he is no member, and again if it has forgotten that by the time a repeat of the intent finds room.
    for (number, version) in [(6, cids[0].1), (7, cids[0].1)] {
        let last = session.pending_intents().find(|intent| intent.user == user("cid")).expect("an intent");
        assert!(!last.link.member && last.link.version > version);
        session.linked(&at(number), &arrived(&session));
        session.linked(&at(number), &[(user("cid"), version, true)]);
    }
}

/// Brings what a session intends for one user to that user's list, as the carrier does: the refusal, or the answer, goes back.
fn carry(session: &mut Session, list: &mut User, at: &At, most: u32) -> Link {
    let intent = session.pending_intents().find(|intent| intent.user == *list.id()).expect("an intent");
    let version = intent.link.version;
    match list.link(&intent.link, most).answer {
        Some(Answer::Done) => {
            session.linked(at, &[(intent.user, version, intent.link.member)]);
        }
        Some(Answer::Refused(refusal)) => {
            let why = match refusal.code {
                ErrorCode::TooManySessions => full(most),
                _ => Unwanted::Stranger,
            };
            session.unlinked(at, &LIMITS, &[(intent.user, version)], why);
        }
        other => panic!("{other:?}"),
    }
    intent.link
}

/// A lane that hears nothing sends a command once more, and throws away what is answered to that.
#[test]
fn a_repeat_of_what_a_full_list_refused_changes_nothing_once_there_is_room() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    session.linked(&at(2), &arrived(&session));
    let mut cid = User::new(user("cid"));
    let other = SessionId::direct(&user("cid"), &user("bob")).expect("a pair");
    cid.link(&link(&other, 1, true), 1);
    apply(&mut session, &disk, &at(3), &actor("ann"), 2, &change(ChangeKind::Add, &["cid"]));
    let refused = carry(&mut session, &mut cid, &at(4), 1);
    assert!(refused.member && session.member(&user("cid")).is_none());
    // There is room, and the session's last word is brought before the repeat of its first, or behind it.
    cid.link(&link(&other, 2, false), 1);
    let mut late = User::new(user("cid"));
    late.link(&refused, 1);
    assert_eq!(late.sessions().count(), 1, "nothing that it knows is in the way of the repeat");
    let last = carry(&mut session, &mut cid, &at(5), 1);
    assert_eq!(cid.link(&refused, 1).answer, Some(Answer::Done));
    late.link(&last, 1);
    for list in [&cid, &late] {
        assert_eq!(list.sessions().count(), 0, "the list has what its user is no member of");
    }
    assert!(session.pending_intents().next().is_none());
    // It may still come in.
    apply(&mut session, &disk, &at(6), &actor("ann"), 3, &change(ChangeKind::Add, &["cid"]));
    carry(&mut session, &mut cid, &at(7), 1);
    assert!(session.member(&user("cid")).is_some() && cid.sessions().count() == 1);
}

#[test]
fn a_repeat_of_what_was_refused_to_a_stranger_opens_nothing_once_he_is_let_in() {
    let id = SessionId::direct(&user("ann"), &user("bob")).expect("a pair");
    let mut session = Session::new(id);
    let mut bob = person("bob");
    let turn = |bob: &mut User, number, action| bob.act(&at(number), &actor("bob"), &act(number, action));
    turn(&mut bob, 1, UserAction::Block { user: user("ann") });
    assert!(session.apply(&at(1), &LIMITS, &actor("ann"), 1, &text("hi")).parked);
    let refused = carry(&mut session, &mut bob, &at(2), 9);
    assert!(refused.member && !session.opening());
    carry(&mut session, &mut bob, &at(3), 9);
    turn(&mut bob, 2, UserAction::Unblock { user: user("ann") });
    bob.link(&refused, 9);
    assert_eq!(bob.sessions().count(), 0, "the session has not opened");
    assert!(!bob.is_acquainted_with(&user("ann")));
    // She asks anew, and is let in.
    assert!(session.apply(&at(4), &LIMITS, &actor("ann"), 1, &text("hi")).parked);
    carry(&mut session, &mut bob, &at(5), 9);
    assert_eq!(bob.sessions().count(), 1);
}
