//! Sends: numbers, retries, refusals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use rookery_client::wire::{ErrorCode, Retry};
use rookery_client::{ClientError, Outgoing};
use support::{Fake, next, room, summary, texts, welcome, within};

#[tokio::test]
async fn a_cut_sends_the_same_number_again_and_in_order() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let one = client.send_pipelined(&room(), Outgoing::text("one")).await.unwrap();
    let two = client.send_pipelined(&room(), Outgoing::text("two")).await.unwrap();
    let three = client.send_pipelined(&room(), Outgoing::text("three")).await.unwrap();
    let id = peer.take(1, "one").await;
    peer.take(2, "two").await;
    peer.take(3, "three").await;
    peer.ack(id, 1, 1).await;
    assert_eq!(within("the first ACK", one).await.unwrap().seq, 1);
    drop(peer);

    let mut peer = fake.accept_ready(vec![summary(1, 0)]).await;
    let hello = peer.hello.clone().unwrap();
    assert_eq!(hello.epoch, 1, "the epoch of the first WELCOME is kept");
    let id = peer.take(2, "two").await;
    peer.ack(id, 2, 2).await;
    let id = peer.take(3, "three").await;
    peer.ack(id, 3, 3).await;
    assert_eq!(within("ACK", two).await.unwrap().seq, 2);
    assert_eq!(within("ACK", three).await.unwrap().seq, 3);
    assert_eq!((client.stats().retries, client.stats().reconnects), (2, 1));
}

#[tokio::test]
async fn busy_and_gaps_resend_in_order() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let one = client.send_pipelined(&room(), Outgoing::text("one")).await.unwrap();
    let two = client.send_pipelined(&room(), Outgoing::text("two")).await.unwrap();
    let first = peer.take(1, "one").await;
    let second = peer.take(2, "two").await;
    let begin = Instant::now();
    peer.error(first, ErrorCode::Busy, Retry::After(200), 0).await;
    peer.error(second, ErrorCode::ClientSeqGap, Retry::Never, 1).await;
    let first = peer.take(1, "one").await;
    assert!(begin.elapsed() >= Duration::from_millis(190), "the hint is kept");
    let second = peer.take(2, "two").await;
    peer.ack(first, 1, 1).await;
    peer.ack(second, 2, 2).await;
    assert_eq!(within("ACK", one).await.unwrap().seq, 1);
    assert_eq!(within("ACK", two).await.unwrap().seq, 2);
}

#[tokio::test]
async fn a_refusal_before_the_log_renumbers_what_is_behind() {
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let one = client.send_pipelined(&room(), Outgoing::text("one")).await.unwrap();
    let two = client.send_pipelined(&room(), Outgoing::text("two")).await.unwrap();
    let first = peer.take(1, "one").await;
    let second = peer.take(2, "two").await;
    peer.error(first, ErrorCode::BadRequest, Retry::Never, 0).await;
    let error = within("the refusal", one).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::BadRequest));
    assert!(!error.outcome_unknown());
    peer.silence(Duration::from_millis(100)).await;
    peer.error(second, ErrorCode::ClientSeqGap, Retry::Never, 1).await;
    let id = peer.take(1, "two").await;
    peer.ack(id, 1, 1).await;
    assert_eq!(within("ACK", two).await.unwrap().client_seq, 1);
    texts(&mut events, &["two"]).await;
}

#[tokio::test]
async fn a_refusal_at_apply_uses_the_number() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let one = client.send_pipelined(&room(), Outgoing::text("one")).await.unwrap();
    let id = peer.take(1, "one").await;
    peer.error(id, ErrorCode::NotAllowed, Retry::Never, 0).await;
    assert_eq!(within("the refusal", one).await.unwrap_err().code(), Some(ErrorCode::NotAllowed));
    let two = client.send_pipelined(&room(), Outgoing::text("two")).await.unwrap();
    let id = peer.take(2, "two").await;
    peer.ack(id, 2, 1).await;
    assert_eq!(within("ACK", two).await.unwrap().client_seq, 2);
}

#[tokio::test]
async fn a_gap_without_a_sender_continues_from_the_expected_number() {
    let fake = Fake::start().await;
    let mut line = summary(0, 0);
    line.last_client_seq = 7;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![line]).await;
    let send = client.send_pipelined(&room(), Outgoing::text("x")).await.unwrap();
    let id = peer.take(8, "x").await;
    peer.error(id, ErrorCode::ClientSeqGap, Retry::Never, 5).await;
    let id = peer.take(5, "x").await;
    peer.ack(id, 5, 1).await;
    assert_eq!(within("ACK", send).await.unwrap().client_seq, 5);
}

#[tokio::test]
async fn own_messages_come_as_events_in_their_place() {
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let own = client.send_pipelined(&room(), Outgoing::text("own")).await.unwrap();
    let id = peer.take(1, "own").await;
    // Two is ours: what was pushed above it waits for our ACK instead of being pulled at once.
    peer.push(1).await;
    peer.push(3).await;
    texts(&mut events, &["1"]).await;
    support::nothing(&mut events, Duration::from_millis(50)).await;
    peer.ack(id, 1, 2).await;
    texts(&mut events, &["own", "3"]).await;
    within("ACK", own).await.unwrap();
    assert_eq!(client.stats().pulls_for_gaps, 0);
}

#[tokio::test]
async fn a_hole_that_no_ack_fills_is_pulled_after_a_grace() {
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let _own = client.send_pipelined(&room(), Outgoing::text("own")).await.unwrap();
    let id = peer.take(1, "own").await;
    peer.push(2).await;
    let pull = peer.serve_pull(1..=1, 2).await;
    assert_eq!((pull.from_seq, pull.max_count), (1, 1));
    texts(&mut events, &["1", "2"]).await;
    peer.ack(id, 1, 3).await;
    texts(&mut events, &["own"]).await;
}

#[tokio::test]
async fn without_echo_own_messages_are_silent_but_counted() {
    let fake = Fake::start().await;
    let mut options = fake.options();
    options.echo_own = false;
    let (client, mut events, mut peer) = fake.client(options, vec![summary(0, 0)]).await;
    let _own = client.send_pipelined(&room(), Outgoing::text("own")).await.unwrap();
    let id = peer.take(1, "own").await;
    peer.ack(id, 1, 1).await;
    peer.push(2).await;
    texts(&mut events, &["2"]).await;
    assert_eq!(client.stats().pulls_for_gaps, 0);
}

#[tokio::test]
async fn what_is_too_large_is_refused_here() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![]).await;
    let error = client.send(&room(), Outgoing::text(&"x".repeat(1001))).await.unwrap_err();
    assert_eq!(error, ClientError::TooLarge { size: 1001, limit: 1000 });
    peer.silence(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn a_server_that_never_answers_gives_a_deadline_and_then_the_ack_is_not_lost() {
    let fake = Fake::start().await;
    let mut options = fake.options();
    options.request_deadline = Duration::from_millis(600);
    options.silence = Duration::from_millis(300);
    let (client, mut events, mut peer) = fake.client(options, vec![summary(0, 0)]).await;
    let send = tokio::spawn({
        let client = client.clone();
        async move { client.send(&room(), Outgoing::text("x")).await }
    });
    peer.take(1, "x").await;
    // Silent, it is left for another connection, where the same number comes again.
    let mut second = fake.accept_ready(vec![summary(0, 0)]).await;
    second.take(1, "x").await;
    let error = within("the deadline", send).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Deadline { written: true, .. }), "{error}");
    assert!(error.outcome_unknown());
    // The client goes on trying, for the number is taken.
    let mut third = fake.accept_ready(vec![summary(0, 0)]).await;
    let id = third.take(1, "x").await;
    third.ack(id, 1, 1).await;
    loop {
        if let rookery_client::Event::Message { record, .. } = next(&mut events).await {
            assert_eq!(record.seq, 1);
            break;
        }
    }
    let later = client.send_pipelined(&room(), Outgoing::text("y")).await.unwrap();
    let id = third.take(2, "y").await;
    third.ack(id, 2, 2).await;
    assert_eq!(within("ACK", later).await.unwrap().seq, 2);
}

#[tokio::test]
async fn the_window_bounds_what_is_in_flight() {
    let fake = Fake::start().await;
    let mut options = fake.options();
    options.window = 2;
    options.request_deadline = Duration::from_millis(300);
    let (client, _events, mut peer) = fake.client(options, vec![summary(0, 0)]).await;
    let _one = client.send_pipelined(&room(), Outgoing::text("one")).await.unwrap();
    let _two = client.send_pipelined(&room(), Outgoing::text("two")).await.unwrap();
    let error = client.send_pipelined(&room(), Outgoing::text("three")).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { written: false, .. }), "{error}");
    let id = peer.take(1, "one").await;
    peer.take(2, "two").await;
    peer.ack(id, 1, 1).await;
    let _four = client.send_pipelined(&room(), Outgoing::text("four")).await.unwrap();
    peer.take(3, "four").await;
}

#[tokio::test]
async fn a_void_epoch_registers_anew() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let lost = client.send_pipelined(&room(), Outgoing::text("lost")).await.unwrap();
    peer.take(1, "lost").await;
    drop(peer);
    let mut peer = fake.accept().await;
    let (id, hello) =
        peer.expect::<rookery_client::wire::request::Hello>(rookery_client::wire::Kind::Hello).await;
    assert_eq!(hello.epoch, 1);
    peer.error(id, ErrorCode::BadEpoch, Retry::Never, 0).await;
    let mut peer = fake.accept().await;
    let mut answer = welcome();
    answer.epoch = 2;
    peer.welcome(answer).await;
    let again = peer.hello.clone().unwrap();
    assert_eq!(again.epoch, 0);
    assert_ne!(again.nonce, hello.nonce, "another registration");
    peer.sync(vec![summary(0, 0)]).await;
    assert!(within("its fate", lost).await.unwrap_err().outcome_unknown());
    let send = client.send_pipelined(&room(), Outgoing::text("new")).await.unwrap();
    let id = peer.take(1, "new").await;
    peer.ack(id, 1, 1).await;
    within("ACK", send).await.unwrap();
    assert_eq!(client.epoch(), 2);
}

/// Codes of a newer cluster: what is known of them is their number, their text and whether asking again can help.
#[tokio::test]
async fn a_code_of_a_newer_cluster_is_carried_and_acted_on_by_its_hint() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let newer = ErrorCode::from_number(498);
    // It passes, though the session decided it.
    let one = client.send_pipelined(&room(), Outgoing::text("one")).await.unwrap();
    let first = peer.take(1, "one").await;
    peer.error(first, newer, Retry::After(1), 0).await;
    let first = peer.take(1, "one").await;
    peer.ack(first, 1, 1).await;
    assert_eq!(within("ACK", one).await.unwrap().seq, 1);

    // It stays, and the number is used up: nobody else is given what was said of it.
    let two = client.send_pipelined(&room(), Outgoing::text("two")).await.unwrap();
    let second = peer.take(2, "two").await;
    peer.error(second, newer, Retry::Never, 0).await;
    let error = within("the refusal", two).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), (Some(newer), Some(Retry::Never)));
    assert!(error.to_string().contains("498") && error.to_string().contains("scripted"), "{error}");
    assert!(!error.outcome_unknown(), "decided by the session");
    let three = client.send_pipelined(&room(), Outgoing::text("three")).await.unwrap();
    let third = peer.take(3, "three").await;
    peer.ack(third, 3, 2).await;
    within("ACK", three).await.unwrap();

    // It stays, and the number is free: the cluster says so.
    let four = client.send_pipelined(&room(), Outgoing::text("four")).await.unwrap();
    let fourth = peer.take(4, "four").await;
    peer.error(fourth, ErrorCode::from_number(599), Retry::Never, 0).await;
    let error = within("the refusal", four).await.unwrap_err();
    assert!(error.outcome_unknown(), "whoever knows the code may know better");
    let five = client.send_pipelined(&room(), Outgoing::text("five")).await.unwrap();
    let fifth = within("the number that is free", async {
        loop {
            let (id, send) = peer.take_send().await;
            if send.client_seq == 4 {
                return id;
            }
            assert_eq!(send.client_seq, 5);
            peer.error(id, ErrorCode::ClientSeqGap, Retry::Never, 4).await;
        }
    });
    let fifth = fifth.await;
    peer.ack(fifth, 4, 3).await;
    assert_eq!(within("ACK", five).await.unwrap().client_seq, 4);
}
