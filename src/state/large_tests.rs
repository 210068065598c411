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

    /// A checkpoint; the rows it writes.
    fn writes(&mut self) -> RowWrites {
        let mut rows = self.session.collect();
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

/// Rows of a send, of a change to the group and of one more member, in a group of so many.
fn costs_in_a_group_of(members: usize) -> Vec<usize> {
    let disk = Disk::default();
    let session = new_group(&disk);
    let mut large = Large { session, disk, index: 1, number: 1, largest: (0, 0) };
    large.settles();
    large.writes();
    let most = u32::try_from(members).expect("a number") + 10;
    let add = |users| Act::Change { kind: ChangeKind::Add, users, most };
    let all: Vec<UserId> = (0..members).map(name).collect();
    for users in all.chunks(BATCH) {
        large.does(&add(users.to_vec()));
        let joined = large.writes();
        assert_eq!(of_kind(&joined, letter::INTENT), users.len(), "a row for each intent");
        assert_eq!(of_kind(&joined, letter::HEAD), 1);
        large.settles();
        assert_eq!(of_kind(&large.writes(), letter::INTENT), users.len(), "which go when it has arrived");
    }
    assert_eq!(large.session.present() as usize, members + 2);
    let mut costs = Vec::new();
    large.does(&text("hi"));
    costs.push(large.writes().rows.len());
    large.does(&Act::Manage { action: GroupAction::SetRetention(Retention { age_ms: 0, count: 1 << 40 }) });
    costs.push(large.writes().rows.len());
    large.does(&add(vec![user("eve")]));
    costs.push(large.writes().rows.len());
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
    let small = costs_in_a_group_of(10);
    assert_eq!(costs_in_a_group_of(10_000), small, "a send, a change and one more member write as many rows");
}
