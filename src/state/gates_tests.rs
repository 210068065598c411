//! Tests of what answers wait for: what they are about, and nothing that others have left and that cannot be carried now.

use rookery_wire::{Blob, GroupAction, RequestKey, UserAction};

use super::own_tests::{act, pair, person};
use super::tests::*;
use super::*;

/// Of the errands or intents that there are, only those to `whom` get through.
fn errands_to(user: &mut User, whom: &str) {
    let pending = user.pending_errands().map(|(key, errand)| (key.clone(), errand.version));
    let done: Vec<_> = pending.filter(|((_, other), _)| other.as_str() == whom).collect();
    user.carried(&done);
}

fn intents_to(session: &mut Session, at: &At, names: &[&str]) {
    let mut done = arrived(session);
    done.retain(|(user, ..)| names.contains(&user.as_str()));
    session.linked(at, &done);
}

#[test]
fn what_cannot_be_carried_to_one_user_holds_up_nothing_about_another() {
    let mut ann = person("ann");
    let bob = || user("bob");
    for other in ["bob", "cid"] {
        let session = pair("ann", other);
        ann.link(&Link { session, version: 1, member: true, joined_seq: 1, from: None }, 9);
    }
    let far = UserAction::RequestFriend { user: user("far"), text: Blob::default() };
    let asked = ann.act(&at(2), &actor("ann"), &act(1, far.clone())).gate.expect("a gate");
    let blocked = ann.act(&at(3), &actor("ann"), &act(2, UserAction::Block { user: bob() }));
    let gate = blocked.gate.expect("a gate");
    assert!(!ann.gate_open(&gate), "the session has not heard of it");
    // Under another number, or key, it is so already, and waits for the same.
    let again = ann.act(&at(4), &actor("ann"), &act(3, UserAction::Block { user: bob() }));
    let key = RequestKey::new("k").expect("a key");
    let keyed = KeyedOwn::Act(act(0, UserAction::Block { user: bob() }));
    let keyed = [5, 6].map(|index| ann.act_keyed(&at(index), &key, &keyed).gate.expect("a gate"));
    let repeated = ann.act(&at(7), &actor("ann"), &act(2, UserAction::Block { user: bob() }));
    let gates = [gate, again.gate.expect("a gate"), repeated.gate.expect("a gate")];
    for gate in gates.iter().chain(&keyed) {
        assert!(!ann.gate_open(gate), "{gate:?}");
    }
    // What burns, in one session and in all.
    let to = |other: &str, seq| ReadTo { session: pair("ann", other), seq, count: seq, burns: true };
    let read = ann.read(&at(8), &to("cid", 3)).gate.expect("a gate");
    let part = PartOf::Keyed(RequestKey::new("all").expect("a key"));
    let all = ann.read_part(&at(9), &part, &[to("bob", 4), to("cid", 5)]).gate.expect("a gate");
    errands_to(&mut ann, "bob");
    for gate in gates.iter().chain(&keyed) {
        assert!(ann.gate_open(gate), "{gate:?}");
    }
    assert!(!ann.gate_open(&all) && !ann.gate_open(&asked), "of these something is on its way");
    errands_to(&mut ann, "cid");
    assert!(ann.gate_open(&all) && ann.gate_open(&read));
    assert!(!ann.gate_open(&asked));
    let again = ann.act(&at(10), &actor("ann"), &act(1, far)).gate.expect("a gate");
    assert!(!ann.gate_open(&again), "a repeat waits as the first did");
    errands_to(&mut ann, "far");
    assert!(ann.gate_open(&asked) && ann.gate_open(&again));
}

#[test]
fn a_member_whose_list_cannot_be_told_holds_up_no_change_of_others() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    intents_to(&mut session, &at(1), &["ann", "bob"]);
    let does = |session: &mut Session, number: u64, act: &Act| {
        let outcome = apply(session, &disk, &at(10 * number), &actor("ann"), number, act);
        seq_of(&outcome);
        outcome.gate.expect("a gate")
    };
    let add = |names: &[&str]| change(ChangeKind::Add, names);
    let far = does(&mut session, 2, &add(&["far"]));
    let added = does(&mut session, 3, &add(&["cid", "dan"]));
    let removed = does(&mut session, 4, &change(ChangeKind::Remove, &["bob"]));
    intents_to(&mut session, &at(5), &["cid", "bob"]);
    assert!(session.gate_open(&removed) && !session.gate_open(&added) && !session.gate_open(&far));
    intents_to(&mut session, &at(6), &["dan"]);
    assert!(session.gate_open(&added) && !session.gate_open(&far));
    // Repeats wait for the same.
    let again = |session: &mut Session, number: u64, act: &Act| {
        apply(session, &disk, &at(40 + number), &actor("ann"), number, act).gate.expect("a gate")
    };
    let far = again(&mut session, 2, &add(&["far"]));
    let added = again(&mut session, 3, &add(&["cid", "dan"]));
    assert!(session.gate_open(&added) && !session.gate_open(&far));
    // The end of the group is told to all who are in it, and to nobody else.
    let gone = does(&mut session, 5, &change(ChangeKind::Remove, &["far"]));
    let ended = does(&mut session, 6, &Act::Manage { action: GroupAction::Dissolve });
    intents_to(&mut session, &at(30), &["ann", "cid"]);
    assert!(!session.gate_open(&ended));
    intents_to(&mut session, &at(31), &["dan"]);
    assert!(session.gate_open(&ended) && !session.gate_open(&gone));
}
