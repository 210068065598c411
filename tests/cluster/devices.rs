//! Several devices of one user: one connection for each, one read state for all.

use rookery::check::link::body;
use rookery_client::{Client, ClientError, Event, Options};
use rookery_wire::reply::{GoAway, ReadMark};
use rookery_wire::request::{Consistency, Read};
use rookery_wire::{ErrorCode, Kind};

use super::fixture::{Cluster, Plan, play};
use super::people::{Wire, app, contents, device, direct, say, text_of, texts, user};

#[test]
fn a_device_has_one_connection_and_a_user_one_read_state() {
    play(async {
        let cluster = Cluster::up(Plan::new(3, 3)).await;
        replaced(&cluster).await;
        read_state(&cluster).await;
    });
}

/// The second connection of a device takes the place of the first, on the level of frames and of the client library.
async fn replaced(cluster: &Cluster) {
    let session = direct("ann", "bob");
    let mut first = Wire::of(cluster, 1, "ann", "phone").await;
    first.send(&session, 1, "from the first").await.expect("acknowledged");
    first.sync().await;
    let mut second = Wire::of(cluster, 1, "ann", "phone").await;
    assert_eq!(second.welcome.epoch, first.welcome.epoch, "the same registration");
    let away: GoAway = body(&first.push(Kind::GoAway).await).expect("a GOAWAY");
    assert_eq!(away.code, ErrorCode::DeviceReplaced);
    assert!(first.rest().await.is_empty(), "nothing after it");
    let line = second.sync().await.sessions.remove(0);
    assert_eq!(line.last_client_seq, 1, "it can go on where the first one was");
    second.send(&session, 2, "from the second").await.expect("acknowledged");
    let mut bob = Wire::of(cluster, 2, "bob", "phone").await;
    bob.send(&session, 1, "from bob").await.expect("acknowledged");
    let pushed: rookery_wire::reply::Message = body(&second.push(Kind::Message).await).expect("a message");
    assert_eq!(text_of(&pushed.record), "from bob", "the newer connection is the one that is pushed to");
    let records = bob.pull(&session, Consistency::Linearizable).await.expect("a page");
    assert_eq!(contents(&records), ["from the first", "from the second", "from bob"]);

    // Also when the newer connection is on another node.
    let mut third = Wire::of(cluster, 3, "ann", "phone").await;
    let away: GoAway = body(&second.push(Kind::GoAway).await).expect("a GOAWAY");
    assert_eq!(away.code, ErrorCode::DeviceReplaced);
    assert!(second.rest().await.is_empty(), "nothing after it");
    third.send(&session, 3, "from the third").await.expect("acknowledged");

    // The library does not fight over the device: the older client ends and says why.
    let options = Options::new([cluster.client(1)], user("carl"), device("phone"));
    let (older, mut events) = Client::connect(options.clone()).await.expect("connected");
    let (newer, _newer) = Client::connect(options).await.expect("connected");
    while tokio::time::timeout(super::people::ANSWER, events.recv()).await.expect("it ends").is_some() {}
    match older.ping().await {
        Err(ClientError::Closed(why)) => assert!(why.contains("DEVICE_REPLACED"), "{why}"),
        other => panic!("the older one lives: {other:?}"),
    }
    newer.ping().await.expect("the newer one lives");
}

/// What one device has read, the others see as read; a late word of an earlier place takes nothing back.
async fn read_state(cluster: &Cluster) {
    let session = direct("eve", "fay");
    let (fay, _) = app(cluster, &[3], "fay", "phone").await;
    let (phone, mut on_phone) = app(cluster, &[1], "eve", "phone").await;
    let (laptop, mut on_laptop) = app(cluster, &[2], "eve", "laptop").await;
    let acks = say(&fay, &session, texts("news", 6)).await;
    let all = texts("news", 6);
    assert_eq!(on_phone.up_to(&session, "news 6").await, all);
    assert_eq!(on_laptop.up_to(&session, "news 6").await, all);
    let unread = async |client: &Client| client.sync().await.expect("a list").sessions[0].unread;
    assert_eq!((unread(&phone).await, unread(&laptop).await), (6, 6));

    let fourth = acks[3].seq;
    assert_eq!(phone.read(&session, fourth).await.expect("noted").seq, fourth);
    let told = on_laptop
        .event(|event| match event {
            Event::ReadMark(mark) if mark.session == session => Some(mark.clone()),
            _ => None,
        })
        .await;
    assert_eq!((told.seq, told.count), (fourth, 4));
    assert_eq!((unread(&phone).await, unread(&laptop).await), (2, 2));

    let earlier = laptop.read(&session, acks[1].seq).await.expect("answered");
    assert_eq!(earlier.seq, fourth, "read cursors never go back");
    let last = laptop.read(&session, acks[5].seq).await.expect("noted");
    assert_eq!((last.seq, last.count), (acks[5].seq, 6));
    assert_eq!((unread(&phone).await, unread(&laptop).await), (0, 0));
    let mut third = Wire::of(cluster, 3, "eve", "tablet").await;
    assert_eq!(third.sync().await.sessions[0].read_seq, acks[5].seq, "a new device sees it too");
    let beyond = Read { session: session.clone(), seq: acks[5].seq + 1 };
    let refused = third.ask::<_, ReadMark>(Kind::Read, &beyond).await.expect_err("nothing is there");
    assert_eq!((refused.code, refused.detail), (ErrorCode::BeyondEnd, acks[5].seq), "{refused}");
}
