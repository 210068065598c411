//! A cluster comes into being in whatever order its nodes are started, once, and is the same one afterwards.

use std::collections::BTreeSet;

use rookery::fleet::Board;

use super::fixture::{Cluster, Plan, play, until};
use super::people::{app, direct, say, texts};

/// The one cluster id that all nodes name.
fn id_of(board: &Board) -> String {
    let ids: BTreeSet<&str> = board.statuses().map(|status| status.cluster_id.as_str()).collect();
    assert_eq!(ids.len(), 1, "one cluster: {ids:?}");
    let id = ids.first().expect("an id").to_string();
    assert_eq!(id.len(), 32, "{id}");
    id
}

#[test]
fn nodes_started_in_reverse_with_one_late_form_one_cluster() {
    play(async {
        let mut cluster = Cluster::planned(Plan::new(3, 2)).await;
        cluster.start(3);
        until("node 3 waits", async || {
            cluster.log(3).contains("waiting for node(s) [1, 2] to form the cluster")
        })
        .await;
        cluster.start(2);
        until("nodes 2 and 3 wait for the late one", async || {
            [2, 3].iter().all(|id| cluster.log(*id).contains("waiting for node(s) [1] to form the cluster"))
        })
        .await;
        let why = cluster.not_ready(2).await.expect("nothing is served yet");
        assert!(why.contains("waits for the others"), "{why}");
        cluster.start(1);
        id_of(&cluster.serving().await);
        let (ann, _) = app(&cluster, &[3], "ann", "phone").await;
        let (_bob, mut inbox) = app(&cluster, &[1], "bob", "phone").await;
        let session = direct("ann", "bob");
        say(&ann, &session, texts("late", 3)).await;
        assert_eq!(inbox.up_to(&session, "late 3").await, texts("late", 3));
    });
}

#[test]
fn nodes_started_all_at_once_form_a_cluster_that_lasts() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 2)).await;
        let id = id_of(&cluster.board().await);
        let (ann, _) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let session = direct("ann", "bob");
        say(&ann, &session, texts("first", 5)).await;
        ann.close().await;
        for node in cluster.ids() {
            cluster.kill(node);
        }
        cluster.start_all();
        assert_eq!(id_of(&cluster.serving().await), id, "the same cluster, not a new one");
        let (_bob, mut inbox) = app(&cluster, &[2], "bob", "phone").await;
        assert_eq!(inbox.up_to(&session, "first 5").await, texts("first", 5));
    });
}
