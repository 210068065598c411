//! Versions of edited messages: vectors, their notation, random ones.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use rookery_wire::group::ManageGroup;
use rookery_wire::versions::{ListVersions, MAX_VERSIONS, VersionLine, VersionsPage};
use rookery_wire::{Blob, Extension, GroupAction, RecordKind, Rewritten, Version, encode, reply};
use serde_json::Value;

use crate::bodies::Body;
use crate::cases::{Case, case, pair, record, team, user as named};
use crate::json::{Json, structs};
use crate::strategies::{blob, number, number32, session, user};

structs! {
    Version { number, kept }
    ListVersions { session, seq, before, limit }
    VersionLine { number, time_ms, by, content_type, content, extensions }
    VersionsPage { session, seq, versions, more, kept }
}

pub(crate) fn requests() -> Vec<Case> {
    let list = |session, seq, before, limit| Body::ListVersions(ListVersions { session, seq, before, limit });
    let manage = |session, client_seq, on| {
        let action = GroupAction::KeepVersions { on };
        Body::ManageGroup(ManageGroup { session, client_seq, on_behalf_of: None, action })
    };
    vec![
        case("list versions", "", 90, list(team(), 251, 0, MAX_VERSIONS + 1)),
        case("list versions next", "those before the third", 91, list(pair(), 7, 3, 1)),
        case("list versions of none", "whether they are kept", 92, list(pair(), 0, 0, 1)),
        case("manage keep versions", "", 93, manage(team(), 93, true)),
        case("manage keep no versions", "a user of a direct session says no", 94, manage(pair(), 94, false)),
    ]
}

pub(crate) fn replies() -> Vec<Case> {
    let line = |number, content: &str| VersionLine {
        number,
        time_ms: 1_790_000_000_000 + number,
        by: named("alice"),
        content_type: Blob::from("text/plain"),
        content: Blob::from(content),
        extensions: vec![],
    };
    let first = VersionLine {
        content: Blob(Bytes::from_static(&[0, 255])),
        extensions: vec![Extension { tag: 1024, data: Blob::from("thread 7") }],
        ..line(1, "")
    };
    let page = |session, seq, versions, more, kept| {
        Body::VersionsPage(VersionsPage { session, seq, versions, more, kept })
    };
    vec![
        case("versions page", "as it is, as it was; older ones are behind", 90, {
            page(team(), 251, vec![line(251, "see you at 9"), line(250, "see you at 8")], true, true)
        }),
        case("versions page last", "what was said first; none are kept any more", 91, {
            page(pair(), 7, vec![first], false, false)
        }),
        case("versions page of none", "", 92, page(pair(), 0, vec![], false, true)),
    ]
}

pub(crate) fn pushes() -> Vec<Case> {
    let mark = Rewritten { by: named("alice"), time_ms: 1_790_000_000_009, seq: 9 };
    let mark = Extension { tag: Rewritten::TAG, data: Blob(encode(&mark)) };
    let extensions = vec![mark, Version { number: 3, kept: 2 }.extension()];
    let (kind, content) = (RecordKind::CONTENT, Blob::from("see you at 9"));
    let edited = rookery_wire::Record { kind, content, extensions, ..record(8) };
    let kept = Blob(encode(&GroupAction::KeepVersions { on: true }));
    let (kind, content_type) = (RecordKind::GROUP_CHANGED, Blob::default());
    let told = rookery_wire::Record { kind, content_type, content: kept, count: 0, ..record(10) };
    vec![
        case("message edited twice", "both versions before it are kept", 0, {
            Body::Message(reply::Message { session: team(), record: edited })
        }),
        case("message keep versions", "", 0, Body::Message(reply::Message { session: team(), record: told })),
    ]
}

/// Any body of these.
pub(crate) fn body() -> impl Strategy<Value = Body> {
    let line = (number(), number(), user(), blob(), blob()).prop_map(
        |(number, time_ms, by, content_type, content)| {
            let extensions = vec![Extension { tag: 1024, data: content_type.clone() }];
            VersionLine { number, time_ms, by, content_type, content, extensions }
        },
    );
    prop_oneof![
        (session(), number(), number(), number32()).prop_map(|(session, seq, before, limit)| {
            Body::ListVersions(ListVersions { session, seq, before, limit })
        }),
        (session(), number(), vec(line, 0..5), any::<bool>(), any::<bool>()).prop_map(
            |(session, seq, versions, more, kept)| {
                Body::VersionsPage(VersionsPage { session, seq, versions, more, kept })
            }
        ),
    ]
}

#[test]
fn a_record_says_which_version_it_is() {
    let first = record(5);
    assert_eq!(Version::of(&first), Version { number: 1, kept: 0 });
    let version = Version { number: 251, kept: 100 };
    let edited = rookery_wire::Record { extensions: vec![version.extension()], ..first };
    assert_eq!(Version::of(&edited), version);
}
