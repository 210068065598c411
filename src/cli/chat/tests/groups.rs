//! What groups are called, how many are in them, and who asks to join.

use ratatui::crossterm::event::KeyCode;
use rookery_client::wire::group::Group;
use rookery_client::wire::join::{RequestLine, RequestPage};
use rookery_client::wire::{
    Blob, ErrorBody, ErrorCode, GroupAction, GroupId, Join, MemberRole, Policy, RecordKind, Retention,
    SessionId, Signal, Who, encode,
};
use rookery_client::{ClientError, Event};

use super::super::acts::{About, Action, Outcome};
use super::super::state::Chat;
use super::{actions, bob, chat, message, press, record, screen, shows, summary, synced, team, typed};

fn group(session: SessionId, name: &str, members: u32) -> Group {
    Group {
        session,
        name: Blob::from(name),
        avatar: Blob::default(),
        attributes: Vec::new(),
        policy: Policy {
            write: Who::All,
            invite: Who::All,
            change: Who::Admins,
            history_before_joining: true,
            join: Join::Request,
        },
        mute_all: false,
        owner: None,
        role: Some(MemberRole::Member),
        muted_until_ms: 0,
        members,
        dissolved: false,
        retention: Retention { age_ms: 0, count: 0 },
    }
}

/// The groups that are asked for.
fn asked(chat: &mut Chat) -> Vec<SessionId> {
    let actions = chat.take_actions().into_iter();
    let facts = actions.filter_map(|action| match action {
        Action::Facts { session } => Some(session),
        _ => None,
    });
    facts.collect()
}

fn tell(chat: &mut Chat, session: SessionId, name: &str, members: u32) {
    let told = Box::new(group(session.clone(), name, members));
    chat.outcome(Outcome::About(session, About::Facts(Ok(told))));
}

fn joined(seq: u64, who: &str) -> super::Record {
    let mut record = record(seq, who, "");
    record.kind = RecordKind::MEMBERS_ADDED;
    record.content = encode(&Signal { users: vec![who.parse().unwrap()] }).into();
    record
}

fn renamed(seq: u64, name: &str) -> super::Record {
    let mut record = record(seq, "bob", "");
    record.kind = RecordKind::GROUP_CHANGED;
    record.content = encode(&GroupAction::SetProfile { name: Some(Blob::from(name)), avatar: None }).into();
    record
}

#[test]
fn a_group_is_called_by_its_name_wherever_it_is_named() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 3, 0), summary(bob(), 2, 0)]);
    chat.open(team());
    assert_eq!(asked(&mut chat), [team()]);
    tell(&mut chat, team(), "The\u{1b} crows\nnest", 3);
    let rows = screen(&mut chat, 90, 20);
    assert!(rows[0].starts_with(" #The\u{fffd} crows nest"), "{rows:#?}");
    assert!(rows[0].contains("│ #The\u{fffd} crows nest · group:team · 3 members"), "{rows:#?}");
    message(&mut chat, team(), renamed(4, "Heronry"));
    assert!(screen(&mut chat, 90, 20)[0].contains("│ #Heronry · group:team · 3 members"));
    chat.event(Event::Left(team()));
    assert!(chat.notice.as_ref().is_some_and(|(notice, _)| notice == "you are no longer in #Heronry"));
    // Taken away, it is the id again; an old signal that is seen again changes nothing.
    chat.event(Event::Joined(team()));
    message(&mut chat, team(), renamed(5, ""));
    message(&mut chat, team(), renamed(4, "Heronry"));
    assert!(screen(&mut chat, 90, 20)[0].contains("│ #team · 3 members"));
}

#[test]
fn the_header_counts_right_after_somebody_joins() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 3, 0)]);
    chat.open(team());
    assert_eq!(asked(&mut chat), [team()]);
    // Two join while the answer is on its way, which may be from before them.
    message(&mut chat, team(), joined(4, "eve"));
    message(&mut chat, team(), joined(5, "dan"));
    assert!(asked(&mut chat).is_empty(), "one question at a time");
    tell(&mut chat, team(), "", 4);
    assert_eq!(asked(&mut chat), [team()], "it may be of before");
    tell(&mut chat, team(), "", 5);
    assert!(asked(&mut chat).is_empty());
    assert!(screen(&mut chat, 80, 20)[0].contains("#team · 5 members"));
    message(&mut chat, team(), joined(6, "sam"));
    assert_eq!(asked(&mut chat), [team()]);
    assert!(screen(&mut chat, 80, 20)[0].contains("#team · 5 members"), "until it is known");
}

#[test]
fn one_who_joins_sees_how_many_are_there() {
    let mut chat = chat();
    typed(&mut chat, "/join team");
    chat.outcome(Outcome::About(team(), About::Joined(Ok(true))));
    let wanted = chat.take_actions();
    assert!(wanted.contains(&Action::Facts { session: team() }), "{wanted:?}");
    assert!(wanted.contains(&Action::Sync), "{wanted:?}");
    tell(&mut chat, team(), "Crows", 7);
    assert!(screen(&mut chat, 80, 20)[0].contains("#Crows · group:team · 7 members"));
}

#[test]
fn many_groups_are_asked_for_a_few_at_a_time_and_a_refusal_is_no_loop() {
    let mut chat = chat();
    let group = |n: u64| SessionId::group(format!("nest{n}").parse::<GroupId>().unwrap());
    synced(&mut chat, (1..=20).map(|n| summary(group(n), n, 0)).collect());
    chat.open(group(3));
    let first = asked(&mut chat);
    assert_eq!(
        (first.len(), &first[0], &first[1]),
        (8, &group(3), &group(20)),
        "the open one, then the newest"
    );
    assert!(asked(&mut chat).is_empty());
    let refusal = || ClientError::Refused(ErrorBody::new(ErrorCode::NotMember, "no"));
    for session in first {
        chat.outcome(Outcome::About(session, About::Facts(Err(refusal()))));
    }
    assert_eq!(asked(&mut chat).len(), 8);
    for n in 1..=20 {
        chat.outcome(Outcome::About(group(n), About::Facts(Err(refusal()))));
    }
    let rest = asked(&mut chat);
    assert!(!rest.contains(&group(3)), "{rest:?}");
    rest.into_iter().for_each(|session| chat.outcome(Outcome::About(session, About::Facts(Err(refusal())))));
    assert!(asked(&mut chat).is_empty());
    chat.open(group(4));
    assert_eq!(asked(&mut chat), [group(4)], "opened, it is asked for again");
    chat.outcome(Outcome::About(group(4), About::Facts(Err(refusal()))));
    chat.event(Event::Disconnected { reason: "gone".to_owned() });
    assert!(asked(&mut chat).is_empty());
    chat.event(Event::Connected { node: 1, addr: "a".to_owned() });
    assert_eq!(asked(&mut chat).len(), 8, "and so are all when the cluster is there again");
}

#[test]
fn requests_to_join_are_listed_and_answered() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 3, 0), summary(bob(), 2, 0)]);
    chat.open(team());
    actions(&mut chat);
    typed(&mut chat, "/requests");
    assert_eq!(actions(&mut chat), [Action::Requests { session: team() }]);
    let line = |user: &str, text: &str| RequestLine {
        user: user.parse().unwrap(),
        text: Blob::from(text),
        since_ms: 1,
    };
    let page = |requests| RequestPage { requests, more: false };
    let requests = vec![line("eve", "it is me,\nEve"), line("sam", "")];
    chat.outcome(Outcome::About(team(), About::Requests(Ok(page(requests)))));
    let rows = screen(&mut chat, 90, 20);
    for text in ["#team: who asks to join", "eve it is me, Eve", "│ sam ", "/requests accept USER"] {
        assert!(shows(&rows, text), "{text} in {rows:#?}");
    }
    press(&mut chat, KeyCode::Esc);
    typed(&mut chat, "/requests accept eve, sam");
    let answer = |user: &str, accept| Action::Manage {
        session: team(),
        action: GroupAction::Answer { user: user.parse().unwrap(), accept },
    };
    assert_eq!(actions(&mut chat), [answer("eve", true), answer("sam", true)]);
    typed(&mut chat, "/requests decline eve");
    assert_eq!(actions(&mut chat), [answer("eve", false)]);
    chat.outcome(Outcome::About(team(), About::Requests(Ok(page(Vec::new())))));
    assert!(chat.notice.as_ref().is_some_and(|(notice, _)| notice == "nobody asks to join #team"));
    chat.open(bob());
    actions(&mut chat);
    typed(&mut chat, "/requests");
    assert_eq!(actions(&mut chat), []);
    assert!(chat.notice.as_ref().is_some_and(|(notice, _)| notice == "that is for groups"));
}
