//! Replicas that are given the same log in other batches hold the same.

use rookery_raft::{MemoryDisk, Store};
use rookery_wire::{Blob, ErrorCode, GroupAction, GroupId, Join, MemberRole, Policy, SessionId};

use super::{Shard, device, in_system, user};
use crate::shard::checkpoint;
use crate::state::{Act, Actor, Answer, ChangeKind, Command};

fn group() -> SessionId {
    SessionId::group(GroupId::new("batches").expect("a name"))
}

fn by(name: &str, client_seq: u64, act: Act) -> Command {
    let actor = Actor { user: user(name), device: device(), epoch: 1, on_behalf_of: None, service: false };
    Command::Act { actor, session: group(), client_seq, act }
}

fn change(kind: ChangeKind, name: &str) -> Act {
    Act::Change { kind, users: vec![user(name)], most: 10, unknown: None }
}

fn manage(action: GroupAction) -> Act {
    Act::Manage { action }
}

/// Ann's group, open to all, with ten messages in rows and the last record alone in memory: it was just started.
async fn group_in_rows() -> Shard {
    let store = Store::in_memory(MemoryDisk::new(1));
    let shard = Shard::over(store.clone()).await;
    let create = by("ann", 1, change(ChangeKind::Create, "bob"));
    shard.apply(1, create.clone()).await;
    shard.apply(2, Command::Linked { session: group(), done: vec![(user("ann"), 1, true)] }).await;
    shard.apply(3, create).await;
    let open = Policy { join: Join::Open, ..Policy::default() };
    shard.apply(4, by("ann", 2, manage(GroupAction::SetPolicy(open)))).await;
    for number in 3..=12 {
        let content = Blob::from(format!("message {number}").as_str());
        let act = Act::Send { content_type: "text/plain".into(), content, extensions: Vec::new() };
        shard.apply(2 + number, by("ann", number, act)).await;
    }
    checkpoint::write(&shard.machine, None).await.expect("written");
    Shard::over(store).await
}

fn fate(answer: &Option<Answer>) -> Result<u64, ErrorCode> {
    match answer {
        Some(Answer::Ack(ack)) => Ok(ack.seq),
        Some(Answer::Refused(refusal)) => Err(refusal.code),
        // It waits for the lists of those who come in.
        _ => Ok(0),
    }
}

/// What the commands are told when each comes alone, and when all come as one batch; the last seq with it.
async fn both_ways(commands: &[Command]) -> [(Vec<Result<u64, ErrorCode>>, u64); 2] {
    let (alone, together) = (group_in_rows().await, group_in_rows().await);
    let mut one_by_one = Vec::new();
    for (index, command) in (100..).zip(commands) {
        one_by_one.push(fate(&alone.apply(index, command.clone()).await));
    }
    let as_one: Vec<_> = together.apply_all(100, commands.to_vec()).await.iter().map(fate).collect();
    assert!(alone.faults.lock().is_empty() && together.faults.lock().is_empty());
    let last = |shard: &Shard| shard.shared.table.get(&group()).map_or(0, |row| row.last_seq);
    [(one_by_one, last(&alone)), (as_one, last(&together))]
}

#[test]
fn an_admin_of_this_very_batch_recalls_what_others_have_said_long_ago() {
    in_system(async {
        let role = manage(GroupAction::SetRole { user: user("xan"), role: MemberRole::Admin });
        let [alone, together] = both_ways(&[
            by("ann", 13, change(ChangeKind::Add, "xan")),
            by("ann", 14, role),
            by("xan", 1, Act::Recall { seq: 5, window_ms: 0 }),
        ])
        .await;
        assert_eq!(alone, (vec![Ok(0), Ok(14), Ok(15)], 15));
        assert_eq!(together, alone);
    });
}

#[test]
fn who_joins_in_this_very_batch_is_refused_as_any_member_is() {
    in_system(async {
        let join = Act::Join { code: None, text: Blob::default(), most: 10, again_ms: 0 };
        let [alone, together] =
            both_ways(&[by("xan", 1, join), by("xan", 2, Act::Recall { seq: 5, window_ms: 0 })]).await;
        assert_eq!(alone, (vec![Ok(0), Err(ErrorCode::NotAllowed)], 13));
        assert_eq!(together, alone);
    });
}
