//! The management of groups: changes are numbered like sends, and what is asked is asked again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use rookery_client::wire::group::{Group, GroupInfo, ListRoles, ManageGroup, RolePage};
use rookery_client::wire::join::JoinGroup;
use rookery_client::wire::versions::{ListVersions, VersionLine, VersionsPage};
use rookery_client::wire::{Blob, ErrorCode, GroupAction, Kind, MemberRole, Policy, Retry};
use rookery_client::{ClientError, InviteCode, Outgoing};
use support::{Fake, room, summary, within};

#[tokio::test]
async fn a_change_to_a_group_takes_the_next_number_and_keeps_it_over_a_cut() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let user = "bob".parse().unwrap();
    let change = {
        let client = client.clone();
        tokio::spawn(async move { client.set_role(&room(), user, MemberRole::Admin).await })
    };
    let (_, first) = peer.expect::<ManageGroup>(Kind::ManageGroup).await;
    assert_eq!((first.session.clone(), first.client_seq), (room(), 1));
    drop(peer);
    let mut peer = fake.accept_ready(vec![summary(0, 0)]).await;
    let (id, again) = peer.expect::<ManageGroup>(Kind::ManageGroup).await;
    assert_eq!(again, first, "the same bytes under the same number");
    peer.ack(id, 1, 1).await;
    assert_eq!(within("the ACK", change).await.unwrap().unwrap().seq, 1);
}

#[tokio::test]
async fn refusals_of_a_group_take_their_numbers() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    for (number, code, detail) in
        [(1, ErrorCode::Muted, 77), (2, ErrorCode::Dissolved, 2), (3, ErrorCode::AttributesFull, 32)]
    {
        let send = client.send_pipelined(&room(), Outgoing::text("may I?")).await.unwrap();
        let id = peer.take(number, "may I?").await;
        peer.error(id, code, Retry::Never, detail).await;
        match within("the refusal", send).await.unwrap_err() {
            ClientError::Refused(refusal) => assert_eq!((refusal.code, refusal.detail), (code, detail)),
            other => panic!("{other}"),
        }
    }
    // A stranger to a dissolved group has used no number.
    for _ in 0..2 {
        let send = client.send_pipelined(&room(), Outgoing::text("hello?")).await.unwrap();
        let id = peer.take(4, "hello?").await;
        peer.error(id, ErrorCode::Dissolved, Retry::Never, 0).await;
        assert_eq!(within("the refusal", send).await.unwrap_err().code(), Some(ErrorCode::Dissolved));
    }
}

/// Who asks to join is no member: its ACK begins nothing, and nothing is pulled for it until JOINED comes.
#[tokio::test]
async fn asking_to_join_takes_a_number_and_begins_no_session() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), Vec::new()).await;
    let code = InviteCode::draw();
    let ask = |code: Option<InviteCode>| {
        let client = client.clone();
        tokio::spawn(async move { client.join_group(&room(), code.as_ref(), Blob::from("it is me")).await })
    };
    // Refused as one who is no member: the number is free. Refused as a member: it is taken.
    for (number, error, detail, given) in [
        (1, ErrorCode::CodeUnknown, 0, Some(code.clone())),
        (1, ErrorCode::AskedLately, 1_234, None),
        (1, ErrorCode::CodeUsedUp, 0, Some(code.clone())),
        (1, ErrorCode::NotAllowed, 0, None),
    ] {
        let asked = ask(given.clone());
        let (id, join) = peer.expect::<JoinGroup>(Kind::JoinGroup).await;
        assert_eq!((join.client_seq, join.code), (number, given.map(|code| code.bytes())));
        peer.error(id, error, Retry::Never, detail).await;
        assert_eq!(within("the refusal", asked).await.unwrap().unwrap_err().code(), Some(error));
    }
    let asked = ask(None);
    let (id, join) = peer.expect::<JoinGroup>(Kind::JoinGroup).await;
    assert_eq!((join.client_seq, join.text), (2, Blob::from("it is me")));
    peer.ack(id, 2, 17).await;
    assert_eq!(within("the ACK", asked).await.unwrap().unwrap().seq, 17);
    peer.silence(std::time::Duration::from_millis(100)).await;
    let withdrawn = {
        let client = client.clone();
        tokio::spawn(async move { client.answer_request(&room(), "bob".parse().unwrap(), false).await })
    };
    let (id, taken_back) = peer.expect::<ManageGroup>(Kind::ManageGroup).await;
    assert_eq!(taken_back.client_seq, 3);
    peer.ack(id, 3, 18).await;
    assert_eq!(within("the ACK", withdrawn).await.unwrap().unwrap().seq, 18);
    peer.silence(std::time::Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_group_and_its_roles_are_asked_for() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let group = Group {
        session: room(),
        name: Blob::from("The room"),
        avatar: Blob::default(),
        attributes: Vec::new(),
        policy: Policy::default(),
        mute_all: false,
        owner: None,
        role: Some(MemberRole::Member),
        muted_until_ms: 0,
        members: 3,
        dissolved: false,
        retention: rookery_wire::Retention::default(),
    };
    let serve = async {
        let (id, asked) = peer.expect::<GroupInfo>(Kind::GroupInfo).await;
        assert_eq!(asked.session, room());
        peer.send(Kind::Group, id, &group).await;
        let (id, asked) = peer.expect::<ListRoles>(Kind::ListRoles).await;
        assert_eq!(asked.limit, 10);
        peer.send(Kind::RolePage, id, &RolePage { roles: Vec::new(), more: false }).await;
    };
    let ask = async {
        let info = client.group_info(&room()).await.unwrap();
        (info, client.roles(&room(), None, 10).await.unwrap())
    };
    let ((info, roles), ()) = within("both answers", async { tokio::join!(ask, serve) }).await;
    assert_eq!(info, group);
    assert!(roles.roles.is_empty());
}

#[tokio::test]
async fn what_is_too_large_or_no_group_is_not_sent() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let large = Blob::from("x".repeat(257).as_str());
    let pair = "direct:ann,bob".parse().unwrap();
    for (session, action) in
        [(room(), GroupAction::SetProfile { name: Some(large), avatar: None }), (pair, GroupAction::Dissolve)]
    {
        let refused = client.manage(&session, action).await.unwrap_err();
        assert!(matches!(refused, ClientError::Invalid(_)), "{refused}");
    }
    peer.silence(std::time::Duration::from_millis(100)).await;
}

#[tokio::test]
async fn versions_are_asked_for_again_on_the_next_connection() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let line = VersionLine {
        number: 1,
        time_ms: 7,
        by: "bob".parse().unwrap(),
        content_type: Blob::from("text/plain"),
        content: Blob::from("what was said first"),
        extensions: Vec::new(),
    };
    let (seq, more, kept) = (5, false, true);
    let page = VersionsPage { session: room(), seq, versions: vec![line], more, kept };
    let ask = {
        let client = client.clone();
        tokio::spawn(async move { client.versions(&room(), 5, 2, 101).await })
    };
    let (_, asked) = peer.expect::<ListVersions>(Kind::ListVersions).await;
    assert_eq!(asked, ListVersions { session: room(), seq: 5, before: 2, limit: 101 });
    drop(peer);
    let mut peer = fake.accept_ready(vec![summary(0, 0)]).await;
    let (id, again) = peer.expect::<ListVersions>(Kind::ListVersions).await;
    assert_eq!(again, asked);
    peer.send(Kind::VersionsPage, id, &page).await;
    assert_eq!(within("the page", ask).await.unwrap().unwrap(), page);
    // What is kept of a direct session its users say.
    let say = {
        let client = client.clone();
        tokio::spawn(async move { client.keep_versions(&"direct:ann,bob".parse().unwrap(), false).await })
    };
    let (id, said) = peer.expect::<ManageGroup>(Kind::ManageGroup).await;
    assert_eq!((said.client_seq, said.action), (1, GroupAction::KeepVersions { on: false }));
    peer.error(id, ErrorCode::Dissolved, Retry::Never, 0).await;
    assert!(within("the refusal", say).await.unwrap().is_err());
}
