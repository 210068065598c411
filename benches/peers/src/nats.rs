//! NATS JetStream: a stream with three replicas for each session, an acknowledged publish for each message.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{Args, Peer, Sender, Sending};

pub(crate) struct Nats {
    args: Args,
    tag: String,
    context: jetstream::Context,
}

impl Nats {
    pub(crate) async fn prepare(args: &Args) -> anyhow::Result<Self> {
        let tag = format!("B{}", std::process::id());
        let context = jetstream::new(connect(args, 0).await?);
        for at in 0..args.sessions {
            let config = stream::Config {
                name: format!("{tag}x{at}"),
                subjects: vec![format!("{tag}.{at}")],
                num_replicas: 3,
                storage: stream::StorageType::File,
                ..stream::Config::default()
            };
            create(&context, config).await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Self { args: args.clone(), tag, context })
    }
}

impl Peer for Nats {
    fn sender(&mut self, at: u32) -> BoxFuture<'_, anyhow::Result<Box<dyn Sender>>> {
        Box::pin(async move {
            let context = jetstream::new(connect(&self.args, at as usize).await?);
            let subject = format!("{}.{}", self.tag, at % self.args.sessions);
            Ok(Box::new(Publisher { context, subject }) as Box<dyn Sender>)
        })
    }

    fn count(&mut self) -> BoxFuture<'_, anyhow::Result<u64>> {
        Box::pin(async move {
            let mut stored = 0;
            for at in 0..self.args.sessions {
                let name = format!("{}x{at}", self.tag);
                stored += self.context.get_stream(&name).await?.info().await?.state.messages;
                self.context.delete_stream(&name).await?;
            }
            Ok(stored)
        })
    }
}

struct Publisher {
    context: jetstream::Context,
    subject: String,
}

impl Sender for Publisher {
    fn send(&mut self, _number: u64, content: Bytes) -> BoxFuture<'_, anyhow::Result<Sending>> {
        Box::pin(async move {
            let pending = self.context.publish(self.subject.clone(), content).await?;
            Ok(Box::pin(async move {
                pending.await?;
                Ok(())
            }) as Sending)
        })
    }
}

async fn connect(args: &Args, at: usize) -> anyhow::Result<async_nats::Client> {
    let server = args.server(at);
    async_nats::ConnectOptions::new()
        .client_capacity(8192)
        .connect(server)
        .await
        .with_context(|| format!("connecting to {server}"))
}

/// Streams can be made only once the servers have found each other.
async fn create(context: &jetstream::Context, config: stream::Config) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match context.create_stream(config.clone()).await {
            Ok(_) => return Ok(()),
            Err(fault) if Instant::now() > until => {
                return Err(fault).context(format!("creating {}", config.name));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
