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

use std::time::Duration;

use fake::{FakeCluster, Plant};
use rookery::check::campaign::{self, Campaign};
use rookery::check::cast::CastSize;
use rookery::check::drive::Plan;
use rookery::check::history::{Act, FaultKind, History, Outcome, Parts, Told};
use rookery::check::judge::{Rule, Standing, Verdict, judge};
use rookery::check::stage::{Bounds, MAX_EVENTS};

/// Nothing is far away here, and nothing is kept waiting.
const BOUNDS: Bounds =
    Bounds { events: MAX_EVENTS, grace: Duration::from_secs(1), drain: Duration::from_secs(3) };

async fn play(plant: Plant, fault: FaultKind, seed: u64) -> (History, Verdict) {
    play_within(BOUNDS, plant, fault, seed).await
}

async fn play_within(bounds: Bounds, plant: Plant, fault: FaultKind, seed: u64) -> (History, Verdict) {
    println!("seed {seed}, {plant:?}, {fault:?}");
    let mut cluster = FakeCluster::start(plant).await;
    let size =
        CastSize { users: 10, devices: 2, pairs: 6, groups: 3, group_members: 5, listeners: 2, keep: 0 };
    let plan = Plan { rounds: 1, fault, seed };
    let campaign = Campaign {
        plan,
        size,
        tag: "t".to_owned(),
        rate: 3_000.0,
        window: 6,
        bounds,
        content: (20, 60),
        replication: 3,
        snapshots: false,
        parts: Parts { since: true, ..Parts::default() },
        clock: Duration::ZERO,
        token: String::new(),
    };
    let history = campaign::play(&mut cluster, &campaign, |_| {}).await.unwrap();
    let verdict = judge(&history);
    (history, verdict)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_cluster_is_found_good() {
    for fault in [FaultKind::Kill, FaultKind::Pause, FaultKind::Rolling] {
        // How many of the rarer acts fall into one run the machine has a say in: runs are added up, and each must be good.
        let (mut recalls, mut edits, mut unblocked) = (0, 0, 0);
        for seed in 11..15 {
            let (history, verdict) = play(Plant::Nothing, fault, seed).await;
            assert_eq!(verdict.violations, vec![], "{fault:?}");
            assert_eq!(verdict.standing(), Standing::Good, "{fault:?}: {:?}", verdict.inconclusive);
            assert!(verdict.totals.acked > 1_000 && verdict.totals.refused > 0, "{:?}", verdict.totals);
            assert!(verdict.totals.delivered > 4 * verdict.totals.acked, "{:?}", verdict.totals);
            assert!(history.marks.len() > 10 && history.syncs.len() > 20 && history.pages.len() > 10);
            recalls += did(&history, |act| matches!(act, Act::Recall(_)));
            edits += did(&history, |act| matches!(act, Act::Edit(_)));
            unblocked += history.bars.iter().filter(|bar| !bar.on && bar.answer == Told::Acked).count();
            if recalls > 5 && edits > 5 && unblocked > 2 {
                break;
            }
        }
        assert!(recalls > 5 && edits > 5, "{fault:?}: {recalls} recalls, {edits} edits");
        assert!(unblocked > 2, "{fault:?}: {unblocked} blocks were ended");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_records_too_much_is_ended_and_proves_nothing() {
    let bounds = Bounds { events: 8_000, ..BOUNDS };
    let (history, verdict) = play_within(bounds, Plant::Nothing, FaultKind::Kill, 11).await;
    assert_eq!(verdict.violations, vec![]);
    assert_eq!(verdict.standing(), Standing::Inconclusive);
    assert!(verdict.inconclusive.iter().any(|why| why.contains("as long as it may be")), "{verdict:?}");
    let ended = history.setup.drain.unwrap().begun;
    assert!(ended < 20_000_000, "the load is ended at once and not with its round, at {ended} µs");
}

/// How many acts of a kind were acknowledged.
fn did(history: &History, of: impl Fn(&Act) -> bool) -> usize {
    let acked = history.sends.iter().filter(|send| matches!(send.outcome, Outcome::Acked { .. }));
    acked.filter(|send| of(&send.act)).count()
}

/// Tried in turn until a bug is caught.
const SEEDS: [u64; 3] = [12, 13, 14];

async fn caught(plant: Plant, fault: FaultKind, rules: &[Rule]) {
    // A bug shows when somebody looks at the right moment, which the machine has a say in.
    let mut verdict = play(plant, fault, SEEDS[0]).await.1;
    for seed in &SEEDS[1..] {
        if verdict.standing() == Standing::Bad {
            break;
        }
        verdict = play(plant, fault, *seed).await.1;
    }
    assert_eq!(verdict.standing(), Standing::Bad, "{plant:?} was not caught with any of {SEEDS:?}");
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
    a_recall_that_leaves_the_content_is_caught: RecallKept, None, Recall;
    a_recalled_message_that_is_unread_is_caught: UnreadRecalled, None, Unread;
    a_block_that_does_nothing_is_caught: BlockIgnored, None, Blocks;
    a_block_that_is_answered_too_early_is_caught: BlockEarly, None, Blocks;
    a_device_that_is_not_told_of_a_read_is_caught: MarkUnpushed, None, Cursors;
    a_list_that_keeps_a_group_is_caught: LeftListed, None, Lists;
    an_answer_that_is_lost_is_caught: AnswerLost, None, Answers;
    a_device_that_is_not_told_that_it_came_in_is_caught: JoinedUnpushed, None, News;
    a_device_that_is_not_told_that_it_was_let_go_is_caught: LeftUnpushed, None, News;
    a_list_since_a_mark_that_leaves_a_change_out_is_caught: SinceMisses, None, Linear | Lists | Unread;
}
