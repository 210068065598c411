//! What groups are managed with, in the notation of the vectors.

use rookery_wire::group::{Group, GroupInfo, ListRoles, ManageGroup, RoleLine, RolePage};
use rookery_wire::{AttributeKey, Blob, GroupAction, Join, MemberRole, Policy, Retention, UserId, Who};
use serde_json::{Value, json};

use crate::json::{Json, structs};

structs! {
    ManageGroup { session, client_seq, on_behalf_of, action }
    GroupInfo { session }
    ListRoles { session, after, limit }
    Group {
        session, name, avatar, attributes, policy, mute_all, owner, role, muted_until_ms, members, dissolved,
        retention,
    }
    RoleLine { user, role, muted_until_ms }
    RolePage { roles, more }
    Retention { age_ms, count }
    Policy { write, invite, change, history_before_joining, join }
}

macro_rules! words {
    ($($name:ident { $($variant:ident = $word:literal),+ })+) => {$(
        impl Json for $name {
            fn to_json(&self) -> Value {
                json!(match self { $($name::$variant => $word),+ })
            }
            fn from_json(value: &Value) -> Self {
                match value.as_str().unwrap() {
                    $($word => $name::$variant,)+
                    other => panic!("no such word: {other}"),
                }
            }
        }
    )+};
}

pub(crate) use words;

words! {
    MemberRole { Member = "member", Admin = "admin", Owner = "owner" }
    Who { All = "all", Admins = "admins" }
    Join { Closed = "closed", Request = "request", Open = "open" }
}

/// A variant with fields is an object of one entry, its name; one without is its name alone.
impl Json for GroupAction {
    fn to_json(&self) -> Value {
        match self {
            GroupAction::SetProfile { name, avatar } => {
                json!({ "set_profile": { "name": name.to_json(), "avatar": avatar.to_json() } })
            }
            GroupAction::SetAttribute { key, value } => {
                json!({ "set_attribute": { "key": key.to_json(), "value": value.to_json() } })
            }
            GroupAction::SetRole { user, role } => {
                json!({ "set_role": { "user": user.to_json(), "role": role.to_json() } })
            }
            GroupAction::HandOver { user } => json!({ "hand_over": { "user": user.to_json() } }),
            GroupAction::SetPolicy(policy) => json!({ "set_policy": policy.to_json() }),
            GroupAction::Mute { user, until_ms } => {
                json!({ "mute": { "user": user.to_json(), "until_ms": until_ms.to_json() } })
            }
            GroupAction::MuteAll { on } => json!({ "mute_all": { "on": on } }),
            GroupAction::Dissolve => json!("dissolve"),
            GroupAction::SetRetention(retention) => json!({ "set_retention": retention.to_json() }),
            GroupAction::Answer { user, accept } => {
                json!({ "answer": { "user": user.to_json(), "accept": accept } })
            }
            GroupAction::MakeCode { hash, until_ms, uses } => json!({ "make_code": {
                "hash": hash.to_json(), "until_ms": until_ms.to_json(), "uses": uses.to_json(),
            } }),
            GroupAction::RevokeCode { id } => json!({ "revoke_code": { "id": id.to_json() } }),
            GroupAction::Bar { user, on } => json!({ "bar": { "user": user.to_json(), "on": on } }),
            GroupAction::KeepVersions { on } => json!({ "keep_versions": { "on": on } }),
            GroupAction::Asked { user } => json!({ "asked": { "user": user.to_json() } }),
        }
    }
    fn from_json(value: &Value) -> Self {
        if value == "dissolve" {
            return GroupAction::Dissolve;
        }
        let (name, fields) = value.as_object().unwrap().iter().next().unwrap();
        let user = || UserId::from_json(&fields["user"]);
        let blob = |field: &str| Option::<Blob>::from_json(&fields[field]);
        match name.as_str() {
            "set_profile" => GroupAction::SetProfile { name: blob("name"), avatar: blob("avatar") },
            "set_attribute" => GroupAction::SetAttribute {
                key: AttributeKey::from_json(&fields["key"]),
                value: blob("value"),
            },
            "set_role" => GroupAction::SetRole { user: user(), role: MemberRole::from_json(&fields["role"]) },
            "hand_over" => GroupAction::HandOver { user: user() },
            "set_policy" => GroupAction::SetPolicy(Policy::from_json(fields)),
            "mute" => GroupAction::Mute { user: user(), until_ms: u64::from_json(&fields["until_ms"]) },
            "mute_all" => GroupAction::MuteAll { on: bool::from_json(&fields["on"]) },
            "set_retention" => GroupAction::SetRetention(Retention::from_json(fields)),
            "answer" => GroupAction::Answer { user: user(), accept: bool::from_json(&fields["accept"]) },
            "make_code" => GroupAction::MakeCode {
                hash: Blob::from_json(&fields["hash"]),
                until_ms: u64::from_json(&fields["until_ms"]),
                uses: u32::from_json(&fields["uses"]),
            },
            "revoke_code" => GroupAction::RevokeCode { id: u64::from_json(&fields["id"]) },
            "bar" => GroupAction::Bar { user: user(), on: bool::from_json(&fields["on"]) },
            "asked" => GroupAction::Asked { user: user() },
            "keep_versions" => GroupAction::KeepVersions { on: bool::from_json(&fields["on"]) },
            other => panic!("no action {other}"),
        }
    }
}
