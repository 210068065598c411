//! Reads: from the actors where they are awake, from the rows where they sleep, never on an arbiter's thread (R14).

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::join_all;
use rookery_wire::codec::{Blob, decode, encode_into};
use rookery_wire::record::{PREVIEW_BYTES, Preview};
use rookery_wire::reply::MemberPage;
use rookery_wire::request::{Direction, ListMembers, Pull};
use rookery_wire::{ErrorBody, ErrorCode, Record, SessionId, UserId};

use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::actor::{FindSession, FindUser, ShardActor};
use super::api::{Asked, MAX_HEADS, Read, ReadRefusal, ReadReply, SessionActivity, SessionHead};
use super::entity::{EntityActor, Look};
use super::shared::Shared;
use crate::plant::planted;
use crate::state::key::SenderKey;
use crate::state::records;
use crate::state::session::Member;
use crate::state::session_rows::{
    HeadRow, awaits, read_burns_for, read_last_number, read_member, read_recalled_after,
};
use crate::state::{RowFault, RowReader, Session, User, as_expired, is_overdue};

/// Most records in one page, whatever is asked.
pub const MAX_PAGE: u32 = 1000;
/// Most bytes of records in one page, whatever is asked.
pub const MAX_PAGE_BYTES: u32 = 512 << 10;

/// How long a reader waits for a place among those that wake sessions and users.
const WAKING_PATIENCE: Duration = Duration::from_secs(5);
/// Sessions and users of one shard that readers wake at once.
pub const WAKING: usize = 64;

/// Answers reads of one shard's replica.
#[derive(Clone)]
pub struct Reads {
    /// Shared.
    pub shared: Arc<Shared>,
    /// To wake sessions and users.
    pub actor: Addr<ShardActor>,
}

/// What a pull found in the actor.
struct Slice {
    /// The session's bounds.
    first: u64,
    last: u64,
    /// The range to give …
    from: u64,
    to: u64,
    /// … the end of it that memory holds …
    hot: Vec<Bytes>,
    /// … the revision of the rows that have the rest …
    revision: u64,
    /// … what they do not have as it is now …
    patches: Vec<(u64, Bytes)>,
    /// … and messages of the range whose time is over, though they have not gone.
    overdue: Vec<u64>,
}

impl Reads {
    /// Answers a read from this replica as it is. It has applied the log up to `index`; 0 where that is not known.
    ///
    /// # Errors
    /// [`ReadRefusal`].
    pub async fn answer(&self, read: Read, index: u64) -> Result<ReadReply, ReadRefusal> {
        match read {
            Read::Pull { user, pull } => self.pull(user, pull).await,
            Read::Activity { sessions } => {
                bounded(sessions.len())?;
                let row = |session: &SessionId| match self.shared.table.get(session) {
                    Some(row) => SessionActivity {
                        last_seq: row.last_seq,
                        time_ms: row.time_ms,
                        count: row.count,
                        settled: !self.shared.intents.lock().contains(session),
                        changed: row.changed,
                    },
                    None => SessionActivity::default(),
                };
                Ok(ReadReply::Activity { index, sessions: sessions.iter().map(row).collect() })
            }
            Read::Heads { user, device, epoch, sessions } => {
                bounded(sessions.len())?;
                self.heads(SenderKey { user, device, epoch }, sessions).await
            }
            Read::CountAt { user, session, seq } => self.count_at(user, session, seq).await,
            Read::Members { user, list } => self.members(user, list).await,
            Read::Group { user, session } => self.group(user, session).await,
            Read::Roles { user, list } => self.roles(user, list).await,
            Read::Requests { user, list } => self.requests(user, list).await,
            Read::Codes { user, list } => self.codes(user, list).await,
            Read::Versions { user, list } => self.versions(user, list).await,
            Read::UserSessions { user, device, after, left_since } => {
                self.user_sessions(user, device, after, left_since, index).await
            }
            Read::Arrive { user, device } => self.arrive(user, device).await,
            Read::Epoch { user, device } => {
                let look = move |state: &User| ReadReply::Count(u64::from(state.epoch(&device)));
                self.look_user(user, look).await
            }
            Read::OwnNumber { user, by, device, epoch } => {
                self.own_number(user, SenderKey { user: by, device, epoch }).await
            }
            Read::KnowsKey { user, key } => self.knows_key(user, key).await,
            Read::Settings { user, sessions } => self.settings(user, sessions).await,
            Read::Relations { user, which, after, limit } => self.relations(user, which, after, limit).await,
            Read::Devices { user, after, limit } => self.devices(user, after, limit).await,
            Read::Audience { user, session, seq, after, most } => {
                self.audience(user, session, seq, after, most).await
            }
            Read::Cursors { session, users, to } => self.cursors(session, users, to).await,
            Read::Seen { pairs, in_group } => self.seen(pairs, in_group).await,
            Read::MayPass { session, actor } => self.may_pass(session, actor).await,
            Read::Digest { user, session, seq } => self.digest(user, session, seq).await,
            Read::Acquainted { user, with } => self.acquainted(user, with).await,
            Read::Known { users } => self.known(users).await,
        }
    }

    /// A place among those that are woken by readers. One load goes before what clients ask of the disk, so a flood of
    /// readers must not bring as many.
    pub(super) async fn waking(&self, awake: bool) -> Result<Option<SemaphorePermit<'_>>, ReadRefusal> {
        if awake {
            return Ok(None);
        }
        match timeout(WAKING_PATIENCE, self.shared.waking.acquire()).await {
            Ok(place) => Ok(place.ok()),
            Err(_late) => {
                let text = "this node has more sessions to wake than it can";
                Err(ReadRefusal::Refused(ErrorBody::new(ErrorCode::Busy, text)))
            }
        }
    }

    async fn session(&self, session: &SessionId) -> Result<Addr<EntityActor<Session>>, ReadRefusal> {
        if let Some(resident) = self.shared.sessions.get(session) {
            resident.touch(&self.shared);
            return Ok(resident.addr.clone());
        }
        self.actor.send(FindSession(session.clone())).await.map_err(|_| GONE)
    }

    pub(super) async fn look<T: Send + 'static>(
        &self,
        session: &SessionId,
        look: impl FnOnce(&Session) -> T + Send + 'static,
    ) -> Result<T, ReadRefusal> {
        // A session that does not exist is not woken: asking for names at random must cost nothing.
        if !self.shared.table.contains(session) {
            return Err(no_such(session));
        }
        let _place = self.waking(self.shared.sessions.contains_key(session)).await?;
        self.session(session).await?.send(Look::new(look)).await.map_err(|_| GONE)
    }

    async fn pull(&self, user: Option<UserId>, pull: Pull) -> Result<ReadReply, ReadRefusal> {
        let session = pull.session.clone();
        let direction = pull.direction;
        let max_bytes = pull.max_bytes.clamp(1, MAX_PAGE_BYTES) as usize;
        let now_ms = self.shared.sure_ms();
        let slice = self.look(&session, move |state| slice(state, user.as_ref(), &pull, now_ms)).await?;
        let Slice { first, last, from, to, hot, revision, patches, overdue } =
            slice.map_err(ReadRefusal::Refused)?;
        // Records are without a gap, so those not in memory are the front of the range.
        let cold_to = to - hot.len() as u64;
        let mut records = self.cold(&session, revision, from, cold_to).await?;
        for (seq, record) in patches {
            if let Some(place) = seq.checked_sub(from).and_then(|at| records.get_mut(at as usize)) {
                *place = record;
            }
        }
        records.extend(hot);
        for seq in overdue {
            if let Some(place) = seq.checked_sub(from).and_then(|at| records.get_mut(at as usize))
                && let Some(expired) = as_expired(place)
            {
                *place = expired;
            }
        }
        let records = bound_bytes(records, direction, max_bytes);
        Ok(ReadReply::Page(Blob(page_body(&session, first, last, &records))))
    }

    pub(super) async fn cold(
        &self,
        session: &SessionId,
        revision: u64,
        from: u64,
        to: u64,
    ) -> Result<Vec<Bytes>, ReadRefusal> {
        let pages = &self.shared.pages;
        pages.range(&self.shared, session, revision, from, to).await.map_err(unreadable)
    }

    async fn count_at(&self, user: UserId, session: SessionId, seq: u64) -> Result<ReadReply, ReadRefusal> {
        let (reader, upto) = (user.clone(), seq);
        let count = self.running_count(user, session.clone(), seq).await?;
        let burns = self.look(&session, move |state| state.burns_for(&reader, upto)).await?;
        Ok(if burns { ReadReply::CountBurning(count) } else { ReadReply::Count(count) })
    }

    async fn running_count(&self, user: UserId, session: SessionId, seq: u64) -> Result<u64, ReadRefusal> {
        let id = session.clone();
        let found = self.look(&session, move |state| {
            may_read(state, Some(&user))?;
            if seq > state.last_seq() {
                let text = format!("{id} ends at {}, cannot read up to {seq}", state.last_seq());
                return Err(ErrorBody::new(ErrorCode::BeyondEnd, text).with_detail(state.last_seq()));
            }
            if seq == state.last_seq() {
                return Ok((Some(state.count()), Err(0)));
            }
            if seq < state.first_seq() {
                // What is trimmed counts as read, however much of it he says he has.
                return Ok((Some(state.first_count()), Err(0)));
            }
            // A running count is the same in every revision.
            Ok((None, state.record(seq).cloned().ok_or(state.rows_revision())))
        });
        let record = match found.await?.map_err(ReadRefusal::Refused)? {
            (Some(count), _) => return Ok(count),
            (None, Ok(record)) => Some(record),
            (None, Err(_)) if seq == 0 => return Ok(0),
            (None, Err(revision)) => self.cold(&session, revision, seq, seq).await?.pop(),
        };
        let record = record.and_then(|bytes| decode::<Record>(&bytes).ok());
        record.map(|record| record.count).ok_or_else(|| no_such(&session))
    }

    async fn members(&self, user: Option<UserId>, list: ListMembers) -> Result<ReadReply, ReadRefusal> {
        let session = list.session.clone();
        let page = self.look(&session, move |state| {
            may_read(state, user.as_ref())?;
            let limit = list.limit.clamp(1, MAX_PAGE) as usize;
            let mut users: Vec<UserId> =
                state.members_after(list.after.as_ref()).take(limit + 1).cloned().collect();
            let more = users.len() > limit;
            users.truncate(limit);
            Ok(MemberPage { users, more, total: state.present() })
        });
        page.await?.map(ReadReply::Members).map_err(ReadRefusal::Refused)
    }

    pub(super) async fn user(&self, user: UserId) -> Result<Addr<EntityActor<User>>, ReadRefusal> {
        let known = self.shared.users.get(&user).map(|resident| {
            resident.touch(&self.shared);
            resident.addr.clone()
        });
        match known {
            Some(addr) => Ok(addr),
            None => self.actor.send(FindUser(user)).await.map_err(|_| GONE),
        }
    }

    pub(super) async fn look_user<T: Send + 'static>(
        &self,
        user: UserId,
        look: impl FnOnce(&User) -> T + Send + 'static,
    ) -> Result<T, ReadRefusal> {
        let _place = self.waking(self.shared.users.contains_key(&user)).await?;
        self.user(user).await?.send(Look::new(look)).await.map_err(|_| GONE)
    }

    /// Summaries: from the actors that are awake, and for the others in one visit to the rows.
    async fn heads(&self, who: SenderKey, sessions: Vec<Asked>) -> Result<ReadReply, ReadRefusal> {
        let mut heads: Vec<Option<Result<SessionHead, ErrorCode>>> = vec![None; sessions.len()];
        let (mut asleep, mut looks) = (Vec::new(), Vec::new());
        let now_ms = self.shared.sure_ms();
        for (at, asked) in sessions.into_iter().enumerate() {
            let session = asked.session.clone();
            let awake = self.shared.sessions.get(&session).map(|resident| resident.addr.clone());
            match awake {
                Some(addr) => {
                    let who = who.clone();
                    let look = Look::new(move |state: &Session| head_of(state, &who, &asked, now_ms));
                    looks.push(async move { (at, session, addr.send(look).await) });
                }
                None => asleep.push((at, asked)),
            }
        }
        // All asked before the first answer is waited for: the arbiter is woken once and not once per session.
        let mut unknown = Vec::new();
        for (at, session, head) in join_all(looks).await {
            let head = head.map_err(|_| GONE)?;
            if head.as_ref().is_ok_and(|head| head.last_client_seq == UNKNOWN) {
                unknown.push((at, session));
            }
            heads[at] = Some(head);
        }
        // One that woke and changed meanwhile has still been as its rows say, within this request: it was asleep,
        // thus clean, when it was looked for. The lock keeps a checkpoint from writing between two of its rows.
        let _one_index = self.shared.rows_lock.read().await;
        let read = super::rows::query_in_use(&self.shared, move |rows| {
            let head = |(at, asked): (usize, Asked)| Ok((at, head_from_rows(rows, &who, &asked, now_ms)?));
            let asleep = asleep.into_iter().map(head).collect::<Result<Vec<_>, RowFault>>()?;
            let number =
                |(at, session): (usize, SessionId)| Ok((at, read_last_number(rows, &session, &who)?));
            Ok((asleep, unknown.into_iter().map(number).collect::<Result<Vec<_>, RowFault>>()?))
        });
        let found = read.await.and_then(|heads| heads.ok_or_else(super::rows::replaced));
        let (asleep, numbers) = found.map_err(unreadable)?;
        for (at, head) in asleep {
            heads[at] = Some(head);
        }
        for (at, number) in numbers {
            if let Some(Ok(head)) = &mut heads[at] {
                head.last_client_seq = number;
            }
        }
        let all = heads.into_iter().map(|head| head.unwrap_or(Err(ErrorCode::Unavailable)));
        Ok(ReadReply::Heads(all.collect()))
    }
}

pub(super) const GONE: ReadRefusal = ReadRefusal::Again { leader: None };

pub(super) fn bounded(sessions: usize) -> Result<(), ReadRefusal> {
    if sessions <= MAX_HEADS {
        return Ok(());
    }
    let text = format!("{sessions} names in one read, at most {MAX_HEADS}");
    Err(ReadRefusal::Refused(ErrorBody::new(ErrorCode::TooMany, text)))
}

fn no_such(session: &SessionId) -> ReadRefusal {
    ReadRefusal::Refused(ErrorBody::new(ErrorCode::NoSuchSession, format!("there is no {session}")))
}

/// Only members read, and services. A session that never opened is none.
pub(super) fn may_read(state: &Session, user: Option<&UserId>) -> Result<(), ErrorBody> {
    let session = state.id();
    let open = state.exists() || state.present() > 0;
    match user {
        // It is empty, and his list names it already.
        Some(user) if state.awaits(user) => Ok(()),
        _ if !open => Err(ErrorBody::new(ErrorCode::NoSuchSession, format!("there is no {session}"))),
        Some(_) if state.dissolved() => {
            Err(ErrorBody::new(ErrorCode::Dissolved, format!("{session} has been dissolved")))
        }
        Some(user) if state.member(user).is_none() => {
            Err(ErrorBody::new(ErrorCode::NotMember, format!("{user} is not a member of {session}")))
        }
        _ => Ok(()),
    }
}

/// Rows that cannot be read are never a wrong answer: the asker is sent elsewhere and the log says why. Of too many
/// reads he is told.
pub(super) fn unreadable(fault: RowFault) -> ReadRefusal {
    if matches!(fault, RowFault::Busy) {
        let text = "this node has more reads from disk to do than it can hold";
        return ReadRefusal::Refused(ErrorBody::new(ErrorCode::Busy, text));
    }
    tracing::error!(%fault, "rows cannot be read");
    ReadRefusal::Again { leader: None }
}

/// What to give for a pull.
fn slice(
    state: &Session,
    user: Option<&UserId>,
    pull: &Pull,
    now_ms: Option<u64>,
) -> Result<Slice, ErrorBody> {
    may_read(state, user)?;
    let (first, last) = (state.readable_from(user), state.last_seq());
    let count = u64::from(pull.max_count.clamp(1, MAX_PAGE));
    let (from, to) = match pull.direction {
        Direction::Forward => {
            let from = pull.from_seq.max(first);
            (from, last.min(from.saturating_add(count - 1)))
        }
        Direction::Backward => {
            let to = if pull.from_seq == 0 { last } else { pull.from_seq.min(last) };
            (first.max((to + 1).saturating_sub(count)), to)
        }
    };
    // An empty range has `to` just before `from`.
    let to = to.max(from.saturating_sub(1));
    let hot = (from.max(state.tail_first())..=to).filter_map(|seq| state.record(seq).cloned()).collect();
    let (revision, patches) = (state.rows_revision(), state.patches(from, to));
    let overdue = state.overdue(from..=to, now_ms);
    Ok(Slice { first, last, from, to, hot, revision, patches, overdue })
}

/// Keeps as many records as fit, at least one, at the end where the reading begins.
fn bound_bytes(mut records: Vec<Bytes>, direction: Direction, max: usize) -> Vec<Bytes> {
    let mut total = 0;
    let fits = |record: &&Bytes| {
        total += record.len();
        total <= max
    };
    match direction {
        Direction::Forward => {
            let keep = records.iter().take_while(fits).count().max(1);
            records.truncate(keep);
            records
        }
        Direction::Backward => {
            let keep = records.iter().rev().take_while(fits).count().max(1);
            records.split_off(records.len().saturating_sub(keep))
        }
    }
}

/// The body of a PAGE frame from records that are encoded already.
fn page_body(session: &SessionId, first: u64, last: u64, records: &[Bytes]) -> Bytes {
    let total: usize = records.iter().map(Bytes::len).sum();
    let mut out = BytesMut::with_capacity(total + 128);
    encode_into(session, &mut out);
    let first = if planted("trim-untold") { first.min(1) } else { first };
    encode_into(&(first, last, records.len() as u64), &mut out);
    for record in records {
        out.put_slice(record);
    }
    out.freeze()
}

/// The last message for a list; what is left of it, if its time is over.
fn preview(record: &Bytes, is_overdue: bool) -> Option<Preview> {
    let expired = if is_overdue { as_expired(record) } else { None };
    let record: Record = decode(expired.as_ref().unwrap_or(record)).ok()?;
    let shown = record.content.len().min(PREVIEW_BYTES);
    Some(Preview {
        seq: record.seq,
        time_ms: record.time_ms,
        sender: record.sender,
        kind: record.kind,
        content_type: record.content_type,
        content: Blob(record.content.0.slice(..shown)),
    })
}

fn head_of(
    state: &Session,
    who: &SenderKey,
    asked: &Asked,
    now_ms: Option<u64>,
) -> Result<SessionHead, ErrorCode> {
    if state.awaits(&who.user) {
        return Ok(opening_head(state.present()));
    }
    let member = state.member(&who.user).ok_or(ErrorCode::NotMember)?;
    let seen = seen_count(member, asked.seen_count).max(state.first_count());
    let recalled = asked.counts(seen).map(|count| state.recalled_after(count));
    let last = Some(state.last_seq()).filter(|last| *last >= state.first_seq());
    let is_overdue = last.is_some_and(|last| !state.overdue(last..=last, now_ms).is_empty());
    Ok(SessionHead {
        members: state.present(),
        first_seq: state.readable_from(Some(&who.user)),
        last_seq: state.last_seq(),
        count: state.count(),
        unread: asked.unread(state.count(), seen, &recalled.collect::<Vec<_>>()),
        burns: asked.burns && state.burns_for(&who.user, state.last_seq()),
        joined_seq: member.joined_seq,
        // Filled in from the row where memory does not know it.
        last_client_seq: state.last_number_here(who).unwrap_or(UNKNOWN),
        time_ms: state.time_ms(),
        last: last.and_then(|last| state.record(last)).and_then(|record| preview(record, is_overdue)),
    })
}

/// Stands for a last number that is a row's to tell.
const UNKNOWN: u64 = u64::MAX;

/// The running count up to which a member has seen everything (G6).
fn seen_count(member: &Member, seen_count: u64) -> u64 {
    seen_count.max(member.own_count).max(member.joined_count)
}

/// Of a session that opens, for one of its founders: there is nothing in it.
fn opening_head(members: u32) -> SessionHead {
    SessionHead {
        members,
        first_seq: 1,
        last_seq: 0,
        count: 0,
        unread: 0,
        burns: false,
        joined_seq: 1,
        last_client_seq: 0,
        time_ms: 0,
        last: None,
    }
}

fn head_from_rows(
    rows: &dyn RowReader,
    who: &SenderKey,
    asked: &Asked,
    now_ms: Option<u64>,
) -> Result<Result<SessionHead, ErrorCode>, RowFault> {
    let session = &asked.session;
    let Some(head) = HeadRow::read(rows, session)? else { return Ok(Err(ErrorCode::NoSuchSession)) };
    let member = read_member(rows, session, &who.user)?.filter(|member| member.present);
    let Some(member) = member else {
        let awaited = head.last_seq == 0 && awaits(rows, session, &who.user)?;
        return Ok(if awaited { Ok(opening_head(head.present)) } else { Err(ErrorCode::NotMember) });
    };
    let seen = seen_count(&member, asked.seen_count).max(head.first_count);
    let recalled = read_recalled_after(rows, session, &asked.counts(seen).collect::<Vec<_>>())?;
    let last =
        if head.last_seq < head.first_seq { None } else { records::read_one(rows, session, head.last_seq)? };
    let is_overdue = match &last {
        Some(record) => is_overdue(rows, session, record, now_ms)?,
        None => false,
    };
    Ok(Ok(SessionHead {
        members: head.present,
        first_seq: head.settings.readable_from(head.first_seq, member.joined_seq),
        last_seq: head.last_seq,
        count: head.count,
        unread: asked.unread(head.count, seen, &recalled),
        burns: asked.burns && read_burns_for(rows, session, &who.user)?,
        joined_seq: member.joined_seq,
        last_client_seq: read_last_number(rows, session, who)?,
        time_ms: head.time_ms,
        last: last.as_ref().and_then(|record| preview(record, is_overdue)),
    }))
}
