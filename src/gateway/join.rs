//! Coming into groups: JOIN_GROUP as a command, LIST_REQUESTS and LIST_CODES as reads.
//!
//! A code ends here: what goes on is its SHA-256, so that no log, row or record holds it. Sizes are judged here and
//! consume no `client_seq`; whether somebody may come is judged at apply (G8).

use std::sync::Arc;

use rookery_wire::join::{
    CODE_HASH, JoinGroup, ListCodes, ListRequests, MAX_CODE, MAX_CODE_USES, MAX_JOIN_TEXT,
};
use rookery_wire::{Blob, ErrorBody, ErrorCode, Kind};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::bounds;
use super::check::{may_name, numbered, refuse};
use super::connection::Connection;
use super::groups::{is_group, read};
use super::own::fit;
use super::pace::too_fast;
use super::reads::unexpected;
use crate::config::Limits;
use crate::shard::{Read, ReadReply};
use crate::state::{Act, Actor, Command};

/// A JOIN_GROUP as a command.
pub(super) fn join(actor: Actor, asked: JoinGroup, limits: &Limits) -> Result<Command, ErrorBody> {
    may_name(&actor)?;
    numbered(asked.client_seq)?;
    is_group(&asked.session)?;
    if actor.service && actor.on_behalf_of.is_none() {
        return refuse(ErrorCode::BadRequest, "a service is no member of anything; name a user");
    }
    bounds::INVITE_CODE.hold(asked.code.as_ref().map_or(0, Blob::len), MAX_CODE)?;
    bounds::JOIN_TEXT.hold(asked.text.len(), MAX_JOIN_TEXT)?;
    let JoinGroup { session, client_seq, code, text, .. } = asked;
    let code = code.map(|code| Sha256::digest(code.as_ref()).into());
    let act = Act::Join { code, text, most: limits.group_members, again_ms: limits.join_again_ms };
    Ok(Command::Act { actor, session, client_seq, act })
}

/// Whether the user may knock once more now: nobody tries codes, or the doors of all groups, as fast as the wire takes it.
/// A service answers for itself.
pub(super) fn in_turn(connection: &Connection) -> Result<(), ErrorBody> {
    if connection.identity.service {
        return Ok(());
    }
    let (core, rate) = (&connection.core, connection.core.options.limits.join_rate);
    let paced = core.joins.take(connection.user(), rate, Instant::now());
    paced.map_err(|wait| too_fast("joins", "limits.join_rate", rate, wait))
}

/// Whether a code like that can be made.
pub(super) fn may_be_made(hash: &Blob, uses: u32) -> Result<(), ErrorBody> {
    if hash.len() != CODE_HASH {
        let text = format!("hash has {} bytes; it is the SHA-256 of the code, {CODE_HASH} bytes", hash.len());
        return refuse(ErrorCode::BadRequest, text);
    }
    if uses == 0 {
        return refuse(ErrorCode::BadRequest, "uses is 0: a code lets in one user at least");
    }
    bounds::USES.hold(uses as usize, MAX_CODE_USES as usize)
}

/// LIST_REQUESTS.
pub(super) async fn requests(
    connection: Arc<Connection>,
    request: u32,
    list: ListRequests,
) -> Result<(), ErrorBody> {
    is_group(&list.session)?;
    let user = (!connection.identity.service).then(|| connection.user().clone());
    let session = list.session.clone();
    match read(&connection, &session, Read::Requests { user, list }).await? {
        ReadReply::Requests(mut page) => {
            page.more |= fit(&connection, &mut page.requests);
            connection.reply(Kind::RequestPage, request, &page);
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

/// LIST_CODES.
pub(super) async fn codes(
    connection: Arc<Connection>,
    request: u32,
    list: ListCodes,
) -> Result<(), ErrorBody> {
    is_group(&list.session)?;
    let user = (!connection.identity.service).then(|| connection.user().clone());
    let session = list.session.clone();
    match read(&connection, &session, Read::Codes { user, list }).await? {
        ReadReply::Codes(page) => {
            connection.reply(Kind::CodePage, request, &page);
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}
