//! What is the user's own, in the notation of the vectors.

use rookery_wire::own::{
    Badge, DeviceLine, DevicePage, ListDevices, ListRelations, ManageSelf, Relation, RelationFilter,
};
use rookery_wire::own::{RelationPage, SelfAck, SessionSettings, Settings, ShowTo};
use rookery_wire::{Blob, DeviceId, RelationState, SessionId, SessionSetting, UserAction, UserId};
use serde_json::{Value, json};

use crate::group_json::words;
use crate::json::{Json, structs};

structs! {
    ManageSelf { number, on_behalf_of, action }
    SelfAck { number, time_ms, value }
    Settings { pinned, muted_until_ms, hidden_count, marked_unread, draft, cleared_seq, deleted }
    SessionSettings { session, settings }
    Badge { unread, muted, uncounted }
    Relation { user, state, blocked, remark, text, since_ms }
    ListRelations { on_behalf_of, which, after, limit }
    RelationPage { relations, more, refuses_strangers, receipts, presence }
    ListDevices { on_behalf_of, after, limit }
    DeviceLine { device, epoch, platform, name, agent, seen_ms }
    DevicePage { devices, more }
}

words! {
    RelationState { None = "none", Requested = "requested", Asked = "asked", Friends = "friends" }
    ShowTo { All = "all", Friends = "friends", Nobody = "nobody" }
    RelationFilter { All = "all", Friends = "friends", Requests = "requests", Blocked = "blocked" }
}

impl Json for SessionSetting {
    fn to_json(&self) -> Value {
        match self {
            SessionSetting::Pin(order) => json!({ "pin": order.to_json() }),
            SessionSetting::Mute(until_ms) => json!({ "mute": until_ms.to_json() }),
            SessionSetting::Hide(count) => json!({ "hide": count.to_json() }),
            SessionSetting::MarkUnread(on) => json!({ "mark_unread": on }),
            SessionSetting::Draft(text) => json!({ "draft": text.to_json() }),
        }
    }
    fn from_json(value: &Value) -> Self {
        let (name, field) = value.as_object().unwrap().iter().next().unwrap();
        match name.as_str() {
            "pin" => SessionSetting::Pin(Json::from_json(field)),
            "mute" => SessionSetting::Mute(Json::from_json(field)),
            "hide" => SessionSetting::Hide(Json::from_json(field)),
            "mark_unread" => SessionSetting::MarkUnread(Json::from_json(field)),
            "draft" => SessionSetting::Draft(Json::from_json(field)),
            other => panic!("no setting {other}"),
        }
    }
}

impl Json for UserAction {
    fn to_json(&self) -> Value {
        let one = |name: &str, user: &UserId| json!({ name: { "user": user.to_json() } });
        match self {
            UserAction::SetSession { session, setting } => {
                json!({ "set_session": { "session": session.to_json(), "setting": setting.to_json() } })
            }
            UserAction::ReadAll => json!("read_all"),
            UserAction::ClearSession { session, seq } => {
                json!({ "clear_session": { "session": session.to_json(), "seq": seq.to_json() } })
            }
            UserAction::DeleteMessages { session, from_seq, to_seq } => json!({ "delete_messages": {
                "session": session.to_json(), "from_seq": from_seq.to_json(), "to_seq": to_seq.to_json(),
            } }),
            UserAction::RequestFriend { user, text } => {
                json!({ "request_friend": { "user": user.to_json(), "text": text.to_json() } })
            }
            UserAction::AcceptFriend { user } => one("accept_friend", user),
            UserAction::DeclineFriend { user } => one("decline_friend", user),
            UserAction::RemoveFriend { user } => one("remove_friend", user),
            UserAction::SetRemark { user, remark } => {
                json!({ "set_remark": { "user": user.to_json(), "remark": remark.to_json() } })
            }
            UserAction::Block { user } => one("block", user),
            UserAction::Unblock { user } => one("unblock", user),
            UserAction::SetStrangers { refuse } => json!({ "set_strangers": { "refuse": refuse } }),
            UserAction::NameDevice { device, name } => {
                json!({ "name_device": { "device": device.to_json(), "name": name.to_json() } })
            }
            UserAction::EndDevice { device } => json!({ "end_device": { "device": device.to_json() } }),
            UserAction::SetPrivacy { receipts, presence } => json!({ "set_privacy": {
                "receipts": receipts.to_json(), "presence": presence.to_json(),
            } }),
        }
    }
    fn from_json(value: &Value) -> Self {
        if value == "read_all" {
            return UserAction::ReadAll;
        }
        let (name, fields) = value.as_object().unwrap().iter().next().unwrap();
        let user = || UserId::from_json(&fields["user"]);
        let session = || SessionId::from_json(&fields["session"]);
        let device = || DeviceId::from_json(&fields["device"]);
        let number = |field: &str| u64::from_json(&fields[field]);
        let blob = |field: &str| Blob::from_json(&fields[field]);
        match name.as_str() {
            "set_session" => UserAction::SetSession {
                session: session(),
                setting: SessionSetting::from_json(&fields["setting"]),
            },
            "clear_session" => UserAction::ClearSession { session: session(), seq: number("seq") },
            "delete_messages" => UserAction::DeleteMessages {
                session: session(),
                from_seq: number("from_seq"),
                to_seq: number("to_seq"),
            },
            "request_friend" => UserAction::RequestFriend { user: user(), text: blob("text") },
            "accept_friend" => UserAction::AcceptFriend { user: user() },
            "decline_friend" => UserAction::DeclineFriend { user: user() },
            "remove_friend" => UserAction::RemoveFriend { user: user() },
            "set_remark" => UserAction::SetRemark { user: user(), remark: blob("remark") },
            "block" => UserAction::Block { user: user() },
            "unblock" => UserAction::Unblock { user: user() },
            "set_strangers" => UserAction::SetStrangers { refuse: bool::from_json(&fields["refuse"]) },
            "name_device" => UserAction::NameDevice { device: device(), name: blob("name") },
            "end_device" => UserAction::EndDevice { device: device() },
            "set_privacy" => UserAction::SetPrivacy {
                receipts: ShowTo::from_json(&fields["receipts"]),
                presence: ShowTo::from_json(&fields["presence"]),
            },
            other => panic!("no action {other}"),
        }
    }
}
