//! What a batch of commands must have read of a session's rows before it is applied.
//!
//! Memory holds what is recent: how much of it, differs from replica to replica, and so does where a batch ends. So what is
//! asked for here may depend on neither. It is all that any of the commands can need, whatever those before it in the same
//! batch do to the session; else one replica would judge by a record that another has not read (G2, G8).

use std::collections::{BTreeMap, BTreeSet};

use rookery_wire::{SessionId, UserId};

use super::command::{Act, Actor, ChangeKind, Command};
use super::key::SenderKey;
use super::records::{Runs, runs_with};
use super::rows::{RowFault, RowReader};
use super::sender::{Number, SenderRow};
use super::session::Session;
use super::session_rows::{read_number, read_sender};

/// What must be read.
#[derive(Debug, Default)]
pub struct Wanted {
    numbers: BTreeMap<SenderKey, BTreeSet<u64>>,
    /// Messages that are to be recalled or edited, or to expire.
    targets: BTreeSet<u64>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Looked {
    senders: Vec<KnownSender>,
    /// Records that are to be rewritten, with those that stand in one row with them.
    runs: Runs,
}

/// What rows say of a sender.
#[derive(Debug)]
struct KnownSender {
    sender: SenderKey,
    /// Its last number, and refusals.
    row: SenderRow,
    /// What came of those of the wanted numbers that are not beyond it; none when the message has been trimmed.
    numbers: Vec<(u64, Option<Number>)>,
}

impl Wanted {
    /// Reads it.
    ///
    /// # Errors
    /// [`RowFault`].
    pub fn read(self, rows: &dyn RowReader, id: &SessionId) -> Result<Looked, RowFault> {
        let mut looked = Looked::default();
        for (sender, numbers) in self.numbers {
            let row = read_sender(rows, id, &sender)?;
            let old = numbers.range(1..row.last.saturating_add(1));
            let read = old.map(|number| Ok((*number, read_number(rows, id, &sender, *number)?)));
            let numbers = read.collect::<Result<_, RowFault>>()?;
            looked.senders.push(KnownSender { sender, row, numbers });
        }
        for seq in self.targets {
            looked.runs.extend(runs_with(rows, id, seq)?);
        }
        Ok(looked)
    }
}

impl Session {
    /// What must be read before these commands can be applied, in this order and as one batch; none when memory has it all.
    pub fn wanted(&self, commands: &mut dyn Iterator<Item = &Command>) -> Option<Wanted> {
        let mut wanted = Wanted::default();
        let mut coming: BTreeSet<&UserId> = BTreeSet::new();
        for command in commands {
            let (actor, act) = match command {
                Command::Act { actor, client_seq, act, .. } => {
                    if let Some((sender, number)) = self.lookup_for(actor, *client_seq) {
                        wanted.numbers.entry(sender).or_default().insert(number);
                    }
                    (actor, act)
                }
                Command::KeyedAct { actor, act, .. } => (actor, act),
                Command::Expire { seqs, .. } => {
                    wanted.targets.extend(self.expiring_in_rows(seqs));
                    continue;
                }
                _ => continue,
            };
            // Nothing is read for one who never was a member, and is none by the time this is judged either.
            let may = |name| actor.service || self.members.contains_key(name) || coming.contains(name);
            wanted.targets.extend(self.target_in_rows(act).filter(|_| may(actor.name())));
            coming.extend(may_come(actor, act));
        }
        let nothing = wanted.numbers.is_empty() && wanted.targets.is_empty();
        (!nothing).then_some(wanted)
    }

    /// Gives what [`Session::wanted`] asked for.
    pub fn give(&mut self, looked: Looked) {
        for KnownSender { sender, row, numbers } in looked.senders {
            for (number, fate) in numbers {
                self.recall((sender.clone(), number), fate);
            }
            self.give_sender(sender, row);
        }
        self.give_runs(looked.runs);
    }
}

/// Users who may be members once this act was carried out, if it is.
fn may_come<'a>(actor: &'a Actor, act: &'a Act) -> Vec<&'a UserId> {
    match act {
        Act::Change { kind: ChangeKind::Create, users, .. } => {
            users.iter().chain(std::iter::once(actor.name())).collect()
        }
        Act::Change { kind: ChangeKind::Add, users, .. } => users.iter().collect(),
        Act::Join { .. } => vec![actor.name()],
        Act::Answer { user, accept: true, .. } => vec![user],
        _ => Vec::new(),
    }
}
