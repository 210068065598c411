//! Messages and session lists as lines for people or for programs.

use comfy_table::{Table, presets};
use rookery_client::Goes;
use rookery_client::wire::codec;
use rookery_client::wire::own::Settings;
use rookery_client::wire::reply::Summary;
use rookery_client::wire::{
    Expires, GroupAction, Record, RecordKind, Rewritten, SessionId, Signal, Target, UserId, Version,
};
use serde_json::{Value, json};

use super::connect::session_name;
use super::group_words::{action_json, action_words};
use crate::terminal::{BOLD, DIM, paint};

/// How a message is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// One message as one line.
pub(super) fn line(me: &UserId, session: &SessionId, record: &Record, shape: Shape) -> String {
    match shape {
        Shape::Json => object(session, record).to_string(),
        Shape::Text => {
            let name = session_name(me, session);
            let head = paint(DIM, format_args!("{} {name} {}", clock(record.time_ms), record.seq));
            format!("{head} {}: {}", paint(BOLD, &record.sender), words(record))
        }
    }
}

/// What a record says, for people; control characters (which could steer a terminal) are shown, not sent.
pub(crate) fn words(record: &Record) -> String {
    let users = || {
        let signal: Option<Signal> = codec::decode(&record.content.0).ok();
        let names =
            signal.map(|signal| signal.users.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        names.unwrap_or_default()
    };
    match record.kind {
        RecordKind::CONTENT => visible(&String::from_utf8_lossy(record.content.as_ref())),
        RecordKind::CREATED => paint(DIM, format_args!("made this session: {}", users())),
        RecordKind::MEMBERS_ADDED => paint(DIM, format_args!("added {}", users())),
        RecordKind::MEMBERS_REMOVED => paint(DIM, format_args!("removed {}", users())),
        RecordKind::RECALL => paint(DIM, format_args!("recalled message {}", target(record))),
        RecordKind::EDIT => paint(DIM, format_args!("edited message {}", target(record))),
        RecordKind::RECALLED => paint(DIM, "(recalled)"),
        RecordKind::EXPIRED => paint(DIM, "(expired)"),
        RecordKind::GROUP_CHANGED => {
            let action: Option<GroupAction> = codec::decode(&record.content.0).ok();
            let words = action.as_ref().map_or_else(|| "changed the group".to_owned(), action_words);
            paint(DIM, words)
        }
        RecordKind::DELETED => paint(DIM, "(deleted for you)"),
        RecordKind(other) => paint(DIM, format_args!("(a record of kind {other}, newer than this program)")),
    }
}

/// The message that a recall or an edit is about; 0 if it cannot be read.
fn target(record: &Record) -> u64 {
    codec::decode::<Target>(&record.content.0).map_or(0, |target| target.seq)
}

/// Who changed a record, and when, if somebody did.
fn rewritten(record: &Record) -> Option<Rewritten> {
    let mark = record.extensions.iter().find(|extension| extension.tag == Rewritten::TAG)?;
    codec::decode(&mark.data.0).ok()
}

/// When a message that lasts for a time goes, or has gone.
fn expires_ms(record: &Record) -> Option<u64> {
    let found = record.extensions.iter().find(|extension| extension.tag == Expires::TAG)?;
    let Expires { after_ms } = codec::decode(&found.data.0).ok()?;
    Some(record.time_ms.saturating_add(after_ms))
}

/// The text with control characters replaced by their pictures.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => '⏎',
            c if c.is_control() => char::from_u32(0x2400 + (c as u32 & 0x1f)).unwrap_or('\u{fffd}'),
            c => c,
        })
        .collect()
}

fn kind_name(kind: RecordKind) -> Value {
    match kind {
        RecordKind::CONTENT => "content".into(),
        RecordKind::CREATED => "created".into(),
        RecordKind::MEMBERS_ADDED => "members_added".into(),
        RecordKind::MEMBERS_REMOVED => "members_removed".into(),
        RecordKind::RECALL => "recall".into(),
        RecordKind::EDIT => "edit".into(),
        RecordKind::RECALLED => "recalled".into(),
        RecordKind::EXPIRED => "expired".into(),
        RecordKind::GROUP_CHANGED => "group_changed".into(),
        RecordKind::DELETED => "deleted".into(),
        RecordKind(other) => other.into(),
    }
}

fn object(session: &SessionId, record: &Record) -> Value {
    let mut object = json!({
        "session": session, "seq": record.seq, "message_id": record.message_id, "time_ms": record.time_ms,
        "count": record.count, "sender": record.sender, "device": record.device, "client_seq": record.client_seq,
        "kind": kind_name(record.kind),
    });
    let more = match (record.kind, std::str::from_utf8(record.content.as_ref())) {
        (RecordKind::CONTENT, Ok(text)) => ("text", text.into()),
        (RecordKind::CONTENT, Err(_)) => ("hex", hex(record.content.as_ref()).into()),
        (RecordKind::RECALL | RecordKind::EDIT, _) => ("target", target(record).into()),
        (RecordKind::RECALLED | RecordKind::DELETED | RecordKind::EXPIRED, _) => ("text", Value::Null),
        (RecordKind::GROUP_CHANGED, _) => {
            let action: Option<GroupAction> = codec::decode(&record.content.0).ok();
            ("action", action.as_ref().map_or(Value::Null, action_json))
        }
        _ => {
            let signal: Option<Signal> = codec::decode(&record.content.0).ok();
            ("users", json!(signal.map(|signal| signal.users)))
        }
    };
    object[more.0] = more.1;
    if let Some(Rewritten { by, time_ms, seq }) = rewritten(record) {
        object["rewritten"] = json!({ "by": by, "time_ms": time_ms, "seq": seq });
        let Version { number, kept } = Version::of(record);
        if record.kind == RecordKind::CONTENT {
            object["version"] = json!({ "number": number, "kept": kept });
        }
    }
    if let Some(until_ms) = expires_ms(record) {
        object["expires_ms"] = until_ms.into();
    }
    if let Goes::OnceRead(after) = Goes::of(record) {
        object["burns_ms"] = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).into();
    }
    if record.kind == RecordKind::CONTENT {
        object["content_type"] = String::from_utf8_lossy(record.content_type.as_ref()).into();
    }
    object
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One line of a session list, for programs.
pub(super) fn summary(summary: &Summary) -> Value {
    let last = summary.last.as_ref().map(|last| {
        json!({
            "seq": last.seq, "time_ms": last.time_ms, "sender": last.sender, "kind": kind_name(last.kind),
            "preview": String::from_utf8_lossy(last.content.as_ref()),
        })
    });
    json!({
        "session": summary.session, "members": summary.members, "first_seq": summary.first_seq,
        "last_seq": summary.last_seq, "count": summary.count, "unread": summary.unread,
        "joined_seq": summary.joined_seq, "read_seq": summary.read_seq, "delivered_seq": summary.delivered_seq,
        "last_client_seq": summary.last_client_seq, "time_ms": summary.time_ms, "last": last,
        "settings": settings(&summary.settings),
    })
}

/// How a session is set, for programs.
fn settings(settings: &Settings) -> Value {
    json!({
        "pinned": settings.pinned, "muted_until_ms": settings.muted_until_ms,
        "hidden_count": settings.hidden_count, "marked_unread": settings.marked_unread,
        "draft": super::group_words::bytes_json(&settings.draft), "cleared_seq": settings.cleared_seq,
        "deleted": settings.deleted,
    })
}

/// A session list, for people.
pub(super) fn table(me: &UserId, sessions: &[Summary]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["session", "unread", "messages", "members", "last"]);
    for line in sessions {
        let last = line.last.as_ref().map(|last| {
            let text = match last.kind {
                RecordKind::CONTENT => visible(&String::from_utf8_lossy(last.content.as_ref())),
                RecordKind::GROUP_CHANGED => "(group changed)".to_owned(),
                _ => "(members changed)".to_owned(),
            };
            let text: String = text.chars().take(50).collect();
            format!("{} {}: {text}", clock(last.time_ms), last.sender)
        });
        let unread = if line.unread > 0 { line.unread.to_string() } else { String::new() };
        table.add_row([
            session_name(me, &line.session),
            unread,
            line.count.to_string(),
            line.members.to_string(),
            last.unwrap_or_default(),
        ]);
    }
    table.trim_fmt()
}

/// Time of day in UTC, `12:34:56Z`. A calendar library for local time is not worth its weight here.
pub(crate) fn clock(time_ms: u64) -> String {
    let s = time_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_client::wire::Blob;

    fn record(content: &[u8]) -> Record {
        Record {
            seq: 3,
            message_id: 9,
            time_ms: 45_296_000,
            count: 2,
            sender: "bob".parse().expect("user"),
            device: "phone".parse().expect("device"),
            epoch: 1,
            client_seq: 1,
            kind: RecordKind::CONTENT,
            content_type: Blob::from("text/plain"),
            content: Blob(content.to_vec().into()),
            extensions: Vec::new(),
        }
    }

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        let me: UserId = "ann".parse().expect("user");
        let session = SessionId::direct(&me, &"bob".parse().expect("user")).expect("pair");
        let text = line(&me, &session, &record(b"a\nb\x1b[2J"), Shape::Text);
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "12:34:56Z @bob 3 bob: a⏎b␛[2J");
        let json: Value =
            serde_json::from_str(&line(&me, &session, &record(b"a\nb"), Shape::Json)).expect("one object");
        assert_eq!((json["text"].as_str(), json["session"].as_str()), (Some("a\nb"), Some("direct:ann,bob")));
        let json: Value =
            serde_json::from_str(&line(&me, &session, &record(&[0xff, 0]), Shape::Json)).expect("one object");
        assert_eq!(json["hex"], "ff00");
    }
}
