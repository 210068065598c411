//! The actor of a shard: hands the commands of each applied batch to their entities, attaches receivers, and lets
//! idle entities go. It and all its entities live on one arbiter, so a batch crosses threads once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::prelude::*;
use dashmap::DashMap;
use rookery_wire::{SessionId, UserId};
use tokio::sync::oneshot;

use super::entity::{Apply, Batch, Done, Entity, EntityActor, Placed, Resident};
use super::shared::Shared;
use super::tables::Tables;
use crate::delivery::{Receiver, Topic};
use crate::state::{EntityKey, EntityRef, Session, User};

/// Executes a batch; `done` fires when every entity has.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Execute {
    /// In log order.
    pub commands: Vec<Placed>,
    /// Lets apply return.
    pub done: oneshot::Sender<()>,
}

/// Attaches a receiver to topics of this shard, in step with apply.
#[derive(Message)]
#[rtype(result = "Vec<(Topic, u64)>")]
pub struct Attach {
    /// Who.
    pub receiver: Arc<dyn Receiver>,
    /// To what.
    pub topics: Vec<Topic>,
}

/// The session's actor, started if need be.
#[derive(Message)]
#[rtype(result = "Addr<EntityActor<Session>>")]
pub struct FindSession(pub SessionId);

/// The user's actor, started if need be.
#[derive(Message)]
#[rtype(result = "Addr<EntityActor<User>>")]
pub struct FindUser(pub UserId);

/// Lets idle entities go.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Passivate;

/// A snapshot was installed: every entity in memory is void, the table is new.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reset {
    /// The map of the new generation.
    pub map: rookery_raft::Map,
    /// What its rows say of all sessions.
    pub tables: Tables,
}

/// See the module's words.
pub struct ShardActor {
    shared: Arc<Shared>,
    /// Batches handed out and not executed; entities are let go only between batches.
    executing: Arc<AtomicUsize>,
}

impl ShardActor {
    /// An actor over what its shard shares.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, executing: Arc::default() }
    }

    fn session(&self, key: &SessionId) -> Resident<Session> {
        let unknown = !self.shared.table.contains(key);
        find(&self.shared.sessions, key, unknown, &self.shared)
    }

    fn user(&self, key: &UserId) -> Resident<User> {
        find(&self.shared.users, key, false, &self.shared)
    }

    fn dispatch(&self, commands: Vec<Placed>, done: Done) {
        let entities = by_entity(&commands);
        // One more than there are entities: this call holds the batch open until all are handed out.
        let batch = Batch::new(self.shared.clone(), commands, entities.len() + 1, done);
        for (entity, places) in entities {
            let apply = Apply { places, batch: batch.clone() };
            match entity {
                EntityKey::Session(key) => self.session(&key).addr.do_send(apply),
                EntityKey::User(key) => self.user(&key).addr.do_send(apply),
            }
        }
        batch.finish(Vec::new());
    }
}

/// The places of a batch's commands by their entities, each in log order. Consecutive commands are mostly of one entity, which a
/// comparison of names tells for less than a lookup.
fn by_entity(commands: &[Placed]) -> Vec<(EntityKey, Vec<usize>)> {
    let mut entities: Vec<(EntityRef<'_>, Vec<usize>)> = Vec::new();
    let mut known: HashMap<EntityRef<'_>, usize> = HashMap::new();
    let mut last = 0;
    for (place, (_, command, _)) in commands.iter().enumerate() {
        let entity = command.entity();
        if entities.get(last).is_none_or(|(of, _)| *of != entity) {
            last = *known.entry(entity).or_insert(entities.len());
            if last == entities.len() {
                entities.push((entity, Vec::new()));
            }
        }
        entities[last].1.push(place);
    }
    entities.into_iter().map(|(entity, places)| (entity.key(), places)).collect()
}

fn find<E: Entity>(
    registry: &DashMap<E::Key, Resident<E>>,
    key: &E::Key,
    begins_empty: bool,
    shared: &Arc<Shared>,
) -> Resident<E> {
    let known = registry.get(key).map(|resident| resident.clone());
    let resident = known.unwrap_or_else(|| {
        let resident = EntityActor::begin(key.clone(), begins_empty, shared.clone());
        registry.insert(key.clone(), resident.clone());
        resident
    });
    resident.touch(shared);
    resident
}

/// A registry with so many times more room than entities, or than the least that is worth it, gives it back.
const SPARSE: usize = 8;
const LEAST_ROOM: usize = 128;

/// Lets go of clean entities that nobody has used since `since`, and of more, those unused the longest first, until
/// `most` are left.
fn passivate<E: Entity>(registry: &DashMap<E::Key, Resident<E>>, most: usize, since: u64) {
    let surplus = registry.len().saturating_sub(most);
    let clean = registry.iter().filter(|entry| !entry.flags.dirty.load(Ordering::Acquire));
    let used = clean.map(|entry| (entry.flags.used_ms.load(Ordering::Relaxed), entry.key().clone()));
    let mut idle: Vec<(u64, E::Key)> = used.filter(|(used, _)| surplus > 0 || *used < since).collect();
    idle.sort_unstable();
    for (at, (used, key)) in idle.into_iter().enumerate() {
        if at < surplus || used < since {
            registry.remove(&key);
        }
    }
    if registry.capacity() > SPARSE * registry.len().max(LEAST_ROOM) {
        registry.shrink_to_fit();
    }
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
    }
}

impl Handler<Execute> for ShardActor {
    type Result = ();

    fn handle(&mut self, execute: Execute, _: &mut Self::Context) {
        self.dispatch(execute.commands, Done::new(execute.done, &self.executing));
    }
}

impl Handler<Attach> for ShardActor {
    type Result = MessageResult<Attach>;

    fn handle(&mut self, attach: Attach, _: &mut Self::Context) -> Self::Result {
        let head = |topic: &Topic| match topic {
            Topic::Session(session) => self.shared.table.get(session).map_or(0, |row| row.last_seq),
            Topic::User(_) => 0,
        };
        let attached = attach.topics.into_iter().map(|topic| {
            let live_from = self.shared.delivery.attach(&topic, &attach.receiver, head(&topic));
            (topic, live_from)
        });
        MessageResult(attached.collect())
    }
}

impl Handler<FindSession> for ShardActor {
    type Result = MessageResult<FindSession>;

    fn handle(&mut self, find: FindSession, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.session(&find.0).addr)
    }
}

impl Handler<FindUser> for ShardActor {
    type Result = MessageResult<FindUser>;

    fn handle(&mut self, find: FindUser, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.user(&find.0).addr)
    }
}

impl Handler<Passivate> for ShardActor {
    type Result = ();

    fn handle(&mut self, _: Passivate, _: &mut Self::Context) {
        if self.executing.load(Ordering::Acquire) == 0 {
            let options = &self.shared.options;
            let idle_ms = u64::try_from(options.resident_idle.as_millis()).unwrap_or(u64::MAX);
            let since = self.shared.uptime_ms().saturating_sub(idle_ms);
            passivate(&self.shared.sessions, options.resident_sessions, since);
            passivate(&self.shared.users, options.resident_users, since);
        }
    }
}

impl Handler<Reset> for ShardActor {
    type Result = ();

    fn handle(&mut self, reset: Reset, _: &mut Self::Context) {
        let shared = &self.shared;
        *shared.map.write() = reset.map;
        // Dropping the last address ends an actor; what it had gated is asked again.
        shared.sessions.clear();
        shared.users.clear();
        shared.dirty.lock().clear();
        shared.unwritten.store(0, Ordering::Release);
        shared.table.clear();
        let Tables { table, intents, errands, timers, freed, over } = reset.tables;
        for (session, row) in table {
            shared.table.insert(&session, row);
        }
        *shared.intents.lock() = intents.into_iter().collect();
        *shared.errands.lock() = errands.into_iter().collect();
        *shared.timers.lock() = timers;
        *shared.freed.lock() = freed;
        *shared.over.lock() = over;
        shared.freeing.lock().clear();
        // Pushes were skipped: whoever is attached here must pull (R8).
        shared.delivery.lag_all(|topic| match topic {
            Topic::Session(session) => {
                let ours = EntityRef::Session(session).shard(shared.shards) == shared.shard;
                ours.then(|| shared.table.get(session).map_or(0, |row| row.last_seq))
            }
            Topic::User(user) => (EntityRef::User(user).shard(shared.shards) == shared.shard).then_some(0),
        });
    }
}

#[cfg(test)]
mod tests {
    use rookery_wire::GroupId;

    use super::*;
    use crate::state::{At, Command};

    #[test]
    fn commands_go_to_their_entities_in_log_order() {
        let group = |name| SessionId::group(GroupId::new(name).unwrap());
        let ann = UserId::new("ann").unwrap();
        let at =
            |position| At { shard: 1, index: 1, position, time_ms: 0, time_agrees: true, secret: [0; 16] };
        let in_group = |name| Command::Expire { session: group(name), seqs: Vec::new() };
        let of_ann = || Command::Carried { user: ann.clone(), done: Vec::new() };
        let commands =
            [in_group("a"), in_group("a"), in_group("b"), of_ann(), in_group("a"), of_ann(), in_group("b")];
        let placed: Vec<Placed> =
            (0u32..).zip(commands).map(|(place, command)| (at(place), command, None)).collect();
        let expected = [
            (EntityKey::Session(group("a")), vec![0, 1, 4]),
            (EntityKey::Session(group("b")), vec![2, 6]),
            (EntityKey::User(ann.clone()), vec![3, 5]),
        ];
        assert_eq!(by_entity(&placed), expected);
    }
}
