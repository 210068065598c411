//! Names and sessions: what is allowed, how they are written, where they are placed.

use bytes::Bytes;
use proptest::prelude::*;
use rookery_wire::id::IdFault;
use rookery_wire::{GroupId, SessionId, UserId, decode, encode};

use crate::strategies::{name, session};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn direct(a: &str, b: &str) -> SessionId {
    SessionId::direct(&user(a), &user(b)).unwrap()
}

fn group(name: &str) -> SessionId {
    SessionId::group(GroupId::new(name).unwrap())
}

#[test]
fn a_name_has_1_to_64_bytes_and_no_control_characters() {
    assert_eq!(UserId::new(""), Err(IdFault::Length(0)));
    assert!(UserId::new(&"x".repeat(64)).is_ok());
    assert_eq!(UserId::new(&"x".repeat(65)), Err(IdFault::Length(65)));
    assert!(UserId::new(&"鴉".repeat(21)).is_ok(), "63 bytes");
    assert_eq!(UserId::new(&"鴉".repeat(22)), Err(IdFault::Length(66)));
    for control in ['\0', '\n', '\u{1f}', '\u{7f}', '\u{85}', '\u{9f}'] {
        assert_eq!(UserId::new(&format!("a{control}")), Err(IdFault::Control), "{control:?}");
    }
    for fine in [" ", "ö", "a b", "🐦‍⬛", "a,b", r"a\b", "group:x"] {
        assert_eq!(user(fine).as_str(), fine);
    }
}

#[test]
fn names_are_checked_when_they_are_decoded() {
    let decoded = |bytes: &'static [u8]| decode::<UserId>(&Bytes::from_static(bytes));
    assert_eq!(decoded(b"\x03bob").unwrap(), user("bob"));
    assert!(decoded(b"\x00").is_err(), "empty");
    assert!(decoded(b"\x03b\nb").is_err(), "control character");
    assert!(decoded(b"\x02\xff\xfe").is_err(), "not UTF-8");
    assert!(decoded(&[0x41; 66]).is_err(), "65 bytes");
}

#[test]
fn a_pair_is_sorted_by_bytes() {
    assert_eq!(direct("bob", "alice"), direct("alice", "bob"));
    assert_eq!(direct("bob", "alice").to_string(), "direct:alice,bob");
    // By bytes, neither by length nor by any language's order.
    assert_eq!(direct("b", "aa").to_string(), "direct:aa,b");
    assert_eq!(direct("a", "Z").to_string(), "direct:Z,a");
    assert_eq!(direct("é", "z").to_string(), "direct:z,é");
    assert_eq!(SessionId::direct(&user("bob"), &user("bob")), Err(IdFault::SameUser));
}

#[test]
fn an_unsorted_pair_is_refused_on_the_wire() {
    let decoded = |bytes: &'static [u8]| decode::<SessionId>(&Bytes::from_static(bytes));
    assert_eq!(decoded(b"\x00\x01a\x01b").unwrap(), direct("a", "b"));
    assert!(decoded(b"\x00\x01b\x01a").is_err());
    assert!(decoded(b"\x00\x01a\x01a").is_err());
    assert!(decoded(b"\x02\x01a").is_err(), "no such kind of session");
}

#[test]
fn sessions_have_a_text() {
    assert_eq!(group("team").to_string(), "group:team");
    assert_eq!("group:a,b".parse(), Ok(group("a,b")));
    assert_eq!("direct:bob,alice".parse(), Ok(direct("alice", "bob")));
    assert_eq!(format!("{:?}", group("team")), "group:team");
}

/// Two sessions never share a text, even where users have commas in their names.
#[test]
fn commas_within_names_are_escaped() {
    let (left, right) = (direct("a,b", "c"), direct("a", "b,c"));
    assert_eq!(left.to_string(), r"direct:a\,b,c");
    assert_eq!(right.to_string(), r"direct:a,b\,c");
    assert_eq!(left.to_string().parse(), Ok(left));
    assert_eq!(right.to_string().parse(), Ok(right));
    assert_eq!(direct(r"a\", "b").to_string(), r"direct:a\\,b");
}

#[test]
fn texts_that_name_no_session() {
    for wrong in
        ["", "team", "direct:", "direct:a", r"direct:a\,b", "direct:a,b,c", r"direct:a\b,c", r"direct:a,b\"]
    {
        assert_eq!(wrong.parse::<SessionId>(), Err(IdFault::Session), "{wrong}");
    }
    assert_eq!("group:".parse::<SessionId>(), Err(IdFault::Length(0)));
    assert_eq!("direct:a,".parse::<SessionId>(), Err(IdFault::Length(0)));
    assert_eq!("direct:a,a".parse::<SessionId>(), Err(IdFault::SameUser));
}

#[test]
fn both_sides_of_a_pair_are_known_and_a_groups_members_are_not() {
    let pair = direct("alice", "bob");
    assert_eq!(pair.pair_has(&user("bob")), Some(true));
    assert_eq!(pair.pair_has(&user("carol")), Some(false));
    assert_eq!(pair.peer_of(&user("bob")), Some(&user("alice")));
    assert_eq!(pair.peer_of(&user("alice")), Some(&user("bob")));
    assert_eq!(pair.peer_of(&user("carol")), None);
    assert_eq!(group("team").pair_has(&user("bob")), None);
    assert_eq!(group("team").peer_of(&user("bob")), None);
}

/// Where a session or user lives follows from these numbers, so data on disk rests on them: they never change.
/// Checked against another implementation of xxh3-64 (python-xxhash), over tag byte, length of the first name, names.
#[test]
fn placement_hashes_are_part_of_the_data_format() {
    let sessions = [
        (group("team"), 0xbc4c_80a5_863f_ffd7),
        (group("a"), 0x21c8_3245_4304_9a44),
        (group("鴉の群れ"), 0xaf3d_22d7_1b51_f76c),
        (direct("alice", "bob"), 0xd7d1_0bfd_b296_9730),
        (direct("a", "bc"), 0x55b8_8f29_035f_5f2f),
        (direct("ab", "c"), 0x668a_8d9b_6338_40e6),
        (direct(&"x".repeat(64), &"y".repeat(64)), 0x4408_d6d4_c168_506c),
    ];
    for (session, hash) in sessions {
        assert_eq!(session.hash64(), hash, "{session}");
    }
    for (name, hash) in
        [("alice", 0x8c05_b51e_df43_f3bd), ("bob", 0x5320_bd0c_6bb2_caf1), ("team", 0x13d3_beeb_24e9_5658)]
    {
        assert_eq!(user(name).hash64(), hash, "{name}");
    }
}

proptest! {
    #[test]
    fn a_text_names_its_session(session in session()) {
        prop_assert_eq!(session.to_string().parse::<SessionId>(), Ok(session.clone()));
        let json = serde_json::to_string(&session).unwrap();
        prop_assert_eq!(serde_json::from_str::<SessionId>(&json).unwrap(), session);
    }

    #[test]
    fn different_sessions_have_different_texts(a in session(), b in session()) {
        prop_assert_eq!(a == b, a.to_string() == b.to_string());
    }

    #[test]
    fn any_text_is_a_session_or_a_fault(text in "(direct|group):[a,\\\\:]{0,8}") {
        if let Ok(session) = text.parse::<SessionId>() {
            prop_assert_eq!(session.to_string().parse::<SessionId>(), Ok(session));
        }
    }

    #[test]
    fn names_come_back(name in name()) {
        let id = UserId::new(&name).unwrap();
        prop_assert_eq!(decode::<UserId>(&encode(&id)).unwrap(), id.clone());
        prop_assert_eq!(serde_json::from_value::<UserId>(serde_json::json!(name)).unwrap(), id);
    }
}
