//! The numbers of a session's senders: what must be read of them, and what is answered to one that was used before.

use rookery_wire::{ErrorBody, ErrorCode};

use super::command::{Act, Actor};
use super::fingerprint::is_gone;
use super::key::SenderKey;
use super::outcome::{Answer, Outcome};
use super::sender::{Fate, Known, Number, Sender, SenderRow};
use super::session::{Session, refused, sender_key};

impl Session {
    /// The rows that must be read before this act can be judged: the last number of a sender who is not in memory, and
    /// an old number.
    pub fn lookup_for(&self, actor: &Actor, client_seq: u64) -> Option<(SenderKey, u64)> {
        let key = sender_key(actor);
        let wanted = match self.senders.get(&key) {
            None => self.senders_in_rows,
            Some(sender) => client_seq > 0 && sender.known(client_seq) == Known::Old,
        };
        let wanted_number = (key, client_seq);
        (wanted && !self.recalled.contains_key(&wanted_number)).then_some(wanted_number)
    }

    /// Gives what a sender's row says.
    pub fn give_sender(&mut self, key: SenderKey, row: SenderRow) {
        if row.last > 0 {
            self.senders.entry(key).or_insert_with(|| Sender::loaded(row));
        }
    }

    /// Gives the old number that [`Session::lookup_for`] asked for; `None` when its message has been trimmed, or it was refused.
    pub fn recall(&mut self, wanted: (SenderKey, u64), number: Option<Number>) {
        self.recalled.insert(wanted, number);
    }

    /// Forgets what was read for the batch.
    pub fn forget_recalled(&mut self) {
        self.recalled.clear();
        self.rewrites.forget_fetched();
    }

    /// Whether a refusal of this act leaves nothing behind, and takes no number: of a user who never was a member, and of
    /// one who is none and wants to come. Else anybody who asks in vain would leave something in rows with every try,
    /// for ever. So would one who is a member no more, with a new registration for every try: a refusal of a device of such
    /// a one that has used no number here leaves nothing either. A service is known to the business.
    pub(super) fn leaves_nothing(&self, actor: &Actor, act: &Act, last: u64) -> bool {
        let known = self.members.get(actor.name()).is_some_and(|member| member.present || last > 0);
        !(known || actor.service) || self.is_coming(actor.name(), act)
    }

    /// The first answer again, to a number seen before.
    pub(super) fn again(
        &self,
        number: &Number,
        fingerprint: u64,
        client_seq: u64,
        actor: &Actor,
        act: &Act,
    ) -> Outcome {
        if matches!(&number.fate, Fate::Stored(stored) if stored.seq < self.first_seq) {
            return trimmed(client_seq);
        }
        if !number.fingerprint.fits(fingerprint) && !self.is_gone(&number.fate) {
            let text = format!("number {client_seq} was used with other content");
            return refused(ErrorCode::ClientSeqReused, text, 0);
        }
        match &number.fate {
            Fate::Stored(stored) => Outcome {
                answer: Some(Answer::Ack(stored.ack(self.id.clone(), client_seq))),
                // The first answer to a change may have been waiting for its intents when its node died; so does this
                // one. A message leaves no intents, and waits for nobody else's.
                gate: self.gate_of(actor, act),
                ..Outcome::default()
            },
            Fate::Refused(code) => {
                let refusal = taking(ErrorBody::new(*code, code.remedy()), client_seq);
                Outcome::answer(Answer::Refused(refusal))
            }
        }
    }

    /// Whether the content that a number stored has gone since rows were written: they do not know of it yet.
    fn is_gone(&self, fate: &Fate) -> bool {
        let Fate::Stored(stored) = fate else { return false };
        self.stored_record(stored.seq).is_some_and(|record| is_gone(&record))
    }
}

/// Refusals that do not always take the number say in `detail` that they did.
pub(super) fn taking(refusal: ErrorBody, client_seq: u64) -> ErrorBody {
    if refusal.code.spares_strangers() { refusal.with_detail(client_seq) } else { refusal }
}

pub(super) fn trimmed(client_seq: u64) -> Outcome {
    let text = format!("number {client_seq} was used, and what came of it is not kept any more");
    refused(ErrorCode::AlreadyTrimmed, text, 0)
}
