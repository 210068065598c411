//! Keys: which of them does what.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::commands;
use super::state::Chat;

/// Rows a small scroll step moves.
const STEP: usize = 3;

/// One key. `page`: rows of history on the screen.
pub(super) fn press(chat: &mut Chat, key: KeyEvent, page: usize) {
    if key.kind == KeyEventKind::Release {
        return;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    if chat.popup.is_some() && scrolls(chat, key.code, page) {
        return;
    }
    if chat.popup.take().is_some() && !(control && key.code == KeyCode::Char('c')) {
        // The key that closes it does nothing else, unless something is being typed.
        if !matches!(key.code, KeyCode::Char(_)) {
            return;
        }
    }
    match key.code {
        KeyCode::Char(character) if control => with_control(chat, character),
        KeyCode::Char(character) if alt => with_alt(chat, character),
        KeyCode::Char(character) => chat.input.insert(character.encode_utf8(&mut [0; 4])),
        KeyCode::Enter if alt || key.modifiers.contains(KeyModifiers::SHIFT) => chat.input.insert("\n"),
        KeyCode::Enter => chat.enter(),
        KeyCode::Tab => tab(chat),
        KeyCode::BackTab => chat.step(false),
        KeyCode::Up if alt => chat.step(false),
        KeyCode::Down if alt => chat.step(true),
        KeyCode::Left if alt || control => chat.input.word_left(),
        KeyCode::Right if alt || control => chat.input.word_right(),
        KeyCode::Up if key.modifiers.contains(KeyModifiers::SHIFT) => up(chat, STEP),
        KeyCode::Down if key.modifiers.contains(KeyModifiers::SHIFT) => down(chat, STEP),
        KeyCode::Up => chat.input.older(),
        KeyCode::Down => chat.input.newer(),
        KeyCode::Left => chat.input.left(),
        KeyCode::Right => chat.input.right(),
        KeyCode::Home if control => up(chat, usize::MAX / 2),
        KeyCode::End if control => down(chat, usize::MAX),
        KeyCode::Home => chat.input.home(),
        KeyCode::End => chat.input.end(),
        KeyCode::PageUp => up(chat, page.saturating_sub(1).max(1)),
        KeyCode::PageDown => down(chat, page.saturating_sub(1).max(1)),
        KeyCode::Backspace if alt || control => chat.input.delete_word(),
        KeyCode::Backspace => chat.input.backspace(),
        KeyCode::Delete => chat.input.delete(),
        KeyCode::Esc => {
            chat.notice = None;
            down(chat, usize::MAX);
        }
        _ => {}
    }
}

/// Moves a popup that has more lines than fit. The view brings it back to what there is.
fn scrolls(chat: &mut Chat, code: KeyCode, page: usize) -> bool {
    let page = page.saturating_sub(2).max(1);
    let Some(popup) = chat.popup.as_mut().filter(|popup| popup.lines.len() > page) else { return false };
    popup.top = match code {
        KeyCode::Up => popup.top.saturating_sub(1),
        KeyCode::Down => popup.top.saturating_add(1),
        KeyCode::PageUp => popup.top.saturating_sub(page),
        KeyCode::PageDown => popup.top.saturating_add(page),
        KeyCode::Home => 0,
        KeyCode::End => usize::MAX,
        _ => return false,
    };
    true
}

fn with_control(chat: &mut Chat, character: char) {
    match character {
        'c' => chat.quit(),
        'd' if chat.input.is_empty() => chat.quit(),
        'd' => chat.input.delete(),
        'a' => chat.input.home(),
        'e' => chat.input.end(),
        'b' => chat.input.left(),
        'f' => chat.input.right(),
        'h' => chat.input.backspace(),
        'j' => chat.input.insert("\n"),
        'k' => chat.input.delete_to_end(),
        'u' => chat.input.delete_to_start(),
        'w' => chat.input.delete_word(),
        'n' => chat.step(true),
        'p' => chat.step(false),
        _ => {}
    }
}

fn with_alt(chat: &mut Chat, character: char) {
    match character {
        'b' => chat.input.word_left(),
        'f' => chat.input.word_right(),
        '1'..='9' => {
            let at = character as usize - '1' as usize;
            if let Some(id) = chat.listed().get(at).map(|session| session.id.clone()) {
                chat.open(id);
            }
        }
        _ => {}
    }
}

fn tab(chat: &mut Chat) {
    if chat.input.text().starts_with('/') {
        if let Some(command) = commands::complete(chat.input.text()) {
            chat.input.set(&command);
        }
    } else {
        chat.step(true);
    }
}

fn up(chat: &mut Chat, rows: usize) {
    if let Some(session) = chat.current_mut() {
        // The view brings it back to what there is, and asks for more.
        session.scroll = session.scroll.saturating_add(rows);
    }
}

fn down(chat: &mut Chat, rows: usize) {
    if let Some(session) = chat.current_mut() {
        session.scroll = session.scroll.saturating_sub(rows);
        if session.scroll == 0 && rows == usize::MAX {
            session.new_after = None;
        }
    }
}
