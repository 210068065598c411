//! One who reads slowly: what it missed it is told, and what is taken back it is not given.

use std::collections::HashSet;

use rookery_wire::reply::{Joined, Lagged, Left, SyncPage};
use rookery_wire::request::Sync;

use super::lists::fill;
use super::*;

/// What the imagined shards cannot do.
#[derive(Default)]
pub(super) struct Troubles {
    /// Topics to which nobody can be attached.
    pub(super) shut: Mutex<HashSet<Topic>>,
    /// Reads that are refused, and how many were.
    pub(super) refuses: Mutex<Option<fn(&Read) -> bool>>,
    pub(super) refused: AtomicU64,
    /// Devices are registered no more, and how often it was looked.
    pub(super) ended: AtomicBool,
    pub(super) looks: AtomicU64,
    /// Nobody may pass anything any more, which only the leader knows.
    pub(super) silenced: AtomicBool,
    /// There are very many of everything.
    pub(super) crowd: AtomicBool,
}

impl Troubles {
    pub(super) fn judge(&self, read: &Read, freshness: Freshness) -> Result<(), ReadRefusal> {
        let is_known = freshness == Freshness::Linearizable && self.silenced.load(Ordering::Relaxed);
        if is_known && matches!(read, Read::MayPass { .. }) {
            return Err(ReadRefusal::Refused(ErrorBody::new(ErrorCode::RefusedByPeer, "blocked")));
        }
        let is_refused = self.refuses.lock().is_some_and(|refuses| refuses(read));
        let refusal = || ReadRefusal::Refused(ErrorBody::new(ErrorCode::Unavailable, "in trouble"));
        self.refused.fetch_add(u64::from(is_refused), Ordering::Relaxed);
        if is_refused { Err(refusal()) } else { Ok(()) }
    }

    /// The epoch of any device.
    pub(super) fn epoch(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::Relaxed);
        u64::from(!self.ended.load(Ordering::Relaxed))
    }
}

const QUEUE: u32 = 256 << 10;

pub(super) async fn slow_bench() -> Bench {
    bench(|limits, _| limits.queue_bytes = QUEUE).await
}

fn held(bench: &Bench, name: &str) -> usize {
    let core = &bench.gateway.core;
    core.devices.iter().find(|entry| entry.key().0 == user(name)).map_or(0, |entry| entry.out.bytes())
}

/// More than half of the queue, or less: large answers and news are written, or wait. There is room in any case.
pub(super) const MUCH: usize = 160_000;
const LITTLE: usize = 100_000;

/// Pushes until the client's sockets take no more and its queue holds so many bytes.
pub(super) async fn stall(bench: &Bench, name: &str, bytes: usize) {
    let noise = group("noise");
    bench.delivery.member_added(&noise, &user(name), 0);
    let mut seq = 0;
    loop {
        while held(bench, name) < bytes {
            bench.publish(&noise, seq + 1..=seq + 20, 1000);
            seq += 20;
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(seq < 100_000, "the client's sockets take everything");
        }
        let before = held(bench, name);
        tokio::time::sleep(Duration::from_millis(30)).await;
        if held(bench, name) == before {
            return;
        }
    }
}

pub(super) fn news(frame: Bytes) -> Push {
    Push { seq: 0, frame, from: None, replaces: None }
}

fn left(session: &SessionId) -> Push {
    news(frame_bytes(Kind::Left, 0, &Left { session: session.clone() }))
}

fn joined(session: &SessionId) -> Push {
    news(frame_bytes(Kind::Joined, 0, &Joined { session: session.clone(), live_from: 0 }))
}

async fn ask(client: &mut Client) {
    client.send(Kind::Sync, 60, &Sync { after: Blob::default(), limit: 200, since: Blob::default() }).await;
}

/// Reads on until a LAGGED comes; what came before it, but the noise.
pub(super) async fn until_lagged(client: &mut Client) -> (Vec<Frame>, Vec<(SessionId, u64)>) {
    let mut before = Vec::new();
    loop {
        let frame = client.next().await.unwrap();
        match Kind::from_number(frame.kind) {
            Some(Kind::Lagged) => {
                let mut lagged = decode::<Lagged>(&frame.body).unwrap().sessions;
                let was_named = !lagged.is_empty();
                lagged.retain(|(session, _)| *session != group("noise"));
                if !was_named || !lagged.is_empty() {
                    return (before, lagged);
                }
            }
            Some(Kind::Message) if record(&frame).0 == group("noise") => {}
            _ => before.push(frame),
        }
    }
}

fn record(frame: &Frame) -> (SessionId, Record) {
    let message: Message = decode(&frame.body).unwrap();
    (message.session, message.record)
}

/// A record `seq`, after which the one at `changed` is as `change` leaves it.
fn changing(session: &SessionId, seq: u64, changed: u64, change: impl FnOnce(&mut Record)) -> Push {
    let from = (user("publisher"), DeviceId::new("desk").unwrap());
    let earlier = message(session, changed, (&from.0, &from.1), b"secret");
    let mut now: Message = decode(&earlier.frame.slice(12..)).unwrap();
    change(&mut now.record);
    let replaces = Some(Arc::new((changed, frame_bytes(Kind::Message, 0, &now))));
    Push { replaces, ..message(session, seq, (&from.0, &from.1), b"") }
}

#[tokio::test]
async fn a_sync_takes_no_lag_away() {
    let bench = slow_bench().await;
    let team = group("team");
    fill(&bench, 1);
    bench.shard.list.lock().push(super::lists::listed(team.clone()));
    let mut client = bench.attached("ada", &team).await;
    stall(&bench, "ada", LITTLE).await;
    let lags = bench.delivery.stats().lags;
    bench.publish(&team, 1..=1, 200_000);
    assert_eq!(bench.delivery.stats().lags, lags + 1, "no room for that");
    let waiting = held(&bench, "ada");
    ask(&mut client).await;
    until("it is answered, behind what waits", || held(&bench, "ada") > waiting).await;
    let (before, lagged) = until_lagged(&mut client).await;
    assert_eq!(lagged, [(team.clone(), 2)]);
    let pages: Vec<SyncPage> = before.iter().map(|frame| decode(&frame.body).unwrap()).collect();
    assert!(pages.len() == 1 && pages[0].sessions.iter().any(|line| line.session == team), "{pages:?}");
    bench.publish(&team, 2..=2, 3);
    assert_eq!(client.message().await.seq, 2);
    bench.stop().await;
}

#[tokio::test]
async fn a_session_that_cannot_be_asked_stays_live() {
    let bench = bench(|_, _| {}).await;
    fill(&bench, 3);
    bench.shard.list.lock().iter_mut().for_each(|line| line.is_set = true);
    let mut client = bench.client("ada", "phone").await;
    ask(&mut client).await;
    assert_eq!(client.expect::<SyncPage>(Kind::SyncPage).await.1.sessions.len(), 3);
    let troubles = &bench.shard.past.troubles;
    // Neither when sessions were active is said, nor what one of them has, nor how the user has set them.
    let cases: [(fn(&Read) -> bool, Option<usize>); 3] = [
        (|read| matches!(read, Read::Activity { .. }), Some(3)),
        (|read| matches!(read, Read::Heads { .. }), Some(3)),
        (|read| matches!(read, Read::Settings { .. }), None),
    ];
    for (seq, (refuses, unresolved)) in (4..).zip(cases) {
        *troubles.refuses.lock() = Some(refuses);
        ask(&mut client).await;
        match unresolved {
            Some(unresolved) => {
                let page: SyncPage = client.expect(Kind::SyncPage).await.1;
                assert_eq!((page.sessions.len(), page.unresolved.len()), (0, unresolved));
            }
            None => assert_eq!(client.refused(60, ErrorCode::Unavailable).await.code, ErrorCode::Unavailable),
        }
        bench.publish(&group("g3"), seq..=seq, 3);
        assert_eq!(client.message().await.seq, seq);
    }
    bench.stop().await;
}

/// Without it nothing would be told of sessions joined and left, nor that anything was missed.
#[tokio::test]
async fn no_list_is_given_to_one_who_is_not_attached_to_its_user() {
    let bench = bench(|_, _| {}).await;
    fill(&bench, 3);
    let shut = &bench.shard.past.troubles.shut;
    shut.lock().insert(Topic::User(user("ada")));
    let mut client = bench.client("ada", "phone").await;
    ask(&mut client).await;
    client.refused(60, ErrorCode::Unavailable).await;
    // Nor is it taken for looked after by what any other request looks for.
    let looked = || bench.gateway.core.devices.iter().all(|entry| entry.standing.is_settled());
    for number in 1..=2 {
        let attaches = bench.shard.attaches.load(Ordering::Relaxed);
        client.send(Kind::Send, 5, &send(&group("g1"), number, b"x")).await;
        client.expect::<Ack>(Kind::Ack).await;
        until("it was looked", || bench.shard.attaches.load(Ordering::Relaxed) > attaches && !looked()).await;
    }
    shut.lock().clear();
    ask(&mut client).await;
    assert_eq!(client.expect::<SyncPage>(Kind::SyncPage).await.1.sessions.len(), 3);
    until("nothing more is to be looked for", looked).await;
    bench.stop().await;
}

/// What is joined again was skipped, so the list tells it: a LEFT that has waited all the time must not come behind.
#[tokio::test]
async fn one_is_told_to_sync_behind_the_news_that_waits() {
    let bench = slow_bench().await;
    let (other, team) = (group("other"), group("team"));
    let mut client = bench.attached("ada", &team).await;
    stall(&bench, "ada", MUCH).await;
    bench.delivery.publish_user(&user("ada"), &[left(&other), left(&team)]);
    let lags = bench.delivery.stats().lags;
    bench.delivery.publish_user(&user("ada"), &[news(Bytes::from(vec![0; 200_000]))]);
    assert_eq!(bench.delivery.stats().lags, lags + 1, "no room for that");
    // It reads again, with the LEFT waiting for the log, which has the user in the session again.
    let (before, lagged) = until_lagged(&mut client).await;
    let lefts: Vec<_> = before.iter().map(|frame| decode::<Left>(&frame.body).unwrap().session).collect();
    assert_eq!((lefts, lagged), (vec![other, team], vec![]));
    bench.stop().await;
}

#[tokio::test]
async fn who_cannot_be_attached_to_a_joined_session_is_told_to_sync() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    bench.shard.heads.lock().insert(group("new"), 5);
    bench.shard.past.troubles.shut.lock().insert(Topic::Session(group("new")));
    bench.delivery.publish_user(&user("ada"), &[joined(&group("new"))]);
    let (_, lagged) = client.expect::<Lagged>(Kind::Lagged).await;
    assert!(lagged.sessions.is_empty());
    bench.stop().await;
}

#[tokio::test]
async fn what_is_recalled_is_not_given_to_one_who_was_removed_before() {
    for by_log in [true, false] {
        let bench = slow_bench().await;
        let team = group("team");
        let topic = Topic::Session(team.clone());
        let mut client = bench.attached("ada", &team).await;
        stall(&bench, "ada", MUCH).await;
        bench.publish(&team, 1..=3, 6);
        match by_log {
            true => bench.delivery.member_removed(&team, &user("ada")),
            false => bench.delivery.publish_user(&user("ada"), &[left(&team)]),
        }
        let id = bench.gateway.core.devices.iter().next().unwrap().id;
        until("it was let go", || !bench.delivery.is_live(&topic, id)).await;
        let recall = changing(&team, 4, 2, |record| {
            (record.kind, record.content) = (RecordKind::RECALLED, Blob::default());
        });
        // What is said after it was let go is not said to it, also in the place of something older.
        let edit = changing(&team, 5, 3, |record| record.content = Blob::from("said later"));
        bench.delivery.publish(&team, &[recall, edit]);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let frame = client.next().await.unwrap();
            match Kind::from_number(frame.kind) {
                Some(Kind::Message) if record(&frame).0 == team => seen.push(record(&frame).1),
                Some(Kind::Message | Kind::Lagged) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((seen[1].kind, seen[1].content.len()), (RecordKind::RECALLED, 0), "by the log: {by_log}");
        assert_eq!(seen[0].content, Blob(Bytes::from(vec![1; 6])));
        assert_eq!(seen[2].content, seen[0].content);
        if !by_log {
            client.expect_after_lags(Kind::Left).await;
        }
        until("nothing is left of it", || !bench.delivery.has(&topic)).await;
        bench.stop().await;
    }
}

/// A recall may be among what was skipped.
#[tokio::test]
async fn what_waits_is_not_given_to_one_whose_session_was_begun_anew() {
    let bench = slow_bench().await;
    let (team, teams) = (group("team"), group("teams"));
    let mut client = bench.attached("ada", &team).await;
    bench.delivery.member_added(&teams, &user("ada"), 0);
    stall(&bench, "ada", MUCH).await;
    bench.publish(&team, 1..=3, 6);
    bench.publish(&teams, 1..=1, 6);
    let waiting = held(&bench, "ada");
    bench.delivery.lag(&Topic::Session(team.clone()), 9);
    assert!(held(&bench, "ada") < waiting, "they are let go at once");
    let (before, lagged) = until_lagged(&mut client).await;
    let kept: Vec<_> = before.iter().map(|frame| record(frame).0).collect();
    assert_eq!((kept, lagged), (vec![teams], vec![]));
    client.alive().await;
    until("all is written", || held(&bench, "ada") == 0).await;
    bench.stop().await;
}

impl Client {
    async fn expect_after_lags(&mut self, kind: Kind) {
        loop {
            let frame = self.next().await.unwrap();
            match Kind::from_number(frame.kind) {
                Some(Kind::Lagged | Kind::Message) => {}
                found => return assert_eq!(found, Some(kind)),
            }
        }
    }
}
