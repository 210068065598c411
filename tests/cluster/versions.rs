//! What messages said before they were edited, on three nodes: kept where it is wanted, alike on all, and gone with them.

use rookery_client::{Client, ClientError, Outgoing};
use rookery_wire::request::{Consistency, Direction};
use rookery_wire::versions::VersionsPage;
use rookery_wire::{ErrorCode, GroupId, Policy, SessionId, Version};

use super::fixture::{Cluster, Plan, play};
use super::people::{app, direct, group, replicas, say, texts, user};
use super::since::all_led_by;

/// A ring so short that most of what is edited here stands in rows.
fn plan() -> Plan {
    Plan::new(3, 2).with("limits", "ring_records = 8").with("storage", "checkpoint_ms = 200")
}

fn shown(found: Result<VersionsPage, ClientError>) -> Result<Vec<(u64, String)>, ErrorCode> {
    let found = found.map_err(|error| error.code().unwrap_or_else(|| panic!("{error}")))?;
    let text = |content: &[u8]| String::from_utf8(content.to_vec()).expect("text");
    Ok(found.versions.iter().map(|line| (line.number, text(line.content.as_ref()))).collect())
}

async fn versions(client: &Client, session: &SessionId, seq: u64) -> Result<Vec<(u64, String)>, ErrorCode> {
    shown(client.versions(session, seq, 0, 101).await)
}

async fn edit(client: &Client, session: &SessionId, seq: u64, text: &str) -> u64 {
    client.edit(session, seq, Outgoing::text(text)).await.unwrap_or_else(|why| panic!("{why}")).seq
}

fn lines(of: &[(u64, &str)]) -> Result<Vec<(u64, String)>, ErrorCode> {
    Ok(of.iter().map(|(number, text)| (*number, (*text).to_owned())).collect())
}

#[test]
fn versions_are_kept_on_every_node_and_through_the_death_of_the_leader_and_go_with_a_recall() {
    play(async {
        let mut cluster = Cluster::up(plan()).await;
        let hangar = group("hangar");
        let (ines, _hers) = app(&cluster, &[1, 2, 3], "ines", "phone").await;
        let (jon, _his) = app(&cluster, &[2, 3, 1], "jon", "phone").await;
        let (kay, _kays) = app(&cluster, &[3, 1, 2], "kay", "phone").await;
        ines.create_group(GroupId::new("hangar").expect("a name"), &[user("jon")]).await.expect("created");
        let refused = jon.keep_versions(&hangar, true).await.expect_err("not his group");
        assert_eq!(refused.code(), Some(ErrorCode::NotAllowed));
        let before = say(&ines, &hangar, texts("before", 1)).await[0].seq;
        edit(&ines, &hangar, before, "before it was kept").await;
        assert!(!jon.keeps_versions(&hangar).await.expect("told"));
        ines.keep_versions(&hangar, true).await.expect("kept from now on");
        assert!(jon.keeps_versions(&hangar).await.expect("told"));
        assert_eq!(versions(&jon, &hangar, before).await, lines(&[(2, "before it was kept")]));

        let seq = say(&ines, &hangar, texts("a secret", 1)).await[0].seq;
        let other = say(&ines, &hangar, texts("other", 1)).await[0].seq;
        edit(&ines, &hangar, seq, "a second secret").await;
        say(&ines, &hangar, texts("chatter", 20)).await;
        edit(&ines, &hangar, seq, "a third secret").await;
        edit(&ines, &hangar, other, "another").await;
        let three = [(3, "a third secret"), (2, "a second secret"), (1, "a secret 1")];
        for client in [&ines, &jon] {
            assert_eq!(versions(client, &hangar, seq).await, lines(&three));
        }
        let page = jon.versions(&hangar, seq, 3, 1).await.expect("a page");
        assert_eq!((page.more, shown(Ok(page))), (true, lines(&three[1..2])));
        let pulled = jon.pull(&hangar, seq, Direction::Forward, 1, Consistency::Linearizable).await;
        assert_eq!(Version::of(&pulled.expect("a page").records[0]), Version { number: 3, kept: 2 });
        assert_eq!(versions(&kay, &hangar, seq).await, Err(ErrorCode::NotMember));

        // Whoever leads, the one that comes back from its rows and its log among them.
        let leader = cluster.leader_of(&hangar).await;
        cluster.kill(leader);
        edit(&ines, &hangar, seq, "a fourth secret").await;
        let four = [&[(4, "a fourth secret")], &three[..]].concat();
        assert_eq!(versions(&jon, &hangar, seq).await, lines(&four));
        cluster.start(leader);
        cluster.serving().await;
        cluster.level().await;
        for id in cluster.ids() {
            all_led_by(&cluster, id).await;
            assert_eq!(versions(&jon, &hangar, seq).await, lines(&four), "node {id} leads");
            assert_eq!(versions(&ines, &hangar, other).await, lines(&[(2, "another"), (1, "other 1")]));
        }

        // Hidden from who may not read the message.
        jon.delete_messages(&hangar, seq, seq).await.expect("deleted for himself");
        assert_eq!(versions(&jon, &hangar, seq).await, Err(ErrorCode::NoSuchMessage));
        let policy = Policy { history_before_joining: false, ..Policy::default() };
        ines.set_policy(&hangar, policy).await.expect("set");
        ines.add_members(&hangar, &[user("kay")]).await.expect("added");
        assert_eq!(versions(&kay, &hangar, other).await, Err(ErrorCode::NoSuchMessage));
        assert_eq!(versions(&ines, &hangar, seq).await, lines(&four));

        ines.recall(&hangar, seq).await.expect("recalled");
        assert_eq!(versions(&ines, &hangar, seq).await, Err(ErrorCode::Recalled));
        ines.keep_versions(&hangar, false).await.expect("no longer");
        for client in [&ines, &jon] {
            assert_eq!(versions(client, &hangar, other).await, lines(&[(2, "another")]));
        }
        let leader = cluster.leader_of(&hangar).await;
        cluster.kill(leader);
        edit(&ines, &hangar, other, "another again").await;
        assert_eq!(versions(&jon, &hangar, other).await, lines(&[(3, "another again")]));
        cluster.start(leader);
        cluster.serving().await;
        let held = replicas(&cluster, &[1, 2, 3], &hangar).await;
        assert!(held.iter().all(|record| !record.content.as_ref().windows(6).any(|part| part == b"secret")));
        for client in [ines, jon, kay] {
            client.close().await;
        }
    });
}

#[test]
fn a_node_filled_by_snapshots_lists_the_versions_of_a_direct_session_as_both_users_want() {
    play(async {
        let plan = plan().with("limits", "versions_per_message = 2").with("storage", "log_keep = 5");
        let mut cluster = Cluster::up(plan).await;
        let pair = direct("ines", "jon");
        let (ines, _hers) = app(&cluster, &[1, 2], "ines", "phone").await;
        let (jon, _his) = app(&cluster, &[2, 1], "jon", "phone").await;
        let seq = say(&ines, &pair, texts("first", 1)).await[0].seq;
        ines.keep_versions(&pair, true).await.expect("her word");
        edit(&ines, &pair, seq, "second").await;
        assert_eq!(versions(&jon, &pair, seq).await, lines(&[(2, "second")]), "not without his");
        jon.keep_versions(&pair, true).await.expect("his word");
        cluster.stop(3).await;
        edit(&ines, &pair, seq, "third").await;
        say(&ines, &pair, texts("chatter", 30)).await;
        edit(&ines, &pair, seq, "fourth").await;
        edit(&ines, &pair, seq, "fifth").await;
        let kept = lines(&[(5, "fifth"), (4, "fourth"), (3, "third")]);
        assert_eq!(versions(&jon, &pair, seq).await, kept);
        // Nothing is left of what node 3 had, nor of the log by which it could catch up.
        std::fs::remove_dir_all(cluster.data(3)).expect("removed");
        cluster.start_as(&cluster.fleet.clone(), 3, &["--replace"]);
        cluster.serving().await;
        cluster.level().await;
        assert!(cluster.log(3).contains("snapshot"), "filled from what was purged: {}", cluster.log(3));
        all_led_by(&cluster, 3).await;
        assert_eq!(versions(&jon, &pair, seq).await, kept, "node 3 leads");
        edit(&ines, &pair, seq, "sixth").await;
        assert_eq!(versions(&ines, &pair, seq).await, lines(&[(6, "sixth"), (5, "fifth"), (4, "fourth")]));
        jon.keep_versions(&pair, false).await.expect("he has changed his mind");
        assert_eq!(versions(&ines, &pair, seq).await, lines(&[(6, "sixth")]), "and is not overruled");
        cluster.kill(3);
        cluster.start(3);
        cluster.serving().await;
        all_led_by(&cluster, 3).await;
        assert_eq!(versions(&ines, &pair, seq).await, lines(&[(6, "sixth")]));
        ines.close().await;
        jon.close().await;
    });
}
