//! Writing to the terminal: colours only where they are seen, and a closed pipe is not a panic.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// For what is well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// For what deserves a look.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// For what is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// For what matters less.
pub(crate) const DIM: Style = Style::new().dimmed();
/// For headings.
pub(crate) const BOLD: Style = Style::new().bold();

/// Prints a line on stdout.
///
/// # Errors
/// What the stream says, `BrokenPipe` among it.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(anstream::stdout().lock(), "{text}")
}

/// Tells a person something on stderr. If nobody can see it, it is lost.
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Tells an error with its causes.
pub(crate) fn error(fault: &anyhow::Error) {
    tell(format_args!("{}: {fault:#}", paint(BAD, "error")));
}

/// The text in a style.
pub(crate) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Whether a person looks at stderr, so that a spinner is worth it.
pub(crate) fn watched() -> bool {
    io::stderr().is_terminal()
}

/// A spinner on stderr, or nothing where nobody looks.
pub(crate) fn spinner(text: &str) -> indicatif::ProgressBar {
    let bar =
        if watched() { indicatif::ProgressBar::new_spinner() } else { indicatif::ProgressBar::hidden() };
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar.set_message(text.to_owned());
    bar
}

/// Sends tracing to stderr. `ROOKERY_LOG` goes before `level`. The first call counts.
pub(crate) fn init_log(level: &str, format: LogFormat) {
    // A plain level is for our own lines. What openraft says of itself (an ERROR for each link that ends at an orderly
    // stop, for one) is for those who ask for it; what concerns the node, the node says.
    let plain = !level.contains([',', '=']);
    let level = if plain { format!("{level},openraft=off") } else { level.to_owned() };
    let filter = EnvFilter::try_from_env("ROOKERY_LOG").or_else(|_| EnvFilter::try_new(&level));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // `Err` says that it was set up before.
    let _ = match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
}

/// `1.2 GiB`, for people.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// `2h 5m`, for people.
pub(crate) fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}
