//! Five nodes, three replicas of each shard: those without one route requests and subscribe to pushes.

use std::time::Duration;

use rookery_client::{Event, Outgoing};
use rookery_wire::request::{Consistency, Direction};
use rookery_wire::{ErrorCode, GroupId, RecordKind};

use super::fixture::{Cluster, Plan, find, play};
use super::people::{Wire, app, contents, group, replicas, say, texts, user};

#[test]
fn a_node_without_a_replica_routes_and_delivers_also_when_the_leader_dies() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(5, 5)).await;
        // Shard 1 is of nodes 1, 2 and 3.
        let name = find(|number| format!("team-{number}"), |name| cluster.shard_of(&group(name)) == 1);
        let session = group(&name);
        assert!(cluster.replica(4, 1).await.is_none() && cluster.replica(5, 1).await.is_none());
        let (ann, _) = app(&cluster, &[4], "ann", "phone").await;
        let (bob, mut bobs) = app(&cluster, &[5], "bob", "phone").await;
        let (_eve, mut eves) = app(&cluster, &[1, 2, 3], "eve", "phone").await;
        let created = ann.create_group(GroupId::new(&name).unwrap(), &[user("bob"), user("eve")]).await;
        assert_eq!(created.expect("created").seq, 1);
        let mut judge = Wire::service(&cluster, 4).await;
        let refused = judge.pull(&session, Consistency::Replica).await.expect_err("it has none");
        assert_eq!(refused.code, ErrorCode::NoReplica, "{refused}");

        let mut expected = texts("before", 20);
        say(&ann, &session, texts("before", 20)).await;
        // Both far ones and one beside a replica are pushed everything.
        assert_eq!(bobs.up_to(&session, "before 20").await, expected);
        assert_eq!(eves.up_to(&session, "before 20").await, expected);
        assert_eq!(bob.sync().await.expect("a list").sessions[0].unread, 20);

        let leader = cluster.leader_of(&session).await;
        let mut waiting = Vec::new();
        for (at, text) in texts("across", 40).into_iter().enumerate() {
            if at == 10 {
                cluster.kill(leader);
            }
            waiting.push(ann.send_pipelined(&session, Outgoing::text(&text)).await.expect("a place"));
        }
        for ack in waiting {
            tokio::time::timeout(Duration::from_secs(20), ack).await.expect("in time").expect("acknowledged");
        }
        expected.extend(texts("across", 40));
        assert_eq!(bobs.up_to(&session, "across 40").await, expected);
        assert_eq!(eves.up_to(&session, "across 40").await, expected);
        let page =
            bob.pull(&session, 1, Direction::Forward, 500, Consistency::Linearizable).await.expect("a page");
        assert_eq!(contents(&page.records), expected, "a pull from afar");

        cluster.start(leader);
        cluster.serving().await;

        // Whichever replica the far nodes are subscribed at, it dies now; one after the other.
        for victim in [1, 2, 3] {
            cluster.kill(victim);
            let label = format!("without {victim}");
            say(&ann, &session, texts(&label, 5)).await;
            expected.extend(texts(&label, 5));
            assert_eq!(bobs.up_to(&session, &format!("{label} 5")).await, expected);
            cluster.start(victim);
            cluster.serving().await;
        }
        assert_eq!(contents(&replicas(&cluster, &[1, 2, 3], &session).await), expected);

        // A group is managed from afar as well, and its end is heard there.
        ann.set_profile(&session, Some("From afar".into()), None).await.expect("named");
        bobs.event(|event| match event {
            Event::Message { record, .. } if record.kind == RecordKind::GROUP_CHANGED => Some(()),
            _ => None,
        })
        .await;
        assert_eq!(bob.group_info(&session).await.expect("a group").name, "From afar".into());
        ann.dissolve(&session).await.expect("dissolved");
        bobs.event(|event| match event {
            Event::Left(left) if *left == session => Some(()),
            _ => None,
        })
        .await;
        assert!(bob.sync().await.expect("a list").sessions.is_empty());
    });
}
