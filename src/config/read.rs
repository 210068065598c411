//! From text to [`Config`]: every key is known, of the right type, within its bounds; else a [`Problem`] says so.
//!
//! Owns the walk over the parsed file against the table of keys. What concerns several keys together is checked in
//! `cross.rs`. Must never stop at the first problem: a person corrects a file once.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::error::Problem;
use super::keys::{Key, Kind, RENAMED, Section};
use super::sections::SECTIONS;

/// Walks the file and lists what is wrong with it.
pub(super) fn problems(source: &str) -> Vec<Problem> {
    let mut walk = Walk { source, found: Vec::new() };
    match DeTable::parse(source) {
        Ok(file) => walk.file(file.get_ref()),
        Err(fault) => {
            let text = format!("not TOML: {}", fault.message());
            walk.push(fault.span().unwrap_or(0..0), text);
        }
    }
    walk.found.sort_by_key(|problem| problem.line);
    walk.found
}

/// Line of a byte offset, from 1.
pub(super) fn line_of(source: &str, at: usize) -> usize {
    source.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The nearest of `known` to a misspelt word, if any is near.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::jaro_winkler(&word.to_lowercase(), name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

struct Walk<'a> {
    source: &'a str,
    found: Vec<Problem>,
}

impl Walk<'_> {
    fn push(&mut self, span: Range<usize>, text: String) {
        self.found.push(Problem { line: line_of(self.source, span.start), text });
    }

    fn file(&mut self, file: &DeTable<'_>) {
        for (name, value) in file.iter() {
            let word: &str = name.get_ref();
            match SECTIONS.iter().find(|section| section.name == word) {
                None => self.unknown_section(name.span(), word),
                Some(section) if section.many => self.tables(section, value),
                Some(section) => match value.get_ref() {
                    DeValue::Table(table) => self.section(section, table, value.span()),
                    other => {
                        let text = format!("{word} is a section, `[{word}]`, not {}", describe(other));
                        self.push(value.span(), text);
                    }
                },
            }
        }
    }

    fn unknown_section(&mut self, span: Range<usize>, word: &str) {
        // A key of some section that stands above every header is a likelier slip than a misspelt section.
        let home = SECTIONS.iter().find(|section| section.keys.iter().any(|key| key.name == word));
        let hint = match (home, nearest(word, SECTIONS.iter().map(|section| section.name))) {
            (Some(section), _) => format!("; {word} belongs into [{}]", section.name),
            (None, Some(near)) => format!("; did you mean [{near}]?"),
            (None, None) => {
                let all = SECTIONS.iter().map(|section| section.name).collect::<Vec<_>>().join(", ");
                format!("; there are {all}")
            }
        };
        self.push(span, format!("there is no section {word}{hint}"));
    }

    fn tables(&mut self, section: &Section, value: &Spanned<DeValue<'_>>) {
        let name = section.name;
        let DeValue::Array(tables) = value.get_ref() else {
            return self
                .push(value.span(), format!("write [[{name}]] with two brackets, once for each {name}"));
        };
        for table in tables.iter() {
            match table.get_ref() {
                DeValue::Table(keys) => self.section(section, keys, table.span()),
                other => self.push(table.span(), format!("each {name} is a table, not {}", describe(other))),
            }
        }
    }

    fn section(&mut self, section: &Section, table: &DeTable<'_>, span: Range<usize>) {
        for (name, value) in table.iter() {
            let word: &str = name.get_ref();
            match section.keys.iter().find(|key| key.name == word) {
                Some(key) => self.value(section, key, value),
                None => self.unknown_key(section, name.span(), word),
            }
        }
        for key in section.keys.iter().filter(|key| key.required && !table.contains_key(key.name)) {
            let text = format!("{}.{} is missing: give {}", section.name, key.name, key.kind.allowed());
            self.push(span.clone(), text);
        }
    }

    fn unknown_key(&mut self, section: &Section, span: Range<usize>, word: &str) {
        let renamed = RENAMED.iter().find(|(of, name, _)| *of == section.name && *name == word);
        if let Some((of, _, instead)) = renamed {
            return self.push(span, format!("{of}.{word} is no key any more: {instead}"));
        }
        let own = nearest(word, section.keys.iter().map(|key| key.name));
        let elsewhere = SECTIONS.iter().find(|other| other.keys.iter().any(|key| key.name == word));
        let hint = match (elsewhere, own) {
            (Some(other), _) => format!("; {word} belongs into [{}]", other.name),
            (None, Some(near)) => format!("; did you mean {}.{near}?", section.name),
            (None, None) => {
                let all = section.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ");
                format!("; [{}] has {all}", section.name)
            }
        };
        self.push(span, format!("there is no key {}.{word}{hint}", section.name));
    }

    fn value(&mut self, section: &Section, key: &Key, value: &Spanned<DeValue<'_>>) {
        let fits = match (key.kind, value.get_ref()) {
            (Kind::Number { min, max, .. }, DeValue::Integer(number)) => within(number, min, max),
            (Kind::Pair { min, max, .. }, DeValue::Array(both)) => pair_within(both, min, max),
            (Kind::Text { min, max }, DeValue::String(text)) => (min..=max).contains(&text.len()),
            (Kind::Flag, DeValue::Boolean(_)) => true,
            (Kind::Choice(words), DeValue::String(text)) => words.contains(&text.as_ref()),
            _ => false,
        };
        if !fits {
            // A secret's own text is never repeated.
            let shown =
                if key.name == "secret" { hidden(value.get_ref()) } else { describe(value.get_ref()) };
            let text = format!("{}.{} is {shown}; allowed: {}", section.name, key.name, key.kind.allowed());
            self.push(value.span(), text);
        }
    }
}

fn parse(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn within(number: &DeInteger<'_>, min: u64, max: u64) -> bool {
    parse(number).is_some_and(|number| (min..=max).contains(&number))
}

fn pair_within(both: &DeArray<'_>, min: u64, max: u64) -> bool {
    let inside = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::Integer(number) => within(number, min, max),
        _ => false,
    };
    both.len() == 2 && both.iter().all(inside)
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.len() <= 64 => format!("the text \"{text}\""),
        DeValue::String(text) => format!("a text of {} bytes", text.len()),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(items) => format!("a list of {} items", items.len()),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn hidden(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("a text of {} bytes", text.len()),
        _ => "not a text".to_owned(),
    }
}
