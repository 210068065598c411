//! RECEIPTS: who has read a message and who has not; and RECEIPT, which tells the other user of a direct session.
//!
//! The session says whom the message concerns, the users' own cursors say who has read it: nothing is written per reader
//! anywhere. The cursors are asked for in one request per shard, all at once, as of an instant within the request; whose
//! shard does not answer in time is named.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use parking_lot::Mutex;
use rookery_wire::frame::frame_bytes;
use rookery_wire::live::{Receipt, ReceiptCounts, ReceiptLine, ReceiptPage, Receipts, Which};
use rookery_wire::{Blob, ErrorBody, ErrorCode, Kind, SessionId, UserId};
use tokio::time::timeout;

use super::check::{self, MAX_USERS};
use super::connection::Connection;
use super::core::Core;
use super::own::frame_room;
use super::reads::{turn, unexpected};
use crate::delivery::Passing;
use crate::shard::{Audience, Freshness, MAX_HEADS, Read, ReadReply};
use crate::state::EntityKey;

/// Members that are looked at for a page. The first page looks at all of a group of the default size, and counts them.
const LOOKED_AT: (usize, usize) = (MAX_HEADS, 2 * MAX_USERS);
/// Most bytes of a line besides the name: a read cursor, or the code why there is none.
const CURSOR: usize = 9;
const FAILED: usize = 3;
/// How long the cursors of one shard's users may take.
const CURSORS: Duration = Duration::from_secs(2);
/// How long marks are gathered before the other side is told.
const GATHERED: Duration = Duration::from_millis(200);
/// Sessions whose marks may wait; beyond it the other side is not told this time.
const WAITING: usize = 64 << 10;
/// Of them so many are looked after at once.
const AT_ONCE: usize = 64;

/// RECEIPTS.
pub(super) async fn page(connection: Arc<Connection>, request: u32, ask: Receipts) -> Result<(), ErrorBody> {
    let service = connection.identity.service;
    if !service {
        check::is_theirs(&ask.session, connection.user())?;
    }
    let _turn = turn(&connection).await?;
    let router = &connection.core.router;
    let shard = router.shard_of(&EntityKey::Session(ask.session.clone()));
    let first = ask.after.is_none();
    let read = Read::Audience {
        user: (!service).then(|| connection.user().clone()),
        session: ask.session.clone(),
        seq: ask.seq,
        after: ask.after.clone(),
        most: if first { LOOKED_AT.0 } else { LOOKED_AT.1 } as u32,
    };
    let audience = match router.read(shard, read, Freshness::Linearizable).await? {
        ReadReply::Audience(audience) => audience,
        other => return Err(unexpected(&other)),
    };
    let to = (!service).then(|| connection.user().clone());
    let users: Vec<UserId> = audience.members.iter().map(|(user, _)| user.clone()).collect();
    let cursors = of_users(
        &connection.core,
        &users,
        |user| user,
        Freshness::Linearizable,
        |users| Read::Cursors { session: ask.session.clone(), users, to: to.clone() },
    );
    let room =
        Room { lines: ask.limit.clamp(1, MAX_USERS as u32) as usize, bytes: frame_room(&connection.core) };
    let page = fold(&ask, first, room, audience, cursors.await);
    connection.reply(Kind::ReceiptPage, request, &page);
    Ok(())
}

/// One fact of each user, or why it could not be learned, in the order asked; none where the user does not show it. `of`:
/// which user that is.
pub(super) async fn of_users<T: Clone>(
    core: &Core,
    users: &[T],
    of: impl Fn(&T) -> &UserId,
    freshness: Freshness,
    read: impl Fn(Vec<T>) -> Read,
) -> Vec<Result<Option<u64>, ErrorCode>> {
    let router = &core.router;
    let mut shards: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, user) in users.iter().enumerate() {
        shards.entry(router.shard_of(&EntityKey::User(of(user).clone()))).or_default().push(at);
    }
    let parts = shards.iter().flat_map(|(shard, places)| places.chunks(MAX_HEADS).map(|part| (*shard, part)));
    let asked = parts.map(|(shard, places)| {
        let read = read(places.iter().map(|at| users[*at].clone()).collect());
        async move {
            let answer = timeout(CURSORS, router.read(shard, read, freshness)).await;
            let facts = match answer {
                Ok(Ok(ReadReply::Cursors(facts) | ReadReply::Seen(facts))) if facts.len() == places.len() => {
                    Ok(facts)
                }
                Ok(Ok(other)) => Err(unexpected(&other).code),
                Ok(Err(error)) => Err(error.code),
                Err(_late) => Err(ErrorCode::Unavailable),
            };
            (places, facts)
        }
    });
    let mut all = vec![Err(ErrorCode::Unavailable); users.len()];
    for (places, facts) in join_all(asked).await {
        for (nth, at) in places.iter().enumerate() {
            all[*at] = match &facts {
                Ok(facts) => Ok(facts[nth]),
                Err(code) => Err(*code),
            };
        }
    }
    all
}

/// What a page has room for: lines of both lists, and their bytes.
#[derive(Clone, Copy, Debug)]
struct Room {
    lines: usize,
    bytes: usize,
}

impl Room {
    /// Takes a line in, if there is room for it; the first one finds room in any case.
    fn take(&mut self, held: usize, bytes: usize) -> bool {
        let fits = held == 0 || (held < self.lines && bytes <= self.bytes);
        self.bytes = if fits { self.bytes.saturating_sub(bytes) } else { self.bytes };
        fits
    }
}

/// The page, from those whom the message concerns and how far each has read.
fn fold(
    ask: &Receipts,
    first: bool,
    mut room: Room,
    audience: Audience,
    cursors: Vec<Result<Option<u64>, ErrorCode>>,
) -> ReceiptPage {
    let mut page = ReceiptPage { users: Vec::new(), unresolved: Vec::new(), next: None, counts: None };
    let mut counts = ReceiptCounts::default();
    let (mut full, mut known, mut last) = (false, true, None);
    for ((user, wrote), cursor) in audience.members.into_iter().zip(cursors) {
        // What is beyond the page is only counted, and nothing is counted any more once somebody is unknown.
        let line = match cursor {
            Err(code) => {
                known = false;
                Some(Err(code))
            }
            Ok(None) => {
                counts.hidden += 1;
                None
            }
            Ok(Some(read_seq)) => {
                let read = wrote || read_seq >= ask.seq;
                *if read { &mut counts.read } else { &mut counts.unread } += 1;
                (read == (ask.which == Which::Read)).then_some(Ok(read_seq))
            }
        };
        if let Some(line) = &line
            && !full
        {
            let held = page.users.len() + page.unresolved.len();
            let bytes = rookery_wire::encode(&user).len() + line.as_ref().map_or(FAILED, |_| CURSOR);
            full = !room.take(held, bytes);
        }
        if full {
            continue;
        }
        last = Some(user.clone());
        match line {
            Some(Ok(read_seq)) => page.users.push(ReceiptLine { user, read_seq }),
            Some(Err(code)) => page.unresolved.push((user, code)),
            None => {}
        }
    }
    page.next = last.filter(|_| full || audience.more);
    page.counts = Some(counts).filter(|_| first && known && !audience.more);
    page
}

/// Marks of which the other user of a direct session is still to be told.
#[derive(Default)]
pub(super) struct Marks(Mutex<HashMap<(SessionId, UserId), u64>>);

/// A user has read a session up to here.
pub(super) fn note(core: &Core, user: &UserId, session: &SessionId, seq: u64) {
    if !matches!(session, SessionId::Direct { .. }) {
        return;
    }
    let mut marks = core.marks.0.lock();
    if marks.len() < WAITING {
        let read = marks.entry((session.clone(), user.clone())).or_default();
        *read = (*read).max(seq);
    }
}

/// Tells the other sides, at a steady pace. Runs until the gateway ends.
pub(super) async fn run(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.cancel.cancelled() => return,
            () = tokio::time::sleep(GATHERED) => {}
        }
        let marks = std::mem::take(&mut *core.marks.0.lock());
        let told = marks.into_iter().map(|((session, user), seq)| tell(&core, session, user, seq));
        futures::stream::iter(told).buffer_unordered(AT_ONCE).collect::<()>().await;
    }
}

/// Tells the other side, if the user lets it know; if that cannot be learned soon, it is not told.
async fn tell(core: &Core, session: SessionId, user: UserId, seq: u64) {
    let shard = core.router.shard_of(&EntityKey::User(user.clone()));
    let to = session.peer_of(&user).cloned();
    let read = Read::Cursors { session: session.clone(), users: vec![user.clone()], to };
    // This node's own replica will do, where there is one.
    let shown = timeout(CURSORS, core.router.read(shard, read, Freshness::AtLeast(0))).await;
    if !matches!(shown, Ok(Ok(ReadReply::Cursors(cursors))) if matches!(cursors[..], [Some(_)])) {
        return;
    }
    let receipt = Receipt { session: session.clone(), user: user.clone(), seq };
    let frame = Blob(frame_bytes(Kind::Receipt, 0, &receipt));
    core.router.pass(Passing { session, frame, except: (user, None) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn ask(which: Which, limit: u32) -> Receipts {
        let session = SessionId::group("team".parse().unwrap());
        Receipts { session, seq: 10, which, after: None, limit }
    }

    fn lines(lines: usize) -> Room {
        Room { lines, bytes: usize::MAX }
    }

    /// Bob has read, cat wrote later, dan hides it, eve has not read, nobody knows of fay.
    fn people() -> (Audience, Vec<Result<Option<u64>, ErrorCode>>) {
        let members = ["bob", "cat", "dan", "eve", "fay"].map(|name| (user(name), name == "cat"));
        let cursors = vec![Ok(Some(10)), Ok(Some(3)), Ok(None), Ok(Some(9)), Err(ErrorCode::Busy)];
        (Audience { members: members.into(), more: false }, cursors)
    }

    fn names(page: &ReceiptPage) -> Vec<&str> {
        page.users.iter().map(|line| line.user.as_str()).collect()
    }

    #[test]
    fn readers_and_the_others_are_told_apart_and_the_unknown_are_named() {
        let (audience, cursors) = people();
        let page = fold(&ask(Which::Read, 100), true, lines(100), audience.clone(), cursors.clone());
        assert_eq!(names(&page), ["bob", "cat"]);
        assert_eq!(page.unresolved, [(user("fay"), ErrorCode::Busy)]);
        assert_eq!((page.next, page.counts), (None, None), "no counts while somebody is unknown");
        let page = fold(&ask(Which::Unread, 100), true, lines(100), audience.clone(), cursors.clone());
        assert_eq!(names(&page), ["eve"]);
        let (mut audience, mut cursors) = (audience, cursors);
        audience.members.pop();
        cursors.pop();
        let page = fold(&ask(Which::Read, 1), true, lines(1), audience.clone(), cursors.clone());
        assert_eq!((names(&page), page.next.clone()), (vec!["bob"], Some(user("bob"))));
        assert_eq!(page.counts, Some(ReceiptCounts { read: 2, unread: 1, hidden: 1 }));
        let rest = audience.members.split_off(1);
        let rest = Audience { members: rest, more: true };
        let page = fold(&ask(Which::Read, 1), false, lines(1), rest, cursors.split_off(1));
        assert_eq!((names(&page), page.next.clone()), (vec!["cat"], Some(user("eve"))));
        assert_eq!(page.counts, None, "there are more members than were looked at");
    }

    #[test]
    fn a_page_ends_where_its_frame_does_and_has_one_line_at_least() {
        // A line of bob has 4 bytes of name and 9 of cursor; who hides takes no room, and who is unknown less.
        let page = |bytes, after: Option<&str>| {
            let (audience, cursors) = people();
            let known = audience.members.into_iter().zip(cursors);
            let rest = known.filter(|((user, _), _)| after.is_none_or(|after| user.as_str() > after));
            let (members, cursors) = rest.unzip();
            let audience = Audience { members, more: false };
            fold(&ask(Which::Read, 100), false, Room { lines: 100, bytes }, audience, cursors)
        };
        let first = page(25, None);
        assert_eq!((names(&first), first.next.as_ref().map(UserId::as_str)), (vec!["bob"], Some("bob")));
        let first = page(26, None);
        assert_eq!((names(&first), first.unresolved.len()), (vec!["bob", "cat"], 0));
        assert_eq!(first.next, Some(user("eve")), "behind those of whom nothing is to be said");
        let rest = page(26, Some("eve"));
        assert_eq!((names(&rest), rest.unresolved.len(), rest.next.as_ref()), (vec![], 1, None));
        assert_eq!(names(&page(0, None)), ["bob"]);
    }
}
