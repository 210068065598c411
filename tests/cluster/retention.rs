//! What is not kept, on three nodes: retention of groups and by default, messages that last for a time.

use std::time::Duration;

use rookery_client::{Client, Event, Outgoing};
use rookery_wire::request::{Consistency, Direction};
use rookery_wire::{ErrorCode, GroupId, RecordKind, Retention, SessionId};

use super::fixture::{Cluster, Plan, play, until};
use super::people::{Wire, app, contents, direct, group, replicas, say, text_of, texts, user};

async fn first_kept(client: &Client, session: &SessionId) -> u64 {
    let page = client.pull(session, 1, Direction::Forward, 500, Consistency::Linearizable).await;
    let page = page.unwrap_or_else(|why| panic!("{why}"));
    let first = page.records.first().map_or(page.last_seq + 1, |record| record.seq);
    assert_eq!(first, page.first_seq, "the page begins with what is kept");
    page.first_seq
}

/// A group keeps its last ten records and a direct session, by default, what is younger than some seconds. All replicas
/// agree, also one that was away and is sent a snapshot; retries and unread counts are right.
#[test]
fn retention_trims_on_all_replicas_and_through_the_death_of_the_leader() {
    play(async {
        let plan = Plan::new(3, 2)
            .with("storage", "retention_sweep_ms = 200")
            .with("storage", "retention_direct_age_ms = 6000")
            .with("storage", "checkpoint_ms = 200")
            .with("storage", "log_keep = 0");
        let mut cluster = Cluster::up(plan).await;
        let team = group("team");
        let (ann, _) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (bob, mut bobs) = app(&cluster, &[2, 3, 1], "bob", "phone").await;
        ann.create_group(GroupId::new("team").expect("a name"), &[user("bob")]).await.expect("created");
        let refused =
            bob.set_retention(&team, Retention { age_ms: 0, count: 10 }).await.expect_err("no owner");
        assert_eq!(refused.code(), Some(ErrorCode::NotAllowed));
        let mut wire = Wire::of(&cluster, 2, "ann", "desk").await;
        wire.send(&team, 1, "the first").await.expect("acknowledged");
        ann.set_retention(&team, Retention { age_ms: 0, count: 10 }).await.expect("set");
        assert_eq!(ann.group_info(&team).await.expect("a group").retention.count, 10);
        let leader = cluster.leader_of(&team).await;
        let away = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
        cluster.kill(away);
        let last = say(&ann, &team, texts("said", 80)).await.last().expect("an ack").seq;
        until("all but ten are trimmed", async || first_kept(&ann, &team).await == last - 9).await;
        let line = bob.sync().await.expect("a list").sessions.remove(0);
        assert_eq!((line.first_seq, line.last_seq, line.unread), (last - 9, last, 10));
        assert_eq!(bob.read(&team, 5).await.expect("read").seq, 5, "of what is gone");
        assert_eq!(bob.sync().await.expect("a list").sessions[0].unread, 10);
        assert_eq!(bobs.up_to(&team, "said 80").await.last().map(String::as_str), Some("said 80"));
        let late = wire.send(&team, 1, "the first").await.expect_err("it was stored once");
        assert_eq!(late.code, ErrorCode::AlreadyTrimmed);

        cluster.start(away);
        cluster.serving().await;
        cluster.level().await;
        let kept = replicas(&cluster, &[1, 2, 3], &team).await;
        assert_eq!(kept.first().map(|record| record.seq), Some(last - 9));
        let leader = cluster.leader_of(&team).await;
        cluster.kill(leader);
        let last = say(&ann, &team, texts("and", 5)).await.last().expect("an ack").seq;
        until("the next leader trims too", async || first_kept(&ann, &team).await == last - 9).await;
        // Nothing is set for a direct session: the default of this cluster is some seconds.
        let pair = direct("ann", "bob");
        say(&ann, &pair, texts("you", 3)).await;
        assert_eq!(first_kept(&ann, &pair).await, 1);
        until("what is old is trimmed", async || first_kept(&ann, &pair).await == 4).await;
        let line = bob.sync().await.expect("a list").sessions.into_iter().find(|line| line.session == pair);
        let line = line.expect("it is still there");
        assert_eq!((line.unread, line.last, line.last_seq), (0, None, 3));
        assert_eq!(say(&bob, &pair, texts("me", 1)).await[0].seq, 4);
        // Who sets something for a group sets aside the default.
        ann.set_retention(&team, Retention { age_ms: 0, count: u64::MAX }).await.expect("set");
        cluster.start(leader);
        cluster.serving().await;
    });
}

/// Of a direct session what either user, or the cluster, lets go of goes; of a group what its owner says, or else the
/// cluster. What is wished holds under the next leader.
#[test]
fn each_user_of_a_direct_session_shortens_what_is_kept_through_the_death_of_the_leader() {
    play(async {
        let plan = Plan::new(3, 2)
            .with("storage", "retention_sweep_ms = 200")
            .with("storage", "retention_direct_count = 30")
            .with("storage", "retention_group_count = 20")
            .with("storage", "checkpoint_ms = 200");
        let mut cluster = Cluster::up(plan).await;
        let (pair, team) = (direct("ann", "bob"), group("team"));
        let (ann, _) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (bob, mut bobs) = app(&cluster, &[2, 3, 1], "bob", "phone").await;
        let (eve, _) = app(&cluster, &[3, 1, 2], "eve", "phone").await;
        ann.create_group(GroupId::new("team").expect("a name"), &[user("bob")]).await.expect("created");
        let last = say(&ann, &pair, texts("hi", 40)).await.last().expect("an ack").seq;
        until("the default of direct sessions", async || first_kept(&bob, &pair).await == last - 29).await;
        let last = say(&ann, &team, texts("hi", 40)).await.last().expect("an ack").seq;
        until("the default of groups", async || first_kept(&bob, &team).await == last - 19).await;

        let keep = |count| Retention { age_ms: 0, count };
        let refused = eve.set_retention(&pair, keep(1)).await.expect_err("not hers");
        assert_eq!(refused.code(), Some(ErrorCode::Forbidden));
        ann.set_retention(&pair, keep(1_000)).await.expect("set");
        let last = bob.set_retention(&pair, keep(5)).await.expect("set").seq;
        let told = bobs.event(|event| match event {
            Event::Message { record, .. } if record.kind == RecordKind::GROUP_CHANGED => Some(record.seq),
            _ => None,
        });
        assert_eq!(told.await, last - 1, "ann's wish is told to bob");
        assert_eq!(ann.group_info(&pair).await.expect("of the two").retention, keep(5));
        until("bob's wish", async || first_kept(&ann, &pair).await == last - 4).await;
        let leader = cluster.leader_of(&pair).await;
        cluster.kill(leader);
        let last = say(&ann, &pair, texts("on", 20)).await.last().expect("an ack").seq;
        until("bob's wish still", async || first_kept(&ann, &pair).await == last - 4).await;
        // Without it the default holds, and not ann's wish, which is longer.
        bob.set_retention(&pair, keep(0)).await.expect("set");
        let last = say(&bob, &pair, texts("more", 60)).await.last().expect("an ack").seq;
        until("the default", async || first_kept(&ann, &pair).await == last - 29).await;
        // The owner of a group sets the default aside.
        ann.set_retention(&team, keep(1_000)).await.expect("set");
        let first = first_kept(&bob, &team).await;
        say(&bob, &team, texts("more", 20)).await;
        cluster.start(leader);
        cluster.serving().await;
        cluster.level().await;
        let (of_team, of_pair) =
            (replicas(&cluster, &[1, 2, 3], &team).await, replicas(&cluster, &[1, 2, 3], &pair).await);
        assert!(of_team[0].seq <= first + 1, "{} of what was kept from {first} on", of_team[0].seq);
        assert_eq!(of_pair[0].seq, last - 29);
    });
}

/// A message that lasts for a time is pushed and pulled as long as it does, and then by nobody, whoever leads by then.
#[test]
fn a_message_that_lasts_for_a_time_goes_from_every_replica() {
    play(async {
        let plan = Plan::new(3, 2).with("storage", "checkpoint_ms = 200");
        let mut cluster = Cluster::up(plan).await;
        let pair = direct("ann", "bob");
        let (ann, _) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (bob, mut bobs) = app(&cluster, &[2, 3, 1], "bob", "phone").await;
        let brief = Outgoing::text("for a moment").lasting(Duration::from_secs(5));
        let wrong = Outgoing::text("never").lasting(Duration::from_millis(1));
        assert_eq!(ann.send(&pair, wrong).await.expect_err("too short").code(), Some(ErrorCode::BadRequest));
        ann.send(&pair, brief).await.expect("sent");
        say(&ann, &pair, texts("stays", 1)).await;
        assert_eq!(bobs.up_to(&pair, "stays 1").await, ["for a moment", "stays 1"]);
        assert_eq!(bob.sync().await.expect("a list").sessions[0].unread, 2);
        let leader = cluster.leader_of(&pair).await;
        cluster.kill(leader);
        until("it is gone", async || {
            let page = bob.pull(&pair, 1, Direction::Forward, 10, Consistency::Linearizable).await;
            page.is_ok_and(|page| page.records[0].kind == RecordKind::EXPIRED)
        })
        .await;
        // It is shown to nobody from its time on; what counts is the entry by which it goes.
        until("it counts no more", async || bob.sync().await.is_ok_and(|list| list.sessions[0].unread == 1))
            .await;
        let edited = ann.edit(&pair, 1, Outgoing::text("again")).await.expect_err("gone");
        assert_eq!(edited.code(), Some(ErrorCode::NoSuchMessage));
        cluster.start(leader);
        cluster.serving().await;
        cluster.level().await;
        let kept = replicas(&cluster, &[1, 2, 3], &pair).await;
        assert_eq!((text_of(&kept[0]), contents(&kept)), (String::new(), texts("stays", 1)));
    });
}

/// A message that is to go once it is read stays as long as it is not, through the death of a leader, and goes after that.
#[test]
fn a_message_that_burns_goes_once_the_other_one_has_read_it() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 2).with("storage", "checkpoint_ms = 200")).await;
        let pair = direct("ann", "bob");
        let (ann, _) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (bob, mut bobs) = app(&cluster, &[2, 3, 1], "bob", "phone").await;
        let burns = || Outgoing::text("for your eyes").burning(Duration::from_millis(1_500));
        ann.create_group(GroupId::new("team").expect("a name"), &[]).await.expect("created");
        let refused = ann.send(&group("team"), burns()).await.expect_err("in direct sessions only");
        assert_eq!(refused.code(), Some(ErrorCode::BadRequest));
        let seq = ann.send(&pair, burns()).await.expect("sent").seq;
        assert_eq!(bobs.up_to(&pair, "for your eyes").await, ["for your eyes"]);
        ann.read(&pair, seq).await.expect("read by the one who wrote it");
        let leader = cluster.leader_of(&pair).await;
        cluster.kill(leader);
        let kind_of = async |seq: u64| {
            let page = bob.pull(&pair, seq, Direction::Forward, 1, Consistency::Linearizable).await;
            page.unwrap_or_else(|why| panic!("{why}")).records[0].kind
        };
        let kind = async || kind_of(seq).await;
        // Sent later and gone after as long a time: by then the other one would be gone as well.
        let witness = Outgoing::text("a moment").lasting(Duration::from_millis(1_500));
        let witness = ann.send(&pair, witness).await.expect("sent").seq;
        until("the witness is gone", async || kind_of(witness).await == RecordKind::EXPIRED).await;
        assert_eq!(kind().await, RecordKind::CONTENT, "bob has not read it");
        bob.read(&pair, seq).await.expect("read");
        until("it is gone", async || kind().await == RecordKind::EXPIRED).await;
        cluster.start(leader);
        cluster.serving().await;
        let kept = replicas(&cluster, &[1, 2, 3], &pair).await;
        assert_eq!(kept[0].kind, RecordKind::EXPIRED);
    });
}

/// Who reads everything at once has read what waited for that, and the other one hears of it; who clears or deletes for
/// itself has not.
#[test]
fn reading_everything_burns_and_clearing_does_not() {
    play(async {
        let cluster = Cluster::up(Plan::new(1, 2)).await;
        let pair = direct("ann", "bob");
        let (ann, mut anns) = app(&cluster, &[1], "ann", "phone").await;
        let (bob, mut bobs) = app(&cluster, &[1], "bob", "phone").await;
        for text in ["one", "two"] {
            ann.send(&pair, Outgoing::text(text).burning(Duration::ZERO)).await.expect("sent");
            bobs.up_to(&pair, text).await;
        }
        let kinds = async || {
            let page = ann.pull(&pair, 1, Direction::Forward, 10, Consistency::Linearizable).await;
            page.expect("a page").records.iter().map(|record| record.kind).collect::<Vec<_>>()
        };
        bob.delete_messages(&pair, 1, 1).await.expect("deleted");
        bob.clear_session(&pair, 1).await.expect("cleared");
        // Would they burn, they would have gone before this one.
        ann.send(&pair, Outgoing::text("a moment").lasting(Duration::from_secs(1))).await.expect("sent");
        until("the witness is gone", async || kinds().await.last() == Some(&RecordKind::EXPIRED)).await;
        until("and counts no more", async || bob.sync().await.is_ok_and(|list| list.sessions[0].unread == 1))
            .await;
        assert_eq!(kinds().await[..2], [RecordKind::CONTENT; 2], "bob has read none of it");
        assert_eq!(bob.read_all().await.expect("read"), 1);
        until("both are gone", async || kinds().await == [RecordKind::EXPIRED; 3]).await;
        let told = anns.event(|event| match event {
            Event::Receipt(receipt) => Some((receipt.user.clone(), receipt.seq)),
            _ => None,
        });
        assert_eq!(told.await, (user("bob"), 3));
        assert_eq!(bob.sync().await.expect("a list").sessions[0].unread, 0);
    });
}
