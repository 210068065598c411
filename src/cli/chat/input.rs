//! The line a person types: editing, and the lines typed before. Knows graphemes, so that the cursor never stands
//! inside one; knows nothing of keys or screens.

use unicode_segmentation::UnicodeSegmentation;

/// Lines kept for the arrow keys.
const KEPT: usize = 200;
/// Longest line, bytes; a paste beyond it is cut.
const MAX_BYTES: usize = 32 << 10;

/// The input line.
#[derive(Debug, Default)]
pub(super) struct Input {
    text: String,
    /// Byte offset of the cursor, always between graphemes.
    at: usize,
    past: Vec<String>,
    /// Which of `past` is shown, and what was being typed before.
    looking: Option<(usize, String)>,
}

impl Input {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What stands before the cursor.
    pub(super) fn before(&self) -> &str {
        &self.text[..self.at]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Takes the line and keeps it for later.
    pub(super) fn take(&mut self) -> String {
        let line = std::mem::take(&mut self.text);
        self.at = 0;
        self.looking = None;
        if !line.trim().is_empty() && self.past.last() != Some(&line) {
            self.past.push(line.clone());
            if self.past.len() > KEPT {
                self.past.remove(0);
            }
        }
        line
    }

    pub(super) fn set(&mut self, text: &str) {
        text.clone_into(&mut self.text);
        self.at = self.text.len();
    }

    /// The same with a text from elsewhere, as if it were inserted.
    pub(super) fn show(&mut self, text: &str) {
        self.set("");
        self.looking = None;
        self.insert(text);
    }

    /// Inserts at the cursor. Tabs become spaces, other control characters but line breaks are dropped.
    pub(super) fn insert(&mut self, text: &str) {
        for character in text.replace("\r\n", "\n").replace('\r', "\n").chars() {
            let character = if character == '\t' { ' ' } else { character };
            let shown = character == '\n' || !character.is_control();
            if shown && self.text.len() + character.len_utf8() <= MAX_BYTES {
                self.text.insert(self.at, character);
                self.at += character.len_utf8();
            }
        }
    }

    pub(super) fn left(&mut self) {
        self.at = self.previous();
    }

    pub(super) fn right(&mut self) {
        self.at = self.next();
    }

    pub(super) fn home(&mut self) {
        self.at = 0;
    }

    pub(super) fn end(&mut self) {
        self.at = self.text.len();
    }

    pub(super) fn word_left(&mut self) {
        self.at = self.word_start();
    }

    pub(super) fn word_right(&mut self) {
        let rest = &self.text[self.at..];
        let skipped = rest.len() - rest.trim_start().len();
        let word = rest.trim_start().find(char::is_whitespace).unwrap_or(rest.trim_start().len());
        self.at += skipped + word;
    }

    pub(super) fn backspace(&mut self) {
        let start = self.previous();
        self.cut(start, self.at);
    }

    pub(super) fn delete(&mut self) {
        let end = self.next();
        self.cut(self.at, end);
    }

    pub(super) fn delete_word(&mut self) {
        let start = self.word_start();
        self.cut(start, self.at);
    }

    pub(super) fn delete_to_start(&mut self) {
        self.cut(0, self.at);
    }

    pub(super) fn delete_to_end(&mut self) {
        self.cut(self.at, self.text.len());
    }

    /// The line typed before the one shown.
    pub(super) fn older(&mut self) {
        let (at, draft) = match self.looking.take() {
            Some((at, draft)) => (at.saturating_sub(1), draft),
            None if self.past.is_empty() => return,
            None => (self.past.len() - 1, self.text.clone()),
        };
        let line = self.past[at].clone();
        self.set(&line);
        self.looking = Some((at, draft));
    }

    /// The line typed after the one shown, at last what was being typed.
    pub(super) fn newer(&mut self) {
        let Some((at, draft)) = self.looking.take() else { return };
        match self.past.get(at + 1).cloned() {
            Some(line) => {
                self.set(&line);
                self.looking = Some((at + 1, draft));
            }
            None => self.set(&draft),
        }
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.at = from;
    }

    fn previous(&self) -> usize {
        self.before().grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn next(&self) -> usize {
        self.text[self.at..].graphemes(true).next().map_or(self.at, |grapheme| self.at + grapheme.len())
    }

    fn word_start(&self) -> usize {
        let before = self.before().trim_end();
        before.char_indices().rev().find(|(_, c)| c.is_whitespace()).map_or(0, |(at, c)| at + c.len_utf8())
    }
}

#[cfg(test)]
mod tests {
    use super::Input;

    fn typed(text: &str) -> Input {
        let mut input = Input::default();
        input.insert(text);
        input
    }

    #[test]
    fn the_cursor_moves_by_what_a_person_sees() {
        let mut input = typed("a👩‍👩‍👧e\u{301}");
        input.backspace();
        assert_eq!(input.text(), "a👩‍👩‍👧");
        input.left();
        assert_eq!(input.before(), "a");
        input.delete();
        assert_eq!(input.text(), "a");
    }

    #[test]
    fn words() {
        let mut input = typed("one two  three ");
        input.delete_word();
        assert_eq!(input.text(), "one two  ");
        input.word_left();
        assert_eq!(input.before(), "one ");
        input.word_right();
        assert_eq!(input.before(), "one two");
        input.delete_to_end();
        input.word_left();
        input.delete_to_start();
        assert_eq!(input.text(), "two");
    }

    #[test]
    fn lines_typed_before_come_back_and_the_draft_is_kept() {
        let mut input = typed("one");
        input.take();
        input.insert("two");
        input.take();
        input.insert("draft");
        input.older();
        input.older();
        input.older();
        assert_eq!(input.text(), "one");
        input.newer();
        assert_eq!(input.text(), "two");
        input.newer();
        assert_eq!(input.text(), "draft");
        input.newer();
        assert_eq!(input.text(), "draft");
    }

    #[test]
    fn control_characters_do_not_get_in() {
        assert_eq!(typed("a\u{1b}[31m\tb\r\nc").text(), "a[31m b\nc");
    }
}
