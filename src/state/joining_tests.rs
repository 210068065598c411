//! Coming into a group by oneself: every rule, its refusal, and the races in which order decides.

use bytes::Bytes;
use rookery_wire::codec::{Blob, decode};
use rookery_wire::join::{Join, ListRequests, MAX_CODE_MS, MAX_CODES, Outside};
use rookery_wire::{
    ErrorCode, GroupAction, MemberRole, Policy, Record, RecordKind, Retention, SessionId, Signal, Who,
};

use super::command::{Act, ChangeKind};
use super::doors::CodeHash;
use super::tests::{
    Disk, LIMITS, actor, apply, arrived, at, change, code_of, group, last_number, new_group, seq_of, text,
    user,
};
use super::{About, Actor, Answer, At, Gate, Outcome, Session, Unwanted};

/// Milliseconds after which one who was declined asks again.
const AGAIN_MS: u64 = 100;

/// A group of ann, who owns it, and bob.
pub(super) struct Play {
    pub(super) session: Session,
    disk: Disk,
    pub(super) index: u64,
    /// Added to the time of the entries.
    later_ms: u64,
}

impl Play {
    pub(super) fn with(join: Join) -> Self {
        let disk = Disk::default();
        let session = new_group(&disk);
        let mut play = Self { session, disk, index: 1, later_ms: 0 };
        play.can(
            "ann",
            &act(GroupAction::SetPolicy(Policy { join, invite: Who::Admins, ..Policy::default() })),
        );
        play
    }

    fn by(&mut self, who: &Actor, act: &Act) -> Outcome {
        self.index += 1;
        let number = last_number(&self.session, &self.disk, who) + 1;
        let at = self.now();
        apply(&mut self.session, &self.disk, &at, who, number, act)
    }

    pub(super) fn now(&self) -> At {
        At { time_ms: at(self.index).time_ms + self.later_ms, ..at(self.index) }
    }

    fn does(&mut self, who: &str, act: &Act) -> Outcome {
        self.by(&actor(who), act)
    }

    pub(super) fn can(&mut self, who: &str, act: &Act) -> u64 {
        seq_of(&self.does(who, act))
    }

    /// It must be refused so; and whether the number was taken.
    fn cannot(&mut self, who: &str, act: &Act) -> (ErrorCode, bool) {
        let number = last_number(&self.session, &self.disk, &actor(who));
        let seq = self.session.last_seq();
        let outcome = self.does(who, act);
        let Some(Answer::Refused(refusal)) = &outcome.answer else { panic!("{who} could: {outcome:?}") };
        let taken = refusal.takes_client_seq();
        let last = last_number(&self.session, &self.disk, &actor(who));
        assert_eq!((last, self.session.last_seq()), (number + u64::from(taken), seq), "{refusal}");
        (refusal.code, taken)
    }

    fn is_in(&self, who: &str) -> bool {
        self.session.role_of(&user(who)).is_some()
    }

    fn outside(&self, which: Outside) -> Vec<String> {
        self.session.outside_after(which, None).map(|line| line.user.to_string()).collect()
    }

    fn asking(&self) -> Vec<String> {
        self.outside(Outside::Asking)
    }

    /// The record at this seq.
    fn told(&self, seq: u64) -> Record {
        decode(self.session.record(seq).expect("in the ring")).expect("a record")
    }

    fn action(&self, seq: u64) -> GroupAction {
        let record = self.told(seq);
        assert_eq!(record.kind, RecordKind::GROUP_CHANGED);
        decode(&record.content.0).expect("an action")
    }

    pub(super) fn makes(&mut self, who: &str, hash: CodeHash, until_ms: u64, uses: u32) -> u64 {
        let hash = Blob(Bytes::copy_from_slice(&hash));
        self.can(who, &act(GroupAction::MakeCode { hash, until_ms, uses }))
    }

    /// Written as rows and read from them.
    pub(super) fn reload(&mut self) {
        self.session.reflect(self.index);
        self.disk.write(self.session.collect());
        self.session.written(&LIMITS);
        assert!(self.session.is_clean());
        self.session = Session::load(&self.disk, &group()).expect("rows");
    }
}

pub(super) fn act(action: GroupAction) -> Act {
    Act::Manage { action }
}

pub(super) fn join(code: Option<CodeHash>) -> Act {
    Act::Join { code, text: Blob::from("it is me"), most: 5, again_ms: AGAIN_MS }
}

fn answer(who: &str, accept: bool) -> Act {
    Act::Answer { user: user(who), accept, most: 5 }
}

fn bar(who: &str, on: bool) -> Act {
    act(GroupAction::Bar { user: user(who), on })
}

#[test]
fn who_joins_an_open_group_does_so_as_if_added() {
    let mut play = Play::with(Join::Open);
    let joined = play.does("eve", &join(None));
    let seq = seq_of(&joined);
    assert_eq!((joined.added.clone(), joined.intents.len()), (vec![user("eve")], 1));
    assert!(
        joined.gate.as_ref().is_some_and(|gate| !play.session.gate_open(gate)),
        "her list has to have it first"
    );
    let record = play.told(seq);
    assert_eq!((record.kind, record.sender), (RecordKind::MEMBERS_ADDED, user("eve")));
    let signal: Signal = decode(&record.content.0).expect("a signal");
    assert_eq!(signal.users, [user("eve")]);
    assert_eq!(play.session.role_of(&user("eve")), Some(MemberRole::Member));
    // The same number again waits for the list as the first did.
    play.index += 1;
    let again = play.now();
    let again = apply(&mut play.session, &play.disk, &again, &actor("eve"), 1, &join(None));
    assert_eq!(seq_of(&again), seq);
    assert_eq!(again.gate.map(|gate| gate.about), Some(About::Lists(vec![user("eve")])));
    assert_eq!(play.can("eve", &text("hello")), seq + 1);
}

/// Its ACK says nothing of what its device has, so the device is pushed the record with which it came.
#[test]
fn the_device_that_joins_is_pushed_the_record_of_its_joining() {
    for way in [Join::Open, Join::Request] {
        let mut play = Play::with(way);
        let came = play.does("eve", &join(None)).published.expect("a record");
        let eve = actor("eve");
        assert_ne!((&came.from.1, came.from.2), (&eve.device, eve.epoch), "it is nobody's own");
        assert_eq!(play.told(came.seq).device, eve.device, "the record says who sent it");
    }
}

/// Else one who may not write would make records at will, each pushed to every member.
#[test]
fn a_member_does_not_join_again() {
    let mut play = Play::with(Join::Open);
    play.makes("ann", [1; 32], 0, 3);
    play.can("ann", &act(GroupAction::MuteAll { on: true }));
    for code in [None, Some([1; 32])] {
        assert_eq!(play.cannot("bob", &join(code)), (ErrorCode::NotAllowed, true));
    }
    assert_eq!(play.session.codes_after(0).next().expect("the code").used, 0);
}

#[test]
fn who_joins_waits_for_no_list_but_its_own() {
    let mut play = Play::with(Join::Open);
    play.session.linked(&play.now(), &arrived(&play.session));
    play.can("ann", &change(ChangeKind::Add, &["dan"]));
    let (number, joined) = (1, play.does("eve", &join(None)));
    let gate = joined.gate.expect("a gate");
    assert!(!play.session.gate_open(&gate));
    let of_eve: Vec<_> = arrived(&play.session).into_iter().filter(|(who, ..)| *who == user("eve")).collect();
    play.session.linked(&play.now(), &of_eve);
    assert!(play.session.gate_open(&gate), "dan's has not answered");
    assert_eq!(play.session.pending_intents().count(), 1);
    play.index += 1;
    let now = play.now();
    let again = apply(&mut play.session, &play.disk, &now, &actor("eve"), number, &join(None));
    let gate = again.gate.expect("a gate");
    assert!(play.session.gate_open(&gate));
}

#[test]
fn nobody_comes_by_itself_into_a_group_that_all_have_left() {
    let mut play = Play::with(Join::Open);
    play.makes("ann", [1; 32], 0, 9);
    for who in ["ann", "bob"] {
        play.can(who, &change(ChangeKind::Remove, &[who]));
    }
    for code in [None, Some([1; 32])] {
        assert_eq!(play.cannot("eve", &join(code)), (ErrorCode::JoinClosed, false), "she would own nothing");
    }
    let shop = Actor { service: true, ..actor("shop") };
    seq_of(&play.by(&Actor { on_behalf_of: Some(user("eve")), ..shop.clone() }, &join(None)));
    seq_of(&play.by(&shop, &act(GroupAction::HandOver { user: user("eve") })));
    assert_eq!(play.session.role_of(&user("eve")), Some(MemberRole::Owner));
    play.can("dan", &join(None));
}

/// Who has asked once is still one of whom no more is kept, however often it tries.
#[test]
fn of_what_one_tries_in_vain_from_outside_nothing_is_kept() {
    let mut play = Play::with(Join::Request);
    play.can("eve", &join(None));
    play.can("bob", &change(ChangeKind::Remove, &["bob"]));
    play.reload();
    // The head says up to where the log is in.
    let rows = |disk: &Disk| disk.all_but(super::key::letter::HEAD);
    let before = rows(&play.disk);
    for n in 0..20u8 {
        for who in ["eve", "bob"] {
            assert!(!play.cannot(who, &join(Some([n; 32]))).1);
        }
        assert_eq!(play.cannot("eve", &join(None)), (ErrorCode::AskedLately, false));
        assert_eq!(play.cannot("eve", &text("let me in")), (ErrorCode::NotMember, false));
        assert_eq!(play.cannot("bob", &answer("bob", false)), (ErrorCode::NotMember, false));
        let other = Actor { epoch: 2 + u32::from(n), ..actor("eve") };
        assert_eq!(code_of(&play.by(&other, &join(None))), ErrorCode::AskedLately);
    }
    play.reload();
    assert_eq!(rows(&play.disk), before);
}

#[test]
fn who_asks_sees_its_own_request_and_no_other() {
    let mut play = Play::with(Join::Request);
    let asking = |which, after: Option<&str>| ListRequests {
        session: group(),
        which,
        after: after.map(user),
        limit: 1,
    };
    let seen = |play: &Play, who: &str, list: ListRequests| {
        let lines = play.session.seen_from_outside(Some(&user(who)), &list)?;
        Some(lines.into_iter().map(|line| (line.user.to_string(), line.text)).collect::<Vec<_>>())
    };
    play.can("dan", &join(None));
    play.can("eve", &join(None));
    let own = vec![("eve".to_owned(), Blob::from("it is me"))];
    assert_eq!(seen(&play, "eve", asking(Outside::Asking, None)), Some(own));
    assert_eq!(seen(&play, "eve", asking(Outside::Asking, Some("eve"))), Some(Vec::new()));
    assert_eq!(seen(&play, "fay", asking(Outside::Asking, None)), Some(Vec::new()));
    // Members and services see what they may, and nobody else who is kept out.
    assert_eq!(seen(&play, "bob", asking(Outside::Asking, None)), None);
    assert_eq!(play.session.seen_from_outside(None, &asking(Outside::Asking, None)), None);
    assert_eq!(seen(&play, "eve", asking(Outside::Barred, None)), None);
    play.can("ann", &answer("eve", false));
    assert_eq!(seen(&play, "eve", asking(Outside::Asking, None)), Some(Vec::new()), "she was declined");
    play.can("ann", &act(GroupAction::Dissolve));
    assert_eq!(seen(&play, "dan", asking(Outside::Asking, None)), None);
}

#[test]
fn a_closed_group_takes_nobody_who_comes_by_itself_and_keeps_nothing_of_him() {
    let mut play = Play::with(Join::Closed);
    assert_eq!(play.cannot("eve", &join(None)), (ErrorCode::JoinClosed, false));
    assert_eq!(play.cannot("eve", &join(Some([9; 32]))), (ErrorCode::CodeUnknown, false));
    assert_eq!(play.cannot("eve", &answer("eve", false)), (ErrorCode::NotMember, false));
    assert!(!play.session.senders.contains_key(&super::session::sender_key(&actor("eve"))));
    // Nor of one who was a member once, though that has numbers here for ever.
    play.can("bob", &change(ChangeKind::Remove, &["bob"]));
    assert_eq!(play.cannot("bob", &join(None)), (ErrorCode::JoinClosed, false));
    assert_eq!(play.cannot("bob", &text("let me in")), (ErrorCode::NotMember, true));
    let pair = SessionId::direct(&user("ann"), &user("bob")).expect("two users");
    let mut pair = Session::new(pair);
    apply(&mut pair, &Disk::default(), &at(1), &actor("ann"), 1, &text("hi"));
    let refused = apply(&mut pair, &Disk::default(), &at(2), &actor("eve"), 1, &join(None));
    assert_eq!(code_of(&refused), ErrorCode::NotAllowed);
}

#[test]
fn a_request_is_a_signal_without_its_text_and_waits_for_an_answer() {
    let mut play = Play::with(Join::Request);
    let asked = play.does("eve", &join(None));
    assert!(asked.intents.is_empty() && asked.gate.is_none() && asked.added.is_empty());
    let seq = seq_of(&asked);
    assert_eq!(
        play.action(seq),
        GroupAction::Asked { user: user("eve") },
        "the text is for those who answer"
    );
    play.reload();
    let line = play.session.outside_after(Outside::Asking, None).next().expect("one who asks");
    assert_eq!((line.user, line.text), (user("eve"), Blob::from("it is me")));
    assert!(!play.is_in("eve"));
    // Asked is asked.
    assert_eq!(play.cannot("eve", &join(None)), (ErrorCode::AskedLately, false));
    assert_eq!(play.cannot("bob", &answer("eve", true)), (ErrorCode::NotAllowed, true));
    let seen = |who: &str| play.session.may_see_doors(Some(&user(who))).is_ok();
    assert!(seen("ann") && !seen("bob") && !seen("eve") && play.session.may_see_doors(None).is_ok());
    let accepted = play.does("ann", &answer("eve", true));
    assert_eq!((accepted.added.clone(), accepted.gate.is_some()), (vec![user("eve")], true));
    assert_eq!(play.told(seq_of(&accepted)).kind, RecordKind::MEMBERS_ADDED);
    assert!(play.asking().is_empty());
    play.reload();
    assert!(play.is_in("eve") && play.asking().is_empty());
}

#[test]
fn who_was_declined_or_took_its_request_back_asks_again_only_later() {
    let mut play = Play::with(Join::Request);
    for (who, by) in [("eve", "ann"), ("dan", "dan")] {
        play.can(who, &join(None));
        let seq = play.can(by, &answer(who, false));
        assert_eq!(play.action(seq), GroupAction::Answer { user: user(who), accept: false });
        let since = play.told(seq).time_ms;
        play.reload();
        // A repeat under the same number is told the same.
        for _ in 0..2 {
            let refused = play.does(who, &join(None));
            let Some(Answer::Refused(refusal)) = refused.answer else { panic!("{who} asked again") };
            assert_eq!((refusal.code, refusal.detail), (ErrorCode::AskedLately, since + AGAIN_MS));
            assert!(!refusal.takes_client_seq());
        }
        play.later_ms += AGAIN_MS;
        play.can(who, &join(None));
        assert_eq!(play.asking(), [who]);
        play.can("ann", &answer(who, true));
    }
}

#[test]
fn order_decides_between_a_request_and_what_becomes_of_it() {
    // Accepted, then taken back: a member does not take anything back.
    let mut play = Play::with(Join::Request);
    play.can("eve", &join(None));
    play.can("ann", &answer("eve", true));
    assert_eq!(play.cannot("eve", &answer("eve", false)).0, ErrorCode::NotAllowed);
    assert_eq!(play.cannot("ann", &answer("eve", true)).0, ErrorCode::NotMember);
    // Taken back, then accepted.
    play.can("dan", &join(None));
    play.can("dan", &answer("dan", false));
    assert_eq!(play.cannot("ann", &answer("dan", true)), (ErrorCode::NotMember, true));
    assert!(!play.is_in("dan"));
    // Added by somebody, or let in by a code, while the request waits: there is nothing to answer.
    play.can("cid", &join(None));
    play.can("ann", &change(ChangeKind::Add, &["cid"]));
    assert_eq!(play.cannot("ann", &answer("cid", false)).0, ErrorCode::NotMember);
    play.can("ann", &change(ChangeKind::Remove, &["cid"]));
    play.can("cid", &join(None));
    play.makes("ann", [1; 32], 0, 1);
    play.can("cid", &join(Some([1; 32])));
    assert!(play.is_in("cid") && play.asking().is_empty());
    // The group is full when the answer comes; the request waits on.
    play.can("fay", &join(None));
    play.can("ann", &change(ChangeKind::Add, &["gil"]));
    assert_eq!(play.cannot("ann", &answer("fay", true)).0, ErrorCode::GroupFull);
    assert_eq!(play.asking(), ["fay"]);
    // The end.
    play.can("ann", &act(GroupAction::Dissolve));
    assert_eq!(play.cannot("ann", &answer("fay", true)).0, ErrorCode::Dissolved);
    assert_eq!(play.cannot("hal", &join(None)), (ErrorCode::Dissolved, false));
    play.reload();
    assert!(play.asking().is_empty() && play.session.codes_after(0).next().is_none());
}

#[test]
fn a_code_lets_in_whatever_the_policy_says_until_it_is_over() {
    let mut play = Play::with(Join::Closed);
    assert_eq!(play.cannot("bob", &act(made([7; 32], 0, 1))).0, ErrorCode::NotAllowed);
    let over = made([8; 32], play.now().time_ms, 1);
    assert_eq!(play.cannot("ann", &act(over)), (ErrorCode::CodeExpired, true), "it would let nobody in");
    let now_ms = play.now().time_ms;
    let id = play.makes("ann", [1; 32], now_ms + 50, 2);
    let told = GroupAction::MakeCode { hash: Blob::default(), until_ms: now_ms + 50, uses: 2 };
    assert_eq!(play.action(id), told, "the hash is in no record");
    play.reload();
    play.can("eve", &join(Some([1; 32])));
    let used = |play: &Play| play.session.codes_after(0).map(|code| (code.id, code.used)).collect::<Vec<_>>();
    assert_eq!(used(&play), [(id, 1)]);
    play.can("dan", &join(Some([1; 32])));
    assert_eq!(play.cannot("fay", &join(Some([1; 32]))), (ErrorCode::CodeUsedUp, false));
    let other = play.makes("ann", [2; 32], play.now().time_ms + 50, 9);
    play.later_ms += 60;
    assert_eq!(play.cannot("fay", &join(Some([2; 32]))), (ErrorCode::CodeExpired, false));
    assert_eq!(play.cannot("fay", &join(Some([3; 32]))), (ErrorCode::CodeUnknown, false));
    play.reload();
    assert_eq!(used(&play), [(id, 2), (other, 0)]);
    // A good code is of no use where there is no room.
    let long = play.makes("ann", [4; 32], u64::MAX, 9);
    let until = play.session.codes_after(other).next().expect("the code").until_ms;
    assert_eq!((until, play.told(long).time_ms + MAX_CODE_MS), (until, until), "a year at most");
    play.can("ann", &change(ChangeKind::Add, &["gil"]));
    assert_eq!(play.cannot("fay", &join(Some([4; 32]))), (ErrorCode::NoRoom, false));
    // Its maker and admins take it back, and then it is unknown.
    assert_eq!(play.cannot("bob", &act(GroupAction::RevokeCode { id: long })).0, ErrorCode::NotAllowed);
    play.can("ann", &act(GroupAction::RevokeCode { id: long }));
    assert_eq!(play.cannot("ann", &act(GroupAction::RevokeCode { id: long })).0, ErrorCode::CodeUnknown);
    assert_eq!(play.cannot("fay", &join(Some([4; 32]))).0, ErrorCode::CodeUnknown);
}

fn made(hash: CodeHash, until_ms: u64, uses: u32) -> GroupAction {
    GroupAction::MakeCode { hash: Blob(Bytes::copy_from_slice(&hash)), until_ms, uses }
}

#[test]
fn codes_are_bounded_and_those_that_are_over_make_room() {
    let mut play = Play::with(Join::Closed);
    for n in 0..MAX_CODES {
        play.makes("ann", [n as u8; 32], 0, 1);
    }
    assert_eq!(play.cannot("ann", &act(made([99; 32], 0, 1))), (ErrorCode::NoRoom, true));
    play.can("eve", &join(Some([5; 32])));
    assert_eq!(play.cannot("dan", &join(Some([5; 32]))).0, ErrorCode::CodeUsedUp);
    play.makes("ann", [99; 32], 0, 1);
    assert_eq!(play.cannot("dan", &join(Some([5; 32]))).0, ErrorCode::CodeUnknown, "it made room");
    play.reload();
    assert_eq!(play.session.codes_after(0).count(), MAX_CODES);
    play.can("dan", &join(Some([99; 32])));
}

#[test]
fn who_is_kept_out_comes_by_no_way_until_an_admin_says_so() {
    let mut play = Play::with(Join::Open);
    play.can("ann", &change(ChangeKind::Add, &["eve"]));
    play.makes("ann", [1; 32], 0, 9);
    // To remove is not to keep out.
    play.can("ann", &change(ChangeKind::Remove, &["eve"]));
    play.can("eve", &join(Some([1; 32])));
    play.can("ann", &bar("eve", true));
    assert!(play.is_in("eve"), "who is a member stays one until it is removed");
    play.can("ann", &change(ChangeKind::Remove, &["eve"]));
    play.reload();
    assert_eq!(play.cannot("eve", &join(None)), (ErrorCode::Barred, false));
    assert_eq!(play.cannot("eve", &join(Some([1; 32]))).0, ErrorCode::Barred);
    assert_eq!(play.cannot("ann", &change(ChangeKind::Add, &["dan", "eve"])).0, ErrorCode::Barred);
    assert!(!play.is_in("dan"), "a change is carried out as a whole or not at all");
    assert_eq!(play.outside(Outside::Barred), ["eve"]);
    assert_eq!(play.cannot("bob", &bar("eve", false)).0, ErrorCode::NotAllowed);
    play.can("ann", &bar("eve", false));
    play.can("eve", &join(None));
    // A request goes with the bar.
    let policy = Policy { join: Join::Request, ..Policy::default() };
    play.can("ann", &act(GroupAction::SetPolicy(policy)));
    play.can("dan", &join(None));
    play.can("ann", &bar("dan", true));
    assert_eq!((play.asking().len(), play.cannot("ann", &answer("dan", true)).0), (0, ErrorCode::NotMember));
    let refused = play.cannot("dan", &join(None));
    assert_eq!(refused.0, ErrorCode::Barred);
    // Nobody keeps out who stands as high.
    play.can("ann", &act(GroupAction::SetRole { user: user("bob"), role: MemberRole::Admin }));
    assert_eq!(play.cannot("bob", &bar("ann", true)).0, ErrorCode::NotAllowed);
    assert_eq!(play.cannot("bob", &bar("bob", true)).0, ErrorCode::NotAllowed);
}

#[test]
fn requests_users_kept_out_and_the_memory_of_declines_are_bounded() {
    let mut play = Play::with(Join::Request);
    let most = rookery_wire::join::MAX_REQUESTS;
    for n in 0..most {
        play.can(&format!("u{n:04}"), &join(None));
    }
    assert_eq!(play.cannot("eve", &join(None)), (ErrorCode::NoRoom, false));
    for n in 0..most {
        play.can("ann", &answer(&format!("u{n:04}"), false));
    }
    play.can("eve", &join(None));
    play.can("ann", &answer("eve", false));
    // The one that was declined first has been forgotten, and asks again at once.
    let soon = Act::Join { code: None, text: Blob::default(), most: 5, again_ms: 1 << 40 };
    play.can("u0000", &soon);
    assert_eq!(play.cannot("u0001", &soon), (ErrorCode::AskedLately, false));
    for n in 0..rookery_wire::join::MAX_BARRED {
        play.can("ann", &bar(&format!("b{n:04}"), true));
    }
    assert_eq!(play.cannot("ann", &bar("one more", true)), (ErrorCode::NoRoom, true));
    play.can("ann", &bar("b0000", true));
    play.reload();
    assert_eq!(play.outside(Outside::Barred).len(), rookery_wire::join::MAX_BARRED);
}

/// One who comes though its own list is full leaves again, as one who is added does; nothing is left of it.
#[test]
fn a_list_that_is_full_lets_nobody_stay() {
    let mut play = Play::with(Join::Request);
    play.can("eve", &join(None));
    play.session.linked(&play.now(), &arrived(&play.session));
    play.can("ann", &answer("eve", true));
    let refused: Vec<_> =
        play.session.pending_intents().map(|intent| (intent.user, intent.link.version)).collect();
    assert_eq!(refused.len(), 1);
    play.index += 1;
    let at = play.now();
    let left = play.session.unlinked(&at, &LIMITS, &refused, Unwanted::Full { most: 10 });
    assert!(
        left.gates_moved && left.removed == [user("eve")] && {
            play.session.gate_open(&Gate::by_now(refused[0].1, About::All))
        }
    );
    assert!(left.intents.iter().all(|intent| intent.user == user("eve") && !intent.link.member));
    play.session.linked(&at, &arrived(&play.session));
    assert!(!play.is_in("eve") && play.asking().is_empty());
    play.can("eve", &join(None));
    assert_eq!(play.asking(), ["eve"], "she was not declined");
}

/// Whose list is full has used nothing up; whose list has the group, or who leaves before that is known, has.
#[test]
fn a_full_list_gives_the_use_of_a_code_back() {
    let mut play = Play::with(Join::Closed);
    let id = play.makes("ann", [1; 32], u64::MAX, 1);
    let used = |play: &Play| play.session.codes_after(0).map(|code| code.used).collect::<Vec<_>>();
    let waiting = |play: &Play| {
        let of = play.session.pending_intents().map(|intent| (intent.user, intent.link.version));
        of.collect::<Vec<_>>()
    };
    let full = Unwanted::Full { most: 10 };
    play.session.linked(&play.now(), &arrived(&play.session));
    play.can("eve", &join(Some([1; 32])));
    assert_eq!(play.cannot("dan", &join(Some([1; 32]))).0, ErrorCode::CodeUsedUp);
    play.reload();
    let refused = waiting(&play);
    play.index += 1;
    assert_eq!(play.session.unlinked(&play.now(), &LIMITS, &refused, full).removed, [user("eve")]);
    assert_eq!(used(&play), [0]);
    play.reload();
    assert!(play.session.unlinked(&play.now(), &LIMITS, &refused, full).removed.is_empty());
    assert_eq!(used(&play), [0], "given back once");
    // Dan's list takes the group, and that stands.
    play.can("dan", &join(Some([1; 32])));
    let late = waiting(&play);
    play.session.linked(&play.now(), &arrived(&play.session));
    play.reload();
    play.session.unlinked(&play.now(), &LIMITS, &late, full);
    assert_eq!((used(&play), play.is_in("dan")), (vec![1], true));
    // Who leaves has used it; and of one that was taken back meanwhile nothing comes again.
    play.can("ann", &act(GroupAction::RevokeCode { id }));
    play.makes("ann", [2; 32], u64::MAX, 2);
    play.can("eve", &join(Some([2; 32])));
    play.can("eve", &change(ChangeKind::Remove, &["eve"]));
    let last = play.makes("ann", [3; 32], u64::MAX, 1);
    play.can("gil", &join(Some([3; 32])));
    play.can("ann", &act(GroupAction::RevokeCode { id: last }));
    let refused = waiting(&play);
    play.session.unlinked(&play.now(), &LIMITS, &refused, full);
    assert_eq!((used(&play), play.is_in("gil")), (vec![1], false));
    play.reload();
    assert_eq!(used(&play), [1]);
}

#[test]
fn the_strictest_wish_of_both_keeps_a_direct_session() {
    let id = SessionId::direct(&user("ann"), &user("bob")).expect("two users");
    let mut disk = Disk::default();
    let mut session = Session::new(id.clone());
    let mut index = 0;
    let mut does = |session: &mut Session, disk: &Disk, who: &Actor, act: &Act| {
        index += 1;
        let number = last_number(session, disk, who) + 1;
        apply(session, disk, &at(index), who, number, act)
    };
    let wish = |age_ms, count| act(GroupAction::SetRetention(Retention { age_ms, count }));
    seq_of(&does(&mut session, &disk, &actor("ann"), &text("hi")));
    let set = does(&mut session, &disk, &actor("ann"), &wish(5_000, 0));
    assert!(set.timers_moved && set.published.is_some(), "both sides are told by a signal");
    seq_of(&does(&mut session, &disk, &actor("bob"), &wish(9_000, 10)));
    assert_eq!(session.retention(), Retention { age_ms: 5_000, count: 10 });
    session.reflect(3);
    disk.write(session.collect());
    let mut session = Session::load(&disk, &id).expect("rows");
    seq_of(&does(&mut session, &disk, &actor("ann"), &wish(0, 0)));
    assert_eq!(session.retention(), Retention { age_ms: 9_000, count: 10 }, "bob's wish stands");
    assert_eq!(session.group_for(Some(&user("ann"))).retention.count, 10);
    let named = act(GroupAction::MuteAll { on: true });
    assert_eq!(code_of(&does(&mut session, &disk, &actor("bob"), &named)), ErrorCode::NotAllowed);
    let shop = Actor { service: true, ..actor("shop") };
    assert_eq!(code_of(&does(&mut session, &disk, &shop, &wish(1, 1))), ErrorCode::NotAllowed);
    let for_ann = Actor { on_behalf_of: Some(user("ann")), ..shop };
    seq_of(&does(&mut session, &disk, &for_ann, &wish(0, 3)));
    assert_eq!(session.retention(), Retention { age_ms: 9_000, count: 3 });
    // Who is blocked says nothing here any more.
    session.bar(&user("ann"), 1, true);
    assert_eq!(code_of(&does(&mut session, &disk, &actor("bob"), &wish(1, 1))), ErrorCode::RefusedByPeer);
    seq_of(&does(&mut session, &disk, &actor("ann"), &wish(4_000, 3)));
}
