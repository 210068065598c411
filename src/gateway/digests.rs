//! DIGEST: a proof of a session's history, judged like a PULL.

use std::sync::Arc;

use rookery_wire::digest::DigestAt;
use rookery_wire::{ErrorBody, Kind};

use super::check;
use super::connection::Connection;
use super::reads::{freshness, turn, unexpected};
use crate::shard::{Read, ReadReply};
use crate::state::EntityKey;

/// DIGEST.
pub(super) async fn digest(
    connection: Arc<Connection>,
    request: u32,
    ask: DigestAt,
) -> Result<(), ErrorBody> {
    let service = connection.identity.service;
    let DigestAt { session, seq, consistency } = check::digest(connection.user(), service, ask)?;
    let _turn = turn(&connection).await?;
    let router = &connection.core.router;
    let shard = router.shard_of(&EntityKey::Session(session.clone()));
    let user = (!service).then(|| connection.user().clone());
    let read = Read::Digest { user, session, seq };
    match router.read(shard, read, freshness(consistency)).await? {
        ReadReply::Digest(reply) => {
            connection.reply(Kind::DigestReply, request, &reply);
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}
