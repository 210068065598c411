//! How connections begin, live and end.

use rookery_wire::reply::GoAway;
use rookery_wire::request::Delivered;

use super::*;

#[tokio::test]
async fn a_send_is_acknowledged_and_pushed_to_the_others() {
    let bench = bench(|_, _| {}).await;
    let session = group("g");
    let mut ada = bench.attached("ada", &session).await;
    let mut bob = bench.attached("bob", &session).await;
    for number in 1..=50u64 {
        ada.send(Kind::Send, number as u32, &send(&session, number, format!("text {number}").as_bytes()))
            .await;
    }
    for number in 1..=50 {
        // Acks only: the sending device is not pushed its own.
        let (frame, ack) = ada.expect::<Ack>(Kind::Ack).await;
        assert_eq!((frame.request_id, ack.seq), (number, u64::from(number)));
        let record = bob.message().await;
        assert_eq!(record.seq, u64::from(number));
        assert_eq!(record.content, Blob::from(format!("text {number}").as_str()));
    }
    bench.stop().await;
}

#[tokio::test]
async fn frames_sent_before_the_welcome_are_served_after_it() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.raw().await;
    let mut bytes = frame_bytes(Kind::Hello, 1, &hello("ada", "phone")).to_vec();
    bytes.extend(frame_bytes(Kind::Ping, 2, &()));
    client.bytes(&bytes).await;
    client.expect::<Welcome>(Kind::Welcome).await;
    client.expect::<()>(Kind::Pong).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_node_tells_for_how_long_it_holds_a_request() {
    let bench = bench(|_, timing| timing.request_deadline_ms = 60_000).await;
    let mut client = bench.raw().await;
    client.send(Kind::Hello, 1, &hello("ada", "phone")).await;
    let (_, welcome) = client.expect::<Welcome>(Kind::Welcome).await;
    assert_eq!(welcome.deadline_ms, 60_000);
    bench.stop().await;
}

#[tokio::test]
async fn a_newer_connection_of_a_device_replaces_the_older() {
    let bench = bench(|_, _| {}).await;
    let session = group("g");
    let mut older = bench.attached("ada", &session).await;
    let mut newer = bench.attached("ada", &session).await;
    let (_, goodbye) = older.expect::<GoAway>(Kind::GoAway).await;
    assert_eq!(goodbye.code, ErrorCode::DeviceReplaced);
    older.closed().await;
    newer.alive().await;
    until("one left", || bench.delivery.stats().receivers == 1).await;
    assert_eq!(bench.gateway.connections(), 1);
    bench.publish(&session, 1..=1, 3);
    assert_eq!(newer.message().await.seq, 1);
    let mut other = bench.client("ada", "desk").await;
    other.alive().await;
    newer.alive().await;
    bench.stop().await;
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let bench = bench(|_, timing| {
        timing.idle_ms = 400;
        timing.hello_ms = 150;
    })
    .await;
    let mut silent = bench.raw().await;
    silent.refused(0, ErrorCode::HelloRequired).await;
    silent.closed().await;
    let mut client = bench.client("ada", "phone").await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        client.alive().await;
    }
    let (_, goodbye) = client.expect::<GoAway>(Kind::GoAway).await;
    assert_eq!(goodbye.code, ErrorCode::Idle);
    client.closed().await;
    until("gone", || bench.gateway.connections() == 0).await;
    bench.stop().await;
}

#[tokio::test]
async fn stopping_tells_everyone() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    let watching = tokio::spawn(async move {
        let (_, goodbye) = client.expect::<GoAway>(Kind::GoAway).await;
        client.closed().await;
        goodbye.code
    });
    bench.stop().await;
    assert_eq!(watching.await.unwrap(), ErrorCode::ShuttingDown);
}

#[tokio::test]
async fn what_was_asked_before_the_goodbye_is_answered_after_it() {
    let bench = bench(|_, _| {}).await;
    let session = group("g");
    let mut asking = bench.attached("ada", &session).await;
    let mut idle = bench.client("bob", "phone").await;
    bench.shard.mute.store(true, Ordering::Relaxed);
    for number in 1..=3u64 {
        asking.send(Kind::Send, 100 + number as u32, &send(&session, number, b"in time")).await;
    }
    until("on their way", || bench.shard.taken.lock().len() == 3).await;
    let clients = async {
        for client in [&mut asking, &mut idle] {
            let (_, goodbye) = client.expect::<GoAway>(Kind::GoAway).await;
            assert_eq!(goodbye.code, ErrorCode::ShuttingDown);
        }
        // Nothing is owed to this one.
        idle.closed().await;
        bench.shard.mute.store(false, Ordering::Relaxed);
        let taken = std::mem::take(&mut *bench.shard.taken.lock());
        bench.shard.submit(1, taken);
        for number in 101..=103 {
            assert_eq!(asking.expect::<Ack>(Kind::Ack).await.0.request_id, number);
        }
        asking.closed().await;
    };
    let stop = async {
        bench.gateway.stop().await;
        assert_eq!(bench.gateway.connections(), 0);
    };
    timeout(Duration::from_secs(10), async { tokio::join!(clients, stop) })
        .await
        .expect("answered and closed");
    bench.stop().await;
}

#[tokio::test]
async fn who_is_owed_an_answer_that_does_not_come_is_let_go_all_the_same() {
    let bench = bench(|_, _| {}).await;
    let session = group("g");
    let mut asking = bench.attached("ada", &session).await;
    bench.shard.mute.store(true, Ordering::Relaxed);
    asking.send(Kind::Send, 7, &send(&session, 1, b"too late")).await;
    until("on its way", || !bench.shard.taken.lock().is_empty()).await;
    let begun = std::time::Instant::now();
    bench.gateway.stop().await;
    assert!(begun.elapsed() >= FAREWELL, "it was waited for");
    asking.expect::<GoAway>(Kind::GoAway).await;
    asking.closed().await;
    bench.stop().await;
}

#[tokio::test]
async fn requests_are_timed_by_kind() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    for number in 1..=3 {
        client.send(Kind::Send, number as u32, &send(&group("g"), number, b"hello")).await;
        client.expect::<Ack>(Kind::Ack).await;
    }
    client
        .send(
            Kind::ListDevices,
            5,
            &rookery_wire::own::ListDevices { on_behalf_of: None, after: None, limit: 9 },
        )
        .await;
    client.expect::<rookery_wire::own::DevicePage>(Kind::DevicePage).await;
    let counts = || {
        let of = bench.gateway.times().into_iter();
        of.map(|of| (of.kind, of.buckets.iter().map(|(_, count)| count).sum())).collect::<Vec<(Kind, u64)>>()
    };
    until("timed", || counts() == [(Kind::Send, 3), (Kind::ListDevices, 1)]).await;
    bench.stop().await;
}

#[tokio::test]
async fn delivered_cursors_are_gathered_and_raised() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    bench.shard.heads.lock().extend([(group("g"), 33), (group("h"), 1)]);
    let cursors = |seq| Delivered { cursors: vec![(group("g"), seq), (group("h"), 1)] };
    let replicated = || {
        let commands = bench.shard.commands.lock();
        commands
            .iter()
            .filter_map(|command| match command {
                Command::Delivered { cursors, .. } => Some(cursors.clone()),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    for seq in [3, 9, 5] {
        client.send(Kind::Delivered, 0, &cursors(seq)).await;
    }
    client.alive().await;
    // In one command or in several, as the pace has it.
    until("replicated", || replicated().iter().flatten().any(|cursor| *cursor == (group("g"), 9))).await;
    client.send(Kind::Delivered, 7, &cursors(20)).await;
    let (frame, ()) = client.expect(Kind::Ok).await;
    assert_eq!(frame.request_id, 7);
    assert!(replicated().pop().unwrap().contains(&(group("g"), 20)), "OK before it was replicated");
    client.send(Kind::Delivered, 8, &Delivered { cursors: Vec::new() }).await;
    client.expect::<()>(Kind::Ok).await;
    // What was not sent yet leaves when the connection ends.
    client.send(Kind::Delivered, 0, &cursors(33)).await;
    drop(client);
    until("the last cursors", || replicated().iter().flatten().any(|cursor| *cursor == (group("g"), 33)))
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn no_device_has_what_is_not_there() {
    let bench = bench(|_, _| {}).await;
    bench.shard.heads.lock().extend([(group("g"), 20), (group("h"), 5), (group("theirs"), 7)]);
    bench.shard.refused.lock().insert(group("theirs"), ErrorCode::NotMember);
    let far = UserSession { delivered_seq: u64::MAX, ..lists::listed(group("h")) };
    bench.shard.list.lock().extend([lists::listed(group("g")), far]);
    let mut client = bench.client("ada", "phone").await;
    let moved = || {
        let commands = bench.shard.commands.lock();
        commands.iter().filter(|command| matches!(command, Command::Delivered { .. })).count()
    };
    for seq in [21, u64::MAX] {
        let cursors = vec![(group("h"), 5), (group("g"), 3), (group("g"), seq)];
        client.send(Kind::Delivered, 7, &Delivered { cursors }).await;
        let error = client.refused(7, ErrorCode::BeyondEnd).await;
        assert_eq!(error.detail, 20, "{error}");
    }
    assert_eq!(moved(), 0, "all or nothing");
    // Where a session ends of which one is no member, nobody is told.
    let cursors = vec![(group("g"), 20), (group("theirs"), 8)];
    client.send(Kind::Delivered, 8, &Delivered { cursors }).await;
    client.expect::<()>(Kind::Ok).await;
    assert_eq!(moved(), 1);
    // What was said once is told only as far as it can be true.
    let page = lists::page(&mut client, Blob::default(), 10).await;
    let told = |name| page.sessions.iter().find(|line| line.session == group(name)).unwrap().delivered_seq;
    assert_eq!((told("g"), told("h")), (0, 5));
    bench.stop().await;
}

#[tokio::test]
async fn a_device_that_comes_again_stays_or_goes_is_said_to_be_in_use() {
    let bench = bench(|_, _| {}).await;
    let said = || {
        let commands = bench.shard.commands.lock();
        let is_it =
            |command: &&Command| matches!(command, Command::Delivered { cursors, .. } if cursors.is_empty());
        commands.iter().filter(is_it).count()
    };
    let mut client = bench.client("ada", "phone").await;
    client.alive().await;
    drop(client);
    until("it has gone", || bench.gateway.connections() == 0).await;
    assert_eq!(said(), 0, "its registration has said so, and just now");

    let mut client = bench.raw().await;
    client.send(Kind::Hello, 1, &Hello { epoch: 1, ..hello("ada", "phone") }).await;
    client.expect::<Welcome>(Kind::Welcome).await;
    until("it came", || said() == 1).await;
    client.alive().await;
    let connection = bench.gateway.core.devices.iter().next().unwrap().value().clone();
    connection.cursors.silent_for_long();
    client.alive().await;
    until("it stays", || said() == 2).await;
    connection.cursors.silent_for_long();
    drop(client);
    until("it went", || said() == 3).await;
    bench.stop().await;
}
