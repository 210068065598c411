//! The business's side: its vectors, its notation, random ones.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rookery_wire::admin::{
    Admin, AdminOutcome, AdminReply, Audit, AuditEntity, AuditLine, AuditPage, UserSessionLine,
};
use rookery_wire::reply::Ack;
use rookery_wire::{
    AdminAction, Blob, DeviceId, Extension, GroupAction, GroupId, RequestKey, SessionId, UserAction, UserId,
};
use serde_json::{Value, json};

use crate::bodies::Body;
use crate::cases::{Case, case, pair, team, user as named};
use crate::json::{Json, structs};
use crate::strategies::{blob, device, extensions, name, number, number32, session, user};

structs! {
    Admin { key, on_behalf_of, action }
    AdminReply { key, audit, outcome }
    UserSessionLine { session, joined_seq, read_seq }
    AuditLine { number, time_ms, service, device, on_behalf_of, action, part, entity, key }
    Audit { after, limit }
    AuditPage { lines, first, last }
}

/// An object of one entry: the variant's name and its fields.
impl Json for AdminAction {
    fn to_json(&self) -> Value {
        let members = |name: &str, group: &GroupId, users: &Vec<UserId>| json!({ name: { "group": group.to_json(), "users": users.to_json() } });
        match self {
            AdminAction::Send { session, content_type, content, extensions } => json!({ "send": {
                "session": session.to_json(), "content_type": content_type.to_json(),
                "content": content.to_json(), "extensions": extensions.to_json(),
            } }),
            AdminAction::Recall { session, seq } => {
                json!({ "recall": { "session": session.to_json(), "seq": seq.to_json() } })
            }
            AdminAction::Edit { session, seq, content_type, content, extensions } => json!({ "edit": {
                "session": session.to_json(), "seq": seq.to_json(), "content_type": content_type.to_json(),
                "content": content.to_json(), "extensions": extensions.to_json(),
            } }),
            AdminAction::CreateGroup { group, users } => members("create_group", group, users),
            AdminAction::AddMembers { group, users } => members("add_members", group, users),
            AdminAction::RemoveMembers { group, users } => members("remove_members", group, users),
            AdminAction::Manage { group, action } => {
                json!({ "manage": { "group": group.to_json(), "action": action.to_json() } })
            }
            AdminAction::Own(action) => json!({ "own": action.to_json() }),
            AdminAction::CreateUser { user } => json!({ "create_user": { "user": user.to_json() } }),
            AdminAction::Sessions { after, limit } => {
                json!({ "sessions": { "after": after.to_json(), "limit": limit.to_json() } })
            }
        }
    }
    fn from_json(value: &Value) -> Self {
        let (name, fields) = value.as_object().unwrap().iter().next().unwrap();
        let session = || SessionId::from_json(&fields["session"]);
        let blob = |field: &str| Blob::from_json(&fields[field]);
        let extensions = || Vec::<Extension>::from_json(&fields["extensions"]);
        let group = || GroupId::from_json(&fields["group"]);
        let users = || Vec::<UserId>::from_json(&fields["users"]);
        let seq = || u64::from_json(&fields["seq"]);
        match name.as_str() {
            "send" => AdminAction::Send {
                session: session(),
                content_type: blob("content_type"),
                content: blob("content"),
                extensions: extensions(),
            },
            "recall" => AdminAction::Recall { session: session(), seq: seq() },
            "edit" => AdminAction::Edit {
                session: session(),
                seq: seq(),
                content_type: blob("content_type"),
                content: blob("content"),
                extensions: extensions(),
            },
            "create_group" => AdminAction::CreateGroup { group: group(), users: users() },
            "add_members" => AdminAction::AddMembers { group: group(), users: users() },
            "remove_members" => AdminAction::RemoveMembers { group: group(), users: users() },
            "manage" => {
                AdminAction::Manage { group: group(), action: GroupAction::from_json(&fields["action"]) }
            }
            "own" => AdminAction::Own(UserAction::from_json(fields)),
            "create_user" => AdminAction::CreateUser { user: UserId::from_json(&fields["user"]) },
            "sessions" => AdminAction::Sessions {
                after: Json::from_json(&fields["after"]),
                limit: Json::from_json(&fields["limit"]),
            },
            other => panic!("no action {other}"),
        }
    }
}

impl Json for AdminOutcome {
    fn to_json(&self) -> Value {
        match self {
            AdminOutcome::Stored(ack) => json!({ "stored": ack.to_json() }),
            AdminOutcome::Done { time_ms, value } => {
                json!({ "done": { "time_ms": time_ms.to_json(), "value": value.to_json() } })
            }
            AdminOutcome::Sessions { sessions, more } => {
                json!({ "sessions": { "sessions": sessions.to_json(), "more": more } })
            }
        }
    }
    fn from_json(value: &Value) -> Self {
        let (name, fields) = value.as_object().unwrap().iter().next().unwrap();
        match name.as_str() {
            "stored" => AdminOutcome::Stored(Ack::from_json(fields)),
            "done" => AdminOutcome::Done {
                time_ms: Json::from_json(&fields["time_ms"]),
                value: Json::from_json(&fields["value"]),
            },
            "sessions" => AdminOutcome::Sessions {
                sessions: Json::from_json(&fields["sessions"]),
                more: Json::from_json(&fields["more"]),
            },
            other => panic!("no outcome {other}"),
        }
    }
}

impl Json for AuditEntity {
    fn to_json(&self) -> Value {
        match self {
            AuditEntity::Session(session) => json!({ "session": session.to_json() }),
            AuditEntity::User(user) => json!({ "user": user.to_json() }),
        }
    }
    fn from_json(value: &Value) -> Self {
        match value.get("session") {
            Some(session) => AuditEntity::Session(SessionId::from_json(session)),
            None => AuditEntity::User(UserId::from_json(&value["user"])),
        }
    }
}

fn key(text: &str) -> RequestKey {
    RequestKey::new(text).unwrap()
}

fn crew() -> GroupId {
    GroupId::new("team").unwrap()
}

fn ask(name: &'static str, note: &'static str, request: u32, of: Option<&str>, action: AdminAction) -> Case {
    let admin = Admin { key: key("order-7"), on_behalf_of: of.map(named), action };
    case(name, note, request, Body::Admin(admin))
}

pub(crate) fn requests() -> Vec<Case> {
    let text = Blob::from("text/plain");
    let say = |content: &str| AdminAction::Send {
        session: pair(),
        content_type: text.clone(),
        content: Blob::from(content),
        extensions: vec![],
    };
    let edit = AdminAction::Edit {
        session: team(),
        seq: 250,
        content_type: text.clone(),
        content: Blob::from("now"),
        extensions: vec![Extension { tag: 1024, data: Blob::from("x") }],
    };
    let of_two = || vec![named("alice"), named("bob")];
    let role = GroupAction::SetRole { user: named("bob"), role: rookery_wire::MemberRole::Admin };
    let end = UserAction::EndDevice { device: DeviceId::new("phone").unwrap() };
    vec![
        ask("admin send", "as the system", 120, None, say("your order has left")),
        ask("admin send as a user", "as alice", 121, Some("alice"), say("hi")),
        ask("admin recall", "", 122, None, AdminAction::Recall { session: team(), seq: 251 }),
        ask("admin edit", "", 123, None, edit),
        ask(
            "admin create group",
            "alice owns it",
            124,
            Some("alice"),
            AdminAction::CreateGroup { group: crew(), users: of_two() },
        ),
        ask("admin add members", "", 125, None, AdminAction::AddMembers { group: crew(), users: of_two() }),
        ask(
            "admin remove members",
            "",
            126,
            None,
            AdminAction::RemoveMembers { group: crew(), users: vec![named("bob")] },
        ),
        ask("admin manage", "", 127, None, AdminAction::Manage { group: crew(), action: role }),
        ask("admin own", "ends a device of alice", 128, Some("alice"), AdminAction::Own(end)),
        ask("admin create user", "", 129, None, AdminAction::CreateUser { user: named("alice") }),
        ask(
            "admin sessions",
            "a page of alice's sessions",
            130,
            Some("alice"),
            AdminAction::Sessions { after: Some(pair()), limit: 1000 },
        ),
        case("audit", "from the oldest line on", 131, Body::Audit(Audit { after: 0, limit: 1000 })),
    ]
}

pub(crate) fn replies() -> Vec<Case> {
    const NOW: u64 = 1_790_000_000_000;
    let ack = Ack {
        session: pair(),
        client_seq: 0,
        seq: 7,
        message_id: 0x0003_0000_0000_2a01,
        time_ms: NOW,
        count: 6,
    };
    let reply = |audit, outcome| Body::AdminReply(AdminReply { key: key("order-7"), audit, outcome });
    let line = |number: u64, on_behalf_of: Option<&str>, (action, part), entity| AuditLine {
        number,
        time_ms: NOW + number,
        service: named("shop"),
        device: DeviceId::new("backend-1").unwrap(),
        on_behalf_of: on_behalf_of.map(named),
        action,
        part,
        entity,
        key: key("order-7"),
    };
    let page = AuditPage {
        lines: vec![
            line(251, None, (0, 0), AuditEntity::Session(pair())),
            line(252, Some("alice"), (7, 13), AuditEntity::User(named("alice"))),
        ],
        first: 12,
        last: 252,
    };
    let sessions = vec![UserSessionLine { session: team(), joined_seq: 1, read_seq: 251 }];
    vec![
        case("admin reply stored", "", 120, reply(251, AdminOutcome::Stored(ack))),
        case("admin reply done", "", 128, reply(252, AdminOutcome::Done { time_ms: NOW, value: 1 })),
        case("admin reply sessions", "", 130, reply(0, AdminOutcome::Sessions { sessions, more: true })),
        case("audit page", "", 131, Body::AuditPage(page)),
        case("audit page empty", "", 132, Body::AuditPage(AuditPage { lines: vec![], first: 1, last: 0 })),
    ]
}

fn request_key() -> impl Strategy<Value = RequestKey> {
    name().prop_map(|text| RequestKey::new(&text).unwrap())
}

fn group() -> impl Strategy<Value = GroupId> {
    name().prop_map(|text| GroupId::new(&text).unwrap())
}

fn action() -> impl Strategy<Value = AdminAction> {
    let members = || (group(), vec(user(), 0..5));
    prop_oneof![
        (session(), blob(), blob(), extensions()).prop_map(|(session, content_type, content, extensions)| {
            AdminAction::Send { session, content_type, content, extensions }
        }),
        (session(), number()).prop_map(|(session, seq)| AdminAction::Recall { session, seq }),
        (session(), number(), blob(), blob(), extensions()).prop_map(
            |(session, seq, content_type, content, extensions)| AdminAction::Edit {
                session,
                seq,
                content_type,
                content,
                extensions
            }
        ),
        members().prop_map(|(group, users)| AdminAction::CreateGroup { group, users }),
        members().prop_map(|(group, users)| AdminAction::AddMembers { group, users }),
        members().prop_map(|(group, users)| AdminAction::RemoveMembers { group, users }),
        (group(), crate::group_strategies::action().boxed())
            .prop_map(|(group, action)| AdminAction::Manage { group, action }),
        crate::own_strategies::action().boxed().prop_map(AdminAction::Own),
        user().prop_map(|user| AdminAction::CreateUser { user }),
        (option::of(session()), number32()).prop_map(|(after, limit)| AdminAction::Sessions { after, limit }),
    ]
}

fn outcome() -> impl Strategy<Value = AdminOutcome> {
    let line = (session(), number(), number()).prop_map(|(session, joined_seq, read_seq)| UserSessionLine {
        session,
        joined_seq,
        read_seq,
    });
    prop_oneof![
        (session(), number(), number(), number(), number()).prop_map(
            |(session, seq, message_id, time_ms, count)| AdminOutcome::Stored(Ack {
                session,
                client_seq: 0,
                seq,
                message_id,
                time_ms,
                count
            })
        ),
        (number(), number()).prop_map(|(time_ms, value)| AdminOutcome::Done { time_ms, value }),
        (vec(line, 0..4), any::<bool>())
            .prop_map(|(sessions, more)| AdminOutcome::Sessions { sessions, more }),
    ]
}

fn line() -> impl Strategy<Value = AuditLine> {
    let entity = prop_oneof![session().prop_map(AuditEntity::Session), user().prop_map(AuditEntity::User)];
    let who = (user(), device(), option::of(user()));
    (number(), number(), who, any::<u16>(), any::<u16>(), entity, request_key()).prop_map(
        |(number, time_ms, (service, device, on_behalf_of), action, part, entity, key)| AuditLine {
            number,
            time_ms,
            service,
            device,
            on_behalf_of,
            action,
            part,
            entity,
            key,
        },
    )
}

/// Any body of the business's side. Parts are boxed: a tree of all alternatives at once would not fit a thread's stack.
pub(crate) fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (request_key(), option::of(user()), action().boxed())
            .prop_map(|(key, on_behalf_of, action)| Body::Admin(Admin { key, on_behalf_of, action })),
        (number(), number32()).prop_map(|(after, limit)| Body::Audit(Audit { after, limit })),
        (request_key(), number(), outcome()).prop_map(|(key, audit, outcome)| Body::AdminReply(AdminReply {
            key,
            audit,
            outcome
        })),
        (vec(line().boxed(), 0..4), number(), number())
            .prop_map(|(lines, first, last)| Body::AuditPage(AuditPage { lines, first, last })),
    ]
}

/// The audit names an action by the number that it has on the wire.
#[test]
fn an_action_is_named_by_its_numbers_on_the_wire() {
    for case in requests() {
        let Body::Admin(admin) = &case.body else { continue };
        let bytes = rookery_wire::encode(&admin.action);
        let (action, part) = admin.action.numbers();
        assert_eq!(u16::from(bytes[0]), action, "{}", case.name);
        match &admin.action {
            AdminAction::Own(_) => assert_eq!(u16::from(bytes[1]), part, "{}", case.name),
            AdminAction::Manage { .. } => assert_eq!(part, 2, "SetRole"),
            _ => assert_eq!(part, 0, "{}", case.name),
        }
    }
}
