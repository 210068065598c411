//! One connection per device in the whole cluster: the later one stays.
//!
//! Which is later is said by the turn that the leader of the user's shard gives to each connection, so no clock of two
//! nodes is compared. The connection that comes is announced to the other nodes; an older one that is found, here or
//! there, is told DEVICE_REPLACED and closed.
//!
//! A device that is ended is told by a notice on its user's topic, on every node; [`super::standing`] looks where that may be
//! missed.

use std::sync::Arc;

use bytes::Bytes;
use dashmap::mapref::entry::Entry;
use rookery_wire::{SessionId, UserId};

use super::connection::{Connection, Handle};
use super::core::Core;
use super::{company, watch};
use crate::delivery::{NOT_LIVE, Topic};
use crate::router::{Arrival, Places};
use crate::state::devices::read_end_notice;

fn arrival(connection: &Connection) -> Arrival {
    let (user, device) = (connection.user().clone(), connection.device().clone());
    Arrival { user, device, turn: connection.turn }
}

/// Takes the device's place for a connection that was welcomed. One that has been overtaken already goes itself.
pub(super) fn take(connection: &Arc<Connection>) {
    let core = &connection.core;
    let key = (connection.user().clone(), connection.device().clone());
    let older = match core.devices.entry(key) {
        Entry::Occupied(place) if place.get().turn > connection.turn => Some(Arc::clone(connection)),
        Entry::Occupied(mut place) => Some(place.insert(Arc::clone(connection))),
        Entry::Vacant(place) => {
            place.insert(Arc::clone(connection));
            None
        }
    };
    if let Some(older) = older {
        older.replaced();
    }
    core.router.announce(arrival(connection));
}

/// A device of the user has ended; perhaps this one.
pub(super) fn heard_of_end(connection: &Connection, notice: &Bytes) {
    if let Ok((device, epoch)) = read_end_notice(notice)
        && device == *connection.device()
        && epoch == connection.epoch
    {
        connection.ended();
    }
}

/// Attaches the connection to its user's news, unless it is. Says whether it is now: if not, of nothing that follows would it be
/// told, not even that something was missed.
pub(super) async fn attach_to_user(connection: &Arc<Connection>) -> bool {
    let (router, topic) = (&connection.core.router, Topic::User(connection.user().clone()));
    let shard = router.shard_of_topic(&topic);
    let attached = router.attach(shard, Arc::new(Handle(Arc::clone(connection))), vec![topic]).await;
    attached.iter().any(|(_, live_from)| *live_from != NOT_LIVE)
}

impl Places for Core {
    fn taken(&self, arrivals: &[Arrival]) -> Vec<Arrival> {
        let mut later = Vec::new();
        for there in arrivals {
            let key = (there.user.clone(), there.device.clone());
            let Some(ours) = self.devices.get(&key).map(|entry| Arc::clone(entry.value())) else { continue };
            if ours.turn < there.turn {
                ours.replaced();
            } else if ours.turn > there.turn {
                later.push(arrival(&ours));
            }
        }
        later
    }

    fn online(&self, user: &UserId) -> bool {
        self.delivery.online(user)
    }

    fn moved(&self, users: &[UserId]) {
        watch::moved(self, users);
    }

    fn companies_moved(&self, sessions: &[SessionId]) {
        company::moved(self, sessions);
    }

    fn here(&self) -> Vec<Arrival> {
        self.devices.iter().map(|entry| arrival(entry.value())).collect()
    }
}
