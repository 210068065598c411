//! Random frames: every field over its whole range, names and contents of every shape.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rookery_wire::reply::{self, Limits, Summary};
use rookery_wire::request::{self, Consistency, Direction, Role};
use rookery_wire::{Blob, DeviceId, ErrorBody, ErrorCode, Extension, GroupId, Preview, Record, RecordKind};
use rookery_wire::{Retry, SessionId, UserId};

use crate::bodies::Body;

/// Integers near the points where the varint changes its length are where mistakes live.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..300u64, 65_530..65_540u64, (u64::from(u32::MAX) - 3)..(1 << 32) + 3]
}

pub(crate) fn number32() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), 0..300u32, 65_530..65_540u32]
}

/// A name of any characters that are allowed, those that texts of sessions escape among them.
pub(crate) fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        "[a-c,\\\\:]{1,6}",
        vec(any::<char>().prop_filter("no control", |c| !c.is_control()), 1..=16).prop_map(String::from_iter),
        "x{64}",
    ]
}

/// A user, from few enough that two may be the same.
pub(crate) fn user() -> impl Strategy<Value = UserId> {
    name().prop_map(|name| UserId::new(&name).unwrap())
}

pub(crate) fn device() -> impl Strategy<Value = DeviceId> {
    name().prop_map(|name| DeviceId::new(&name).unwrap())
}

pub(crate) fn session() -> impl Strategy<Value = SessionId> {
    prop_oneof![
        name().prop_map(|name| SessionId::group(GroupId::new(&name).unwrap())),
        (user(), user()).prop_filter_map("two different users", |(a, b)| SessionId::direct(&a, &b).ok()),
    ]
}

pub(crate) fn blob() -> impl Strategy<Value = Blob> {
    vec(any::<u8>(), 0..400).prop_map(|bytes| Blob(Bytes::from(bytes)))
}

pub(crate) fn extensions() -> impl Strategy<Value = Vec<Extension>> {
    vec((any::<u16>(), blob()).prop_map(|(tag, data)| Extension { tag, data }), 0..4)
}

fn record_kind() -> impl Strategy<Value = RecordKind> {
    prop_oneof![0..5u16, any::<u16>()].prop_map(RecordKind)
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    let numbers = (number(), number(), number(), number(), number32(), number());
    (numbers, user(), device(), record_kind(), blob(), blob(), extensions()).prop_map(
        |(numbers, sender, device, kind, content_type, content, extensions)| {
            let (seq, message_id, time_ms, count, epoch, client_seq) = numbers;
            Record {
                seq,
                message_id,
                time_ms,
                count,
                sender,
                device,
                epoch,
                client_seq,
                kind,
                content_type,
                content,
                extensions,
            }
        },
    )
}

pub(crate) fn code() -> impl Strategy<Value = ErrorCode> {
    prop_oneof![proptest::sample::select(ErrorCode::ALL), any::<u16>().prop_map(ErrorCode::from_number)]
}

fn hello() -> impl Strategy<Value = Body> {
    let role = prop_oneof![Just(Role::User), Just(Role::Service)];
    (any::<(u8, u8)>(), user(), device(), number32(), number(), role, blob(), (blob(), blob())).prop_map(
        |((min_version, max_version), user, device, epoch, nonce, role, token, (agent, platform))| {
            Body::Hello(request::Hello {
                min_version,
                max_version,
                user,
                device,
                epoch,
                nonce,
                role,
                token,
                agent,
                platform,
            })
        },
    )
}

fn send() -> impl Strategy<Value = Body> {
    (session(), number(), option::of(user()), blob(), blob(), extensions()).prop_map(
        |(session, client_seq, on_behalf_of, content_type, content, extensions)| {
            Body::Send(request::Send { session, client_seq, on_behalf_of, content_type, content, extensions })
        },
    )
}

fn rewrite() -> impl Strategy<Value = Body> {
    let recall = (session(), number(), option::of(user()), number()).prop_map(
        |(session, client_seq, on_behalf_of, seq)| {
            Body::Recall(request::Recall { session, client_seq, on_behalf_of, seq })
        },
    );
    let edit = (session(), number(), option::of(user()), number(), blob(), blob(), extensions()).prop_map(
        |(session, client_seq, on_behalf_of, seq, content_type, content, extensions)| {
            Body::Edit(request::Edit {
                session,
                client_seq,
                on_behalf_of,
                seq,
                content_type,
                content,
                extensions,
            })
        },
    );
    prop_oneof![recall, edit]
}

fn pull() -> impl Strategy<Value = Body> {
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Backward)];
    let consistency = prop_oneof![
        Just(Consistency::Linearizable),
        number().prop_map(Consistency::AtLeast),
        Just(Consistency::Replica),
    ];
    (session(), number(), direction, number32(), number32(), consistency).prop_map(
        |(session, from_seq, direction, max_count, max_bytes, consistency)| {
            Body::Pull(request::Pull { session, from_seq, direction, max_count, max_bytes, consistency })
        },
    )
}

fn members() -> impl Strategy<Value = Body> {
    (0..3, session(), number(), option::of(user()), vec(user(), 0..8)).prop_map(
        |(which, session, client_seq, on_behalf_of, users)| {
            let body = request::Members { session, client_seq, on_behalf_of, users };
            match which {
                0 => Body::CreateGroup(body),
                1 => Body::AddMembers(body),
                _ => Body::RemoveMembers(body),
            }
        },
    )
}

fn small_request() -> impl Strategy<Value = Body> {
    prop_oneof![
        vec((session(), number()), 0..6).prop_map(|cursors| Body::Delivered(request::Delivered { cursors })),
        (blob(), number32(), blob()).prop_map(|(after, limit, since)| Body::Sync(request::Sync {
            after,
            limit,
            since
        })),
        (session(), number()).prop_map(|(session, seq)| Body::Read(request::Read { session, seq })),
        (session(), option::of(user()), number32()).prop_map(|(session, after, limit)| Body::ListMembers(
            request::ListMembers { session, after, limit }
        )),
        Just(Body::Ping(())),
    ]
}

fn welcome() -> impl Strategy<Value = Body> {
    let limits = (number32(), number32(), number32(), number32())
        .prop_map(|(frame, content, window, page)| Limits { frame, content, window, page });
    (
        any::<u8>(),
        any::<[u8; 16]>(),
        any::<u16>(),
        number32(),
        (number(), number()),
        (number32(), number32()),
        limits,
    )
        .prop_map(
            |(version, cluster, node, epoch, (time_ms, last_number), (idle_ms, deadline_ms), limits)| {
                Body::Welcome(reply::Welcome {
                    version,
                    cluster,
                    node,
                    epoch,
                    time_ms,
                    idle_ms,
                    limits,
                    last_number,
                    deadline_ms,
                })
            },
        )
}

fn ack() -> impl Strategy<Value = Body> {
    (session(), number(), number(), number(), number(), number()).prop_map(
        |(session, client_seq, seq, message_id, time_ms, count)| {
            Body::Ack(reply::Ack { session, client_seq, seq, message_id, time_ms, count })
        },
    )
}

fn page() -> impl Strategy<Value = Body> {
    (session(), number(), number(), vec(record(), 0..4)).prop_map(
        |(session, first_seq, last_seq, records)| {
            Body::Page(reply::Page { session, first_seq, last_seq, records })
        },
    )
}

fn summary() -> impl Strategy<Value = Summary> {
    let preview = (number(), number(), user(), record_kind(), blob(), blob()).prop_map(
        |(seq, time_ms, sender, kind, content_type, content)| Preview {
            seq,
            time_ms,
            sender,
            kind,
            content_type,
            content,
        },
    );
    let settings = crate::own_strategies::settings();
    let parts = (session(), number32(), vec(number(), 10), option::of(preview), settings);
    parts.prop_map(|(session, members, n, last, settings)| Summary {
        session,
        members,
        first_seq: n[0],
        last_seq: n[1],
        count: n[2],
        unread: n[3],
        joined_seq: n[4],
        read_seq: n[5],
        delivered_seq: n[6],
        last_client_seq: n[7],
        live_from: n[8],
        time_ms: n[9],
        last,
        settings,
    })
}

fn sync_page() -> impl Strategy<Value = Body> {
    (
        vec(summary(), 0..4),
        vec((session(), code()), 0..3),
        number32(),
        blob(),
        option::of(crate::own_strategies::badge()),
        vec(session(), 0..3),
        blob(),
        any::<bool>(),
    )
        .prop_map(|(sessions, unresolved, total, next, badge, left, mark, full)| {
            Body::SyncPage(reply::SyncPage { sessions, unresolved, total, next, badge, left, mark, full })
        })
}

fn small_reply() -> impl Strategy<Value = Body> {
    prop_oneof![
        (session(), number(), number()).prop_map(|(session, seq, count)| Body::ReadMark(reply::ReadMark {
            session,
            seq,
            count
        })),
        (vec(user(), 0..8), any::<bool>(), number32())
            .prop_map(|(users, more, total)| Body::MemberPage(reply::MemberPage { users, more, total })),
        Just(Body::Ok(())),
        Just(Body::Pong(())),
    ]
}

fn push() -> impl Strategy<Value = Body> {
    prop_oneof![
        (session(), record()).prop_map(|(session, record)| Body::Message(reply::Message { session, record })),
        (session(), number())
            .prop_map(|(session, live_from)| Body::Joined(reply::Joined { session, live_from })),
        session().prop_map(|session| Body::Left(reply::Left { session })),
        vec((session(), number()), 0..6).prop_map(|sessions| Body::Lagged(reply::Lagged { sessions })),
        (code(), blob(), number32()).prop_map(|(code, text, after_ms)| Body::GoAway(reply::GoAway {
            code,
            text,
            after_ms
        })),
    ]
}

fn error() -> impl Strategy<Value = Body> {
    let retry = prop_oneof![Just(Retry::Never), any::<u32>().prop_map(Retry::After), Just(Retry::Reconnect)];
    (code(), retry, number(), blob())
        .prop_map(|(code, retry, detail, text)| Body::Error(ErrorBody { code, retry, detail, text }))
}

/// Any body of any kind.
pub(crate) fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        hello(),
        send(),
        pull(),
        members(),
        rewrite(),
        small_request(),
        welcome(),
        ack(),
        page(),
        sync_page(),
        small_reply(),
        push(),
        error(),
        crate::group_strategies::body(),
        crate::own_strategies::body(),
        crate::live::body(),
        crate::digest::body(),
        crate::join::body(),
        crate::admin::body(),
        crate::versions::body(),
    ]
}
