//! What the screen shows.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyModifiers};
use ratatui::style::Color;
use rookery_client::wire::{Blob, GroupAction, MemberRole, RecordKind, Signal, encode};
use rookery_client::{ClientError, Event};

use super::super::acts::{About, Action, Outcome};
use super::super::palette::Palette;
use super::super::view::{Look, draw};
use super::super::zone::Zone;
use super::{
    NOON, actions, bob, chat, message, page, press, press_with, record, screen, shows, summary, synced, team,
    typed,
};

fn filled() -> super::Chat {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 3, 2), summary(bob(), 2, 0)]);
    message(&mut chat, bob(), record(3, "bob", "see you"));
    chat.open(team());
    let mut created = record(1, "bob", "");
    created.kind = RecordKind::CREATED;
    created.time_ms = NOON - 30 * 3_600_000;
    created.content = encode(&Signal { users: vec!["bob".parse().unwrap(), "ann".parse().unwrap()] }).into();
    let records = vec![created, record(2, "bob", "hello there"), record(3, "cat", "good morning")];
    page(&mut chat, team(), records, 3);
    chat
}

#[test]
fn a_whole_screen() {
    let mut chat = filled();
    typed(&mut chat, "on its way");
    chat.input.insert("next");
    let rows = screen(&mut chat, 80, 24);
    assert!(rows[0].contains("#team · 3 members"), "{rows:#?}");
    assert!(rows[0].starts_with(" @bob") || rows[0].starts_with(" #team"), "{rows:#?}");
    for text in [
        "Yesterday",
        "bob created the group with ann",
        "Today",
        "11:02 bob: hello there",
        "11:03 cat: good morning",
        "12:00 ann: on its way …",
        "see you",
    ] {
        assert!(shows(&rows, text), "{text} in {rows:#?}");
    }
    assert_eq!(rows[22], "› next");
    assert!(rows[23].contains("ann · node 2 at 127.0.0.1:7402"), "{rows:#?}");
    assert!(rows[23].ends_with("/help"), "{rows:#?}");
}

#[test]
fn changes_of_a_group_are_said_in_words() {
    let mut chat = filled();
    for (seq, action) in [
        (4, GroupAction::SetRole { user: "cat".parse().unwrap(), role: MemberRole::Admin }),
        (5, GroupAction::Mute { user: "ann".parse().unwrap(), until_ms: u64::MAX }),
    ] {
        let mut changed = record(seq, "bob", "");
        changed.kind = RecordKind::GROUP_CHANGED;
        changed.content = encode(&action).into();
        message(&mut chat, team(), changed);
    }
    let rows = screen(&mut chat, 80, 24);
    for text in ["bob made cat an admin", "bob muted ann for good"] {
        assert!(shows(&rows, text), "{text} in {rows:#?}");
    }
}

#[test]
fn marks_of_own_messages() {
    let mut chat = filled();
    typed(&mut chat, "one");
    typed(&mut chat, "two");
    let mut own = record(4, "ann", "one");
    own.device = "terminal".parse().unwrap();
    message(&mut chat, team(), own);
    let error = ClientError::Invalid("no".to_owned());
    chat.outcome(Outcome::About(team(), About::Sent(1, Err(error))));
    let rows = screen(&mut chat, 80, 24);
    assert!(shows(&rows, "ann: one ✓"), "{rows:#?}");
    assert!(shows(&rows, "ann: two ✗ invalid request: no"), "{rows:#?}");
}

#[test]
fn what_is_new_is_set_off() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 3, 1)]);
    chat.open(team());
    page(&mut chat, team(), (1..=3).map(|seq| record(seq, "bob", "x")).collect(), 3);
    let rows = screen(&mut chat, 80, 24);
    let at = |text: &str| rows.iter().position(|row| row.contains(text)).unwrap();
    assert!(at("11:02") < at(" new ") && at(" new ") < at("11:03"), "{rows:#?}");
}

#[test]
fn every_size_is_drawn_and_keeps_the_newest() {
    let mut chat = filled();
    chat.input.insert("a long line that does not fit anywhere at all, not even on a wide screen");
    for width in [1, 2, 5, 12, 20, 40, 59, 60, 80, 200] {
        for height in [1, 2, 3, 5, 7, 24, 60] {
            let rows = screen(&mut chat, width, height);
            assert_eq!(rows.len(), usize::from(height));
            if width >= 40 && height >= 3 {
                assert!(shows(&rows, "good morning"), "{width}x{height}: {rows:#?}");
            }
        }
    }
    let narrow = screen(&mut chat, 40, 10);
    assert!(!shows(&narrow, "@bob"), "no list: {narrow:#?}");
    assert!(narrow[0].contains("1 unread elsewhere"), "{narrow:#?}");
}

#[test]
fn scrolling_up_shows_older_and_pulls_what_is_not_here() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 100, 0)]);
    chat.open(team());
    page(&mut chat, team(), (61..=100).map(|seq| record(seq, "bob", &format!("m{seq}."))).collect(), 100);
    actions(&mut chat);
    let rows = screen(&mut chat, 80, 24);
    assert!(shows(&rows, "m100.") && !shows(&rows, "m79."), "{rows:#?}");
    assert_eq!(actions(&mut chat), []);
    press(&mut chat, KeyCode::PageUp);
    let rows = screen(&mut chat, 80, 24);
    assert!(!shows(&rows, "m100.") && shows(&rows, "m79."), "{rows:#?}");
    assert!(rows[0].contains("Esc: newest"), "{rows:#?}");
    press_with(&mut chat, KeyCode::Home, KeyModifiers::CONTROL);
    let rows = screen(&mut chat, 80, 24);
    assert!(shows(&rows, "m61."), "{rows:#?}");
    assert_eq!(actions(&mut chat), [Action::Pull { session: team(), before: 61 }]);
    assert_eq!(actions(&mut chat), [], "asked for once");
    page(&mut chat, team(), (1..=60).map(|seq| record(seq, "bob", &format!("m{seq}."))).collect(), 100);
    let rows = screen(&mut chat, 80, 24);
    assert!(shows(&rows, "m61."), "the place is kept: {rows:#?}");
    press_with(&mut chat, KeyCode::Home, KeyModifiers::CONTROL);
    assert!(shows(&screen(&mut chat, 80, 24), "m1."));
    press(&mut chat, KeyCode::Esc);
    assert!(shows(&screen(&mut chat, 80, 24), "m100."));
}

#[test]
fn reading_old_messages_is_not_disturbed_by_new_ones() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 100, 0)]);
    chat.open(team());
    page(&mut chat, team(), (1..=100).map(|seq| record(seq, "bob", &format!("m{seq}."))).collect(), 100);
    press(&mut chat, KeyCode::PageUp);
    let history = |rows: Vec<String>| -> Vec<String> {
        rows[1..22].iter().filter_map(|row| row.split_once('│')).map(|(_, text)| text.to_owned()).collect()
    };
    let before = history(screen(&mut chat, 80, 24));
    message(&mut chat, team(), record(101, "bob", "m101."));
    let after = history(screen(&mut chat, 80, 24));
    assert!(!before.is_empty());
    assert_eq!(before, after);
}

#[test]
fn a_lost_connection_is_said() {
    let mut chat = filled();
    chat.event(Event::Disconnected { reason: "node 2 is down".to_owned() });
    let rows = screen(&mut chat, 80, 24);
    assert!(rows[23].contains("reconnecting… (node 2 is down)"), "{rows:#?}");
}

#[test]
fn help_lies_over_the_history_until_a_key_is_pressed() {
    let mut chat = filled();
    typed(&mut chat, "/help");
    assert!(shows(&screen(&mut chat, 80, 24), "create a group and open it"));
    press(&mut chat, KeyCode::Esc);
    assert!(!shows(&screen(&mut chat, 80, 24), "create a group and open it"));
}

#[test]
fn messages_cannot_speak_to_the_terminal() {
    let mut chat = chat();
    chat.open(bob());
    message(&mut chat, bob(), record(1, "bob", "\u{1b}[2Jgone\u{7}"));
    let rows = screen(&mut chat, 80, 24);
    assert!(shows(&rows, "[2Jgone"), "{rows:#?}");
    assert!(!rows.iter().any(|row| row.contains('\u{1b}') || row.contains('\u{7}')));
}

#[test]
fn without_colours_nothing_is_coloured() {
    let mut chat = filled();
    typed(&mut chat, "mine");
    for colours in [true, false] {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let look = Look { palette: Palette::new(colours), zone: Zone::Utc };
        terminal.draw(|frame| _ = draw(frame, &mut chat, look)).unwrap();
        let cells = terminal.backend().buffer().content();
        let coloured = cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!(coloured, colours);
    }
}

#[test]
fn an_empty_chat_says_how_to_begin() {
    let mut chat = chat();
    let rows = screen(&mut chat, 80, 24);
    assert!(shows(&rows, "Hello ann") && shows(&rows, "/dm USER"), "{rows:#?}");
    chat.open(bob());
    assert!(shows(&screen(&mut chat, 80, 24), "Write to @bob"));
    let mut wide = record(1, "bob", "");
    wide.content = Blob::from("漢字 👩‍👩‍👧 e\u{301}");
    message(&mut chat, bob(), wide);
    for width in 1..40 {
        screen(&mut chat, width, 10);
    }
}
