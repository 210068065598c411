//! The state against its promises: numbers, membership, and that a checkpoint at any moment followed by a replay ends
//! where an uninterrupted run ends (R6, R7).

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::codec::{Blob, decode};
use rookery_wire::{
    AttributeKey, DeviceId, ErrorCode, GroupAction, GroupId, Join, MemberRole, Policy, Record, SessionId,
    UserId, Who,
};

use super::command::{Act, Actor, ChangeKind};
use super::session_rows::read_last_number;
use super::tables::{Kind, PageSize, TO_FREE};
use super::{
    Answer, At, Command, DeviceBounds, Entry, Freed, Introduction, Link, Listing, Outcome, ReadTo, RowFault,
    RowReader, RowWrites, Session, SessionLimits, User, VersionBounds,
};

/// What a device says of itself under this nonce.
pub(super) fn says(nonce: u64) -> Introduction {
    Introduction { nonce, agent: Blob::default(), platform: Blob::default(), issued_ms: None }
}

/// What all rows of a kind say, read a few at a time.
pub(super) fn all_of<T>(kind: &Kind<T>, rows: &dyn RowReader) -> Vec<T> {
    let (mut all, mut from) = (Vec::new(), Some(kind.begin()));
    while let Some(at) = from {
        let (mut found, next) = kind.page(rows, &at, PageSize { rows: 2, bytes: 100 }).expect("rows");
        assert!(found.len() <= 2, "a page too long");
        all.append(&mut found);
        from = next;
    }
    all
}

/// Sessions of which trimmed records are still rows.
pub(super) fn to_free(rows: &dyn RowReader) -> Vec<(SessionId, Freed)> {
    all_of(&TO_FREE, rows)
}

/// Rows in memory.
#[derive(Default, Clone, PartialEq, Debug)]
pub(super) struct Disk(BTreeMap<Bytes, Bytes>);

impl Disk {
    pub(super) fn write(&mut self, writes: RowWrites) {
        let mut writes = writes;
        writes.seal().expect("records");
        let left = |id: &SessionId| to_free(self).into_iter().find(|(session, _)| session == id);
        writes.remember(|id| left(id).map(|(_, freed)| freed));
        for (key, value) in writes.ahead.into_iter().chain(writes.rows) {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }
}

impl Disk {
    /// Whether any row holds this text.
    pub(super) fn says(&self, what: &str) -> bool {
        self.0.values().any(|value| value.windows(what.len()).any(|window| window == what.as_bytes()))
    }
    /// The rows of all kinds but one.
    pub(super) fn all_but(&self, letter: u8) -> Disk {
        let rows = self.0.iter().filter(|(key, _)| key.first() != Some(&letter));
        Disk(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
    /// Takes the rows of one kind over from a later state.
    pub(super) fn take_newer(&mut self, later: &Disk, letter: u8) {
        let rows = later.0.iter().filter(|(key, _)| key.first() == Some(&letter));
        self.0.extend(rows.map(|(key, value)| (key.clone(), value.clone())));
    }
}

impl RowReader for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowFault> {
        Ok(self.0.get(key).cloned())
    }
    fn scan_from(
        &self,
        prefix: &[u8],
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool, RowFault>,
    ) -> Result<(), RowFault> {
        for (key, value) in self.0.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_ref() >= from) {
            if !each(key, value)? {
                break;
            }
        }
        Ok(())
    }
    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>, RowFault> {
        let found = self.0.iter().rfind(|(key, _)| from <= key.as_ref() && key.as_ref() <= to);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())))
    }
}

pub(super) const LIMITS: SessionLimits = SessionLimits { ring: 4, ring_bytes: 1 << 20 };

/// A list that takes more than any of these tests puts into it.
pub(super) const LIST: Listing = Listing { most: 9, kept: 2_000, users_only: false, sure: 0 };

impl User {
    /// An intent arrives at a list that may hold so many sessions.
    pub(super) fn link(&mut self, link: &Link, most: u32) -> Outcome {
        self.take_link(link, &Listing { most, ..LIST })
    }
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).expect("a name")
}

pub(super) fn group() -> SessionId {
    SessionId::group(GroupId::new("g").expect("a name"))
}

pub(super) fn actor(name: &str) -> Actor {
    let device = DeviceId::new("d").expect("a name");
    Actor { user: user(name), device, epoch: 1, on_behalf_of: None, service: false }
}

pub(super) fn text(content: &str) -> Act {
    Act::Send { content_type: Blob::from("text/plain"), content: Blob::from(content), extensions: Vec::new() }
}

pub(super) fn change(kind: ChangeKind, users: &[&str]) -> Act {
    Act::Change { kind, users: users.iter().map(|name| user(name)).collect(), most: 5, unknown: None }
}

pub(super) fn at(index: u64) -> At {
    At { shard: 1, index, position: 0, time_ms: 1000 + index, time_agrees: true, secret: [index as u8; 16] }
}

/// Gives a session what it must read before it is told these, as the actor shell does.
pub(super) fn look_up(session: &mut Session, disk: &Disk, commands: &[Command]) {
    if let Some(wanted) = session.wanted(&mut commands.iter()) {
        let looked = wanted.read(disk, session.id()).expect("rows");
        session.give(looked);
    }
}

/// Applies as the actor shell does: old numbers are fetched first.
pub(super) fn apply(
    session: &mut Session,
    disk: &Disk,
    at: &At,
    actor: &Actor,
    client_seq: u64,
    act: &Act,
) -> Outcome {
    if at.index <= session.index() {
        return Outcome::default();
    }
    let (of, by, does) = (session.id().clone(), actor.clone(), act.clone());
    look_up(session, disk, &[Command::Act { actor: by, session: of, client_seq, act: does }]);
    let mut outcome = session.apply(at, &LIMITS, actor, client_seq, act);
    if outcome.parked {
        // The lists of the founders have room, and the act comes again.
        session.linked(at, &arrived(session));
        outcome = session.apply(at, &LIMITS, actor, client_seq, act);
    }
    session.reflect(at.index);
    session.forget_recalled();
    outcome
}

/// The last number of somebody, from memory or from its row.
pub(super) fn last_number(session: &Session, disk: &Disk, who: &Actor) -> u64 {
    let key = super::session::sender_key(who);
    let of_row = || read_last_number(disk, session.id(), &key).expect("rows");
    session.last_number_here(&key).unwrap_or_else(of_row)
}

/// All intents of a session, as having arrived.
pub(super) fn arrived(session: &Session) -> Vec<(UserId, u64, bool)> {
    session.pending_intents().map(|intent| (intent.user, intent.link.version, intent.link.member)).collect()
}

pub(super) fn seq_of(outcome: &Outcome) -> u64 {
    match &outcome.answer {
        Some(Answer::Ack(ack)) => ack.seq,
        other => panic!("expected an ack, got {other:?}"),
    }
}

pub(super) fn code_of(outcome: &Outcome) -> ErrorCode {
    match &outcome.answer {
        Some(Answer::Refused(refusal)) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

pub(super) fn new_group(disk: &Disk) -> Session {
    let mut session = Session::new(group());
    let created = apply(&mut session, disk, &at(1), &actor("ann"), 1, &change(ChangeKind::Create, &["bob"]));
    assert_eq!(seq_of(&created), 1);
    session
}

#[test]
fn a_retry_gets_its_first_answer_and_stores_nothing() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    let first = apply(&mut session, &disk, &at(2), &actor("ann"), 2, &text("hi"));
    let again = apply(&mut session, &disk, &at(3), &actor("ann"), 2, &text("hi"));
    assert_eq!(first.answer, again.answer);
    assert!(again.published.is_none());
    assert_eq!(session.last_seq(), 2);
    let reused = apply(&mut session, &disk, &at(4), &actor("ann"), 2, &text("other"));
    assert_eq!(code_of(&reused), ErrorCode::ClientSeqReused);
}

#[test]
fn a_gap_names_the_expected_number_and_stores_nothing() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    let gap = apply(&mut session, &disk, &at(2), &actor("ann"), 5, &text("hi"));
    assert_eq!(code_of(&gap), ErrorCode::ClientSeqGap);
    assert!(matches!(gap.answer, Some(Answer::Refused(refusal)) if refusal.detail == 2));
    assert_eq!(session.last_seq(), 1);
}

#[test]
fn a_refusal_at_apply_consumes_its_number() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    apply(&mut session, &disk, &at(2), &actor("bob"), 1, &text("I am off"));
    apply(&mut session, &disk, &at(3), &actor("ann"), 2, &change(ChangeKind::Remove, &["bob"]));
    let taken = |outcome: &Outcome| match &outcome.answer {
        Some(Answer::Refused(refusal)) => (refusal.code, refusal.detail, refusal.takes_client_seq()),
        other => panic!("expected a refusal, got {other:?}"),
    };
    let refused = apply(&mut session, &disk, &at(4), &actor("bob"), 2, &text("let me in"));
    assert_eq!(taken(&refused), (ErrorCode::NotMember, 2, true));
    apply(&mut session, &disk, &at(5), &actor("ann"), 3, &change(ChangeKind::Add, &["bob"]));
    let retried = apply(&mut session, &disk, &at(6), &actor("bob"), 2, &text("let me in"));
    assert_eq!(taken(&retried), (ErrorCode::NotMember, 2, true), "the same number is refused again");
    let next = apply(&mut session, &disk, &at(7), &actor("bob"), 3, &text("hello"));
    assert_eq!(seq_of(&next), 5);
}

#[test]
fn strangers_who_are_refused_leave_nothing() {
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    session.reflect(2);
    disk.write(session.collect());
    let before = disk.clone();
    for n in 0..100u64 {
        let eve = Actor { epoch: n as u32 + 1, ..actor("eve") };
        let act = if n % 2 == 0 { text("let me in") } else { change(ChangeKind::Create, &[]) };
        let refused = apply(&mut session, &disk, &at(10 + n), &eve, 1, &act);
        let Some(Answer::Refused(refusal)) = &refused.answer else { panic!("expected a refusal") };
        assert!(!refusal.takes_client_seq(), "{refusal}");
    }
    disk.write(session.collect());
    let keys = |disk: &Disk| disk.0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&disk), keys(&before), "not a row more");
    assert_eq!(session.last_number(&super::session::sender_key(&actor("eve"))), 0);
    // Once she is a member her first number is 1.
    apply(&mut session, &disk, &at(211), &actor("ann"), 2, &change(ChangeKind::Add, &["eve"]));
    assert_eq!(seq_of(&apply(&mut session, &disk, &at(212), &actor("eve"), 1, &text("at last"))), 3);
}

#[test]
fn a_group_that_does_not_exist_remembers_nothing_of_those_who_ask() {
    let disk = Disk::default();
    let mut session = Session::new(group());
    let refused = apply(&mut session, &disk, &at(1), &actor("eve"), 1, &text("anyone?"));
    assert_eq!(code_of(&refused), ErrorCode::NoSuchSession);
    assert!(!session.is_something());
    assert!(session.collect().rows.is_empty());
}

#[test]
fn members_come_and_go_in_the_sequence_and_removals_keep_their_version() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    let added =
        apply(&mut session, &disk, &at(2), &actor("bob"), 1, &change(ChangeKind::Add, &["cid", "bob"]));
    let told: Vec<_> = added.intents.iter().map(|intent| (&intent.user, intent.link.from.as_ref())).collect();
    assert_eq!(told, [(&user("cid"), Some(&user("bob")))], "who is in already is passed over");
    assert!(added.added.is_empty(), "his list says whether bob brings him in, and nothing is pushed before");
    assert_eq!(added.intents.len(), 1);
    assert!(added.gate.as_ref().is_some_and(|gate| !session.gate_open(gate)));
    let refused = apply(&mut session, &disk, &at(3), &actor("bob"), 2, &change(ChangeKind::Remove, &["cid"]));
    assert_eq!(code_of(&refused), ErrorCode::NotAllowed);
    let removed = apply(&mut session, &disk, &at(4), &actor("ann"), 2, &change(ChangeKind::Remove, &["cid"]));
    assert_eq!(removed.removed, vec![user("cid")]);
    let intent = session.pending_intents().find(|intent| intent.user == user("cid")).expect("an intent");
    assert!(!intent.link.member);
    let stale = [(user("cid"), intent.link.version - 1, true)];
    session.linked(&at(4), &stale);
    assert!(
        session.pending_intents().any(|intent| intent.user == user("cid")),
        "an older arrival clears nothing"
    );
    let full =
        apply(&mut session, &disk, &at(5), &actor("ann"), 3, &change(ChangeKind::Add, &["d", "e", "f", "g"]));
    assert_eq!(code_of(&full), ErrorCode::GroupFull);
}

#[test]
fn when_the_owner_leaves_the_senior_member_owns_the_group() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    apply(&mut session, &disk, &at(2), &actor("ann"), 2, &change(ChangeKind::Add, &["aaa"]));
    apply(&mut session, &disk, &at(3), &actor("ann"), 3, &change(ChangeKind::Remove, &["ann"]));
    let by_newer =
        apply(&mut session, &disk, &at(4), &actor("aaa"), 1, &change(ChangeKind::Remove, &["bob"]));
    assert_eq!(code_of(&by_newer), ErrorCode::NotAllowed);
    let by_senior =
        apply(&mut session, &disk, &at(5), &actor("bob"), 1, &change(ChangeKind::Remove, &["aaa"]));
    assert_eq!(seq_of(&by_senior), 4);
}

#[test]
fn a_direct_session_begins_with_its_first_message_whoever_writes_it() {
    let id = SessionId::direct(&user("bob"), &user("ann")).expect("two users");
    let disk = Disk::default();
    let mut session = Session::new(id);
    let opens = session.apply(&at(1), &LIMITS, &actor("bob"), 1, &text("hi"));
    assert!(opens.parked && opens.answer.is_none(), "until both lists have the session nothing is stored");
    assert_eq!(opens.intents.len(), 2);
    let other = session.apply(&at(2), &LIMITS, &actor("ann"), 1, &text("hi"));
    assert!(other.parked && other.intents.is_empty());
    let lists = arrived(&session);
    session.linked(&at(3), &lists[..1]);
    assert!(session.opening(), "one list is not enough");
    session.linked(&at(4), &lists[1..]);
    let first = apply(&mut session, &disk, &at(5), &actor("bob"), 1, &text("hi"));
    assert_eq!((seq_of(&first), first.added.len()), (1, 2));
    assert_eq!(seq_of(&apply(&mut session, &disk, &at(6), &actor("ann"), 1, &text("hi"))), 2);
    let stranger = apply(&mut session, &disk, &at(7), &actor("eve"), 1, &text("hi"));
    assert_eq!(code_of(&stranger), ErrorCode::NotMember);
}

#[test]
fn time_never_goes_back_within_a_session() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    let late = At { time_ms: 9_000, ..at(2) };
    apply(&mut session, &disk, &late, &actor("ann"), 2, &text("a"));
    apply(&mut session, &disk, &At { time_ms: 1, ..at(3) }, &actor("ann"), 3, &text("b"));
    let last: Record = decode(session.record(3).expect("in the ring")).expect("a record");
    assert_eq!(last.time_ms, 9_000);
}

/// One of the changes to a group, the end of it among them though rarely.
fn random_change(rng: &mut StdRng, whom: &str, number: u64) -> GroupAction {
    let (user, who) = (user(whom), |on| if on { Who::All } else { Who::Admins });
    let key = AttributeKey::new(["a", "b", "c"][rng.random_range(0..3)]).expect("a key");
    match rng.random_range(0..41) {
        0..4 => {
            GroupAction::SetProfile { name: Some(Blob::from(format!("{number}").as_str())), avatar: None }
        }
        4..8 => GroupAction::SetProfile { name: None, avatar: Some(Blob::from(whom)) },
        8..12 => GroupAction::SetAttribute { key, value: Some(Blob::from(whom)) },
        12..16 => GroupAction::SetAttribute { key, value: None },
        16..20 => GroupAction::SetRole { user, role: MemberRole::Admin },
        20..22 => GroupAction::HandOver { user },
        22..26 => GroupAction::Mute { user, until_ms: 1000 + number + rng.random_range(0..40) },
        26..28 => GroupAction::MuteAll { on: rng.random_bool(0.3) },
        28..32 => GroupAction::SetPolicy(Policy {
            write: who(rng.random_bool(0.8)),
            invite: who(rng.random_bool(0.5)),
            change: who(rng.random_bool(0.5)),
            history_before_joining: rng.random_bool(0.5),
            join: [Join::Closed, Join::Request, Join::Open][rng.random_range(0..3)],
        }),
        32..36 => GroupAction::MakeCode {
            hash: Blob(Bytes::copy_from_slice(&hash(rng))),
            until_ms: 1000 + number + rng.random_range(0..60),
            uses: rng.random_range(1..3),
        },
        36 => GroupAction::RevokeCode { id: rng.random_range(1..=number) },
        37..40 => GroupAction::Bar { user, on: rng.random_bool(0.4) },
        _ => GroupAction::Dissolve,
    }
}

/// Of one of a few codes.
fn hash(rng: &mut StdRng) -> [u8; 32] {
    [rng.random_range(0..3); 32]
}

/// What a run consists of: acts with retries, reuse and gaps among them.
fn random_acts(rng: &mut StdRng, count: u64) -> Vec<(At, Actor, u64, Act)> {
    let names = ["ann", "bob", "cid", "eve"];
    let mut acts = vec![(at(1), actor("ann"), 1, change(ChangeKind::Create, &["bob"]))];
    // Played along, for only the group knows which refusals took their numbers.
    let disk = Disk::default();
    let mut group = new_group(&disk);
    for index in 2..count {
        let name = names[rng.random_range(0..names.len())];
        let next = last_number(&group, &disk, &actor(name)) + 1;
        let act = match rng.random_range(0..12) {
            0 => change(ChangeKind::Add, &[names[rng.random_range(0..names.len())]]),
            1 => change(ChangeKind::Remove, &[names[rng.random_range(0..names.len())]]),
            2 => Act::Recall { seq: rng.random_range(1..=index), window_ms: 50 },
            3 => Act::Edit {
                seq: rng.random_range(1..=index),
                window_ms: 50,
                versions: VersionBounds { most: 2, kept: true },
                content_type: Blob::from("text/plain"),
                content: Blob::from(format!("edited at {index}").as_str()),
                extensions: Vec::new(),
            },
            4 | 5 => {
                let whom = names[rng.random_range(0..names.len())];
                Act::Manage { action: random_change(rng, whom, index) }
            }
            6 => Act::Join {
                code: rng.random_bool(0.6).then(|| hash(rng)),
                text: Blob::from(name),
                most: 5,
                again_ms: 20,
            },
            7 => {
                let user = user(names[rng.random_range(0..names.len())]);
                Act::Answer { user, accept: rng.random_bool(0.5), most: 5 }
            }
            _ => text(&format!("{name} {next}")),
        };
        let client_seq = match rng.random_range(0..10) {
            0 => rng.random_range(1..=next),
            1 => next + 1,
            _ => next,
        };
        apply(&mut group, &disk, &at(index), &actor(name), client_seq, &act);
        acts.push((at(index), actor(name), client_seq, act));
    }
    acts
}

/// Everything that must be alike after a run, however it was interrupted. Runs of numbers and of records are
/// cut where checkpoints were, so numbers are compared by what they answer and records one by one.
pub(super) fn essence(
    session: &mut Session,
    disk: &mut Disk,
    acts: &[(At, Actor, u64, Act)],
) -> (Disk, Vec<Option<Answer>>, Vec<Bytes>) {
    disk.write(session.collect());
    session.written(&LIMITS);
    let mut loaded = Session::load(disk, session.id()).expect("rows");
    let end = acts.len() as u64 + 10;
    let retries = acts.iter().zip(end..);
    let answers = retries.map(|((_, actor, number, act), index)| {
        let sender = super::session::sender_key(actor);
        if *number > read_last_number(disk, loaded.id(), &sender).expect("rows") {
            return None;
        }
        apply(&mut loaded, disk, &at(index), actor, *number, act).answer
    });
    let answers = answers.collect();
    let streamed = |kind: &u8| {
        use super::key::letter;
        [letter::HEAD, letter::NUMBERS, letter::RECORD, letter::VERSION].contains(kind)
            || letter::SESSION_PARTS.contains(kind)
    };
    assert!(disk.0.keys().all(|key| key.first().is_some_and(streamed)), "a snapshot would leave a row out");
    let cut = [super::key::letter::NUMBERS, super::key::letter::RECORD];
    let rows = disk.0.iter().filter(|(key, _)| key.first().is_some_and(|kind| !cut.contains(kind)));
    let rows = Disk(rows.map(|(key, value)| (key.clone(), value.clone())).collect());
    let records = super::records::read(disk, session.id(), 1, acts.len()).expect("rows");
    assert_eq!(records.len() as u64, session.last_seq(), "every record can be read");
    (rows, answers, records)
}

#[test]
fn a_checkpoint_at_any_moment_and_a_replay_end_where_an_unbroken_run_ends() {
    for seed in 0..40u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let acts = random_acts(&mut rng, 150);
        let mut whole_disk = Disk::default();
        let mut whole = Session::new(group());
        for (at, actor, number, act) in &acts {
            apply(&mut whole, &whole_disk, at, actor, *number, act);
        }
        let expected = essence(&mut whole, &mut whole_disk, &acts);

        let mut disk = Disk::default();
        let mut session = Session::new(group());
        let mut next = 0;
        while next < acts.len() {
            let (at, actor, number, act) = &acts[next];
            apply(&mut session, &disk, at, actor, *number, act);
            next += 1;
            if rng.random_bool(0.1) {
                disk.write(session.collect());
                session.written(&LIMITS);
            }
            if rng.random_bool(0.03) {
                // Killed: memory is gone, and the log comes again from some entry before the last checkpoint.
                session = Session::load(&disk, &group()).expect("rows");
                let covered = session.index() as usize;
                next = rng.random_range(covered.saturating_sub(15)..=covered.min(next));
            }
        }
        let found = essence(&mut session, &mut disk, &acts);
        assert_eq!(found.1, expected.1, "answers to retries differ; seed {seed}");
        assert_eq!(found.0, expected.0, "rows differ; seed {seed}");
        assert_eq!(found.2, expected.2, "records differ; seed {seed}");
    }
}

#[test]
fn cursors_are_monotone_and_links_go_by_version() {
    let mut bob = User::new(user("bob"));
    let link = |version, member| super::Link { session: group(), version, member, joined_seq: 3, from: None };
    assert_eq!(bob.link(&link(2, true), 9).user_frames.len(), 1);
    assert!(bob.link(&link(2, true), 9).user_frames.is_empty(), "the same intent twice says nothing");
    let to = |seq, count| ReadTo { session: group(), seq, count, burns: false };
    bob.read(&at(2), &to(7, 5));
    let older = bob.read(&at(3), &to(4, 2));
    assert!(matches!(older.answer, Some(Answer::ReadMark(mark)) if mark.seq == 7 && mark.count == 5));
    bob.link(&link(3, false), 9);
    assert_eq!(bob.sessions().count(), 0);
    bob.link(&link(2, true), 9);
    assert_eq!(bob.sessions().count(), 0, "an older join does not undo a removal");
    assert_eq!(code_of(&bob.read(&at(4), &to(9, 6))), ErrorCode::NotMember);
}

#[test]
fn a_repeated_registration_gives_one_epoch_and_a_new_one_another() {
    let mut bob = User::new(user("bob"));
    let phone = DeviceId::new("phone").expect("a name");
    let epoch = |outcome: Outcome| match outcome.answer {
        Some(Answer::Epoch(epoch)) => epoch,
        other => panic!("expected an epoch, got {other:?}"),
    };
    assert_eq!(epoch(bob.register(&phone, &says(11), &DeviceBounds::default(), 0)), 1);
    assert_eq!(epoch(bob.register(&phone, &says(11), &DeviceBounds::default(), 0)), 1);
    assert_eq!(epoch(bob.register(&phone, &says(12), &DeviceBounds::default(), 0)), 2);
    let mut disk = Disk::default();
    bob.reflect(9);
    disk.write(bob.collect());
    assert_eq!(User::load(&disk, &user("bob")).expect("rows").epoch(&phone), 2);
}

#[test]
fn an_entry_gives_back_its_commands_and_refuses_what_it_does_not_know() {
    let command = Command::Act { actor: actor("ann"), session: group(), client_seq: 1, act: text("hi") };
    let mut payload = Entry::begin(42, true, [7; 16], 64);
    Entry::push(&mut payload, &command.encode());
    Entry::push(&mut payload, &command.encode());
    let payload = payload.freeze();
    let entry = Entry::decode(payload.clone()).expect("an entry");
    assert_eq!((entry.time_ms, entry.time_agrees, entry.secret), (42, true, [7; 16]));
    let unsure = Entry::decode(Entry::begin(42, false, [7; 16], 0).freeze()).expect("an entry");
    assert!(!unsure.time_agrees && unsure.commands.is_empty());
    assert_eq!(entry.commands, vec![command.clone(), command]);
    for cut in 1..payload.len() {
        if let Ok(entry) = Entry::decode(payload.slice(..cut)) {
            assert!(entry.commands.len() < 2, "a cut entry is never taken for a whole one");
        }
    }
    let mut other = payload.to_vec();
    other[0] = super::command::ENTRY_VERSION + 1;
    assert!(Entry::decode(Bytes::from(other)).is_err());
}
