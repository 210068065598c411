//! What receipts, ephemeral messages and presence ask of a shard: who is to have read a message, how far users have read,
//! who may write now, who knows whom, who was seen when.
//!
//! Questions about many users are one request per shard. Of users that are not in memory the one row that is asked for is
//! read, many in one visit to the rows; none is woken.

use futures::future::join_all;
use rookery_wire::codec::{Blob, decode};
use rookery_wire::{ErrorBody, ErrorCode, Record, SessionId, UserId};

use super::api::{Audience, MAX_HEADS, ReadRefusal, ReadReply};
use super::entity::Look;
use super::reads::{GONE, Reads, bounded, may_read, unreadable};
use crate::state::privacy::{Shown, row_shows};
use crate::state::user_rows::{read_cursor, read_known, read_last_used};
use crate::state::{Act, Actor, At, RowFault, RowReader, Session, User};

/// A user, and who is told of it; none for a service.
type Pair = (UserId, Option<UserId>);

/// Users read from rows in one visit, so that a thread of the read pool is not held for long.
const VISIT: usize = 1000;

impl Reads {
    /// The members who are to have read a message: those who were members when it was sent and still are, its sender
    /// aside.
    pub(super) async fn audience(
        &self,
        user: Option<UserId>,
        session: SessionId,
        seq: u64,
        after: Option<UserId>,
        most: u32,
    ) -> Result<ReadReply, ReadRefusal> {
        let id = session.clone();
        let found = self.look(&session, move |state| {
            may_read(state, user.as_ref())?;
            if seq < state.readable_from(user.as_ref()) || seq > state.last_seq() {
                let text = format!("{id} has no message {seq} to be read");
                return Err(ErrorBody::new(ErrorCode::NoSuchMessage, text));
            }
            // Sender and running count are the same in every revision.
            Ok(state.record(seq).cloned().ok_or(state.rows_revision()))
        });
        let bytes = match found.await?.map_err(ReadRefusal::Refused)? {
            Ok(bytes) => Some(bytes),
            Err(revision) => self.cold(&session, revision, seq, seq).await?.pop(),
        };
        let record = bytes.and_then(|bytes| decode::<Record>(&bytes).ok()).ok_or(GONE)?;
        let most = most.clamp(1, MAX_HEADS as u32) as usize;
        let audience = self.look(&session, move |state| audience_of(state, &record, after.as_ref(), most));
        Ok(ReadReply::Audience(audience.await?))
    }

    /// How far each of these users has read a session; none of those who do not show it.
    pub(super) async fn cursors(
        &self,
        session: SessionId,
        users: Vec<UserId>,
        to: Option<UserId>,
    ) -> Result<ReadReply, ReadRefusal> {
        let pairs = users.into_iter().map(|user| (user, to.clone()));
        let (pairs, of) = (pairs.collect(), session.clone());
        let awake = move |user: &User, told: Option<&UserId>| {
            user.shows(Shown::Receipts, told).then(|| user.read_cursor(&of))
        };
        let asleep = move |rows: &dyn RowReader, user: &UserId, told: Option<&UserId>| {
            if !row_shows(rows, user, Shown::Receipts, told)? {
                return Ok(None);
            }
            read_cursor(rows, user, &session).map(Some)
        };
        self.of_users(pairs, awake, asleep).await.map(ReadReply::Cursors)
    }

    /// When a device of each of these users was last heard of; none of those who do not show it.
    pub(super) async fn seen(&self, pairs: Vec<Pair>, in_group: bool) -> Result<ReadReply, ReadRefusal> {
        let what = if in_group { Shown::PresenceInGroup } else { Shown::Presence };
        let awake =
            move |user: &User, told: Option<&UserId>| user.shows(what, told).then(|| user.last_used_ms());
        let asleep = move |rows: &dyn RowReader, user: &UserId, told: Option<&UserId>| {
            if !row_shows(rows, user, what, told)? {
                return Ok(None);
            }
            read_last_used(rows, user).map(Some)
        };
        self.of_users(pairs, awake, asleep).await.map(ReadReply::Seen)
    }

    /// Whether each of these is a user.
    pub(super) async fn known(&self, users: Vec<UserId>) -> Result<ReadReply, ReadRefusal> {
        let pairs = users.into_iter().map(|user| (user, None)).collect();
        let awake = |user: &User, _: Option<&UserId>| Some(u64::from(user.is_known()));
        let asleep = |rows: &dyn RowReader, user: &UserId, _: Option<&UserId>| {
            read_known(rows, user).map(|known| Some(u64::from(known)))
        };
        let facts = self.of_users(pairs, awake, asleep).await?;
        Ok(ReadReply::Known(facts.into_iter().map(|fact| fact == Some(1)).collect()))
    }

    /// One fact of each user, in the order asked: of those in memory by their actors, of the others by their rows.
    async fn of_users(
        &self,
        pairs: Vec<Pair>,
        awake: impl Fn(&User, Option<&UserId>) -> Option<u64> + Clone + Send + 'static,
        asleep: impl Fn(&dyn RowReader, &UserId, Option<&UserId>) -> Result<Option<u64>, RowFault>
        + Clone
        + Send
        + 'static,
    ) -> Result<Vec<Option<u64>>, ReadRefusal> {
        bounded(pairs.len())?;
        let mut facts = vec![None; pairs.len()];
        let (mut looks, mut sleepers) = (Vec::new(), Vec::new());
        let mut pairs = pairs.into_iter().enumerate().peekable();
        while let Some((at, (user, told))) = pairs.next() {
            // Of one user whom many are told of, its actor is asked once.
            let mut asked = vec![(at, told)];
            while let Some((at, (_, told))) = pairs.next_if(|(_, (next, _))| *next == user) {
                asked.push((at, told));
            }
            match self.shared.users.get(&user).map(|resident| resident.addr.clone()) {
                Some(addr) => {
                    let awake = awake.clone();
                    let look = Look::new(move |state: &User| {
                        let facts = asked.into_iter().map(|(at, told)| (at, awake(state, told.as_ref())));
                        facts.collect::<Vec<_>>()
                    });
                    looks.push(async move { addr.send(look).await });
                }
                None => sleepers.extend(asked.into_iter().map(|(at, told)| (at, user.clone(), told))),
            }
        }
        for learned in join_all(looks).await {
            for (at, fact) in learned.map_err(|_| GONE)? {
                facts[at] = fact;
            }
        }
        // Who wakes meanwhile has been as its rows say within this request.
        while !sleepers.is_empty() {
            let visit: Vec<_> = sleepers.drain(..sleepers.len().min(VISIT)).collect();
            let asleep = asleep.clone();
            let read = super::rows::query_in_use(&self.shared, move |rows| {
                let fact = |(at, user, told): (usize, UserId, Option<UserId>)| {
                    Ok((at, asleep(rows, &user, told.as_ref())?))
                };
                visit.into_iter().map(fact).collect::<Result<Vec<_>, RowFault>>()
            });
            let read = read.await.and_then(|read| read.ok_or_else(super::rows::replaced));
            for (at, fact) in read.map_err(unreadable)? {
                facts[at] = fact;
            }
        }
        Ok(facts)
    }

    /// Whether somebody may write here now: what a SEND would be told, its number aside.
    pub(super) async fn may_pass(&self, session: SessionId, actor: Actor) -> Result<ReadReply, ReadRefusal> {
        let time_ms = self.shared.clock.unix_ms();
        let judged = self.look(&session, move |state| {
            may_read(state, (!actor.service).then_some(&actor.user))?;
            let at = At { shard: 0, index: 0, position: 0, time_ms, time_agrees: false, secret: [0; 16] };
            let nothing = Blob::default;
            let act = Act::Send { content_type: nothing(), content: nothing(), extensions: Vec::new() };
            state.decide(&at, &actor, &act)
        });
        judged.await?.map(|()| ReadReply::Allowed).map_err(ReadRefusal::Refused)
    }

    /// With which of these users this one has a direct session or a friendship.
    pub(super) async fn acquainted(&self, user: UserId, with: Vec<UserId>) -> Result<ReadReply, ReadRefusal> {
        bounded(with.len())?;
        let look = Look::new(move |state: &User| {
            with.iter().map(|other| state.is_acquainted_with(other)).collect::<Vec<bool>>()
        });
        let _place = self.waking(self.shared.users.contains_key(&user)).await?;
        let known = self.user(user).await?.send(look).await.map_err(|_| GONE)?;
        Ok(ReadReply::Acquainted(known))
    }
}

fn audience_of(state: &Session, record: &Record, after: Option<&UserId>, most: usize) -> Audience {
    let was_there = |user: &&UserId| {
        **user != record.sender && state.member(user).is_some_and(|member| member.joined_seq <= record.seq)
    };
    let wrote = |user: &UserId| state.member(user).is_some_and(|member| member.own_count > record.count);
    let mut members: Vec<(UserId, bool)> = state
        .members_after(after)
        .filter(was_there)
        .take(most + 1)
        .map(|user| (user.clone(), wrote(user)))
        .collect();
    let more = members.len() > most;
    members.truncate(most);
    Audience { members, more }
}
