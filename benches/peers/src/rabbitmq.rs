//! RabbitMQ: a quorum queue with three replicas for each session, a persistent message with a publisher's confirm for each
//! message. A quorum queue confirms what a majority has in its write-ahead log, synced.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::future::BoxFuture;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use crate::{Args, Peer, Sender, Sending};

/// Of a delivery mode: it outlives a restart.
const PERSISTENT: u8 = 2;

pub(crate) struct RabbitMq {
    args: Args,
    tag: String,
    channel: Channel,
    /// They end when they are dropped.
    connections: Vec<Connection>,
}

impl RabbitMq {
    pub(crate) async fn prepare(args: &Args) -> anyhow::Result<Self> {
        let tag = format!("b{}", std::process::id());
        let connection = connect(args, 0).await?;
        let channel = connection.create_channel().await?;
        for at in 0..args.sessions {
            create(&channel, &format!("{tag}.{at}")).await?;
        }
        Ok(Self { args: args.clone(), tag, channel, connections: vec![connection] })
    }

    fn queue(&self, at: u32) -> String {
        format!("{}.{}", self.tag, at % self.args.sessions)
    }
}

/// Makes a queue; with fewer replicas than three it is not what is to be measured.
async fn create(channel: &Channel, name: &str) -> anyhow::Result<()> {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    table.insert("x-quorum-initial-group-size".into(), AMQPValue::LongInt(3));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, table).await.with_context(|| format!("declaring {name}"))?;
    Ok(())
}

impl Peer for RabbitMq {
    fn sender(&mut self, at: u32) -> BoxFuture<'_, anyhow::Result<Box<dyn Sender>>> {
        Box::pin(async move {
            let connection = connect(&self.args, at as usize).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            self.connections.push(connection);
            Ok(Box::new(Publisher { channel, queue: self.queue(at) }) as Box<dyn Sender>)
        })
    }

    fn count(&mut self) -> BoxFuture<'_, anyhow::Result<u64>> {
        Box::pin(async move {
            let mut stored = 0;
            for at in 0..self.args.sessions {
                let name = self.queue(at);
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let queue =
                    self.channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await?;
                stored += u64::from(queue.message_count());
                self.channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
            }
            Ok(stored)
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

/// Serving is not yet being a cluster.
async fn connect(args: &Args, at: usize) -> anyhow::Result<Connection> {
    let server = format!("amqp://guest:guest@{}/%2f", args.server(at));
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match Connection::connect(&server, ConnectionProperties::default()).await {
            Ok(connection) => return Ok(connection),
            Err(fault) if Instant::now() > until => {
                return Err(fault).context(format!("connecting to {server}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
