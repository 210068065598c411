//! A message on its way to connections: one visit of the topic, one queue after another, the same bytes in each.

use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use rookery::delivery::{Delivery, DeliveryLimits, NOT_LIVE, Push, Receiver, Topic, next_receiver_id};
use rookery::gateway::outbox::Outbox;
use rookery_wire::{DeviceId, SessionId, UserId};

use crate::Work;
use crate::message::{BATCH, actor, session};

/// Connections attached to the session on this node.
pub(crate) const RECEIVERS: usize = 50;
/// Bytes that a connection's queue may hold: more than one round puts there.
const QUEUE: usize = 1 << 20;
/// Bytes of a MESSAGE frame with 256 bytes of content, about.
const FRAME: usize = 344;

/// A connection as delivery sees it.
struct Connection {
    id: u64,
    user: UserId,
    device: DeviceId,
    out: Outbox,
}

impl Receiver for Connection {
    fn id(&self) -> u64 {
        self.id
    }
    fn origin(&self) -> Option<(&UserId, &DeviceId, u32)> {
        Some((&self.user, &self.device, 1))
    }
    fn push(&self, _topic: &Topic, items: &[Push]) -> bool {
        let frames = || items.iter().map(|item| &item.frame);
        self.out.push(frames().map(Bytes::len).sum(), frames())
    }
    fn lagged(&self, _topic: &Topic) {}
}

struct FanOut {
    delivery: Delivery,
    session: SessionId,
    connections: Vec<Arc<Connection>>,
    frame: Bytes,
    from: rookery::delivery::Sender,
    items: Vec<Push>,
    next: u64,
}

pub(crate) fn fanout() -> anyhow::Result<Box<dyn Work>> {
    let delivery = Delivery::new(DeliveryLimits::default());
    let session = session()?;
    let topic = Topic::Session(session.clone());
    let mut connections = Vec::new();
    for at in 0..RECEIVERS {
        let connection = Arc::new(Connection {
            id: next_receiver_id(),
            user: UserId::new(&format!("staged-receiver-{at}"))?,
            device: DeviceId::new("phone")?,
            out: Outbox::new(QUEUE),
        });
        let receiver = Arc::clone(&connection) as Arc<dyn Receiver>;
        delivery.connect(Arc::clone(&receiver));
        ensure!(delivery.attach(&topic, &receiver, 0) != NOT_LIVE, "a connection was not attached");
        ensure!(delivery.admit(&topic, connection.id, 1).is_some(), "a connection was not admitted");
        connections.push(connection);
    }
    let sender = actor()?;
    Ok(Box::new(FanOut {
        delivery,
        session,
        connections,
        frame: Bytes::from(vec![0x5a; FRAME]),
        from: Arc::new((sender.user, sender.device, sender.epoch)),
        items: Vec::new(),
        next: 1,
    }))
}

impl Work for FanOut {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.items = (self.next..self.next + BATCH as u64)
            .map(|seq| Push { seq, frame: self.frame.clone(), from: Some(self.from.clone()), replaces: None })
            .collect();
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        self.delivery.publish(&self.session, &self.items);
        self.next += self.items.len() as u64;
        for connection in &self.connections {
            let frames = connection.out.take(usize::MAX);
            ensure!(frames.len() == BATCH, "{} of {BATCH} frames came", frames.len());
            connection.out.written(frames.len() * FRAME);
        }
        Ok(())
    }
}
