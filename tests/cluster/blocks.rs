//! Blocks of people one has nothing to do with yet, on a cluster.

use rookery_client::Outgoing;
use rookery_client::wire::own::RelationFilter;
use rookery_wire::{ErrorCode, GroupId, RelationState, UserAction};

use super::fixture::{Cluster, Plan, play};
use super::people::{app, direct, group, say, texts, user};

/// A block before there is a session: who is blocked begins none, and where the other begins one he is refused in it, though
/// leaders die in between; its end leaves nothing that refuses him.
#[test]
fn a_block_before_there_is_a_session_holds_whoever_begins_it_and_its_end_leaves_nothing() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 4)).await;
        let (ottilie, _o) = app(&cluster, &[1, 2, 3], "ottilie", "phone").await;
        let others = ["pavel", "quentin", "rosalind"];
        for (nth, other) in others.into_iter().enumerate() {
            let session = direct("ottilie", other);
            ottilie.block(user(other)).await.expect("blocked");
            let (them, _t) = app(&cluster, &[2, 3, 1], other, "phone").await;
            let refused = them.send(&session, Outgoing::text("hi")).await.expect_err("blocked");
            assert_eq!(refused.code(), Some(ErrorCode::RefusedByPeer), "{other}: {refused}");
            // The leader of the session, then that of who blocks, dies while she begins it.
            let victim = match nth {
                0 => None,
                1 => Some(cluster.leader_of(&session).await),
                _ => Some(cluster.leader_of_user(&user("ottilie")).await),
            };
            if nth != 0 {
                let beginning = tokio::spawn({
                    let (ottilie, session) = (ottilie.clone(), session.clone());
                    async move { say(&ottilie, &session, texts("to you", 1)).await }
                });
                if let Some(victim) = victim {
                    cluster.kill(victim);
                }
                beginning.await.expect("no panic");
                let refused = them.send(&session, Outgoing::text("hi")).await.expect_err("blocked");
                assert_eq!(refused.code(), Some(ErrorCode::RefusedByPeer), "{other}: {refused}");
                if let Some(victim) = victim {
                    cluster.start(victim);
                    cluster.serving().await;
                }
                let refused = them.send(&session, Outgoing::text("hi")).await.expect_err("blocked");
                assert_eq!(refused.code(), Some(ErrorCode::RefusedByPeer), "{other}: {refused}");
            }
            assert_eq!(ottilie.unblock(user(other)).await.expect("unblocked"), RelationState::None);
            say(&them, &session, texts("at last", 1)).await;
        }
        let left = ottilie.relations(RelationFilter::All, None, 9).await.expect("a page");
        assert!(left.relations.is_empty(), "{left:?}");
    });
}

/// Who was blocked, and a stranger where strangers are kept out, bring nobody into a group: that one sees nothing of it, and those
/// who are there see that it did not come.
#[test]
fn nobody_is_brought_into_a_group_against_its_block_or_its_word_on_strangers() {
    play(async {
        let cluster = Cluster::up(Plan::new(3, 4)).await;
        let (sigrid, mut hers) = app(&cluster, &[1, 2, 3], "sigrid", "phone").await;
        let (torvald, _t) = app(&cluster, &[2, 3, 1], "torvald", "phone").await;
        sigrid.block(user("torvald")).await.expect("blocked");
        for (name, strangers) in [("quarry", false), ("pit", true)] {
            if strangers {
                sigrid.unblock(user("torvald")).await.expect("unblocked");
                let refuse = UserAction::SetStrangers { refuse: true };
                sigrid.manage_self(refuse).await.expect("set");
            }
            let id = GroupId::new(name).expect("a name");
            torvald.create_group(id, &[user("sigrid"), user("ulla")]).await.expect("created");
            let seen = torvald.members(&group(name), None, 9).await.expect("a page").users;
            assert_eq!(seen, [user("torvald"), user("ulla")], "{name}");
            let said = say(&torvald, &group(name), texts("to whoever is there", 1)).await;
            assert_eq!(said.last().map(|ack| ack.seq), Some(3), "made, left, said: {name}");
        }
        let refuse = UserAction::SetStrangers { refuse: false };
        sigrid.manage_self(refuse).await.expect("set");
        let id = GroupId::new("shaft").expect("a name");
        torvald.create_group(id, &[user("sigrid")]).await.expect("created");
        say(&torvald, &group("shaft"), texts("down here", 1)).await;
        assert_eq!(hers.up_to(&group("shaft"), "down here 1").await, texts("down here", 1));
        for name in ["quarry", "pit"] {
            let refused = sigrid.send(&group(name), Outgoing::text("hello?")).await.expect_err("not in it");
            assert_eq!(refused.code(), Some(ErrorCode::NotMember), "{name}: {refused}");
        }
    });
}
