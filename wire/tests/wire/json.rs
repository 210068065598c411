//! Bodies as readable JSON and back: the notation of `wire/vectors`, which its README states.

use bytes::Bytes;
use rookery_wire::request::{Consistency, Direction, Role};
use rookery_wire::{
    AttributeKey, Blob, DeviceId, ErrorBody, ErrorCode, Extension, GroupId, Preview, Record, RecordKind,
    RequestKey,
};
use rookery_wire::{Burns, Expires, Retry, Rewritten, SessionId, Signal, Target, UserId, reply, request};
use serde_json::{Value, json};

/// The largest integer every JSON reader keeps exactly; larger ones are written as text.
const EXACT: u64 = (1 << 53) - 1;

/// A value of the protocol in the notation of the vectors.
pub(crate) trait Json: Sized {
    fn to_json(&self) -> Value;
    /// Panics on anything that `to_json` would not write.
    fn from_json(value: &Value) -> Self;
}

macro_rules! integers {
    ($($int:ty),+) => {$(
        impl Json for $int {
            fn to_json(&self) -> Value {
                let number = u64::from(*self);
                if number > EXACT { json!(number.to_string()) } else { json!(number) }
            }
            fn from_json(value: &Value) -> Self {
                let number = match value {
                    Value::String(text) => text.parse().unwrap(),
                    other => other.as_u64().unwrap(),
                };
                Self::try_from(number).unwrap()
            }
        }
    )+};
}
integers!(u8, u16, u32, u64);

macro_rules! names {
    ($($name:ident),+) => {$(
        impl Json for $name {
            fn to_json(&self) -> Value {
                json!(self.as_str())
            }
            fn from_json(value: &Value) -> Self {
                $name::new(value.as_str().unwrap()).unwrap()
            }
        }
    )+};
}
names!(UserId, DeviceId, GroupId, AttributeKey, RequestKey);

macro_rules! structs {
    ($($(::$path:ident)? $name:ident { $($field:ident),* $(,)? })+) => {$(
        impl Json for $($path::)? $name {
            fn to_json(&self) -> Value {
                let mut fields = serde_json::Map::new();
                $(fields.insert(stringify!($field).to_owned(), self.$field.to_json());)*
                Value::Object(fields)
            }
            fn from_json(value: &Value) -> Self {
                let fields = value.as_object().unwrap();
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                assert_eq!(names, [$(stringify!($field)),*], "fields in the order of the frame");
                Self { $($field: Json::from_json(&fields[stringify!($field)])),* }
            }
        }
    )+};
}

pub(crate) use structs;

structs! {
    ::request Hello { min_version, max_version, user, device, epoch, nonce, role, token, agent, platform }
    ::request Send { session, client_seq, on_behalf_of, content_type, content, extensions }
    ::request Delivered { cursors }
    ::request Pull { session, from_seq, direction, max_count, max_bytes, consistency }
    ::request Sync { after, limit, since }
    ::request Read { session, seq }
    ::request Members { session, client_seq, on_behalf_of, users }
    ::request ListMembers { session, after, limit }
    ::request Recall { session, client_seq, on_behalf_of, seq }
    ::request Edit { session, client_seq, on_behalf_of, seq, content_type, content, extensions }
    ::reply Limits { frame, content, window, page }
    ::reply Welcome { version, cluster, node, epoch, time_ms, idle_ms, limits, last_number, deadline_ms }
    ::reply Ack { session, client_seq, seq, message_id, time_ms, count }
    ::reply Page { session, first_seq, last_seq, records }
    ::reply Summary {
        session, members, first_seq, last_seq, count, unread, joined_seq, read_seq, delivered_seq,
        last_client_seq, live_from, time_ms, last, settings,
    }
    ::reply SyncPage { sessions, unresolved, total, next, badge, left, mark, full }
    ::reply ReadMark { session, seq, count }
    ::reply MemberPage { users, more, total }
    ::reply Message { session, record }
    ::reply Joined { session, live_from }
    ::reply Left { session }
    ::reply Lagged { sessions }
    ::reply GoAway { code, text, after_ms }
    ErrorBody { code, retry, detail, text }
    Extension { tag, data }
    Record {
        seq, message_id, time_ms, count, sender, device, epoch, client_seq, kind, content_type, content,
        extensions,
    }
    Signal { users }
    Target { seq }
    Rewritten { by, time_ms, seq }
    Expires { after_ms }
    Burns { after_ms }
    Preview { seq, time_ms, sender, kind, content_type, content }
}

impl Json for () {
    fn to_json(&self) -> Value {
        json!({})
    }
    fn from_json(value: &Value) -> Self {
        assert_eq!(value, &json!({}));
    }
}

impl Json for bool {
    fn to_json(&self) -> Value {
        json!(self)
    }
    fn from_json(value: &Value) -> Self {
        value.as_bool().unwrap()
    }
}

impl Json for SessionId {
    fn to_json(&self) -> Value {
        match self {
            SessionId::Direct { low, high } => json!({ "direct": [low.to_json(), high.to_json()] }),
            SessionId::Group(group) => json!({ "group": group.to_json() }),
        }
    }
    fn from_json(value: &Value) -> Self {
        match value.get("group") {
            Some(group) => SessionId::Group(GroupId::from_json(group)),
            None => {
                let pair = &value["direct"];
                SessionId::Direct { low: UserId::from_json(&pair[0]), high: UserId::from_json(&pair[1]) }
            }
        }
    }
}

/// Text where the bytes are printable UTF-8, else hexadecimal.
impl Json for Blob {
    fn to_json(&self) -> Value {
        match std::str::from_utf8(self.as_ref()) {
            Ok(text) if text.len() <= 200 && !text.chars().any(char::is_control) => json!(text),
            _ => json!({ "hex": to_hex(self.as_ref()) }),
        }
    }
    fn from_json(value: &Value) -> Self {
        match value {
            Value::String(text) => Blob::from(text.as_str()),
            other => Blob(Bytes::from(from_hex(other["hex"].as_str().unwrap()))),
        }
    }
}

impl Json for [u8; 16] {
    fn to_json(&self) -> Value {
        json!({ "hex": to_hex(self) })
    }
    fn from_json(value: &Value) -> Self {
        from_hex(value["hex"].as_str().unwrap()).try_into().unwrap()
    }
}

impl<T: Json> Json for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, Json::to_json)
    }
    fn from_json(value: &Value) -> Self {
        (!value.is_null()).then(|| T::from_json(value))
    }
}

impl<T: Json> Json for Vec<T> {
    fn to_json(&self) -> Value {
        Value::Array(self.iter().map(Json::to_json).collect())
    }
    fn from_json(value: &Value) -> Self {
        value.as_array().unwrap().iter().map(T::from_json).collect()
    }
}

impl<A: Json, B: Json> Json for (A, B) {
    fn to_json(&self) -> Value {
        json!([self.0.to_json(), self.1.to_json()])
    }
    fn from_json(value: &Value) -> Self {
        (A::from_json(&value[0]), B::from_json(&value[1]))
    }
}

impl Json for ErrorCode {
    fn to_json(&self) -> Value {
        json!(self.number())
    }
    fn from_json(value: &Value) -> Self {
        ErrorCode::from_number(u16::from_json(value))
    }
}

impl Json for RecordKind {
    fn to_json(&self) -> Value {
        json!(self.0)
    }
    fn from_json(value: &Value) -> Self {
        RecordKind(u16::from_json(value))
    }
}

impl Json for Role {
    fn to_json(&self) -> Value {
        json!(match self {
            Role::User => "user",
            Role::Service => "service",
        })
    }
    fn from_json(value: &Value) -> Self {
        match value.as_str().unwrap() {
            "user" => Role::User,
            "service" => Role::Service,
            other => panic!("no role {other}"),
        }
    }
}

impl Json for Direction {
    fn to_json(&self) -> Value {
        json!(match self {
            Direction::Forward => "forward",
            Direction::Backward => "backward",
        })
    }
    fn from_json(value: &Value) -> Self {
        match value.as_str().unwrap() {
            "forward" => Direction::Forward,
            "backward" => Direction::Backward,
            other => panic!("no direction {other}"),
        }
    }
}

impl Json for Consistency {
    fn to_json(&self) -> Value {
        match self {
            Consistency::Linearizable => json!("linearizable"),
            Consistency::AtLeast(seq) => json!({ "at_least": seq.to_json() }),
            Consistency::Replica => json!("replica"),
        }
    }
    fn from_json(value: &Value) -> Self {
        match value.as_str() {
            Some("linearizable") => Consistency::Linearizable,
            Some("replica") => Consistency::Replica,
            Some(other) => panic!("no consistency {other}"),
            None => Consistency::AtLeast(u64::from_json(&value["at_least"])),
        }
    }
}

impl Json for Retry {
    fn to_json(&self) -> Value {
        match self {
            Retry::Never => json!("never"),
            Retry::After(ms) => json!({ "after": ms.to_json() }),
            Retry::Reconnect => json!("reconnect"),
        }
    }
    fn from_json(value: &Value) -> Self {
        match value.as_str() {
            Some("never") => Retry::Never,
            Some("reconnect") => Retry::Reconnect,
            Some(other) => panic!("no retry {other}"),
            None => Retry::After(u32::from_json(&value["after"])),
        }
    }
}

/// Hexadecimal, in which `(78*65536)` stands for 65,536 times the byte 78: runs of 32 and more are written so.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        match run.len() {
            n if n >= 32 => hex.push_str(&format!("({:02x}*{n})", run[0])),
            n => hex.push_str(&format!("{:02x}", run[0]).repeat(n)),
        }
    }
    hex
}

/// Reads what [`to_hex`] writes.
pub(crate) fn from_hex(hex: &str) -> Vec<u8> {
    let byte = |digits: &str| u8::from_str_radix(digits, 16).unwrap();
    let mut bytes = Vec::new();
    let mut rest = hex;
    while !rest.is_empty() {
        if let Some(run) = rest.strip_prefix('(') {
            let (run, after) = run.split_once(')').unwrap();
            let (digits, times) = run.split_once('*').unwrap();
            bytes.extend(std::iter::repeat_n(byte(digits), times.parse().unwrap()));
            rest = after;
        } else {
            bytes.push(byte(&rest[..2]));
            rest = &rest[2..];
        }
    }
    bytes
}
