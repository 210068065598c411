//! Those who do not belong or do not speak properly: each hears one clear error, and nobody else notices.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rookery_wire::frame::frame_bytes;
use rookery_wire::request::{Consistency, Hello};
use rookery_wire::{Blob, ErrorBody, ErrorCode, Frame, Kind};
use tokio::sync::watch;

use super::fixture::{Cluster, Plan, play};
use super::people::{
    Raw, Wire, app, contents, direct, error_of, group, hello, message, read, replicas, say, texts,
};

/// A header of our own making, and what follows it.
fn frame(length: u32, version: u8, kind: u8, request: u32, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32_le(length);
    out.put_u8(version);
    out.put_u8(kind);
    out.put_u16_le(0);
    out.put_u32_le(request);
    out.put_slice(body);
    out.freeze()
}

/// A whole frame of a kind, with a body of our own making.
fn whole(kind: u8, request: u32, body: &[u8]) -> Bytes {
    frame(8 + body.len() as u32, 1, kind, request, body)
}

/// Says something on a fresh connection, which must end after exactly one ERROR.
async fn one_error(addr: &str, bytes: &[u8]) -> ErrorBody {
    let mut raw = Raw::connect(addr).await;
    raw.write(bytes).await;
    raw.last_error(&[]).await
}

/// Two people talk through node 1 until told to stop; gives what was said, all of which must have arrived.
async fn bystanders(cluster: &Cluster, mut stop: watch::Receiver<bool>) -> Vec<String> {
    let (ann, _) = app(cluster, &[1], "ann", "phone").await;
    let (_bob, mut bobs) = app(cluster, &[1], "bob", "phone").await;
    let session = direct("ann", "bob");
    let mut said = Vec::new();
    while !*stop.borrow_and_update() {
        let text = format!("talk {}", said.len() + 1);
        say(&ann, &session, [text.clone()]).await;
        said.push(text);
    }
    assert_eq!(bobs.up_to(&session, said.last().expect("something was said")).await, said);
    said
}

#[test]
fn strangers_hear_one_error_and_nobody_else_notices() {
    play(async {
        let plan = Plan::new(3, 2).with("timing", "hello_ms = 500").with("timing", "idle_ms = 3000");
        let mut cluster = Cluster::up(plan).await;
        let (stop, stopped) = watch::channel(false);
        let ((), said) = tokio::join!(
            async {
                before_hello(&cluster.client(1)).await;
                wrong_ports(&cluster).await;
                after_hello(&cluster).await;
                forbidden(&cluster).await;
                stop.send(true).expect("somebody talks");
            },
            bystanders(&cluster, stopped),
        );
        assert_eq!(contents(&replicas(&cluster, &[1, 2, 3], &direct("ann", "bob")).await), said);
        wrong_secret(&mut cluster).await;
    });
}

async fn before_hello(addr: &str) {
    let lying_hello: &[u8] = &[1, 1, 60, b'a', b'n', b'n'];
    let mut future = hello("mallory", "phone");
    (future.min_version, future.max_version) = (7, 9);
    let cases: [(&str, Bytes, ErrorCode, &str); 9] = [
        ("another protocol", "GET / HTTP/1.1\r\n\r\n".into(), ErrorCode::FrameTooLarge, "at most 16384"),
        ("all ones", Bytes::from_static(&[0xff; 64]), ErrorCode::FrameTooLarge, "at most 16384"),
        ("all zeros", Bytes::from_static(&[0; 64]), ErrorCode::BadFrame, "less than the 8 bytes"),
        ("an oversized HELLO", frame(20_000, 1, 1, 0, &[]), ErrorCode::FrameTooLarge, "at most 16384"),
        ("another version", frame(20, 9, 1, 0, &[]), ErrorCode::VersionUnsupported, "version 9"),
        ("SEND first", send_first(), ErrorCode::HelloRequired, "is HELLO"),
        ("a name longer than the frame", whole(1, 1, lying_hello), ErrorCode::BadFrame, "HELLO: "),
        ("a later client", frame_bytes(Kind::Hello, 1, &future), ErrorCode::VersionUnsupported, "7 to 9"),
        ("half a HELLO", frame(30, 1, 1, 0, &[1, 1]), ErrorCode::HelloRequired, "timing.hello_ms = 500"),
    ];
    for (what, bytes, code, text) in cases {
        let error = one_error(addr, &bytes).await;
        assert_eq!(error.code, code, "{what}: {error}");
        assert!(error.message().contains(text), "{what}: {error}");
    }
    // One that goes away in the middle of a frame leaves nothing behind.
    let mut gone = Raw::connect(addr).await;
    gone.write(&frame(30, 1, 1, 0, &[1])).await;
    drop(gone);
}

fn send_first() -> Bytes {
    frame_bytes(Kind::Send, 5, &message(&direct("mallory", "bob"), 1, "before HELLO"))
}

async fn wrong_ports(cluster: &Cluster) {
    let peer = cluster.node(1).peer.clone();
    // Also one that has more to say than the node cares to read.
    let talkative = Hello { token: Blob::from("x".repeat(3000).as_str()), ..hello("mallory", "phone") };
    let error = one_error(&peer, &frame_bytes(Kind::Hello, 1, &talkative)).await;
    assert_eq!(error.code, ErrorCode::WrongPort, "{error}");
    assert!(error.message().contains("`client` address"), "{error}");
    let error = one_error(&cluster.client(1), b"\x89RKpeer\n and more").await;
    assert_eq!(error.code, ErrorCode::WrongPort, "{error}");
    assert!(error.message().contains("`peer` address"), "{error}");
    // A stranger on the peer port is told in the words of that protocol: 1, length, text.
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0; 64]] {
        let mut raw = Raw::connect(&peer).await;
        raw.write(garbage).await;
        let said = String::from_utf8_lossy(&raw.all().await).into_owned();
        assert!(said.contains("this is the peer port of a rookery node"), "{said:?}");
    }
    // Half a hello, and nothing more: hung up on.
    let mut raw = Raw::connect(&peer).await;
    raw.write(b"\x89RKpeer\n\x02\x00").await;
    assert!(raw.all().await.is_empty());
}

async fn after_hello(cluster: &Cluster) {
    let hello = hello("mallory", "phone");
    let session = direct("mallory", "bob");
    let good = frame_bytes(Kind::Send, 0, &message(&session, 1, "hi")).slice(12..);
    // What is wrong with one frame is answered, and the connection lives.
    let mut raw = Raw::welcome(&cluster.client(1), &hello).await;
    let cases: [(&str, Bytes, ErrorCode, &str); 6] = [
        ("an unknown kind", whole(77, 7, b"whatever"), ErrorCode::UnknownKind, "kind 77"),
        ("a server's frame", whole(Kind::Ack as u8, 7, b""), ErrorCode::UnknownKind, "kind 130"),
        ("a body cut short", whole(2, 7, &good[..good.len() - 3]), ErrorCode::BadFrame, "SEND: "),
        ("a body too long", whole(2, 7, &[&good[..], b"..."].concat()), ErrorCode::BadFrame, "left over"),
        ("a list that lies", whole(3, 7, &[252, 255, 255, 255, 127]), ErrorCode::BadFrame, "DELIVERED: "),
        ("HELLO again", frame_bytes(Kind::Hello, 7, &hello), ErrorCode::AlreadyWelcome, "welcomed already"),
    ];
    for (what, bytes, code, text) in cases {
        raw.write(&bytes).await;
        let answer = raw.answer(7).await;
        let error = error_of(&answer);
        assert_eq!(error.code, code, "{what}: {error}");
        assert!(error.message().contains(text), "{what}: {error}");
    }
    raw.write(&whole(2, 8, &good)).await;
    let ack: rookery_wire::reply::Ack = read(&raw.answer(8).await).expect("none of it took a number");
    assert_eq!((ack.seq, ack.client_seq), (1, 1));
    raw.write(&whole(Kind::Ping as u8, 9, b"")).await;
    assert_eq!(raw.answer(9).await.kind, Kind::Pong as u8);

    // What makes the stream unreadable is told once, after the answers that were due, and ends it.
    let cut: [(&str, Bytes, ErrorCode); 4] = [
        ("an oversized frame", frame((1 << 20) + 1, 1, 2, 3, b""), ErrorCode::FrameTooLarge),
        ("a length less than its header", frame(3, 1, 2, 3, b""), ErrorCode::BadFrame),
        ("a length less than its body", short_length(&good), ErrorCode::FrameTooLarge),
        ("garbage", Bytes::from_static(&[0xa5; 100]), ErrorCode::FrameTooLarge),
    ];
    for (what, bytes, code) in cut {
        let mut raw = Raw::welcome(&cluster.client(1), &hello).await;
        raw.write(&[&whole(Kind::Ping as u8, 1, b"")[..], &bytes[..]].concat()).await;
        let error = raw.last_error(&[(1, Kind::Pong), (3, Kind::Error)]).await;
        assert_eq!(error.code, code, "{what}: {error}");
    }
    // Half a frame and then silence is a connection that says nothing.
    let mut raw = Raw::welcome(&cluster.client(1), &hello).await;
    raw.write(&frame(500, 1, 2, 3, b"half")).await;
    let frames: Vec<Frame> = raw.frames().await;
    assert_eq!(frames.iter().map(|frame| frame.kind).collect::<Vec<_>>(), [Kind::GoAway as u8]);
}

/// A SEND whose length ends two bytes into its body: the rest is taken for the next frame's header.
fn short_length(body: &[u8]) -> Bytes {
    frame(10, 1, 2, 3, &[&body[..2], &[0xff; 20][..]].concat())
}

/// What belongs to others is not read, written or named.
async fn forbidden(cluster: &Cluster) {
    let mut eve = Wire::of(cluster, 1, "eve", "phone").await;
    let theirs = direct("ann", "bob");
    let sent = eve.send(&theirs, 1, "let me in").await.expect_err("not hers");
    assert_eq!(sent.code, ErrorCode::Forbidden, "{sent}");
    let pulled = eve.pull(&theirs, Consistency::Linearizable).await.expect_err("not hers");
    assert_eq!(pulled.code, ErrorCode::Forbidden, "{pulled}");
    let mut owner = Wire::of(cluster, 2, "owner", "phone").await;
    owner.create(&group("closed"), &["bob"]).await.expect("created");
    let sent = eve.send(&group("closed"), 1, "let me in").await.expect_err("not a member");
    assert_eq!(sent.code, ErrorCode::NotMember, "{sent}");
    let pulled = eve.pull(&group("closed"), Consistency::Linearizable).await.expect_err("not a member");
    assert_eq!(pulled.code, ErrorCode::NotMember, "{pulled}");
    let replica = eve.pull(&group("closed"), Consistency::Replica).await.expect_err("no service");
    assert_eq!(replica.code, ErrorCode::Forbidden, "{replica}");
    let large = "x".repeat((64 << 10) + 1);
    let sent = eve.send(&direct("eve", "bob"), 1, &large).await.expect_err("too large");
    assert_eq!((sent.code, sent.detail), (ErrorCode::ContentTooLarge, 64 << 10), "{sent}");
    assert_eq!(eve.send(&direct("eve", "bob"), 1, "small").await.expect("its number is free").seq, 1);
}

/// A node that does not know the secret ends by itself; the others go on, and it comes back under the right one.
async fn wrong_secret(cluster: &mut Cluster) {
    cluster.stop(3).await;
    let wrong = cluster.variant("secret.toml", &[("a secret of these tests", "a secret of somebody else")]);
    let error = cluster.refused(&wrong, 3).await;
    assert!(error.contains("cluster.secret"), "{error}");
    assert!(!error.contains("somebody else"), "the secret itself is not told: {error}");
    assert!(cluster.log(1).contains("the cluster secret differs"), "{}", cluster.log(1));
    let session = direct("ann", "carl");
    let (ann, _) = app(cluster, &[1, 2], "ann", "desk").await;
    say(&ann, &session, texts("without node 3", 3)).await;
    cluster.start(3);
    cluster.serving().await;
    let (_carl, mut inbox) = app(cluster, &[3], "carl", "phone").await;
    let all = tokio::time::timeout(Duration::from_secs(20), inbox.up_to(&session, "without node 3 3"));
    assert_eq!(all.await.expect("in time"), texts("without node 3", 3));
}
