//! Large groups: no log entry, no row and no work of a send grows with the members.

use rookery_wire::{GroupAction, Retention, UserId};

use super::command::{Act, ChangeKind};
use super::key::letter;
use super::tests::{Disk, LIMITS, actor, apply, arrived, at, group, new_group, seq_of, text, user};
use super::{Command, RowWrites, Session};

/// Users in one change, as the gateway takes them.
const BATCH: usize = 1_000;
/// Bytes of an entry or a row beyond which something grows: a batch of the longest names, or a run of records with one.
const BOUND: usize = BATCH * 80 + (32 << 10);

/// Bytes by which the numbers in an entry or in rows may be longer where there are more members.
const NUMBERS: usize = 16;

/// A member's name, as long as names may be.
fn name(number: usize) -> UserId {
    user(&format!("{number:0>64}"))
}

struct Large {
    session: Session,
    disk: Disk,
    index: u64,
    number: u64,
    /// The largest command and the largest row so far.
    largest: (usize, usize),
}

impl Large {
    fn does(&mut self, act: &Act) -> u64 {
        (self.index, self.number) = (self.index + 1, self.number + 1);
        let command =
            Command::Act { actor: actor("ann"), session: group(), client_seq: self.number, act: act.clone() };
        self.largest.0 = self.largest.0.max(command.encode().len());
        let (at, disk) = (at(self.index), &self.disk);
        seq_of(&apply(&mut self.session, disk, &at, &actor("ann"), self.number, act))
    }

    /// What an act costs by itself.
    fn costs(&mut self, act: &Act) -> Cost {
        self.does(act);
        let written = self.writes();
        let values = written.rows.iter().chain(&written.ahead);
        let row_bytes = values.map(|(_, value)| value.as_ref().map_or(0, |value| value.len())).sum();
        let command =
            Command::Act { actor: actor("ann"), session: group(), client_seq: self.number, act: act.clone() };
        Cost { rows: written.rows.len(), row_bytes, command: command.encode().len() }
    }

    /// A checkpoint; the rows it writes.
    fn writes(&mut self) -> RowWrites {
        let mut rows = self.session.collect();
        // Its records and its head are among them only now.
        rows.seal().expect("records");
        for (_, value) in rows.rows.iter().chain(&rows.ahead) {
            self.largest.1 = self.largest.1.max(value.as_ref().map_or(0, |value| value.len()));
        }
        self.disk.write(clone_of(&rows));
        self.session.written(&LIMITS);
        rows
    }

    /// Intents arrive as the carrier has them cleared: in parts.
    fn settles(&mut self) {
        let done = arrived(&self.session);
        for done in done.chunks(BATCH) {
            let linked = Command::Linked { session: group(), done: done.to_vec() };
            self.largest.0 = self.largest.0.max(linked.encode().len());
            self.session.linked(&at(self.index), done);
        }
    }
}

fn clone_of(rows: &RowWrites) -> RowWrites {
    RowWrites { rows: rows.rows.clone(), ahead: rows.ahead.clone(), ..RowWrites::default() }
}

fn of_kind(rows: &RowWrites, kind: u8) -> usize {
    rows.rows.iter().filter(|(key, _)| key.first() == Some(&kind)).count()
}

/// What one act costs.
#[derive(Debug)]
struct Cost {
    /// Rows of the checkpoint after it.
    rows: usize,
    /// Bytes of their values.
    row_bytes: usize,
    /// Bytes of its command.
    command: usize,
}

/// A send, a change to the group and one more member, in a group of so many that came in ten batches.
fn costs_in_a_group_of(members: usize) -> Vec<Cost> {
    let disk = Disk::default();
    let session = new_group(&disk);
    let mut large = Large { session, disk, index: 1, number: 1, largest: (0, 0) };
    large.settles();
    large.writes();
    let most = u32::try_from(members).expect("a number") + 10;
    let add = |users| Act::Change { kind: ChangeKind::Add, users, most, unknown: None };
    let all: Vec<UserId> = (0..members).map(name).collect();
    for users in all.chunks(members / 10) {
        large.does(&add(users.to_vec()));
        let joined = large.writes();
        assert_eq!(of_kind(&joined, letter::INTENT), users.len(), "a row for each intent");
        assert_eq!(of_kind(&joined, letter::HEAD), 1);
        large.settles();
        assert_eq!(of_kind(&large.writes(), letter::INTENT), users.len(), "which go when it has arrived");
    }
    assert_eq!(large.session.present() as usize, members + 2);
    let forever = GroupAction::SetRetention(Retention { age_ms: 0, count: 1 << 40 });
    let acts = [text("hi"), Act::Manage { action: forever }, add(vec![user("eve")])];
    let costs = acts.iter().map(|act| large.costs(act)).collect();
    let (entry, row) = large.largest;
    assert!(entry < BOUND && row < BOUND, "with {members} members an entry has {entry} bytes, a row {row}");
    // Its end is one small entry too; what follows goes in parts.
    large.settles();
    large.does(&Act::Manage { action: GroupAction::Dissolve });
    large.settles();
    large.writes();
    assert!(large.largest.0 < BOUND && large.largest.1 < BOUND, "{:?}", large.largest);
    let loaded = Session::load(&large.disk, &group()).expect("rows");
    assert_eq!((loaded.present(), loaded.pending_intents().count()), (0, 0));
    costs
}

#[test]
fn no_entry_and_no_row_grows_with_the_members_of_a_group() {
    let (small, large) = (costs_in_a_group_of(10), costs_in_a_group_of(10 * BATCH));
    for (few, many) in small.iter().zip(&large) {
        assert_eq!(many.rows, few.rows, "{many:?}, {few:?}");
        assert!(many.row_bytes <= few.row_bytes + NUMBERS, "{many:?}, {few:?}");
        assert!(many.command <= few.command + NUMBERS, "{many:?}, {few:?}");
    }
}
