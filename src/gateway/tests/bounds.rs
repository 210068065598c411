//! One client, however it behaves, holds a bounded amount and slows nobody else.

use rookery_wire::reply::{Lagged, Left};
use rookery_wire::request::{Consistency, Delivered, Direction, Pull};

use super::*;

fn held(bench: &Bench, name: &str) -> usize {
    let core = &bench.gateway.core;
    core.devices.iter().find(|entry| entry.key().0 == user(name)).map_or(0, |entry| entry.out.bytes())
}

#[tokio::test]
async fn beyond_the_window_nothing_more_is_read() {
    let bench = bench(|limits, _| limits.window = 8).await;
    let mut client = bench.client("ada", "phone").await;
    bench.shard.mute.store(true, Ordering::Relaxed);
    for number in 1..=100u64 {
        client.send(Kind::Send, number as u32, &send(&group("g"), number, b"x")).await;
    }
    until("the window is full", || bench.shard.taken.lock().len() == 8).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.shard.taken.lock().len(), 8, "read beyond the window");
    // Each answer lets another request in, in order.
    bench.shard.mute.store(false, Ordering::Relaxed);
    let taken = std::mem::take(&mut *bench.shard.taken.lock());
    bench.shard.submit(1, taken);
    for number in 1..=100 {
        let (frame, ack) = client.expect::<Ack>(Kind::Ack).await;
        assert_eq!(
            (frame.request_id, ack.client_seq, ack.seq),
            (number, u64::from(number), u64::from(number))
        );
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_stopped_reader_lags_and_holds_no_more_than_its_queue() {
    const QUEUE: u32 = 64 << 10;
    const MESSAGES: u64 = 30_000;
    let bench = bench(|limits, _| limits.queue_bytes = QUEUE).await;
    let session = group("g");
    let mut slow = bench.attached("slow", &session).await;
    let mut fast = bench.attached("fast", &session).await;
    let reading = tokio::spawn(async move {
        let mut last = 0;
        let mut lags = 0;
        while last < MESSAGES {
            let frame = fast.next().await.unwrap();
            match Kind::from_number(frame.kind) {
                Some(Kind::Message) => {
                    let seq = decode::<Message>(&frame.body).unwrap().record.seq;
                    assert!(seq > last);
                    last = seq;
                }
                Some(Kind::Lagged) => lags += 1,
                other => panic!("{other:?}"),
            }
        }
        lags
    });
    let mut most = 0;
    for seq in 1..=MESSAGES {
        bench.publish(&session, seq..=seq, 1000);
        most = most.max(held(&bench, "slow"));
        if seq.is_multiple_of(20) {
            // The fast reader is given its turn; the slow one takes nothing in any case.
            tokio::task::yield_now().await;
            if held(&bench, "fast") > QUEUE as usize / 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    assert!(most <= QUEUE as usize, "held {most} bytes");
    assert_eq!(
        timeout(Duration::from_secs(20), reading).await.unwrap().unwrap(),
        0,
        "the fast reader lagged"
    );
    assert!(bench.delivery.stats().lags >= 1, "the slow reader never lagged");

    // It reads again: what was queued, then word of what was not, then live.
    let mut last = 0;
    let live_from = loop {
        let frame = slow.next().await.unwrap();
        match Kind::from_number(frame.kind) {
            Some(Kind::Message) => {
                let seq = decode::<Message>(&frame.body).unwrap().record.seq;
                assert_eq!(seq, last + 1, "whole up to where it lags");
                last = seq;
            }
            Some(Kind::Lagged) => {
                let lagged: Lagged = decode(&frame.body).unwrap();
                assert_eq!(lagged.sessions.len(), 1);
                break lagged.sessions[0].1;
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(last < MESSAGES && live_from == MESSAGES + 1, "{last} {live_from}");
    bench.publish(&session, live_from..=live_from, 10);
    assert_eq!(slow.message().await.seq, live_from);
    bench.stop().await;
}

#[tokio::test]
async fn pages_asked_and_not_taken_are_not_made() {
    const QUEUE: u32 = 256 << 10;
    let bench = bench(|limits, _| limits.queue_bytes = QUEUE).await;
    bench.shard.page_bytes.store(200 << 10, Ordering::Relaxed);
    let mut client = bench.client("ada", "phone").await;
    let pull = Pull {
        session: group("g"),
        from_seq: 1,
        direction: Direction::Forward,
        max_count: 1,
        max_bytes: 1 << 20,
        consistency: Consistency::Linearizable,
    };
    for request in 0..400 {
        client.send(Kind::Pull, request, &pull).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let most = held(&bench, "ada");
    assert!(most <= QUEUE as usize / 2 + 4 * (201 << 10), "held {most} bytes");
    assert!(bench.shard.reads.load(Ordering::Relaxed) < 400, "read everything at once");
    for _ in 0..400 {
        client.expect::<Page>(Kind::Page).await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_node_that_is_full_says_so() {
    let bench = bench(|limits, _| limits.connections = 2).await;
    let first = bench.client("ada", "phone").await;
    let _second = bench.client("bob", "phone").await;
    let mut third = bench.raw().await;
    third.refused(0, ErrorCode::TooManyConnections).await;
    third.closed().await;
    drop(first);
    until("gone", || bench.gateway.connections() == 1).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let mut again = bench.raw().await;
        again.send(Kind::Hello, 1, &hello("eve", "phone")).await;
        let frame = again.next().await.unwrap();
        if frame.kind == Kind::Welcome as u8 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "never let in again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.stop().await;
}

/// Cursors of ada's that wait, and commands with cursors on their way.
fn cursors(bench: &Bench) -> (usize, usize) {
    let core = &bench.gateway.core;
    core.devices
        .iter()
        .find(|entry| entry.key().0 == user("ada"))
        .map_or((0, 0), |entry| entry.cursors.counts())
}

#[tokio::test]
async fn delivered_that_nobody_answers_holds_a_bounded_amount() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    bench.shard.mute.store(true, Ordering::Relaxed);
    for round in 0..5 {
        let cursors = (0..10_000).map(|number| (group(&format!("g{round}-{number}")), 1)).collect();
        client.send(Kind::Delivered, 0, &Delivered { cursors }).await;
    }
    client.alive().await;
    until("sent", || !bench.shard.taken.lock().is_empty()).await;
    client.alive().await;
    let (waiting, on_their_way) = cursors(&bench);
    assert!(waiting <= 10_000, "{waiting} wait");
    // While those are on their way no others follow, though the flusher has had its turns.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((bench.shard.taken.lock().len(), cursors(&bench).1), (on_their_way, on_their_way));
    assert!(on_their_way <= 20, "{on_their_way} commands on their way");
    bench.shard.mute.store(false, Ordering::Relaxed);
    let taken = std::mem::take(&mut *bench.shard.taken.lock());
    bench.shard.submit(1, taken);
    until("all is sent", || cursors(&bench) == (0, 0)).await;
    bench.stop().await;
}

#[tokio::test]
async fn cursors_refused_for_good_do_not_come_back() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    bench.shard.mute.store(true, Ordering::Relaxed);
    client.send(Kind::Delivered, 0, &Delivered { cursors: vec![(group("g"), 3)] }).await;
    let taken = || bench.shard.taken.lock().len();
    let refuse = |code| {
        let taken = std::mem::take(&mut *bench.shard.taken.lock());
        let refused = |s: Submission| (s.origin, Answer::Refused(ErrorBody::new(code, "no")));
        bench.shard.answers.answer(1, taken.into_iter().map(refused).collect());
    };
    until("sent", || taken() == 1).await;
    refuse(ErrorCode::DiskLow);
    until("sent again, for that may pass", || taken() == 1).await;
    refuse(ErrorCode::Frozen);
    until("answered", || cursors(&bench).1 == 0).await;
    assert_eq!((cursors(&bench), taken()), ((0, 0), 0));
    bench.stop().await;
}

#[tokio::test]
async fn ok_to_a_delivered_speaks_for_all_its_parts() {
    let bench = bench(|_, _| {}).await;
    bench.shard.heads.lock().extend((0..1001).map(|number| (group(&format!("g{number}")), 1)));
    let mut client = bench.client("ada", "phone").await;
    for refused in [Some(0), Some(1), None] {
        bench.shard.mute.store(true, Ordering::Relaxed);
        let cursors = (0..1001).map(|number| (group(&format!("g{number}")), 1)).collect();
        client.send(Kind::Delivered, 7, &Delivered { cursors }).await;
        let taken = || bench.shard.taken.lock().len();
        until("in three parts", || taken() == 3).await;
        for (at, part) in std::mem::take(&mut *bench.shard.taken.lock()).into_iter().enumerate() {
            let full = ErrorBody::new(ErrorCode::Frozen, "no");
            let answer = if refused == Some(at) { Answer::Refused(full) } else { Answer::Done };
            bench.shard.answers.answer(1, vec![(part.origin, answer)]);
        }
        match refused {
            Some(_) => drop(client.refused(7, ErrorCode::Frozen).await),
            None => assert_eq!(client.expect::<()>(Kind::Ok).await.0.request_id, 7),
        }
        bench.shard.mute.store(false, Ordering::Relaxed);
    }
    bench.stop().await;
}

#[tokio::test]
async fn news_to_one_who_does_not_read_is_bounded() {
    const QUEUE: u32 = 64 << 10;
    let bench = bench(|limits, _| limits.queue_bytes = QUEUE).await;
    let mut client = bench.attached("ada", &group("g")).await;
    let left = frame_bytes(Kind::Left, 0, &Left { session: group(&"x".repeat(64)) });
    let news = vec![Push { seq: 0, frame: left, from: None, replaces: None }; 500];
    let mut rounds = 0;
    while bench.delivery.stats().lags == 0 || held(&bench, "ada") < QUEUE as usize / 2 {
        bench.delivery.publish_user(&user("ada"), &news);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(held(&bench, "ada") <= QUEUE as usize, "held {} bytes", held(&bench, "ada"));
        rounds += 1;
        assert!(rounds < 10_000, "the client's sockets take everything");
    }
    // It reads again: what was queued, and that it must sync for what was not.
    loop {
        let frame = client.next().await.unwrap();
        match Kind::from_number(frame.kind) {
            Some(Kind::Left) => {}
            Some(Kind::Lagged) => break assert!(decode::<Lagged>(&frame.body).unwrap().sessions.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    bench.stop().await;
}

#[test]
fn a_page_is_configured_within_what_a_shard_gives() {
    let limits = crate::config::SECTIONS.iter().find(|section| section.name == "limits").unwrap();
    let page = limits.keys.iter().find(|key| key.name == "page").unwrap();
    assert_eq!(page.kind.allowed(), format!("1 to {} records", crate::shard::reads::MAX_PAGE));
}
