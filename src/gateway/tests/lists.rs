//! The session list: SYNC, and sessions that come and go while the connection lives.

use rookery_wire::reply::{Joined, Left, ReadMark, SyncPage};
use rookery_wire::request::{Read as ReadRequest, Sync};

use super::*;

pub(super) fn listed(session: SessionId) -> UserSession {
    UserSession {
        session,
        joined_seq: 1,
        read_seq: 0,
        seen_count: 0,
        delivered_seq: 0,
        is_set: false,
        muted_until_ms: 0,
        deleted: Vec::new(),
        changed: 0,
    }
}

/// Sessions `g1` … with ascending activity, all in the user's list.
pub(super) fn fill(bench: &Bench, count: u64) {
    for number in 1..=count {
        let session = group(&format!("g{number}"));
        bench.shard.heads.lock().insert(session.clone(), number);
        bench.shard.list.lock().push(listed(session));
    }
}

pub(super) async fn page(client: &mut Client, after: Blob, limit: u32) -> SyncPage {
    client.send(Kind::Sync, 60, &Sync { after, limit, since: Blob::default() }).await;
    client.expect::<SyncPage>(Kind::SyncPage).await.1
}

#[tokio::test]
async fn pages_are_newest_first_and_whole() {
    let bench = bench(|_, _| {}).await;
    fill(&bench, 25);
    let mut client = bench.client("ada", "phone").await;
    let mut after = Blob::default();
    let mut seen = Vec::new();
    for (turn, expected) in [10, 10, 5].into_iter().enumerate() {
        let page = page(&mut client, after, 10).await;
        assert_eq!((page.sessions.len(), page.total), (expected, 25));
        assert!(page.unresolved.is_empty());
        for summary in &page.sessions {
            // What was pushed between the pages is not beyond it.
            let live_from = if summary.last_seq == 100 { 2 } else { summary.last_seq + 1 };
            assert_eq!(summary.live_from, live_from);
            assert_eq!(summary.unread, summary.count);
        }
        seen.extend(page.sessions.into_iter().map(|summary| summary.session));
        after = page.next;
        assert_eq!(after.is_empty(), turn == 2);
        if turn == 0 {
            // Activity between the pages must not make a session slip through.
            bench.publish(&group("g1"), 2..=100, 3);
            for seq in 2..=100 {
                assert_eq!(client.message().await.seq, seq, "attached before the first page was made");
            }
        }
    }
    let expected: Vec<_> = (1..=25).rev().map(|number| group(&format!("g{number}"))).collect();
    assert_eq!(seen, expected);
    bench.stop().await;
}

/// The work of a page is bound to shards: the first attaches, asks for activity and reads heads, for itself and for the
/// badge, the others attach and read heads; the list itself is read twice, then once.
#[tokio::test]
async fn a_page_asks_each_shard_a_few_times_however_many_sessions_there_are() {
    const SHARDS: u64 = 8;
    let bench = bench_at(1, SHARDS as u32, Arc::new(Alone), Arc::default(), |_, _| {}).await;
    fill(&bench, 1000);
    let mut client = bench.client("ada", "phone").await;
    let asked = || {
        let shard = &bench.shard;
        (shard.reads.swap(0, Ordering::Relaxed), shard.attaches.swap(0, Ordering::Relaxed))
    };
    asked();
    let (mut after, mut seen) = (Blob::default(), Vec::new());
    for turn in 0..5 {
        let page = page(&mut client, after, 200).await;
        assert_eq!((page.sessions.len(), page.total, page.unresolved.len()), (200, 1000, 0));
        let (reads, attaches) = asked();
        let (lists, rounds) = if turn == 0 { (2, 3) } else { (1, 1) };
        assert!(reads <= lists + rounds * SHARDS, "{reads} reads for page {turn}");
        assert!(attaches <= 1 + SHARDS, "{attaches} attaches for page {turn}");
        seen.extend(page.sessions.into_iter().map(|summary| summary.session));
        after = page.next;
        if turn == 0 {
            // Every session is live from the first page on, whether it stands on it or not.
            bench.publish(&group("g1"), 2..=2, 3);
            assert_eq!(client.message().await.seq, 2);
        }
    }
    assert!(after.is_empty());
    let expected: Vec<_> = (1..=1000).rev().map(|number| group(&format!("g{number}"))).collect();
    assert_eq!(seen, expected);
    bench.stop().await;
}

/// A session goes live before the page that names it is made: `live_from` is not beyond what was pushed meanwhile.
#[tokio::test]
async fn what_is_pushed_between_pages_is_not_beyond_live_from() {
    let bench = bench(|_, _| {}).await;
    fill(&bench, 4);
    let mut client = bench.client("ada", "phone").await;
    let first = page(&mut client, Blob::default(), 2).await;
    bench.publish(&group("g1"), 2..=3, 3);
    assert_eq!((client.message().await.seq, client.message().await.seq), (2, 3));
    let second = page(&mut client, first.next, 2).await;
    let g1 = second.sessions.iter().find(|summary| summary.session == group("g1")).unwrap();
    assert_eq!((g1.live_from, g1.last_seq), (2, 3));
    bench.stop().await;
}

#[tokio::test]
async fn what_cannot_be_told_is_named_and_what_was_left_is_not() {
    let bench = bench(|_, _| {}).await;
    fill(&bench, 4);
    bench.shard.refused.lock().insert(group("g2"), ErrorCode::Frozen);
    bench.shard.refused.lock().insert(group("g3"), ErrorCode::NotMember);
    let mut client = bench.client("ada", "phone").await;
    let page = page(&mut client, Blob::default(), 200).await;
    let names: Vec<_> = page.sessions.iter().map(|summary| summary.session.clone()).collect();
    assert_eq!(names, [group("g4"), group("g1")]);
    assert_eq!(page.unresolved, [(group("g2"), ErrorCode::Frozen)]);
    assert!(!bench.delivery.has(&Topic::Session(group("g3"))), "no member, no pushes");
    bench.stop().await;
}

/// What the list says is pushed from the first page on; that the session knows better is learned when its own page is made.
#[tokio::test]
async fn what_was_live_by_the_list_alone_is_pushed_no_more_once_the_session_refuses() {
    let bench = bench(|_, _| {}).await;
    fill(&bench, 4);
    let mut client = bench.client("ada", "phone").await;
    let first = page(&mut client, Blob::default(), 2).await;
    bench.publish(&group("g1"), 2..=2, 3);
    assert_eq!(client.message().await.seq, 2, "live by the list");
    // The log says so too of g2: what it is to be pushed ends with the record of the removal, and not before.
    bench.delivery.member_added(&group("g2"), &user("ada"), 2);
    for name in ["g1", "g2"] {
        bench.shard.refused.lock().insert(group(name), ErrorCode::NotMember);
    }
    let second = page(&mut client, first.next, 2).await;
    let left: std::collections::BTreeSet<_> = second.left.into_iter().collect();
    assert!(second.sessions.is_empty() && left.is_empty(), "a whole list names what there is: {left:?}");
    bench.publish(&group("g1"), 3..=3, 3);
    bench.publish(&group("g2"), 3..=3, 3);
    let (_, pushed) = client.expect::<Message>(Kind::Message).await;
    assert_eq!((pushed.session, pushed.record.seq), (group("g2"), 3));
    client.alive().await;
    assert!(!bench.delivery.has(&Topic::Session(group("g1"))));
    bench.stop().await;
}

#[tokio::test]
async fn a_page_of_another_sync_is_refused() {
    let bench = bench(|_, _| {}).await;
    fill(&bench, 4);
    let mut client = bench.client("ada", "phone").await;
    let old = page(&mut client, Blob::default(), 2).await.next;
    page(&mut client, Blob::default(), 2).await;
    for after in [old, Blob::from("nonsense")] {
        client.send(Kind::Sync, 61, &Sync { after, limit: 2, since: Blob::default() }).await;
        client.refused(61, ErrorCode::BadRequest).await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_joined_session_is_attached_before_it_is_named() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    bench.shard.heads.lock().insert(group("new"), 5);
    let news = |kind, session: &SessionId| {
        let frame = match kind {
            Kind::Joined => frame_bytes(kind, 0, &Joined { session: session.clone(), live_from: 0 }),
            _ => frame_bytes(kind, 0, &Left { session: session.clone() }),
        };
        Push { seq: 0, frame, from: None, replaces: None }
    };
    bench.delivery.publish_user(&user("ada"), &[news(Kind::Joined, &group("new"))]);
    let (_, joined) = client.expect::<Joined>(Kind::Joined).await;
    assert_eq!((joined.session, joined.live_from), (group("new"), 6));
    bench.publish(&group("new"), 6..=6, 3);
    assert_eq!(client.message().await.seq, 6);
    bench.delivery.publish_user(&user("ada"), &[news(Kind::Left, &group("new"))]);
    client.expect::<Left>(Kind::Left).await;
    bench.publish(&group("new"), 7..=7, 3);
    client.alive().await;

    // The list is behind: the session has let the user go already.
    bench.shard.refused.lock().insert(group("gone"), ErrorCode::NotMember);
    bench
        .delivery
        .publish_user(&user("ada"), &[news(Kind::Joined, &group("gone")), news(Kind::Left, &group("gone"))]);
    client.expect::<Left>(Kind::Left).await;
    assert!(!bench.delivery.has(&Topic::Session(group("gone"))));
    bench.stop().await;
}

#[tokio::test]
async fn a_read_mark_carries_the_sessions_count() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    client.send(Kind::Read, 70, &ReadRequest { session: group("g"), seq: 12 }).await;
    let (frame, mark) = client.expect::<ReadMark>(Kind::ReadMark).await;
    assert_eq!((frame.request_id, mark.seq, mark.count), (70, 12, 12));
    let taken = bench.shard.commands.lock().iter().any(|command| {
        matches!(command, crate::state::Command::Read { taken_ms, .. } if *taken_ms > 1_600_000_000_000)
    });
    assert!(taken, "and when it was taken");
    bench.stop().await;
}

/// The user's list is ahead of the session's log on this node.
#[tokio::test]
async fn who_is_removed_is_pushed_what_comes_before_and_then_told() {
    let bench = bench(|_, _| {}).await;
    let session = group("crew");
    let mut client = bench.attached("ada", &session).await;
    let frame = frame_bytes(Kind::Left, 0, &Left { session: session.clone() });
    bench.delivery.publish_user(&user("ada"), &[Push { seq: 0, frame, from: None, replaces: None }]);
    bench.publish(&session, 1..=2, 3);
    assert_eq!((client.message().await.seq, client.message().await.seq), (1, 2));
    bench.delivery.member_removed(&session, &user("ada"));
    bench.publish(&session, 3..=3, 3);
    client.expect::<Left>(Kind::Left).await;
    client.alive().await;
    bench.stop().await;
}
