//! Who is a user and who was merely named: what others may do with a name, and what is left of it.

use rookery_wire::codec::Blob;
use rookery_wire::{ErrorBody, ErrorCode, RequestKey, UserAction};

use super::command::{Act, ChangeKind};
use super::own_tests::{act, pair, person};
use super::tests::{
    Disk, LIMITS, LIST, actor, apply, arrived, at, change, code_of, group, new_group, seq_of, text, user,
};
use super::{Answer, KeyedOwn, Link, Listing, Outcome, Room, Says, Session, Unwanted, User};

fn refusal(outcome: &Outcome) -> &ErrorBody {
    match &outcome.answer {
        Some(Answer::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn intent(session: &Session, whom: &str) -> Link {
    session.pending_intents().find(|intent| intent.user == user(whom)).expect("one").link
}

/// A change that its node says brings in somebody who is no user.
fn naming(kind: ChangeKind, names: &[&str], nobody: &str) -> Act {
    match change(kind, names) {
        Act::Change { kind, users, most, .. } => {
            Act::Change { kind, users, most, unknown: Some(user(nobody)) }
        }
        other => other,
    }
}

fn create(of: &mut User, index: u64) -> Outcome {
    let key = RequestKey::new(&format!("k{index}")).expect("a key");
    of.act_keyed(&at(index), &key, &KeyedOwn::Create)
}

#[test]
fn nobody_is_written_to_who_is_no_user_and_the_name_keeps_nothing() {
    let mut nobody = User::new(user("bbo"));
    let mut session = Session::new(pair("ann", "bbo"));
    assert!(session.apply(&at(1), &LIMITS, &actor("ann"), 1, &text("hi")).parked);
    let link = intent(&session, "bbo");
    let refused = nobody.take_link(&link, &Listing { users_only: true, ..LIST });
    assert_eq!(code_of(&refused), ErrorCode::UnknownUser);
    nobody.reflect(2);
    let mut disk = Disk::default();
    assert!(nobody.is_clean() && nobody.is_nothing());
    disk.write(nobody.collect());
    assert_eq!(disk, Disk::default(), "no row of the name");

    // Her own list had taken it, and lets it go.
    let ann: Vec<_> = arrived(&session).into_iter().filter(|(of, ..)| *of == user("ann")).collect();
    session.linked(&at(3), &ann);
    let given_up =
        session.unlinked(&at(4), &LIMITS, &[(user("bbo"), link.version)], Unwanted::Unknown).given_up;
    let given_up = given_up.expect("it cannot open");
    assert_eq!((given_up.refusal.code, given_up.of), (ErrorCode::UnknownUser, None));
    assert!(!given_up.refusal.takes_client_seq() && given_up.refusal.message().contains("bbo"));
    assert!(!session.exists() && !session.opening());
    session.linked(&at(5), &arrived(&session));

    // Where any name will do, and once there is such a user, it opens; and a repeat of what was taken stays taken.
    for registers in [false, true] {
        let mut somebody = if registers { person("bbo") } else { User::new(user("bbo")) };
        let mut session = Session::new(pair("ann", "bbo"));
        session.apply(&at(6), &LIMITS, &actor("ann"), 1, &text("hi"));
        let link = intent(&session, "bbo");
        assert_eq!(
            somebody.take_link(&link, &Listing { users_only: registers, ..LIST }).answer,
            Some(Answer::Done)
        );
        assert_eq!(
            somebody.take_link(&link, &Listing { users_only: true, ..LIST }).answer,
            Some(Answer::Done)
        );
        session.linked(&at(7), &arrived(&session));
        assert_eq!(seq_of(&session.apply(&at(8), &LIMITS, &actor("ann"), 1, &text("hi"))), 1);
    }
}

#[test]
fn a_group_is_not_begun_with_and_takes_in_nobody_who_is_no_user() {
    let mut session = Session::new(group());
    let refused =
        session.apply(&at(1), &LIMITS, &actor("ann"), 1, &naming(ChangeKind::Create, &["bbo"], "bbo"));
    assert_eq!(
        (refusal(&refused).code, refusal(&refused).takes_client_seq()),
        (ErrorCode::UnknownUser, false)
    );
    assert!(!session.opening() && !session.is_something(), "nothing of it is kept");

    let disk = Disk::default();
    let mut session = new_group(&disk);
    let seq = session.last_seq();
    let add = naming(ChangeKind::Add, &["bbo", "cid"], "bbo");
    for index in [2, 3] {
        let refused = apply(&mut session, &disk, &at(index), &actor("ann"), 2, &add);
        let refusal = refusal(&refused);
        assert_eq!((refusal.code, refusal.detail), (ErrorCode::UnknownUser, 2), "the same to a retry");
        assert!(refusal.takes_client_seq());
    }
    assert_eq!((session.last_seq(), session.member(&user("cid"))), (seq, None), "none of them");
    // What was stored is answered as it was, whatever a node says of it later.
    let added = change(ChangeKind::Add, &["cid"]);
    let stored = seq_of(&apply(&mut session, &disk, &at(4), &actor("ann"), 3, &added));
    let again = naming(ChangeKind::Add, &["cid"], "cid");
    assert_eq!(seq_of(&apply(&mut session, &disk, &at(5), &actor("ann"), 3, &again)), stored);
    // Who may not add anybody does not learn who is there.
    let asked = apply(&mut session, &disk, &at(6), &actor("eve"), 1, &add);
    assert_eq!(code_of(&asked), ErrorCode::NotMember);
}

#[test]
fn a_backend_creates_whom_others_have_merely_named() {
    let mut eve = person("eve");
    let ask = UserAction::RequestFriend { user: user("newhire"), text: Blob::default() };
    eve.act(&at(2), &actor("eve"), &act(1, ask));
    let asked: Vec<_> = eve.pending_errands().map(|(_, errand)| errand.says.clone()).collect();
    let [Says::Stance(stance, words)] = &asked[..] else { panic!("{asked:?}") };
    let mut session = Session::new(pair("eve", "newhire"));
    session.apply(&at(3), &LIMITS, &actor("eve"), 1, &text("welcome"));
    let link = intent(&session, "newhire");
    // With room for the request, and without: then it is declined on the spot, in the name of the user.
    for requests in [9, 0] {
        let mut newhire = User::new(user("newhire"));
        newhire.hear(&at(4), &user("eve"), stance, words, Room { relations: 9, requests });
        newhire.link(&link, 9);
        newhire.reflect(5);
        assert!(!newhire.is_known());
        let mut disk = Disk::default();
        disk.write(newhire.collect());
        let mut newhire = User::load(&disk, &user("newhire")).expect("rows");
        assert!(matches!(create(&mut newhire, 6).answer, Some(Answer::Own(ack)) if ack.value == 1));
        assert!(newhire.is_known() && newhire.links.contains_key(&pair("eve", "newhire")));
        assert_eq!(code_of(&create(&mut newhire, 7)), ErrorCode::UserExists);
    }
    // What was done in the user's own name does count.
    let mut known = User::new(user("newhire"));
    let key = RequestKey::new("own").expect("a key");
    let block = KeyedOwn::Act(act(0, UserAction::Block { user: user("eve") }));
    known.act_keyed(&at(2), &key, &block);
    assert_eq!(code_of(&create(&mut known, 3)), ErrorCode::UserExists);
    assert!(!known.is_known(), "it has no device and was not created");
}

#[test]
fn rows_say_as_memory_does_who_is_a_user() {
    let mut created = User::new(user("ivy"));
    create(&mut created, 1);
    let mut named = User::new(user("lee"));
    named.link(&Link { session: pair("ann", "lee"), version: 1, member: true, joined_seq: 1, from: None }, 9);
    let mut disk = Disk::default();
    for of in [&mut created, &mut named, &mut person("ann")] {
        of.reflect(2);
        disk.write(of.collect());
    }
    for (name, known) in [("ivy", true), ("lee", false), ("ann", true), ("nobody", false)] {
        let read = super::user_rows::read_known(&disk, &user(name)).expect("rows");
        let loaded = User::load(&disk, &user(name)).expect("rows").is_known();
        assert_eq!((read, loaded), (known, known), "{name}");
    }
}
