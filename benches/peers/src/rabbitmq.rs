//! RabbitMQ: a quorum queue with three replicas for each session, a persistent message with a publisher's confirm for each
//! message. A quorum queue confirms what a majority has in its write-ahead log, synced.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::future::BoxFuture;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use crate::{Args, Peer, Sender, Sending, eventually};

/// Of a delivery mode: it outlives a restart.
const PERSISTENT: u8 = 2;

pub(crate) struct RabbitMq {
    args: Args,
    channel: Channel,
    /// They end when they are dropped.
    connections: Vec<Connection>,
}

impl RabbitMq {
    pub(crate) async fn prepare(args: &Args) -> anyhow::Result<Self> {
        let connection = eventually("connecting", || connect(args, 0)).await?;
        let channel = connection.create_channel().await?;
        for at in 0..args.sessions {
            declare(&channel, &name(at)).await?;
        }
        Ok(Self { args: args.clone(), channel, connections: vec![connection] })
    }
}

fn name(at: u32) -> String {
    format!("bench{at}")
}

/// Leaders are spread over the nodes; by default all would be where the queues are declared.
async fn declare(channel: &Channel, name: &str) -> anyhow::Result<()> {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    table.insert("x-quorum-initial-group-size".into(), AMQPValue::LongInt(3));
    table.insert("x-queue-leader-locator".into(), AMQPValue::LongString("balanced".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, table).await.with_context(|| format!("declaring {name}"))?;
    Ok(())
}

/// A look at a queue that is there already: how many messages are ready in it.
async fn ready(channel: &Channel, name: &str) -> anyhow::Result<u64> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await?;
    Ok(u64::from(queue.message_count()))
}

impl Peer for RabbitMq {
    fn sender(&mut self, at: u32) -> BoxFuture<'_, anyhow::Result<Box<dyn Sender>>> {
        Box::pin(async move {
            let connection = connect(&self.args, at).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            self.connections.push(connection);
            Ok(Box::new(Publisher { channel, queue: name(at % self.args.sessions) }) as Box<dyn Sender>)
        })
    }

    /// A queue's count may be seconds old, so it is asked until it has what was acknowledged.
    fn count(&mut self, acked: u64) -> BoxFuture<'_, anyhow::Result<u64>> {
        Box::pin(async move {
            let (channel, sessions) = (&self.channel, self.args.sessions);
            eventually("a count of all queues", || async move {
                let mut stored = 0;
                for at in 0..sessions {
                    stored += ready(channel, &name(at)).await?;
                }
                if stored < acked {
                    bail!("{acked} messages were acknowledged, {stored} are there");
                }
                Ok(stored)
            })
            .await
        })
    }
}

struct Publisher {
    channel: Channel,
    queue: String,
}

impl Sender for Publisher {
    fn send(&mut self, _number: u64, content: Bytes) -> BoxFuture<'_, anyhow::Result<Sending>> {
        Box::pin(async move {
            let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
            let options = BasicPublishOptions::default();
            let queue = self.queue.as_str().into();
            let confirm = self.channel.basic_publish("".into(), queue, options, &content, properties).await?;
            Ok(Box::pin(async move {
                if !confirm.await?.is_ack() {
                    bail!("the queue did not take a message");
                }
                Ok(())
            }) as Sending)
        })
    }
}

async fn connect(args: &Args, at: u32) -> anyhow::Result<Connection> {
    let server = format!("amqp://guest:guest@{}/%2f", args.server(at));
    Connection::connect(&server, ConnectionProperties::default())
        .await
        .with_context(|| format!("connecting to {}", args.server(at)))
}
