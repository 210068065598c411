//! To whom a user is shown, in memory and in rows.

use rookery_wire::UserAction;
use rookery_wire::own::ShowTo;

use super::own_tests::{ROOM, act, own, pair, person};
use super::privacy::{Shown, row_shows};
use super::tests::{Disk, actor, at, user};
use super::{Answer, Link, Says, User};

#[test]
fn who_blocks_another_is_not_shown_to_it_in_memory_or_in_rows() {
    let mut ann = person("ann");
    let (bob, cid) = (user("bob"), user("cid"));
    let actions = [
        (1, UserAction::Block { user: bob.clone() }, true),
        (2, UserAction::Unblock { user: bob.clone() }, false),
    ];
    for (number, action, hidden) in actions {
        ann.act(&at(number), &actor("ann"), &act(number, action));
        let mut rows = Disk::default();
        rows.write(ann.collect());
        for what in [Shown::Receipts, Shown::PresenceInGroup] {
            for (to, expected) in [(Some(&bob), !hidden), (Some(&cid), true), (None, true)] {
                assert_eq!(ann.shows(what, to), expected, "{what:?} to {to:?}");
                let by_rows = row_shows(&rows, ann.id(), what, to).expect("rows");
                assert_eq!(by_rows, expected, "{what:?} to {to:?} by rows");
            }
        }
    }
}

#[test]
fn presence_is_shown_to_those_whom_the_user_knows_by_its_own_word() {
    let mut ann = person("ann");
    let bob = user("bob");
    let expect = |ann: &mut User, expected: bool, told: &str| {
        ann.reflect(1);
        let mut rows = Disk::default();
        rows.write(ann.collect());
        let by_rows = row_shows(&rows, ann.id(), Shown::Presence, Some(&bob)).expect("rows");
        assert_eq!((ann.shows(Shown::Presence, Some(&bob)), by_rows), (expected, expected), "{told}");
        assert!(ann.shows(Shown::PresenceInGroup, Some(&bob)) && ann.shows(Shown::Presence, None), "{told}");
    };
    expect(&mut ann, false, "a stranger, whatever the stranger's own list says");
    let session = pair("ann", "bob");
    for (version, member) in [(1, true), (2, false)] {
        let link = Link { session: session.clone(), version, member, joined_seq: 1, from: None };
        assert_eq!(ann.link(&link, 9).answer, Some(Answer::Done));
        expect(&mut ann, member, "by the direct session");
    }
    let ask = UserAction::RequestFriend { user: user("bob"), text: "".into() };
    ann.act(&at(2), &actor("ann"), &act(1, ask.clone()));
    expect(&mut ann, false, "who is asked is no friend yet");
    let mut other = person("bob");
    let says = |of: &User| match of.pending_errands().last().expect("an errand").1.says.clone() {
        Says::Stance(stance, text) => (stance, text),
        other => panic!("{other:?}"),
    };
    let (stance, text) = says(&ann);
    other.hear(&at(2), &user("ann"), &stance, &text, ROOM);
    other.act(&at(3), &actor("bob"), &act(1, UserAction::AcceptFriend { user: user("ann") }));
    let (stance, text) = says(&other);
    ann.hear(&at(3), &user("bob"), &stance, &text, ROOM);
    expect(&mut ann, true, "a friend");
    ann.act(&at(4), &actor("ann"), &act(2, UserAction::RemoveFriend { user: user("bob") }));
    expect(&mut ann, false, "a friend no more");
}

#[test]
fn a_user_says_to_whom_it_shows_itself() {
    let (mut ann, mut bob) = (person("ann"), person("bob"));
    ann.act(&at(2), &actor("ann"), &act(1, UserAction::RequestFriend { user: user("bob"), text: "".into() }));
    let asked = |user: &User| match user.pending_errands().last().expect("an errand").1.says.clone() {
        Says::Stance(stance, text) => (stance, text),
        other => panic!("{other:?}"),
    };
    let (stance, text) = asked(&ann);
    bob.hear(&at(2), &user("ann"), &stance, &text, ROOM);
    bob.act(&at(3), &actor("bob"), &act(1, UserAction::AcceptFriend { user: user("ann") }));
    let (stance, text) = asked(&bob);
    ann.hear(&at(3), &user("bob"), &stance, &text, ROOM);
    assert!(ann.is_acquainted_with(&user("bob")) && !ann.is_acquainted_with(&user("cid")));
    let (friend, other) = (user("bob"), user("cid"));
    let (receipts, presence) = (ShowTo::Friends, ShowTo::Nobody);
    let narrowed = act(2, UserAction::SetPrivacy { receipts, presence });
    assert_eq!(own(&ann.act(&at(4), &actor("ann"), &narrowed)).value, 1);
    ann.reflect(4);
    let mut rows = Disk::default();
    rows.write(ann.collect());
    let loaded = User::load(&rows, &user("ann")).expect("rows");
    for (what, to, expected) in [
        (Shown::Receipts, Some(&friend), true),
        (Shown::Receipts, Some(&other), false),
        (Shown::Presence, Some(&friend), false),
        (Shown::Presence, Some(&other), false),
        (Shown::Presence, None, true),
    ] {
        let by_rows = row_shows(&rows, ann.id(), what, to).expect("rows");
        let shown = [ann.shows(what, to), loaded.shows(what, to), by_rows];
        assert_eq!(shown, [expected; 3], "{what:?} to {to:?}: in memory, loaded, by rows");
    }
    let nobody_asked = User::new(user("eve"));
    assert!(nobody_asked.shows(Shown::Receipts, Some(&friend)), "without a word everybody is told");
}
