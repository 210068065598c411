//! The table of keys: what each is called, what it may hold, and what it is for.
//!
//! A section is declared once, by [`section!`]; from it come the struct the program reads, its defaults, the checks
//! of [`super::read`], and the comparison with `docs/config.md`. Must never hold a key that the program does not read.

/// What a key may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number within bounds, with its unit for people.
    Number {
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
        /// Unit: `bytes`, `ms`, `records`, …
        unit: &'static str,
    },
    /// Two numbers `[low, high]`, each within bounds.
    Pair {
        /// Least value of either.
        min: u64,
        /// Greatest value of either.
        max: u64,
        /// Unit of both.
        unit: &'static str,
    },
    /// A text with so many bytes.
    Text {
        /// Least length.
        min: usize,
        /// Greatest length.
        max: usize,
    },
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// Shorthand for the tables of `sections.rs`.
pub(super) const fn number(min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Number { min, max, unit }
}

/// As [`number`], twice.
pub(super) const fn pair(min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Pair { min, max, unit }
}

/// A text of `min` to `max` bytes.
pub(super) const fn text(min: usize, max: usize) -> Kind {
    Kind::Text { min, max }
}

/// One key of a section.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name within the section.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Whether it must be given, having no default.
    pub required: bool,
    /// What it is for: the doc comment of the field.
    pub doc: &'static str,
}

impl Key {
    /// A key that must be given.
    pub(super) const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, required: true, doc }
    }
}

/// Keys that there are no more, with what stands in their place: section, name, and what to write.
pub(super) const RENAMED: &[(&str, &str, &str)] = &[
    (
        "storage",
        "retention_age_ms",
        "direct sessions and groups have one each: write retention_direct_age_ms and retention_group_age_ms",
    ),
    (
        "storage",
        "retention_count",
        "direct sessions and groups have one each: write retention_direct_count and retention_group_count",
    ),
];

/// One `[section]` of the file.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// Whether it is an array of tables, `[[section]]`.
    pub many: bool,
    /// Its keys, in the order of the page.
    pub keys: &'static [Key],
}

impl Kind {
    /// What is allowed, for people and for `docs/config.md`: `1024 to 16777216 bytes`.
    pub fn allowed(&self) -> String {
        match self {
            Kind::Number { min, max, unit } => format!("{min} to {max} {unit}").trim_end().to_owned(),
            Kind::Pair { min, max, unit } => {
                format!("[low, high], each {min} to {max} {unit}").trim_end().to_owned()
            }
            Kind::Text { min, max } => format!("a text of {min} to {max} bytes"),
            Kind::Flag => "true or false".to_owned(),
            Kind::Choice(words) => {
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
            }
        }
    }
}

/// Declares a section: a struct whose fields are keys, each with its default and what it may hold.
macro_rules! section {
    ($(#[$about:meta])* $section:ident, $name:literal {
        $($(#[doc = $doc:literal])+ $field:ident : $type:ty = $default:expr, $kind:expr;)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }
        impl Default for $section {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
        impl $section {
            /// The section's keys.
            pub const SECTION: $crate::config::keys::Section = $crate::config::keys::Section {
                name: $name,
                many: false,
                keys: &[$($crate::config::keys::Key {
                    name: stringify!($field),
                    kind: $kind,
                    required: false,
                    doc: concat!($($doc),+),
                }),*],
            };
        }
    };
}
pub(super) use section;
