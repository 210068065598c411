//! Planted bugs of delivery and of one replica: compiled in only with the feature `planted-bugs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use rookery_wire::{Record, RecordKind, SessionId};

use super::effects::message_frame;
use super::shared::Shared;
use crate::delivery::Push;
use crate::plant::planted;
use crate::state::{Act, At, Command, Entry};

/// How often a push is spoilt.
const EVERY: u64 = 50;

/// Spoils pushes on their way out, now and then, as the chosen bug says.
pub(super) fn spoil(pushes: &mut [Push]) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVERY);
    if planted("push-twice")
        && now
        && let Some(push) = pushes.first_mut()
    {
        let mut twice = BytesMut::from(&push.frame[..]);
        twice.extend_from_slice(&push.frame);
        push.frame = twice.freeze();
    }
    if planted("push-lost")
        && now
        && let Some(push) = pushes.first_mut()
    {
        push.frame = Bytes::new();
    }
    if planted("pushes-swapped")
        && let [first, second, ..] = pushes
    {
        std::mem::swap(&mut first.frame, &mut second.frame);
    }
}

/// How often node 2 takes a message for another one.
const FLIPPED_EVERY: u64 = 23;

/// One replica takes one byte of a message for another, now and then: its history is not that of the others.
pub(super) fn flipped(shared: &Shared, index: u64, mut command: Command) -> Command {
    if planted("record-flipped")
        && shared.node == 2
        && index.is_multiple_of(FLIPPED_EVERY)
        && let Command::Act { act: Act::Send { content, .. }, .. } = &mut command
        && !content.is_empty()
    {
        let mut bytes = BytesMut::from(content.as_ref());
        bytes[0] ^= 1;
        content.0 = bytes.freeze();
    }
    command
}

/// One replica salts messages otherwise than the others, now and then: nothing that is shown is another, but the proof.
pub(super) fn salted(shared: &Shared, mut at: At) -> At {
    if planted("salt-flipped") && shared.node == 2 && at.index.is_multiple_of(FLIPPED_EVERY) {
        at.secret[0] ^= 1;
    }
    at
}

/// Followers push what was only appended, under the seq that it would have.
pub(super) fn deliver_before_commit(shared: &Arc<Shared>) {
    if !planted("deliver-before-commit") {
        return;
    }
    let mut seqs: HashMap<SessionId, u64> = HashMap::new();
    let shared = shared.clone();
    let shard = shared.shard;
    rookery_raft::watch_appends(
        shard,
        Box::new(move |entries| {
            if shared.is_leading() {
                return;
            }
            for (index, payload) in entries {
                let Ok(entry) = Entry::decode(payload.clone()) else { continue };
                let Entry { time_ms, time_agrees, secret, commands } = entry;
                for (position, command) in (0u32..).zip(commands) {
                    let at = At { shard, index: *index, position, time_ms, time_agrees, secret };
                    push_early(&shared, &mut seqs, &at, command);
                }
            }
        }),
    );
}

fn push_early(shared: &Shared, seqs: &mut HashMap<SessionId, u64>, at: &At, command: Command) {
    let Command::Act { actor, session, client_seq, act: Act::Send { content_type, content, extensions } } =
        command
    else {
        return;
    };
    let row = shared.table.get(&session).unwrap_or_default();
    let seq = seqs.get(&session).copied().unwrap_or(0).max(row.last_seq) + 1;
    seqs.insert(session.clone(), seq);
    let record = Record {
        seq,
        message_id: at.message_id(),
        time_ms: at.time_ms.max(row.time_ms),
        count: row.count + (seq - row.last_seq),
        sender: actor.name().clone(),
        device: actor.device.clone(),
        epoch: actor.epoch,
        client_seq,
        kind: RecordKind::CONTENT,
        content_type,
        content,
        extensions: extensions.into_iter().chain([at.salt().extension()]).collect(),
    };
    let frame = message_frame(&session, &rookery_wire::encode(&record));
    let from = Some(Arc::new((actor.user.clone(), actor.device.clone(), actor.epoch)));
    shared.delivery.publish(&session, &[Push { seq, frame, from, replaces: None }]);
}
