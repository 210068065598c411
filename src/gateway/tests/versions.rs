//! LIST_VERSIONS before an imagined shard: who may ask, what a user has deleted, pages that fit; and what EDIT carries along.

use rookery_wire::GroupAction;
use rookery_wire::group::ManageGroup;
use rookery_wire::own::Settings;
use rookery_wire::request::Edit;
use rookery_wire::versions::{ListVersions, VersionLine, VersionsPage};

use super::*;
use crate::state::{Act, VersionBounds};

/// More lines than the smallest frame holds, as many as are asked for; in `said` it is said that they are kept.
pub(super) fn found(list: ListVersions) -> ReadReply {
    let line = |number| VersionLine {
        number,
        time_ms: 1,
        by: user("eve"),
        content_type: Blob::default(),
        content: Blob(Bytes::from(vec![b'x'; 1000])),
        extensions: Vec::new(),
    };
    let said = (list.session == group("said")).then_some(true);
    let versions = (1..=u64::from(list.limit)).rev().map(line).collect();
    let ListVersions { session, seq, .. } = list;
    ReadReply::Versions { page: VersionsPage { session, seq, versions, more: false, kept: false }, said }
}

fn list(session: &SessionId, seq: u64, limit: u32) -> ListVersions {
    ListVersions { session: session.clone(), seq, before: 0, limit }
}

#[tokio::test]
async fn versions_are_for_who_may_pull_the_message_and_fit_a_frame() {
    let bench = bench(|limits, _| limits.frame = 16_384).await;
    let mut client = bench.client("ada", "phone").await;
    let others = SessionId::direct(&user("cid"), &user("bob")).unwrap();
    client.send(Kind::ListVersions, 7, &list(&others, 1, 1)).await;
    client.refused(7, ErrorCode::Forbidden).await;
    client.send(Kind::ListVersions, 8, &list(&group("team"), 5, 101)).await;
    let (frame, page) = client.expect::<VersionsPage>(Kind::VersionsPage).await;
    assert_eq!((frame.request_id, page.more, page.kept), (8, true, false));
    assert!((5..16).contains(&page.versions.len()), "{}", page.versions.len());
    client.send(Kind::ListVersions, 9, &list(&group("said"), 5, 2)).await;
    let (_, page) = client.expect::<VersionsPage>(Kind::VersionsPage).await;
    assert_eq!((page.versions.len(), page.more, page.kept), (2, false, true));

    // What is cleared or deleted says nothing of before either.
    let settings = Settings { cleared_seq: 3, deleted: vec![(7, 8)], ..Settings::default() };
    bench.shard.settings.lock().insert(group("team"), settings);
    for (request, seq) in [(10, 3), (11, 7), (12, 8)] {
        client.send(Kind::ListVersions, request, &list(&group("team"), seq, 1)).await;
        client.refused(request, ErrorCode::NoSuchMessage).await;
    }
    for (request, seq) in [(13, 0), (14, 4), (15, 9)] {
        client.send(Kind::ListVersions, request, &list(&group("team"), seq, 1)).await;
        let (frame, page) = client.expect::<VersionsPage>(Kind::VersionsPage).await;
        assert_eq!((frame.request_id, page.seq), (request, seq));
    }
    bench.stop().await;
}

#[tokio::test]
async fn an_edit_carries_along_what_is_kept_of_it() {
    let change = |limits: &mut Limits, _: &mut Timing| {
        (limits.versions_per_message, limits.keep_versions) = (7, true);
    };
    let bench = bench(change).await;
    let mut client = bench.client("ada", "phone").await;
    let edit = Edit {
        session: group("team"),
        client_seq: 1,
        on_behalf_of: None,
        seq: 5,
        content_type: Blob::default(),
        content: Blob::from("better"),
        extensions: Vec::new(),
    };
    client.send(Kind::Edit, 7, &edit).await;
    client.expect::<Ack>(Kind::Ack).await;
    let last = bench.shard.commands.lock().last().cloned();
    let Some(Command::Act { act: Act::Edit { versions, .. }, .. }) = last else { panic!("{last:?}") };
    assert_eq!(versions, VersionBounds { most: 7, kept: true });
    client.send(Kind::ListVersions, 8, &list(&group("team"), 0, 1)).await;
    let (_, page) = client.expect::<VersionsPage>(Kind::VersionsPage).await;
    assert!(page.kept, "by default");

    // In a direct session it is for its two users to say, and for nobody else.
    let others = SessionId::direct(&user("cid"), &user("bob")).unwrap();
    let pair = SessionId::direct(&user("ada"), &user("bob")).unwrap();
    let manage = |session, action| ManageGroup { session, client_seq: 1, on_behalf_of: None, action };
    let keep = GroupAction::KeepVersions { on: false };
    client.send(Kind::ManageGroup, 9, &manage(others, keep.clone())).await;
    client.refused(9, ErrorCode::Forbidden).await;
    client.send(Kind::ManageGroup, 10, &manage(pair, keep)).await;
    client.expect::<Ack>(Kind::Ack).await;
    bench.stop().await;
}
