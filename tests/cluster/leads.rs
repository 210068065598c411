//! Which node leads a shard: what an operator says of it lasts.

use std::time::Duration;

use rookery::http::fetch;
use rookery_client::Outgoing;

use super::fixture::{Cluster, Plan, play, until};
use super::people::{app, direct};

/// Longer than a node gives an order.
const ORDER: Duration = Duration::from_secs(12);

/// Orders the leader of shard 1 to hand it to a node, until that is done: the heir may be on its way to the log's end.
async fn transfer(cluster: &Cluster, to: u16) {
    until(&format!("node {to} is given shard 1"), async || {
        let Some(leader) = cluster.board().await.leader(1) else { return false };
        fetch::post(&cluster.node(leader).http, &format!("/transfer?shard=1&to={to}"), ORDER).await.is_ok()
    })
    .await;
}

async fn leads(cluster: &Cluster, node: u16) {
    until(&format!("node {node} leads shard 1"), async || cluster.board().await.leader(1) == Some(node))
        .await;
}

/// For whom each node says that the leads of shards 1, 2 and 3 are kept.
async fn kept(cluster: &Cluster) -> Vec<Vec<u16>> {
    let board = cluster.board().await;
    let of = |status: &rookery::status::NodeStatus| {
        status.shards.iter().filter_map(|shard| shard.preferred).collect::<Vec<_>>()
    };
    board.statuses().map(of).collect()
}

/// Without an order leads go back to the first node of the placement, which of shard 1 is node 1: that this does not happen
/// is seen by the lead's going to node 2, by itself, when that node comes back.
#[test]
fn a_lead_that_was_transferred_stays_though_nodes_die_and_all_restart() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 3)).await;
        assert_eq!(kept(&cluster).await, vec![vec![1, 2, 3]; 3]);
        let (wilma, _inbox) = app(&cluster, &[3, 1, 2], "wilma", "desk").await;
        let chat = direct("wilma", "fridolin");
        let mut sent = 0;
        let mut say = async |text: &str| {
            sent += 1;
            assert_eq!(wilma.send(&chat, Outgoing::text(text)).await.expect("sent").seq, sent);
        };
        say("before").await;

        let leader = cluster.board().await.leader(1).expect("a leader");
        let other = if leader == 3 { 2 } else { 3 };
        let refusals = [
            (leader, "shard=1&to=9", "no node 9"),
            (leader, "shard=99&to=2", "no replica of shard 99"),
            (other, "shard=1&to=2", "does not lead shard 1"),
        ];
        for (node, order, why) in refusals {
            let order = format!("/transfer?{order}");
            let said =
                fetch::post(&cluster.node(node).http, &order, ORDER).await.expect_err(&order).to_string();
            assert!(said.contains(why), "{order}: {said}");
        }
        assert_eq!(kept(&cluster).await, vec![vec![1, 2, 3]; 3], "what was refused changes nothing");

        transfer(&cluster, 2).await;
        leads(&cluster, 2).await;
        let noted = async |cluster: &Cluster| {
            until("all nodes know of it", async || kept(cluster).await == vec![vec![2, 2, 3]; 3]).await;
        };
        noted(&cluster).await;
        say("moved").await;

        cluster.kill(2);
        until("another leads", async || cluster.board().await.leader(1).is_some_and(|node| node != 2)).await;
        say("without its leader").await;
        // A node that is away cannot be given a lead, and nothing is noted.
        let leader = cluster.board().await.leader(1).expect("a leader");
        let said = fetch::post(&cluster.node(leader).http, "/transfer?shard=1&to=2", ORDER).await;
        assert!(said.expect_err("node 2 is dead").to_string().contains("cannot take leads now"));
        cluster.start(2);
        cluster.serving().await;
        leads(&cluster, 2).await;
        say("with it").await;

        for id in cluster.ids() {
            cluster.kill(id);
        }
        cluster.start_all();
        cluster.serving().await;
        noted(&cluster).await;
        leads(&cluster, 2).await;
        say("after all of them died").await;

        // Another order takes its place.
        transfer(&cluster, 1).await;
        leads(&cluster, 1).await;
        until("the last order holds", async || kept(&cluster).await == vec![vec![1, 2, 3]; 3]).await;
    });
}
