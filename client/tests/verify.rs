//! A history is verified page by page, and where it differs is found by halving; what was proved is remembered.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use rookery_client::wire::digest::{Digest, DigestAt, DigestReply};
use rookery_client::wire::reply::Page;
use rookery_client::wire::request::Pull;
use rookery_client::wire::{Blob, ErrorBody, ErrorCode, Kind, Record, decode};
use rookery_client::{Client, Memory, Options, Proof, Verified};
use support::{Fake, Peer, connect, record, room, summary, within};
use tokio::task::JoinHandle;

/// What a server has: records that it shows, digests that its replicas hold, and where what is kept begins.
#[derive(Clone)]
struct Server {
    shown: Vec<Record>,
    digests: Vec<Digest>,
    first: u64,
    /// Pages and digests that were asked for.
    page: u64,
}

impl Server {
    /// So many records, as they were said.
    fn of(last: u64, first: u64) -> Self {
        let shown: Vec<Record> = (1..=last).map(record).collect();
        let mut digests = vec![Digest::begin(&room())];
        for record in &shown {
            digests.push(digests[digests.len() - 1].then_record(record));
        }
        Self { shown, digests, first, page: 20 }
    }

    /// One record is shown another way.
    fn wrong_at(mut self, seq: u64) -> Self {
        self.shown[seq as usize - 1].content = Blob::from("another");
        self
    }

    fn last(&self) -> u64 {
        self.shown.len() as u64
    }

    fn digest(&self, ask: &DigestAt) -> Result<DigestReply, ErrorBody> {
        let seq = if ask.seq == 0 { self.last() } else { ask.seq };
        if seq + 1 < self.first {
            return Err(ErrorBody::new(ErrorCode::NotKept, "trimmed").with_detail(self.first));
        }
        let at = |seq: u64| self.digests[seq as usize];
        let (digest, before) = (at(seq), at(self.first - 1));
        Ok(DigestReply { session: room(), seq, digest, first_seq: self.first, before })
    }

    /// Answers until it is stopped.
    async fn serve(self, mut peer: Peer) {
        loop {
            let frame = peer.frame().await;
            match Kind::from_number(frame.kind) {
                Some(Kind::Digest) => match self.digest(&decode(&frame.body).unwrap()) {
                    Ok(reply) => peer.send(Kind::DigestReply, frame.request_id, &reply).await,
                    Err(error) => peer.send(Kind::Error, frame.request_id, &error).await,
                },
                Some(Kind::Pull) => {
                    let pull: Pull = decode(&frame.body).unwrap();
                    let from = pull.from_seq.max(self.first);
                    let to = self.last().min(from + self.page - 1);
                    let records = self.shown[from as usize - 1..to as usize].to_vec();
                    let (first_seq, last_seq) = (self.first, self.last());
                    let page = Page { session: room(), first_seq, last_seq, records };
                    peer.send(Kind::Page, frame.request_id, &page).await;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

struct Play {
    client: Client,
    serving: JoinHandle<()>,
}

impl Play {
    async fn begin(fake: &Fake, options: Options, server: Server) -> Self {
        let connecting = connect(options);
        let last = server.last();
        let peer = fake.accept_ready(vec![summary(last, last)]).await;
        let (client, events) = within("connect", connecting).await.unwrap().unwrap();
        drop(events);
        Self { client, serving: tokio::spawn(server.serve(peer)) }
    }

    async fn end(self) {
        self.serving.abort();
        let _ = self.serving.await;
        self.client.close().await;
    }
}

async fn verified(server: Server, known: Option<Proof>) -> Verified {
    let fake = Fake::start().await;
    let play = Play::begin(&fake, fake.options(), server).await;
    let verified = within("a verdict", play.client.verify_after(&room(), known)).await.unwrap();
    play.end().await;
    verified
}

#[tokio::test]
async fn a_history_that_is_right_is_proved_from_its_records_alone() {
    let server = Server::of(211, 1);
    let found = verified(server.clone(), None).await;
    assert_eq!((found.from_seq, found.proof.seq, found.differs), (1, 211, None));
    assert_eq!((found.proof.digest, found.cluster), (server.digests[211], server.digests[211]));
    let found = verified(Server::of(211, 57), None).await;
    assert_eq!((found.from_seq, found.proof.seq, found.differs), (57, 211, None));
    let known = Proof { seq: 200, digest: server.digests[200] };
    let found = verified(Server::of(211, 57), Some(known)).await;
    assert_eq!((found.from_seq, found.proof.seq, found.differs), (201, 211, None));
    // Nothing is left of it, and nothing has come.
    let found = verified(Server::of(211, 212), None).await;
    assert_eq!((found.from_seq, found.proof.seq, found.differs), (212, 211, None));
}

#[tokio::test]
async fn the_page_of_the_first_difference_is_found() {
    for (seq, page) in [(1, (1, 20)), (20, (1, 20)), (21, (21, 40)), (133, (121, 140)), (211, (201, 211))] {
        let found = verified(Server::of(211, 1).wrong_at(seq), None).await;
        assert_eq!(found.differs, Some(page), "record {seq}");
        assert_ne!(found.proof.digest, found.cluster);
    }
}

#[tokio::test]
async fn what_was_proved_is_remembered_and_a_change_of_it_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start().await;
    let options = || {
        let mut options = fake.options();
        options.memory = Memory::File(folder.path().join("memory.json"));
        options
    };
    let play = Play::begin(&fake, options(), Server::of(50, 1)).await;
    let found = within("a verdict", play.client.verify(&room())).await.unwrap();
    assert_eq!((found.from_seq, found.proof.seq, found.differs), (1, 50, None));
    play.end().await;
    let play = Play::begin(&fake, options(), Server::of(60, 1)).await;
    let found = within("a verdict", play.client.verify(&room())).await.unwrap();
    assert_eq!((found.from_seq, found.proof.seq, found.differs), (51, 60, None));
    play.end().await;
    // The whole cluster has lost what came last, and a second look finds that too.
    for _ in 0..2 {
        let play = Play::begin(&fake, options(), Server::of(50, 1)).await;
        let found = within("a verdict", play.client.verify(&room())).await.unwrap();
        assert_eq!((found.proof.seq, found.differs), (60, Some((51, 60))));
        play.end().await;
    }
    // The whole cluster tells it another way now.
    let mut other = Server::of(70, 1).wrong_at(13);
    for seq in 13..=70 {
        other.digests[seq] = other.digests[seq - 1].then_record(&other.shown[seq - 1]);
    }
    let play = Play::begin(&fake, options(), other).await;
    let found = within("a verdict", play.client.verify(&room())).await.unwrap();
    assert_eq!(found.differs, Some((1, 60)));
    play.end().await;
}
