//! Carrying errands: what a user decided about another reaches that one, and the direct session of the two, however often
//! nodes die.
//!
//! As [`super::carrier`] does for sessions: works on the replica that leads, reads errands from the user's state and not
//! from memory of its own (R12), and delivers idempotently by version.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use futures::stream::{FuturesUnordered, StreamExt};
use rookery_wire::{Retry, UserId};

use super::actor::{FindUser, ShardActor};
use super::api::Answer;
use super::entity::Look;
use super::rounds::Rounds;
use super::shared::{Outbound, Shared};
use crate::plant::planted;
use crate::state::{Command, Errand, ErrandKey, Room, Says, User};

/// Users carried for at a time.
const USERS: usize = 32;
/// Errands of one user under way at a time.
const ERRANDS: usize = 64;
/// Errands that one command clears.
const CLEARED: usize = 500;
/// Deadline of one delivery; after it the errand is read again and tried anew.
const DEADLINE: Duration = Duration::from_secs(10);
/// Before a user is looked at again whose errands did not get through.
const PAUSE: Duration = Duration::from_millis(50);
/// A look even when nobody called, should a notice have been missed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs for ever; aborted by its owner.
pub async fn run(shared: Arc<Shared>, actor: Addr<ShardActor>) {
    let mut under_way: HashSet<UserId> = HashSet::new();
    let mut work = FuturesUnordered::new();
    let mut rounds = Rounds::default();
    let options = &shared.options;
    let most = Room { relations: options.relations_per_user, requests: options.requests_per_user };
    loop {
        if shared.is_leading()
            && let Some(outbound) = shared.outbound.get()
        {
            let room = USERS.saturating_sub(under_way.len());
            let waiting = rounds.next(&shared.errands.lock(), &under_way, room);
            for user in waiting {
                under_way.insert(user.clone());
                work.push(carry(user, actor.clone(), outbound.clone(), most));
            }
        }
        tokio::select! {
            Some(user) = work.next(), if !work.is_empty() => { under_way.remove(&user); }
            () = shared.errands_moved.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Delivers the errands a user has now, then has them cleared. Gives the user back.
async fn carry(user: UserId, actor: Addr<ShardActor>, outbound: Arc<dyn Outbound>, room: Room) -> UserId {
    let pending = async {
        let address = actor.send(FindUser(user.clone())).await.ok()?;
        let look = |state: &User| {
            let owned = |(key, errand): (&ErrandKey, &Errand)| (key.clone(), errand.clone());
            state.pending_errands().map(owned).collect::<Vec<_>>()
        };
        address.send(Look::new(look)).await.ok()
    };
    let Some(errands) = pending.await else { return user };
    if planted("block-early") {
        // So that the answer that came too early is seen to have.
        tokio::time::sleep(2 * PAUSE).await;
    }
    let wanted = errands.len();
    let deliver = |(key, errand): (ErrandKey, Errand)| {
        let outbound = outbound.clone();
        let command = command_of(&user, &key, &errand, room);
        async move {
            // Between a user and itself there is nothing to carry.
            let Some(command) = command else { return Some((key, errand.version)) };
            match outbound.execute(command, DEADLINE).await {
                Answer::Again { .. } => None,
                // BUSY, UNAVAILABLE, DISK_LOW and their like decide nothing: it is carried again.
                Answer::Refused(error) if error.retry != Retry::Never => None,
                // What is frozen takes nothing any more; holding the user's answers for ever would not help anyone.
                _ => Some((key, errand.version)),
            }
        }
    };
    let delivered = futures::stream::iter(errands).map(deliver).buffer_unordered(ERRANDS);
    let done: Vec<(ErrandKey, u64)> = delivered.filter_map(std::future::ready).collect().await;
    let mut stuck = done.len() < wanted;
    for done in done.chunks(CLEARED) {
        let carried = Command::Carried { user: user.clone(), done: done.to_vec() };
        stuck |= !matches!(outbound.execute(carried, DEADLINE).await, Answer::Done);
    }
    if stuck {
        tokio::time::sleep(PAUSE).await;
    }
    user
}

fn command_of(user: &UserId, key: &ErrandKey, errand: &Errand, room: Room) -> Option<Command> {
    let other = &key.1;
    let session = rookery_wire::SessionId::direct(user, other).ok()?;
    Some(match &errand.says {
        Says::Burn(seq) => Command::Burn { session, user: user.clone(), seq: *seq },
        Says::Bar(on) => Command::Bar { session, by: user.clone(), version: errand.version, on: *on },
        Says::Stance(stance, text) => Command::Hear {
            user: other.clone(),
            from: user.clone(),
            stance: *stance,
            text: text.clone(),
            room,
        },
    })
}
