//! `docs/errors.md` and `docs/protocol.md` list exactly what the code has.

use std::fs;
use std::path::PathBuf;

use rookery_wire::{ErrorCode, Kind, Retry};

use crate::cases;
use crate::json::{from_hex, to_hex};

fn page(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

/// The rows of a page's tables whose first cell is a number, as trimmed cells.
fn numbered_rows(page: &str) -> Vec<(u16, Vec<&str>)> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells.filter_map(|cells| Some((cells[0].parse().ok()?, cells))).collect()
}

#[test]
fn the_error_page_lists_every_code() {
    let page = page("errors.md");
    let rows = numbered_rows(&page);
    let listed: Vec<u16> = rows.iter().map(|(number, _)| *number).collect();
    let known: Vec<u16> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
    assert_eq!(listed, known, "codes in ascending order, each once");
    for (number, cells) in rows {
        let code = ErrorCode::from_number(number);
        let [_, name, cause, remedy, retry] = cells[..] else { panic!("{code} has five cells") };
        assert_eq!(name, code.name());
        assert!(!cause.is_empty(), "{code} has a cause");
        assert_eq!(remedy, code.remedy(), "{code}");
        let words = match code.retry() {
            Retry::Never => "no",
            Retry::After(_) => "after",
            Retry::Reconnect => "reconnect",
        };
        assert_eq!(retry, words, "{code}");
    }
}

/// Which refusals leave a number taken is stated once, in the sentence that names them.
#[test]
fn the_error_page_says_which_refusals_take_a_number() {
    let page = page("errors.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, sentence) = page.split_once("In answer to a numbered request, ").unwrap();
    let (names, _) = sentence.split_once(" **leave").unwrap();
    let named: Vec<&str> = names.split(", ").collect();
    let taking: Vec<&str> =
        ErrorCode::ALL.iter().filter(|code| code.takes_client_seq()).map(|code| code.name()).collect();
    assert_eq!(named, taking);
}

/// Clients written from the protocol's page count as those written from the code.
#[test]
fn the_protocol_page_says_which_refusals_take_a_number() {
    let page = page("protocol.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, rest) = page.split_once("**takes the number**: ").unwrap();
    let (taking, rest) = rest.split_once(". ").unwrap();
    let (sparing, _) = rest.split_once(" say in `detail`").unwrap();
    let earlier = [ErrorCode::ClientSeqReused, ErrorCode::AlreadyTrimmed];
    let names = |which: &dyn Fn(&ErrorCode) -> bool| {
        let codes = ErrorCode::ALL.iter().filter(|code| which(code));
        codes.map(|code| code.name()).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(taking, names(&|code| code.takes_client_seq() && !earlier.contains(code)));
    assert_eq!(sparing, names(&|code| code.spares_strangers()));
}

/// The same of the client in Python.
#[test]
fn the_python_client_knows_which_refusals_take_a_number() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/rookery/device.py");
    let source = fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
    let set = |name: &str| -> Vec<u16> {
        let (_, rest) = source.split_once(&format!("\n{name} = {{")).unwrap();
        let (numbers, _) = rest.split_once('}').unwrap();
        let numbers = numbers.split(',').map(str::trim).filter(|number| !number.is_empty());
        numbers.map(|number| number.parse().unwrap()).collect()
    };
    let known = |which: &dyn Fn(&ErrorCode) -> bool| -> Vec<u16> {
        ErrorCode::ALL.iter().filter(|code| which(code)).map(|code| code.number()).collect()
    };
    assert_eq!(set("NUMBER_TAKEN"), known(&|code| code.takes_client_seq()));
    assert_eq!(set("PERHAPS_TAKEN"), known(&|code| code.spares_strangers()));
}

#[test]
fn the_protocol_page_lists_every_kind() {
    let page = page("protocol.md");
    let kinds = section(&page, "## 4. Kinds");
    let listed: Vec<(u16, &str)> =
        numbered_rows(kinds).into_iter().map(|(number, cells)| (number, cells[1])).collect();
    let known: Vec<(u16, &str)> = Kind::ALL.iter().map(|kind| (*kind as u16, kind.name())).collect();
    assert_eq!(listed, known);
}

/// A section from its heading to the next one of the same level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(heading).unwrap_or_else(|| panic!("there is no {heading}"));
    let rest = &page[start + heading.len()..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

/// The annotated frames are frames of the vectors, byte for byte.
#[test]
fn the_exchange_is_made_of_vectors() {
    let page = page("protocol.md");
    let cases: Vec<_> =
        [cases::requests(), cases::replies(), cases::pushes()].into_iter().flatten().collect();
    let frames: Vec<&str> = section(&page, "## 10. An exchange in bytes").split("\n### `").skip(1).collect();
    assert_eq!(frames.len(), 5);
    for frame in frames {
        let (name, rest) = frame.split_once('`').unwrap();
        let (_, block) = rest.split_once("```hex\n").unwrap();
        let (block, _) = block.split_once("```").unwrap();
        let hex: String =
            block.lines().map(|line| line.split("  ").next().unwrap().replace(' ', "")).collect();
        let case = cases.iter().find(|case| case.name == name).unwrap();
        assert_eq!(to_hex(&from_hex(&hex)), to_hex(&case.body.frame(case.request_id)), "{name}");
    }
}
