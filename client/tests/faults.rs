//! Servers that misbehave or go away, and devices that restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_client::wire::reply::{Ack, GoAway, Joined, Page, Welcome};
use rookery_client::wire::request::{self, Direction, Hello, Pull};
use rookery_client::wire::{Blob, ErrorCode, Extension, Kind, Retry};
use rookery_client::{Client, ClientError, Event, Memory, Options, Outgoing};
use support::{Fake, connect, next, record, room, summary, texts, welcome, within};

#[tokio::test]
async fn no_server_at_all_is_a_deadline_that_says_why() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = free.local_addr().unwrap().to_string();
    drop(free);
    let mut options = Options::new([addr], "ann".parse().unwrap(), "laptop".parse().unwrap());
    options.request_deadline = Duration::from_millis(300);
    let error = within("connect", Client::connect(options)).await.unwrap_err();
    let ClientError::Deadline { last, .. } = &error else { panic!("{error}") };
    assert!(last.contains("refused"), "{last}");
}

#[tokio::test]
async fn a_silent_server_is_left_for_the_next_seed() {
    let (deaf, fake) = (Fake::start().await, Fake::start().await);
    let mut options = fake.options();
    options.seeds.insert(0, deaf.addr.clone());
    options.connect_timeout = Duration::from_millis(200);
    let connecting = connect(options);
    let mut peer = deaf.accept().await;
    peer.expect::<Hello>(Kind::Hello).await;
    fake.accept_ready(vec![]).await;
    within("connect", connecting).await.unwrap().unwrap();
    peer.ended().await;
}

#[tokio::test]
async fn a_bad_token_ends_the_attempt_at_once() {
    let fake = Fake::start().await;
    let mut options = fake.options();
    options.token = Some("secret".to_owned());
    let connecting = connect(options);
    let mut peer = fake.accept().await;
    let (id, hello) = peer.expect::<Hello>(Kind::Hello).await;
    assert_eq!(hello.token, Blob::from("secret"));
    peer.error(id, ErrorCode::BadToken, Retry::Never, 0).await;
    let error = within("connect", connecting).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::BadToken));
}

#[tokio::test]
async fn a_server_that_is_full_is_left_for_another() {
    let (full, fake) = (Fake::start().await, Fake::start().await);
    let mut options = fake.options();
    options.seeds.insert(0, full.addr.clone());
    let connecting = connect(options);
    let mut peer = full.accept().await;
    let (id, _) = peer.expect::<Hello>(Kind::Hello).await;
    peer.error(id, ErrorCode::TooManyConnections, Retry::Reconnect, 0).await;
    fake.accept_ready(vec![]).await;
    within("connect", connecting).await.unwrap().unwrap();
}

#[tokio::test]
async fn goaway_moves_to_another_node_and_what_was_in_flight_follows() {
    let (old, new) = (Fake::start().await, Fake::start().await);
    let mut options = old.options();
    options.seeds.push(new.addr.clone());
    let (client, mut events, mut peer) = old.client(options, vec![summary(0, 0)]).await;
    let send = client.send_pipelined(&room(), Outgoing::text("x")).await.unwrap();
    peer.take(1, "x").await;
    let away = GoAway { code: ErrorCode::ShuttingDown, text: Blob::from("upgrade"), after_ms: 0 };
    peer.send(Kind::GoAway, 0, &away).await;
    let mut peer = new.accept_ready(vec![summary(0, 0)]).await;
    let id = peer.take(1, "x").await;
    peer.ack(id, 1, 1).await;
    within("ACK", send).await.unwrap();
    let Event::Disconnected { reason } = next(&mut events).await else { panic!() };
    assert!(reason.contains("upgrade"), "{reason}");
    assert_eq!(next(&mut events).await, Event::Connected { node: 3, addr: new.addr.clone() });
}

#[tokio::test]
async fn a_replaced_device_does_not_fight() {
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let away = GoAway { code: ErrorCode::DeviceReplaced, text: Blob::from("again"), after_ms: 0 };
    peer.send(Kind::GoAway, 0, &away).await;
    assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    assert_eq!(within("the end", events.recv()).await, None);
    let error = client.send(&room(), Outgoing::text("x")).await.unwrap_err();
    assert!(error.to_string().contains("DEVICE_REPLACED"), "{error}");
}

#[tokio::test]
async fn an_idle_connection_is_kept_alive_and_a_dead_one_noticed() {
    let fake = Fake::start().await;
    let mut options = fake.options();
    options.silence = Duration::from_millis(400);
    let connecting = connect(options);
    let mut peer = fake.accept().await;
    let mut short = welcome();
    short.idle_ms = 300;
    peer.welcome(short).await;
    peer.sync(vec![]).await;
    let (_client, mut events) = within("connect", connecting).await.unwrap().unwrap();
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    let (id, ()) = peer.expect(Kind::Ping).await;
    peer.send(Kind::Pong, id, &()).await;
    peer.expect::<()>(Kind::Ping).await;
    let Event::Disconnected { reason } = next(&mut events).await else { panic!() };
    assert!(reason.contains("silent"), "{reason}");
}

#[tokio::test]
async fn ping_tells_the_time_there_and_back() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![]).await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.ping().await }
    });
    let (id, ()) = peer.expect(Kind::Ping).await;
    peer.send(Kind::Pong, id, &()).await;
    assert!(within("PONG", asking).await.unwrap().unwrap() < support::PATIENCE);
    assert_eq!(client.node(), Some(3));
}

#[tokio::test]
async fn questions_survive_a_cut() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move {
            let how = rookery_client::wire::request::Consistency::Linearizable;
            client.pull(&room(), 0, Direction::Backward, 10, how).await
        }
    });
    peer.expect::<Pull>(Kind::Pull).await;
    drop(peer);
    let mut peer = fake.accept().await;
    peer.welcome(welcome()).await;
    // The list and the question come together, in either order.
    let mut waiting = 2;
    while waiting > 0 {
        let frame = peer.frame().await;
        if frame.kind == Kind::Pull as u8 {
            let page = Page { session: room(), first_seq: 1, last_seq: 1, records: vec![record(1)] };
            peer.send(Kind::Page, frame.request_id, &page).await;
        }
        waiting -= 1;
    }
    assert_eq!(within("PAGE", asking).await.unwrap().unwrap().records.len(), 1);
}

/// Each of these breaks the connection and nothing else: the next one works.
#[tokio::test]
async fn garbage_from_the_server_costs_a_connection_and_no_message() {
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let send = client.send_pipelined(&room(), Outgoing::text("x")).await.unwrap();
    for kind in 0..7 {
        let id = peer.take(1, "x").await;
        match kind {
            0 => peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
            1 => peer.raw(&[3, 0, 0, 0]).await,
            2 => peer.raw(&[0, 0, 0, 255]).await,
            3 => peer.send(Kind::Ack, id, &7u64).await,
            4 => peer.send(Kind::Pong, id, &()).await,
            5 => peer.send(Kind::Ok, 4_000_000, &()).await,
            _ => peer.ack(id, 2, 1).await,
        }
        peer.ended().await;
        peer = fake.accept_ready(vec![summary(0, 0)]).await;
    }
    // Kinds of a newer protocol are passed over.
    peer.raw(&[8, 0, 0, 0, 1, 250, 0, 0, 0, 0, 0, 0]).await;
    let id = peer.take(1, "x").await;
    peer.ack(id, 1, 1).await;
    assert_eq!(within("ACK", send).await.unwrap().seq, 1);
    loop {
        if let Event::Message { record, .. } = next(&mut events).await {
            assert_eq!((record.seq, record.sender.as_str()), (1, "ann"));
            return;
        }
    }
}

#[tokio::test]
async fn random_bytes_and_random_bodies_never_stop_it() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    for _ in 0..40 {
        let mut bytes: Vec<u8> = (0..random.random_range(0..60)).map(|_| random.random()).collect();
        if random.random_bool(0.7) {
            let kind = Kind::ALL[random.random_range(0..Kind::ALL.len())] as u8;
            let id: u8 = random.random_range(0..4);
            let length = bytes.len() as u32 + 8;
            let mut frame = length.to_le_bytes().to_vec();
            frame.extend([1, kind, 0, 0, id, 0, 0, 0]);
            frame.append(&mut bytes);
            bytes = frame;
        }
        peer.raw(&bytes).await;
        drop(peer);
        peer = fake.accept().await;
        peer.welcome(welcome()).await;
        peer.sync(vec![summary(0, 0)]).await;
    }
    let send = client.send_pipelined(&room(), Outgoing::text("x")).await.unwrap();
    let id = peer.take(1, "x").await;
    peer.ack(id, 1, 1).await;
    within("ACK", send).await.unwrap();
}

#[tokio::test]
async fn a_page_with_a_hole_is_not_believed() {
    let fake = Fake::start().await;
    let (_client, mut events, mut peer) = fake.client(fake.options(), vec![summary(3, 0)]).await;
    let (id, _) = peer.expect::<Pull>(Kind::Pull).await;
    let records = vec![record(1), record(3)];
    peer.send(Kind::Page, id, &Page { session: room(), first_seq: 1, last_seq: 3, records }).await;
    peer.ended().await;
    let mut peer = fake.accept_ready(vec![summary(3, 0)]).await;
    texts(&mut events, &["1"]).await;
    assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    peer.serve_pull(2..=3, 3).await;
    texts(&mut events, &["2", "3"]).await;
}

#[tokio::test]
async fn without_events_a_client_only_sends() {
    let fake = Fake::start().await;
    let (client, events, mut peer) = fake.client(fake.options(), vec![summary(9, 9)]).await;
    drop(events);
    peer.send(Kind::Joined, 0, &Joined { session: room(), live_from: 50 }).await;
    for number in 1..=3 {
        let send = client.send_pipelined(&room(), Outgoing::text("x")).await.unwrap();
        let id = peer.take(number, "x").await;
        peer.push(100 + number).await;
        peer.ack(id, number, 20 + number).await;
        within("ACK", send).await.unwrap();
    }
    assert_eq!(client.stats().pulls_for_gaps, 0);
}

#[tokio::test]
async fn a_client_without_handles_hangs_up() {
    let fake = Fake::start().await;
    let (client, events, mut peer) = fake.client(fake.options(), vec![]).await;
    drop((client, events));
    peer.ended().await;
}

#[tokio::test]
async fn what_no_frame_holds_is_refused_at_once_and_written_nowhere() {
    let fake = Fake::start().await;
    let connecting = connect(fake.options());
    let mut peer = fake.accept().await;
    let mut told = welcome();
    told.limits.frame = 16_384;
    peer.welcome(told).await;
    peer.sync(vec![summary(0, 0)]).await;
    let (client, _events) = within("connect", connecting).await.unwrap().unwrap();
    let long = |at| format!("{at:064}").parse().unwrap();
    let many: Vec<_> = (0..400).map(long).collect();
    for refused in [
        client.add_members(&room(), &many).await.map(drop),
        client.send(&room(), extended(4097)).await.map(drop),
    ] {
        assert!(matches!(refused, Err(ClientError::Invalid(_))), "{refused:?}");
    }
    let adding = tokio::spawn(async move { client.add_members(&room(), &many[..100]).await });
    let (_, members) = peer.expect::<request::Members>(Kind::AddMembers).await;
    assert_eq!((members.client_seq, members.users.len()), (1, 100));
    adding.abort();
}

fn extended(bytes: usize) -> Outgoing {
    let mut outgoing = Outgoing::text("x");
    outgoing.extensions.push(Extension { tag: 2000, data: Blob(vec![0u8; bytes].into()) });
    outgoing
}

fn remembering(fake: &Fake, folder: &tempfile::TempDir) -> Options {
    let mut options = fake.options();
    options.memory = Memory::File(folder.path().join("deep/memory.json"));
    options.random_seed = None;
    options
}

#[tokio::test]
async fn a_closed_device_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(remembering(&fake, &folder), vec![summary(0, 0)]).await;
    let send = client.send_pipelined(&room(), Outgoing::text("x")).await.unwrap();
    let id = peer.take(1, "x").await;
    peer.ack(id, 1, 1).await;
    within("ACK", send).await.unwrap();
    peer.push(2).await;
    texts(&mut events, &["x", "2"]).await;
    peer.skip_delivered = false;
    drop(events);
    // It is told that nobody listens before it is told to end.
    peer.expect::<request::Delivered>(Kind::Delivered).await;
    within("close", client.close()).await;

    let connecting = connect(remembering(&fake, &folder));
    let mut peer = fake.accept_ready(vec![summary(3, 0)]).await;
    let hello = peer.hello.clone().unwrap();
    assert_eq!(hello.epoch, 1, "numbers go on, so the epoch does");
    let (client, mut events) = within("connect", connecting).await.unwrap().unwrap();
    assert_eq!(peer.serve_pull(3..=3, 3).await.from_seq, 3);
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    texts(&mut events, &["3"]).await;
    let send = client.send_pipelined(&room(), Outgoing::text("y")).await.unwrap();
    let id = peer.take(2, "y").await;
    peer.ack(id, 2, 4).await;
    within("ACK", send).await.unwrap();
}

#[tokio::test]
async fn a_device_that_died_registers_anew_and_keeps_what_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(remembering(&fake, &folder), vec![summary(0, 0)]).await;
    peer.push(1).await;
    peer.push(2).await;
    texts(&mut events, &["1", "2"]).await;
    // An unanswered send leaves its number in doubt, as a kill does.
    let _send = client.send_pipelined(&room(), Outgoing::text("x")).await.unwrap();
    peer.take(1, "x").await;
    let before = peer.hello.clone().unwrap();
    drop(events);
    within("close", client.close()).await;

    let connecting = connect(remembering(&fake, &folder));
    let mut peer = fake.accept().await;
    peer.welcome(Welcome { epoch: 2, ..welcome() }).await;
    peer.sync(vec![summary(2, 0)]).await;
    let hello = peer.hello.clone().unwrap();
    assert_eq!(hello.epoch, 0);
    assert_ne!(hello.nonce, before.nonce);
    let (_client, mut events) = within("connect", connecting).await.unwrap().unwrap();
    peer.push(3).await;
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    texts(&mut events, &["3"]).await;
}

#[tokio::test]
async fn a_damaged_memory_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start().await;
    let mut options = fake.options();
    let path = folder.path().join("memory.json");
    std::fs::write(&path, b"{\"version\":1,").unwrap();
    options.memory = Memory::File(path);
    let error = within("connect", Client::connect(options)).await.unwrap_err();
    assert!(matches!(&error, ClientError::Memory { .. }), "{error}");
    assert!(error.to_string().contains("delete it"), "{error}");
}

#[tokio::test]
async fn a_memory_of_another_cluster_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start().await;
    let (client, _events, _peer) = fake.client(remembering(&fake, &folder), vec![]).await;
    within("close", client.close()).await;
    let connecting = connect(remembering(&fake, &folder));
    let mut peer = fake.accept().await;
    peer.welcome(Welcome { cluster: [1; 16], ..welcome() }).await;
    let error = within("connect", connecting).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("another cluster"), "{error}");
}

#[tokio::test]
async fn an_ack_for_another_session_is_a_fault() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let _send = client.send_pipelined(&room(), Outgoing::text("x")).await.unwrap();
    let id = peer.take(1, "x").await;
    let session = rookery_client::wire::SessionId::group("elsewhere".parse().unwrap());
    let ack = Ack { session, client_seq: 1, seq: 1, message_id: 1, time_ms: 1, count: 1 };
    peer.send(Kind::Ack, id, &ack).await;
    peer.ended().await;
}
