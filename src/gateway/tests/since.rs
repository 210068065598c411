//! SYNC since a mark: what changed and no more, whatever happens between its steps.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::own::Badge;
use rookery_wire::reply::{Summary, SyncPage};
use rookery_wire::request::Sync;

use super::lists::{fill, listed, page};
use super::*;
use crate::shard::{LeftSince, MAX_LEFT};

/// Indices of the shard of the user's list are so much greater than those of sessions: whoever mixes them up is told of it.
pub(super) const OWN: u64 = 1 << 40;

type Step = Box<dyn FnMut(&FakeShard) + std::marker::Send>;

/// What the imagined shards remember of their logs.
#[derive(Default)]
pub(super) struct Past {
    /// All that happened.
    pub(super) index: AtomicU64,
    /// When sessions last changed.
    pub(super) changed: Mutex<HashMap<SessionId, u64>>,
    /// When sessions were left.
    pub(super) gone: Mutex<BTreeMap<SessionId, u64>>,
    /// When the device came to be.
    pub(super) began: AtomicU64,
    /// Sessions that were asked for their heads.
    pub(super) asked: Mutex<Vec<SessionId>>,
    /// Happens between any two steps of what is answered.
    step: Mutex<Option<Step>>,
    pub(super) troubles: super::lags::Troubles,
}

impl Past {
    pub(super) fn left(&self, since: Option<u64>) -> LeftSince {
        let gone = self.gone.lock();
        let left = gone.iter().filter(|(_, at)| since.is_some_and(|since| **at > since));
        let mut sessions: Vec<SessionId> = left.map(|(session, _)| session.clone()).collect();
        let all = sessions.len() <= MAX_LEFT;
        sessions.truncate(MAX_LEFT);
        LeftSince { sessions, all }
    }
}

impl FakeShard {
    pub(super) fn meanwhile(&self) {
        let step = self.past.step.lock().take();
        if let Some(mut step) = step {
            step(self);
            *self.past.step.lock() = Some(step);
        }
    }

    fn next_index(&self) -> u64 {
        self.past.index.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A message.
    fn speak(&self, session: &SessionId) {
        let index = self.next_index();
        *self.heads.lock().entry(session.clone()).or_default() += 1;
        self.past.changed.lock().insert(session.clone(), index);
    }

    /// The user has read it, or set something of it.
    fn touch(&self, session: &SessionId) {
        let index = self.next_index() + OWN;
        if let Some(line) = self.list.lock().iter_mut().find(|line| line.session == *session) {
            line.read_seq += 1;
            line.changed = index;
        }
    }

    fn join(&self, session: &SessionId) {
        self.speak(session);
        let changed = self.next_index() + OWN;
        let mut list = self.list.lock();
        if !list.iter().any(|line| line.session == *session) {
            list.push(UserSession { changed, ..listed(session.clone()) });
            self.past.gone.lock().remove(session);
        }
    }

    fn leave(&self, session: &SessionId) {
        let index = self.next_index() + OWN;
        let mut list = self.list.lock();
        if list.iter().any(|line| line.session == *session) {
            list.retain(|line| line.session != *session);
            self.past.gone.lock().insert(session.clone(), index);
        }
    }
}

/// All pages of a SYNC.
struct Told {
    sessions: Vec<Summary>,
    left: Vec<SessionId>,
    unresolved: Vec<SessionId>,
    full: bool,
    total: u32,
    badge: Option<Badge>,
    mark: Blob,
}

async fn sync(client: &mut Client, since: &Blob, limit: u32) -> Told {
    let (mut told, mut after, mut since) = (None::<Told>, Blob::default(), since.clone());
    loop {
        client.send(Kind::Sync, 60, &Sync { after, limit, since: std::mem::take(&mut since) }).await;
        let page: SyncPage = client.expect(Kind::SyncPage).await.1;
        let all = told.get_or_insert_with(|| Told {
            sessions: Vec::new(),
            left: Vec::new(),
            unresolved: Vec::new(),
            full: page.full,
            total: page.total,
            badge: page.badge,
            mark: Blob::default(),
        });
        assert_eq!(page.full, all.full, "one SYNC, one way");
        all.left.extend(page.left);
        all.sessions.extend(page.sessions);
        all.unresolved.extend(page.unresolved.into_iter().map(|(session, _)| session));
        assert_eq!(page.mark.is_empty(), !page.next.is_empty(), "the mark comes with the last page");
        all.mark = page.mark;
        after = page.next;
        if after.is_empty() {
            return told.unwrap();
        }
    }
}

fn names(told: &Told) -> Vec<SessionId> {
    told.sessions.iter().map(|summary| summary.session.clone()).collect()
}

/// A device's copy of the list, as protocol.md says to keep it.
#[derive(Default)]
struct Copy {
    sessions: BTreeMap<SessionId, (u64, u64)>,
    mark: Blob,
}

impl Copy {
    fn take(&mut self, told: Told) {
        if told.full {
            let kept = |session: &SessionId| told.unresolved.contains(session);
            self.sessions.retain(|session, _| kept(session));
        }
        for session in &told.left {
            self.sessions.remove(session);
        }
        for summary in told.sessions {
            self.sessions.insert(summary.session, (summary.last_seq, summary.read_seq));
        }
        self.mark = told.mark;
    }
}

#[tokio::test]
async fn a_mark_brings_what_changed_and_asks_no_other_session() {
    const SHARDS: u32 = 8;
    let bench = bench_at(1, SHARDS, Arc::new(Alone), Arc::default(), |_, _| {}).await;
    fill(&bench, 1000);
    let mut client = bench.client("ada", "phone").await;
    // Most is read; what is not counts in every badge.
    for (at, line) in bench.shard.list.lock().iter_mut().enumerate() {
        line.seen_count = if at < 100 { 0 } else { 2000 };
        line.muted_until_ms = if at < 50 { u64::MAX } else { 0 };
    }
    let whole = sync(&mut client, &Blob::default(), 200).await;
    assert_eq!((whole.full, whole.sessions.len(), whole.left.len()), (true, 1000, 0));
    bench.shard.past.asked.lock().clear();
    let nothing = sync(&mut client, &whole.mark, 200).await;
    assert_eq!((nothing.full, names(&nothing), nothing.total), (false, vec![], 1000));
    assert!(bench.shard.past.asked.lock().is_empty(), "no head is read of what has not changed");
    assert!(whole.badge.is_some_and(|badge| badge.muted > 0 && badge.unread > 0));
    assert_eq!(nothing.badge, whole.badge, "and the badge is true all the same");

    bench.shard.speak(&group("g7"));
    bench.shard.touch(&group("g9"));
    bench.shard.join(&group("new"));
    bench.shard.leave(&group("g11"));
    let changes = sync(&mut client, &nothing.mark, 2).await;
    let mut told = names(&changes);
    told.sort_unstable();
    assert_eq!((changes.full, told), (false, vec![group("g7"), group("g9"), group("new")]));
    assert_eq!((changes.left, changes.total), (vec![group("g11")], 1000));
    let asked: std::collections::BTreeSet<_> = bench.shard.past.asked.lock().drain(..).collect();
    assert_eq!(asked.into_iter().collect::<Vec<_>>(), [group("g7"), group("g9"), group("new")]);
    // What is on no page is live all the same.
    bench.publish(&group("g500"), 501..=501, 3);
    assert_eq!(client.message().await.seq, 501);
    let nothing = sync(&mut client, &changes.mark, 200).await;
    assert_eq!((nothing.full, names(&nothing), nothing.left), (false, vec![], vec![]));
    bench.stop().await;
}

/// Random things happen between all steps of every SYNC: after its index is fixed, and after it was looked. What one SYNC
/// could not see the next one tells, so that a copy which takes in everything since its marks is the list in the end.
#[tokio::test]
async fn nothing_is_lost_of_what_happens_between_the_steps_of_a_sync() {
    for seed in 0..40 {
        println!("seed {seed}");
        let bench = bench_at(1, 4, Arc::new(Alone), Arc::default(), |_, _| {}).await;
        fill(&bench, 12);
        for number in 1..=12 {
            bench.shard.speak(&group(&format!("g{number}")));
        }
        let mut client = bench.client("ada", "phone").await;
        let mut copy = Copy::default();
        for round in 0..12u64 {
            let mut random = StdRng::seed_from_u64(seed * 100 + round);
            let limit = random.random_range(1..8);
            *bench.shard.past.step.lock() = Some(Box::new(move |shard| {
                if random.random_ratio(2, 3) {
                    return;
                }
                let session = group(&format!("g{}", random.random_range(1..=16)));
                let is_listed = shard.list.lock().iter().any(|line| line.session == session);
                match random.random_range(0..10) {
                    0 if is_listed => shard.leave(&session),
                    0..=2 if !is_listed => shard.join(&session),
                    3 => {
                        let mut refused = shard.refused.lock();
                        if refused.remove(&session).is_none() {
                            refused.insert(session, ErrorCode::Unavailable);
                        }
                    }
                    4..=5 if is_listed => shard.touch(&session),
                    _ if is_listed => shard.speak(&session),
                    _ => {}
                }
            }));
            let since = copy.mark.clone();
            copy.take(sync(&mut client, &since, limit).await);
            // A session that comes and goes is no news in these tests; pushes are passed over.
            *bench.shard.past.step.lock() = None;
            if round % 3 == 2 {
                bench.shard.refused.lock().clear();
                let since = copy.mark.clone();
                let told = sync(&mut client, &since, 200).await;
                let badge = told.badge;
                copy.take(told);
                let mut whole = Copy::default();
                let told = sync(&mut client, &Blob::default(), 200).await;
                assert_eq!(badge, told.badge, "seed {seed}, round {round}: of all sessions, told or not");
                whole.take(told);
                assert_eq!(copy.sessions, whole.sessions, "seed {seed}, round {round}");
            }
        }
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_mark_does_not_vouch_for_what_could_not_be_asked() {
    let bench = bench_at(1, 4, Arc::new(Alone), Arc::default(), |_, _| {}).await;
    fill(&bench, 8);
    let mut client = bench.client("ada", "phone").await;
    let whole = sync(&mut client, &Blob::default(), 200).await;
    bench.shard.speak(&group("g3"));
    bench.shard.refused.lock().insert(group("g3"), ErrorCode::Unavailable);
    let short = sync(&mut client, &whole.mark, 200).await;
    assert_eq!((short.full, names(&short), short.unresolved), (false, vec![], vec![group("g3")]));
    bench.shard.refused.lock().clear();
    let rest = sync(&mut client, &short.mark, 200).await;
    assert_eq!((rest.full, names(&rest)), (false, vec![group("g3")]), "it was not seen, so it is told now");
    // The same where the user's own line is what changed.
    bench.shard.touch(&group("g3"));
    bench.shard.refused.lock().insert(group("g3"), ErrorCode::Unavailable);
    let short = sync(&mut client, &rest.mark, 200).await;
    assert_eq!(short.unresolved, [group("g3")]);
    bench.shard.refused.lock().clear();
    let rest = sync(&mut client, &short.mark, 200).await;
    assert_eq!((rest.full, names(&rest)), (false, vec![group("g3")]), "nor was what the user has of it");
    // The first SYNC of all has no mark to fall back to: all of that shard comes again.
    bench.shard.refused.lock().insert(group("g3"), ErrorCode::Unavailable);
    let short = sync(&mut client, &Blob::default(), 200).await;
    bench.shard.refused.lock().clear();
    let rest = sync(&mut client, &short.mark, 200).await;
    assert!(!rest.full && names(&rest).contains(&group("g3")), "{:?}", names(&rest));
    bench.stop().await;
}

#[tokio::test]
async fn a_mark_that_is_of_no_use_brings_everything_and_a_wrong_one_is_refused() {
    let bench = bench(|_, _| {}).await;
    fill(&bench, 5);
    for _ in 0..10 {
        bench.shard.speak(&group("g5"));
    }
    let mut client = bench.client("ada", "phone").await;
    let mark = sync(&mut client, &Blob::default(), 200).await.mark;
    let full = async |client: &mut Client, why: &str| {
        let told = sync(client, &mark, 200).await;
        assert_eq!((told.full, told.sessions.len(), told.left.len()), (true, 5, 0), "{why}");
    };
    // Restored from what it was before.
    bench.shard.past.index.store(3, Ordering::Relaxed);
    full(&mut client, "a shard has not got so far").await;
    bench.shard.past.index.store(50, Ordering::Relaxed);
    assert!(!sync(&mut client, &mark, 200).await.full);
    // Ended, and registered again since.
    bench.shard.past.began.store(OWN + 40, Ordering::Relaxed);
    full(&mut client, "another device of that name").await;
    bench.shard.past.began.store(0, Ordering::Relaxed);
    // More was left than is named.
    for number in 0..=MAX_LEFT {
        bench.shard.past.gone.lock().insert(group(&format!("old{number}")), OWN + 45);
    }
    full(&mut client, "much was left").await;

    let mut other = bench.client("ada", "tv").await;
    for (client, since) in [(&mut client, Blob::from("nonsense")), (&mut other, mark.clone())] {
        client.send(Kind::Sync, 61, &Sync { after: Blob::default(), limit: 2, since }).await;
        client.refused(61, ErrorCode::BadRequest).await;
    }
    bench.stop().await;
    // Another cluster, as far as it says.
    let bench = bench_at(1, 2, Arc::new(Alone), Arc::default(), |_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    client.send(Kind::Sync, 62, &Sync { after: Blob::default(), limit: 2, since: mark }).await;
    client.refused(62, ErrorCode::BadRequest).await;
    assert!(page(&mut client, Blob::default(), 2).await.full, "the connection lives on");
    bench.stop().await;
}

/// Into a session that has not changed since the mark something comes in, between any two steps of a SYNC: the page tells it, or
/// it is pushed.
#[tokio::test]
async fn what_comes_in_while_a_sync_is_answered_is_told_or_pushed() {
    for step in 0..6 {
        let bench = bench(|_, _| {}).await;
        fill(&bench, 3);
        let mut client = bench.client("ada", "phone").await;
        let mark = sync(&mut client, &Blob::default(), 200).await.mark;
        drop(client);
        until("the connection is gone", || bench.gateway.connections() == 0).await;
        let mut client = bench.client("ada", "phone").await;
        let mut steps = 0..;
        *bench.shard.past.step.lock() = Some(Box::new(move |shard| {
            if steps.next() == Some(step) {
                shard.speak(&group("g2"));
                let from = (user("eve"), DeviceId::new("desk").unwrap());
                let push = message(&group("g2"), 3, (&from.0, &from.1), b"hello");
                shard.delivery.publish(&group("g2"), &[push]);
            }
        }));
        client.send(Kind::Sync, 60, &Sync { after: Blob::default(), limit: 200, since: mark }).await;
        let mut is_pushed = false;
        let page: SyncPage = loop {
            let frame = client.next().await.unwrap();
            if Kind::from_number(frame.kind) == Some(Kind::SyncPage) {
                break decode(&frame.body).unwrap();
            }
            is_pushed |= Kind::from_number(frame.kind) == Some(Kind::Message);
        };
        let is_told = page.sessions.iter().any(|line| (&line.session, line.last_seq) == (&group("g2"), 3));
        assert!(is_told || is_pushed, "lost at step {step}: {page:?}");
        assert_eq!(bench.shard.heads.lock().get(&group("g2")), Some(&3), "no step {step}");
        bench.stop().await;
    }
}

/// Of a session that was left since the mark and is joined again, between any two steps of a SYNC: a page that says nothing
/// of it would say that it is as before.
#[tokio::test]
async fn a_session_that_is_joined_again_while_a_sync_is_answered_is_told_or_named_as_left() {
    for step in 0..6 {
        let bench = bench(|_, _| {}).await;
        fill(&bench, 3);
        let mut client = bench.client("ada", "phone").await;
        let mark = sync(&mut client, &Blob::default(), 200).await.mark;
        bench.shard.leave(&group("g2"));
        let mut steps = 0..;
        *bench.shard.past.step.lock() = Some(Box::new(move |shard| {
            if steps.next() == Some(step) {
                shard.join(&group("g2"));
            }
        }));
        let changes = sync(&mut client, &mark, 200).await;
        let told = [names(&changes), changes.left].concat();
        assert_eq!((changes.full, told), (false, vec![group("g2")]), "joined at step {step}");
        assert!(bench.shard.list.lock().iter().any(|line| line.session == group("g2")), "no step {step}");
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_session_that_is_letting_the_user_go_is_named_as_left_and_pushed_to_its_end() {
    let bench = bench_at(1, 4, Arc::new(Alone), Arc::default(), |_, _| {}).await;
    fill(&bench, 8);
    let mut client = bench.client("ada", "phone").await;
    let whole = sync(&mut client, &Blob::default(), 200).await;
    // The session has let the user go, the list does not say so yet.
    bench.shard.speak(&group("g3"));
    bench.shard.refused.lock().insert(group("g3"), ErrorCode::NotMember);
    // The list says so, the session's log is not as far on this node.
    bench.shard.leave(&group("g5"));
    let changes = sync(&mut client, &whole.mark, 200).await;
    let mut left = changes.left.clone();
    left.sort_unstable();
    assert_eq!((changes.full, names(&changes)), (false, vec![]));
    assert_eq!((left, changes.unresolved), (vec![group("g3"), group("g5")], vec![]));
    for (session, seq) in [(group("g3"), 4), (group("g5"), 6)] {
        bench.publish(&session, seq..=seq, 3);
        assert_eq!(client.message().await.seq, seq);
        bench.delivery.member_removed(&session, &user("ada"));
        bench.publish(&session, seq + 1..=seq + 1, 3);
        client.alive().await;
    }
    bench.stop().await;
}
