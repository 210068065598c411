//! The valid frames of `wire/vectors`: every kind, and the edges of every field.

use bytes::Bytes;
use rookery_wire::own::{Badge, Settings};
use rookery_wire::reply::{self, Limits, Summary};
use rookery_wire::request::{self, Consistency, Direction, Role};
use rookery_wire::{Blob, DeviceId, ErrorBody, ErrorCode, Extension, GroupId, Preview, Record, RecordKind};
use rookery_wire::{Retry, Rewritten, SessionId, Signal, Target, UserId, encode};

use crate::bodies::Body;
use crate::{admin, digest, group_cases, join, live, own_cases, versions};

/// One frame and why it is among the vectors.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) note: &'static str,
    pub(crate) request_id: u32,
    pub(crate) body: Body,
}

pub(crate) fn case(name: &'static str, note: &'static str, request_id: u32, body: Body) -> Case {
    Case { name, note, request_id, body }
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| user(name)).collect()
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub(crate) fn pair() -> SessionId {
    SessionId::direct(&user("alice"), &user("bob")).unwrap()
}

pub(crate) fn team() -> SessionId {
    SessionId::group(GroupId::new("team").unwrap())
}

/// The longest session there is: 1 + 2 × (1 + 64) bytes.
fn longest() -> SessionId {
    SessionId::direct(&user(&"a".repeat(64)), &user(&"b".repeat(64))).unwrap()
}

fn unicode() -> SessionId {
    SessionId::group(GroupId::new("鴉の群れ 🐦‍⬛").unwrap())
}

const NOW: u64 = 1_790_000_000_000;

pub(crate) fn requests() -> Vec<Case> {
    let mut cases = hellos();
    cases.extend(sends());
    cases.extend(rewrites());
    cases.extend(reads());
    cases.extend(group_changes());
    cases.extend(group_cases::requests());
    cases.extend(own_cases::requests());
    cases.extend(live::requests());
    cases.extend(digest::requests());
    cases.extend(join::requests());
    cases.extend(admin::requests());
    cases.extend(versions::requests());
    cases
}

fn hellos() -> Vec<Case> {
    let first = request::Hello {
        min_version: 1,
        max_version: 1,
        user: user("alice"),
        device: device("phone"),
        epoch: 0,
        nonce: 42,
        role: Role::User,
        token: Blob::default(),
        agent: Blob::from("client.py 1"),
        platform: Blob::from("linux"),
    };
    let service = request::Hello {
        max_version: 255,
        user: user("billing"),
        device: device("backend-1"),
        epoch: 7,
        nonce: u64::MAX,
        role: Role::Service,
        token: Blob::from("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJiaWxsaW5nIn0.c2lnbmF0dXJl"),
        agent: Blob::default(),
        platform: Blob::default(),
        ..first.clone()
    };
    vec![
        case("hello first", "epoch 0 registers the device", 1, Body::Hello(first)),
        case("hello service with token", "largest nonce, empty agent", 1, Body::Hello(service)),
    ]
}

fn sends() -> Vec<Case> {
    let plain = request::Send {
        session: pair(),
        client_seq: 1,
        on_behalf_of: None,
        content_type: Blob::from("text/plain"),
        content: Blob::from("hello, bob"),
        extensions: Vec::new(),
    };
    let rich = request::Send {
        session: unicode(),
        client_seq: 251,
        on_behalf_of: Some(user("carol")),
        content_type: Blob::from("text/plain"),
        content: Blob::from("grüße — 你好 — 🐦‍⬛"),
        extensions: vec![
            Extension { tag: 3, data: Blob::default() },
            Extension { tag: 1024, data: Blob(Bytes::from_static(&[0, 255, 10])) },
        ],
    };
    let empty = request::Send {
        content_type: Blob::default(),
        content: Blob::default(),
        client_seq: u64::MAX,
        ..plain.clone()
    };
    let largest = request::Send {
        session: longest(),
        client_seq: 65_536,
        content: Blob(Bytes::from(vec![b'x'; 65_536])),
        ..plain.clone()
    };
    let marker = request::Send { content: Blob(Bytes::from(vec![b'y'; 251])), ..plain.clone() };
    vec![
        case("send", "a direct session's first message", 2, Body::Send(plain)),
        case("send rich", "unicode names, on behalf of, two extensions", u32::MAX, Body::Send(rich)),
        case("send empty", "no content, no type, largest client_seq", 3, Body::Send(empty)),
        case("send 251 bytes", "first length that needs marker 251", 4, Body::Send(marker)),
        case(
            "send 65536 bytes",
            "first length that needs marker 252; longest session",
            5,
            Body::Send(largest),
        ),
    ]
}

fn rewrites() -> Vec<Case> {
    let recall = request::Recall { session: pair(), client_seq: 2, on_behalf_of: None, seq: 1 };
    let admin = request::Recall { session: team(), on_behalf_of: Some(user("alice")), ..recall.clone() };
    let edit = request::Edit {
        session: team(),
        client_seq: 7,
        on_behalf_of: None,
        seq: 251,
        content_type: Blob::from("text/plain"),
        content: Blob::from("hello, all"),
        extensions: Vec::new(),
    };
    vec![
        case("recall", "", 22, Body::Recall(recall)),
        case("recall for", "a service acts for alice", 23, Body::Recall(admin)),
        case("edit", "", 24, Body::Edit(edit)),
    ]
}

fn reads() -> Vec<Case> {
    let pull = request::Pull {
        session: team(),
        from_seq: 1,
        direction: Direction::Forward,
        max_count: 100,
        max_bytes: 65_536,
        consistency: Consistency::Linearizable,
    };
    let newest = request::Pull {
        from_seq: 0,
        direction: Direction::Backward,
        max_count: u32::MAX,
        max_bytes: u32::MAX,
        consistency: Consistency::AtLeast(1 << 32),
        ..pull.clone()
    };
    let replica = request::Pull { consistency: Consistency::Replica, ..pull.clone() };
    let list = request::ListMembers { session: team(), after: None, limit: 1_000 };
    let next = request::ListMembers { after: Some(user("bob")), limit: 1, ..list.clone() };
    vec![
        case("delivered", "request id 0: no answer is wanted", 0, {
            Body::Delivered(request::Delivered { cursors: vec![(pair(), 12), (team(), 300)] })
        }),
        case(
            "delivered nothing",
            "an empty list",
            6,
            Body::Delivered(request::Delivered { cursors: vec![] }),
        ),
        case("pull forward", "", 8, Body::Pull(pull)),
        case("pull newest", "backward from the end, at least as new as a known seq", 9, Body::Pull(newest)),
        case("pull replica", "a service judges this node's own replica", 10, Body::Pull(replica)),
        case("sync first", "", 11, {
            Body::Sync(request::Sync { after: Blob::default(), limit: 200, since: Blob::default() })
        }),
        case("sync next", "the token is the server's own: bytes to be given back", 12, {
            let after = Blob(Bytes::from_static(&[0, 1, 2, 253]));
            Body::Sync(request::Sync { after, limit: 1, since: Blob::default() })
        }),
        case("sync since", "the mark of the last page of an earlier SYNC, as it was", 12, {
            let since = Blob(Bytes::from_static(&[1, 254, 0]));
            Body::Sync(request::Sync { after: Blob::default(), limit: 200, since })
        }),
        case("read", "", 13, Body::Read(request::Read { session: pair(), seq: 250 })),
        case("list members first", "", 14, Body::ListMembers(list)),
        case("list members next", "", 15, Body::ListMembers(next)),
        case("ping", "no body", 16, Body::Ping(())),
    ]
}

fn group_changes() -> Vec<Case> {
    let create = request::Members {
        session: team(),
        client_seq: 1,
        on_behalf_of: None,
        users: users(&["bob", "carol"]),
    };
    let alone = request::Members { users: vec![], ..create.clone() };
    let add = request::Members { client_seq: 2, users: users(&["dörte"]), ..create.clone() };
    let many = (0..251).map(|n| user(&format!("u{n}"))).collect();
    let many = request::Members { client_seq: 3, users: many, ..create.clone() };
    let remove = request::Members { client_seq: 4, on_behalf_of: Some(user("alice")), ..create.clone() };
    vec![
        case("create group", "", 17, Body::CreateGroup(create)),
        case("create group alone", "the creator is the only member", 18, Body::CreateGroup(alone)),
        case("add members", "", 19, Body::AddMembers(add)),
        case("add 251 members", "first count that needs marker 251", 21, Body::AddMembers(many)),
        case("remove members", "a service acts for alice", 20, Body::RemoveMembers(remove)),
    ]
}

/// A member's message in a group, as pages and pushes carry it.
pub(crate) fn record(seq: u64) -> Record {
    Record {
        seq,
        message_id: 0x0003_0000_0000_2a00 + seq,
        time_ms: NOW + seq,
        count: seq,
        sender: user("alice"),
        device: device("phone"),
        epoch: 1,
        client_seq: seq,
        kind: RecordKind::CONTENT,
        content_type: Blob::from("text/plain"),
        content: Blob::from("hello"),
        extensions: Vec::new(),
    }
}

/// A change of members, whose content is a `Signal`.
fn signal(seq: u64, kind: RecordKind, names: &[&str]) -> Record {
    let content = Blob(encode(&Signal { users: users(names) }));
    Record { kind, content_type: Blob::default(), content, count: 0, ..record(seq) }
}

/// What is left of record 1 once alice has recalled it by record 6.
fn tombstone() -> Record {
    let by = Rewritten { by: user("alice"), time_ms: NOW + 6, seq: 6 };
    Record {
        kind: RecordKind::RECALLED,
        content_type: Blob::default(),
        content: Blob::default(),
        extensions: vec![Extension { tag: Rewritten::TAG, data: Blob(encode(&by)) }],
        ..record(1)
    }
}

pub(crate) fn replies() -> Vec<Case> {
    let limits = Limits { frame: 1 << 20, content: 64 << 10, window: 256, page: 500 };
    let welcome = reply::Welcome {
        version: 1,
        cluster: *b"\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10",
        node: 1,
        epoch: 1,
        time_ms: NOW,
        idle_ms: 60_000,
        limits,
        last_number: 0,
        deadline_ms: 10_000,
    };
    let returning = reply::Welcome { last_number: 251, deadline_ms: 120_000, ..welcome.clone() };
    let ack = reply::Ack {
        session: pair(),
        client_seq: 1,
        seq: 1,
        message_id: 0x0003_0000_0000_2a01,
        time_ms: NOW + 1,
        count: 1,
    };
    let largest = reply::Ack {
        session: longest(),
        client_seq: u64::MAX,
        seq: u64::MAX,
        message_id: u64::MAX,
        time_ms: u64::MAX,
        count: u64::MAX,
    };
    let page = reply::Page {
        session: team(),
        first_seq: 1,
        last_seq: 3,
        records: vec![signal(1, RecordKind::CREATED, &["alice", "bob"]), record(2), record(3)],
    };
    let none = reply::Page { session: pair(), first_seq: 1, last_seq: 0, records: vec![] };
    let members = reply::MemberPage { users: users(&["alice", "bob"]), more: true, total: 10_000 };
    let mark = reply::ReadMark { session: pair(), seq: 250, count: 249 };
    let mut cases = vec![
        case("welcome", "", 1, Body::Welcome(welcome)),
        case("welcome back", "a device that has managed its own things before", 1, Body::Welcome(returning)),
        case("ack", "", 2, Body::Ack(ack)),
        case("ack largest", "every number as large as it can be", u32::MAX, Body::Ack(largest)),
        case("ok", "no body", 6, Body::Ok(())),
        case("page", "a signal and two messages", 8, Body::Page(page)),
        case("page empty", "a session without messages", 9, Body::Page(none)),
        case("read mark", "the answer to READ", 13, Body::ReadMark(mark)),
        case("member page", "", 14, Body::MemberPage(members)),
        case("pong", "no body", 16, Body::Pong(())),
    ];
    cases.extend(sync_pages());
    cases.extend(errors());
    cases.extend(group_cases::replies());
    cases.extend(own_cases::replies());
    cases.extend(live::replies());
    cases.extend(digest::replies());
    cases.extend(join::replies());
    cases.extend(admin::replies());
    cases.extend(versions::replies());
    cases
}

fn sync_pages() -> Vec<Case> {
    let last = Preview {
        seq: 300,
        time_ms: NOW,
        sender: user("bob"),
        kind: RecordKind::CONTENT,
        content_type: Blob::from("text/plain"),
        content: Blob::from("see you there"),
    };
    let full = Summary {
        session: pair(),
        members: 2,
        first_seq: 1,
        last_seq: 300,
        count: 298,
        unread: 48,
        joined_seq: 1,
        read_seq: 250,
        delivered_seq: 260,
        last_client_seq: 120,
        live_from: 301,
        time_ms: NOW,
        last: Some(last),
        settings: own_cases::settings(),
    };
    let bare = Summary { session: team(), last: None, settings: Settings::default(), ..full.clone() };
    let page = reply::SyncPage {
        sessions: vec![full, bare],
        unresolved: vec![(unicode(), ErrorCode::Unavailable)],
        total: 3,
        next: Blob(Bytes::from_static(&[0, 1, 2, 253])),
        badge: Some(Badge { unread: 48, muted: 251, uncounted: 1 }),
        left: vec![],
        mark: Blob::default(),
        full: true,
    };
    let none = reply::SyncPage {
        sessions: vec![],
        unresolved: vec![],
        total: 0,
        next: Blob::default(),
        badge: None,
        left: vec![],
        mark: Blob(Bytes::from_static(&[1, 254, 0])),
        full: true,
    };
    let since = reply::SyncPage { total: 251, left: vec![team(), unicode()], full: false, ..none.clone() };
    vec![
        case(
            "sync page",
            "two sessions, one that could not be asked, more to come",
            11,
            Body::SyncPage(page),
        ),
        case("sync page empty", "a user without sessions", 12, Body::SyncPage(none)),
        case(
            "sync page since",
            "two sessions left, the others as they were; the last page with the next mark",
            12,
            Body::SyncPage(since),
        ),
    ]
}

fn errors() -> Vec<Case> {
    let gap = ErrorBody::new(ErrorCode::ClientSeqGap, "client_seq 9 skips 5").with_detail(5);
    let busy = ErrorBody::new(ErrorCode::Busy, "").with_retry(Retry::After(250));
    let moved = ErrorBody::new(ErrorCode::ShuttingDown, "node 2 is going down").with_retry(Retry::Reconnect);
    let frame = ErrorBody::new(ErrorCode::FrameTooLarge, "frame of 2097152 bytes").with_detail(1 << 20);
    let nobody = ErrorBody::new(ErrorCode::UnknownUser, "there is no user bbo").with_detail(7);
    let unknown = ErrorBody::new(ErrorCode::Unknown(9_999), "a code of a newer server");
    vec![
        case("error gap", "detail is the expected client_seq", 3, Body::Error(gap)),
        case("error busy", "come back after 250 ms", 4, Body::Error(busy)),
        case("error reconnect", "", 5, Body::Error(moved)),
        case("error on the connection", "request id 0: the connection ends", 0, Body::Error(frame)),
        case("error no user", "the addition took its client_seq, 7", 6, Body::Error(nobody)),
        case("error unknown", "a code that this version does not have", 7, Body::Error(unknown)),
    ]
}

pub(crate) fn pushes() -> Vec<Case> {
    let message = |session, record| Body::Message(reply::Message { session, record });
    let rich = Record {
        seq: 65_535,
        count: 65_536,
        client_seq: u64::from(u32::MAX),
        kind: RecordKind(9),
        content: Blob(Bytes::from_static(&[0xff, 0, 0x80])),
        content_type: Blob::from("application/octet-stream"),
        extensions: vec![Extension { tag: 65_535, data: Blob::from("skip me") }],
        ..record(1)
    };
    let added = signal(4, RecordKind::MEMBERS_ADDED, &["dörte"]);
    let removed = signal(5, RecordKind::MEMBERS_REMOVED, &["bob", "carol"]);
    let content = Blob(encode(&Target { seq: 1 }));
    let recall = Record { kind: RecordKind::RECALL, content, ..signal(6, RecordKind::RECALL, &[]) };
    let goaway = reply::GoAway {
        code: ErrorCode::ShuttingDown,
        text: Blob::from("node 2 is going down"),
        after_ms: 0,
    };
    let replaced = reply::GoAway { code: ErrorCode::DeviceReplaced, text: Blob::default(), after_ms: 1_000 };
    let mut cases = vec![
        case("message", "", 0, message(pair(), Record { content: Blob::from("hello, bob"), ..record(1) })),
        case("message rich", "a kind and an extension to be passed over", 0, message(team(), rich)),
        case("message members added", "the content is a signal", 0, message(team(), added)),
        case("message members removed", "the content is a signal", 0, message(team(), removed)),
        case("message recall", "the content is a target", 0, message(pair(), recall)),
        case("message recalled", "as pages have it from then on", 0, message(pair(), tombstone())),
        case("read mark push", "another device of the user has read", 0, {
            Body::ReadMark(reply::ReadMark { session: pair(), seq: 251, count: 250 })
        }),
        case("joined", "", 0, Body::Joined(reply::Joined { session: team(), live_from: 2 })),
        case("left", "", 0, Body::Left(reply::Left { session: team() })),
        case("lagged", "", 0, {
            Body::Lagged(reply::Lagged { sessions: vec![(pair(), 17), (team(), 301)] })
        }),
        case("lagged everywhere", "no session named: SYNC again", 0, {
            Body::Lagged(reply::Lagged { sessions: vec![] })
        }),
        case("goaway", "at once, to another node", 0, Body::GoAway(goaway)),
        case("goaway replaced", "", 0, Body::GoAway(replaced)),
    ];
    cases.extend(group_cases::pushes());
    cases.extend(own_cases::pushes());
    cases.extend(live::pushes());
    cases.extend(join::pushes());
    cases.extend(versions::pushes());
    cases
}
