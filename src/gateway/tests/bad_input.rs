//! Whatever a client sends, it gets one clear answer, and nobody else notices.

use rookery_wire::Extension;
use rookery_wire::request::{Consistency, Direction, Members, Pull};

use super::*;

#[tokio::test]
async fn a_length_that_lies_ends_the_connection_with_one_error() {
    let bench = bench(|limits, _| limits.frame = 20_000).await;
    let cases: [(&[u8], ErrorCode); 3] = [
        (&[0xff, 0xff, 0xff, 0x7f, 1, 2], ErrorCode::FrameTooLarge),
        (&[7, 0, 0, 0, 1, 2, 0], ErrorCode::BadFrame),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ErrorCode::FrameTooLarge),
    ];
    for (bytes, code) in cases {
        // Before HELLO and after it.
        let mut early = bench.raw().await;
        early.bytes(bytes).await;
        early.refused(0, code).await;
        early.closed().await;
        let mut late = bench.client("ada", "phone").await;
        late.bytes(bytes).await;
        late.refused(0, code).await;
        late.closed().await;
    }
    let mut newer = bench.client("ada", "phone").await;
    newer.bytes(&[8, 0, 0, 0, 2, 11, 0, 0, 1, 0, 0, 0]).await;
    newer.refused(0, ErrorCode::VersionUnsupported).await;
    newer.closed().await;
    bench.stop().await;
}

#[tokio::test]
async fn a_frame_that_never_ends_harms_nobody() {
    let bench = bench(|_, _| {}).await;
    let mut half = bench.client("ada", "phone").await;
    let frame = frame_bytes(Kind::Send, 5, &send(&group("g"), 1, &[0; 5000]));
    half.bytes(&frame[..3000]).await;
    let mut other = bench.client("bob", "phone").await;
    other.alive().await;
    drop(half);
    until("gone", || bench.gateway.connections() == 1).await;
    assert!(bench.shard.commands.lock().iter().all(|command| !matches!(command, Command::Act { .. })));
    bench.stop().await;
}

#[tokio::test]
async fn hello_comes_first_and_once() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.raw().await;
    client.send(Kind::Ping, 3, &()).await;
    client.refused(3, ErrorCode::HelloRequired).await;
    client.closed().await;

    let mut client = bench.client("ada", "phone").await;
    client.send(Kind::Hello, 8, &hello("ada", "phone")).await;
    client.refused(8, ErrorCode::AlreadyWelcome).await;
    client.alive().await;
    bench.stop().await;
}

#[tokio::test]
async fn a_hello_that_cannot_be_is_refused() {
    let bench = bench(|_, _| {}).await;
    let mut newer = hello("ada", "phone");
    (newer.min_version, newer.max_version) = (2, 9);
    let mut stranger = hello("ada", "phone");
    stranger.epoch = 77;
    let mut talkative = hello("ada", "phone");
    talkative.agent = Blob::from("x".repeat(65).as_str());
    for (hello, code) in [
        (newer, ErrorCode::VersionUnsupported),
        (stranger, ErrorCode::BadEpoch),
        (talkative, ErrorCode::AgentTooLong),
    ] {
        let mut client = bench.raw().await;
        client.send(Kind::Hello, 6, &hello).await;
        client.refused(6, code).await;
        client.closed().await;
    }
    let mut client = bench.raw().await;
    client.bytes(b"\x89RKpeer\n\x01\x00and so on").await;
    client.refused(0, ErrorCode::WrongPort).await;
    client.closed().await;
    bench.stop().await;
}

#[tokio::test]
async fn what_is_not_understood_is_an_error_and_not_an_end() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    for kind in [0u8, 77, 130, 255] {
        client.bytes(&[8, 0, 0, 0, 1, kind, 0, 0, 9, 0, 0, 0]).await;
        client.refused(9, ErrorCode::UnknownKind).await;
    }
    let frame = frame_bytes(Kind::Send, 5, &send(&group("g"), 1, b"hello"));
    let mut short = frame.to_vec();
    short.truncate(frame.len() - 3);
    let mut long = frame.to_vec();
    long.push(0);
    for mut bad in [short, long] {
        let length = (bad.len() - 4) as u32;
        bad[..4].copy_from_slice(&length.to_le_bytes());
        client.bytes(&bad).await;
        client.refused(5, ErrorCode::BadFrame).await;
    }
    client.alive().await;
    assert!(bench.shard.heads.lock().is_empty(), "something was stored");
    bench.stop().await;
}

#[tokio::test]
async fn what_may_not_be_is_refused_before_the_log() {
    let bench = bench(|limits, _| limits.content = 1000).await;
    let mut client = bench.client("ada", "phone").await;
    let others = SessionId::direct(&user("bob"), &user("eve")).unwrap();
    let mut named = send(&group("g"), 1, b"x");
    named.on_behalf_of = Some(user("bob"));
    let mut labelled = send(&group("g"), 1, b"x");
    labelled.content_type = Blob::from("y".repeat(65).as_str());
    let mut extended = send(&group("g"), 1, b"x");
    extended.extensions = vec![Extension { tag: 1, data: Blob::default() }; 17];
    let mut heavy = send(&group("g"), 1, b"x");
    heavy.extensions = vec![Extension { tag: 1, data: Blob(Bytes::from(vec![0; 1366])) }; 3];
    let sends = [
        (send(&others, 1, b"x"), ErrorCode::Forbidden),
        (named, ErrorCode::Forbidden),
        (send(&group("g"), 0, b"x"), ErrorCode::BadRequest),
        (labelled, ErrorCode::ContentTypeTooLong),
        (extended, ErrorCode::TooManyExtensions),
        (heavy, ErrorCode::ExtensionsTooLarge),
        (send(&group("g"), 1, &[0; 1001]), ErrorCode::ContentTooLarge),
    ];
    for (request, (send, code)) in (10..).zip(sends) {
        client.send(Kind::Send, request, &send).await;
        client.refused(request, code).await;
    }
    let members = |session: &SessionId, users: usize| Members {
        session: session.clone(),
        client_seq: 1,
        on_behalf_of: None,
        users: (0..users).map(|number| user(&format!("u{number}"))).collect(),
    };
    let direct = SessionId::direct(&user("ada"), &user("bob")).unwrap();
    for (request, (kind, body, code)) in (30..).zip([
        (Kind::CreateGroup, members(&direct, 2), ErrorCode::BadRequest),
        (Kind::AddMembers, members(&group("g"), 0), ErrorCode::BadRequest),
        (Kind::AddMembers, members(&group("g"), 1001), ErrorCode::TooManyUsers),
    ]) {
        client.send(kind, request, &body).await;
        client.refused(request, code).await;
    }
    let mut pull = Pull {
        session: others,
        from_seq: 1,
        direction: Direction::Forward,
        max_count: 1,
        max_bytes: 1,
        consistency: Consistency::Linearizable,
    };
    client.send(Kind::Pull, 40, &pull).await;
    client.refused(40, ErrorCode::Forbidden).await;
    pull.session = group("g");
    pull.consistency = Consistency::Replica;
    client.send(Kind::Pull, 41, &pull).await;
    client.refused(41, ErrorCode::Forbidden).await;

    // No number was consumed by any of them.
    client.send(Kind::Send, 50, &send(&group("g"), 1, &[0; 1000])).await;
    let (_, ack) = client.expect::<Ack>(Kind::Ack).await;
    assert_eq!((ack.client_seq, ack.seq), (1, 1));
    bench.stop().await;
}

/// Random bytes and damaged frames: an error or an end, never a hang or a fall; others are served on.
#[tokio::test]
async fn noise_harms_nobody() {
    use rookery_raft::Entropy;
    const SEED: u64 = 99;
    println!("seed {SEED}");
    let draws = SeededEntropy::new(SEED);
    let bench = bench(|_, timing| timing.hello_ms = 200).await;
    let mut witness = bench.client("witness", "phone").await;
    let good = frame_bytes(Kind::Send, 5, &send(&group("g"), 1, b"hello"));
    for round in 0..60 {
        let mut client =
            if round % 2 == 0 { bench.raw().await } else { bench.client("noise", "phone").await };
        let mut bytes: Vec<u8> = good.repeat(4);
        for _ in 0..1 + draws.u64() % 6 {
            let at = (draws.u64() % bytes.len() as u64) as usize;
            bytes[at] = draws.u64() as u8;
        }
        bytes.truncate((draws.u64() % bytes.len() as u64) as usize);
        let _ = client.socket.write_all(&bytes).await;
        client.socket.shutdown().await.unwrap();
        while client.next().await.is_some() {}
    }
    witness.alive().await;
    bench.stop().await;
}
