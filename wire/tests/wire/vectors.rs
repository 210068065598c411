//! `wire/vectors/*.json` says exactly what this crate does, in both directions.
//!
//! The files are written from [`crate::cases`] and [`crate::invalid`] by
//! `ROOKERY_WRITE_VECTORS=1 cargo test -p rookery-wire vectors`; without the variable they are only checked.

use std::fs;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use rookery_wire::{Burns, Expires, Signal, Target, Version, decode, encode};
use rookery_wire::{DecodeFault, Decoder, ErrorCode, FrameFault, GroupAction, Kind, Rewritten, SessionId};
use serde_json::{Value, json};

use crate::bodies::Body;
use crate::cases::{self, Case};
use crate::invalid;
use crate::json::{Json, from_hex, to_hex};

/// The text of a file of vectors; rewritten first if the caller asked for that.
pub(crate) fn file(name: &str, generated: &Value) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let text = format!("{generated:#}\n");
    if std::env::var_os("ROOKERY_WRITE_VECTORS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == text,
        "{} is not what this crate writes; if the change is meant, run\n  \
         ROOKERY_WRITE_VECTORS=1 cargo test -p rookery-wire vectors\nand read the diff",
        path.display()
    );
    serde_json::from_str(&stored).unwrap()
}

fn vector(case: &Case) -> Value {
    json!({
        "name": case.name,
        "note": case.note,
        "kind": case.body.kind().name(),
        "request_id": case.request_id,
        "fields": case.body.to_json(),
        "hex": to_hex(&case.body.frame(case.request_id)),
    })
}

fn kind_named(name: &str) -> Kind {
    *Kind::ALL.iter().find(|kind| kind.name() == name).unwrap()
}

/// Checks one vector from its JSON alone, as any client would.
fn check(vector: &Value) {
    let name = vector["name"].as_str().unwrap();
    let kind = kind_named(vector["kind"].as_str().unwrap());
    let request_id = u32::from_json(&vector["request_id"]);
    let hex = vector["hex"].as_str().unwrap();

    let body = Body::from_json(kind, &vector["fields"]);
    assert_eq!(to_hex(&body.frame(request_id)), hex, "{name}: encode");

    let mut buffer = BytesMut::from(&from_hex(hex)[..]);
    let frame = Decoder::new(1 << 20).next(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty(), "{name}: one whole frame");
    assert_eq!((frame.kind, frame.request_id), (kind as u8, request_id), "{name}: header");
    let decoded = Body::decode(kind, &frame.body).unwrap();
    assert_eq!(decoded.to_json(), vector["fields"], "{name}: decode");
}

fn check_file(name: &str, cases: &[Case]) -> Vec<String> {
    let vectors = file(name, &Value::Array(cases.iter().map(vector).collect()));
    let vectors = vectors.as_array().unwrap();
    vectors.iter().for_each(check);
    vectors.iter().map(|vector| vector["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn vectors_of_requests_replies_and_pushes() {
    let mut seen = check_file("requests.json", &cases::requests());
    seen.extend(check_file("replies.json", &cases::replies()));
    seen.extend(check_file("pushes.json", &cases::pushes()));
    for kind in Kind::ALL {
        assert!(seen.iter().any(|name| name == kind.name()), "{} has no vector", kind.name());
    }
}

/// What becomes of a frame, in the words of `invalid.json`.
fn fault(bytes: &[u8]) -> &'static str {
    let mut buffer = BytesMut::from(bytes);
    let frame = match Decoder::new(invalid::MAX_FRAME).next(&mut buffer) {
        Ok(Some(frame)) => frame,
        Ok(None) => return "incomplete",
        Err(FrameFault::TooLarge { .. }) => return "too_large",
        Err(FrameFault::TooShort(_)) => return "too_short",
        Err(FrameFault::Version(_)) => return "version",
    };
    let Some(kind) = Kind::from_number(frame.kind) else { return "unknown_kind" };
    match Body::decode(kind, &frame.body) {
        Ok(body) => panic!("{bytes:?} is a valid {body:?}"),
        Err(DecodeFault::Malformed(_)) => "malformed",
        Err(DecodeFault::Trailing(_)) => "trailing",
    }
}

#[test]
fn vectors_of_invalid_frames() {
    let vector = |case: &invalid::Invalid| {
        json!({
            "name": case.name,
            "note": case.note,
            "max_frame": invalid::MAX_FRAME,
            "hex": to_hex(&case.bytes),
            "fault": case.fault,
        })
    };
    let vectors = file("invalid.json", &Value::Array(invalid::all().iter().map(vector).collect()));
    for vector in vectors.as_array().unwrap() {
        let bytes = from_hex(vector["hex"].as_str().unwrap());
        assert_eq!(fault(&bytes), vector["fault"].as_str().unwrap(), "{}", vector["name"]);
    }
}

/// One value of a primitive type, outside any frame.
fn value<T: Json + bincode::Encode>(kind: &str, value: &T) -> Value {
    json!({ "type": kind, "value": value.to_json(), "hex": to_hex(&encode(value)) })
}

fn check_value(vector: &Value) {
    fn both_ways<T>(vector: &Value)
    where
        T: Json + bincode::Encode + bincode::Decode<rookery_wire::codec::Source>,
    {
        let hex = vector["hex"].as_str().unwrap();
        assert_eq!(to_hex(&encode(&T::from_json(&vector["value"]))), hex, "{vector}");
        let decoded: T = decode(&Bytes::from(from_hex(hex))).unwrap();
        assert_eq!(decoded.to_json(), vector["value"], "{vector}");
    }
    match vector["type"].as_str().unwrap() {
        "u8" => both_ways::<u8>(vector),
        "u16" => both_ways::<u16>(vector),
        "u32" => both_ways::<u32>(vector),
        "u64" => both_ways::<u64>(vector),
        "session" => both_ways::<SessionId>(vector),
        "code" => both_ways::<ErrorCode>(vector),
        "signal" => both_ways::<Signal>(vector),
        "target" => both_ways::<Target>(vector),
        "rewritten" => both_ways::<Rewritten>(vector),
        "expires" => both_ways::<Expires>(vector),
        "burns" => both_ways::<Burns>(vector),
        "action" => both_ways::<GroupAction>(vector),
        "version" => both_ways::<Version>(vector),
        other => panic!("no check for {other}"),
    }
}

#[test]
fn vectors_of_single_values() {
    let signal = |names: &[&str]| Signal { users: names.iter().map(|name| name.parse().unwrap()).collect() };
    let mut values = Vec::new();
    values.extend([0, 1, 250, 251, 252, 255u8].map(|n| value("u8", &n)));
    values.extend([0, 250, 251, 255, 256, u16::MAX].map(|n| value("u16", &n)));
    values.extend([0, 250, 251, 65_535, 65_536, u32::MAX].map(|n| value("u32", &n)));
    values.extend([0, 250, 251, 65_535, 65_536, 4_294_967_295].map(|n: u64| value("u64", &n)));
    values.extend([1 << 32, (1 << 53) - 1, 1 << 53, u64::MAX].map(|n: u64| value("u64", &n)));
    let texts = ["group:team", "direct:alice,bob", r"direct:Z,a\,b", "direct:z,é"];
    values.extend(texts.map(|text| value("session", &text.parse::<SessionId>().unwrap())));
    values.extend([ErrorCode::BadFrame, ErrorCode::Busy].map(|code| value("code", &code)));
    values.extend([signal(&[]), signal(&["alice", "bob"])].map(|signal| value("signal", &signal)));
    values.extend([1, 251].map(|seq| value("target", &Target { seq })));
    let rewritten = Rewritten { by: "alice".parse().unwrap(), time_ms: 1_790_000_000_006, seq: 6 };
    values.push(value("rewritten", &rewritten));
    values.push(value("expires", &Expires { after_ms: 60_000 }));
    values.push(value("burns", &Burns { after_ms: 251 }));
    values.extend([GroupAction::MuteAll { on: true }, GroupAction::Dissolve].map(|it| value("action", &it)));
    values.push(value("version", &Version { number: 251, kept: 16 }));
    let vectors = file("values.json", &Value::Array(values));
    vectors.as_array().unwrap().iter().for_each(check_value);
}

/// Long runs are short in the files, and nothing is lost by it.
#[test]
fn hex_comes_back() {
    let bytes = [vec![0; 31], vec![7; 32], vec![1, 2], vec![255; 70_000]].concat();
    assert_eq!(to_hex(&bytes), format!("{}(07*32)0102(ff*70000)", "00".repeat(31)));
    assert_eq!(from_hex(&to_hex(&bytes)), bytes);
}
