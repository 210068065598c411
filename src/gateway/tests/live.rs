//! Receipts, ephemeral messages and presence on one node: what is refused, what is bounded, who is told.

use rookery_wire::live::{
    Ephemeral, EphemeralMessage, Passing as Said, Presence, PresencePage, Receipt, ReceiptPage, Receipts,
    SessionPresence, Watch, WatchMode, WatchSession, Which,
};
use rookery_wire::reply::ReadMark;
use rookery_wire::request;

use super::*;

/// When a user was heard of last; of shy nobody is told.
pub(super) fn seen((user, _): &(UserId, Option<UserId>)) -> Option<u64> {
    (user.as_str() != "shy").then_some(1000)
}

fn typing(session: &SessionId, on: bool) -> Ephemeral {
    Ephemeral { session: session.clone(), on_behalf_of: None, body: Said::Typing { on } }
}

fn saying(session: &SessionId, bytes: usize) -> Ephemeral {
    let content = Blob(Bytes::from(vec![7; bytes]));
    let body = Said::Content { content_type: Blob::from("x/y"), content };
    Ephemeral { session: session.clone(), on_behalf_of: None, body }
}

#[tokio::test]
async fn an_ephemeral_message_goes_to_all_members_connections_but_the_one_that_said_it() {
    let bench = bench(|_, _| {}).await;
    let team = group("team");
    let mut ada = bench.attached("ada", &team).await;
    let mut bob = bench.attached("bob", &team).await;
    let mut tablet = bench.client("ada", "tablet").await;
    bench.delivery.member_added(&team, &user("ada"), 0);
    let mut stranger = bench.client("eve", "phone").await;
    ada.send(Kind::Ephemeral, 5, &saying(&team, 3)).await;
    let (frame, ()) = ada.expect(Kind::Ok).await;
    assert_eq!(frame.request_id, 5);
    for other in [&mut bob, &mut tablet] {
        let (frame, message) = other.expect::<EphemeralMessage>(Kind::EphemeralMessage).await;
        assert_eq!((frame.request_id, message.session, message.sender), (0, team.clone(), user("ada")));
        assert_eq!((message.device.as_str(), message.body), ("phone", saying(&team, 3).body));
    }
    ada.alive().await;
    stranger.alive().await;
    bench.stop().await;
}

/// The replica of this node does not know yet that the other blocks, or that the member was muted or removed.
#[tokio::test]
async fn what_the_leader_forbids_does_not_pass_though_the_replica_here_still_says_yes() {
    let bench = bench(|_, _| {}).await;
    let (team, pair) = (group("team"), SessionId::direct(&user("ada"), &user("bob")).unwrap());
    let mut ada = bench.client("ada", "phone").await;
    let mut bob = bench.attached("bob", &pair).await;
    bench.delivery.member_added(&team, &user("bob"), 0);
    bench.shard.past.troubles.silenced.store(true, Ordering::Relaxed);
    for (request, said) in [(5, saying(&pair, 3)), (6, typing(&pair, true)), (7, saying(&team, 3))] {
        ada.send(Kind::Ephemeral, request, &said).await;
        ada.refused(request, ErrorCode::RefusedByPeer).await;
    }
    ada.send(Kind::Ephemeral, 8, &typing(&team, true)).await;
    ada.expect::<()>(Kind::Ok).await;
    let (_, first) = bob.expect::<EphemeralMessage>(Kind::EphemeralMessage).await;
    assert_eq!((first.session, first.body), (team, Said::Typing { on: true }), "and nothing before it");
    bench.stop().await;
}

#[tokio::test]
async fn typing_is_passed_on_once_a_second_and_its_end_at_once() {
    let bench = bench(|_, _| {}).await;
    let team = group("team");
    let mut ada = bench.client("ada", "phone").await;
    let mut bob = bench.attached("bob", &team).await;
    for on in [true, true, true, false, true] {
        ada.send(Kind::Ephemeral, 5, &typing(&team, on)).await;
        ada.expect::<()>(Kind::Ok).await;
    }
    for expected in [true, false, true] {
        let (_, message) = bob.expect::<EphemeralMessage>(Kind::EphemeralMessage).await;
        assert_eq!(message.body, Said::Typing { on: expected });
    }
    bob.alive().await;
    bench.stop().await;
}

#[tokio::test]
async fn ephemeral_messages_are_bounded_in_size_and_rate_and_judged_before_they_go() {
    let bench = bench(|limits, _| (limits.ephemeral, limits.ephemeral_rate) = (10, 2)).await;
    let team = group("team");
    let mut ada = bench.client("ada", "phone").await;
    ada.send(Kind::Ephemeral, 5, &saying(&team, 11)).await;
    assert_eq!(ada.refused(5, ErrorCode::EphemeralTooLarge).await.detail, 10);
    let mut named = saying(&team, 1);
    named.on_behalf_of = Some(user("bob"));
    ada.send(Kind::Ephemeral, 6, &named).await;
    ada.refused(6, ErrorCode::Forbidden).await;
    let theirs = SessionId::direct(&user("bob"), &user("cid")).unwrap();
    ada.send(Kind::Ephemeral, 7, &saying(&theirs, 1)).await;
    ada.refused(7, ErrorCode::Forbidden).await;
    for request in 0..4 {
        ada.send(Kind::Ephemeral, 10 + request, &saying(&team, 10)).await;
        ada.expect::<()>(Kind::Ok).await;
    }
    ada.send(Kind::Ephemeral, 20, &saying(&team, 10)).await;
    let error = ada.refused(20, ErrorCode::TooFast).await;
    assert!(matches!(error.retry, rookery_wire::Retry::After(1..=500)), "{error:?}");
    assert_eq!(error.detail, 2);
    bench.stop().await;
}

/// One who does not read gets what fits in half of the queue's bound, and is told of nothing it missed.
#[tokio::test]
async fn ephemeral_messages_crowd_out_no_push() {
    let bench = bench(|limits, _| {
        (limits.queue_bytes, limits.frame, limits.content) = (65_536, 32_768, 16_384);
        limits.ephemeral_rate = 10_000;
    })
    .await;
    let team = group("team");
    let slow = bench.attached("bob", &team).await;
    let mut ada = bench.client("ada", "phone").await;
    until("the slow one's socket and half of its queue are full", || {
        // Many at a look: a socket takes megabytes.
        for _ in 0..64 {
            let (frame, except) = (Blob(Bytes::from(vec![0; 4096])), (user("ada"), None));
            bench.delivery.pass(&crate::delivery::Passing { session: team.clone(), frame, except });
        }
        bench.delivery.stats().passed_over > 0
    })
    .await;
    let lags = bench.delivery.stats().lags;
    bench.publish(&team, 1..=1, 16_000);
    assert_eq!(bench.delivery.stats().lags, lags, "there is room for a push");
    ada.alive().await;
    drop(slow);
    bench.stop().await;
}

#[tokio::test]
async fn receipts_are_folded_from_cursors_and_the_peer_is_told_of_a_read() {
    let bench = bench(|_, _| {}).await;
    let pair = SessionId::direct(&user("ada"), &user("bob")).unwrap();
    let mut ada = bench.attached("ada", &pair).await;
    let mut bob = bench.attached("bob", &pair).await;
    // Everybody's cursor is 7 here.
    for (seq, which, expected) in [(7, Which::Read, 2), (8, Which::Read, 0), (8, Which::Unread, 2)] {
        let ask = Receipts { session: group("team"), seq, which, after: None, limit: 10 };
        ada.send(Kind::Receipts, 5, &ask).await;
        let (frame, page) = ada.expect::<ReceiptPage>(Kind::ReceiptPage).await;
        assert_eq!((frame.request_id, page.users.len(), page.next), (5, expected, None));
    }
    let theirs = SessionId::direct(&user("bob"), &user("cid")).unwrap();
    ada.send(
        Kind::Receipts,
        6,
        &Receipts { session: theirs, seq: 1, which: Which::Read, after: None, limit: 10 },
    )
    .await;
    ada.refused(6, ErrorCode::Forbidden).await;
    for seq in [3, 5] {
        ada.send(Kind::Read, 7, &request::Read { session: pair.clone(), seq }).await;
        ada.expect::<ReadMark>(Kind::ReadMark).await;
    }
    loop {
        let (_, receipt) = bob.expect::<Receipt>(Kind::Receipt).await;
        assert_eq!((receipt.session, receipt.user), (pair.clone(), user("ada")));
        if receipt.seq == 5 {
            break;
        }
    }
    ada.alive().await;
    bench.stop().await;
}

#[tokio::test]
async fn who_is_watched_is_told_of_and_who_may_not_be_is_refused() {
    let bench = bench(|limits, _| limits.watched = 3).await;
    let mut ada = bench.client("ada", "phone").await;
    let phone = bench.client("bob", "phone").await;
    let users = |names: &[&str]| names.iter().map(|name| user(name)).collect::<Vec<_>>();
    let watch = |mode, names: &[&str]| Watch { mode, users: users(names) };
    ada.send(Kind::Watch, 5, &watch(WatchMode::Replace, &["stranger", "cid", "bob"])).await;
    let (_, page) = ada.expect::<PresencePage>(Kind::PresencePage).await;
    let seen: Vec<_> =
        page.users.iter().map(|line| (line.user.as_str(), line.online, line.last_seen_ms)).collect();
    assert_eq!(seen, [("bob", true, 0), ("cid", false, 1000)]);
    assert_eq!(page.refused, [(user("stranger"), ErrorCode::NotAllowed)]);
    ada.send(Kind::Watch, 6, &watch(WatchMode::Add, &["dan", "eve"])).await;
    assert_eq!(ada.refused(6, ErrorCode::TooMany).await.detail, 3);
    // A second device comes and the first one goes: bob has been there all the time.
    let tablet = bench.client("bob", "tablet").await;
    drop(phone);
    let _cid = bench.client("cid", "phone").await;
    let (frame, news) = ada.expect::<Presence>(Kind::Presence).await;
    let seen: Vec<_> = news.users.iter().map(|line| (line.user.as_str(), line.online)).collect();
    assert_eq!((frame.request_id, seen), (0, vec![("cid", true)]));
    drop(tablet);
    let (_, news) = ada.expect::<Presence>(Kind::Presence).await;
    assert_eq!((news.users[0].user.as_str(), news.users[0].online), ("bob", false));
    assert!(news.users[0].last_seen_ms > 1_700_000_000_000);
    ada.send(Kind::Watch, 7, &watch(WatchMode::Remove, &["bob"])).await;
    assert!(ada.expect::<PresencePage>(Kind::PresencePage).await.1.users.is_empty());
    let _bob = bench.client("bob", "phone").await;
    drop(_cid);
    let (_, news) = ada.expect::<Presence>(Kind::Presence).await;
    assert_eq!((news.users.len(), news.users[0].user.as_str()), (1, "cid"), "of bob nothing more is said");
    bench.stop().await;
}

#[tokio::test]
async fn a_watch_that_is_refused_leaves_those_who_were_watched() {
    let bench = bench(|limits, _| limits.watched = 3).await;
    let mut ada = bench.client("ada", "phone").await;
    let watch = |mode, names: &[&str]| Watch { mode, users: names.iter().map(|name| user(name)).collect() };
    ada.send(Kind::Watch, 5, &watch(WatchMode::Replace, &["bob", "dan"])).await;
    ada.expect::<PresencePage>(Kind::PresencePage).await;
    ada.send(Kind::Watch, 6, &watch(WatchMode::Add, &["cid", "eve"])).await;
    ada.refused(6, ErrorCode::TooMany).await;
    let watches = &bench.gateway.core.watches;
    watches.pretend(super::super::watch::MOST);
    ada.send(Kind::Watch, 7, &watch(WatchMode::Replace, &["cid", "dan", "eve"])).await;
    ada.refused(7, ErrorCode::Busy).await;
    watches.pretend(2);
    let _cid = bench.client("cid", "phone").await;
    let _bob = bench.client("bob", "phone").await;
    let (_, news) = ada.expect::<Presence>(Kind::Presence).await;
    let seen: Vec<_> = news.users.iter().map(|line| line.user.as_str()).collect();
    assert_eq!(seen, ["bob"], "neither fewer nor more");
    ada.send(Kind::Watch, 8, &watch(WatchMode::Replace, &["cid", "dan", "eve"])).await;
    let (_, page) = ada.expect::<PresencePage>(Kind::PresencePage).await;
    assert_eq!(page.users.len(), 3, "who goes makes room for who comes");
    bench.stop().await;
}

/// The next word about the group: how it is whole, who is said to be there or gone, and how many others are.
async fn heard(client: &mut Client) -> (bool, Vec<(String, bool)>, u32) {
    let (_, told) = client.expect::<SessionPresence>(Kind::SessionPresence).await;
    let lines = told.users.iter().map(|line| (line.user.to_string(), line.online)).collect();
    (told.whole, lines, told.others)
}

#[tokio::test]
async fn members_of_a_group_are_told_who_of_them_is_there() {
    let bench = bench(|limits, _| (limits.watched_sessions, limits.watched_members) = (1, 4)).await;
    let team = group("team");
    let line = |name: &str, online| (name.to_owned(), online);
    let watch = |session: &SessionId, on| WatchSession { session: session.clone(), on };
    let mut ada = bench.attached("ada", &team).await;
    let _shy = bench.attached("shy", &team).await;
    ada.send(Kind::WatchSession, 5, &watch(&team, true)).await;
    assert_eq!(heard(&mut ada).await, (true, vec![line("ada", true)], 0), "and not who does not show it");
    ada.send(Kind::WatchSession, 6, &watch(&group("club"), true)).await;
    assert_eq!(ada.refused(6, ErrorCode::TooManyGroupsWatched).await.detail, 1);
    ada.send(Kind::WatchSession, 7, &watch(&SessionId::direct(&user("ada"), &user("bob")).unwrap(), true))
        .await;
    ada.refused(7, ErrorCode::BadRequest).await;

    let bob = bench.attached("bob", &team).await;
    assert_eq!(heard(&mut ada).await, (false, vec![line("bob", true)], 0));
    let mut eve = bench.attached("eve", &team).await;
    assert_eq!(heard(&mut ada).await, (false, vec![line("eve", true)], 0));
    eve.send(Kind::WatchSession, 5, &watch(&team, true)).await;
    let all = ["ada", "bob", "eve"].map(|name| line(name, true));
    assert_eq!(heard(&mut eve).await, (true, all.into(), 0));
    let _fay = bench.attached("fay", &team).await;
    assert_eq!(heard(&mut ada).await, (false, vec![], 1), "four are named already, one of them is shy");
    assert_eq!(heard(&mut eve).await, (false, vec![], 1));
    drop(bob);
    for watcher in [&mut ada, &mut eve] {
        assert_eq!(heard(watcher).await, (false, vec![line("fay", true)], 0), "has bob's place");
        assert_eq!(heard(watcher).await, (false, vec![line("bob", false)], 0));
    }

    // Who is no member any more hears nothing, until it is one again.
    bench.delivery.member_removed(&team, &user("ada"));
    assert_eq!(heard(&mut eve).await, (false, vec![line("ada", false)], 0));
    let _dan = bench.attached("dan", &team).await;
    assert_eq!(heard(&mut eve).await, (false, vec![line("dan", true)], 0));
    ada.alive().await;
    bench.delivery.member_added(&team, &user("ada"), 0);
    let (whole, lines, others) = heard(&mut ada).await;
    assert_eq!((whole, lines.len(), others), (true, 3, 1), "{lines:?}");
    ada.send(Kind::WatchSession, 8, &watch(&team, false)).await;
    assert_eq!(heard(&mut ada).await, (true, vec![], 0));
    ada.send(Kind::WatchSession, 9, &watch(&group("club"), true)).await;
    assert!(heard(&mut ada).await.0, "there is room for another");
    bench.stop().await;
}
