//! NATS JetStream: a stream with three replicas for each session, an acknowledged publish for each message.

use anyhow::Context as _;
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{Args, Peer, Sender, Sending, eventually};

pub(crate) struct Nats {
    args: Args,
    context: jetstream::Context,
}

impl Nats {
    pub(crate) async fn prepare(args: &Args) -> anyhow::Result<Self> {
        let context = jetstream::new(eventually("connecting", || connect(args, 0)).await?);
        for at in 0..args.sessions {
            let config = stream::Config {
                name: name(at),
                subjects: vec![subject(at)],
                num_replicas: 3,
                storage: stream::StorageType::File,
                ..stream::Config::default()
            };
            let what = format!("creating the stream {}", name(at));
            // Streams can be made only once the servers have found each other.
            eventually(&what, || async { Ok(context.create_stream(config.clone()).await?) }).await?;
        }
        for at in 0..args.sessions {
            eventually("a leader and two followers that are current", || async {
                let info = context.get_stream(name(at)).await?.get_info().await?;
                let cluster = info.cluster.context("the stream has no cluster")?;
                anyhow::ensure!(cluster.leader.is_some(), "no leader");
                anyhow::ensure!(
                    cluster.replicas.iter().filter(|replica| replica.current).count() == 2,
                    "not current"
                );
                Ok(())
            })
            .await?;
        }
        Ok(Self { args: args.clone(), context })
    }
}

fn name(at: u32) -> String {
    format!("bench{at}")
}

fn subject(at: u32) -> String {
    format!("bench.{at}")
}

impl Peer for Nats {
    fn sender(&mut self, at: u32) -> BoxFuture<'_, anyhow::Result<Box<dyn Sender>>> {
        Box::pin(async move {
            let context = jetstream::new(connect(&self.args, at).await?);
            Ok(Box::new(Publisher { context, subject: subject(at % self.args.sessions) }) as Box<dyn Sender>)
        })
    }

    fn count(&mut self, _acked: u64) -> BoxFuture<'_, anyhow::Result<u64>> {
        Box::pin(async move {
            let mut stored = 0;
            for at in 0..self.args.sessions {
                stored += self.context.get_stream(name(at)).await?.get_info().await?.state.messages;
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

async fn connect(args: &Args, at: u32) -> anyhow::Result<async_nats::Client> {
    let server = args.server(at);
    async_nats::ConnectOptions::new()
        .client_capacity(8192)
        .connect(server)
        .await
        .with_context(|| format!("connecting to {server}"))
}
