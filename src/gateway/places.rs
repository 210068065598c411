//! One connection per device in the whole cluster: the later one stays.
//!
//! Which is later is said by the turn that the leader of the user's shard gives to each connection, so no clock of two
//! nodes is compared. The connection that comes is announced to the other nodes; an older one that is found, here or
//! there, is told DEVICE_REPLACED and closed.

use std::sync::Arc;

use dashmap::mapref::entry::Entry;
use rookery_wire::UserId;

use super::connection::Connection;
use super::core::Core;
use super::watch;
use crate::router::{Arrival, Places};

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

    fn here(&self) -> Vec<Arrival> {
        self.devices.iter().map(|entry| arrival(entry.value())).collect()
    }
}
