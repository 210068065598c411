//! etcd: a put of a key of its own for each message, under its session's prefix. A put is answered when it is in the
//! write-ahead logs of a majority, synced.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use etcd_client::{Client, DeleteOptions, GetOptions};
use futures::future::BoxFuture;

use crate::{Args, Peer, Sender, Sending};

pub(crate) struct Etcd {
    args: Args,
    tag: String,
    client: Client,
}

impl Etcd {
    pub(crate) async fn prepare(args: &Args) -> anyhow::Result<Self> {
        let tag = format!("b{}/", std::process::id());
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let ready = async {
                let mut client = connect(args, 0).await?;
                client.put(format!("{tag}ready"), "", None).await?;
                client.delete(format!("{tag}ready"), None).await?;
                Ok::<_, anyhow::Error>(client)
            };
            match ready.await {
                Ok(client) => return Ok(Self { args: args.clone(), tag, client }),
                Err(fault) if Instant::now() > until => return Err(fault).context("etcd is not ready"),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

impl Peer for Etcd {
    fn sender(&mut self, at: u32) -> BoxFuture<'_, anyhow::Result<Box<dyn Sender>>> {
        Box::pin(async move {
            let client = connect(&self.args, at as usize).await?;
            let prefix = format!("{}{}/{at}/", self.tag, at % self.args.sessions);
            Ok(Box::new(Putter { client, prefix }) as Box<dyn Sender>)
        })
    }

    fn count(&mut self) -> BoxFuture<'_, anyhow::Result<u64>> {
        Box::pin(async move {
            let all = GetOptions::new().with_prefix().with_count_only();
            let there = self.client.get(self.tag.clone(), Some(all)).await?.count();
            self.client.delete(self.tag.clone(), Some(DeleteOptions::new().with_prefix())).await?;
            Ok(there.try_into()?)
        })
    }
}

struct Putter {
    client: Client,
    prefix: String,
}

impl Sender for Putter {
    fn send(&mut self, number: u64, content: Bytes) -> BoxFuture<'_, anyhow::Result<Sending>> {
        let (mut client, key) = (self.client.clone(), format!("{}{number:010}", self.prefix));
        Box::pin(async move {
            Ok(Box::pin(async move {
                client.put(key, Vec::from(content), None).await?;
                Ok(())
            }) as Sending)
        })
    }
}

async fn connect(args: &Args, at: usize) -> anyhow::Result<Client> {
    let server = args.server(at);
    Client::connect([server], None).await.with_context(|| format!("connecting to {server}"))
}
