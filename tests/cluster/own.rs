//! What is the user's own, on a cluster: settings on all devices, what is cleared and deleted, friends, blocks, devices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rookery_client::wire::own::RelationFilter;
use rookery_client::{Client, ClientError, Event, Options, Outgoing};
use rookery_wire::own::{ListDevices, ManageSelf, SelfAck};
use rookery_wire::reply::GoAway;
use rookery_wire::request::{Consistency, Direction, Hello, Role};
use rookery_wire::{Blob, ErrorCode, Kind, RecordKind, RelationState, SessionId, SessionSetting, UserAction};

use super::fixture::{Cluster, Plan, play, until};
use super::people::{Inbox, Wire, app, device, direct, hello, replicas, say, texts, turned_away, user};

async fn last_seq(client: &Client, session: &SessionId) -> u64 {
    let page = client.pull(session, 0, Direction::Backward, 1, Consistency::Linearizable).await;
    page.expect("a page").last_seq
}

async fn related(inbox: &mut Inbox, with: &str, state: RelationState) {
    inbox
        .event(|event| match event {
            Event::Relation(line) if line.user == user(with) && line.state == state => Some(()),
            _ => None,
        })
        .await;
}

/// From the answer to a block until it is taken back nothing of the blocked user enters the session, whatever was on its
/// way, and whoever leads.
#[test]
fn a_block_holds_from_its_answer_on_through_the_death_of_leaders() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 4)).await;
        let session = direct("ann", "bob");
        let (ann, _anns) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (bob, _bobs) = app(&cluster, &[2, 3, 1], "bob", "phone").await;
        say(&bob, &session, texts("hello", 1)).await;
        let writer = Arc::new(Writer::default());
        let writing = tokio::spawn(write_on(bob, session.clone(), Arc::clone(&writer)));
        for round in 0..6 {
            let before = last_seq(&ann, &session).await;
            until("bob writes", async || last_seq(&ann, &session).await > before + 3).await;
            let victim = if round % 2 == 1 { Some(cluster.leader_of(&session).await) } else { None };
            // The leader dies while the block is on its way.
            let blocking = tokio::spawn({
                let ann = ann.clone();
                async move { ann.block(user("bob")).await }
            });
            if let Some(victim) = victim {
                cluster.kill(victim);
            }
            blocking.await.expect("no panic").expect("blocked");
            let at_answer = last_seq(&ann, &session).await;
            if let Some(victim) = victim {
                cluster.start(victim);
                cluster.serving().await;
            }
            let refused = writer.refused.load(Ordering::Acquire);
            until("bob goes on trying", async || writer.refused.load(Ordering::Acquire) > refused + 5).await;
            assert_eq!(last_seq(&ann, &session).await, at_answer, "round {round}: something entered");
            assert_eq!(ann.unblock(user("bob")).await.expect("unblocked"), RelationState::None);
        }
        writer.ends.store(true, Ordering::Release);
        writing.await.expect("no panic");
        let (stored, refused) =
            (writer.stored.load(Ordering::Acquire), writer.refused.load(Ordering::Acquire));
        println!("{stored} stored, {refused} refused");
        assert!(stored > 20 && refused > 6, "{stored} stored, {refused} refused");
        let records = replicas(&cluster, &[1, 2, 3], &session).await;
        let of_bob = records.iter().filter(|record| record.sender == user("bob")).count();
        assert_eq!(of_bob, stored + 1, "what was acknowledged is there, and nothing else");
    });
}

/// How somebody fares who sends one message after the other.
#[derive(Default)]
struct Writer {
    stored: AtomicUsize,
    refused: AtomicUsize,
    ends: AtomicBool,
}

async fn write_on(client: Client, session: SessionId, writer: Arc<Writer>) {
    // Not as fast as it can: the log is compared in the end.
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while !writer.ends.load(Ordering::Acquire) {
        pace.tick().await;
        let fate = match client.send(&session, Outgoing::text("are you there?")).await {
            Ok(_) => &writer.stored,
            Err(ClientError::Refused(error)) if error.code == ErrorCode::RefusedByPeer => &writer.refused,
            Err(other) => panic!("{other}"),
        };
        fate.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn friends_are_made_and_lost_alike_on_both_sides() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 4)).await;
        let (ann, mut anns) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (_pad, mut on_pad) = app(&cluster, &[3, 1, 2], "ann", "pad").await;
        let (bob, mut bobs) = app(&cluster, &[2, 3, 1], "bob", "phone").await;
        let asked = ann.request_friend(user("bob"), "it is me").await.expect("asked");
        assert_eq!(asked, RelationState::Requested);
        // Bob has it as soon as ann is answered.
        let requests = bob.relations(RelationFilter::Requests, None, 9).await.expect("a page").relations;
        assert_eq!((requests.len(), requests[0].text.clone()), (1, Blob::from("it is me")));
        related(&mut bobs, "ann", RelationState::Asked).await;
        cluster.kill(3);
        assert_eq!(bob.accept_friend(user("ann")).await.expect("accepted"), RelationState::Friends);
        related(&mut anns, "bob", RelationState::Friends).await;
        cluster.start(3);
        cluster.serving().await;
        let friends = ann.relations(RelationFilter::Friends, None, 9).await.expect("a page").relations;
        assert_eq!(friends.len(), 1);
        // Two who ask each other at the same moment.
        let (cid, _) = app(&cluster, &[1, 3], "cid", "phone").await;
        let (one, other) =
            tokio::join!(cid.request_friend(user("ann"), "hello"), ann.request_friend(user("cid"), "hello"));
        one.and(other).expect("both are answered");
        until("they are friends", async || {
            let of = |page: rookery_client::wire::own::RelationPage| page.relations.len();
            of(cid.relations(RelationFilter::Friends, None, 9).await.expect("a page")) == 1
                && of(ann.relations(RelationFilter::Friends, None, 9).await.expect("a page")) == 2
        })
        .await;
        bob.remove_friend(user("ann")).await.expect("removed");
        let left = ann.relations(RelationFilter::Friends, None, 9).await.expect("a page").relations;
        assert_eq!(left.iter().map(|line| line.user.clone()).collect::<Vec<_>>(), [user("cid")]);
        related(&mut on_pad, "bob", RelationState::None).await;
    });
}

#[test]
fn strangers_are_kept_out_and_friends_and_known_ones_are_not() {
    play(async {
        let cluster = Cluster::up(Plan::new(3, 4)).await;
        let (ann, _a) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (bob, _b) = app(&cluster, &[2, 3, 1], "bob", "phone").await;
        let (cid, _c) = app(&cluster, &[3, 1, 2], "cid", "phone").await;
        let (dan, _d) = app(&cluster, &[3, 1, 2], "dan", "phone").await;
        say(&bob, &direct("ann", "bob"), texts("before", 1)).await;
        ann.manage_self(UserAction::SetStrangers { refuse: true }).await.expect("set");
        say(&bob, &direct("ann", "bob"), texts("still", 1)).await;
        let refused = cid.send(&direct("ann", "cid"), Outgoing::text("hi")).await.expect_err("a stranger");
        assert_eq!(refused.code(), Some(ErrorCode::RefusedByPeer), "{refused}");
        until("nothing is left of it", async || cid.sync().await.expect("a list").sessions.is_empty()).await;
        // Who asks and is accepted, and whom ann writes to.
        dan.request_friend(user("ann"), "").await.expect("asked");
        assert_eq!(ann.accept_friend(user("dan")).await.expect("accepted"), RelationState::Friends);
        say(&dan, &direct("ann", "dan"), texts("thanks", 1)).await;
        say(&ann, &direct("ann", "cid"), texts("you may", 1)).await;
        say(&cid, &direct("ann", "cid"), texts("thanks", 1)).await;
        // A block of one who never wrote: to the blocked it looks the same.
        ann.block(user("eve")).await.expect("blocked");
        let (eve, _e) = app(&cluster, &[1], "eve", "phone").await;
        let refused = eve.send(&direct("ann", "eve"), Outgoing::text("hi")).await.expect_err("blocked");
        assert_eq!(refused.code(), Some(ErrorCode::RefusedByPeer), "{refused}");
        let edge = eve.pull(&direct("ann", "eve"), 1, Direction::Forward, 9, Consistency::Linearizable).await;
        assert_eq!(edge.expect_err("no session").code(), Some(ErrorCode::NoSuchSession));
    });
}

#[test]
fn what_is_set_cleared_and_deleted_is_so_on_every_device() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 4)).await;
        let session = direct("ann", "bob");
        let (phone, _phones) = app(&cluster, &[1, 2], "ann", "phone").await;
        let (_pad, mut on_pad) = app(&cluster, &[2, 1], "ann", "pad").await;
        let (bob, _bobs) = app(&cluster, &[2, 1], "bob", "phone").await;
        say(&bob, &session, texts("news", 20)).await;
        let draft = SessionSetting::Draft(Blob::from("dear bob"));
        phone.set_session(&session, draft).await.expect("set");
        phone.set_session(&session, SessionSetting::Mute(u64::MAX)).await.expect("set");
        phone.clear_session(&session, 5).await.expect("cleared");
        phone.delete_messages(&session, 8, 9).await.expect("deleted");
        let told = on_pad
            .event(|event| match event {
                Event::Settings(it) if it.settings.deleted == [(8, 9)] => Some(it.settings.clone()),
                _ => None,
            })
            .await;
        assert_eq!((told.draft.clone(), told.cleared_seq), (Blob::from("dear bob"), 5));
        cluster.kill(3);
        let page = phone.pull(&session, 1, Direction::Forward, 100, Consistency::Linearizable).await;
        let page = page.expect("a page");
        assert_eq!((page.first_seq, page.records[0].seq, page.last_seq), (6, 6, 20));
        let gone: Vec<u64> =
            page.records.iter().filter(|it| it.kind == RecordKind::DELETED).map(|it| it.seq).collect();
        assert_eq!(gone, [8, 9]);
        assert!(page.records.iter().all(|it| it.kind != RecordKind::DELETED || it.content.is_empty()));
        let of_bob = bob.pull(&session, 1, Direction::Forward, 100, Consistency::Linearizable).await;
        assert_eq!(of_bob.expect("a page").records.len(), 20, "bob sees what he wrote");
        // A page that ends before what is cleared begins where there is something.
        let short = phone.pull(&session, 1, Direction::Forward, 2, Consistency::Linearizable).await;
        assert_eq!(short.expect("a page").records[0].seq, 6);
        let mut wire = Wire::of(&cluster, 1, "ann", "tablet").await;
        let list = wire.sync().await;
        let line = &list.sessions[0];
        assert_eq!((line.unread, line.first_seq, line.settings.clone()), (13, 6, told));
        let badge = list.badge.expect("on the first page");
        assert_eq!((badge.unread, badge.muted, badge.uncounted), (0, 13, 0));
        say(&bob, &direct("bob", "cid"), texts("not ann's", 1)).await;
        phone.set_session(&session, SessionSetting::Mute(0)).await.expect("set");
        assert_eq!(wire.sync().await.badge.expect("a badge").unread, 13);
        assert_eq!(phone.read_all().await.expect("read"), 13);
        let list = wire.sync().await;
        assert_eq!((list.sessions[0].unread, list.sessions[0].read_seq), (0, 20));
        let beyond = phone.clear_session(&session, 21).await.expect_err("nothing is there");
        assert_eq!(beyond.code(), Some(ErrorCode::BeyondEnd));
    });
}

#[test]
fn a_device_is_ended_from_another_wherever_it_is() {
    play(async {
        let cluster = Cluster::up(Plan::new(3, 4)).await;
        let (phone, _phones) = app(&cluster, &[1], "ann", "phone").await;
        let mut lost = Wire::of(&cluster, 2, "ann", "lost").await;
        lost.sync().await;
        // This one has asked for nothing yet.
        let mut silent = Wire::of(&cluster, 3, "ann", "silent").await;
        let listed = phone.devices(None, 64).await.expect("a page").devices;
        let names: Vec<&str> = listed.iter().map(|line| line.device.as_str()).collect();
        assert_eq!(names, ["lost", "phone", "silent"]);
        for name in ["lost", "silent"] {
            assert_eq!(phone.end_device(device(name)).await.expect("ended").value, 1);
        }
        for wire in [&mut lost, &mut silent] {
            let away: GoAway = rookery::check::link::body(&wire.push(Kind::GoAway).await).expect("a GOAWAY");
            assert_eq!(away.code, ErrorCode::DeviceEnded);
            assert!(wire.rest().await.is_empty(), "nothing after it");
        }
        let known = Hello { epoch: lost.welcome.epoch, ..hello("ann", "lost") };
        turned_away(&cluster.client(3), &known, ErrorCode::BadEpoch).await;
        assert_eq!(phone.devices(None, 64).await.expect("a page").devices.len(), 1);
        // The library does not come back by itself.
        let options = Options::new([cluster.client(2)], user("ann"), device("pad"));
        let (pad, mut events) = Client::connect(options).await.expect("connected");
        phone.end_device(device("pad")).await.expect("ended");
        while tokio::time::timeout(super::people::ANSWER, events.recv()).await.expect("it ends").is_some() {}
        assert!(matches!(pad.ping().await, Err(ClientError::Closed(why)) if why.contains("DEVICE_ENDED")));
        for_a_user(&cluster).await;
    });
}

/// A service acts for a named user, under numbers of its own that it finds out.
async fn for_a_user(cluster: &Cluster) {
    let shop = Hello { role: Role::Service, ..hello("shop", "backend") };
    let mut shop = Wire::open(&cluster.client(1), &shop).await.expect("welcome");
    let mut act = async |number, action| {
        let on_behalf_of = Some(user("ann"));
        shop.ask::<_, SelfAck>(Kind::ManageSelf, &ManageSelf { number, on_behalf_of, action }).await
    };
    let block = || UserAction::Block { user: user("eve") };
    assert_eq!(act(1, block()).await.expect("a service may").number, 1);
    let gap = act(u64::MAX, block()).await.expect_err("no such number");
    assert_eq!((gap.code, gap.detail), (ErrorCode::ClientSeqGap, 2));
    let reused = act(1, UserAction::Unblock { user: user("eve") }).await.expect_err("used");
    assert_eq!(reused.code, ErrorCode::ClientSeqReused);
    let list = ListDevices { on_behalf_of: Some(user("ann")), after: None, limit: 9 };
    let page: rookery_wire::own::DevicePage = shop.ask(Kind::ListDevices, &list).await.expect("a page");
    assert_eq!(page.devices.len(), 1);
    let mut eve = Wire::of(cluster, 2, "eve", "phone").await;
    let refused = eve.send(&direct("ann", "eve"), 1, "hi").await.expect_err("blocked");
    assert_eq!(refused.code, ErrorCode::RefusedByPeer);
    let as_ann = ManageSelf { number: 1, on_behalf_of: Some(user("ann")), action: block() };
    let refused = eve.ask::<_, SelfAck>(Kind::ManageSelf, &as_ann).await.expect_err("eve is no service");
    assert_eq!(refused.code, ErrorCode::Forbidden);
}
