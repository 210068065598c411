//! Text into lines of a width, by what a terminal shows: graphemes and their columns.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Columns a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.width()
}

/// A text without what could move the cursor or change the terminal: line breaks stay, tabs become spaces, other
/// control characters a replacement mark.
pub(super) fn harmless(text: &str) -> String {
    let keep = |c: char| match c {
        '\n' => '\n',
        '\t' => ' ',
        // Besides controls: marks that turn the direction of what follows, even beyond the message.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.replace("\r\n", "\n").chars().map(keep).collect()
}

/// The text cut to at most `width` columns, with a mark if something is missing.
pub(super) fn shortened(text: &str, width: usize) -> String {
    let text = text.split('\n').next().unwrap_or("");
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for grapheme in text.graphemes(true) {
        if columns(&short) + columns(grapheme) + 1 > width {
            break;
        }
        short.push_str(grapheme);
    }
    if width > 0 {
        short.push('…');
    }
    short
}

/// Breaks a text at spaces (inside a word only when the word is wider than a line). The first line has
/// `width - indent` columns. At least one line comes back.
pub(super) fn wrapped(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut room = width.saturating_sub(indent).max(1);
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut used = 0;
        for word in paragraph.split_word_bounds() {
            let wide = columns(word);
            if used + wide <= room {
                line.push_str(word);
                used += wide;
                continue;
            }
            if word.chars().all(char::is_whitespace) {
                continue;
            }
            if wide <= width.max(1) && used > 0 {
                // To the next line; what hung before it (an opening bracket) may stay.
                lines.push(line.trim_end().to_owned());
                (line, used, room) = (word.to_owned(), wide, width.max(1));
                continue;
            }
            for grapheme in word.graphemes(true) {
                if used + columns(grapheme) > room && used > 0 {
                    lines.push(std::mem::take(&mut line));
                    (used, room) = (0, width.max(1));
                }
                line.push_str(grapheme);
                used += columns(grapheme);
            }
        }
        lines.push(line.trim_end().to_owned());
        room = width.max(1);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{columns, harmless, shortened, wrapped};

    #[test]
    fn words_stay_whole_where_they_fit() {
        assert_eq!(wrapped("the quick brown fox", 10, 0), ["the quick", "brown fox"]);
        assert_eq!(wrapped("the quick brown fox", 10, 5), ["the", "quick", "brown fox"]);
        assert_eq!(wrapped("", 10, 0), [""]);
        assert_eq!(wrapped("a\n\nb", 10, 0), ["a", "", "b"]);
    }

    #[test]
    fn long_words_and_wide_characters_are_broken_by_columns() {
        assert_eq!(wrapped("abcdefgh", 3, 0), ["abc", "def", "gh"]);
        for line in wrapped("漢字漢字漢字 и ещё 👩‍👩‍👧", 5, 2) {
            assert!(columns(&line) <= 5, "{line}");
        }
        // A width that fits nothing still ends.
        assert!(!wrapped("漢字", 1, 9).is_empty());
    }

    #[test]
    fn nothing_of_a_message_reaches_the_terminal_as_a_command() {
        assert_eq!(harmless("a\u{1b}]0;x\u{7}\tb\nc\u{202e}d"), "a\u{fffd}]0;x\u{fffd} b\nc\u{fffd}d");
    }

    #[test]
    fn shortening_keeps_to_the_width() {
        assert_eq!(shortened("hello", 5), "hello");
        assert_eq!(shortened("hello", 4), "hel…");
        assert_eq!(columns(&shortened("漢字漢字", 4)), 3);
        assert_eq!(shortened("x", 0), "");
    }
}
