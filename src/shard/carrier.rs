//! Carrying intents: what a session decided about a user reaches the user's own list, however often nodes die.
//!
//! Runs on every replica and works on the one that leads. Intents are read from the session's state, not from memory
//! of its own, so a new leader goes on where the old one stopped (R12). Delivery is idempotent by version.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use futures::stream::{FuturesUnordered, StreamExt};
use rookery_wire::{ErrorCode, Retry, SessionId, UserId};

use super::actor::{FindSession, ShardActor};
use super::api::Answer;
use super::entity::Look;
use super::rounds::Rounds;
use super::shared::{Outbound, Shared};
use crate::state::{Command, Intent, Listing, Session, Unwanted};

/// Sessions carried at a time.
const SESSIONS: usize = 32;
/// Intents of one session under way at a time.
const INTENTS: usize = 256;
/// Intents that one command clears: a log entry must not grow with the members of a group.
const CLEARED: usize = 1000;
/// Deadline of one delivery; after it the intent is read again and tried anew.
const DEADLINE: Duration = Duration::from_secs(10);
/// Before a session is looked at again whose intents did not get through.
const PAUSE: Duration = Duration::from_millis(50);
/// A look even when nobody called, should a notice have been missed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs for ever; aborted by its owner.
pub async fn run(shared: Arc<Shared>, actor: Addr<ShardActor>) {
    let mut under_way: HashSet<SessionId> = HashSet::new();
    let mut work = FuturesUnordered::new();
    let mut rounds = Rounds::default();
    let options = &shared.options;
    let (most, kept, users_only) = (options.sessions_per_user, options.left_per_user, options.users_only);
    let list = Listing { most, kept, users_only, sure: 0 };
    loop {
        if shared.is_leading()
            && let Some(outbound) = shared.outbound.get()
        {
            let room = SESSIONS.saturating_sub(under_way.len());
            let waiting = rounds.next(&shared.intents.lock(), &under_way, room);
            for session in waiting {
                under_way.insert(session.clone());
                work.push(carry(session, actor.clone(), outbound.clone(), list));
            }
        }
        tokio::select! {
            Some(session) = work.next(), if !work.is_empty() => { under_way.remove(&session); }
            () = shared.intents_moved.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Delivers the intents a session has now, then has them cleared. Gives the session back.
async fn carry(
    session: SessionId,
    actor: Addr<ShardActor>,
    outbound: Arc<dyn Outbound>,
    list: Listing,
) -> SessionId {
    let most = list.most;
    let pending = async {
        let address = actor.send(FindSession(session.clone())).await.ok()?;
        address.send(Look::new(|state: &Session| state.pending_intents().collect::<Vec<Intent>>())).await.ok()
    };
    let Some(intents) = pending.await else { return session };
    let wanted = intents.len();
    let deliver = |intent: Intent| {
        let outbound = outbound.clone();
        async move {
            let (user, version, member) = (intent.user.clone(), intent.link.version, intent.link.member);
            match bring(&outbound, intent, list).await {
                Answer::Again { .. } | Answer::Unsure(_) => None,
                // BUSY, UNAVAILABLE, DISK_LOW and their like decide nothing: it is carried again.
                Answer::Refused(error) if error.retry != Retry::Never => None,
                Answer::Refused(error) if error.code == ErrorCode::TooManySessions => {
                    Some((user, version, Arrived::Refused(Unwanted::Full { most })))
                }
                Answer::Refused(error) if error.code == ErrorCode::RefusedByPeer => {
                    Some((user, version, Arrived::Refused(Unwanted::Stranger)))
                }
                Answer::Refused(error) if error.code == ErrorCode::UnknownUser => {
                    Some((user, version, Arrived::Refused(Unwanted::Unknown)))
                }
                // A frozen user refuses; holding the session's answers for ever would not help anyone.
                _ => Some((user, version, Arrived::Done { member })),
            }
        }
    };
    let delivered = futures::stream::iter(intents).map(deliver).buffer_unordered(INTENTS);
    let delivered: Vec<(UserId, u64, Arrived)> = delivered.filter_map(std::future::ready).collect().await;
    let (mut done, mut full, mut strange, mut unknown) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (user, version, arrived) in delivered {
        match arrived {
            Arrived::Done { member } => done.push((user, version, member)),
            Arrived::Refused(Unwanted::Full { .. }) => full.push((user, version)),
            Arrived::Refused(Unwanted::Stranger) => strange.push((user, version)),
            Arrived::Refused(Unwanted::Unknown) => unknown.push((user, version)),
        }
    }
    // Unanswered, they are tried again with the next look: clearing is idempotent too. The refusals go first, so that
    // a session does not open for some of its founders.
    let mut stuck = done.len() + full.len() + strange.len() + unknown.len() < wanted;
    let refused =
        [(full, Unwanted::Full { most }), (strange, Unwanted::Stranger), (unknown, Unwanted::Unknown)];
    for (refused, why) in refused {
        for refused in refused.chunks(CLEARED) {
            let unlinked = Command::Unlinked { session: session.clone(), refused: refused.to_vec(), why };
            stuck |= !matches!(outbound.execute(unlinked, DEADLINE).await, Answer::Done);
        }
    }
    for done in done.chunks(CLEARED) {
        let linked = Command::Linked { session: session.clone(), done: done.to_vec() };
        stuck |= !matches!(outbound.execute(linked, DEADLINE).await, Answer::Done);
    }
    if stuck {
        // Tried again at once it would fill the users' logs with repeats and find things as they are.
        tokio::time::sleep(PAUSE).await;
    }
    session
}

/// Brings one intent to its list. One of which the list is not sure that it came in order, because of a removal that it may have
/// forgotten (R12), is brought again behind the word of the session's log that it is an intent still.
async fn bring(outbound: &Arc<dyn Outbound>, intent: Intent, list: Listing) -> Answer {
    let Intent { user, link } = intent;
    let (session, version) = (link.session.clone(), link.version);
    let command = Command::Link { user: user.clone(), link: link.clone(), list };
    let answer = outbound.execute(command, DEADLINE).await;
    let Answer::Unsure(index) = answer else { return answer };
    let still = Command::StillIntended { session, user: user.clone(), version };
    match outbound.execute(still, DEADLINE).await {
        Answer::Done => {
            let command = Command::Link { user, link, list: Listing { sure: index, ..list } };
            outbound.execute(command, DEADLINE).await
        }
        // It is looked for again, and is not there any more, or could not be asked for.
        _ => answer,
    }
}

/// How an intent fared at the user's list.
enum Arrived {
    /// The list is as the session decided.
    Done { member: bool },
    /// The list does not take it.
    Refused(Unwanted),
}
