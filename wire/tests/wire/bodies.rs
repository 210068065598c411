//! Every kind of frame as one value, so that a test can run over all of them and the compiler sees a missing one.

use bytes::Bytes;
use rookery_wire::frame::frame_bytes;
use rookery_wire::{
    DecodeFault, ErrorBody, Kind, admin, decode, digest, encode, group, join, live, own, reply, request,
    versions,
};
use serde_json::Value;

use crate::json::Json;

macro_rules! bodies {
    ($($kind:ident($body:ty)),+ $(,)?) => {
        /// A frame's body, by kind.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum Body { $($kind($body)),+ }

        impl Body {
            /// The kinds this enum has; a test compares them with `Kind::ALL`.
            pub(crate) const KINDS: &'static [Kind] = &[$(Kind::$kind),+];

            pub(crate) fn kind(&self) -> Kind {
                match self { $(Body::$kind(_) => Kind::$kind),+ }
            }
            /// The body alone.
            pub(crate) fn encode(&self) -> Bytes {
                match self { $(Body::$kind(body) => encode(body)),+ }
            }
            /// The whole frame.
            pub(crate) fn frame(&self, request_id: u32) -> Bytes {
                match self { $(Body::$kind(body) => frame_bytes(Kind::$kind, request_id, body)),+ }
            }
            pub(crate) fn decode(kind: Kind, bytes: &Bytes) -> Result<Body, DecodeFault> {
                match kind {
                    $(Kind::$kind => decode::<$body>(bytes).map(Body::$kind),)+
                    other => panic!("no body is listed here for {other:?}"),
                }
            }
            pub(crate) fn to_json(&self) -> Value {
                match self { $(Body::$kind(body) => body.to_json()),+ }
            }
            pub(crate) fn from_json(kind: Kind, fields: &Value) -> Body {
                match kind {
                    $(Kind::$kind => Body::$kind(Json::from_json(fields)),)+
                    other => panic!("no body is listed here for {other:?}"),
                }
            }
        }
    };
}

bodies! {
    Hello(request::Hello),
    Send(request::Send),
    Delivered(request::Delivered),
    Pull(request::Pull),
    Sync(request::Sync),
    Read(request::Read),
    CreateGroup(request::Members),
    AddMembers(request::Members),
    RemoveMembers(request::Members),
    ListMembers(request::ListMembers),
    Ping(()),
    Recall(request::Recall),
    Edit(request::Edit),
    ManageGroup(group::ManageGroup),
    GroupInfo(group::GroupInfo),
    ListRoles(group::ListRoles),
    ManageSelf(own::ManageSelf),
    ListRelations(own::ListRelations),
    ListDevices(own::ListDevices),
    Receipts(live::Receipts),
    Ephemeral(live::Ephemeral),
    Watch(live::Watch),
    Digest(digest::DigestAt),
    ListRequests(join::ListRequests),
    ListCodes(join::ListCodes),
    JoinGroup(join::JoinGroup),
    Admin(admin::Admin),
    Audit(admin::Audit),
    ListVersions(versions::ListVersions),
    WatchSession(live::WatchSession),
    Welcome(reply::Welcome),
    Ack(reply::Ack),
    Ok(()),
    Page(reply::Page),
    SyncPage(reply::SyncPage),
    ReadMark(reply::ReadMark),
    MemberPage(reply::MemberPage),
    Pong(()),
    Message(reply::Message),
    Joined(reply::Joined),
    Left(reply::Left),
    Lagged(reply::Lagged),
    GoAway(reply::GoAway),
    Error(ErrorBody),
    Group(group::Group),
    RolePage(group::RolePage),
    SessionSettings(own::SessionSettings),
    RelationPage(own::RelationPage),
    Relation(own::Relation),
    DevicePage(own::DevicePage),
    SelfAck(own::SelfAck),
    ReceiptPage(live::ReceiptPage),
    Receipt(live::Receipt),
    EphemeralMessage(live::EphemeralMessage),
    Presence(live::Presence),
    PresencePage(live::PresencePage),
    DigestReply(digest::DigestReply),
    RequestPage(join::RequestPage),
    CodePage(join::CodePage),
    AdminReply(admin::AdminReply),
    AuditPage(admin::AuditPage),
    VersionsPage(versions::VersionsPage),
    SessionPresence(live::SessionPresence),
}

#[test]
fn every_kind_has_a_body_here() {
    assert_eq!(Body::KINDS, Kind::ALL);
}
