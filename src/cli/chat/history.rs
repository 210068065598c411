//! The history of one session as rows of the screen, built from the newest upwards and only as far as is shown.

use ratatui::text::{Line, Span};
use rookery_client::Goes;
use rookery_client::wire::UserId;

use super::conversation::{Body, Conversation, Entry};
use super::palette::Palette;
use super::wrap::{columns, harmless, shortened, wrapped};
use super::zone::{Zone, same_day};

/// Columns of `14:03 ` before each message.
const TIME: usize = 6;
/// Columns a name may take.
const NAME: usize = 20;

/// The rows that are shown, and what became of the wish to scroll.
pub(super) struct Rows {
    pub(super) lines: Vec<Line<'static>>,
    /// The scroll position, brought back to what there is.
    pub(super) scroll: usize,
    /// The oldest message at hand is on the screen.
    pub(super) at_top: bool,
}

/// `height` rows of `width` columns, `scroll` rows up from the newest.
pub(super) fn rows(
    conversation: &Conversation,
    me: &str,
    (palette, zone, numbers): (Palette, Zone, bool),
    (width, height): (usize, usize),
    now_ms: u64,
) -> Rows {
    let painter = Painter { palette, zone, width: width.max(1), me, now_ms, numbers };
    let wanted = conversation.scroll.saturating_add(height);
    // Newest first; turned over at the end.
    let mut upwards: Vec<Line<'static>> = Vec::new();
    for pending in conversation.pending.iter().rev() {
        let mut mark = painter.going(pending.goes, None);
        mark.push(Span::styled(" …", palette.dim()));
        if let Some(reason) = &pending.failed {
            mark = vec![Span::styled(format!(" ✗ {}", harmless(reason)), palette.bad())];
        }
        let name = (me.to_owned(), palette.me());
        let text = harmless(&pending.text);
        upwards.extend(painter.message(pending.time_ms, None, name, &text, mark).into_iter().rev());
    }
    let mut later: Option<u64> = None;
    let mut entries = conversation.entries.iter().rev();
    let mut complete = false;
    while upwards.len() < wanted {
        let Some((&seq, entry)) = entries.next() else {
            upwards.extend(later.map(|time_ms| painter.day(time_ms)));
            complete = true;
            break;
        };
        if let Some(later) = later.filter(|later| !same_day(zone, entry.time_ms, *later)) {
            upwards.push(painter.day(later));
        }
        let next_is_new = conversation.new_after == Some(seq);
        if next_is_new && later.is_some() {
            upwards.push(painter.rule("new", palette.warn()));
        }
        upwards.extend(painter.entry(seq, entry).into_iter().rev());
        later = Some(entry.time_ms);
    }
    if complete && conversation.loading {
        upwards.push(Line::from(Span::styled("loading older messages…", palette.dim())));
    }
    let scroll = if complete {
        conversation.scroll.min(upwards.len().saturating_sub(height))
    } else {
        conversation.scroll
    };
    let at_top = complete && scroll + height >= upwards.len();
    let mut lines: Vec<Line<'static>> = upwards.into_iter().skip(scroll).take(height).collect();
    lines.reverse();
    Rows { lines, scroll, at_top }
}

/// Rows that the message at `seq` takes, 0 if it is not there; without day lines, so nearly exact.
pub(super) fn rows_of(
    conversation: &Conversation,
    seq: u64,
    me: &UserId,
    (width, numbers): (usize, bool),
) -> usize {
    let painter = Painter {
        palette: Palette::new(false),
        zone: Zone::Local,
        width: width.max(1),
        me: me.as_str(),
        now_ms: 0,
        numbers,
    };
    conversation.entries.get(&seq).map_or(0, |entry| painter.entry(seq, entry).len())
}

struct Painter<'a> {
    palette: Palette,
    zone: Zone,
    width: usize,
    me: &'a str,
    now_ms: u64,
    /// Messages are shown with their numbers.
    numbers: bool,
}

impl Painter<'_> {
    fn entry(&self, seq: u64, entry: &Entry) -> Vec<Line<'static>> {
        let mine = entry.sender.as_str() == self.me;
        let style = if mine { self.palette.me() } else { self.palette.person(entry.sender.as_str()) };
        let name = (harmless(entry.sender.as_str()), style);
        let mut mark = self.going(entry.goes, entry.until_ms);
        if entry.own {
            mark.push(Span::styled(" ✓", self.palette.good()));
        }
        let number = self.numbers.then_some(seq);
        match &entry.body {
            Body::Text(text) | Body::Other(text) => self.message(entry.time_ms, number, name, text, mark),
            Body::Signal(text) => {
                let time = self.zone.time(entry.time_ms);
                let number = number.map_or_else(String::new, |seq| format!("{seq} "));
                let text = format!("{time} {number}· {text}");
                let lines = wrapped(&text, self.width, 0).into_iter();
                lines.map(|line| Line::from(Span::styled(line, self.palette.dim()))).collect()
            }
        }
    }

    /// When a message goes, if it does not stay.
    fn going(&self, goes: Goes, until_ms: Option<u64>) -> Vec<Span<'static>> {
        let words = match (goes, until_ms) {
            (Goes::Never, _) => return Vec::new(),
            (_, Some(until_ms)) if same_day(self.zone, until_ms, self.now_ms) => {
                format!(" · goes at {}", self.zone.time(until_ms))
            }
            (_, Some(until_ms)) => format!(" · goes {}", self.zone.day(until_ms, self.now_ms)),
            (_, None) => " · goes once read".to_owned(),
        };
        vec![Span::styled(words, self.palette.dim())]
    }

    /// `14:03 name: text`, or `14:03 17 name: text` with its number, what is wrapped indented, the mark behind the last word.
    fn message(
        &self,
        time_ms: u64,
        number: Option<u64>,
        (name, style): (String, ratatui::style::Style),
        text: &str,
        mark: Vec<Span<'static>>,
    ) -> Vec<Line<'static>> {
        let name = shortened(&name, NAME.min(self.width / 3).max(3));
        // On a very narrow screen the time would leave nothing for the words.
        let indent = if self.width >= 4 * TIME { TIME } else { 0 };
        let room = self.width - indent;
        let number = number.map_or_else(String::new, |seq| format!("{seq} "));
        let texts = wrapped(text, room, columns(&number) + columns(&name) + 2);
        let last = texts.len() - 1;
        let mut lines = Vec::with_capacity(texts.len());
        for (at, text) in texts.into_iter().enumerate() {
            let mut spans = Vec::new();
            if at == 0 {
                if indent > 0 {
                    spans.push(Span::styled(format!("{} ", self.zone.time(time_ms)), self.palette.dim()));
                }
                spans.push(Span::styled(number.clone(), self.palette.dim()));
                spans.push(Span::styled(format!("{name}:"), style));
                spans.push(Span::raw(" "));
            } else {
                spans.push(Span::raw(" ".repeat(indent)));
            }
            spans.push(Span::raw(text));
            let mut line = Line::from(spans);
            if at == last && !mark.is_empty() {
                let wide: usize = mark.iter().map(|span| columns(&span.content)).sum();
                if line.width() + wide > self.width {
                    lines.push(std::mem::take(&mut line));
                    line.spans.push(Span::raw(" ".repeat(indent.saturating_sub(1))));
                }
                line.spans.extend(mark.iter().cloned());
            }
            lines.push(line);
        }
        lines
    }

    fn day(&self, time_ms: u64) -> Line<'static> {
        self.rule(&self.zone.day(time_ms, self.now_ms), self.palette.dim())
    }

    fn rule(&self, text: &str, style: ratatui::style::Style) -> Line<'static> {
        let text = shortened(text, self.width.saturating_sub(4));
        let rest = self.width.saturating_sub(columns(&text) + 2);
        let (left, right) = (rest / 2, rest - rest / 2);
        Line::from(Span::styled(format!("{} {text} {}", "─".repeat(left), "─".repeat(right)), style))
    }
}
