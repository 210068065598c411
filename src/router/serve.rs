//! What this node does for the routers of the others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rookery_raft::AppHandler;

use super::core::Core;
use super::peer::{self, Call, Cast, Reply};
use super::{passing, places, presence, remote};
use crate::delivery::{Receiver, Topic};
use crate::shard::{Answer, Answers, Freshness, Origin, Read, ReadRefusal, Submission};

/// No call of another node works longer than this, whatever it asks for.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// Takes what the routers of other nodes send.
pub(super) struct Service(pub(super) Arc<Core>);

impl AppHandler for Service {
    fn call(&self, from: u16, body: Bytes) -> BoxFuture<'static, Bytes> {
        let core = Arc::clone(&self.0);
        Box::pin(async move {
            let reply = match peer::read::<Call>(&body) {
                Ok(Call::Read { shard, read, freshness, deadline_ms }) => {
                    serve_read(&core, shard, read, freshness, Duration::from_millis(deadline_ms)).await
                }
                Ok(Call::Subscribe { shard, topics }) => serve_subscribe(&core, from, shard, topics).await,
                Err(fault) => {
                    tracing::warn!(node = from, %fault, "a call of another node cannot be read");
                    Reply::Unknown
                }
            };
            peer::encode(&reply, 1024)
        })
    }

    fn cast(&self, from: u16, body: Bytes) {
        match peer::read::<Cast>(&body) {
            Ok(Cast::Forward { shard, commands }) => {
                let origin = |request| Origin { node: from, request };
                match self.0.replica(shard) {
                    Some(replica) => {
                        let submission = |(request, command): (u64, rookery_wire::Blob)| Submission {
                            origin: origin(request),
                            command: command.0,
                        };
                        replica.submit(commands.into_iter().map(submission).collect());
                    }
                    None => {
                        let again = Answer::Again { leader: None, after_ms: 0 };
                        let answers =
                            commands.into_iter().map(|(request, _)| (origin(request), again.clone()));
                        super::answers::Homeward(Arc::clone(&self.0)).answer(shard, answers.collect());
                    }
                }
            }
            Ok(Cast::Answers { answers }) => settle(&self.0, answers),
            Ok(Cast::Events { events }) => remote::events(&self.0, from, events),
            Ok(Cast::Resumed { topics }) => remote::resumed(&self.0, from, topics),
            Ok(Cast::Unsubscribe { topics }) => self.0.feeds.unsubscribe(&self.0, from, &topics),
            Ok(Cast::Arrivals { arrivals }) => places::arrived(&self.0, from, &arrivals),
            Ok(Cast::Passing { passing: things }) => passing::passed(&self.0, &things),
            Ok(Cast::Watch { number, fresh, add, remove }) => {
                presence::asked(&self.0, from, (number, fresh), add, &remove);
            }
            Ok(Cast::Present { number, whole, users, companies }) => {
                presence::told(&self.0, from, (number, whole), &users, companies);
            }
            Err(fault) => tracing::warn!(node = from, %fault, "a message of another node cannot be read"),
        }
    }
}

/// Answers of several shards, in runs of one shard each.
fn settle(core: &Core, answers: Vec<(u32, u64, Answer)>) {
    let mut run = Vec::new();
    let mut of = 0;
    for (shard, number, answer) in answers {
        if shard != of && !run.is_empty() {
            core.settle(of, std::mem::take(&mut run));
        }
        of = shard;
        run.push((number, answer));
    }
    core.settle(of, run);
}

async fn serve_read(core: &Core, shard: u32, read: Read, freshness: Freshness, deadline: Duration) -> Reply {
    match core.replica(shard) {
        Some(replica) => {
            let leader = replica.leader();
            if freshness == Freshness::Linearizable && leader != Some(core.options.node) {
                return Reply::Read(Err(ReadRefusal::Again { leader }));
            }
            Reply::Read(replica.read(read, freshness, deadline.min(LONGEST_CALL)).await)
        }
        None => Reply::NoReplica,
    }
}

async fn serve_subscribe(core: &Arc<Core>, from: u16, shard: u32, topics: Vec<Topic>) -> Reply {
    let Some(replica) = core.replica(shard) else { return Reply::NoReplica };
    let Some(feed) = core.feeds.of(core, from) else { return Reply::NoReplica };
    Reply::Subscribed(replica.attach(feed as Arc<dyn Receiver>, topics).await)
}
