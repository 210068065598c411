//! Proof of a history: the digest of what the cluster gives to read, against the digest that its replicas hold.
//!
//! It is made over pages and not over what the application is given on the way: an own message is known from its ACK, which
//! does not say the salt. What was proved is kept, so each record is read once for it. An application that keeps records it
//! has pulled can chain them itself, with [`Digest::then_record`].

use rookery_wire::SessionId;
use rookery_wire::digest::{Digest, DigestAt, DigestReply};
use rookery_wire::reply::Page;
use rookery_wire::request::{Consistency, Direction};
use serde::{Deserialize, Serialize};

use crate::client::{Client, mismatch};
use crate::command::{Answer, Question};
use crate::error::ClientError;

/// Records asked for in one page.
const PAGE: u32 = 1000;
/// How often it is begun anew when messages are trimmed while they are read.
const ATTEMPTS: u32 = 3;

/// A history that was verified up to a seq: whoever keeps this verifies only what came after it, and sees a change of what
/// was before it all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Up to and including this record.
    pub seq: u64,
    /// The digest there.
    pub digest: Digest,
}

/// What [`Client::verify`] and [`Client::verify_after`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The first record that was read.
    pub from_seq: u64,
    /// The digest of the records that were read, and the last of them.
    pub proof: Proof,
    /// The digest that the cluster holds there.
    pub cluster: Digest,
    /// The first difference stands among these records, both inclusive; none if there is none.
    pub differs: Option<(u64, u64)>,
}

/// A running digest over pages.
struct Running {
    from_seq: u64,
    at: Proof,
    /// At the beginning, and at the end of every page.
    marks: Vec<Proof>,
}

impl Client {
    /// The digest of a session at `seq`, 0 for the last record there is.
    ///
    /// # Errors
    /// As [`Client::members`]; `NOT_KEPT` and `BEYOND_END` among the refusals.
    pub async fn digest(
        &self,
        session: &SessionId,
        seq: u64,
        consistency: Consistency,
    ) -> Result<DigestReply, ClientError> {
        let ask = DigestAt { session: session.clone(), seq, consistency };
        match self.ask(Question::Digest(ask)).await? {
            Answer::Digest(reply) => Ok(reply),
            other => Err(mismatch(&other)),
        }
    }

    /// Verifies what came to a session since this device last verified it, or all of it: reads it, computes the digest from
    /// the records alone, on from the one that was proved, and compares that with the cluster's. What was proved is kept in
    /// the device's memory, so that a change of what was before it is seen all the same.
    ///
    /// # Errors
    /// As [`Client::verify_after`].
    pub async fn verify(&self, session: &SessionId) -> Result<Verified, ClientError> {
        let verified = self.verify_after(session, self.shared.proof(session)).await?;
        if verified.differs.is_none() {
            self.shared.proved(session, verified.proof);
        }
        Ok(verified)
    }

    /// The same from the end of `known` on, or of all that may be read, and nothing is kept.
    ///
    /// # Errors
    /// As [`Client::members`]; [`ClientError::Protocol`] when pages have gaps. A difference is no error.
    pub async fn verify_after(
        &self,
        session: &SessionId,
        known: Option<Proof>,
    ) -> Result<Verified, ClientError> {
        let mut attempt = 1;
        loop {
            match self.verify_once(session, known).await {
                Err(Fault::Trimmed) if attempt < ATTEMPTS => attempt += 1,
                Err(Fault::Trimmed) => {
                    let text = format!("messages of {session} were trimmed while they were read");
                    return Err(ClientError::Protocol(text));
                }
                Err(Fault::Client(fault)) => return Err(fault),
                Ok(verified) => return Ok(verified),
            }
        }
    }

    async fn verify_once(&self, session: &SessionId, known: Option<Proof>) -> Result<Verified, Fault> {
        let end = self.digest(session, 0, Consistency::Linearizable).await?;
        if let Some(proof) = known.filter(|known| known.seq > end.seq) {
            // A session does not get shorter: its end was read linearizably then and now.
            let differs = Some((end.seq + 1, proof.seq));
            return Ok(Verified { from_seq: proof.seq + 1, proof, cluster: end.digest, differs });
        }
        let known = known.filter(|known| known.seq + 1 >= end.first_seq);
        if let Some(known) = known {
            let cluster = self.cluster_at(session, known.seq).await?;
            if cluster != known.digest {
                let differs = Some((end.first_seq.min(known.seq), known.seq));
                return Ok(Verified { from_seq: known.seq + 1, proof: known, cluster, differs });
            }
        }
        let mut running = self.begin(session, known, &end).await?;
        while running.at.seq < end.seq {
            let page = self.page(session, running.at.seq + 1, end.seq).await?;
            running.take(&page, end.seq)?;
        }
        let differs = match running.at.digest == end.digest {
            true => None,
            false => Some(self.first_difference(session, &running.marks).await?),
        };
        Ok(Verified { from_seq: running.from_seq, proof: running.at, cluster: end.digest, differs })
    }

    /// Where the reading begins: after what is known, else before the first record that the user may read.
    async fn begin(
        &self,
        session: &SessionId,
        known: Option<Proof>,
        end: &DigestReply,
    ) -> Result<Running, Fault> {
        if let Some(known) = known {
            return Ok(Running { from_seq: known.seq + 1, at: known, marks: vec![known] });
        }
        // What the user has cleared is not read, though it is kept.
        let page = self.page(session, end.first_seq, end.seq).await?;
        let first = page.records.first().map_or(end.seq + 1, |record| record.seq);
        let digest = match first {
            1 => Digest::begin(session),
            first if first == end.first_seq => end.before,
            first => self.cluster_at(session, first - 1).await?,
        };
        let at = Proof { seq: first - 1, digest };
        Ok(Running { from_seq: first, at, marks: vec![at] })
    }

    /// The pages are those of the node that is connected, if it has got so far; the digests are the leader's.
    async fn page(&self, session: &SessionId, from: u64, last: u64) -> Result<Page, Fault> {
        Ok(self.pull(session, from, Direction::Forward, PAGE, Consistency::AtLeast(last)).await?)
    }

    async fn cluster_at(&self, session: &SessionId, seq: u64) -> Result<Digest, Fault> {
        if seq == 0 {
            return Ok(Digest::begin(session));
        }
        Ok(self.digest(session, seq, Consistency::Linearizable).await?.digest)
    }

    /// The page of the first difference, by halving: the first mark agrees, the last one does not.
    async fn first_difference(&self, session: &SessionId, marks: &[Proof]) -> Result<(u64, u64), Fault> {
        let (mut alike, mut differ) = (0, marks.len() - 1);
        while differ - alike > 1 {
            let middle = alike + (differ - alike) / 2;
            if self.cluster_at(session, marks[middle].seq).await? == marks[middle].digest {
                alike = middle;
            } else {
                differ = middle;
            }
        }
        Ok((marks[alike].seq + 1, marks[differ].seq))
    }
}

impl Running {
    fn take(&mut self, page: &Page, last: u64) -> Result<(), Fault> {
        let next = self.at.seq + 1;
        if page.first_seq > next {
            return Err(Fault::Trimmed);
        }
        for record in page.records.iter().take_while(|record| record.seq <= last) {
            if record.seq != self.at.seq + 1 {
                return Err(gap(&page.session, self.at.seq + 1));
            }
            self.at = Proof { seq: record.seq, digest: self.at.digest.then_record(record) };
        }
        if self.at.seq < next {
            return Err(gap(&page.session, next));
        }
        self.marks.push(self.at);
        Ok(())
    }
}

fn gap(session: &SessionId, seq: u64) -> Fault {
    Fault::Client(ClientError::Protocol(format!("a page of {session} has no record {seq}")))
}

enum Fault {
    Client(ClientError),
    /// Messages that were to be read are no longer kept.
    Trimmed,
}

impl From<ClientError> for Fault {
    fn from(fault: ClientError) -> Self {
        match fault {
            ClientError::Refused(body) if body.code == rookery_wire::ErrorCode::NotKept => Self::Trimmed,
            fault => Self::Client(fault),
        }
    }
}
