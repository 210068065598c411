//! Colours, or none: with `NO_COLOR` everything is told by bold, dim and reverse alone.

use ratatui::style::{Color, Modifier, Style};

/// Colours of people: those of the terminal's own sixteen that are read well on dark and on light.
const PEOPLE: [Color; 6] =
    [Color::Cyan, Color::Magenta, Color::Green, Color::Yellow, Color::Blue, Color::LightRed];

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    colours: bool,
}

impl Palette {
    pub(super) fn new(colours: bool) -> Self {
        Self { colours }
    }

    /// As the environment asks (<https://no-color.org>).
    pub(super) fn from_env() -> Self {
        Self::new(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// A person, the same everywhere.
    pub(super) fn person(self, name: &str) -> Style {
        // FNV-1a: small, and the same in every run.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.coloured(PEOPLE[(hash % PEOPLE.len() as u64) as usize]).add_modifier(Modifier::BOLD)
    }

    pub(super) fn me(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    pub(super) fn warn(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(super) fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn badge(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn bar(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
