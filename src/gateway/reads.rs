//! PULL, LIST_MEMBERS and READ. Each waits for its turn and for room in the outbox before it reads, so that a client
//! which asks much and takes little holds a few pages and no more.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use rookery_wire::frame::{begin_frame, end_frame};
use rookery_wire::own::Settings;
use rookery_wire::reply::Page;
use rookery_wire::request::{self, Consistency, Direction, ListMembers, Pull};
use rookery_wire::{ErrorBody, ErrorCode, Kind, SessionId, decode};

use super::connection::Connection;
use super::core::Core;
use super::own::{fit, how_many_fit};
use super::{check, mask, receipts};
use crate::shard::{Answer, Freshness, Read, ReadReply};
use crate::state::{Command, EntityKey, ReadTo};

/// A turn to read; until it is given back only a few others of this connection read too.
pub(super) async fn turn(connection: &Connection) -> Result<tokio::sync::SemaphorePermit<'_>, ErrorBody> {
    let turn = connection.reads.acquire().await;
    connection.out.room().await;
    turn.map_err(|_| ErrorBody::new(ErrorCode::ShuttingDown, "this connection ends"))
}

/// A reply of another kind than was asked for: a bug on the other node, never a wrong answer here.
pub(super) fn unexpected(reply: &ReadReply) -> ErrorBody {
    tracing::error!(?reply, "a read was answered with something else");
    ErrorBody::new(ErrorCode::Unavailable, "the shard answered something else; repeat")
}

/// How fresh a read is to be.
pub(super) fn freshness(consistency: Consistency) -> Freshness {
    match consistency {
        Consistency::Linearizable => Freshness::Linearizable,
        Consistency::AtLeast(seq) => Freshness::AtLeast(seq),
        Consistency::Replica => Freshness::Replica,
    }
}

/// PULL.
pub(super) async fn pull(connection: Arc<Connection>, request: u32, pull: Pull) -> Result<(), ErrorBody> {
    let service = connection.identity.service;
    let pull = check::pull(connection.user(), service, pull, &connection.core.options.limits)?;
    let _turn = turn(&connection).await?;
    let shard = connection.core.router.shard_of(&EntityKey::Session(pull.session.clone()));
    let freshness = freshness(pull.consistency);
    let user = (!service).then(|| connection.user().clone());
    let router = &connection.core.router;
    let read = Read::Pull { user: user.clone(), pull: pull.clone() };
    let page = router.read(shard, read, freshness);
    let (page, settings) =
        tokio::join!(page, exceptions(&connection, &pull.session, pull.consistency, user.is_some()));
    let (body, settings) = (page_body(page?)?, settings?);
    if !mask::masks(&settings) {
        connection.reply_frame(raw_frame(Kind::Page, request, &body));
        return Ok(());
    }
    let mut page = masked(&settings, &body)?;
    if page.records.is_empty() && pull.direction == Direction::Forward && page.last_seq > settings.cleared_seq
    {
        // All that was read is cleared; what the user may see begins later.
        let pull = Pull { from_seq: pull.from_seq.max(page.first_seq), ..pull };
        let again = router.read(shard, Read::Pull { user, pull }, freshness).await?;
        page = masked(&settings, &page_body(again)?)?;
    }
    fit_records(&connection.core, &mut page, pull.direction);
    connection.reply(Kind::Page, request, &page);
    Ok(())
}

/// What is left of a deleted message may be more than it was: its hash is longer than the salt it stands for. So a page is cut
/// to the frame once more, at the end at which the next one goes on.
fn fit_records(core: &Core, page: &mut Page, direction: Direction) {
    match direction {
        Direction::Forward => page.records.truncate(how_many_fit(core, &page.records, 0)),
        Direction::Backward => {
            page.records.reverse();
            page.records.truncate(how_many_fit(core, &page.records, 0));
            page.records.reverse();
        }
    }
}

fn page_body(reply: ReadReply) -> Result<Bytes, ErrorBody> {
    match reply {
        ReadReply::Page(body) => Ok(body.0),
        other => Err(unexpected(&other)),
    }
}

fn masked(settings: &Settings, body: &Bytes) -> Result<Page, ErrorBody> {
    let page = decode::<Page>(body).map_err(|fault| {
        tracing::error!(%fault, "a page cannot be read");
        ErrorBody::new(ErrorCode::Unavailable, "the shard answered something else; repeat")
    })?;
    Ok(mask::page(settings, page))
}

/// What the user has cleared and deleted of the session, as fresh as what is read is to be; nothing for a service.
pub(super) async fn exceptions(
    connection: &Connection,
    session: &SessionId,
    consistency: Consistency,
    of_user: bool,
) -> Result<Settings, ErrorBody> {
    if !of_user {
        return Ok(Settings::default());
    }
    let (router, user) = (&connection.core.router, connection.user().clone());
    let shard = router.shard_of(&EntityKey::User(user.clone()));
    let read = Read::Settings { user, sessions: vec![session.clone()] };
    let here = match consistency {
        Consistency::Linearizable => None,
        // This node's replica of the user, if it has one.
        Consistency::AtLeast(_) | Consistency::Replica => {
            router.read(shard, read.clone(), Freshness::Replica).await.ok()
        }
    };
    let reply = match here {
        Some(reply) => reply,
        None => router.read(shard, read, Freshness::Linearizable).await?,
    };
    match reply {
        ReadReply::Settings(settings) => Ok(settings.into_iter().next().unwrap_or_default()),
        other => Err(unexpected(&other)),
    }
}

/// A frame around a body that is encoded already.
fn raw_frame(kind: Kind, request: u32, body: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 16);
    let start = begin_frame(kind, request, &mut out);
    out.put_slice(body);
    end_frame(start, &mut out);
    out.freeze()
}

/// LIST_MEMBERS.
pub(super) async fn list(
    connection: Arc<Connection>,
    request: u32,
    list: ListMembers,
) -> Result<(), ErrorBody> {
    let service = connection.identity.service;
    let list = check::list(connection.user(), service, list)?;
    let _turn = turn(&connection).await?;
    let shard = connection.core.router.shard_of(&EntityKey::Session(list.session.clone()));
    let user = (!service).then(|| connection.user().clone());
    let read = Read::Members { user, list };
    match connection.core.router.read(shard, read, Freshness::Linearizable).await? {
        ReadReply::Members(mut page) => {
            page.more |= fit(&connection, &mut page.users);
            connection.reply(Kind::MemberPage, request, &page);
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

/// READ: the running count at that seq from the session, then cursor and count into the user's own record (R15).
pub(super) async fn read_mark(
    connection: Arc<Connection>,
    request: u32,
    read: request::Read,
) -> Result<(), ErrorBody> {
    let taken_ms = connection.core.clock.unix_ms();
    let _turn = turn(&connection).await?;
    let router = &connection.core.router;
    let shard = router.shard_of(&EntityKey::Session(read.session.clone()));
    let user = connection.user().clone();
    let count_at = Read::CountAt { user: user.clone(), session: read.session.clone(), seq: read.seq };
    let (count, burns) = match router.read(shard, count_at, Freshness::Linearizable).await? {
        ReadReply::Count(count) => (count, false),
        ReadReply::CountBurning(count) => (count, true),
        other => return Err(unexpected(&other)),
    };
    let to = ReadTo { session: read.session, seq: read.seq, count, burns };
    match router.execute(&Command::Read { user, to, taken_ms }).await {
        Answer::ReadMark(mark) => {
            receipts::note(&connection.core, connection.user(), &mark.session, mark.seq);
            connection.reply(Kind::ReadMark, request, &mark);
            Ok(())
        }
        Answer::Refused(error) => Err(error),
        other => Err(unknown(&other)),
    }
}

fn unknown(answer: &Answer) -> ErrorBody {
    tracing::error!(?answer, "a READ was answered with something else");
    ErrorBody::new(ErrorCode::Unavailable, "the outcome is unknown; repeat")
}
