//! What was taken back is shown to nobody any more, on any node, also after a leader has died.

use rookery_client::wire::RecordKind;
use rookery_client::{ClientError, Event, Outgoing};
use rookery_wire::request::{Consistency, Direction};
use rookery_wire::{ErrorCode, Record, Target, decode};

use super::fixture::{Cluster, Plan, play};
use super::people::{app, contents, direct, replicas, say, texts};

/// A ring so short that most of what is recalled here stands in rows.
fn plan() -> Plan {
    Plan::new(3, 3).with("limits", "ring_records = 8").with("storage", "checkpoint_ms = 200")
}

/// The seq that a signal names.
fn target(record: &Record) -> u64 {
    decode::<Target>(&record.content.0).expect("a target").seq
}

#[test]
fn a_recall_holds_on_every_node_and_through_the_death_of_the_leader() {
    play(async {
        let mut cluster = Cluster::up(plan()).await;
        let session = direct("ann", "bob");
        let (ann, _hers) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (bob, mut his) = app(&cluster, &[2, 3, 1], "bob", "phone").await;
        say(&ann, &session, texts("before", 20)).await;
        let secret = ann.send(&session, Outgoing::text("a secret")).await.expect("stored").seq;
        say(&ann, &session, texts("after", 20)).await;
        his.up_to(&session, "after 20").await;
        let unread = |list: rookery_client::SyncList| list.sessions[0].unread;
        assert_eq!(unread(bob.sync().await.expect("a list")), 41);

        let signal = ann.recall(&session, secret).await.expect("recalled").seq;
        let (seq, of) = his
            .event(|event| match event {
                Event::Message { record, .. } if record.kind == RecordKind::RECALL => {
                    Some((record.seq, target(record)))
                }
                _ => None,
            })
            .await;
        assert_eq!((seq, of), (signal, secret));
        let page = bob
            .pull(&session, secret, Direction::Forward, 1, Consistency::Linearizable)
            .await
            .expect("a page");
        assert_eq!((page.records[0].kind, page.records[0].content.len()), (RecordKind::RECALLED, 0));
        assert_eq!(unread(bob.sync().await.expect("a list")), 40, "it is not unread any more");

        let edited = ann.edit(&session, 1, Outgoing::text("put better")).await.expect("edited").seq;
        assert_eq!(edited, signal + 1);
        for (client, seq, code) in [
            (&bob, 2, ErrorCode::NotAllowed),
            (&ann, secret, ErrorCode::Recalled),
            (&ann, signal, ErrorCode::NoSuchMessage),
            (&ann, 9999, ErrorCode::NoSuchMessage),
        ] {
            match client.recall(&session, seq).await {
                Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, code, "recall of {seq}"),
                other => panic!("recall of {seq}: {other:?}"),
            }
        }

        let leader = cluster.leader_of(&session).await;
        cluster.kill(leader);
        // Whoever leads now, and the one that comes back from its rows and log.
        say(&ann, &session, texts("later", 3)).await;
        cluster.start(leader);
        cluster.serving().await;
        cluster.level().await;
        let held = replicas(&cluster, &[1, 2, 3], &session).await;
        assert!(held.iter().all(|record| !record.content.as_ref().windows(6).any(|part| part == b"secret")));
        let said = contents(&held);
        assert_eq!(
            (said.first().map(String::as_str), said.last().map(String::as_str)),
            (Some("put better"), Some("later 3"))
        );
        assert_eq!(unread(bob.sync().await.expect("a list")), 43);
        ann.close().await;
        bob.close().await;
    });
}
