//! Request keys, one rule a test; and random acts under keys with checkpoints and crashes against a plain model.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::codec::decode;
use rookery_wire::own::SelfAck;
use rookery_wire::reply::Ack;
use rookery_wire::{DeviceId, ErrorBody, ErrorCode, GroupAction, Record, RequestKey, SessionId, UserAction};

use super::command::{Act, Actor, ChangeKind};
use super::key::letter;
use super::keyed::{KEY_LIVES_MS, KeyedOwn, MAX_KEYS};
use super::own_tests::{act, pair, person};
use super::tests::{Disk, LIMITS, actor, arrived, at, change, code_of, group, new_group, seq_of, text, user};
use super::{Answer, At, Link, Outcome, Session, User};

fn key(name: &str) -> RequestKey {
    RequestKey::new(name).expect("a key")
}

fn shop(of: Option<&str>) -> Actor {
    Actor::keyed(user("shop"), of.map(user)).expect("a service")
}

/// Applies under a key as the actor shell does; lists of founders have room.
fn keyed(session: &mut Session, at: &At, actor: &Actor, name: &str, act: &Act) -> Outcome {
    let mut outcome = session.apply_keyed(at, &LIMITS, actor, &key(name), act);
    if outcome.parked {
        let lists = arrived(session);
        session.linked(at, &lists);
        outcome = session.apply_keyed(at, &LIMITS, actor, &key(name), act);
    }
    session.reflect(at.index);
    outcome
}

fn refusal(outcome: &Outcome) -> ErrorBody {
    match &outcome.answer {
        Some(Answer::Refused(refusal)) => refusal.clone(),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn ack(outcome: &Outcome) -> Ack {
    match &outcome.answer {
        Some(Answer::Ack(ack)) => ack.clone(),
        other => panic!("expected an ack, got {other:?}"),
    }
}

fn own(outcome: &Outcome) -> SelfAck {
    match &outcome.answer {
        Some(Answer::Own(ack)) => *ack,
        other => panic!("expected an ack, got {other:?}"),
    }
}

fn record(session: &Session, seq: u64) -> Record {
    decode(session.record(seq).expect("in the ring")).expect("a record")
}

#[test]
fn whoever_repeats_a_key_gets_the_first_answer_and_stores_nothing() {
    let mut session = new_group(&Disk::default());
    let first = keyed(&mut session, &at(2), &shop(None), "k1", &text("hi"));
    let other = Actor::keyed(user("office"), None).expect("a service");
    let again = keyed(&mut session, &at(3), &other, "k1", &text("hi"));
    assert_eq!((&first.answer, ack(&first).client_seq), (&again.answer, 0));
    assert!(again.published.is_none());
    assert_eq!(session.last_seq(), 2);
    for (actor, act) in [(shop(None), text("else")), (shop(Some("ann")), text("hi"))] {
        let reused = keyed(&mut session, &at(4), &actor, "k1", &act);
        assert_eq!(code_of(&reused), ErrorCode::KeyReused, "other content, or another name");
    }
    assert_eq!(
        seq_of(&keyed(&mut session, &at(5), &shop(None), "k2", &text("hi"))),
        3,
        "another key is another act"
    );
    let record = record(&session, 2);
    assert_eq!((record.sender.as_str(), record.device.as_str()), ("shop", "-"));
    assert_eq!((record.epoch, record.client_seq, record.count), (0, 0, 1), "counted, and no device's");
    let from = first.published.expect("a record").from;
    assert_eq!(from.2, 0, "every connection is pushed it, for no device has it by its ACK");
}

#[test]
fn keys_take_no_number_of_any_device() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    keyed(&mut session, &at(2), &shop(Some("ann")), "k1", &text("as ann"));
    let own = super::tests::apply(&mut session, &disk, &at(3), &actor("ann"), 2, &text("ann herself"));
    assert_eq!(seq_of(&own), 3, "her next number is what it was");
}

#[test]
fn a_refusal_is_remembered_and_one_before_there_is_a_session_is_not() {
    let mut session = new_group(&Disk::default());
    let mute = |until_ms| Act::Manage { action: GroupAction::Mute { user: user("bob"), until_ms } };
    keyed(&mut session, &at(2), &shop(None), "mute", &mute(1 << 50));
    let muted = refusal(&keyed(&mut session, &at(3), &shop(Some("bob")), "k", &text("hi")));
    keyed(&mut session, &at(4), &shop(None), "unmute", &mute(0));
    let again = refusal(&keyed(&mut session, &at(5), &shop(Some("bob")), "k", &text("hi")));
    assert_eq!((again.code, again.detail), (ErrorCode::Muted, muted.detail), "the first answer again");
    assert_eq!(seq_of(&keyed(&mut session, &at(6), &shop(Some("bob")), "k2", &text("hi"))), 4);

    let mut none = Session::new(group());
    let refused = keyed(&mut none, &at(1), &shop(None), "k", &text("anyone?"));
    assert_eq!(code_of(&refused), ErrorCode::NoSuchSession);
    assert!(none.kept_key(&key("k")).is_none() && !none.is_something());
    assert!(none.collect().rows.is_empty());
    let created = keyed(&mut none, &at(2), &shop(None), "k", &change(ChangeKind::Create, &["ann"]));
    assert_eq!(seq_of(&created), 1, "the key is free, and nobody owns the group");
}

#[test]
fn a_change_of_members_waits_for_its_lists_in_every_repeat() {
    let mut session = new_group(&Disk::default());
    let add = change(ChangeKind::Add, &["cid"]);
    let lists = arrived(&session);
    session.linked(&at(1), &lists);
    let first = keyed(&mut session, &at(2), &shop(None), "k", &add);
    let again = keyed(&mut session, &at(3), &shop(None), "k", &add);
    for outcome in [&first, &again] {
        assert!(outcome.gate.as_ref().is_some_and(|gate| !session.gate_open(gate)), "{outcome:?}");
    }
    let lists = arrived(&session);
    session.linked(&at(4), &lists);
    let later = keyed(&mut session, &at(5), &shop(None), "k", &add);
    assert!(later.gate.as_ref().is_none_or(|gate| session.gate_open(gate)));
    assert_eq!(later.answer, first.answer);
}

#[test]
fn what_users_set_against_each_other_does_not_bind_the_system() {
    let mut session = Session::new(pair("ann", "bob"));
    session.bar(&user("ann"), 1, true);
    session.bar(&user("bob"), 2, true);
    let barred = keyed(&mut session, &at(3), &shop(Some("ann")), "k1", &text("as ann"));
    assert_eq!(code_of(&barred), ErrorCode::RefusedByPeer, "in a user's name it may what that user may");
    let opens = session.apply_keyed(&at(4), &LIMITS, &shop(None), &key("k2"), &text("your order"));
    assert!(opens.parked);
    assert!(
        opens.intents.iter().all(|intent| intent.link.from.is_none()),
        "no list is asked about strangers"
    );
    let stored = keyed(&mut session, &at(5), &shop(None), "k2", &text("your order"));
    assert_eq!((seq_of(&stored), record(&session, 1).sender), (1, user("shop")));
    assert_eq!(session.member(&user("shop")), None, "it is no member by that");
    // A service that is one of the two, and numbers what it sends, is a user like any other.
    let mut with_shop = Session::new(pair("ann", "shop"));
    with_shop.bar(&user("ann"), 1, true);
    let service = Actor { service: true, ..actor("shop") };
    let barred = with_shop.apply(&at(2), &LIMITS, &service, 1, &text("buy"));
    assert_eq!(code_of(&barred), ErrorCode::RefusedByPeer);
    // In a group neither mutes nor policies stand in its way.
    let mut team = new_group(&Disk::default());
    keyed(&mut team, &at(2), &shop(None), "all", &Act::Manage { action: GroupAction::MuteAll { on: true } });
    assert_eq!(seq_of(&keyed(&mut team, &at(3), &shop(None), "k", &text("to all"))), 3);
}

#[test]
fn keys_are_bounded_and_forgotten_after_a_day() {
    let mut session = new_group(&Disk::default());
    let time = |index: u64, time_ms: u64| At { time_ms, ..at(index) };
    for n in 0..MAX_KEYS as u64 {
        let stored = keyed(&mut session, &time(2 + n, 1_000 + n), &shop(None), &format!("k{n}"), &text("x"));
        assert_eq!(seq_of(&stored), 2 + n);
    }
    let full = refusal(&keyed(&mut session, &time(20_000, 12_000), &shop(None), "one more", &text("x")));
    assert_eq!((full.code, full.detail), (ErrorCode::KeysFull, 1_000 + KEY_LIVES_MS));
    let known = keyed(&mut session, &time(20_001, 12_000), &shop(None), "k0", &text("x"));
    assert_eq!(seq_of(&known), 2, "those that are known are answered");
    let at_last = time(20_002, 1_000 + KEY_LIVES_MS);
    assert_eq!(
        code_of(&keyed(&mut session, &at_last, &shop(None), "one more", &text("x"))),
        ErrorCode::KeysFull
    );
    let later = time(20_003, 1_001 + KEY_LIVES_MS);
    assert_eq!(
        seq_of(&keyed(&mut session, &later, &shop(None), "one more", &text("x"))),
        2 + MAX_KEYS as u64
    );
    assert!(session.kept_key(&key("k0")).is_none() && session.kept_key(&key("k1")).is_some());
    let forgotten = keyed(&mut session, &time(20_004, 2_000 + KEY_LIVES_MS), &shop(None), "k0", &text("x"));
    assert_eq!(seq_of(&forgotten), 3 + MAX_KEYS as u64, "it is a new act by then");
}

#[test]
fn a_user_is_created_once_and_only_where_there_is_none() {
    let mut eve = User::new(user("eve"));
    let created = eve.act_keyed(&at(1), &key("k1"), &KeyedOwn::Create);
    assert_eq!(own(&created).value, 1);
    assert_eq!(own(&eve.act_keyed(&at(2), &key("k1"), &KeyedOwn::Create)), own(&created));
    assert_eq!(code_of(&eve.act_keyed(&at(3), &key("k2"), &KeyedOwn::Create)), ErrorCode::UserExists);
    let block = |who: &str| KeyedOwn::Act(act(0, UserAction::Block { user: user(who) }));
    assert_eq!(code_of(&eve.act_keyed(&at(4), &key("k1"), &block("bob"))), ErrorCode::KeyReused);
    let mut ann = person("ann");
    assert_eq!(code_of(&ann.act_keyed(&at(2), &key("k"), &KeyedOwn::Create)), ErrorCode::UserExists);
    // It stays so when the key is long forgotten, and comes back from rows.
    let mut disk = Disk::default();
    eve.reflect(4);
    disk.write(eve.collect());
    assert!(eve.is_clean());
    let mut back = User::load(&disk, &user("eve")).expect("rows");
    let late = At { time_ms: 3 * KEY_LIVES_MS, ..at(9) };
    assert_eq!(code_of(&back.act_keyed(&late, &key("k3"), &KeyedOwn::Create)), ErrorCode::UserExists);
    assert!(!back.knows_key(&key("k1")), "forgotten with the next one");
}

#[test]
fn what_a_backend_changes_of_a_users_own_is_done_once_and_waits_for_its_errands() {
    let mut ann = person("ann");
    let session = pair("ann", "bob");
    ann.link(&Link { session, version: 1, member: true, joined_seq: 1, from: None }, 9);
    let block = KeyedOwn::Act(act(0, UserAction::Block { user: user("bob") }));
    let first = ann.act_keyed(&at(2), &key("k"), &block);
    assert!(first.errands && first.gate.is_some());
    let again = ann.act_keyed(&at(3), &key("k"), &block);
    assert_eq!((own(&again), again.gate.is_some()), (own(&first), true), "it may still be on its way");
    assert!(!again.errands && again.user_frames.is_empty());
    let end = KeyedOwn::Act(act(0, UserAction::EndDevice { device: DeviceId::new("d").expect("a device") }));
    assert_eq!(own(&ann.act_keyed(&at(4), &key("end"), &end)).value, 1);
    assert_eq!(ann.epoch(&actor("ann").device), 0);
    assert_eq!(
        own(&ann.act_keyed(&at(5), &key("end"), &end)).value,
        1,
        "the first answer, though it is gone"
    );
    let stranger = SessionId::direct(&user("ann"), &user("eve")).expect("a pair");
    let pin = UserAction::SetSession { session: stranger, setting: rookery_wire::SessionSetting::Pin(None) };
    let refused = ann.act_keyed(&at(6), &key("pin"), &KeyedOwn::Act(act(0, pin)));
    assert_eq!(code_of(&refused), ErrorCode::NotMember);
}

/// Rows of one kind.
fn rows_of(disk: &Disk, letter: u8) -> Disk {
    let mut some = Disk::default();
    some.take_newer(disk, letter);
    some
}

type Answers = BTreeMap<RequestKey, (u64, Actor, Act, Option<Answer>)>;

/// One step as the model has it: the first answer of a key while it must be remembered.
fn judge(
    model: &mut Answers,
    at: &At,
    (actor, name, act): (&Actor, &RequestKey, &Act),
    (known, outcome): (bool, &Outcome),
    why: &str,
) {
    if let Some((taken_ms, first_actor, first_act, answer)) = model.get(name)
        && at.time_ms <= taken_ms + KEY_LIVES_MS
    {
        if (first_actor.on_behalf_of.as_ref(), first_act) == (actor.on_behalf_of.as_ref(), act) {
            let same = match (&outcome.answer, answer) {
                (Some(Answer::Refused(now)), Some(Answer::Refused(then))) => {
                    (now.code, now.detail) == (then.code, then.detail)
                }
                (now, then) => now == then,
            };
            assert!(same, "{why}: {name} was answered with {answer:?}, now with {:?}", outcome.answer);
        } else {
            assert_eq!(code_of(outcome), ErrorCode::KeyReused, "{why}: {name}");
        }
        return;
    }
    // To be remembered longer than it must be is no fault.
    if known {
        return;
    }
    if outcome.published.is_some() || matches!(&outcome.answer, Some(Answer::Refused(_))) {
        model.insert(name.clone(), (at.time_ms, actor.clone(), act.clone(), outcome.answer.clone()));
    }
}

#[test]
fn random_acts_under_keys_with_checkpoints_and_crashes_go_as_the_model_says() {
    for seed in 0..40u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut whole = new_group(&Disk::default());
        let (mut disk, mut log) = (Disk::default(), Vec::new());
        let mut hurt = new_group(&disk);
        let mut model = Answers::new();
        let mut time_ms = 1_000;
        for index in 2..160u64 {
            // Leaders' clocks differ: it may go back a little.
            time_ms += rng.random_range(0..KEY_LIVES_MS / 20);
            let time_agrees = rng.random_bool(0.8);
            let at = At { time_ms: time_ms - rng.random_range(0..500), time_agrees, ..at(index) };
            let who = [None, Some("ann"), Some("bob"), Some("eve")][rng.random_range(0..4)];
            let act = match rng.random_range(0..6) {
                0 => change(ChangeKind::Add, &["eve"]),
                1 => change(ChangeKind::Remove, &["eve"]),
                2 => Act::Manage { action: GroupAction::MuteAll { on: rng.random_bool(0.5) } },
                n => text(&format!("text {n}")),
            };
            let step = (at, shop(who), format!("k{}", rng.random_range(0..25)), act);
            let (actor, name, act) = (&step.1, key(&step.2), &step.3);
            let why = format!("seed {seed}, entry {index}");
            let known = whole.kept_key(&name).is_some();
            let outcome = keyed(&mut whole, &step.0, actor, &step.2, act);
            judge(&mut model, &step.0, (actor, &name, act), (known, &outcome), &why);
            let other = keyed(&mut hurt, &step.0, actor, &step.2, act);
            assert_eq!(other.answer, outcome.answer, "{why}: a replica that came back answers alike");
            log.push(step);
            if rng.random_bool(0.1) {
                disk.write(hurt.collect());
                hurt.written(&LIMITS);
            }
            if rng.random_bool(0.05) && index > 10 {
                hurt = replayed(&disk, &log);
            }
        }
        let mut end = Disk::default();
        end.write(whole.collect());
        disk.write(hurt.collect());
        assert_eq!(rows_of(&end, letter::SESSION_KEY), rows_of(&disk, letter::SESSION_KEY), "seed {seed}");
        hurt.written(&LIMITS);
        assert!(hurt.is_clean(), "seed {seed}: all that changed was collected");
    }
}

/// What rows say, and the log behind it.
fn replayed(disk: &Disk, log: &[(At, Actor, String, Act)]) -> Session {
    let mut session = Session::load(disk, &group()).expect("rows");
    if session.last_seq() == 0 {
        session = new_group(&Disk::default());
    }
    for (at, actor, name, act) in log {
        if at.index > session.index() {
            keyed(&mut session, at, actor, name, act);
        }
    }
    session
}

#[test]
fn a_clock_that_does_not_agree_forgets_nothing_and_ages_nothing() {
    const DAY: u64 = KEY_LIVES_MS;
    let mut session = new_group(&Disk::default());
    let wild = |index: u64, time_ms: u64| At { time_ms, time_agrees: false, ..at(index) };
    let right = |index: u64, time_ms: u64| At { time_ms, ..at(index) };
    let shop = shop(None);
    keyed(&mut session, &right(2, 10 * DAY), &shop, "k1", &text("x"));
    // A leader's clock is days ahead, the next one's days behind.
    keyed(&mut session, &wild(3, 15 * DAY), &shop, "k2", &text("x"));
    keyed(&mut session, &wild(4, 5 * DAY), &shop, "k3", &text("x"));
    assert_eq!(seq_of(&keyed(&mut session, &right(5, 10 * DAY + 1), &shop, "k1", &text("x"))), 2);
    keyed(&mut session, &right(6, 10 * DAY + 2), &shop, "k4", &text("x"));
    for (index, name) in [(7, "k2"), (8, "k3")] {
        let again = keyed(&mut session, &right(index, 11 * DAY + 2), &shop, name, &text("x"));
        assert_eq!(seq_of(&again), index - 4, "{name} was taken less than a day ago");
    }
    keyed(&mut session, &right(9, 11 * DAY + 3), &shop, "k5", &text("x"));
    let left: Vec<_> = (1..=5).filter(|n| session.kept_key(&key(&format!("k{n}"))).is_some()).collect();
    assert_eq!(left, [5], "and no longer than a day from when that was known");
}

#[test]
fn what_was_refused_takes_no_name() {
    let mut nobody = User::new(user("nobody"));
    let stranger = SessionId::direct(&user("nobody"), &user("eve")).expect("a pair");
    let pin = UserAction::SetSession { session: stranger, setting: rookery_wire::SessionSetting::Pin(None) };
    let refused = nobody.act_keyed(&at(1), &key("pin"), &KeyedOwn::Act(act(0, pin)));
    assert_eq!(code_of(&refused), ErrorCode::NotMember);
    assert_eq!(own(&nobody.act_keyed(&at(2), &key("k"), &KeyedOwn::Create)).value, 1);
}
