//! The checker against a fake cluster in this process: it must find nothing wrong where nothing is, and each
//! planted fault, from recorded load to verdict. Load, recording, rounds, dumps and judgement are the real ones.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test's own helpers, which may fail it and tell its seed"
)]

mod fake;

use fake::{FakeCluster, Plant};
use rookery::check::campaign::{self, Campaign};
use rookery::check::cast::CastSize;
use rookery::check::drive::Plan;
use rookery::check::history::{FaultKind, History};
use rookery::check::judge::{Rule, Standing, Verdict, judge};

async fn play(plant: Plant, fault: FaultKind, seed: u64) -> (History, Verdict) {
    println!("seed {seed}, {plant:?}, {fault:?}");
    let mut cluster = FakeCluster::start(plant).await;
    let size = CastSize { users: 10, devices: 2, pairs: 6, groups: 3, group_members: 5, listeners: 2 };
    let plan = Plan { rounds: 1, fault, seed };
    let campaign = Campaign {
        plan,
        size,
        tag: "t".to_owned(),
        rate: 3_000.0,
        window: 6,
        content: (20, 60),
        replication: 3,
        snapshots: false,
        token: String::new(),
    };
    let history = campaign::play(&mut cluster, &campaign, |_| {}).await.unwrap();
    let verdict = judge(&history);
    (history, verdict)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_cluster_is_found_good() {
    for fault in [FaultKind::Kill, FaultKind::Pause, FaultKind::Rolling] {
        let (history, verdict) = play(Plant::Nothing, fault, 11).await;
        assert_eq!(verdict.violations, vec![], "{fault:?}");
        assert_eq!(verdict.standing(), Standing::Good, "{fault:?}: {:?}", verdict.inconclusive);
        assert!(verdict.totals.acked > 1_000 && verdict.totals.refused > 0, "{:?}", verdict.totals);
        assert!(verdict.totals.delivered > 4 * verdict.totals.acked, "{:?}", verdict.totals);
        assert!(history.marks.len() > 10 && history.syncs.len() > 20 && history.pages.len() > 10);
    }
}

async fn caught(plant: Plant, fault: FaultKind, rules: &[Rule]) {
    let (_, verdict) = play(plant, fault, 12).await;
    assert_eq!(verdict.standing(), Standing::Bad, "{plant:?} was not caught");
    let hit = verdict.violations.iter().any(|violation| rules.contains(&violation.rule));
    assert!(hit, "{plant:?} was caught by another rule than {rules:?}: {:#?}", verdict.violations);
}

macro_rules! plants {
    ($($name:ident: $plant:ident, $fault:ident, $($rule:ident)|+;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            caught(Plant::$plant, FaultKind::$fault, &[$(Rule::$rule),+]).await;
        })+
    };
}

plants! {
    an_ack_before_fsync_is_caught: AckBeforeFsync, Kill, Answers;
    a_lost_dedup_table_is_caught: DedupLost, Kill, Entries | Answers;
    a_push_before_commit_is_caught: PushBeforeCommit, None, Pushes;
    a_doubled_push_is_caught: PushTwice, None, Pushes;
    a_skipped_push_is_caught: PushSkipped, None, Delivery;
    swapped_pushes_are_caught: PushesSwapped, None, Pushes;
    a_replica_that_skips_is_caught: ReplicaSkips, None, Replicas;
    a_cursor_that_goes_back_is_caught: CursorBack, None, Cursors;
    stale_reads_are_caught: StaleReads, None, Linear;
    a_wrong_unread_count_is_caught: UnreadOff, None, Unread;
    a_send_by_a_removed_member_is_caught: NoMembership, None, Membership;
}
