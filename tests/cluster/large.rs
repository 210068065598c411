//! A large group: joining in batches, what a send costs, what a login costs.

use rookery_wire::{GroupId, SessionId};

use super::fixture::{Cluster, Plan, play, until};
use super::people::{Wire, app, group, say, texts, user};

/// Members that are never online.
const MEMBERS: usize = 2_000;
/// Records sent while it is counted.
const SENDS: usize = 50;

/// Records given to subscriptions, and subscriptions looked at for that, on all nodes.
async fn published(cluster: &Cluster) -> (u64, u64) {
    let mut sum = (0, 0);
    for id in cluster.ids() {
        let delivery = cluster.status(id).await.expect("it answers").delivery;
        sum = (sum.0 + delivery.published, sum.1 + delivery.visits);
    }
    sum
}

/// What sending so many messages adds to both.
async fn cost_of_sends(cluster: &Cluster, session: &SessionId, label: &str) -> (u64, u64) {
    let (ann, _) = app(cluster, &[1, 2, 3], "ann", "phone").await;
    let (_bob, mut bobs) = app(cluster, &[2, 3, 1], "bob", "phone").await;
    say(&ann, session, texts(&format!("{label} first"), 1)).await;
    bobs.up_to(session, &format!("{label} first 1")).await;
    // A replica that is behind would give out what came before among what is counted.
    cluster.level().await;
    let before = published(cluster).await;
    say(&ann, session, texts(label, SENDS)).await;
    bobs.up_to(session, &format!("{label} {SENDS}")).await;
    until("every replica has published", async || published(cluster).await.0 - before.0 >= 2 * SENDS as u64)
        .await;
    cluster.level().await;
    let after = published(cluster).await;
    (after.0 - before.0, after.1 - before.1)
}

/// Two are online in a group of 2,002 and in a group of two: a send is given to as many subscriptions in the one as in the
/// other, for members who are not online have none, and a member's login differs by one line. What the session itself
/// does for a send is not counted here.
#[test]
fn a_send_to_2000_members_costs_what_its_online_receivers_cost() {
    play(async {
        let cluster = Cluster::up(Plan::new(3, 4)).await;
        let (crowd, pair) = (group("crowd"), group("pair"));
        let (ann, _) = app(&cluster, &[1, 2, 3], "ann", "desk").await;
        for name in ["crowd", "pair"] {
            ann.create_group(GroupId::new(name).expect("a name"), &[user("bob")]).await.expect("created");
        }
        let members: Vec<_> = (0..MEMBERS).map(|number| user(&format!("m{number:05}"))).collect();
        for some in members.chunks(1_000) {
            ann.add_members(&crowd, some).await.expect("added");
        }
        assert_eq!(ann.group_info(&crowd).await.expect("a group").members as usize, MEMBERS + 2);
        ann.close().await;
        let few = cost_of_sends(&cluster, &pair, "pair").await;
        let many = cost_of_sends(&cluster, &crowd, "crowd").await;
        assert_eq!(many.0, few.0, "records given out, on the nodes where somebody is attached");
        assert!(many.1 <= many.0, "{} visits for {} records: one for each who is attached", many.1, many.0);
        for name in ["m00000", "m01999"] {
            let mut phone = Wire::of(&cluster, 3, name, "phone").await;
            let list = phone.sync().await;
            let [line] = &list.sessions[..] else { panic!("{name} has {} sessions", list.sessions.len()) };
            assert_eq!((&line.session, line.unread), (&crowd, SENDS as u64 + 1));
        }
    });
}
