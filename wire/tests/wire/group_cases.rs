//! The vectors of group management: every action, and the two reads with their answers.

use bytes::Bytes;
use rookery_wire::group::{Group, GroupInfo, ListRoles, ManageGroup, RoleLine, RolePage};
use rookery_wire::{
    AttributeKey, Blob, GroupAction, Join, MemberRole, Policy, RecordKind, Retention, Who, encode, reply,
};

use crate::bodies::Body;
use crate::cases::{Case, case, record, team, user};

fn key(name: &str) -> AttributeKey {
    AttributeKey::new(name).unwrap()
}

fn closed() -> Policy {
    Policy {
        write: Who::Admins,
        invite: Who::Admins,
        change: Who::All,
        history_before_joining: false,
        join: Join::Request,
    }
}

fn actions() -> Vec<(&'static str, &'static str, GroupAction)> {
    vec![
        ("manage profile", "a name, and the avatar stays as it is", {
            GroupAction::SetProfile { name: Some(Blob::from("Die Krähen")), avatar: None }
        }),
        ("manage avatar", "a few bytes of a picture; the name is taken away", {
            let avatar = Bytes::from_static(&[0x89, b'P', b'N', b'G', 0xff]);
            GroupAction::SetProfile { name: Some(Blob::default()), avatar: Some(Blob(avatar)) }
        }),
        ("manage attribute", "", {
            GroupAction::SetAttribute { key: key("colour"), value: Some(Blob::from("black")) }
        }),
        ("manage attribute away", "", GroupAction::SetAttribute { key: key("colour"), value: None }),
        ("manage role", "", GroupAction::SetRole { user: user("bob"), role: MemberRole::Admin }),
        ("manage hand over", "", GroupAction::HandOver { user: user("bob") }),
        ("manage policy", "", GroupAction::SetPolicy(closed())),
        ("manage mute", "until a time", GroupAction::Mute { user: user("bob"), until_ms: 1_790_000_060_000 }),
        ("manage mute for ever", "", GroupAction::Mute { user: user("bob"), until_ms: u64::MAX }),
        ("manage unmute", "", GroupAction::Mute { user: user("bob"), until_ms: 0 }),
        ("manage mute all", "", GroupAction::MuteAll { on: true }),
        ("manage dissolve", "", GroupAction::Dissolve),
        ("manage retention", "a day, and 10,000 records", {
            GroupAction::SetRetention(Retention { age_ms: 86_400_000, count: 10_000 })
        }),
    ]
}

pub(crate) fn requests() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, (name, note, action)) in (22..).zip(actions()) {
        let client_seq = u64::from(number);
        let body = ManageGroup { session: team(), client_seq, on_behalf_of: None, action };
        cases.push(case(name, note, number, Body::ManageGroup(body)));
    }
    let named = ManageGroup {
        session: team(),
        client_seq: 251,
        on_behalf_of: Some(user("alice")),
        action: GroupAction::MuteAll { on: false },
    };
    cases.extend([
        case("manage on behalf", "a service acts for alice", 40, Body::ManageGroup(named)),
        case("group info", "", 41, Body::GroupInfo(GroupInfo { session: team() })),
        case("list roles first", "", 42, {
            Body::ListRoles(ListRoles { session: team(), after: None, limit: 1_000 })
        }),
        case("list roles next", "", 43, {
            Body::ListRoles(ListRoles { session: team(), after: Some(user("bob")), limit: 1 })
        }),
    ]);
    cases
}

pub(crate) fn replies() -> Vec<Case> {
    let full = Group {
        session: team(),
        name: Blob::from("Die Krähen"),
        avatar: Blob::from("https://example.org/crow.png"),
        attributes: vec![
            (key("colour"), Blob::from("black")),
            (key("raw"), Blob(Bytes::from_static(&[0, 255]))),
        ],
        policy: closed(),
        mute_all: true,
        owner: Some(user("alice")),
        role: Some(MemberRole::Admin),
        muted_until_ms: 1_790_000_060_000,
        members: 10_000,
        dissolved: false,
        retention: Retention { age_ms: 86_400_000, count: 0 },
    };
    let bare = Group {
        session: team(),
        name: Blob::default(),
        avatar: Blob::default(),
        attributes: Vec::new(),
        policy: Policy::default(),
        mute_all: false,
        owner: None,
        role: None,
        muted_until_ms: 0,
        members: 0,
        dissolved: true,
        retention: Retention::default(),
    };
    let line = |name: &str, role, muted_until_ms| RoleLine { user: user(name), role, muted_until_ms };
    let roles = vec![
        line("alice", MemberRole::Owner, 0),
        line("bob", MemberRole::Admin, 0),
        line("carol", MemberRole::Member, u64::MAX),
    ];
    vec![
        case("group", "", 41, Body::Group(full)),
        case("group dissolved", "as a service sees it", 41, Body::Group(bare)),
        case("role page", "an owner, an admin and a muted member", 42, {
            Body::RolePage(RolePage { roles, more: true })
        }),
        case("role page empty", "", 43, Body::RolePage(RolePage { roles: vec![], more: false })),
    ]
}

pub(crate) fn pushes() -> Vec<Case> {
    let content = Blob(encode(&GroupAction::Mute { user: user("bob"), until_ms: 1_790_000_060_000 }));
    let kind = RecordKind::GROUP_CHANGED;
    let changed =
        rookery_wire::Record { kind, content_type: Blob::default(), content, count: 0, ..record(6) };
    vec![case("message group changed", "the content is a group action", 0, {
        Body::Message(reply::Message { session: team(), record: changed })
    })]
}
