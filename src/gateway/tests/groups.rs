//! The management of groups: what is judged before the log, and what is answered from state.

use rookery_wire::group::{Group, GroupInfo, ListRoles, ManageGroup, RolePage};
use rookery_wire::{AttributeKey, GroupAction, MemberRole};

use super::*;
use crate::state::Act;

fn manage(session: &SessionId, action: GroupAction) -> ManageGroup {
    ManageGroup { session: session.clone(), client_seq: 1, on_behalf_of: None, action }
}

fn sized(bytes: usize) -> Blob {
    Blob(Bytes::from(vec![b'x'; bytes]))
}

#[tokio::test]
async fn changes_of_a_group_that_cannot_be_are_refused_before_the_log() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    let (team, key) = (group("team"), AttributeKey::new("k").unwrap());
    let pair = SessionId::direct(&user("ada"), &user("bob")).unwrap();
    let profile = |name, avatar| GroupAction::SetProfile { name, avatar };
    let mut named = manage(&team, GroupAction::Dissolve);
    named.on_behalf_of = Some(user("bob"));
    let mut unnumbered = manage(&team, GroupAction::Dissolve);
    unnumbered.client_seq = 0;
    let attribute = GroupAction::SetAttribute { key: key.clone(), value: Some(sized(1025)) };
    let owner = GroupAction::SetRole { user: user("bob"), role: MemberRole::Owner };
    for (body, code) in [
        (named, ErrorCode::Forbidden),
        (unnumbered, ErrorCode::BadRequest),
        (manage(&pair, GroupAction::Dissolve), ErrorCode::BadRequest),
        (manage(&team, profile(None, None)), ErrorCode::BadRequest),
        (manage(&team, profile(Some(sized(257)), None)), ErrorCode::BadRequest),
        (manage(&team, profile(None, Some(sized(2049)))), ErrorCode::BadRequest),
        (manage(&team, attribute), ErrorCode::BadRequest),
        (manage(&team, owner), ErrorCode::BadRequest),
    ] {
        client.send(Kind::ManageGroup, 7, &body).await;
        client.refused(7, code).await;
    }
    for kind in [Kind::GroupInfo, Kind::ListRoles] {
        match kind {
            Kind::GroupInfo => client.send(kind, 8, &GroupInfo { session: pair.clone() }).await,
            _ => client.send(kind, 8, &ListRoles { session: pair.clone(), after: None, limit: 1 }).await,
        }
        client.refused(8, ErrorCode::BadRequest).await;
    }
    assert!(bench.shard.commands.lock().iter().all(|command| !matches!(command, Command::Act { .. })));

    // The largest that is allowed gets through as it is.
    let largest = profile(Some(sized(256)), Some(sized(2048)));
    client.send(Kind::ManageGroup, 9, &manage(&team, largest.clone())).await;
    let (_, ack) = client.expect::<Ack>(Kind::Ack).await;
    assert_eq!((ack.session, ack.client_seq), (team, 1));
    let found = bench.shard.commands.lock().iter().any(|command| {
        matches!(command, Command::Act { act: Act::Manage { action }, client_seq: 1, .. } if *action == largest)
    });
    assert!(found);
    bench.stop().await;
}

#[tokio::test]
async fn a_group_and_its_roles_are_read() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    client.send(Kind::GroupInfo, 7, &GroupInfo { session: group("team") }).await;
    let (frame, seen) = client.expect::<Group>(Kind::Group).await;
    assert_eq!((frame.request_id, seen.session, seen.name), (7, group("team"), Blob::from("the fake")));
    client.send(Kind::ListRoles, 8, &ListRoles { session: group("team"), after: None, limit: 9 }).await;
    let (frame, page) = client.expect::<RolePage>(Kind::RolePage).await;
    assert_eq!((frame.request_id, page.more), (8, false));
    bench.stop().await;
}
