//! SYNC since a mark, on a cluster: a device that was away is told what changed and no more, through the death of leaders
//! and restarts; and what it has put together is what the whole list says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery::http::fetch;
use rookery_client::{Client, ClientError, Mark, SyncChanges};
use rookery_wire::own::Badge;
use rookery_wire::reply::Summary;
use rookery_wire::{ErrorCode, SessionId, SessionSetting};

use super::fixture::{Cluster, Plan, play, until};
use super::people::{app, device, direct, group, say, texts, user};

/// A line without what this device did itself, and what is of a connection.
fn bare(line: Summary) -> (SessionId, Summary) {
    let line = Summary { live_from: 0, delivered_seq: 0, last_client_seq: 0, ..line };
    (line.session.clone(), line)
}

/// The list as a device keeps it.
#[derive(Default)]
struct Copy {
    lines: BTreeMap<SessionId, Summary>,
    badge: Badge,
    mark: Mark,
}

impl Copy {
    /// Asks what has changed, and takes it in. What could not be asked while somebody was elected is asked again.
    async fn update(&mut self, client: &Client) -> SyncChanges {
        let mut all: Option<SyncChanges> = None;
        until("every session can be asked", async || {
            let changes = client.sync_since(&self.mark).await.expect("a list");
            if changes.full {
                self.lines.clear();
            }
            changes.left.iter().for_each(|session| drop(self.lines.remove(session)));
            self.lines.extend(changes.sessions.iter().cloned().map(bare));
            (self.badge, self.mark) = (changes.badge, changes.mark.clone());
            let done = changes.unresolved.is_empty();
            let known =
                all.get_or_insert_with(|| SyncChanges { sessions: vec![], left: vec![], ..changes.clone() });
            known.sessions.extend(changes.sessions);
            known.left.extend(changes.left);
            known.full |= changes.full;
            done
        })
        .await;
        all.expect("asked once at least")
    }

    async fn is_the_list(&self, client: &Client, when: &str) {
        let mut whole = Copy::default();
        whole.update(client).await;
        assert_eq!(self.lines, whole.lines, "{when}");
        assert_eq!(self.badge, whole.badge, "{when}");
    }
}

fn names(changes: &SyncChanges) -> BTreeSet<SessionId> {
    changes.sessions.iter().map(|line| line.session.clone()).collect()
}

fn room(number: usize) -> SessionId {
    group(&format!("room-{number}"))
}

async fn rooms(by: &Client, count: std::ops::Range<usize>) {
    for number in count {
        let SessionId::Group(id) = room(number) else { panic!("a group") };
        by.create_group(id, &[user("ann")]).await.expect("created");
        say(by, &room(number), texts("hello", 1)).await;
    }
}

#[test]
fn a_device_that_was_away_is_told_what_changed_and_no_more() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 4)).await;
        let (phone, _phones) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (pad, _pads) = app(&cluster, &[2, 3, 1], "ann", "pad").await;
        let (bob, _bobs) = app(&cluster, &[3, 1, 2], "bob", "phone").await;
        rooms(&bob, 0..24).await;
        let mut copy = Copy::default();
        let first = copy.update(&phone).await;
        assert_eq!((first.full, first.sessions.len(), first.total), (true, 24, 24));
        let nothing = copy.update(&phone).await;
        assert_eq!((nothing.full, nothing.sessions.len(), nothing.total), (false, 0, 24));

        // Away: three are written in, one is read, one pinned, one left, one is new; one was only had by another device.
        for number in [3, 7, 11] {
            say(&bob, &room(number), texts("news", 2)).await;
        }
        pad.read(&room(5), 2).await.expect("read");
        pad.set_session(&room(6), SessionSetting::Pin(Some(1))).await.expect("pinned");
        pad.remove_members(&room(9), &[user("ann")]).await.expect("left");
        rooms(&bob, 24..25).await;
        let changes = copy.update(&phone).await;
        assert_eq!(names(&changes), [3, 5, 6, 7, 11, 24].map(room).into());
        assert_eq!((changes.full, changes.left, changes.total), (false, vec![room(9)], 24));
        copy.is_the_list(&phone, "after a while away").await;

        // The same through faults: what shards remember of changes outlives them, and grows by none.
        let leader = cluster.leader_of(&room(3)).await;
        cluster.kill(leader);
        say(&bob, &room(3), texts("without a leader", 1)).await;
        let changes = copy.update(&phone).await;
        assert_eq!((changes.full, names(&changes)), (false, [room(3)].into()), "a leader died");
        cluster.start(leader);
        cluster.serving().await;
        for id in cluster.ids() {
            cluster.kill(id);
        }
        cluster.start_all();
        cluster.serving().await;
        let nothing = copy.update(&phone).await;
        assert_eq!(
            (nothing.full, names(&nothing), nothing.left),
            (false, [].into(), vec![]),
            "all were killed"
        );
        say(&bob, &room(0), texts("after all", 1)).await;
        let changes = copy.update(&phone).await;
        assert_eq!((changes.full, names(&changes)), (false, [room(0)].into()));
        copy.is_the_list(&phone, "after faults").await;
    });
}

#[test]
fn lists_put_together_since_marks_are_the_whole_list_through_random_days() {
    play(async {
        let seed = 20_261_122;
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        // Checkpoints come often, so that restarts begin with rows of many moments.
        let plan = Plan::new(3, 4).with("storage", "checkpoint_ms = 300");
        let mut cluster = Cluster::up(plan).await;
        let (phone, _phones) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (pad, _pads) = app(&cluster, &[2, 3, 1], "ann", "pad").await;
        let (bob, _bobs) = app(&cluster, &[3, 1, 2], "bob", "phone").await;
        rooms(&bob, 0..12).await;
        let mut copy = Copy::default();
        copy.update(&phone).await;
        let (mut told, mut left_alone) = (0, 0);
        for round in 0..10 {
            let victim = (round % 3 == 1).then(|| cluster.ids()[random.random_range(0..3)]);
            if let Some(victim) = victim {
                cluster.kill(victim);
            }
            let mut touched = BTreeSet::new();
            for _ in 0..random.random_range(0..6) {
                let session = room(random.random_range(0..12));
                touched.insert(session.clone());
                change(&mut random, &pad, &bob, &session).await;
            }
            let changes = copy.update(&phone).await;
            assert!(!changes.full, "round {round}");
            let mut named = names(&changes);
            named.extend(changes.left);
            assert!(named.is_subset(&touched), "round {round}: {named:?} of {touched:?}");
            told += named.len();
            left_alone += 12 - named.len();
            copy.is_the_list(&phone, &format!("seed {seed}, round {round}")).await;
            if let Some(victim) = victim {
                cluster.start(victim);
                cluster.serving().await;
            }
        }
        println!("{told} told, {left_alone} left alone");
        assert!(told > 5 && left_alone > 60, "{told} told, {left_alone} left alone");
    });
}

/// Something happens in a session: to its messages, to ann's membership, or to what ann has of it.
async fn change(random: &mut StdRng, pad: &Client, bob: &Client, session: &SessionId) {
    let members = bob.members(session, None, 9).await.expect("members").users;
    let is_in = members.contains(&user("ann"));
    let ann = [user("ann")];
    match random.random_range(0..8) {
        0 if is_in => {
            bob.remove_members(session, &ann).await.expect("removed");
        }
        0..=1 if !is_in => {
            bob.add_members(session, &ann).await.expect("added");
        }
        2 if is_in => {
            pad.read(session, 2).await.expect("read");
        }
        3 if is_in => {
            pad.set_session(session, SessionSetting::MarkUnread(true)).await.expect("set");
        }
        4 if is_in => {
            pad.clear_session(session, 1).await.expect("cleared");
        }
        5 => {
            let ack = say(bob, session, texts("oops", 1)).await.remove(0);
            bob.recall(session, ack.seq).await.expect("recalled");
        }
        _ => {
            say(bob, session, texts("more", 1)).await;
        }
    }
}

/// Lets a node lead every shard.
pub async fn all_led_by(cluster: &Cluster, id: u16) {
    for shard in 1..=cluster.shards {
        until(&format!("node {id} leads shard {shard}"), async || {
            let Some(leader) = cluster.board().await.leader(shard) else { return false };
            if leader != id {
                let order = format!("/transfer?shard={shard}&to={id}");
                // It may not have caught up yet, or the lead may move of itself: it is looked at again.
                let _ = fetch::post(&cluster.node(leader).http, &order, Duration::from_secs(10)).await;
            }
            cluster.board().await.leader(shard) == Some(id)
        })
        .await;
    }
}

/// A node that lost its folder is filled by snapshots; leading everything it tells of changes what the others did.
#[test]
fn a_node_filled_by_snapshots_knows_what_changed_since() {
    play(async {
        let plan = Plan::new(3, 2).with("storage", "log_keep = 5").with("storage", "checkpoint_ms = 200");
        let mut cluster = Cluster::up(plan).await;
        let (phone, _phones) = app(&cluster, &[1, 2], "ann", "phone").await;
        let (pad, _pads) = app(&cluster, &[2, 1], "ann", "pad").await;
        let (bob, _bobs) = app(&cluster, &[1, 2], "bob", "phone").await;
        rooms(&bob, 0..12).await;
        for number in 0..12 {
            say(&bob, &room(number), texts("more", 5)).await;
        }
        let mut copy = Copy::default();
        copy.update(&phone).await;
        cluster.stop(3).await;
        say(&bob, &room(2), texts("news", 1)).await;
        pad.read(&room(4), 3).await.expect("read");
        pad.remove_members(&room(6), &[user("ann")]).await.expect("left");
        std::fs::remove_dir_all(cluster.data(3)).expect("removed");
        cluster.start_as(&cluster.fleet.clone(), 3, &["--replace"]);
        cluster.serving().await;
        cluster.level().await;
        assert!(cluster.log(3).contains("snapshot"), "filled from what was purged: {}", cluster.log(3));
        all_led_by(&cluster, 3).await;
        let changes = copy.update(&phone).await;
        assert_eq!((changes.full, names(&changes)), (false, [room(2), room(4)].into()));
        assert_eq!(changes.left, [room(6)]);
        copy.is_the_list(&phone, "told by the node that was filled").await;
    });
}

#[test]
fn marks_are_of_one_device_and_tell_nothing_of_blocks() {
    play(async {
        let elsewhere = {
            let cluster = Cluster::up(Plan::new(1, 4)).await;
            let (ann, _anns) = app(&cluster, &[1], "ann", "phone").await;
            ann.sync_since(&Mark::default()).await.expect("a list").mark
        };
        let cluster = Cluster::up(Plan::new(1, 4)).await;
        let (phone, _phones) = app(&cluster, &[1], "ann", "phone").await;
        let (pad, _pads) = app(&cluster, &[1], "ann", "pad").await;
        let (bob, _bobs) = app(&cluster, &[1], "bob", "phone").await;
        let session = direct("ann", "bob");
        say(&bob, &session, texts("hello", 1)).await;
        let of_phone = phone.sync_since(&Mark::default()).await.expect("a list").mark;
        let refused = |found: Result<SyncChanges, ClientError>| {
            assert_eq!(found.expect_err("refused").code(), Some(ErrorCode::BadRequest));
        };
        refused(phone.sync_since(&elsewhere).await);
        refused(pad.sync_since(&of_phone).await);
        refused(phone.sync_since(&"00".parse().expect("hexadecimal")).await);

        // Bob is not told that he is blocked, nor ann that he tries to write.
        let of_bob = bob.sync_since(&Mark::default()).await.expect("a list").mark;
        pad.block(user("bob")).await.expect("blocked");
        let refused = bob.send(&session, rookery_client::Outgoing::text("why?")).await.expect_err("blocked");
        assert_eq!(refused.code(), Some(ErrorCode::RefusedByPeer));
        for (client, mark) in [(&bob, &of_bob), (&phone, &of_phone)] {
            let changes = client.sync_since(mark).await.expect("a list");
            assert_eq!((changes.full, changes.sessions, changes.total), (false, vec![], 1));
        }

        // Ended and registered anew: the new device of that name has had nothing.
        pad.end_device(device("phone")).await.expect("ended");
        drop(phone);
        let (phone, _phones) = app(&cluster, &[1], "ann", "phone").await;
        let changes = phone.sync_since(&of_phone).await.expect("a list");
        assert_eq!((changes.full, changes.sessions.len()), (true, 1));
        let changes = phone.sync_since(&changes.mark).await.expect("a list");
        assert_eq!((changes.full, changes.sessions.len()), (false, 0));
    });
}
