//! What is done when something happens.

use ratatui::crossterm::event::{KeyCode, KeyModifiers};
use rookery_client::wire::live::{EphemeralMessage, Passing, PresenceLine, Receipt, SessionPresence};
use rookery_client::wire::reply::ReadMark;
use rookery_client::wire::{ErrorBody, ErrorCode, Expires, Extension, GroupAction, Retention};
use rookery_client::{ClientError, Event, Goes};

use super::super::acts::{About, Action, Outcome};
use super::super::conversation::Body;
use super::super::state::Chat;
use super::{
    MINUTE, NOON, ack, actions, bob, chat, message, page, press, press_with, record, screen, shows, summary,
    synced, team, typed,
};

#[test]
fn a_message_is_pending_then_stored_whichever_comes_first() {
    for event_first in [true, false] {
        let mut chat = chat();
        chat.open(bob());
        typed(&mut chat, "hi");
        let sent = actions(&mut chat);
        let [Action::Send { session, id, text, goes: Goes::Never }] = sent.as_slice() else {
            panic!("{sent:?}")
        };
        assert_eq!((session, text.as_str()), (&bob(), "hi"));
        assert_eq!(chat.current().unwrap().pending.len(), 1);
        let mut own = record(1, "ann", "hi");
        own.device = "terminal".parse().unwrap();
        let outcome = Outcome::About(bob(), About::Sent(*id, Ok(ack(bob(), 1))));
        if event_first {
            message(&mut chat, bob(), own);
            assert!(chat.current().unwrap().pending.is_empty(), "never shown twice");
            chat.outcome(outcome);
        } else {
            chat.outcome(outcome);
            message(&mut chat, bob(), own);
        }
        let session = chat.current().unwrap();
        assert_eq!((session.pending.len(), session.entries.len(), session.unread), (0, 1, 0));
        assert!(session.entries[&1].own);
    }
}

#[test]
fn the_open_group_is_set() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 3, 0), summary(bob(), 2, 0)]);
    chat.open(team());
    actions(&mut chat);
    typed(&mut chat, "/set mute @bob 5");
    let user = "bob".parse().unwrap();
    let action = GroupAction::Mute { user, until_ms: NOON + 300_000 };
    assert_eq!(actions(&mut chat), [Action::Manage { session: team(), action }]);
    chat.open(bob());
    actions(&mut chat);
    typed(&mut chat, "/set name Two of us");
    assert_eq!(actions(&mut chat), []);
    assert!(chat.notice.as_ref().is_some_and(|(notice, _)| notice.contains("for groups")));
    // How long it is kept, both users say.
    typed(&mut chat, "/set keep 1");
    let action = GroupAction::SetRetention(Retention { age_ms: 86_400_000, count: 0 });
    assert_eq!(actions(&mut chat), [Action::Manage { session: bob(), action }]);
}

#[test]
fn a_group_is_joined_or_asked() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(bob(), 2, 0)]);
    typed(&mut chat, "/join #team");
    assert_eq!(actions(&mut chat), [Action::Join { group: "team".parse().unwrap(), code: None }]);
    chat.outcome(Outcome::About(team(), About::Joined(Ok(false))));
    assert!(chat.notice.as_ref().is_some_and(|(notice, _)| notice.contains("is asked to let you in")));
    assert_ne!(chat.open, Some(team()));
    chat.outcome(Outcome::About(team(), About::Joined(Ok(true))));
    assert_eq!(chat.open, Some(team()));
}

#[test]
fn a_refused_message_stays_and_says_why() {
    let mut chat = chat();
    chat.open(bob());
    typed(&mut chat, "hi");
    let refusal = ClientError::Refused(ErrorBody::new(ErrorCode::NotMember, "not for you"));
    chat.outcome(Outcome::About(bob(), About::Sent(0, Err(refusal))));
    assert_eq!(chat.current().unwrap().pending[0].failed.as_deref(), Some("not for you"));
}

#[test]
fn opening_a_session_pulls_its_end_and_seeing_it_marks_it_read() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 9, 4)]);
    chat.open(team());
    assert_eq!(
        chat.take_actions(),
        [
            Action::Pull { session: team(), before: 0 },
            Action::WatchGroup { session: team(), on: true },
            Action::Facts { session: team() }
        ]
    );
    page(&mut chat, team(), (1..=9).map(|seq| record(seq, "bob", "x")).collect(), 9);
    assert_eq!(chat.take_actions(), [Action::Read { session: team(), seq: 9 }]);
    assert_eq!(chat.take_actions(), [], "once is enough");
    // What arrives while nobody looks is not read.
    chat.focused = false;
    message(&mut chat, team(), record(10, "bob", "y"));
    assert_eq!((chat.take_actions(), chat.current().unwrap().unread), (vec![], 1));
    chat.focused = true;
    assert_eq!(chat.take_actions(), [Action::Read { session: team(), seq: 10 }]);
}

#[test]
fn unread_counts_follow_messages_and_other_devices() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 5, 0), summary(bob(), 2, 0)]);
    chat.open(bob());
    message(&mut chat, team(), record(6, "bob", "a"));
    message(&mut chat, team(), record(7, "cat", "b"));
    message(&mut chat, team(), record(7, "cat", "b"));
    assert_eq!(chat.unread_elsewhere(), 2);
    chat.event(Event::ReadMark(ReadMark { session: team(), seq: 6, count: 6 }));
    assert_eq!(chat.unread_elsewhere(), 1);
    // What the user wrote on another device says that all before was read.
    message(&mut chat, team(), record(8, "ann", "c"));
    assert_eq!(chat.unread_elsewhere(), 0);
}

#[test]
fn the_list_is_walked_and_drafts_stay_where_they_were_written() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 9, 0), summary(bob(), 2, 0)]);
    press(&mut chat, KeyCode::Tab);
    assert_eq!(chat.open, Some(team()));
    chat.input.insert("draft");
    press(&mut chat, KeyCode::Tab);
    assert_eq!((chat.open.clone(), chat.input.text()), (Some(bob()), ""));
    press_with(&mut chat, KeyCode::Up, KeyModifiers::ALT);
    assert_eq!((chat.open.clone(), chat.input.text()), (Some(team()), "draft"));
    press_with(&mut chat, KeyCode::Char('2'), KeyModifiers::ALT);
    assert_eq!(chat.open, Some(bob()));
}

#[test]
fn commands_become_actions() {
    let mut chat = chat();
    typed(&mut chat, "hello?");
    assert_eq!((actions(&mut chat), chat.input.text()), (vec![], "hello?"), "nothing typed is lost");
    chat.input.take();
    typed(&mut chat, "/dm bob");
    assert_eq!(chat.open, Some(bob()));
    typed(&mut chat, "/add cat");
    assert_eq!(actions(&mut chat), []);
    assert!(chat.notice.as_ref().is_some_and(|(text, _)| text.contains("/group")));
    typed(&mut chat, "/dm ann");
    assert_eq!(chat.open, Some(bob()), "nobody talks to themselves");
    typed(&mut chat, "/group team bob cat");
    let members = vec!["bob".parse().unwrap(), "cat".parse().unwrap()];
    assert_eq!(actions(&mut chat), [Action::Create { group: "team".parse().unwrap(), members }]);
    let done = Outcome::About(team(), About::Done("done".to_owned(), Ok(ack(team(), 1))));
    chat.outcome(done);
    assert_eq!(chat.open, Some(team()));
    typed(&mut chat, "/leave");
    let users = vec!["ann".parse().unwrap()];
    assert_eq!(actions(&mut chat), [Action::Change { session: team(), add: false, users }]);
    typed(&mut chat, "/nonsense");
    assert_eq!(chat.input.text(), "/nonsense", "a typing error can be mended");
    press_with(&mut chat, KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(actions(&mut chat), [Action::Quit]);
}

#[test]
fn a_session_somebody_else_began_appears() {
    let mut chat = chat();
    chat.event(Event::Joined(team()));
    assert_eq!(actions(&mut chat), [Action::Sync]);
    message(&mut chat, team(), record(1, "bob", "welcome"));
    assert_eq!(chat.listed()[0].preview, "bob: welcome");
    assert_eq!(chat.unread_elsewhere(), 1);
    chat.event(Event::Left(team()));
    assert!(!chat.listed()[0].member);
}

#[test]
fn nothing_is_marked_read_while_disconnected() {
    let mut chat = chat();
    chat.open(bob());
    message(&mut chat, bob(), record(1, "bob", "a"));
    chat.event(Event::Disconnected { reason: "gone".to_owned() });
    assert_eq!(chat.take_actions(), []);
    chat.event(Event::Connected { node: 1, addr: "a".to_owned() });
    assert_eq!(chat.take_actions(), [Action::Read { session: bob(), seq: 1 }]);
}

#[test]
fn content_is_described_when_it_is_not_text() {
    let mut chat = chat();
    let mut image = record(1, "bob", "PNG");
    image.content_type = "image/png".into();
    message(&mut chat, bob(), image);
    let mut broken = record(2, "bob", "");
    broken.content = bytes::Bytes::from_static(&[0xff, 0xfe]).into();
    message(&mut chat, bob(), broken);
    let entries = &chat.sessions[&bob()].entries;
    assert_eq!(entries[&1].body, Body::Other("[image/png, 3 bytes]".to_owned()));
    assert!(matches!(entries[&2].body, Body::Other(_)));
}

#[test]
fn typing_is_said_while_it_goes_on_and_what_others_type_is_shown() {
    let mut chat = chat();
    chat.open(bob());
    message(&mut chat, bob(), record(1, "bob", "a"));
    chat.take_actions();
    chat.input.insert("he");
    let said = |chat: &mut Chat| {
        let actions = chat.take_actions().into_iter();
        actions.filter(|action| matches!(action, Action::Typing { .. })).collect::<Vec<_>>()
    };
    assert_eq!(said(&mut chat), [Action::Typing { session: bob(), on: true }]);
    chat.input.insert("y");
    assert_eq!(said(&mut chat), [], "once in a while is enough");
    chat.tick(NOON + 3_000);
    assert_eq!(said(&mut chat), [], "nothing is typed");
    chat.input.insert("!");
    assert_eq!(said(&mut chat), [Action::Typing { session: bob(), on: true }]);
    press(&mut chat, KeyCode::Enter);
    assert_eq!(said(&mut chat), [], "the message says it");
    chat.input.insert("x");
    assert_eq!(said(&mut chat), [Action::Typing { session: bob(), on: true }]);
    press(&mut chat, KeyCode::Backspace);
    assert_eq!(said(&mut chat), [Action::Typing { session: bob(), on: false }]);
    chat.input.insert("/he");
    assert_eq!(said(&mut chat), [], "commands are nobody's business");

    let types = |on| EphemeralMessage {
        session: bob(),
        sender: "bob".parse().unwrap(),
        device: "phone".parse().unwrap(),
        time_ms: NOON,
        body: Passing::Typing { on },
    };
    let words = |chat: &Chat| chat.company.typing_words(&bob());
    chat.event(Event::Ephemeral(types(true)));
    assert_eq!(words(&chat).as_deref(), Some("bob is typing…"));
    message(&mut chat, bob(), record(2, "bob", "b"));
    assert_eq!(words(&chat), None, "it has come");
    chat.event(Event::Ephemeral(types(true)));
    chat.event(Event::Ephemeral(types(false)));
    assert_eq!(words(&chat), None);
    chat.event(Event::Ephemeral(types(true)));
    chat.tick(NOON + 10_000);
    assert_eq!(words(&chat), None, "not said again");
}

#[test]
fn who_is_there_and_has_read_stands_at_the_top() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(bob(), 3, 0)]);
    let watched = chat
        .take_actions()
        .into_iter()
        .any(|action| matches!(action, Action::Watch { users } if users == ["bob".parse().unwrap()]));
    assert!(watched);
    chat.open(bob());
    message(&mut chat, bob(), record(4, "ann", "there?"));
    let line = |online| PresenceLine { user: "bob".parse().unwrap(), online, last_seen_ms: NOON };
    chat.event(Event::Presence(vec![line(true)]));
    assert!(shows(&screen(&mut chat, 80, 20), "@bob · online"));
    chat.event(Event::Presence(vec![line(false)]));
    assert!(shows(&screen(&mut chat, 80, 20), "@bob · last seen 12:00"));
    chat.event(Event::Receipt(Receipt { session: bob(), user: "bob".parse().unwrap(), seq: 3 }));
    assert!(!shows(&screen(&mut chat, 80, 20), "· read"));
    chat.event(Event::Receipt(Receipt { session: bob(), user: "bob".parse().unwrap(), seq: 4 }));
    assert!(shows(&screen(&mut chat, 80, 20), "· read"));
}

#[test]
fn who_of_the_open_group_is_there_stands_at_the_top() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 3, 0), summary(bob(), 3, 0)]);
    let watches = |chat: &mut Chat| {
        let actions = chat.take_actions().into_iter();
        actions.filter(|action| matches!(action, Action::WatchGroup { .. })).collect::<Vec<_>>()
    };
    chat.open(team());
    assert_eq!(watches(&mut chat), [Action::WatchGroup { session: team(), on: true }]);
    let told = |whole, names: &[(&str, bool)], others| {
        let line = |(name, online): &(&str, bool)| PresenceLine {
            user: name.parse().unwrap(),
            online: *online,
            last_seen_ms: 0,
        };
        Event::SessionPresence(SessionPresence {
            session: team(),
            whole,
            users: names.iter().map(line).collect(),
            others,
        })
    };
    chat.event(told(true, &[("ann", true), ("bob", true)], 5));
    assert!(shows(&screen(&mut chat, 80, 20), "· 7 online"));
    chat.event(told(false, &[("bob", false)], 5));
    assert!(shows(&screen(&mut chat, 80, 20), "· 6 online"));
    chat.open(bob());
    assert_eq!(watches(&mut chat), [Action::WatchGroup { session: team(), on: false }]);
    chat.event(told(true, &[("ann", true)], 0));
    assert!(!shows(&screen(&mut chat, 80, 20), "online"), "of a group that is not open");
}

#[test]
fn one_who_is_written_to_first_is_watched_once_the_session_is_there() {
    let mut chat = chat();
    chat.open(bob());
    let watches = |chat: &mut Chat| {
        let actions = chat.take_actions().into_iter();
        actions.filter(|action| matches!(action, Action::Watch { .. })).collect::<Vec<_>>()
    };
    synced(&mut chat, vec![summary(team(), 3, 0)]);
    assert_eq!(watches(&mut chat), [], "there is no session yet, so it would be refused");
    chat.event(Event::Joined(bob()));
    assert_eq!(watches(&mut chat), [Action::Watch { users: vec!["bob".parse().unwrap()] }]);
    chat.event(Event::Joined(bob()));
    assert_eq!(watches(&mut chat), [], "once is enough");
}

#[test]
fn what_lasts_for_a_time_is_shown_no_longer() {
    let mut chat = chat();
    chat.open(bob());
    let mut brief = record(1, "bob", "for a moment");
    let data = rookery_client::wire::encode(&Expires { after_ms: 2 * MINUTE });
    brief.extensions.push(Extension { tag: Expires::TAG, data: data.into() });
    let until = brief.time_ms + 2 * MINUTE;
    message(&mut chat, bob(), brief);
    chat.tick(until - 1);
    assert_eq!(chat.sessions[&bob()].entries[&1].body, Body::Text("for a moment".to_owned()));
    chat.tick(until);
    assert_eq!(chat.sessions[&bob()].entries[&1].body, Body::Signal("(expired)".to_owned()));
    assert_eq!(chat.sessions[&bob()].preview, "(expired)");
}
