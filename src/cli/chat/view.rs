//! The screen: session list, history, input line, status line. Draws the state and changes nothing in it but the
//! scroll position, which only the screen's size can bound.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use rookery_client::wire::SessionId;

use super::conversation::Conversation;
use super::history;
use super::palette::Palette;
use super::state::{Chat, Connection};
use super::wrap::{columns, harmless, shortened, wrapped};
use super::zone::Zone;

/// Narrower screens show no session list.
const LIST_FROM: u16 = 60;
/// Lower screens show neither header nor status.
const BARS_FROM: u16 = 7;
const PROMPT: &str = "› ";
/// Signs in the list: at the top by the user's wish, without notifications, marked as unread.
const PINNED: &str = "↑";
const MUTED: &str = "⊘";
const UNREAD: &str = "•";

/// What the screen looks like apart from the state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) palette: Palette,
    pub(super) zone: Zone,
}

/// Draws everything; returns how many rows of history there are.
pub(super) fn draw(frame: &mut Frame<'_>, chat: &mut Chat, look: Look) -> usize {
    let area = frame.area();
    let bars = u16::from(area.height >= BARS_FROM);
    let [body, input, status] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(1), Constraint::Length(bars)]).areas(area);
    let list_width = if area.width >= LIST_FROM { (area.width / 4).clamp(18, 32) } else { 0 };
    let [list, line, main] = Layout::horizontal([
        Constraint::Length(list_width),
        Constraint::Length(list_width.min(1)),
        Constraint::Min(0),
    ])
    .areas(body);
    let [header, history] = Layout::vertical([Constraint::Length(bars), Constraint::Min(0)]).areas(main);
    draw_list(frame, list, chat, look);
    let rule: Vec<Line<'_>> = (0..line.height).map(|_| Line::styled("│", look.palette.dim())).collect();
    frame.render_widget(Paragraph::new(rule), line);
    draw_header(frame, header, chat, look, list_width == 0);
    draw_history(frame, history, chat, look);
    draw_input(frame, input, chat, look);
    draw_status(frame, status, chat, look);
    draw_popup(frame, body, chat, look.palette);
    usize::from(history.height)
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, chat: &Chat, look: Look) {
    if area.is_empty() {
        return;
    }
    let width = usize::from(area.width);
    let listed = chat.listed();
    // Two rows each while that fits, else one.
    let rows = if listed.len() * 2 <= usize::from(area.height) { 2 } else { 1 };
    let fits = (usize::from(area.height) / rows).max(1);
    let open = listed.iter().position(|session| Some(&session.id) == chat.open.as_ref()).unwrap_or(0);
    let first = (open + 1).saturating_sub(fits);
    let mut lines = Vec::new();
    for (at, session) in listed.iter().enumerate().skip(first).take(fits) {
        let is_open = chat.open.is_some() && at == open;
        lines.push(list_name(chat, session, width, is_open, look.palette));
        if rows == 2 {
            let preview = match session.draft.text() {
                draft if draft.is_empty() || is_open => session.preview.clone(),
                draft => harmless(&format!("draft: {draft}")),
            };
            let preview = shortened(&preview, width.saturating_sub(2));
            lines.push(Line::styled(format!(" {preview}"), look.palette.dim()));
        }
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn list_name(
    chat: &Chat,
    session: &Conversation,
    width: usize,
    open: bool,
    palette: Palette,
) -> Line<'static> {
    let badge = match session.unread {
        0 if session.settings.marked_unread => format!(" {UNREAD} "),
        0 => String::new(),
        unread @ 1..=999 => format!(" {unread} "),
        _ => " 999+ ".to_owned(),
    };
    let muted = session.is_muted(chat.now_ms);
    let signs = match (session.settings.pinned, muted) {
        (Some(_), true) => format!(" {PINNED}{MUTED}"),
        (Some(_), false) => format!(" {PINNED}"),
        (None, true) => format!(" {MUTED}"),
        (None, false) => String::new(),
    };
    let taken = columns(&badge) + columns(&signs);
    let name = shortened(&chat.name(&session.id), width.saturating_sub(taken + 2)) + &signs;
    let gap = width.saturating_sub(columns(&name) + columns(&badge) + 1);
    let style = match (open, session.member && !muted, badge.is_empty()) {
        (true, ..) => palette.selected(),
        (_, false, _) => palette.dim(),
        (_, _, true) => Style::new(),
        _ => palette.me(),
    };
    let badge_style = if open || muted { style } else { palette.badge() };
    Line::from(vec![
        Span::styled(format!(" {name}{}", " ".repeat(gap)), style),
        Span::styled(badge, badge_style),
    ])
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, chat: &Chat, look: Look, alone: bool) {
    if area.is_empty() {
        return;
    }
    let mut text = match chat.current() {
        Some(session) => {
            let name = chat.name(&session.id);
            match (&session.id, session.members, session.member) {
                (_, _, false) => format!(" {name} · you are not a member"),
                (SessionId::Group(group), members, _) => {
                    // What commands call it, where that is not what it is called.
                    let id = session.facts.name.as_ref().map(|_| harmless(&format!(" · group:{group}")));
                    let members = members.map(|members| format!(" · {members} members"));
                    let online = chat.company.online_words(&session.id).map(|words| format!(" · {words}"));
                    let words = [id, members, online].map(Option::unwrap_or_default);
                    format!(" {name}{}", words.concat())
                }
                _ => format!(" {name}{}", other_words(chat, session, look)),
            }
        }
        None => " rookery".to_owned(),
    };
    if alone && chat.unread_elsewhere() > 0 {
        // There is no list that would say so.
        text.push_str(&format!(" · {} unread elsewhere (Tab)", chat.unread_elsewhere()));
    }
    if let Some(typing) = chat.current().and_then(|session| chat.company.typing_words(&session.id)) {
        text.push_str(&format!(" · {}", harmless(&typing)));
    }
    let scrolled = chat.current().map_or(0, |session| session.scroll);
    let hint = if scrolled > 0 { "↓ Esc: newest " } else { "" };
    frame.render_widget(both_ends(&text, hint, area.width, look.palette.bar()), area);
}

/// Whether the other one of a direct session is there, and has read the last own message.
fn other_words(chat: &Chat, session: &Conversation, look: Look) -> String {
    let Some(peer) = session.id.peer_of(&chat.me) else { return String::new() };
    let mut words = match chat.company.presence_of(peer) {
        Some(line) if line.online => " · online".to_owned(),
        Some(line) if line.last_seen_ms > 0 => format!(" · last seen {}", look.zone.time(line.last_seen_ms)),
        Some(_) | None => String::new(),
    };
    let own = session.entries.iter().rev().find(|(_, entry)| entry.sender == chat.me);
    if own.is_some_and(|(seq, _)| session.other_read >= *seq) {
        words.push_str(" · read");
    }
    words
}

fn draw_history(frame: &mut Frame<'_>, area: Rect, chat: &mut Chat, look: Look) {
    chat.width = usize::from(area.width);
    let (me, now_ms) = (chat.me.clone(), chat.now_ms);
    let Some(session) = chat.current() else {
        return frame.render_widget(Paragraph::new(welcome(chat)).style(look.palette.dim()), area);
    };
    let size = (usize::from(area.width), usize::from(area.height));
    let rows = history::rows(session, me.as_str(), (look.palette, look.zone, chat.numbers), size, now_ms);
    let mut lines = rows.lines;
    if lines.is_empty() && !session.loading {
        let text = format!(" Nothing was said here yet. Write to {}.", chat.name(&session.id));
        lines.push(Line::styled(text, look.palette.dim()));
    }
    // The newest stands at the bottom.
    let blank = usize::from(area.height).saturating_sub(lines.len());
    let lines: Vec<Line<'_>> = std::iter::repeat_n(Line::default(), blank).chain(lines).collect();
    frame.render_widget(Paragraph::new(lines), area);
    if let Some(session) = chat.current_mut() {
        session.scroll = rows.scroll;
    }
    if rows.at_top {
        chat.want_older();
    }
}

fn welcome(chat: &Chat) -> Vec<Line<'static>> {
    let mut lines = vec![Line::default(), Line::from(format!(" Hello {}.", chat.me))];
    if chat.sessions.is_empty() {
        lines.push(Line::from(" Nobody has written to you yet."));
    } else {
        lines.push(Line::from(" Tab opens a conversation."));
    }
    lines.push(Line::from(" /dm USER begins one, /group NAME USER… makes a group, /help shows the rest."));
    lines
}

fn draw_input(frame: &mut Frame<'_>, area: Rect, chat: &Chat, look: Look) {
    let width = usize::from(area.width).saturating_sub(columns(PROMPT));
    let shown = |text: &str| text.replace('\n', "⏎");
    let before = shown(chat.input.before());
    let text = shown(chat.input.text());
    // As much is left out at the left as keeps the cursor on the screen.
    let mut hidden = 0;
    let mut start = 0;
    for (at, character) in before.char_indices() {
        if columns(&before) - hidden < width.max(1) {
            break;
        }
        start = at + character.len_utf8();
        hidden = columns(&before[..start]);
    }
    let line = if text.is_empty() {
        let hint = if chat.open.is_some() { "write a message, or /help" } else { "/dm USER, or /help" };
        Line::from(vec![Span::raw(PROMPT), Span::styled(shortened(hint, width), look.palette.dim())])
    } else {
        Line::from(vec![Span::raw(PROMPT), Span::raw(text[start..].to_owned())])
    };
    frame.render_widget(Paragraph::new(line), area);
    let column = columns(PROMPT) + columns(&before) - hidden;
    let x = area.x + u16::try_from(column).unwrap_or(u16::MAX).min(area.width.saturating_sub(1));
    frame.set_cursor_position(Position::new(x, area.y));
}

fn draw_status(frame: &mut Frame<'_>, area: Rect, chat: &Chat, look: Look) {
    if area.is_empty() {
        return;
    }
    let palette = look.palette;
    let (text, style) = match (&chat.notice, &chat.connection) {
        (Some((notice, _)), _) => (format!(" {notice}"), palette.warn()),
        (None, Connection::Up { node, addr }) => {
            (format!(" {} · node {node} at {addr}", chat.me), palette.dim())
        }
        (None, Connection::Down { reason }) => (format!(" reconnecting… ({reason})"), palette.bad()),
    };
    frame.render_widget(both_ends(&text, "/help ", area.width, style), area);
}

/// A text at the left, another at the right if there is room for both.
fn both_ends(left: &str, right: &str, width: u16, style: Style) -> Paragraph<'static> {
    let width = usize::from(width);
    let left = shortened(left, width);
    let gap = width.saturating_sub(columns(&left));
    let right = if columns(right) < gap { right } else { "" };
    let line = format!("{left}{}{right}", " ".repeat(gap - columns(right)));
    Paragraph::new(Line::styled(line, style))
}

fn draw_popup(frame: &mut Frame<'_>, area: Rect, chat: &mut Chat, palette: Palette) {
    let Some(popup) = &mut chat.popup else { return };
    let wide = popup.lines.iter().map(|line| columns(line)).max().unwrap_or(0).max(columns(&popup.title)) + 4;
    let width = u16::try_from(wide).unwrap_or(u16::MAX).min(area.width);
    let inside = usize::from(width.saturating_sub(3)).max(1);
    let lines: Vec<String> = popup.lines.iter().flat_map(|line| wrapped(line, inside, 0)).collect();
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let (x, y) = (area.x + (area.width - width) / 2, area.y + (area.height - height) / 2);
    let place = Rect { x, y, width, height };
    let block = Block::bordered().title(format!(" {} ", popup.title)).border_style(palette.dim());
    let room = usize::from(height.saturating_sub(2));
    let last = lines.len().saturating_sub(room);
    popup.top = popup.top.min(last);
    let mut shown: Vec<Line<'_>> =
        lines.iter().skip(popup.top).take(room).map(|line| Line::from(format!(" {line}"))).collect();
    let below = last - popup.top;
    if below > 0 && room > 0 {
        shown[room - 1] = Line::from(format!(" … {} more (PgDn)", below + 1));
    }
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(shown).block(block), place);
}
