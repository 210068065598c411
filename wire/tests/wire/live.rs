//! Receipts, ephemeral messages and presence: their vectors, their notation, random ones.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rookery_wire::live::{
    Ephemeral, EphemeralMessage, Passing, Presence, PresenceLine, PresencePage, Receipt, ReceiptCounts,
    ReceiptLine, ReceiptPage, Receipts, SessionPresence, Watch, WatchMode, WatchSession, Which,
    named_at_once,
};
use rookery_wire::{Blob, ErrorCode};
use serde_json::{Value, json};

use crate::bodies::Body;
use crate::cases::{Case, case, pair, team, user as named};
use crate::group_json::words;
use crate::json::{Json, structs};
use crate::strategies::{blob, code, device, number, number32, session, user};

structs! {
    Receipts { session, seq, which, after, limit }
    ReceiptLine { user, read_seq }
    ReceiptCounts { read, unread, hidden }
    ReceiptPage { users, unresolved, next, counts }
    Receipt { session, user, seq }
    Ephemeral { session, on_behalf_of, body }
    EphemeralMessage { session, sender, device, time_ms, body }
    Watch { mode, users }
    PresenceLine { user, online, last_seen_ms }
    Presence { users }
    PresencePage { users, refused }
    WatchSession { session, on }
    SessionPresence { session, whole, users, others }
}

words! {
    Which { Read = "read", Unread = "unread" }
    WatchMode { Replace = "replace", Add = "add", Remove = "remove" }
}

impl Json for Passing {
    fn to_json(&self) -> Value {
        match self {
            Passing::Content { content_type, content } => {
                json!({ "content": { "content_type": content_type.to_json(), "content": content.to_json() } })
            }
            Passing::Typing { on } => json!({ "typing": { "on": on } }),
        }
    }
    fn from_json(value: &Value) -> Self {
        match value.get("typing") {
            Some(typing) => Passing::Typing { on: bool::from_json(&typing["on"]) },
            None => {
                let fields = &value["content"];
                let blob = |name: &str| Blob::from_json(&fields[name]);
                Passing::Content { content_type: blob("content_type"), content: blob("content") }
            }
        }
    }
}

fn drawing() -> Passing {
    let content = Blob(Bytes::from_static(&[0, 1, 0xff]));
    Passing::Content { content_type: Blob::from("application/x-stroke"), content }
}

pub(crate) fn requests() -> Vec<Case> {
    let receipts = |session, which, after, limit| Receipts { session, seq: 251, which, after, limit };
    let watch = |mode, names: &[&str]| {
        Body::Watch(Watch { mode, users: names.iter().map(|name| named(name)).collect() })
    };
    let typing = |session, on| Ephemeral { session, on_behalf_of: None, body: Passing::Typing { on } };
    let draws = Ephemeral { session: team(), on_behalf_of: Some(named("alice")), body: drawing() };
    vec![
        case("receipts", "who has read it", 50, {
            Body::Receipts(receipts(team(), Which::Read, None, 1_000))
        }),
        case("receipts next", "who has not, behind bob", 51, {
            Body::Receipts(receipts(team(), Which::Unread, Some(named("bob")), 1))
        }),
        case("ephemeral typing", "", 52, Body::Ephemeral(typing(pair(), true))),
        case("ephemeral typing no more", "", 53, Body::Ephemeral(typing(pair(), false))),
        case("ephemeral content", "a service, in the name of alice", 54, Body::Ephemeral(draws)),
        case("watch", "these and no others", 55, watch(WatchMode::Replace, &["alice", "bob"])),
        case("watch more", "", 56, watch(WatchMode::Add, &["carol"])),
        case("watch less", "", 57, watch(WatchMode::Remove, &["alice"])),
        case("watch session", "", 58, Body::WatchSession(WatchSession { session: team(), on: true })),
        case(
            "watch session no more",
            "",
            59,
            Body::WatchSession(WatchSession { session: team(), on: false }),
        ),
    ]
}

pub(crate) fn replies() -> Vec<Case> {
    let line = |name: &str, read_seq| ReceiptLine { user: named(name), read_seq };
    let first = ReceiptPage {
        users: vec![line("alice", 251), line("bob", 65_536)],
        unresolved: vec![(named("carol"), ErrorCode::Unavailable)],
        next: Some(named("carol")),
        counts: Some(ReceiptCounts { read: 9_000, unread: 998, hidden: 1 }),
    };
    let last = ReceiptPage { users: vec![], unresolved: vec![], next: None, counts: None };
    let page = PresencePage {
        users: vec![present("alice", true, 0), present("bob", false, 1_790_000_000_000)],
        refused: vec![(named("mallory"), ErrorCode::NotAllowed)],
    };
    vec![
        case("receipt page", "one could not be asked", 50, Body::ReceiptPage(first)),
        case("receipt page empty", "", 51, Body::ReceiptPage(last)),
        case("presence page", "alice is there, bob was, mallory is not told of", 55, {
            Body::PresencePage(page)
        }),
        case("session presence", "who is online in the group, and how many more", 58, {
            let users = vec![present("alice", true, 0), present("bob", true, 0)];
            Body::SessionPresence(SessionPresence { session: team(), whole: true, users, others: 251 })
        }),
    ]
}

fn present(name: &str, online: bool, last_seen_ms: u64) -> PresenceLine {
    PresenceLine { user: named(name), online, last_seen_ms }
}

pub(crate) fn pushes() -> Vec<Case> {
    let passes = |body| {
        Body::EphemeralMessage(EphemeralMessage {
            session: team(),
            sender: named("alice"),
            device: "phone".parse().unwrap(),
            time_ms: 1_790_000_000_000,
            body,
        })
    };
    vec![
        case("receipt", "bob has read", 0, {
            Body::Receipt(Receipt { session: pair(), user: named("bob"), seq: 251 })
        }),
        case("ephemeral message typing", "", 0, passes(Passing::Typing { on: true })),
        case("ephemeral message content", "", 0, passes(drawing())),
        case("presence", "", 0, {
            let users = vec![present("alice", false, 1_790_000_000_000), present("bob", true, 0)];
            Body::Presence(Presence { users })
        }),
        case("session presence changed", "bob has gone", 0, {
            let users = vec![present("bob", false, 1_790_000_000_000)];
            Body::SessionPresence(SessionPresence { session: team(), whole: false, users, others: 0 })
        }),
    ]
}

fn passing() -> impl Strategy<Value = Passing> {
    prop_oneof![
        (blob(), blob()).prop_map(|(content_type, content)| Passing::Content { content_type, content }),
        any::<bool>().prop_map(|on| Passing::Typing { on }),
    ]
}

fn lines() -> impl Strategy<Value = Vec<PresenceLine>> {
    let line = (user(), any::<bool>(), number()).prop_map(|(user, online, last_seen_ms)| PresenceLine {
        user,
        online,
        last_seen_ms,
    });
    vec(line, 0..5)
}

fn receipt_page() -> impl Strategy<Value = Body> {
    let line = (user(), number()).prop_map(|(user, read_seq)| ReceiptLine { user, read_seq });
    let counts = (number32(), number32(), number32());
    let counts = counts.prop_map(|(read, unread, hidden)| ReceiptCounts { read, unread, hidden });
    (vec(line, 0..5), vec((user(), code()), 0..3), option::of(user()), option::of(counts)).prop_map(
        |(users, unresolved, next, counts)| {
            Body::ReceiptPage(ReceiptPage { users, unresolved, next, counts })
        },
    )
}

/// Any body of these.
pub(crate) fn body() -> impl Strategy<Value = Body> {
    let which = prop_oneof![Just(Which::Read), Just(Which::Unread)];
    let mode = prop_oneof![Just(WatchMode::Replace), Just(WatchMode::Add), Just(WatchMode::Remove)];
    prop_oneof![
        (session(), number(), which, option::of(user()), number32()).prop_map(
            |(session, seq, which, after, limit)| {
                Body::Receipts(Receipts { session, seq, which, after, limit })
            }
        ),
        receipt_page(),
        (session(), user(), number()).prop_map(|(session, user, seq)| Body::Receipt(Receipt {
            session,
            user,
            seq
        })),
        (session(), option::of(user()), passing()).prop_map(|(session, on_behalf_of, body)| {
            Body::Ephemeral(Ephemeral { session, on_behalf_of, body })
        }),
        (session(), user(), device(), number(), passing()).prop_map(
            |(session, sender, device, time_ms, body)| {
                Body::EphemeralMessage(EphemeralMessage { session, sender, device, time_ms, body })
            }
        ),
        (mode, vec(user(), 0..5)).prop_map(|(mode, users)| Body::Watch(Watch { mode, users })),
        lines().prop_map(|users| Body::Presence(Presence { users })),
        (lines(), vec((user(), code()), 0..3))
            .prop_map(|(users, refused)| Body::PresencePage(PresencePage { users, refused })),
        (session(), any::<bool>()).prop_map(|(session, on)| Body::WatchSession(WatchSession { session, on })),
        (session(), any::<bool>(), lines(), number32()).prop_map(|(session, whole, users, others)| {
            Body::SessionPresence(SessionPresence { session, whole, users, others })
        }),
    ]
}

/// The longest names, said to have gone: as many as are named at once fit the frame, and one more of the smallest would not.
#[test]
fn those_who_are_named_at_once_fit_a_frame() {
    let session = rookery_wire::SessionId::group("g".repeat(64).parse().unwrap());
    for frame in [16_384, 65_536, 1 << 20] {
        let most = named_at_once(u32::MAX, frame);
        let users = (0..most).map(|at| present(&format!("{at:0>64}"), false, u64::MAX)).collect();
        let page = SessionPresence { session: session.clone(), whole: true, users, others: u32::MAX };
        let bytes = rookery_wire::encode(&page).len() + rookery_wire::HEADER_BYTES;
        assert!(bytes <= frame as usize && bytes + 2048 > frame as usize, "{bytes} of {frame}");
    }
    assert_eq!(named_at_once(1_000, 1 << 20), 1_000);
}
