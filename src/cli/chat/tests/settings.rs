//! How the user has set its sessions, on whichever device: the list, what is highlighted, drafts.

use ratatui::crossterm::event::{KeyCode, KeyModifiers};
use ratatui::style::Modifier;
use rookery_client::wire::own::{SelfAck, SessionSettings, Settings};
use rookery_client::wire::{Blob, ErrorBody, ErrorCode, SessionId, SessionSetting, UserAction};
use rookery_client::{ClientError, Event};

use super::super::acts::{Action, Outcome, Told};
use super::super::palette::Palette;
use super::super::state::Chat;
use super::super::view::{Look, draw};
use super::super::zone::Zone;
use super::{
    MINUTE, NOON, actions, bob, chat, message, page, press, press_with, record, screen, shows, summary,
    synced, team, typed,
};

fn cat() -> SessionId {
    SessionId::direct(&"ann".parse().unwrap(), &"cat".parse().unwrap()).unwrap()
}

/// Three sessions, the group written to last.
fn three() -> Chat {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 9, 0), summary(bob(), 5, 0), summary(cat(), 2, 0)]);
    chat
}

fn set(chat: &mut Chat, session: SessionId, settings: Settings) {
    chat.event(Event::Settings(SessionSettings { session, settings }));
}

fn listed(chat: &Chat) -> Vec<SessionId> {
    chat.listed().into_iter().map(|session| session.id.clone()).collect()
}

fn drafts(actions: Vec<Action>) -> Vec<(SessionId, String)> {
    let draft = |action| match action {
        Action::Own(UserAction::SetSession { session, setting: SessionSetting::Draft(text) }) => {
            Some((session, String::from_utf8_lossy(text.as_ref()).into_owned()))
        }
        _ => None,
    };
    actions.into_iter().filter_map(draft).collect()
}

fn saved(chat: &mut Chat, session: SessionId, text: &str, told: Told<SelfAck>) {
    let setting = SessionSetting::Draft(Blob::from(text));
    chat.outcome(Outcome::Own(UserAction::SetSession { session, setting }, told));
}

fn fine() -> Told<SelfAck> {
    Ok(SelfAck { number: 1, time_ms: NOON, value: 1 })
}

fn draft(text: &str) -> Settings {
    Settings { draft: Blob::from(text), ..Settings::default() }
}

/// Whether the row of the list with this text is bold, and whether anything in it is turned over.
fn highlights(chat: &mut Chat, text: &str) -> (bool, bool) {
    let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(80, 20)).unwrap();
    let look = Look { palette: Palette::new(false), zone: Zone::Utc };
    terminal.draw(|frame| _ = draw(frame, chat, look)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y: u16| (0..20_u16).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let y = (0..20).find(|y| row(*y).contains(text)).unwrap();
    let any = |what: Modifier| (0..20_u16).any(|x| buffer[(x, y)].modifier.contains(what));
    (any(Modifier::BOLD), any(Modifier::REVERSED))
}

#[test]
fn pinned_sessions_stand_at_the_top_whatever_is_written() {
    let mut chat = three();
    assert_eq!(listed(&chat), [team(), bob(), cat()]);
    set(&mut chat, cat(), Settings { pinned: Some(7), ..Settings::default() });
    set(&mut chat, bob(), Settings { pinned: Some(3), ..Settings::default() });
    assert_eq!(listed(&chat), [cat(), bob(), team()], "greater ones first");
    message(&mut chat, team(), record(10, "bob", "x"));
    assert_eq!(listed(&chat), [cat(), bob(), team()]);
    assert!(screen(&mut chat, 80, 20)[0].starts_with(" @cat ↑"));
    set(&mut chat, cat(), Settings::default());
    assert_eq!(listed(&chat), [bob(), team(), cat()]);
    // So they do when the list is read, which says all there is.
    chat.connected();
    let mut pinned = summary(cat(), 2, 0);
    pinned.settings.pinned = Some(9);
    synced(&mut chat, vec![pinned, summary(bob(), 5, 0)]);
    assert_eq!(listed(&chat), [cat(), team(), bob()]);
}

#[test]
fn what_is_pushed_while_the_list_is_read_goes_before_the_list() {
    let mut chat = three();
    chat.connected();
    assert_eq!(actions(&mut chat), [Action::Sync]);
    set(&mut chat, cat(), Settings { pinned: Some(7), ..Settings::default() });
    synced(&mut chat, vec![summary(team(), 9, 0), summary(bob(), 5, 0), summary(cat(), 2, 0)]);
    assert_eq!(listed(&chat)[0], cat(), "the page was looked at before");
    chat.connected();
    actions(&mut chat);
    synced(&mut chat, vec![summary(cat(), 2, 0)]);
    assert_eq!(listed(&chat)[0], team(), "this one was not");
}

#[test]
fn muted_sessions_are_shown_as_such_and_not_highlighted() {
    let mut chat = three();
    chat.open(bob());
    message(&mut chat, team(), record(10, "bob", "x"));
    assert_eq!((highlights(&mut chat, "#team"), chat.unread_elsewhere()), ((true, true), 1));
    set(&mut chat, team(), Settings { muted_until_ms: NOON + MINUTE, ..Settings::default() });
    assert_eq!((highlights(&mut chat, "#team ⊘"), chat.unread_elsewhere()), ((false, false), 0));
    assert!(screen(&mut chat, 80, 20)[0].contains(" 1 "), "it is counted all the same");
    chat.tick(NOON + MINUTE);
    assert_eq!((highlights(&mut chat, "#team"), chat.unread_elsewhere()), ((true, true), 1), "it is over");
}

#[test]
fn hidden_sessions_are_not_in_the_list_until_something_new_comes() {
    let mut chat = three();
    chat.open(team());
    set(&mut chat, bob(), Settings { hidden_count: Some(5), ..Settings::default() });
    set(&mut chat, cat(), Settings { hidden_count: Some(u64::MAX), ..Settings::default() });
    assert_eq!(listed(&chat), [team()]);
    press(&mut chat, KeyCode::Tab);
    assert_eq!(chat.open, Some(team()), "Tab goes to none of them");
    typed(&mut chat, "/my hidden");
    assert_eq!(chat.popup.take().unwrap().lines[..2], ["@bob", "@cat"]);
    let mut signal = record(6, "bob", "");
    (signal.kind, signal.count) = (rookery_client::wire::RecordKind::RECALL, 5);
    message(&mut chat, bob(), signal);
    assert_eq!(listed(&chat), [team()], "a signal is nothing new");
    let mut content = record(7, "bob", "x");
    content.count = 6;
    message(&mut chat, bob(), content);
    message(&mut chat, cat(), record(3, "cat", "x"));
    assert_eq!(listed(&chat), [team(), bob()], "the other one never");
    // Opened, it is there; left, it is not; what one writes there is new as well.
    set(&mut chat, bob(), Settings { hidden_count: Some(6), ..Settings::default() });
    typed(&mut chat, "/open @bob");
    assert_eq!(listed(&chat), [team(), bob()]);
    typed(&mut chat, "/open #team");
    assert_eq!(listed(&chat), [team()]);
    // Hiding the open one leaves it.
    let setting = SessionSetting::Hide(Some(9));
    set(&mut chat, team(), Settings { hidden_count: Some(9), ..Settings::default() });
    set(&mut chat, bob(), Settings::default());
    chat.outcome(Outcome::Own(UserAction::SetSession { session: team(), setting }, fine()));
    assert_eq!((chat.open.clone(), listed(&chat)), (Some(bob()), vec![bob()]));
}

#[test]
fn a_session_marked_as_unread_is_shown_so_until_it_is_opened() {
    let mut chat = three();
    chat.open(team());
    page(&mut chat, team(), (1..=9).map(|seq| record(seq, "bob", "x")).collect(), 9);
    chat.take_actions();
    let marked = || Settings { marked_unread: true, ..Settings::default() };
    set(&mut chat, team(), marked());
    assert_eq!(chat.take_actions(), [], "who marks the open session means to come back to it");
    chat.open(bob());
    assert_eq!(highlights(&mut chat, "#team"), (true, true));
    assert!(shows(&screen(&mut chat, 80, 20), "• │"));
    chat.take_actions();
    chat.open(team());
    assert!(chat.take_actions().contains(&Action::Read { session: team(), seq: 9 }), "all was read before");
    assert_eq!(chat.take_actions(), [], "once is enough");
    set(&mut chat, team(), Settings::default());
    chat.open(bob());
    assert_eq!(highlights(&mut chat, "#team"), (false, false));
}

#[test]
fn a_draft_is_in_the_line_when_its_session_is_opened_and_saved_when_it_is_left() {
    let mut chat = three();
    set(&mut chat, bob(), draft("dear\u{1b} Bob"));
    chat.open(bob());
    assert_eq!(chat.input.text(), "dear Bob", "and cannot speak to the terminal");
    chat.open(cat());
    assert_eq!(drafts(actions(&mut chat)), [], "nothing was changed");
    assert!(shows(&screen(&mut chat, 80, 20), "draft: dear"));
    chat.open(bob());
    chat.input.insert(", how are you");
    press(&mut chat, KeyCode::Tab);
    assert_eq!(drafts(actions(&mut chat)), [(bob(), "dear Bob, how are you".to_owned())]);
    // What is heard of it while it is saved is of before.
    set(&mut chat, bob(), draft("dear Bob"));
    saved(&mut chat, bob(), "dear Bob, how are you", fine());
    set(&mut chat, bob(), draft("dear Bob, how are you"));
    chat.open(bob());
    assert_eq!(chat.input.text(), "dear Bob, how are you");
    // Sent, it is a draft no longer, on no device.
    press(&mut chat, KeyCode::Enter);
    let done = actions(&mut chat);
    assert!(matches!(done[0], Action::Send { .. }), "{done:?}");
    assert_eq!(drafts(done), [(bob(), String::new())]);
    typed(&mut chat, "and one more");
    assert_eq!(drafts(actions(&mut chat)), [], "there is none to be taken away");
    assert_eq!(chat.input.text(), "");
}

#[test]
fn a_draft_of_another_device_does_not_take_away_what_is_being_written() {
    let mut chat = three();
    chat.open(bob());
    set(&mut chat, bob(), draft("from the phone"));
    assert_eq!(chat.input.text(), "from the phone", "nothing was in the line");
    set(&mut chat, bob(), Settings { pinned: Some(1), ..draft("from the phone") });
    chat.input.insert("!");
    set(&mut chat, bob(), draft("from the phone again"));
    assert_eq!(chat.input.text(), "from the phone!");
    chat.open(team());
    assert_eq!(drafts(actions(&mut chat)), [(bob(), "from the phone!".to_owned())], "the last word");
    // Taken away elsewhere, it goes here.
    saved(&mut chat, bob(), "from the phone!", fine());
    set(&mut chat, bob(), Settings::default());
    chat.open(bob());
    assert_eq!(chat.input.text(), "");
}

#[test]
fn commands_are_no_drafts_and_what_cannot_be_saved_stays_here() {
    let mut chat = three();
    chat.open(bob());
    chat.input.insert("/my ");
    press_with(&mut chat, KeyCode::Down, KeyModifiers::ALT);
    assert_eq!(drafts(actions(&mut chat)), []);
    chat.open(bob());
    assert_eq!(chat.input.text(), "/my ", "nothing typed is lost");
    chat.input.set("too long");
    chat.open(cat());
    let refusal = ClientError::Refused(ErrorBody::new(ErrorCode::TooMany, "a draft has at most 8 bytes"));
    saved(&mut chat, bob(), "too long", Err(refusal));
    assert!(chat.notice.as_ref().is_some_and(|(text, _)| text.contains("@bob is kept here alone")));
    chat.open(bob());
    assert_eq!(chat.input.text(), "too long");
    // A session that nobody has written to is in no list yet, so nothing of it is kept there.
    chat.input.set("");
    chat.take_actions();
    let new = SessionId::direct(&"ann".parse().unwrap(), &"dan".parse().unwrap()).unwrap();
    chat.open(new.clone());
    chat.input.insert("hello");
    chat.open(cat());
    let saved = drafts(actions(&mut chat));
    assert!(saved.iter().all(|(session, _)| *session != new), "{saved:?}");
    chat.open(new);
    assert_eq!(chat.input.text(), "hello");
}

#[test]
fn the_end_saves_the_draft() {
    let mut chat = three();
    chat.open(bob());
    actions(&mut chat);
    chat.input.insert("to be continued");
    press_with(&mut chat, KeyCode::Char('c'), KeyModifiers::CONTROL);
    let last = actions(&mut chat);
    assert_eq!(last.last(), Some(&Action::Quit), "{last:?}");
    assert_eq!(drafts(last), [(bob(), "to be continued".to_owned())]);
    // Other programs' drafts that are no text are left alone.
    let mut chat = three();
    set(&mut chat, bob(), Settings { draft: Blob(vec![0xff, 0].into()), ..Settings::default() });
    chat.open(bob());
    assert_eq!(chat.input.text(), "");
    chat.quit();
    assert_eq!(drafts(actions(&mut chat)), []);
}
