//! The chat as a person meets it: what happens, what is typed, what the screen then shows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod behaviour;
mod commands;
mod fading;
mod groups;
mod looks;
mod settings;

use bytes::Bytes;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use rookery_client::wire::reply::{Ack, Page, Summary};
use rookery_client::wire::{Blob, Record, RecordKind, SessionId};
use rookery_client::{Event, SyncList};

use super::acts::{About, Action, Outcome};
use super::keys;
use super::palette::Palette;
use super::state::{Chat, Connection};
use super::view::{Look, draw};
use super::zone::Zone;

/// Sunday 22 November 2026, 12:00 UTC.
const NOON: u64 = 1_795_348_800_000;
const MINUTE: u64 = 60_000;

fn chat() -> Chat {
    let up = Connection::Up { node: 2, addr: "127.0.0.1:7402".to_owned() };
    let mut chat = Chat::new("ann".parse().unwrap(), "terminal".parse().unwrap(), up);
    chat.tick(NOON);
    chat
}

fn team() -> SessionId {
    SessionId::group("team".parse().unwrap())
}

fn bob() -> SessionId {
    SessionId::direct(&"ann".parse().unwrap(), &"bob".parse().unwrap()).unwrap()
}

fn record(seq: u64, sender: &str, text: &str) -> Record {
    Record {
        seq,
        message_id: seq,
        time_ms: NOON - 60 * MINUTE + seq * MINUTE,
        count: seq,
        sender: sender.parse().unwrap(),
        device: "phone".parse().unwrap(),
        epoch: 1,
        client_seq: 1,
        kind: RecordKind::CONTENT,
        content_type: Blob::from("text/plain"),
        content: Blob(Bytes::copy_from_slice(text.as_bytes())),
        extensions: Vec::new(),
    }
}

fn summary(session: SessionId, last_seq: u64, unread: u64) -> Summary {
    Summary {
        session,
        members: 3,
        first_seq: 1,
        last_seq,
        count: last_seq,
        unread,
        joined_seq: 1,
        read_seq: last_seq - unread,
        delivered_seq: 0,
        last_client_seq: 0,
        live_from: last_seq + 1,
        time_ms: NOON - 60 * MINUTE + last_seq * MINUTE,
        last: None,
        settings: rookery_client::wire::own::Settings::default(),
    }
}

fn synced(chat: &mut Chat, sessions: Vec<Summary>) {
    chat.outcome(Outcome::Synced(Ok(SyncList { sessions, unresolved: Vec::new() })));
}

fn message(chat: &mut Chat, session: SessionId, record: Record) {
    chat.event(Event::Message { session, record });
}

fn page(chat: &mut Chat, session: SessionId, records: Vec<Record>, last_seq: u64) {
    let page = Page { session: session.clone(), first_seq: 1, last_seq, records };
    chat.outcome(Outcome::About(session, About::Page(Ok(page))));
}

fn ack(session: SessionId, seq: u64) -> Ack {
    Ack { session, client_seq: 1, seq, message_id: seq, time_ms: NOON, count: seq }
}

fn typed(chat: &mut Chat, text: &str) {
    chat.input.insert(text);
    press(chat, KeyCode::Enter);
}

fn press(chat: &mut Chat, code: KeyCode) {
    keys::press(chat, KeyEvent::new(code, KeyModifiers::NONE), 10);
}

fn press_with(chat: &mut Chat, code: KeyCode, modifiers: KeyModifiers) {
    keys::press(chat, KeyEvent::new(code, modifiers), 10);
}

/// The screen as text, one string a row, without trailing blanks.
fn screen(chat: &mut Chat, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let look = Look { palette: Palette::new(true), zone: Zone::Utc };
    terminal.draw(|frame| _ = draw(frame, chat, look)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect()
}

fn shows(rows: &[String], text: &str) -> bool {
    rows.iter().any(|row| row.contains(text))
}

/// The actions, without what seeing a message, typing and knowing people and groups cause.
fn actions(chat: &mut Chat) -> Vec<Action> {
    chat.take_actions().into_iter().filter(|action| !is_aside(action)).collect()
}

fn is_aside(action: &Action) -> bool {
    matches!(
        action,
        Action::Read { .. }
            | Action::Typing { .. }
            | Action::Watch { .. }
            | Action::WatchGroup { .. }
            | Action::Facts { .. }
            | Action::HasRead { .. }
    )
}
