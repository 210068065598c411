//! Data folders that a node must not serve from, and how a lost one is replaced.

use std::fs;
use std::path::Path;

use rookery::fleet::Fleet;
use rookery::system::FORMAT;
use rookery::system::forming::FolderIdentity;
use rookery_client::Client;
use rookery_raft::{Store, StoreOptions};

use super::fixture::{Cluster, Plan, free_addresses, play, until};
use super::people::{app, contents, direct, replicas, say, texts};

/// All that a message names: the folder or the node, and what to do.
fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
}

/// Rewrites the identity in a stopped node's folder.
async fn rewrite(folder: &Path, change: impl FnOnce(&mut FolderIdentity)) -> FolderIdentity {
    let store = Store::open(StoreOptions::new(folder)).expect("the folder");
    let mut identity = FolderIdentity::of(&store).expect("readable").expect("it belongs to a node");
    let before = identity.clone();
    change(&mut identity);
    store.set_identity(identity.bytes()).await.expect("written");
    store.close().await;
    before
}

/// The other nodes serve on: a conversation grows by one, whatever node 1 is doing.
async fn goes_on(ann: &Client, said: &mut Vec<String>, what: &str) {
    say(ann, &direct("ann", "bob"), [what.to_owned()]).await;
    said.push(what.to_owned());
}

/// A folder of node 1 of another cluster, of one node.
async fn foreign_folder(into: &Path) {
    let mut other = Cluster::up(Plan::new(1, 2)).await;
    other.stop(1).await;
    fs::rename(other.data(1), into).expect("moved");
}

#[test]
fn a_folder_that_is_not_this_nodes_own_is_refused_and_a_lost_one_is_replaced() {
    play(async {
        let spare = tempfile::tempdir().expect("a folder");
        let foreign = spare.path().join("foreign");
        foreign_folder(&foreign).await;
        // A short log, so that an empty folder is filled by a snapshot and not from the log.
        let plan = Plan::new(3, 2).with("storage", "log_keep = 5").with("storage", "checkpoint_ms = 200");
        let mut cluster = Cluster::up(plan).await;
        let fleet = cluster.fleet.clone();
        let session = direct("ann", "bob");
        let (ann, _) = app(&cluster, &[2, 3], "ann", "phone").await;
        let mut said = texts("hello", 200);
        say(&ann, &session, texts("hello", 200)).await;
        // An entry of the log each, for how many of those above share one nobody knows.
        for number in 0..20 {
            goes_on(&ann, &mut said, &format!("one by one {number}")).await;
        }
        cluster.stop(1).await;
        let data = cluster.data(1);

        // Another node's folder.
        let as_two = another_two(&cluster);
        let error = cluster.refused(&as_two, 2).await;
        let folder = data.display().to_string();
        assert_says(&error, &[&folder, "belongs to node 1, not to node 2", "correct node.data"]);
        goes_on(&ann, &mut said, "after a wrong number").await;

        // A newer format.
        let before = rewrite(&data, |identity| identity.format = FORMAT + 1).await;
        let error = cluster.refused(&fleet, 1).await;
        assert_says(&error, &[&folder, "in format 2", "start a newer version"]);
        restore(&data, before).await;
        goes_on(&ann, &mut said, "after a newer format").await;

        // A folder of another cluster.
        let kept = spare.path().join("kept");
        fs::rename(&data, &kept).expect("moved");
        fs::rename(&foreign, &data).expect("moved");
        let error = cluster.refused(&fleet, 1).await;
        assert_says(&error, &["node 1 is of cluster", "another cluster", "node.data"]);
        fs::rename(&data, &foreign).expect("moved");
        goes_on(&ann, &mut said, "after another cluster").await;

        // An empty folder, twice: the second time it is no longer quite empty.
        for _ in 0..2 {
            let error = cluster.refused(&fleet, 1).await;
            assert_says(&error, &["node 1 is known to cluster", "empty", "--replace"]);
        }
        goes_on(&ann, &mut said, "after an empty folder").await;

        // Replaced: it catches up, also with what was said while it was away, and is a node like any other.
        let (leader, shard) = (cluster.leader_of(&session).await, cluster.shard_of(&session));
        let is_purged =
            async || cluster.replica(leader, shard).await.is_some_and(|replica| replica.purged > 0);
        until("the leader no longer has the beginning of the log", is_purged).await;
        cluster.start_as(&fleet, 1, &["--replace"]);
        cluster.serving().await;
        // It serves before it is filled.
        until("it is filled from what was purged", async || cluster.log(1).contains("snapshot")).await;
        goes_on(&ann, &mut said, "after the replacement").await;
        assert_eq!(contents(&replicas(&cluster, &[1, 2, 3], &session).await), said);
        cluster.kill(1);
        cluster.start(1);
        cluster.serving().await;

        // The folder that was replaced turns up again.
        cluster.stop(1).await;
        let newer = spare.path().join("newer");
        fs::rename(&data, &newer).expect("moved");
        fs::rename(&kept, &data).expect("moved");
        let error = cluster.refused(&fleet, 1).await;
        assert_says(&error, &["data folder of node 1", "was replaced", "--replace"]);
        goes_on(&ann, &mut said, "after the replaced folder").await;
        fs::rename(&data, &kept).expect("moved");
        fs::rename(&newer, &data).expect("moved");
        cluster.start(1);
        cluster.serving().await;
        assert_eq!(contents(&replicas(&cluster, &[1, 2, 3], &session).await), said);
    });
}

async fn restore(folder: &Path, before: FolderIdentity) {
    let store = Store::open(StoreOptions::new(folder)).expect("the folder");
    store.set_identity(before.bytes()).await.expect("written");
    store.close().await;
}

/// A configuration in which node 2 has node 1's folder, on addresses of its own so that the true one can run.
fn another_two(cluster: &Cluster) -> Fleet {
    let fresh = free_addresses(3);
    let two = cluster.node(2).clone();
    cluster.variant(
        "mixed-up.toml",
        &[
            ("data = \"node-1\"", "data = \"nowhere\""),
            ("data = \"node-2\"", "data = \"node-1\""),
            (&two.client, &fresh[0]),
            (&two.peer, &fresh[1]),
            (&two.http, &fresh[2]),
        ],
    )
}
