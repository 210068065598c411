//! The frames of `wire/vectors/invalid.json`: made by hand, each with the one thing that is wrong with it.

use rookery_wire::Kind;

/// A frame that must be refused, how, and at which limit.
pub(crate) struct Invalid {
    pub(crate) name: &'static str,
    pub(crate) note: &'static str,
    pub(crate) fault: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// The largest length the decoder of these vectors allows.
pub(crate) const MAX_FRAME: u32 = 1_048_576;

fn invalid(name: &'static str, fault: &'static str, note: &'static str, bytes: Vec<u8>) -> Invalid {
    Invalid { name, note, fault, bytes }
}

fn header(length: u32, version: u8, kind: u8) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend([version, kind, 0, 0, 1, 0, 0, 0]);
    bytes
}

fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(8 + body.len() as u32, 1, kind as u8);
    bytes.extend(body);
    bytes
}

fn body(name: &'static str, note: &'static str, kind: Kind, body: &[u8]) -> Invalid {
    invalid(name, "malformed", note, frame(kind, body))
}

pub(crate) fn all() -> Vec<Invalid> {
    let mut all = framing();
    all.extend(names());
    all.extend(numbers_and_lengths());
    all
}

fn framing() -> Vec<Invalid> {
    let cut = frame(Kind::Read, b"\x01\x04team\x05");
    vec![
        invalid("nothing", "incomplete", "wait for more bytes", vec![]),
        invalid("three bytes", "incomplete", "the length is not there yet", vec![8, 0, 0]),
        invalid("cut", "incomplete", "the last byte has not arrived", cut[..cut.len() - 1].to_vec()),
        invalid("length 7", "too_short", "less than the header", header(7, 1, 11)),
        invalid("length 0", "too_short", "known from four bytes", vec![0; 4]),
        invalid("length 1048577", "too_large", "known from four bytes", 1_048_577u32.to_le_bytes().to_vec()),
        invalid("http", "too_large", "its first four bytes are a length", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        invalid("version 0", "version", "", header(8, 0, 11)),
        invalid("version 2", "version", "known from five bytes", vec![8, 0, 0, 0, 2]),
        invalid("kind 0", "unknown_kind", "a whole frame; the next one follows it", header(8, 1, 0)),
        invalid("kind 128", "unknown_kind", "", header(8, 1, 128)),
        invalid("kind 255", "unknown_kind", "", header(8, 1, 255)),
        invalid("ping with a body", "trailing", "", frame(Kind::Ping, &[0])),
        invalid(
            "dissolve with more",
            "trailing",
            "",
            frame(Kind::ManageGroup, b"\x01\x04team\x05\x00\x07\x00"),
        ),
        invalid("read with more", "trailing", "", frame(Kind::Read, b"\x01\x04team\x05\x00")),
    ]
}

fn names() -> Vec<Invalid> {
    let mut long = vec![1, 65];
    long.extend([b'g'; 65]);
    long.push(5);
    vec![
        body("empty name", "", Kind::Read, b"\x01\x00\x05"),
        body("name of 65 bytes", "", Kind::Read, &long),
        body("name with a newline", "control characters are not allowed", Kind::Read, b"\x01\x02a\n\x05"),
        body("name with U+0085", "a control character of two bytes", Kind::Read, b"\x01\x03a\xc2\x85\x05"),
        body("name not UTF-8", "", Kind::Read, b"\x01\x02\xff\xfe\x05"),
        body("pair not sorted", "", Kind::Read, b"\x00\x03bob\x05alice\x05"),
        body("pair of one user", "", Kind::Read, b"\x00\x03bob\x03bob\x05"),
        body("session kind 2", "", Kind::Read, b"\x02\x04team\x05"),
    ]
}

fn numbers_and_lengths() -> Vec<Invalid> {
    let hello = |role: u8| [b"\x01\x01\x05alice\x05phone\x00\x2a".as_slice(), &[role, 0, 0]].concat();
    vec![
        body("no body", "HELLO without its fields", Kind::Hello, b""),
        body("seq missing", "", Kind::Read, b"\x01\x04team"),
        body("seq cut", "marker 251 wants two bytes", Kind::Read, b"\x01\x04team\xfb\x05"),
        body("marker 254", "a u128, which no field is", Kind::Read, b"\x01\x04team\xfe"),
        body("marker 255", "", Kind::Read, b"\x01\x04team\xff"),
        body(
            "limit too wide",
            "a u64 where a u32 stands",
            Kind::Sync,
            b"\x00\xfd\x00\x00\x00\x00\x01\x00\x00\x00",
        ),
        body("role 2", "no such variant", Kind::Hello, &hello(2)),
        body("option 2", "neither none nor some", Kind::ListMembers, b"\x01\x04team\x02\x01"),
        body("bool 2", "", Kind::MemberPage, b"\x00\x02\x00"),
        body("content longer than its frame", "", Kind::Sync, b"\x05abc"),
        body("content of 2^64 - 1 bytes", "", Kind::Sync, b"\xfd\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        body("list of 2^64 - 1", "", Kind::Delivered, b"\xfd\xff\xff\xff\xff\xff\xff\xff\xff"),
        body("list longer than its frame", "", Kind::Delivered, b"\x02\x01\x04team\x05"),
    ]
}
