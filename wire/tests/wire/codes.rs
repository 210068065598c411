//! Numbers and names of kinds and error codes: each once, and stable.

use std::collections::HashSet;
use std::hash::Hash;

use bytes::Bytes;
use rookery_wire::{ErrorCode, Kind, decode, encode};

fn all_different<T: Hash + Eq>(values: impl IntoIterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    values.into_iter().all(|value| seen.insert(value))
}

#[test]
fn kinds_are_unique_and_found_by_number() {
    assert!(all_different(Kind::ALL.iter().map(|kind| *kind as u8)));
    assert!(all_different(Kind::ALL.iter().map(|kind| kind.name())));
    for number in 0..=u8::MAX {
        let listed = Kind::ALL.iter().find(|kind| **kind as u8 == number).copied();
        assert_eq!(Kind::from_number(number), listed);
    }
}

/// A client's kinds have the high bit clear, the server's have it set.
#[test]
fn kinds_tell_their_direction() {
    let (up, down): (Vec<Kind>, Vec<Kind>) = Kind::ALL.iter().partition(|kind| (**kind as u8) < 128);
    assert_eq!(up.first(), Some(&Kind::Hello));
    assert_eq!(up.last(), Some(&Kind::WatchSession));
    assert_eq!(down.first(), Some(&Kind::Welcome));
    assert_eq!(down.last(), Some(&Kind::SessionPresence));
}

#[test]
fn error_codes_are_unique_and_found_by_number() {
    assert!(all_different(ErrorCode::ALL.iter().map(|code| code.number())));
    assert!(all_different(ErrorCode::ALL.iter().map(|code| code.name())));
    assert!(ErrorCode::ALL.is_sorted());
    for number in 0..=u16::MAX {
        let listed = ErrorCode::ALL.iter().find(|code| code.number() == number).copied();
        assert_eq!(ErrorCode::from_number(number), listed.unwrap_or(ErrorCode::Unknown(number)));
    }
}

#[test]
fn every_error_code_has_a_name_and_a_remedy() {
    for code in ErrorCode::ALL {
        assert!(code.name().chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{code:?}");
        assert!(!code.remedy().is_empty(), "{code:?}");
        assert_eq!(code.to_string(), format!("{} ({})", code.name(), code.number()));
    }
}

/// An error code of a newer server is no reason not to read its frame.
#[test]
fn an_unknown_error_code_survives() {
    let bytes = encode(&ErrorCode::Unknown(9_999));
    assert_eq!(decode::<ErrorCode>(&bytes).unwrap(), ErrorCode::Unknown(9_999));
    assert_eq!(bytes, Bytes::from_static(&[251, 0x0f, 0x27]));
}
