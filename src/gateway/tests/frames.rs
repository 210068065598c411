//! Nothing that the server says is larger than the frame it has told the client, however many lines and long names there are.

use std::collections::BTreeSet;

use rookery_wire::MemberRole;
use rookery_wire::group::{ListRoles, RoleLine, RolePage};
use rookery_wire::join::{CodeLine, CodePage, ListCodes, ListRequests, Outside, RequestPage};
use rookery_wire::live::{Presence, PresencePage, ReceiptPage, Receipts, Watch, WatchMode, Which};
use rookery_wire::own::{
    DeviceLine, DevicePage, ListDevices, ListRelations, Relation, RelationFilter, RelationPage,
    RelationState, Settings,
};
use rookery_wire::reply::{Lagged, MemberPage};
use rookery_wire::request::{Consistency, Direction, ListMembers, Pull};

use super::lags::{MUCH, stall};
use super::*;
use crate::shard::Audience;

/// The least that `limits.frame` may be.
const FRAME: u32 = 16_384;
/// Whom and what the imagined shard knows, all with the longest of names.
const MANY: usize = 1000;

fn long(at: usize) -> UserId {
    user(&format!("{at:0>64}"))
}

/// Those behind `after`, at most so many, and whether there are more.
fn behind(after: Option<&UserId>, limit: u32) -> (Vec<UserId>, bool) {
    let mut rest: Vec<UserId> =
        (0..MANY).map(long).filter(|user| after.is_none_or(|after| user > after)).collect();
    let more = rest.len() > limit as usize;
    rest.truncate(limit as usize);
    (rest, more)
}

/// What the imagined shard says, of a crowd if there is one.
pub(super) fn reply(shard: &FakeShard, read: Read) -> ReadReply {
    let troubles = &shard.past.troubles;
    if !troubles.crowd.load(Ordering::Relaxed) {
        return shard.answer(read);
    }
    crowd(&read).unwrap_or_else(|| shard.answer(read))
}

fn crowd(read: &Read) -> Option<ReadReply> {
    Some(match read {
        Read::Members { list, .. } => {
            let (users, more) = behind(list.after.as_ref(), list.limit);
            ReadReply::Members(MemberPage { users, more, total: MANY as u32 })
        }
        Read::Roles { list, .. } => {
            let (users, more) = behind(list.after.as_ref(), list.limit);
            let line = |user| RoleLine { user, role: MemberRole::Admin, muted_until_ms: u64::MAX };
            ReadReply::Roles(RolePage { roles: users.into_iter().map(line).collect(), more })
        }
        Read::Audience { after, most, .. } => {
            let (users, more) = behind(after.as_ref(), *most);
            ReadReply::Audience(Audience {
                members: users.into_iter().map(|user| (user, false)).collect(),
                more,
            })
        }
        Read::Cursors { users, .. } => ReadReply::Cursors(vec![Some(u64::MAX - 1); users.len()]),
        Read::Seen { pairs, .. } => ReadReply::Seen(vec![Some(u64::MAX); pairs.len()]),
        Read::Relations { after, limit, .. } => {
            let (users, more) = behind(after.as_ref(), (*limit).min(200));
            let (remark, text) = (Blob::from("r".repeat(256).as_str()), Blob::from("t".repeat(512).as_str()));
            let line = |user| Relation {
                user,
                state: RelationState::Asked,
                blocked: true,
                remark: remark.clone(),
                text: text.clone(),
                since_ms: u64::MAX,
            };
            ReadReply::Relations(RelationPage {
                relations: users.into_iter().map(line).collect(),
                more,
                refuses_strangers: true,
                receipts: Default::default(),
                presence: Default::default(),
            })
        }
        Read::Devices { after, limit, .. } => {
            let after = after.as_ref().map(|device| user(device.as_str()));
            let (users, more) = behind(after.as_ref(), (*limit).min(64));
            let line = |user: UserId| DeviceLine {
                device: DeviceId::new(user.as_str()).unwrap(),
                epoch: u32::MAX,
                platform: Blob::from("p".repeat(32).as_str()),
                name: Blob::from("n".repeat(128).as_str()),
                agent: Blob::from("a".repeat(64).as_str()),
                seen_ms: u64::MAX,
            };
            ReadReply::Devices(DevicePage { devices: users.into_iter().map(line).collect(), more })
        }
        Read::Codes { .. } => {
            let line = |id| CodeLine {
                id: u64::MAX - id,
                maker: long(0),
                made_ms: u64::MAX,
                until_ms: u64::MAX,
                uses: u32::MAX,
                used: u32::MAX,
            };
            ReadReply::Codes(CodePage { codes: (0..32).map(line).collect(), more: false })
        }
        Read::Pull { pull, .. } => ReadReply::Page(Blob(encode(&small_messages(pull)))),
        _ => return None,
    })
}

/// As many records of next to nothing as were asked for, by the bytes that they have.
fn small_messages(pull: &Pull) -> Page {
    let (ada, phone) = (user("a"), DeviceId::new("p").unwrap());
    let record = |seq| {
        let frame = message(&pull.session, seq, (&ada, &phone), b"hi").frame;
        decode::<Message>(&frame.slice(12..)).unwrap().record
    };
    let mut left = pull.max_bytes as usize;
    let fits = |record: &Record| {
        let bytes = encode(record).len();
        left = left.saturating_sub(bytes);
        left > 0
    };
    let (first, last) = (1, MANY as u64);
    let records: Vec<Record> = match pull.direction {
        Direction::Forward => (pull.from_seq..=last).map(record).take_while(fits).collect(),
        Direction::Backward => {
            let mut records: Vec<Record> =
                (first..=pull.from_seq).rev().map(record).take_while(fits).collect();
            records.reverse();
            records
        }
    };
    Page { session: pull.session.clone(), first_seq: first, last_seq: last, records }
}

async fn crowded() -> Bench {
    let bench = bench(|limits, _| {
        (limits.frame, limits.content, limits.queue_bytes) = (FRAME, 8192, 256 << 10);
        limits.watched = MANY as u32;
    })
    .await;
    bench.shard.past.troubles.crowd.store(true, Ordering::Relaxed);
    bench
}

/// The frame's `length`, as a client judges it before it reads on.
fn fits(frame: &Frame) -> usize {
    let length = frame.body.len() + 8;
    assert!(length <= FRAME as usize, "{length} bytes of {:?}", Kind::from_number(frame.kind));
    length
}

/// One page; it fits.
async fn asked<T: Encode, A: bincode::Decode<Source>>(client: &mut Client, kind: Kind, body: &T) -> A {
    client.send(kind, 5, body).await;
    let frame = client.next().await.expect("the server closed");
    assert_eq!(frame.request_id, 5);
    fits(&frame);
    decode(&frame.body).unwrap_or_else(|fault| panic!("{fault}: {frame:?}"))
}

/// Pages until there are no more: everybody once, in more than one page.
macro_rules! everybody {
    ($client:expr, $kind:expr, $page:ty, |$after:ident| $ask:expr, |$got:ident| $names:expr, |$last:ident| $next:expr) => {{
        let (mut seen, mut pages) = (Vec::<UserId>::new(), 0);
        let mut after = None;
        loop {
            let $after = after.take();
            let $got: $page = asked($client, $kind, &$ask).await;
            let names: Vec<UserId> = $names;
            assert!(!names.is_empty(), "a page of nothing");
            seen.extend(names);
            pages += 1;
            let $last = seen.last().cloned();
            after = $next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..MANY).map(long).collect::<Vec<_>>(), "each once, in order");
        assert!(pages > MANY * 64 / FRAME as usize, "{pages} pages");
    }};
}

/// What is left of a message that says next to nothing is more than the message.
#[tokio::test]
async fn a_page_of_deleted_messages_fits_the_smallest_frame_and_pages_lead_through_all() {
    let bench = crowded().await;
    let (session, last) = (group("g"), MANY as u64);
    let deleted = Settings { deleted: vec![(1, last)], ..Settings::default() };
    bench.shard.settings.lock().insert(session.clone(), deleted);
    let mut client = bench.client("ada", "phone").await;
    let pull = |from_seq, direction| Pull {
        session: session.clone(),
        from_seq,
        direction,
        max_count: 1000,
        max_bytes: FRAME,
        consistency: Consistency::Linearizable,
    };
    let (mut next, mut pages) = (1, 0);
    while next <= last {
        let page: Page = asked(&mut client, Kind::Pull, &pull(next, Direction::Forward)).await;
        assert_eq!(page.records[0].seq, next);
        assert!(page.records.iter().all(|record| record.kind == RecordKind::DELETED));
        (next, pages) = (page.records.last().unwrap().seq + 1, pages + 1);
    }
    let mut upto = last;
    while upto > 0 {
        let page: Page = asked(&mut client, Kind::Pull, &pull(upto, Direction::Backward)).await;
        assert_eq!(page.records.last().unwrap().seq, upto);
        (upto, pages) = (page.records[0].seq - 1, pages - 1);
    }
    assert_eq!(pages, 0, "as many backward as forward");
    bench.stop().await;
}

#[tokio::test]
async fn every_page_fits_the_smallest_frame_and_pages_lead_through_all_there_is() {
    let bench = crowded().await;
    let mut client = bench.client("ada", "phone").await;
    let session = group(&"g".repeat(64));
    let list = |after| ListMembers { session: session.clone(), after, limit: 1000 };
    everybody!(
        &mut client,
        Kind::ListMembers,
        MemberPage,
        |after| list(after),
        |page| page.users.clone(),
        |last| last.filter(|_| page.more)
    );
    everybody!(
        &mut client,
        Kind::ListRoles,
        RolePage,
        |after| ListRoles { session: session.clone(), after, limit: 1000 },
        |page| page.roles.iter().map(|line| line.user.clone()).collect(),
        |last| last.filter(|_| page.more)
    );
    for (which, seq) in [(Which::Read, 7), (Which::Unread, u64::MAX)] {
        everybody!(
            &mut client,
            Kind::Receipts,
            ReceiptPage,
            |after| Receipts { session: session.clone(), seq, which, after, limit: 1000 },
            |page| page.users.iter().map(|line| line.user.clone()).collect(),
            |_last| page.next.clone()
        );
    }
    everybody!(
        &mut client,
        Kind::ListRelations,
        RelationPage,
        |after| ListRelations { on_behalf_of: None, which: RelationFilter::All, after, limit: 200 },
        |page| page.relations.iter().map(|line| line.user.clone()).collect(),
        |last| last.filter(|_| page.more)
    );
    everybody!(
        &mut client,
        Kind::ListDevices,
        DevicePage,
        |after| ListDevices {
            on_behalf_of: None,
            after: after.map(|user: UserId| DeviceId::new(user.as_str()).unwrap()),
            limit: 64
        },
        |page| page.devices.iter().map(|line| user(line.device.as_str())).collect(),
        |last| last.filter(|_| page.more)
    );
    let ask = ListRequests { session: session.clone(), which: Outside::Asking, after: None, limit: 200 };
    let page: RequestPage = asked(&mut client, Kind::ListRequests, &ask).await;
    assert!(page.more && page.requests.len() > 10);
    let page: CodePage =
        asked(&mut client, Kind::ListCodes, &ListCodes { session, after: 0, limit: 32 }).await;
    assert_eq!(page.codes.len(), 32, "all that may be good at once");
    bench.stop().await;
}

/// A device of a user that is connected here, and takes everything.
struct Ghost(u64, UserId, DeviceId);

impl Receiver for Ghost {
    fn id(&self) -> u64 {
        self.0
    }
    fn origin(&self) -> Option<(&UserId, &DeviceId, u32)> {
        Some((&self.1, &self.2, 1))
    }
    fn push(&self, _: &Topic, _: &[Push]) -> bool {
        true
    }
    fn lagged(&self, _: &Topic) {}
}

#[tokio::test]
async fn whom_one_watches_and_who_comes_is_told_in_frames_that_fit() {
    let bench = crowded().await;
    let mut client = bench.client("ada", "phone").await;
    let all: Vec<UserId> = (0..MANY).map(long).collect();
    // No more than what the request itself may hold.
    let users = all[..240].to_vec();
    client.send(Kind::Watch, 6, &Watch { mode: WatchMode::Replace, users: users.clone() }).await;
    let refusal = client.refused(6, ErrorCode::WatchTooLarge).await;
    let most = refusal.detail as usize;
    assert!((200..240).contains(&most) && refusal.message().contains("limits.frame"), "{refusal}");
    let mut lengths = 0;
    for part in all.chunks(most) {
        let page: PresencePage =
            asked(&mut client, Kind::Watch, &Watch { mode: WatchMode::Add, users: part.to_vec() }).await;
        assert_eq!((page.users.len(), page.refused.len()), (part.len(), 0));
        lengths = lengths.max(rookery_wire::encode(&page).len());
    }
    assert!(lengths > FRAME as usize - 1500, "as many as fit: {lengths} bytes");
    let ghosts: Vec<Arc<Ghost>> = all
        .iter()
        .map(|user| Ghost(crate::delivery::next_receiver_id(), user.clone(), DeviceId::new("x").unwrap()))
        .map(Arc::new)
        .collect();
    ghosts.iter().for_each(|ghost| bench.delivery.connect(ghost.clone()));
    super::super::watch::moved(&bench.gateway.core, &all);
    let (mut told, mut frames) = (BTreeSet::new(), 0);
    while told.len() < MANY {
        let (frame, news) = client.expect::<Presence>(Kind::Presence).await;
        fits(&frame);
        frames += 1;
        assert!(news.users.iter().all(|line| line.online));
        told.extend(news.users.into_iter().map(|line| line.user));
    }
    assert!(frames > 4 && told == all.into_iter().collect(), "{frames} frames");
    ghosts.iter().for_each(|ghost| bench.delivery.disconnect(ghost.0));
    bench.stop().await;
}

#[tokio::test]
async fn sessions_that_lagged_are_named_in_frames_that_fit() {
    let bench = crowded().await;
    let ada = "a".repeat(64);
    let mut client = bench.client(&ada, "phone").await;
    let sessions: Vec<SessionId> =
        (0..500).map(|at| SessionId::direct(&user(&ada), &long(at)).unwrap()).collect();
    for session in &sessions {
        bench.delivery.member_added(session, &user(&ada), 0);
    }
    stall(&bench, &ada, MUCH).await;
    for session in &sessions {
        bench.publish(session, 1..=1, 200_000);
    }
    let (mut named, mut frames) = (Vec::new(), 0);
    while named.len() < sessions.len() {
        let frame = client.next().await.expect("the connection lives");
        if frame.kind == Kind::Lagged as u8 {
            fits(&frame);
            frames += 1;
            let lagged = decode::<Lagged>(&frame.body).unwrap().sessions;
            assert!(!lagged.is_empty(), "that would be all sessions");
            named.extend(lagged.into_iter().filter(|(session, _)| *session != group("noise")));
        }
    }
    named.sort();
    assert_eq!(named, sessions.into_iter().map(|session| (session, 2)).collect::<Vec<_>>());
    assert!(frames > 4, "{frames} frames");
    client.alive().await;
    bench.stop().await;
}
