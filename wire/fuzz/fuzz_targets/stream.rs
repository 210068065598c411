//! Bytes as they come from a socket: cut into frames, decoded, encoded again.
//!
//! What must hold: nothing panics; frames do not depend on how the bytes arrive; a body that decodes is a value like
//! any other, so it encodes and comes back as itself.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use rookery_wire::codec::Source;
use rookery_wire::{
    Decoder, ErrorBody, Frame, FrameFault, Kind, decode, encode, group, join, live, own, reply, request, versions,
};

const MAX_FRAME: u32 = 1 << 16;

/// Every frame of a stream that arrives in pieces of this size, and how it ended.
fn frames(bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameFault>) {
    let decoder = Decoder::new(MAX_FRAME);
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(fault) => return (frames, Some(fault)),
            }
        }
    }
    (frames, None)
}

fn check<T>(bytes: &Bytes)
where
    T: bincode::Encode + bincode::Decode<Source> + PartialEq + std::fmt::Debug,
{
    if let Ok(body) = decode::<T>(bytes) {
        let again = decode::<T>(&encode(&body)).expect("what was encoded here decodes");
        assert_eq!(again, body);
    }
}

fn check_body(kind: Kind, bytes: &Bytes) {
    match kind {
        Kind::Hello => check::<request::Hello>(bytes),
        Kind::Send => check::<request::Send>(bytes),
        Kind::Delivered => check::<request::Delivered>(bytes),
        Kind::Pull => check::<request::Pull>(bytes),
        Kind::Sync => check::<request::Sync>(bytes),
        Kind::Read => check::<request::Read>(bytes),
        Kind::CreateGroup | Kind::AddMembers | Kind::RemoveMembers => check::<request::Members>(bytes),
        Kind::ListMembers => check::<request::ListMembers>(bytes),
        Kind::Ping | Kind::Ok | Kind::Pong => check::<()>(bytes),
        Kind::Welcome => check::<reply::Welcome>(bytes),
        Kind::Ack => check::<reply::Ack>(bytes),
        Kind::Page => check::<reply::Page>(bytes),
        Kind::SyncPage => check::<reply::SyncPage>(bytes),
        Kind::ReadMark => check::<reply::ReadMark>(bytes),
        Kind::MemberPage => check::<reply::MemberPage>(bytes),
        Kind::Message => check::<reply::Message>(bytes),
        Kind::Joined => check::<reply::Joined>(bytes),
        Kind::Left => check::<reply::Left>(bytes),
        Kind::Lagged => check::<reply::Lagged>(bytes),
        Kind::GoAway => check::<reply::GoAway>(bytes),
        Kind::Error => check::<ErrorBody>(bytes),
        Kind::Recall => check::<request::Recall>(bytes),
        Kind::Edit => check::<request::Edit>(bytes),
        Kind::ManageGroup => check::<group::ManageGroup>(bytes),
        Kind::GroupInfo => check::<group::GroupInfo>(bytes),
        Kind::ListRoles => check::<group::ListRoles>(bytes),
        Kind::Group => check::<group::Group>(bytes),
        Kind::RolePage => check::<group::RolePage>(bytes),
        Kind::ManageSelf => check::<own::ManageSelf>(bytes),
        Kind::ListRelations => check::<own::ListRelations>(bytes),
        Kind::ListDevices => check::<own::ListDevices>(bytes),
        Kind::SessionSettings => check::<own::SessionSettings>(bytes),
        Kind::RelationPage => check::<own::RelationPage>(bytes),
        Kind::Relation => check::<own::Relation>(bytes),
        Kind::DevicePage => check::<own::DevicePage>(bytes),
        Kind::SelfAck => check::<own::SelfAck>(bytes),
        Kind::Receipts => check::<live::Receipts>(bytes),
        Kind::ReceiptPage => check::<live::ReceiptPage>(bytes),
        Kind::Receipt => check::<live::Receipt>(bytes),
        Kind::Ephemeral => check::<live::Ephemeral>(bytes),
        Kind::EphemeralMessage => check::<live::EphemeralMessage>(bytes),
        Kind::Watch => check::<live::Watch>(bytes),
        Kind::Presence => check::<live::Presence>(bytes),
        Kind::PresencePage => check::<live::PresencePage>(bytes),
        Kind::WatchSession => check::<live::WatchSession>(bytes),
        Kind::SessionPresence => check::<live::SessionPresence>(bytes),
        Kind::JoinGroup => check::<join::JoinGroup>(bytes),
        Kind::ListRequests => check::<join::ListRequests>(bytes),
        Kind::RequestPage => check::<join::RequestPage>(bytes),
        Kind::ListCodes => check::<join::ListCodes>(bytes),
        Kind::CodePage => check::<join::CodePage>(bytes),
        Kind::ListVersions => check::<versions::ListVersions>(bytes),
        Kind::VersionsPage => check::<versions::VersionsPage>(bytes),
        other => panic!("{other:?} is not fuzzed; add it here"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (whole, ended) = frames(bytes, bytes.len());
    let piece = usize::from(bytes.first().copied().unwrap_or(1) % 16);
    assert_eq!(frames(bytes, piece), (whole.clone(), ended));
    for frame in whole {
        if let Some(kind) = Kind::from_number(frame.kind) {
            check_body(kind, &frame.body);
        }
    }
});
