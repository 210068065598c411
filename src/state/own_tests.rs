//! What a user does to its own things, one rule a test: numbers, settings, relations, blocks, strangers, devices.

use rookery_wire::own::{RelationFilter, SelfAck};
use rookery_wire::{
    Blob, DeviceId, ErrorCode, GroupId, Kind, RelationState, SessionId, SessionSetting, UserAction, UserId,
};

use super::devices::{MAX_ENDED, read_end_notice};
use super::parts::PartOf;
use super::relations::Wish;
use super::series::MAX_FOREIGN;
use super::tables::ERRANDS;
use super::tests::{Disk, LIMITS, actor, all_of, arrived, at, code_of, says, seq_of, text, user};
use super::{
    Actor, Answer, DeviceBounds, ErrandKind, Given, Introduction, Link, Outcome, OwnBounds, ReadTo, Room,
    Says, Session, Stance, Unwanted, User, UserAct,
};

pub(super) const BOUNDS: OwnBounds = OwnBounds { deletions: 3, relations: 8 };
pub(super) const ROOM: Room = Room { relations: BOUNDS.relations, requests: 4 };

pub(super) fn act(number: u64, action: UserAction) -> UserAct {
    UserAct { number, action, given: Given::Nothing, bounds: BOUNDS }
}

pub(super) fn pair(a: &str, b: &str) -> SessionId {
    SessionId::direct(&user(a), &user(b)).expect("a pair")
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).expect("a device")
}

/// A user with the registered device that `actor` acts from.
pub(super) fn person(name: &str) -> User {
    let mut person = User::new(user(name));
    person.register(&actor(name).device, &says(1), &DeviceBounds::default(), 1);
    person
}

pub(super) fn own(outcome: &Outcome) -> SelfAck {
    match &outcome.answer {
        Some(Answer::Own(ack)) => *ack,
        other => panic!("{other:?}"),
    }
}

/// Errands of one to the other arrive, and are cleared.
fn carry(from: &mut User, to: &mut User, index: u64) {
    let pending: Vec<_> = from.pending_errands().map(|(key, errand)| (key.clone(), errand.clone())).collect();
    for (key, errand) in pending {
        if let Says::Stance(stance, words) = &errand.says {
            to.hear(&at(index), from.id(), stance, words, ROOM);
        }
        from.carried(&[(key, errand.version)]);
    }
}

fn kinds(outcome: &Outcome) -> Vec<u8> {
    outcome.user_frames.iter().map(|frame| frame[5]).collect()
}

#[test]
fn an_act_is_carried_out_once_and_answered_for_a_while() {
    let mut ann = person("ann");
    ann.link(&Link { session: pair("ann", "bob"), version: 1, member: true, joined_seq: 1, from: None }, 9);
    let set = |order| UserAction::SetSession {
        session: pair("ann", "bob"),
        setting: SessionSetting::Pin(Some(order)),
    };
    let first = ann.act(&at(2), &actor("ann"), &act(1, set(5)));
    assert_eq!((own(&first).value, kinds(&first)), (1, vec![Kind::SessionSettings as u8]));
    let again = ann.act(&at(3), &actor("ann"), &act(1, set(5)));
    assert_eq!(own(&again), own(&first));
    assert!(again.user_frames.is_empty());
    assert_eq!(code_of(&ann.act(&at(4), &actor("ann"), &act(1, set(6)))), ErrorCode::ClientSeqReused);
    let gap = ann.act(&at(4), &actor("ann"), &act(3, set(6)));
    assert_eq!(code_of(&gap), ErrorCode::ClientSeqGap);
    for number in 2..20 {
        ann.act(&at(4 + number), &actor("ann"), &act(number, set(number)));
    }
    assert_eq!(code_of(&ann.act(&at(40), &actor("ann"), &act(2, set(2)))), ErrorCode::AlreadyTrimmed);
    // A refusal takes the number, and is the answer for ever.
    let stranger = UserAction::SetSession { session: pair("ann", "eve"), setting: SessionSetting::Mute(7) };
    for index in [41, 42] {
        let refused = ann.act(&at(index), &actor("ann"), &act(20, stranger.clone()));
        assert_eq!(code_of(&refused), ErrorCode::NotMember);
        let Some(Answer::Refused(error)) = refused.answer else { panic!("refused") };
        assert_eq!(error.detail, 20);
    }
    let next = ann.act(&at(43), &actor("ann"), &act(21, set(1)));
    assert_eq!(own(&next).number, 21);
}

#[test]
fn an_old_epoch_acts_no_more_and_a_new_one_counts_anew() {
    let mut ann = person("ann");
    let block = |number| act(number, UserAction::Block { user: user("bob") });
    own(&ann.act(&at(2), &actor("ann"), &block(1)));
    ann.register(&actor("ann").device, &says(2), &DeviceBounds::default(), 9);
    assert_eq!(code_of(&ann.act(&at(3), &actor("ann"), &block(2))), ErrorCode::BadEpoch);
    let later = Actor { epoch: 2, ..actor("ann") };
    assert_eq!(own(&ann.act(&at(4), &later, &block(1))).number, 1);
    assert_eq!(ann.series.len(), 1, "an epoch that is gone leaves nothing");
}

#[test]
fn a_service_counts_for_each_user_and_few_services_are_kept() {
    let mut ann = person("ann");
    let service = |n: u64| Actor {
        user: user(&format!("shop-{n}")),
        device: device("backend"),
        epoch: 1,
        on_behalf_of: Some(user("ann")),
        service: true,
    };
    for n in 0..=MAX_FOREIGN as u64 {
        let strangers = act(1, UserAction::SetStrangers { refuse: true });
        own(&ann.act(&at(10 + n), &service(n), &strangers));
    }
    assert_eq!(ann.series.len(), MAX_FOREIGN);
    let probe = ann.act(&at(900), &service(0), &act(u64::MAX, UserAction::ReadAll));
    let Some(Answer::Refused(gap)) = probe.answer else { panic!("a gap") };
    assert_eq!((gap.code, gap.detail), (ErrorCode::ClientSeqGap, 1), "the oldest begins anew");
}

#[test]
fn requests_are_accepted_declined_ended_and_cross() {
    let (mut ann, mut bob) = (person("ann"), person("bob"));
    let words = || Blob::from("it is me");
    let asked = ann.act(
        &at(2),
        &actor("ann"),
        &act(1, UserAction::RequestFriend { user: user("bob"), text: words() }),
    );
    assert_eq!(own(&asked).value, RelationState::Requested as u64);
    let gate = asked.gate.expect("answered when bob has it");
    assert!(!ann.gate_open(&gate));
    carry(&mut ann, &mut bob, 3);
    assert!(ann.gate_open(&gate));
    let line = bob.relations_after(RelationFilter::Requests, None).next().expect("a request");
    assert_eq!((line.state, line.text), (RelationState::Asked, words()));
    let declined = bob.act(&at(4), &actor("bob"), &act(1, UserAction::DeclineFriend { user: user("ann") }));
    assert_eq!(own(&declined).value, RelationState::None as u64);
    carry(&mut bob, &mut ann, 5);
    assert_eq!(ann.relation(&user("bob")), RelationState::None);
    // Both ask before either hears of the other.
    ann.act(&at(6), &actor("ann"), &act(2, UserAction::RequestFriend { user: user("bob"), text: words() }));
    bob.act(&at(6), &actor("bob"), &act(2, UserAction::RequestFriend { user: user("ann"), text: words() }));
    carry(&mut ann, &mut bob, 7);
    carry(&mut bob, &mut ann, 7);
    let friends = (ann.relation(&user("bob")), bob.relation(&user("ann")));
    assert_eq!(friends, (RelationState::Friends, RelationState::Friends));
    bob.act(&at(8), &actor("bob"), &act(3, UserAction::RemoveFriend { user: user("ann") }));
    carry(&mut bob, &mut ann, 9);
    assert_eq!(ann.relations_after(RelationFilter::All, None).count(), 0);
    // What was refused then does not count against what is asked now.
    ann.act(&at(10), &actor("ann"), &act(3, UserAction::RequestFriend { user: user("bob"), text: words() }));
    carry(&mut ann, &mut bob, 11);
    let accepted = bob.act(&at(12), &actor("bob"), &act(4, UserAction::AcceptFriend { user: user("ann") }));
    assert_eq!(own(&accepted).value, RelationState::Friends as u64);
    carry(&mut bob, &mut ann, 13);
    assert_eq!(ann.relation(&user("bob")), RelationState::Friends);
}

#[test]
fn a_request_taken_back_is_not_accepted_into_a_request_of_the_other() {
    let (mut ann, mut bob) = (person("ann"), person("bob"));
    let text = Blob::default();
    ann.act(&at(2), &actor("ann"), &act(1, UserAction::RequestFriend { user: user("bob"), text }));
    carry(&mut ann, &mut bob, 3);
    // Ann takes it back while bob accepts.
    ann.act(&at(4), &actor("ann"), &act(2, UserAction::RemoveFriend { user: user("bob") }));
    bob.act(&at(4), &actor("bob"), &act(1, UserAction::AcceptFriend { user: user("ann") }));
    carry(&mut ann, &mut bob, 5);
    carry(&mut bob, &mut ann, 5);
    let both = (ann.relation(&user("bob")), bob.relation(&user("ann")));
    assert_eq!(both, (RelationState::None, RelationState::None));
}

#[test]
fn requests_of_blocked_users_and_beyond_the_bound_are_declined_on_the_spot() {
    let (mut ann, mut bob) = (person("ann"), person("bob"));
    bob.act(&at(2), &actor("bob"), &act(1, UserAction::Block { user: user("ann") }));
    let asks = |number, whom: &str| {
        act(number, UserAction::RequestFriend { user: user(whom), text: Blob::default() })
    };
    ann.act(&at(3), &actor("ann"), &asks(1, "bob"));
    carry(&mut ann, &mut bob, 4);
    assert_eq!(bob.relations_after(RelationFilter::Requests, None).count(), 0, "bob is not bothered");
    carry(&mut bob, &mut ann, 5);
    assert_eq!(ann.relation(&user("bob")), RelationState::None);
    for n in 0..u64::from(BOUNDS.relations) {
        let name = format!("u{n}");
        let outcome = ann.act(&at(10 + n), &actor("ann"), &asks(2 + n, &name));
        assert_eq!(own(&outcome).value, RelationState::Requested as u64);
    }
    assert_eq!(code_of(&ann.act(&at(30), &actor("ann"), &asks(10, "u9"))), ErrorCode::RelationsFull);
    let arrived: Vec<_> = ann.pending_errands().map(|(key, errand)| (key.clone(), errand.version)).collect();
    ann.carried(&arrived);
    // Others may ask her all the same, so many at a time.
    for n in 0..=u64::from(ROOM.requests) {
        let mut eve = person(&format!("eve{n}"));
        let asker = eve.id().clone();
        eve.act(&at(31 + 3 * n), &actor(asker.as_str()), &asks(1, "ann"));
        carry(&mut eve, &mut ann, 32 + 3 * n);
        carry(&mut ann, &mut eve, 33 + 3 * n);
        let declined = n == u64::from(ROOM.requests);
        let expected = if declined { RelationState::None } else { RelationState::Requested };
        assert_eq!(eve.relation(&user("ann")), expected, "{n}");
    }
    assert_eq!((ann.live_relations, ann.asked), (BOUNDS.relations + ROOM.requests, ROOM.requests));
}

/// Whoever can make accounts may ask with all of them.
#[test]
fn requests_of_others_keep_nobody_from_blocking_or_asking() {
    let mut ann = person("ann");
    let wants = |version| Stance { version, wish: Wish::Ask, refuses_up_to: 0 };
    let pest = |n: u64| user(&format!("pest{n}"));
    let mut index = 1;
    let mut hears = |ann: &mut User, n: u64| {
        index += 1;
        ann.hear(&at(index), &pest(n), &wants(index), &Blob::default(), ROOM);
        ann.relation(&pest(n)) == RelationState::Asked
    };
    let heard = (0..100).filter(|n| hears(&mut ann, *n)).count();
    assert_eq!(heard as u32, ROOM.requests);
    // All that she may have of her own she may have still; blocking one that has asked makes room for another request.
    let mut number = 0;
    let mut does = |ann: &mut User, action: UserAction| {
        number += 1;
        ann.act(&at(200 + number), &actor("ann"), &act(number, action))
    };
    assert_eq!(own(&does(&mut ann, UserAction::Block { user: pest(0) })).value, RelationState::Asked as u64);
    for n in 200..u64::from(BOUNDS.relations) + 198 {
        own(&does(&mut ann, UserAction::Block { user: pest(n) }));
    }
    let ask = |whom: UserId| UserAction::RequestFriend { user: whom, text: Blob::default() };
    own(&does(&mut ann, ask(user("bob"))));
    let full = |outcome: Outcome| code_of(&outcome) == ErrorCode::RelationsFull;
    assert!(full(does(&mut ann, ask(user("cid")))), "as many of her own as she may have");
    assert!(full(does(&mut ann, UserAction::AcceptFriend { user: pest(1) })), "a friend is her own");
    let mut disk = Disk::default();
    ann.reflect(300);
    disk.write(ann.collect());
    let mut ann = User::load(&disk, &user("ann")).expect("rows");
    assert_eq!((ann.live_relations, ann.asked), (BOUNDS.relations + ROOM.requests - 1, ROOM.requests - 1));
    index = 400;
    let mut hears = |ann: &mut User, n: u64| {
        index += 1;
        ann.hear(&at(index), &pest(n), &wants(index), &Blob::default(), ROOM);
        ann.relation(&pest(n)) == RelationState::Asked
    };
    assert!(hears(&mut ann, 500) && !hears(&mut ann, 501), "one went from them to her own");
    // What she declines is over, and another may ask.
    own(&does(&mut ann, UserAction::DeclineFriend { user: pest(500) }));
    assert!(hears(&mut ann, 502));
}

#[test]
fn relations_that_are_over_do_not_pile_up() {
    let mut ann = person("ann");
    for n in 0..100u64 {
        let other = user(&format!("u{n:03}"));
        let at = |step| at(10 + 3 * n + step);
        ann.act(&at(0), &actor("ann"), &act(1 + 2 * n, UserAction::Block { user: other.clone() }));
        ann.act(&at(1), &actor("ann"), &act(2 + 2 * n, UserAction::Unblock { user: other.clone() }));
        let done: Vec<_> = ann.pending_errands().map(|(key, errand)| (key.clone(), errand.version)).collect();
        ann.carried(&done);
    }
    assert_eq!(ann.live_relations, 0);
    assert!(ann.relations.len() <= 17, "{}", ann.relations.len());
}

#[test]
fn a_barred_user_writes_nothing_whether_the_session_was_there_or_not() {
    let disk = Disk::default();
    let mut session = Session::new(pair("ann", "bob"));
    session.bar(&user("ann"), 5, true);
    session.reflect(1);
    assert!(session.is_something() && !session.exists());
    let refused = session.apply(&at(2), &LIMITS, &actor("bob"), 1, &text("hi"));
    let Some(Answer::Refused(error)) = &refused.answer else { panic!("refused") };
    assert_eq!((error.code, error.detail), (ErrorCode::RefusedByPeer, 0));
    assert!(!refused.parked && session.pending_intents().next().is_none(), "nothing comes to be");
    let mut rows = Disk::default();
    rows.write(session.collect());
    let mut session = Session::load(&rows, session.id()).expect("rows");
    // Who blocks may write.
    let hello = super::tests::apply(&mut session, &disk, &at(3), &actor("ann"), 1, &text("hello"));
    assert_eq!(seq_of(&hello), 1);
    let refused = session.apply(&at(4), &LIMITS, &actor("bob"), 1, &text("hi"));
    let Some(Answer::Refused(error)) = &refused.answer else { panic!("refused") };
    assert_eq!((error.code, error.detail), (ErrorCode::RefusedByPeer, 1), "the number is taken");
    session.bar(&user("ann"), 4, false);
    let still = session.apply(&at(5), &LIMITS, &actor("bob"), 2, &text("hi"));
    assert_eq!(code_of(&still), ErrorCode::RefusedByPeer, "an older errand comes late");
    session.bar(&user("ann"), 6, false);
    assert_eq!(seq_of(&session.apply(&at(6), &LIMITS, &actor("bob"), 3, &text("hi"))), 2);
    session.bar(&user("eve"), 9, true);
    assert_eq!(seq_of(&session.apply(&at(7), &LIMITS, &actor("bob"), 4, &text("hi"))), 3, "eve has no say");
}

#[test]
fn strangers_begin_no_session_where_they_are_not_wanted() {
    let mut ann = person("ann");
    ann.act(&at(2), &actor("ann"), &act(1, UserAction::SetStrangers { refuse: true }));
    let mut session = Session::new(pair("ann", "bob"));
    assert!(session.apply(&at(3), &LIMITS, &actor("bob"), 1, &text("hi")).parked);
    assert!(session.apply(&at(3), &LIMITS, &actor("ann"), 1, &text("oh")).parked);
    let intents: Vec<_> = session.pending_intents().collect();
    let to_ann = intents.iter().find(|intent| intent.user == user("ann")).expect("one for ann");
    assert_eq!(code_of(&ann.link(&to_ann.link, 9)), ErrorCode::RefusedByPeer);
    let refused = vec![(user("ann"), to_ann.link.version)];
    let given_up =
        session.unlinked(&at(4), &LIMITS, &refused, Unwanted::Stranger).given_up.expect("given up");
    assert_eq!(given_up.refusal.code, ErrorCode::RefusedByPeer);
    assert_eq!(given_up.of, Some(user("bob")), "ann's own message is judged anew");
    // Ann begins it herself.
    assert!(session.apply(&at(5), &LIMITS, &actor("ann"), 1, &text("oh")).parked);
    let mine = session.pending_intents().find(|intent| intent.user == user("ann")).expect("one");
    assert_eq!(ann.link(&mine.link, 9).answer, Some(Answer::Done));
    session.linked(&at(6), &arrived(&session));
    assert_eq!(seq_of(&session.apply(&at(7), &LIMITS, &actor("ann"), 1, &text("oh"))), 1);
    assert_eq!(seq_of(&session.apply(&at(8), &LIMITS, &actor("bob"), 1, &text("hi"))), 2, "no stranger now");
}

#[test]
fn friends_begin_a_session_where_strangers_do_not() {
    let (mut ann, mut bob) = (person("ann"), person("bob"));
    ann.act(&at(2), &actor("ann"), &act(1, UserAction::SetStrangers { refuse: true }));
    let text = Blob::default();
    bob.act(&at(3), &actor("bob"), &act(1, UserAction::RequestFriend { user: user("ann"), text }));
    carry(&mut bob, &mut ann, 4);
    let link = |version| Link {
        session: pair("ann", "bob"),
        version,
        member: true,
        joined_seq: 1,
        from: Some(user("bob")),
    };
    assert_eq!(code_of(&ann.link(&link(5), 9)), ErrorCode::RefusedByPeer, "asking is not being one");
    ann.act(&at(6), &actor("ann"), &act(2, UserAction::AcceptFriend { user: user("bob") }));
    assert_eq!(ann.link(&link(7), 9).answer, Some(Answer::Done));
}

fn says_of(nonce: u64, platform: &str, issued_ms: Option<u64>) -> Introduction {
    Introduction { platform: Blob::from(platform), issued_ms, ..says(nonce) }
}

#[test]
fn devices_beyond_a_bound_are_refused_or_end_the_least_recently_used() {
    let bounds = |refuse| DeviceBounds { most: 3, most_of_platform: 2, refuse };
    let mut ann = User::new(user("ann"));
    for (n, platform) in [(1, "ios"), (2, "ios"), (3, "web")] {
        ann.register(&device(&format!("d{n}")), &says_of(n, platform, None), &bounds(true), n);
    }
    let refused = ann.register(&device("d4"), &says_of(4, "ios", None), &bounds(true), 4);
    assert_eq!(code_of(&refused), ErrorCode::TooManyDevices);
    let ended = ann.register(&device("d4"), &says_of(4, "ios", None), &bounds(false), 5);
    let notices: Vec<_> =
        ended.user_frames.iter().map(|frame| read_end_notice(frame).expect("a notice")).collect();
    assert_eq!(notices, [(device("d1"), 1)], "the oldest of that platform, and that is enough");
    let ended = ann.register(&device("d5"), &says_of(5, "mac", None), &bounds(false), 6);
    let notices: Vec<_> =
        ended.user_frames.iter().map(|frame| read_end_notice(frame).expect("a notice")).collect();
    assert_eq!(notices, [(device("d2"), 2)]);
    // Who is registered registers anew without anybody leaving.
    let anew = ann.register(&device("d5"), &says_of(6, "mac", None), &bounds(true), 7);
    assert_eq!((anew.answer, anew.user_frames.len()), (Some(Answer::Epoch(6)), 0));
}

#[test]
fn a_device_that_is_in_use_does_not_make_room_for_another() {
    let bounds = DeviceBounds { most: 2, most_of_platform: 2, refuse: false };
    let mut ann = User::new(user("ann"));
    for (n, name) in [(1, "phone"), (2, "tablet")] {
        ann.register(&device(name), &says_of(n, "any", None), &bounds, n);
    }
    ann.delivered((&device("phone"), 2), &[], 40);
    assert_eq!(ann.last_used_ms(), 2, "an epoch that is not its own says nothing");
    ann.delivered((&device("phone"), 1), &[], 30);
    assert_eq!(ann.last_used_ms(), 30);
    let ended = ann.register(&device("laptop"), &says_of(3, "any", None), &bounds, 31);
    let notices: Vec<_> =
        ended.user_frames.iter().map(|frame| read_end_notice(frame).expect("a notice")).collect();
    assert_eq!(notices, [(device("tablet"), 2)], "it registered later, and lies in a drawer");
}

#[test]
fn an_ended_device_needs_a_later_token() {
    let mut ann = person("ann");
    let bounds = DeviceBounds::default();
    ann.register(&device("pad"), &says_of(7, "ios", Some(1_000)), &bounds, 3);
    let mut later = at(4);
    later.time_ms = 5_000;
    let ended = ann.act(&later, &actor("ann"), &act(1, UserAction::EndDevice { device: device("pad") }));
    assert_eq!(own(&ended).value, 1);
    let notice = read_end_notice(&ended.user_frames[0]).expect("a notice");
    assert_eq!((notice, ann.epoch(&device("pad"))), ((device("pad"), 2), 0));
    let mut disk = Disk::default();
    ann.reflect(4);
    disk.write(ann.collect());
    let mut ann = User::load(&disk, &user("ann")).expect("rows");
    for issued in [Some(0), Some(5_000)] {
        let refused = ann.register(&device("pad"), &says_of(8, "ios", issued), &bounds, 6_000);
        assert_eq!(code_of(&refused), ErrorCode::DeviceEnded);
    }
    let back = ann.register(&device("pad"), &says_of(8, "ios", Some(6_000)), &bounds, 6_000);
    assert_eq!(back.answer, Some(Answer::Epoch(3)));
    let gone = ann.act(&at(9), &actor("ann"), &act(2, UserAction::EndDevice { device: device("none") }));
    assert_eq!((own(&gone).value, gone.user_frames.len()), (0, 0), "it is not registered, or no more");
    let refused = ann.register(&device("none"), &says_of(9, "ios", Some(0)), &bounds, 7_000);
    assert_eq!(code_of(&refused), ErrorCode::DeviceEnded, "and its token is refused all the same");
    for n in 0..MAX_ENDED as u64 + 9 {
        ann.end(&device(&format!("old-{n}")), 10_000 + n);
    }
    assert_eq!(ann.ended.len(), MAX_ENDED);
}

fn to(session: &SessionId, seq: u64, count: u64) -> ReadTo {
    ReadTo { session: session.clone(), seq, count, burns: false }
}

/// What waits to be read hears of it by an errand, which the answer waits for, until it has arrived.
#[test]
fn reading_leaves_an_errand_where_messages_wait_for_it() {
    let (mut ann, team) = (person("ann"), SessionId::group(GroupId::new("team").expect("a name")));
    let session = pair("ann", "bob");
    for session in [&session, &team] {
        ann.link(&Link { session: session.clone(), version: 1, member: true, joined_seq: 1, from: None }, 9);
    }
    let burning = |session: &SessionId, seq| ReadTo { burns: true, ..to(session, seq, seq) };
    assert!(ann.read(&at(2), &to(&session, 3, 3)).gate.is_none(), "nothing waits");
    assert!(ann.read(&at(3), &burning(&team, 3)).gate.is_none(), "nothing burns in a group");
    let read = ann.read(&at(4), &burning(&session, 5));
    let gate = read.gate.expect("the answer waits");
    assert!(read.errands && !ann.gate_open(&gate));
    // Read again: the cursor stays, and the session is told again, of what was asked.
    let part = PartOf::Keyed(rookery_wire::RequestKey::new("all").expect("a key"));
    let again = ann.read_part(&at(5), &part, &[burning(&session, 7), burning(&session, 5)]);
    let later = again.gate.expect("waits as well");
    let pending: Vec<_> =
        ann.pending_errands().map(|(key, errand)| (key.clone(), errand.says.clone())).collect();
    let key = (ErrandKind::Burn, user("bob"));
    assert_eq!(pending, [(key.clone(), Says::Burn(7))], "the later one took the place of the one before");
    ann.carried(&[(key.clone(), gate.upto)]);
    assert!(!ann.gate_open(&later), "an older one has arrived");
    ann.carried(&[(key, later.upto)]);
    assert!(ann.gate_open(&gate) && ann.gate_open(&later));
}

#[test]
fn reading_ends_the_mark_of_unread_on_all_devices() {
    let mut ann = person("ann");
    let session = pair("ann", "bob");
    ann.link(&Link { session: session.clone(), version: 1, member: true, joined_seq: 1, from: None }, 9);
    let mark = UserAction::SetSession { session: session.clone(), setting: SessionSetting::MarkUnread(true) };
    ann.act(&at(2), &actor("ann"), &act(1, mark));
    let read = ann.read(&at(2), &to(&session, 4, 3));
    assert_eq!(kinds(&read), [Kind::ReadMark as u8, Kind::SessionSettings as u8]);
    assert!(ann.extras(&session).is_none(), "nothing is set any more, and nothing is kept");
    let heads = Given::Heads { cursors: vec![to(&session, 9, 7), to(&pair("ann", "eve"), 9, 9)], unread: 4 };
    let all = UserAct { given: heads, ..act(2, UserAction::ReadAll) };
    assert_eq!(own(&ann.act(&at(3), &actor("ann"), &all)).value, 4);
    let (_, link) = ann.sessions().next().expect("the session");
    assert_eq!((link.read_seq, link.read_count), (9, 7));
}

#[test]
fn deleted_ranges_are_bounded_and_clearing_makes_room() {
    let mut ann = person("ann");
    let session = pair("ann", "bob");
    ann.link(&Link { session: session.clone(), version: 1, member: true, joined_seq: 1, from: None }, 9);
    let delete = |number: u64, seq: u64| UserAct {
        given: Given::Range { before: seq - 1, count: seq },
        ..act(number, UserAction::DeleteMessages { session: session.clone(), from_seq: seq, to_seq: seq })
    };
    for n in 1..=3 {
        assert_eq!(own(&ann.act(&at(1 + n), &actor("ann"), &delete(n, 10 * n))).value, 1);
    }
    let full = ann.act(&at(9), &actor("ann"), &delete(4, 40));
    assert_eq!(code_of(&full), ErrorCode::TooManyDeletions);
    assert_eq!(own(&ann.act(&at(9), &actor("ann"), &delete(5, 31))).value, 1, "next to one it needs no room");
    let clear = UserAct {
        given: Given::Count(25),
        ..act(6, UserAction::ClearSession { session: session.clone(), seq: 25 })
    };
    ann.act(&at(10), &actor("ann"), &clear);
    assert_eq!(own(&ann.act(&at(11), &actor("ann"), &delete(7, 40))).value, 1);
    let settings = ann.extras(&session).expect("set").settings();
    assert_eq!((settings.cleared_seq, settings.deleted), (25, vec![(30, 31), (40, 40)]));
}

#[test]
fn an_errand_is_replaced_by_a_newer_one_and_cleared_by_its_own_version() {
    let mut ann = person("ann");
    let bob = || user("bob");
    let session = pair("ann", "bob");
    ann.link(&Link { session, version: 1, member: true, joined_seq: 1, from: None }, 9);
    ann.act(&at(2), &actor("ann"), &act(1, UserAction::Block { user: bob() }));
    let key = (ErrandKind::Bar, bob());
    let first = ann.pending_errands().next().expect("one").1.version;
    ann.act(&at(3), &actor("ann"), &act(2, UserAction::Unblock { user: bob() }));
    ann.carried(&[(key.clone(), first)]);
    let (_, pending) = ann.pending_errands().next().expect("the newer one stays");
    assert_eq!(pending.says, Says::Bar(false));
    let version = pending.version;
    // A retry waits for it too, and who starts from rows knows whose errands are to be carried.
    let again = ann.act(&at(4), &actor("ann"), &act(2, UserAction::Unblock { user: bob() }));
    assert!(again.gate.as_ref().is_some_and(|gate| !ann.gate_open(gate)), "{again:?}");
    let mut disk = Disk::default();
    ann.reflect(4);
    disk.write(ann.collect());
    assert_eq!(all_of(&ERRANDS, &disk), [user("ann")]);
    let mut ann = User::load(&disk, &user("ann")).expect("rows");
    assert!(ann.carried(&[(key, version)]).gates_moved);
    assert!(ann.pending_errands().next().is_none() && again.gate.is_some_and(|gate| ann.gate_open(&gate)));
    ann.reflect(5);
    disk.write(ann.collect());
    assert!(all_of(&ERRANDS, &disk).is_empty());
}
