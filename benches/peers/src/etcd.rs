//! etcd: a put of a key of its own for each message, under its session's prefix. A put is answered when it is in the
//! write-ahead logs of a majority, synced.

use anyhow::Context as _;
use bytes::Bytes;
use etcd_client::{Client, GetOptions};
use futures::future::BoxFuture;

use crate::{Args, Peer, Sender, Sending, eventually};

const ALL: &str = "bench/";

pub(crate) struct Etcd {
    args: Args,
    client: Client,
}

impl Etcd {
    pub(crate) async fn prepare(args: &Args) -> anyhow::Result<Self> {
        let mut first = None;
        // Each of the three: a put is answered by a majority, and one that is not there yet would be work left out.
        for at in 0..args.servers.len() as u32 {
            let client = eventually("a first put", || async move {
                let mut client = connect(args, at).await?;
                client.put("ready", "", None).await?;
                Ok(client)
            })
            .await?;
            first.get_or_insert(client);
        }
        Ok(Self { args: args.clone(), client: first.context("no server was named")? })
    }
}

impl Peer for Etcd {
    fn sender(&mut self, at: u32) -> BoxFuture<'_, anyhow::Result<Box<dyn Sender>>> {
        Box::pin(async move {
            let client = connect(&self.args, at).await?;
            let prefix = format!("{ALL}{}/{at}/", at % self.args.sessions);
            Ok(Box::new(Putter { client, prefix }) as Box<dyn Sender>)
        })
    }

    fn count(&mut self, _acked: u64) -> BoxFuture<'_, anyhow::Result<u64>> {
        Box::pin(async move {
            let all = GetOptions::new().with_prefix().with_count_only();
            Ok(self.client.get(ALL, Some(all)).await?.count().try_into()?)
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

async fn connect(args: &Args, at: u32) -> anyhow::Result<Client> {
    let server = args.server(at);
    Client::connect([server], None).await.with_context(|| format!("connecting to {server}"))
}
