//! A device proves its copy: what it was pushed and has pulled, against the digest of the cluster.
//!
//! It keeps a running digest of every session it is in. When the run asks for it (after each round, and at the end) it
//! pulls what it lacks (its own messages among it, whose salt no ACK says), and asks the cluster for the digest there. What
//! both say is written down; the judge compares.

use std::collections::{BTreeMap, BTreeSet};

use rookery_wire::digest::{DigestAt, DigestReply};
use rookery_wire::reply::Page as PageBody;
use rookery_wire::request::Consistency;
use rookery_wire::{Digest, ErrorBody, ErrorCode, Kind, Record, Retry as Advice};

use super::{Connection, Device, Waiting, Why};
use crate::check::chain::Chain;
use crate::check::history::{Fresh, Seal, SessionIx, Witness};

/// Records pulled at a time.
const PAGE: u32 = 200;

/// What one device is proving.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    chains: BTreeMap<SessionIx, Chain>,
    /// How often it was asked to prove.
    begun: u64,
    /// What is still to be proved, up to which seq at least; none before the first page says.
    todo: BTreeMap<SessionIx, Option<u64>>,
    /// The one that is under way on this connection.
    asked: Option<SessionIx>,
}

impl Proofs {
    /// What was under way must be asked again.
    pub(super) fn disconnected(&mut self) {
        self.asked = None;
    }
}

impl Device {
    /// A record of a session came in, whichever way.
    pub(super) fn keep_for_proof(&mut self, session: SessionIx, record: &Record) {
        if !self.stage.parts.digests {
            return;
        }
        let Some(name) = self.stage.cast.session(session) else { return };
        let chain = self.proofs.chains.entry(session).or_insert_with(|| Chain::new(name));
        if !chain.take(record) {
            let text =
                format!("{name}: two records came as seq {}, which are not of one message", record.seq);
            self.log.faults.push((self.stage.now(), self.me, text));
        }
    }

    /// Whether everything was proved that the run has asked for.
    pub(super) fn has_proved(&self) -> bool {
        self.proofs.todo.is_empty() && self.proofs.begun == self.stage.proofs()
    }

    /// Goes on proving, one session after another.
    pub(super) fn prove(&mut self, connection: &mut Connection) {
        if !self.stage.parts.digests {
            self.proofs.begun = self.stage.proofs();
            return;
        }
        if self.proofs.begun != self.stage.proofs() && self.proofs.todo.is_empty() {
            self.proofs.begun = self.stage.proofs();
            self.proofs.todo = self.joined.iter().map(|session| (*session, None)).collect();
        }
        let joined: &BTreeSet<SessionIx> = &self.joined;
        self.proofs.todo.retain(|session, _| joined.contains(session));
        if self.proofs.asked.is_some() {
            return;
        }
        let Some((session, upto)) = self.proofs.todo.first_key_value().map(|(at, upto)| (*at, *upto)) else {
            return;
        };
        self.proofs.asked = Some(session);
        let at = self.proofs.chains.get(&session).map_or(0, Chain::seq);
        match upto {
            Some(upto) if at >= upto => {
                let mine = self.proofs.chains.get(&session).map(Chain::digest);
                self.ask_digest(connection, session, at, mine);
            }
            _ => self.pull(connection, session, at + 1, false, PAGE, Fresh::Linear, Why::Prove),
        }
    }

    /// Asks for the digest at `seq`, where ours is `mine`; none if we have nothing before it.
    fn ask_digest(&self, connection: &mut Connection, session: SessionIx, seq: u64, mine: Option<Digest>) {
        let Some(name) = self.stage.cast.session(session).cloned() else { return };
        let ask = DigestAt { session: name, seq, consistency: Consistency::Linearizable };
        let id = connection.link.ask(Kind::Digest, &ask);
        connection.expects(id, Waiting::Digest { session, seq, mine });
    }

    /// A page that was pulled to prove has been taken in.
    pub(super) fn proof_page(&mut self, connection: &mut Connection, session: SessionIx, page: &PageBody) {
        let Some(upto) = self.proofs.todo.get_mut(&session) else {
            self.proofs.asked = None;
            return;
        };
        upto.get_or_insert(page.last_seq);
        if let Some(name) = self.stage.cast.session(session) {
            self.proofs.chains.entry(session).or_insert_with(|| Chain::new(name));
        }
        let at = self.proofs.chains.get(&session).map_or(0, Chain::seq);
        if page.first_seq > at + 1 {
            // What it lacks was trimmed.
            self.ask_digest(connection, session, page.first_seq - 1, None);
        } else {
            self.proofs.asked = None;
        }
    }

    pub(super) fn digest_told(
        &mut self,
        session: SessionIx,
        asked: u64,
        mine: Option<Digest>,
        reply: &DigestReply,
    ) {
        self.proofs.asked = None;
        let (me, at) = (self.me, self.stage.now());
        if reply.seq != asked {
            let text = format!("the digest at seq {asked} was asked for, that at {} is told", reply.seq);
            self.log.faults.push((at, me, text));
            return;
        }
        let told = Witness::Told(me);
        let mut say = |witness, seq, digest| {
            self.log.seals.push(Seal { witness, session, seq, digest, at });
        };
        say(told, reply.seq, reply.digest);
        say(told, reply.first_seq.saturating_sub(1), reply.before);
        match (mine, self.proofs.chains.get_mut(&session)) {
            (Some(mine), _) => {
                say(Witness::Copy(me), asked, mine);
                self.proofs.todo.remove(&session);
            }
            (None, Some(chain)) => chain.go_on_from(asked, reply.digest),
            (None, None) => {}
        }
    }

    pub(super) fn proof_refused(&mut self, session: SessionIx, error: &ErrorBody) {
        self.proofs.asked = None;
        match (error.code, error.retry) {
            // Trimmed meanwhile: the next page says so.
            (ErrorCode::NotKept, _) | (_, Advice::After(_) | Advice::Reconnect) => {}
            (code, Advice::Never) => {
                self.proofs.todo.remove(&session);
                if code == ErrorCode::BeyondEnd {
                    let text = format!("the digest of what was shown is refused: {error}");
                    self.log.faults.push((self.stage.now(), self.me, text));
                }
            }
        }
    }
}
