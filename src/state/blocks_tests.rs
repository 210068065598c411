//! Blocks where there is no session of the two: nothing is stored for them but at the user who blocks, and they hold when one
//! of the two, or the system, begins a session.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::codec::{Blob, decode};
use rookery_wire::join::Join;
use rookery_wire::{ErrorCode, Record, RecordKind, RequestKey, Signal, UserAction};

use super::command::{Act, ChangeKind};
use super::joining_tests::{Play, join};
use super::own_tests::{ROOM, act, pair, person};
use super::tests::{
    Disk, LIMITS, actor, apply, arrived, at, change, code_of, group, new_group, seq_of, text, user,
};
use super::{Actor, Answer, ErrandKey, ErrandKind, Gate, Link, Outcome, Says, Session, Unwanted, User};

fn block(number: u64, whom: &str) -> super::UserAct {
    act(number, UserAction::Block { user: user(whom) })
}

fn unblock(number: u64, whom: &str) -> super::UserAct {
    act(number, UserAction::Unblock { user: user(whom) })
}

fn intent(session: &Session, whom: &str) -> Link {
    session.pending_intents().find(|intent| intent.user == user(whom)).expect("one").link
}

/// Somebody writes, or a backend under the key of its order.
fn writes(session: &mut Session, index: u64, who: &Actor, number: u64, content: &str) -> Outcome {
    if !who.service {
        return session.apply(&at(index), &LIMITS, who, number, &text(content));
    }
    let key = RequestKey::new("order-7").expect("a key");
    session.apply_keyed(&at(index), &LIMITS, who, &key, &text(content))
}

/// The one errand there is: whether the other is barred, and its version.
fn bar_errand(user: &User) -> (bool, u64) {
    let pending: Vec<_> = user.pending_errands().collect();
    match pending.as_slice() {
        [((ErrandKind::Bar, _), errand)] => match errand.says {
            Says::Bar(on) => (on, errand.version),
            _ => panic!("{errand:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_block_of_one_with_whom_there_is_no_session_is_stored_with_the_user_alone_and_leaves_nothing() {
    let mut ann = person("ann");
    for n in 0..100 {
        let name = format!("nobody{n}");
        let blocked = ann.act(&at(2 + 2 * n), &actor("ann"), &block(1 + 2 * n, &name));
        assert!(ann.blocks(&user(&name)) && blocked.gate.as_ref().is_none_or(|gate| ann.gate_open(gate)));
        assert_eq!(ann.pending_errands().count(), 0, "no session is told, for there is none");
        ann.act(&at(3 + 2 * n), &actor("ann"), &unblock(2 + 2 * n, &name));
        assert_eq!(ann.pending_errands().count(), 0);
    }
    let mut whole = Disk::default();
    ann.reflect(900);
    whole.write(ann.collect());
    let loaded = User::load(&whole, &user("ann")).expect("rows");
    assert_eq!((loaded.relations.len(), loaded.errands.len()), (0, 0));
}

#[test]
fn who_is_blocked_begins_no_session() {
    let mut ann = person("ann");
    ann.act(&at(2), &actor("ann"), &block(1, "bob"));
    let mut session = Session::new(pair("ann", "bob"));
    assert!(session.apply(&at(3), &LIMITS, &actor("bob"), 1, &text("hi")).parked);
    let link = intent(&session, "ann");
    assert_eq!(code_of(&ann.link(&link, 9)), ErrorCode::RefusedByPeer);
    let refused = [(user("ann"), link.version)];
    let given_up = session.unlinked(&at(4), &LIMITS, &refused, Unwanted::Stranger).given_up;
    assert_eq!(given_up.expect("given up").refusal.code, ErrorCode::RefusedByPeer);
    assert!(!session.exists() && ann.links.is_empty());
    ann.act(&at(5), &actor("ann"), &unblock(2, "bob"));
    assert_eq!(ann.pending_errands().count(), 0, "nothing of it is anywhere");
    assert!(session.apply(&at(6), &LIMITS, &actor("bob"), 1, &text("hi")).parked);
    assert_eq!(ann.link(&intent(&session, "ann"), 9).answer, Some(Answer::Done));
}

/// Whoever begins the session, the list of who blocks answers for it only when the session knows of the block.
#[test]
fn a_session_that_begins_later_is_barred_before_it_opens() {
    let system = Actor::keyed(user("shop"), None).expect("a service");
    for begins in [actor("ann"), system] {
        let mut ann = person("ann");
        ann.act(&at(2), &actor("ann"), &block(1, "bob"));
        let mut session = Session::new(pair("ann", "bob"));
        assert!(writes(&mut session, 3, &begins, 1, "hello").parked);
        let link = intent(&session, "ann");
        let linked = ann.link(&link, 9);
        assert!(
            linked.errands && linked.gate.as_ref().is_some_and(|gate| !ann.gate_open(gate)),
            "{linked:?}"
        );
        let again = ann.link(&link, 9);
        assert!(
            again.gate.as_ref().is_some_and(|gate| !ann.gate_open(gate)),
            "whoever carries it again waits too"
        );
        let (on, version) = bar_errand(&ann);
        assert!(on);
        session.bar(&user("ann"), version, on);
        ann.carried(&[((ErrandKind::Bar, user("bob")), version)]);
        assert!(linked.gate.as_ref().is_some_and(|gate| ann.gate_open(gate)));
        assert!(ann.link(&link, 9).gate.is_none());
        session.linked(&at(5), &arrived(&session));
        assert_eq!(seq_of(&writes(&mut session, 6, &begins, 1, "hello")), 1);
        assert_eq!(code_of(&writes(&mut session, 7, &actor("bob"), 1, "hi")), ErrorCode::RefusedByPeer);
        ann.act(&at(8), &actor("ann"), &unblock(2, "bob"));
        let (on, version) = bar_errand(&ann);
        session.bar(&user("ann"), version, on);
        assert_eq!(seq_of(&writes(&mut session, 9, &actor("bob"), 2, "hi")), 2);
    }
}

/// The system speaks to whom it wants, and so makes two users known to each other: what either has said of strangers does not hold
/// between them from then on, nor does it before that. (docs/protocol.md and docs/admin.md say so to the business.)
#[test]
fn two_users_between_whom_the_system_begins_a_session_are_no_strangers() {
    let system = Actor::keyed(user("shop"), None).expect("a service");
    let for_bob = Actor::keyed(user("shop"), Some(user("bob"))).expect("a service");
    let mut ann = person("ann");
    ann.act(&at(2), &actor("ann"), &act(1, UserAction::SetStrangers { refuse: true }));
    let mut session = Session::new(pair("ann", "bob"));
    // In a user's name it is as if that one began it.
    for stranger in [actor("bob"), for_bob] {
        assert!(writes(&mut session, 3, &stranger, 1, "hi").parked);
        let link = intent(&session, "ann");
        assert_eq!(code_of(&ann.link(&link, 9)), ErrorCode::RefusedByPeer);
        let refused = [(user("ann"), link.version)];
        assert!(session.unlinked(&at(4), &LIMITS, &refused, Unwanted::Stranger).given_up.is_some());
        let lets_go: Vec<_> = arrived(&session);
        session.linked(&at(5), &lets_go);
    }
    assert!(writes(&mut session, 6, &system, 1, "bob will deliver it").parked);
    let link = intent(&session, "ann");
    assert_eq!(link.from, None);
    let linked = ann.link(&link, 9);
    assert_eq!((linked.answer, linked.gate), (Some(Answer::Done), None));
    session.linked(&at(7), &arrived(&session));
    assert_eq!(seq_of(&writes(&mut session, 8, &system, 1, "bob will deliver it")), 1);
    assert_eq!(seq_of(&writes(&mut session, 9, &actor("bob"), 1, "at five?")), 2);
    assert!(ann.is_acquainted_with(&user("bob")) && ann.refuses_strangers());
}

/// What is on its way between the session and the lists of its two users.
#[derive(Clone, Debug)]
enum Carried {
    Link(&'static str, Link),
    Linked(&'static str, u64, bool),
    Unlinked(&'static str, u64),
    Bar(u64, bool),
    Arrived(ErrandKey, u64),
}

/// Ann, bob and their session; ann blocks and takes it back, both write.
struct World {
    ann: User,
    bob: User,
    session: Session,
    index: u64,
    /// Ann's next number, and the numbers of both in the session.
    own: u64,
    numbers: [u64; 2],
    /// Everything that was ever on its way: it may come again.
    sent: Vec<Carried>,
    /// Link answers that wait for ann's errands.
    held: Vec<(Gate, Carried)>,
}

impl World {
    fn new() -> Self {
        let (ann, bob, session) = (person("ann"), person("bob"), Session::new(pair("ann", "bob")));
        Self { ann, bob, session, index: 1, own: 0, numbers: [0, 0], sent: Vec::new(), held: Vec::new() }
    }

    fn next(&mut self) -> super::At {
        self.index += 1;
        at(self.index)
    }

    /// What somebody carries now: of the session, and of ann.
    fn under_way(&self) -> Vec<Carried> {
        let links = self.session.pending_intents().map(|intent| {
            let whose = if intent.user == user("ann") { "ann" } else { "bob" };
            Carried::Link(whose, intent.link)
        });
        let bars = self.ann.pending_errands().map(|(_, errand)| match errand.says {
            Says::Bar(on) => Carried::Bar(errand.version, on),
            _ => panic!("{errand:?}"),
        });
        links.chain(bars).collect()
    }

    fn carry(&mut self, what: Carried, follow: bool) {
        self.sent.push(what.clone());
        let at = self.next();
        let next = match what {
            Carried::Link(whose, link) => {
                let list = if whose == "ann" { &mut self.ann } else { &mut self.bob };
                let Outcome { answer, gate, .. } = list.link(&link, 9);
                let next = match answer {
                    Some(Answer::Done) => Carried::Linked(whose, link.version, link.member),
                    Some(Answer::Refused(_)) => Carried::Unlinked(whose, link.version),
                    other => panic!("{other:?}"),
                };
                if let Some(gate) = gate.filter(|gate| !list.gate_open(gate)) {
                    self.held.push((gate, next));
                    return;
                }
                next
            }
            Carried::Linked(whose, version, member) => {
                self.session.linked(&at, &[(user(whose), version, member)]);
                return;
            }
            Carried::Unlinked(whose, version) => {
                self.session.unlinked(&at, &LIMITS, &[(user(whose), version)], Unwanted::Stranger);
                return;
            }
            Carried::Bar(version, on) => {
                self.session.bar(&user("ann"), version, on);
                Carried::Arrived((ErrandKind::Bar, user("bob")), version)
            }
            Carried::Arrived(key, version) => {
                self.ann.carried(&[(key, version)]);
                let (go, stay) = self.held.drain(..).partition(|(gate, _)| self.ann.gate_open(gate));
                self.held = stay;
                let go: Vec<(Gate, Carried)> = go;
                go.into_iter().for_each(|(_, next)| self.carry(next, true));
                return;
            }
        };
        if follow {
            self.carry(next, true);
        }
    }

    /// Until nothing is under way any more.
    fn settle(&mut self) {
        for _ in 0..50 {
            let under_way = self.under_way();
            if under_way.is_empty() {
                return;
            }
            under_way.into_iter().for_each(|what| self.carry(what, true));
        }
        panic!("it does not end: {:?}", self.under_way());
    }

    /// One writes: whether it is stored, refused, or waits.
    fn writes(&mut self, who: usize) -> Option<Result<u64, ErrorCode>> {
        let at = self.next();
        let actor = actor(["ann", "bob"][who]);
        let number = self.numbers[who] + 1;
        let outcome = self.session.apply(&at, &LIMITS, &actor, number, &text("hi"));
        match outcome.answer {
            Some(Answer::Ack(ack)) => {
                self.numbers[who] = number;
                Some(Ok(ack.seq))
            }
            Some(Answer::Refused(refusal)) => {
                self.numbers[who] = number.min(self.numbers[who].max(refusal.detail));
                Some(Err(refusal.code))
            }
            None => None,
            other => panic!("{other:?}"),
        }
    }
}

/// Things are carried in any order, more than once and long after; nothing of bob enters once a block is acknowledged, and when
/// everything has arrived he may write exactly if he is not blocked.
#[test]
fn whatever_is_carried_when_a_block_holds_and_its_end_ends_it() {
    let (mut barred, mut opened) = (0, 0);
    for seed in 0..400u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        let mut gate = None;
        for _ in 0..rng.random_range(5..60) {
            match rng.random_range(0..10) {
                0 => {
                    world.own += 1;
                    let at = world.next();
                    let outcome = world.ann.act(&at, &actor("ann"), &block(world.own, "bob"));
                    gate = Some(outcome.gate.expect("it concerns others"));
                }
                1 => {
                    world.own += 1;
                    let at = world.next();
                    world.ann.act(&at, &actor("ann"), &unblock(world.own, "bob"));
                    gate = None;
                }
                2 => drop(world.writes(0)),
                3 | 4 => {
                    let holds = gate.as_ref().is_some_and(|gate| world.ann.gate_open(gate));
                    let stored = matches!(world.writes(1), Some(Ok(_)));
                    assert!(!(holds && stored), "seed {seed}: bob wrote against a block");
                    barred += u32::from(holds);
                }
                5 if !world.sent.is_empty() => {
                    let again = world.sent[rng.random_range(0..world.sent.len())].clone();
                    world.carry(again, rng.random_bool(0.5));
                }
                _ => {
                    let under_way = world.under_way();
                    if !under_way.is_empty() {
                        let what = under_way[rng.random_range(0..under_way.len())].clone();
                        world.carry(what, rng.random_bool(0.8));
                    }
                }
            }
        }
        world.settle();
        // What a full opening takes: it may have to begin, and be carried.
        let mut told = None;
        for _ in 0..4 {
            told = world.writes(1);
            if told.is_some() {
                break;
            }
            world.settle();
        }
        let blocked = world.ann.blocks(&user("bob"));
        match told {
            Some(Ok(_)) => assert!(!blocked, "seed {seed}"),
            Some(Err(code)) => assert!(blocked && code == ErrorCode::RefusedByPeer, "seed {seed}: {code:?}"),
            // The opening was given up each time, which is a refusal.
            None => assert!(blocked && !world.session.exists(), "seed {seed}"),
        }
        opened += u32::from(world.session.exists());
    }
    assert!(barred > 100 && opened > 100 && opened < 400, "{barred} {opened}");
}

/// Who brings a user into a group is judged by that user's list, as who begins a direct session is.
#[test]
fn nobody_is_brought_into_a_group_by_one_it_blocks_or_by_a_stranger_it_keeps_out() {
    let system = Actor::keyed(user("shop"), None).expect("a service");
    let for_eve = Actor::keyed(user("shop"), Some(user("eve"))).expect("a service");
    let strangers = act(1, UserAction::SetStrangers { refuse: true });
    let create = change(ChangeKind::Create, &["bob", "cid"]);
    let add = change(ChangeKind::Add, &["bob"]);
    for (says, by, comes) in [
        (Some(block(1, "eve")), actor("eve"), false),
        (Some(block(1, "eve")), for_eve.clone(), false),
        (Some(block(1, "eve")), actor("ann"), true),
        (Some(block(1, "eve")), system.clone(), true),
        (Some(strangers.clone()), actor("eve"), false),
        (Some(strangers.clone()), for_eve, false),
        (Some(strangers), system, true),
        (None, actor("eve"), true),
    ] {
        for added_later in [false, true] {
            let mut bob = person("bob");
            if let Some(act) = &says {
                bob.act(&at(2), &actor("bob"), act);
            }
            let mut session = Session::new(group());
            let does = |session: &mut Session, index: u64, number: u64, act: &Act| match by.epoch {
                0 => {
                    let key = RequestKey::new(&format!("order-{number}")).expect("a key");
                    session.apply_keyed(&at(index), &LIMITS, &by, &key, act)
                }
                _ => session.apply(&at(index), &LIMITS, &by, number, act),
            };
            let first = if added_later { change(ChangeKind::Create, &["cid"]) } else { create.clone() };
            if does(&mut session, 3, 1, &first).parked {
                // The list of who makes it asks nobody.
                let maker = intent(&session, by.name().as_str());
                assert_eq!(person(by.name().as_str()).link(&maker, 9).answer, Some(Answer::Done));
                session.linked(&at(4), &arrived(&session));
                seq_of(&does(&mut session, 5, 1, &first));
            }
            if added_later {
                let added = does(&mut session, 6, 2, &add);
                seq_of(&added);
                // Else what is written at once would be pushed to him before he is asked.
                let at_once = added.added.contains(&user("bob"));
                assert_eq!(at_once, by.is_system(), "{says:?} {by:?}");
            }
            let link = intent(&session, "bob");
            let answer = bob.link(&link, 9);
            let told = format!("{says:?} {by:?} {added_later}");
            assert_eq!(bob.links.contains_key(&group()), comes, "{told}");
            if comes {
                assert_eq!(answer.answer, Some(Answer::Done), "{told}");
                continue;
            }
            assert_eq!(code_of(&answer), ErrorCode::RefusedByPeer, "{told}");
            assert!(answer.user_frames.is_empty(), "bob's devices hear nothing: {told}");
            assert!(session.pending_intents().next().is_some());
            // As of a full list: who is in the group sees who left it again, and not why.
            let refused = [(user("bob"), link.version)];
            let left = session.unlinked(&at(7), &LIMITS, &refused, Unwanted::Stranger);
            let record = left.published.expect("a record of leaving").record;
            let record: Record = decode(&record).expect("a record");
            let signal: Signal = decode(&record.content.0).expect("a signal");
            let said = (record.kind, record.client_seq, signal.users);
            assert_eq!(said, (RecordKind::MEMBERS_REMOVED, 0, vec![user("bob")]), "{told}");
            assert_eq!((left.removed, left.given_up), (vec![user("bob")], None), "{told}");
            assert!(session.member(&user("bob")).is_none() && session.member(&user("cid")).is_some());
            session.linked(&at(8), &arrived(&session));
            assert!(
                session.pending_intents().next().is_none(),
                "whoever added him hears of it with the ACK: {told}"
            );
        }
    }
}

/// A friend still invites where strangers do not, and who asked or has a code comes, whoever lets it in.
#[test]
fn friends_invite_where_strangers_do_not_and_who_comes_by_itself_is_asked_nothing() {
    let (mut ann, mut bob) = (person("ann"), person("bob"));
    bob.act(&at(2), &actor("bob"), &act(1, UserAction::SetStrangers { refuse: true }));
    let befriend = UserAction::RequestFriend { user: user("bob"), text: Blob::default() };
    ann.act(&at(3), &actor("ann"), &act(1, befriend));
    let asked = ann.pending_errands().map(|(_, errand)| errand.says.clone()).collect::<Vec<_>>();
    let [Says::Stance(stance, words)] = &asked[..] else { panic!("{asked:?}") };
    bob.hear(&at(4), &user("ann"), stance, words, ROOM);
    bob.act(&at(5), &actor("bob"), &act(2, UserAction::AcceptFriend { user: user("ann") }));

    let disk = Disk::default();
    let mut session = new_group(&disk);
    apply(&mut session, &disk, &at(6), &actor("ann"), 2, &change(ChangeKind::Remove, &["bob"]));
    apply(&mut session, &disk, &at(7), &actor("ann"), 3, &change(ChangeKind::Add, &["bob"]));
    let link = intent(&session, "bob");
    assert_eq!(link.from, Some(user("ann")));
    assert_eq!(bob.link(&link, 9).answer, Some(Answer::Done));

    // Now ann is the stranger, and he asks to be let in.
    let mut bob = person("bob");
    bob.act(&at(2), &actor("bob"), &act(1, UserAction::SetStrangers { refuse: true }));
    bob.act(&at(3), &actor("bob"), &block(2, "ann"));
    let mut play = Play::with(Join::Request);
    play.can("ann", &change(ChangeKind::Remove, &["bob"]));
    play.can("bob", &join(None));
    play.can("ann", &Act::Answer { user: user("bob"), accept: true, most: 10 });
    let link = intent(&play.session, "bob");
    assert!(link.member && bob.link(&link, 9).answer == Some(Answer::Done), "{link:?}");
    let mut bob = person("bob");
    bob.act(&at(2), &actor("bob"), &block(1, "ann"));
    let mut play = Play::with(Join::Open);
    play.can("ann", &change(ChangeKind::Remove, &["bob"]));
    play.can("bob", &join(None));
    let link = intent(&play.session, "bob");
    assert!(link.member && bob.link(&link, 9).answer == Some(Answer::Done), "{link:?}");
}
