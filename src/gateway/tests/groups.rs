//! The management of groups: what is judged before the log, and what is answered from state.

use rookery_wire::group::{Group, GroupInfo, ListRoles, ManageGroup, RolePage};
use rookery_wire::join::{CodePage, JoinGroup, ListCodes, ListRequests, Outside, RequestPage};
use rookery_wire::request::Members;
use rookery_wire::{AttributeKey, GroupAction, MemberRole, Retention, Retry};

use super::*;
use crate::state::Act;

pub(super) fn no_roles() -> ReadReply {
    ReadReply::Roles(RolePage { roles: Vec::new(), more: false })
}

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
    let others = SessionId::direct(&user("cid"), &user("bob")).unwrap();
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
        (manage(&team, profile(Some(sized(257)), None)), ErrorCode::GroupNameTooLong),
        (manage(&team, profile(None, Some(sized(2049)))), ErrorCode::AvatarTooLarge),
        (manage(&team, attribute), ErrorCode::AttributeTooLarge),
        (manage(&team, owner), ErrorCode::BadRequest),
        (
            manage(&team, GroupAction::MakeCode { hash: sized(31), until_ms: 0, uses: 1 }),
            ErrorCode::BadRequest,
        ),
        (
            manage(&team, GroupAction::MakeCode { hash: sized(32), until_ms: 0, uses: 0 }),
            ErrorCode::BadRequest,
        ),
        (
            manage(&team, GroupAction::MakeCode { hash: sized(32), until_ms: 0, uses: 100_001 }),
            ErrorCode::TooManyUses,
        ),
        (manage(&team, GroupAction::Asked { user: user("bob") }), ErrorCode::BadRequest),
        (manage(&others, GroupAction::SetRetention(Retention::default())), ErrorCode::Forbidden),
    ] {
        client.send(Kind::ManageGroup, 7, &body).await;
        client.refused(7, code).await;
    }
    client.send(Kind::GroupInfo, 8, &GroupInfo { session: others }).await;
    client.refused(8, ErrorCode::Forbidden).await;
    client.send(Kind::ListRoles, 8, &ListRoles { session: pair, after: None, limit: 1 }).await;
    client.refused(8, ErrorCode::BadRequest).await;
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
async fn of_a_code_nothing_but_its_hash_goes_on() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    let pair = SessionId::direct(&user("ada"), &user("bob")).unwrap();
    let join = |session: SessionId, code: Option<Blob>, text: Blob| JoinGroup {
        session,
        client_seq: 1,
        on_behalf_of: None,
        code,
        text,
    };
    let named = JoinGroup { on_behalf_of: Some(user("bob")), ..join(group("team"), None, sized(0)) };
    let unnumbered = JoinGroup { client_seq: 0, ..join(group("team"), None, sized(0)) };
    for (body, code) in [
        (named, ErrorCode::Forbidden),
        (unnumbered, ErrorCode::BadRequest),
        (join(pair, None, sized(0)), ErrorCode::BadRequest),
        (join(group("team"), Some(sized(65)), sized(0)), ErrorCode::InviteCodeTooLong),
        (join(group("team"), None, sized(257)), ErrorCode::JoinTextTooLong),
    ] {
        client.send(Kind::JoinGroup, 7, &body).await;
        client.refused(7, code).await;
    }
    client.send(Kind::JoinGroup, 8, &join(group("team"), Some(Blob::from("SESAME")), sized(256))).await;
    client.expect::<Ack>(Kind::Ack).await;
    let answer = GroupAction::Answer { user: user("eve"), accept: true };
    client.send(Kind::ManageGroup, 9, &ManageGroup { client_seq: 2, ..manage(&group("team"), answer) }).await;
    client.expect::<Ack>(Kind::Ack).await;
    {
        let commands = bench.shard.commands.lock();
        let acts = commands.iter().filter_map(|command| match command {
            Command::Act { act, .. } => Some(act),
            _ => None,
        });
        let [
            Act::Join { code: Some(hash), most, again_ms, .. },
            Act::Answer { accept: true, most: same, .. },
        ] = acts.collect::<Vec<_>>()[..]
        else {
            panic!("not these two: {commands:?}")
        };
        // SHA-256 of the six letters, as any other program computes it.
        assert_eq!(hash[..4], [0xbd, 0x9f, 0x74, 0xae], "{hash:02x?}");
        assert_eq!((most, same, *again_ms), (&10_000, &10_000, 86_400_000));
        assert!(commands.iter().all(|command| !format!("{command:?}").contains("SESAME")));
    }
    bench.stop().await;
}

#[tokio::test]
async fn requests_and_codes_are_read_in_pages_that_fit_a_frame() {
    let bench = bench(|limits, _| limits.frame = 16_384).await;
    let mut client = bench.client("ada", "phone").await;
    let (session, which) = (group("team"), Outside::Asking);
    client.send(Kind::ListRequests, 7, &ListRequests { session, which, after: None, limit: 200 }).await;
    let (frame, page) = client.expect::<RequestPage>(Kind::RequestPage).await;
    assert_eq!((frame.request_id, page.more), (7, true));
    assert!((20..200).contains(&page.requests.len()), "{}", page.requests.len());
    client.send(Kind::ListCodes, 8, &ListCodes { session: group("team"), after: 0, limit: 9 }).await;
    let (frame, page) = client.expect::<CodePage>(Kind::CodePage).await;
    assert_eq!((frame.request_id, page.more), (8, false));
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

#[tokio::test]
async fn nobody_knocks_at_groups_faster_than_allowed_through_however_many_connections() {
    let bench = bench(|limits, _| limits.join_rate = 2).await;
    let (mut phone, mut tablet) = (bench.client("ada", "phone").await, bench.client("ada", "tablet").await);
    let join = |number: u64, who: Option<&str>| JoinGroup {
        session: group(&format!("door{number}")),
        client_seq: 1,
        on_behalf_of: who.map(user),
        code: None,
        text: Blob::default(),
    };
    let mut asked = 0;
    for client in [&mut phone, &mut tablet] {
        for _ in 0..2 {
            asked += 1;
            client.send(Kind::JoinGroup, asked, &join(u64::from(asked), None)).await;
            client.expect::<Ack>(Kind::Ack).await;
        }
    }
    for client in [&mut phone, &mut tablet] {
        client.send(Kind::JoinGroup, 9, &join(9, None)).await;
        let refusal = client.refused(9, ErrorCode::TooFast).await;
        assert_eq!((refusal.detail, refusal.takes_client_seq()), (2, false), "{refusal}");
        assert!(matches!(refusal.retry, Retry::After(1..=500)), "{refusal:?}");
        assert!(refusal.message().contains("limits.join_rate"), "{refusal}");
    }
    let mut bob = bench.client("bob", "phone").await;
    bob.send(Kind::JoinGroup, 5, &join(5, None)).await;
    bob.expect::<Ack>(Kind::Ack).await;
    // What cannot be is refused as that, and costs nothing.
    bob.send(Kind::JoinGroup, 6, &join(6, Some("ada"))).await;
    bob.refused(6, ErrorCode::Forbidden).await;
    bench.stop().await;
}

#[tokio::test]
async fn nobody_makes_groups_or_adds_to_them_faster_than_allowed_and_everybody_may_leave() {
    let bench = bench(|limits, _| limits.add_rate = 2).await;
    let (mut phone, mut tablet) = (bench.client("ada", "phone").await, bench.client("ada", "tablet").await);
    let members = |number: u64, who: Option<&str>| Members {
        session: group(&format!("fill{number}")),
        client_seq: 1,
        on_behalf_of: who.map(user),
        users: vec![user("bob")],
    };
    for (client, numbers) in [(&mut phone, [1, 2]), (&mut tablet, [3, 4])] {
        for (number, kind) in numbers.into_iter().zip([Kind::CreateGroup, Kind::AddMembers]) {
            client.send(kind, number, &members(number.into(), None)).await;
            client.expect::<Ack>(Kind::Ack).await;
        }
    }
    for (client, kind) in [(&mut phone, Kind::CreateGroup), (&mut tablet, Kind::AddMembers)] {
        client.send(kind, 9, &members(9, None)).await;
        let refusal = client.refused(9, ErrorCode::TooFast).await;
        assert_eq!((refusal.detail, refusal.takes_client_seq()), (2, false), "{refusal}");
        assert!(matches!(refusal.retry, Retry::After(1..=500)), "{refusal:?}");
        assert!(refusal.message().contains("limits.add_rate"), "{refusal}");
        client.send(Kind::RemoveMembers, 10, &members(10, None)).await;
        client.expect::<Ack>(Kind::Ack).await;
    }
    let mut bob = bench.client("bob", "phone").await;
    bob.send(Kind::CreateGroup, 5, &members(5, None)).await;
    bob.expect::<Ack>(Kind::Ack).await;
    // What cannot be is refused as that, and costs nothing.
    bob.send(Kind::AddMembers, 6, &members(6, Some("ada"))).await;
    bob.refused(6, ErrorCode::Forbidden).await;
    bench.stop().await;
}
