//! Coming into a group by oneself: vectors, their notation, random ones.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rookery_wire::group::ManageGroup;
use rookery_wire::join::{
    CodeLine, CodePage, JoinGroup, ListCodes, ListRequests, MAX_JOIN_TEXT, Outside, RequestLine, RequestPage,
};
use rookery_wire::{Blob, GroupAction, RecordKind, encode, reply};
use serde_json::{Value, json};

use crate::bodies::Body;
use crate::cases::{Case, case, record, team, user as named};
use crate::group_json::words;
use crate::json::{Json, structs};
use crate::strategies::{blob, number, number32, session, user};

structs! {
    JoinGroup { session, client_seq, on_behalf_of, code, text }
    ListRequests { session, which, after, limit }
    RequestLine { user, text, since_ms }
    RequestPage { requests, more }
    ListCodes { session, after, limit }
    CodeLine { id, maker, made_ms, until_ms, uses, used }
    CodePage { codes, more }
}

words! {
    Outside { Asking = "asking", Barred = "barred" }
}

const CODE: &str = "K7Q2M9XW4CD0RTVB6HNJ3PZ85E";

fn actions() -> Vec<(&'static str, &'static str, GroupAction)> {
    let hash = Blob(Bytes::from((0..32).map(|byte| byte * 8).collect::<Vec<u8>>()));
    let make = |hash, until_ms, uses| GroupAction::MakeCode { hash, until_ms, uses };
    vec![
        ("manage accept", "", GroupAction::Answer { user: named("bob"), accept: true }),
        ("manage decline", "", GroupAction::Answer { user: named("bob"), accept: false }),
        ("manage make code", "for a year, for as many as it may be", make(hash, 0, 100_000)),
        ("manage revoke code", "", GroupAction::RevokeCode { id: 251 }),
        ("manage bar", "", GroupAction::Bar { user: named("bob"), on: true }),
        ("manage bar no more", "", GroupAction::Bar { user: named("bob"), on: false }),
    ]
}

pub(crate) fn requests() -> Vec<Case> {
    let join = |code: Option<&str>, text: &str, on_behalf_of| JoinGroup {
        session: team(),
        client_seq: 1,
        on_behalf_of,
        code: code.map(Blob::from),
        text: Blob::from(text),
    };
    let mut cases = vec![
        case(
            "join",
            "an open group, or one that is asked",
            60,
            Body::JoinGroup(join(None, "it is me", None)),
        ),
        case("join with a code", "", 61, Body::JoinGroup(join(Some(CODE), "", None))),
        case("join on behalf", "a service, for alice; the longest text", 62, {
            Body::JoinGroup(join(None, &"x".repeat(MAX_JOIN_TEXT), Some(named("alice"))))
        }),
        case("list requests first", "", 63, {
            Body::ListRequests(ListRequests {
                session: team(),
                which: Outside::Asking,
                after: None,
                limit: 200,
            })
        }),
        case("list requests next", "who is kept out, behind bob", 64, {
            let (which, after) = (Outside::Barred, Some(named("bob")));
            Body::ListRequests(ListRequests { session: team(), which, after, limit: 1 })
        }),
        case("list codes", "", 65, Body::ListCodes(ListCodes { session: team(), after: 0, limit: 32 })),
        case("list codes next", "", 66, {
            Body::ListCodes(ListCodes { session: team(), after: 65_536, limit: 1 })
        }),
    ];
    for (number, (name, note, action)) in (67..).zip(actions()) {
        let body = ManageGroup { session: team(), client_seq: u64::from(number), on_behalf_of: None, action };
        cases.push(case(name, note, number, Body::ManageGroup(body)));
    }
    cases
}

pub(crate) fn replies() -> Vec<Case> {
    let line = |name: &str, text: &str, since_ms| RequestLine {
        user: named(name),
        text: Blob::from(text),
        since_ms,
    };
    let code = |id, used| CodeLine {
        id,
        maker: named("alice"),
        made_ms: 1_790_000_000_000,
        until_ms: 1_790_000_600_000,
        uses: 10,
        used,
    };
    vec![
        case("request page", "two who ask", 63, {
            let requests =
                vec![line("bob", "it is me", 1_790_000_000_000), line("carol", "", 1_790_000_000_001)];
            Body::RequestPage(RequestPage { requests, more: true })
        }),
        case("request page empty", "", 64, Body::RequestPage(RequestPage { requests: vec![], more: false })),
        case("code page", "one is used up", 65, {
            Body::CodePage(CodePage { codes: vec![code(251, 10), code(65_536, 0)], more: true })
        }),
        case("code page empty", "", 66, Body::CodePage(CodePage { codes: vec![], more: false })),
    ]
}

pub(crate) fn pushes() -> Vec<Case> {
    let told = |action: &GroupAction| {
        let kind = RecordKind::GROUP_CHANGED;
        let (content, content_type) = (Blob(encode(action)), Blob::default());
        let record = rookery_wire::Record { kind, content_type, content, count: 0, ..record(7) };
        Body::Message(reply::Message { session: team(), record })
    };
    let made = GroupAction::MakeCode { hash: Blob::default(), until_ms: 1_790_000_600_000, uses: 10 };
    vec![
        case("message asked", "somebody asks to join", 0, told(&GroupAction::Asked { user: named("bob") })),
        case("message code made", "nothing of the code is in it", 0, told(&made)),
    ]
}

/// Any body of these.
pub(crate) fn body() -> impl Strategy<Value = Body> {
    let which = prop_oneof![Just(Outside::Asking), Just(Outside::Barred)];
    let line =
        (user(), blob(), number()).prop_map(|(user, text, since_ms)| RequestLine { user, text, since_ms });
    let code = (number(), user(), number(), number(), number32(), number32()).prop_map(
        |(id, maker, made_ms, until_ms, uses, used)| CodeLine { id, maker, made_ms, until_ms, uses, used },
    );
    prop_oneof![
        (session(), number(), option::of(user()), option::of(blob()), blob()).prop_map(
            |(session, client_seq, on_behalf_of, code, text)| {
                Body::JoinGroup(JoinGroup { session, client_seq, on_behalf_of, code, text })
            }
        ),
        (session(), which, option::of(user()), number32()).prop_map(|(session, which, after, limit)| {
            Body::ListRequests(ListRequests { session, which, after, limit })
        }),
        (session(), number(), number32()).prop_map(|(session, after, limit)| Body::ListCodes(ListCodes {
            session,
            after,
            limit
        })),
        (vec(line, 0..5), any::<bool>())
            .prop_map(|(requests, more)| Body::RequestPage(RequestPage { requests, more })),
        (vec(code, 0..5), any::<bool>()).prop_map(|(codes, more)| Body::CodePage(CodePage { codes, more })),
    ]
}
