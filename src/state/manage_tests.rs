//! Who may do what in a group: every rule, its refusal, and the races in which order decides.

use bytes::Bytes;
use rookery_wire::codec::{Blob, decode};
use rookery_wire::group::{MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES};
use rookery_wire::{
    AttributeKey, ErrorCode, GroupAction, MemberRole, Policy, Record, RecordKind, SessionId, Who,
};

use super::command::{Act, Actor, ChangeKind};
use super::tests::{
    Disk, LIMITS, actor, apply, arrived, at, change, code_of, group, new_group, seq_of, text, user,
};
use super::{Answer, At, Outcome, Session, Unwanted};

/// A group of ann, who owns it, bob and cid, and what each of them does next.
struct Play {
    session: Session,
    disk: Disk,
    index: u64,
}

impl Play {
    fn new() -> Self {
        let disk = Disk::default();
        let session = new_group(&disk);
        let mut play = Self { session, disk, index: 1 };
        play.does("ann", &change(ChangeKind::Add, &["cid"]));
        play
    }

    fn by(&mut self, who: &Actor, act: &Act) -> Outcome {
        self.index += 1;
        let number = self.session.last_number(&super::session::sender_key(who)) + 1;
        apply(&mut self.session, &self.disk, &at(self.index), who, number, act)
    }

    fn does(&mut self, who: &str, act: &Act) -> Outcome {
        self.by(&actor(who), act)
    }

    /// It must be stored.
    fn can(&mut self, who: &str, act: &Act) -> u64 {
        seq_of(&self.does(who, act))
    }

    /// It must be refused so, and the number must be used up.
    fn cannot(&mut self, who: &str, act: &Act) -> ErrorCode {
        let key = super::session::sender_key(&actor(who));
        let (number, seq) = (self.session.last_number(&key), self.session.last_seq());
        let outcome = self.does(who, act);
        let Some(Answer::Refused(refusal)) = &outcome.answer else { panic!("{who} could: {outcome:?}") };
        assert!(refusal.takes_client_seq(), "{refusal}");
        assert_eq!((self.session.last_number(&key), self.session.last_seq()), (number + 1, seq), "{refusal}");
        refusal.code
    }

    fn role(&self, who: &str) -> Option<MemberRole> {
        self.session.role_of(&user(who))
    }

    fn set(&mut self, policy: Policy) {
        self.can("ann", &act(GroupAction::SetPolicy(policy)));
    }
}

fn act(action: GroupAction) -> Act {
    Act::Manage { action }
}

fn role(who: &str, role: MemberRole) -> Act {
    act(GroupAction::SetRole { user: user(who), role })
}

fn admin(who: &str) -> Act {
    role(who, MemberRole::Admin)
}

fn mute(who: &str, until_ms: u64) -> Act {
    act(GroupAction::Mute { user: user(who), until_ms })
}

fn hand_over(who: &str) -> Act {
    act(GroupAction::HandOver { user: user(who) })
}

fn named(name: &str) -> Act {
    act(GroupAction::SetProfile { name: Some(Blob::from(name)), avatar: None })
}

fn attribute(key: &str, value: Option<&[u8]>) -> Act {
    let value = value.map(|value| Blob(Bytes::copy_from_slice(value)));
    act(GroupAction::SetAttribute { key: AttributeKey::new(key).expect("a key"), value })
}

fn dissolve() -> Act {
    act(GroupAction::Dissolve)
}

fn service() -> Actor {
    Actor { service: true, ..actor("shop") }
}

#[test]
fn a_change_is_a_signal_whose_content_is_the_action() {
    let mut play = Play::new();
    let seq = play.can("ann", &named("Crows"));
    let record: Record = decode(play.session.record(seq).expect("in the ring")).expect("a record");
    assert_eq!((record.kind, record.count), (RecordKind::GROUP_CHANGED, 0), "it does not count as unread");
    let action: GroupAction = decode(&record.content.0).expect("an action");
    assert_eq!(act(action), named("Crows"));
    assert_eq!(play.session.group_for(None).name, Blob::from("Crows"));
}

#[test]
fn the_profile_is_changed_by_whom_the_policy_lets() {
    let mut play = Play::new();
    assert_eq!(play.cannot("bob", &named("x")), ErrorCode::NotAllowed);
    assert_eq!(play.cannot("bob", &attribute("k", Some(b"v"))), ErrorCode::NotAllowed);
    play.can("ann", &admin("bob"));
    play.can("bob", &named("by an admin"));
    play.set(Policy { change: Who::All, ..Policy::default() });
    play.can("cid", &attribute("k", Some(b"v")));
    let avatar = act(GroupAction::SetProfile { name: None, avatar: Some(Blob::from("a picture")) });
    play.can("cid", &avatar);
    let seen = play.session.group_for(Some(&user("cid")));
    assert_eq!((seen.name, seen.avatar), (Blob::from("by an admin"), Blob::from("a picture")));
    assert_eq!((seen.owner, seen.role, seen.members), (Some(user("ann")), Some(MemberRole::Member), 3));
    assert_eq!(seen.attributes.len(), 1);
    play.can("cid", &attribute("k", None));
    assert!(play.session.group_for(None).attributes.is_empty());
    assert_eq!(code_of(&play.does("eve", &named("x"))), ErrorCode::NotMember);
}

#[test]
fn attributes_have_a_bound_in_number_and_in_bytes() {
    let mut play = Play::new();
    for n in 0..MAX_ATTRIBUTES {
        play.can("ann", &attribute(&format!("k{n}"), Some(b"v")));
    }
    assert_eq!(play.cannot("ann", &attribute("more", Some(b"v"))), ErrorCode::AttributesFull);
    play.can("ann", &attribute("k0", Some(b"another value for the same key")));
    play.can("ann", &attribute("k1", None));
    play.can("ann", &attribute("more", Some(b"v")));
    let value = vec![7; 1024];
    let fits = (0..MAX_ATTRIBUTES).filter(|n| {
        let outcome = play.does("ann", &attribute(&format!("k{}", n % 30 + 2), Some(&value)));
        matches!(outcome.answer, Some(Answer::Ack(_)))
    });
    let fits = fits.count();
    let stored = play.session.group_for(None).attributes;
    let bytes: usize = stored.iter().map(|(key, value)| key.as_str().len() + value.len()).sum();
    assert!((1..MAX_ATTRIBUTES).contains(&fits) && bytes <= MAX_ATTRIBUTE_BYTES, "{fits} fit, {bytes} bytes");
    let Some(Answer::Refused(refusal)) = play.does("ann", &attribute("new", Some(&value))).answer else {
        panic!("there is no room")
    };
    assert_eq!((refusal.code, refusal.detail), (ErrorCode::AttributesFull, MAX_ATTRIBUTES as u64));
}

#[test]
fn only_the_owner_sets_roles_and_hands_over() {
    let mut play = Play::new();
    assert_eq!(play.cannot("bob", &admin("cid")), ErrorCode::NotAllowed);
    play.can("ann", &admin("bob"));
    assert_eq!(play.role("bob"), Some(MemberRole::Admin));
    assert_eq!(play.cannot("bob", &admin("cid")), ErrorCode::NotAllowed);
    assert_eq!(play.cannot("bob", &hand_over("bob")), ErrorCode::NotAllowed);
    assert_eq!(play.cannot("bob", &act(GroupAction::SetPolicy(Policy::default()))), ErrorCode::NotAllowed);
    assert_eq!(play.cannot("ann", &role("cid", MemberRole::Owner)), ErrorCode::NotAllowed);
    assert_eq!(play.cannot("ann", &role("ann", MemberRole::Member)), ErrorCode::NotAllowed);
    assert_eq!(play.cannot("ann", &admin("eve")), ErrorCode::NotMember);
    assert_eq!(play.cannot("ann", &hand_over("eve")), ErrorCode::NotMember);
    play.can("ann", &hand_over("cid"));
    let roles = ["ann", "bob", "cid"].map(|name| play.role(name).expect("a member"));
    assert_eq!(roles, [MemberRole::Admin, MemberRole::Admin, MemberRole::Owner]);
    assert_eq!(play.cannot("ann", &admin("bob")), ErrorCode::NotAllowed, "not hers any more");
    play.can("cid", &role("ann", MemberRole::Member));
    assert_eq!(play.role("ann"), Some(MemberRole::Member));
    play.can("cid", &hand_over("cid"));
    assert_eq!(play.role("cid"), Some(MemberRole::Owner), "to itself changes nothing");
}

#[test]
fn an_admin_removes_members_and_neither_the_owner_nor_other_admins() {
    let mut play = Play::new();
    let remove = |names: &[&str]| change(ChangeKind::Remove, names);
    assert_eq!(play.cannot("cid", &remove(&["bob"])), ErrorCode::NotAllowed);
    play.can("ann", &admin("bob"));
    assert_eq!(play.cannot("bob", &remove(&["cid", "ann"])), ErrorCode::NotAllowed);
    play.can("ann", &admin("cid"));
    assert_eq!(play.cannot("bob", &remove(&["cid"])), ErrorCode::NotAllowed);
    play.can("ann", &role("cid", MemberRole::Member));
    play.can("bob", &remove(&["cid", "nobody"]));
    assert_eq!(play.role("cid"), None);
    play.can("bob", &remove(&["bob"]));
    play.can("ann", &change(ChangeKind::Add, &["bob"]));
    assert_eq!(play.role("bob"), Some(MemberRole::Member), "who left is no admin when it comes back");
}

#[test]
fn the_policy_says_who_writes_and_who_invites() {
    let mut play = Play::new();
    play.set(Policy { write: Who::Admins, invite: Who::Admins, ..Policy::default() });
    assert_eq!(play.cannot("bob", &text("hi")), ErrorCode::NotAllowed);
    assert_eq!(play.cannot("bob", &change(ChangeKind::Add, &["dan"])), ErrorCode::NotAllowed);
    let for_bob = Actor { on_behalf_of: Some(user("bob")), ..service() };
    assert_eq!(code_of(&play.by(&for_bob, &text("for bob"))), ErrorCode::NotAllowed);
    play.can("ann", &admin("bob"));
    play.can("bob", &text("hi"));
    play.can("bob", &change(ChangeKind::Add, &["dan"]));
    assert_eq!(play.cannot("dan", &text("hi")), ErrorCode::NotAllowed);
    play.can("dan", &change(ChangeKind::Remove, &["dan"]));
    play.set(Policy::default());
    play.can("cid", &text("hi"));
    play.can("cid", &change(ChangeKind::Add, &["dan"]));
}

#[test]
fn a_muted_member_writes_again_when_the_time_has_come() {
    let mut play = Play::new();
    // Entries are stamped 1000 + index.
    let until = 1000 + play.index + 4;
    play.can("ann", &mute("bob", until));
    let refused = play.does("bob", &text("1"));
    assert!(matches!(refused.answer, Some(Answer::Refused(refusal))
        if (refusal.code, refusal.detail) == (ErrorCode::Muted, until) && refusal.takes_client_seq()));
    play.can("cid", &text("not cid"));
    play.can("bob", &text("now"));
    play.can("ann", &mute("bob", u64::MAX));
    assert_eq!(play.cannot("bob", &text("2")), ErrorCode::Muted);
    play.can("ann", &mute("bob", 0));
    play.can("bob", &text("3"));
}

#[test]
fn mutes_go_from_above_to_below_and_outlive_leaving() {
    let mut play = Play::new();
    assert_eq!(play.cannot("bob", &mute("cid", u64::MAX)), ErrorCode::NotAllowed);
    play.can("ann", &admin("bob"));
    play.can("bob", &mute("cid", u64::MAX));
    assert_eq!(play.cannot("bob", &mute("ann", u64::MAX)), ErrorCode::NotAllowed);
    assert_eq!(play.cannot("bob", &mute("bob", 1)), ErrorCode::NotAllowed);
    assert_eq!(play.cannot("ann", &mute("ann", 1)), ErrorCode::NotAllowed);
    assert_eq!(play.cannot("bob", &mute("eve", 1)), ErrorCode::NotMember);
    play.can("cid", &change(ChangeKind::Remove, &["cid"]));
    play.can("bob", &change(ChangeKind::Add, &["cid"]));
    assert_eq!(play.cannot("cid", &text("back")), ErrorCode::Muted);
    play.can("ann", &mute("bob", u64::MAX));
    assert_eq!(play.cannot("bob", &text("an admin")), ErrorCode::Muted, "the owner mutes admins");
    let roles: Vec<_> = play.session.roles_after(None).map(|line| (line.user, line.role)).collect();
    assert_eq!(
        roles,
        [
            (user("ann"), MemberRole::Owner),
            (user("bob"), MemberRole::Admin),
            (user("cid"), MemberRole::Member)
        ]
    );
    play.can("ann", &hand_over("cid"));
    play.can("cid", &text("an owner is not muted"));
}

#[test]
fn mute_all_leaves_admins_and_the_owner_their_voice() {
    let mut play = Play::new();
    play.can("ann", &admin("bob"));
    assert_eq!(play.cannot("cid", &act(GroupAction::MuteAll { on: true })), ErrorCode::NotAllowed);
    play.can("bob", &act(GroupAction::MuteAll { on: true }));
    let refused = play.does("cid", &text("hi"));
    assert!(matches!(refused.answer, Some(Answer::Refused(refusal))
        if (refusal.code, refusal.detail) == (ErrorCode::Muted, 0)));
    play.can("ann", &text("hi"));
    play.can("bob", &text("hi"));
    let on_behalf = Actor { on_behalf_of: Some(user("cid")), ..service() };
    assert_eq!(code_of(&play.by(&on_behalf, &text("for cid"))), ErrorCode::Muted);
    seq_of(&play.by(&service(), &text("the system's own word")));
    play.can("bob", &act(GroupAction::MuteAll { on: false }));
    play.can("cid", &text("hi"));
}

#[test]
fn a_service_manages_like_an_owner_and_its_refusals_take_numbers() {
    let mut play = Play::new();
    seq_of(&play.by(&service(), &hand_over("bob")));
    assert_eq!(play.role("bob"), Some(MemberRole::Owner));
    seq_of(&play.by(&service(), &mute("ann", 9_999)));
    let refused = play.by(&service(), &mute("bob", 9_999));
    assert_eq!(code_of(&refused), ErrorCode::NotAllowed);
    let fresh = Actor { epoch: 2, ..service() };
    assert_eq!(code_of(&play.by(&fresh, &admin("nobody"))), ErrorCode::NotMember);
    assert_eq!(play.session.last_number(&super::session::sender_key(&fresh)), 1);
}

#[test]
fn retries_get_the_first_answer_whatever_has_changed_since() {
    let mut play = Play::new();
    let Play { session, disk, index } = &mut play;
    let mut tries = |who: &str, number, act: &Act| {
        *index += 1;
        apply(session, disk, &at(*index), &actor(who), number, act)
    };
    let refused = tries("bob", 1, &named("x"));
    assert_eq!(code_of(&refused), ErrorCode::NotAllowed);
    let made = tries("ann", 3, &admin("bob"));
    assert_eq!(tries("ann", 3, &admin("bob")).answer, made.answer);
    assert_eq!(code_of(&tries("bob", 1, &named("x"))), ErrorCode::NotAllowed, "an admin by now");
    assert_eq!(code_of(&tries("bob", 1, &named("y"))), ErrorCode::ClientSeqReused);
    assert_eq!(code_of(&tries("ann", 3, &text("x"))), ErrorCode::ClientSeqReused);
    seq_of(&tries("bob", 2, &named("x")));
}

#[test]
fn a_dissolved_group_lets_everybody_go_and_accepts_nothing() {
    let mut play = Play::new();
    assert_eq!(play.cannot("bob", &dissolve()), ErrorCode::NotAllowed);
    play.can("ann", &admin("bob"));
    assert_eq!(play.cannot("bob", &dissolve()), ErrorCode::NotAllowed);
    let lists = arrived(&play.session);
    play.session.linked(&at(play.index), &lists);
    let ended = play.does("ann", &dissolve());
    let last = seq_of(&ended);
    let told: Vec<_> = ended.intents.iter().map(|intent| (intent.user.clone(), intent.link.member)).collect();
    assert_eq!(told, ["ann", "bob", "cid"].map(|name| (user(name), false)));
    assert!(
        ended.gate.as_ref().is_some_and(|gate| !play.session.gate_open(gate)),
        "acknowledged after the lists"
    );
    assert_eq!(play.session.present(), 0);
    assert_eq!(play.cannot("ann", &text("hello?")), ErrorCode::Dissolved);
    assert_eq!(play.cannot("bob", &change(ChangeKind::Add, &["bob"])), ErrorCode::Dissolved);
    assert_eq!(play.cannot("ann", &change(ChangeKind::Create, &[])), ErrorCode::Dissolved);
    assert_eq!(play.cannot("ann", &dissolve()), ErrorCode::Dissolved);
    assert_eq!(code_of(&play.by(&service(), &text("anybody?"))), ErrorCode::Dissolved);
    let stranger = play.does("eve", &change(ChangeKind::Create, &[]));
    let Some(Answer::Refused(refusal)) = &stranger.answer else { panic!("refused") };
    assert_eq!(
        (refusal.code, refusal.takes_client_seq()),
        (ErrorCode::Dissolved, false),
        "nothing is kept of her"
    );
    assert_eq!(play.session.last_seq(), last);
    let again = apply(&mut play.session, &play.disk, &at(play.index + 1), &actor("ann"), 4, &dissolve());
    assert_eq!(again.answer, ended.answer, "a retry is told the same, and waits for the same");
    assert!(again.gate.is_some());
    let lists = arrived(&play.session);
    play.session.linked(&at(play.index + 2), &lists);
    assert!(again.gate.is_some_and(|gate| play.session.gate_open(&gate)));
    let seen = play.session.group_for(None);
    assert!(seen.dissolved && seen.owner.is_none() && seen.members == 0);
}

#[test]
fn a_list_that_is_full_brings_nobody_back_into_a_dissolved_group() {
    let mut play = Play::new();
    let added = play.does("ann", &change(ChangeKind::Add, &["dan"]));
    let version = added.intents[0].link.version;
    play.can("ann", &dissolve());
    let last = play.session.last_seq();
    let late =
        play.session.unlinked(&at(50), &LIMITS, &[(user("dan"), version)], Unwanted::Full { most: 10 });
    assert!(late.published.is_none() && play.session.last_seq() == last);
    play.session.linked(&at(51), &[(user("dan"), version, true)]);
    let pending = play.session.pending_intents().find(|intent| intent.user == user("dan"));
    assert!(pending.is_some_and(|intent| !intent.link.member), "dan's list still has to let go");
}

/// Of two acts that race, the one that stands first in the log decides, on every replica and in every retry.
#[test]
fn order_decides_races() {
    let race = |first: (&str, Act), second: (&str, Act)| {
        let mut play = Play::new();
        play.can("ann", &admin("bob"));
        play.can(first.0, &first.1);
        match play.does(second.0, &second.1).answer {
            Some(Answer::Refused(refusal)) => Some(refusal.code),
            _ => None,
        }
    };
    let (talk, muted, end) = (text("hi"), mute("cid", u64::MAX), dissolve());
    assert_eq!(race(("cid", talk.clone()), ("bob", muted.clone())), None);
    assert_eq!(race(("bob", muted), ("cid", talk.clone())), Some(ErrorCode::Muted));
    assert_eq!(race(("cid", talk.clone()), ("ann", end.clone())), None);
    assert_eq!(race(("ann", end.clone()), ("cid", talk)), Some(ErrorCode::Dissolved));
    let leave = |who: &str| change(ChangeKind::Remove, &[who]);
    assert_eq!(race(("cid", leave("cid")), ("ann", hand_over("cid"))), Some(ErrorCode::NotMember));
    assert_eq!(race(("ann", hand_over("cid")), ("cid", leave("cid"))), None);
    assert_eq!(race(("ann", leave("ann")), ("ann", hand_over("cid"))), Some(ErrorCode::NotMember));
    assert_eq!(
        race(("ann", role("bob", MemberRole::Member)), ("bob", named("x"))),
        Some(ErrorCode::NotAllowed)
    );
    assert_eq!(race(("ann", end), ("bob", named("x"))), Some(ErrorCode::Dissolved));
}

#[test]
fn an_owner_who_leaves_is_followed_by_an_admin_before_a_senior_member() {
    let mut play = Play::new();
    play.can("ann", &admin("cid"));
    play.can("ann", &change(ChangeKind::Remove, &["ann"]));
    assert_eq!(play.role("cid"), Some(MemberRole::Owner), "though bob is in it longer");
    play.can("cid", &change(ChangeKind::Remove, &["cid"]));
    assert_eq!(play.role("bob"), Some(MemberRole::Owner));
}

#[test]
fn history_before_joining_is_hidden_by_setting() {
    let mut play = Play::new();
    let cid = user("cid");
    assert_eq!(play.session.readable_from(Some(&cid)), 1);
    play.set(Policy { history_before_joining: false, ..Policy::default() });
    assert_eq!(play.session.readable_from(Some(&cid)), 2, "the record that added cid");
    assert_eq!(play.session.readable_from(Some(&user("ann"))), 1);
    assert_eq!(play.session.readable_from(None), 1, "services see all");
}

#[test]
fn nobody_manages_a_direct_session() {
    let id = SessionId::direct(&user("ann"), &user("bob")).expect("two users");
    let (disk, mut session) = (Disk::default(), Session::new(id));
    let early = apply(&mut session, &disk, &at(1), &actor("ann"), 1, &named("x"));
    assert_eq!(code_of(&early), ErrorCode::NoSuchSession);
    apply(&mut session, &disk, &at(2), &actor("ann"), 1, &text("hi"));
    let refused = apply(&mut session, &disk, &at(3), &actor("ann"), 2, &named("x"));
    assert_eq!(code_of(&refused), ErrorCode::NotAllowed);
}

#[test]
fn what_a_group_is_set_to_comes_back_from_rows() {
    let mut play = Play::new();
    for act in [
        named("Crows"),
        attribute("a", Some(b"1")),
        attribute("b", Some(b"2")),
        admin("bob"),
        mute("cid", 77),
        act(GroupAction::MuteAll { on: true }),
        act(GroupAction::SetPolicy(Policy { invite: Who::Admins, ..Policy::default() })),
    ] {
        play.can("ann", &act);
    }
    play.disk.write(play.session.collect());
    play.can("ann", &attribute("a", None));
    assert!(!play.session.is_clean());
    play.disk.write(play.session.collect());
    play.session.written(&LIMITS);
    assert!(play.session.is_clean());
    let loaded = Session::load(&play.disk, &group()).expect("rows");
    for who in [None, Some(user("ann")), Some(user("bob")), Some(user("cid"))] {
        assert_eq!(loaded.group_for(who.as_ref()), play.session.group_for(who.as_ref()));
    }
    let roles = |session: &Session| session.roles_after(None).collect::<Vec<_>>();
    assert_eq!(roles(&loaded), roles(&play.session));
    assert_eq!(loaded.group_for(None).attributes.len(), 1);
}

/// The leader's clock may be behind the session's: what was refused as muted at one time is not allowed at an earlier.
#[test]
fn a_mute_is_judged_by_the_time_of_the_session() {
    let mut play = Play::new();
    play.can("ann", &mute("bob", 5_000));
    let late = At { time_ms: 9_000, ..at(20) };
    apply(&mut play.session, &play.disk, &late, &actor("ann"), 4, &text("late"));
    let early = At { time_ms: 1, ..at(21) };
    let outcome = apply(&mut play.session, &play.disk, &early, &actor("bob"), 1, &text("hi"));
    assert_eq!(seq_of(&outcome), 5);
}

#[test]
fn who_makes_a_group_takes_one_place_in_it_whether_or_not_it_is_named() {
    let service = |name: Option<&str>| Actor { service: true, on_behalf_of: name.map(user), ..actor("shop") };
    let create = |who: &Actor, named: &[&str], most| {
        let users = named.iter().map(|name| user(name)).collect();
        let act = Act::Change { kind: ChangeKind::Create, users, most, unknown: None };
        let outcome = apply(&mut Session::new(group()), &Disk::default(), &at(1), who, 1, &act);
        match outcome.answer {
            Some(Answer::Ack(_)) => None,
            other => Some(code_of(&Outcome { answer: other, ..Outcome::default() })),
        }
    };
    let (two, three) = (["bob", "cid"], ["ann", "bob", "cid"]);
    // Who, who is named, and how many members that makes.
    let cases: [(Actor, &[&str], u32); 6] = [
        (actor("ann"), &two, 3),
        (actor("ann"), &three, 3),
        (service(Some("ann")), &two, 3),
        (service(Some("ann")), &three, 3),
        (service(None), &two, 2),
        (service(None), &three, 3),
    ];
    for (who, named, members) in cases {
        assert_eq!(create(&who, named, members), None, "{who:?} with {named:?}");
        assert_eq!(create(&who, named, members - 1), Some(ErrorCode::GroupFull), "{who:?} with {named:?}");
    }
}
