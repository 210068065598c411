//! The promises, judged after the storm.
//!
//! Of every session: seqs are 1..n without a gap (G2); every acknowledged message stands once, at the seq its sender was
//! told, and nothing that nobody sent (G1, G3); the messages of a device stand in the order in which it sent them (G2); the
//! replicas of all three nodes hold the same records (G2); each member's device was given each message once, in
//! order, by push or by pull (G4).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use rookery_client::wire::request::{Consistency, Direction, Role};
use rookery_client::wire::{Record, RecordKind, SessionId};
use rookery_client::{Client, Events};

use super::cast::options;
use super::{CAST, NODES, Stage, client_addr, sessions, until};

const PAGE: u32 = 100;

type Verdict<T> = Result<T, Box<dyn std::error::Error>>;

/// Waits until everybody has ended, then reads everything from everywhere.
pub async fn judge(stage: Rc<Stage>) -> turmoil::Result {
    until(|| stage.done_hearing.get() == CAST.len()).await;
    let mut judges = Vec::new();
    for node in 1..=NODES {
        judges.push(judge_at(node).await?);
    }
    for (session, members) in sessions() {
        let (first, _) = &judges[0];
        let truth = read_all(first, &session, Consistency::Linearizable).await?;
        if truth.len() < 2 {
            return Err(format!("{session}: hardly anything was stored").into());
        }
        judge_log(&session, &truth, &stage)?;
        for (node, (client, _)) in (1..=NODES).zip(&judges) {
            let copy = replica(client, &session, truth.len()).await?;
            if copy != truth {
                return Err(format!(
                    "{session}: node {node} has another history: {}",
                    difference(&copy, &truth)
                )
                .into());
            }
        }
        members.iter().try_for_each(|name| judge_heard(name, &session, &truth, &stage))?;
    }
    for (client, _) in judges {
        client.close().await;
    }
    Ok(())
}

/// A judge that knows one node only and so reads that node's replicas.
async fn judge_at(node: u16) -> Verdict<(Client, Events)> {
    let mut options = options(&format!("judge-{node}"), vec![client_addr(node)], node.into());
    options.role = Role::Service;
    Ok(Client::connect(options).await?)
}

/// The whole log, page after page.
async fn read_all(client: &Client, session: &SessionId, how: Consistency) -> Verdict<Vec<Record>> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let from = records.len() as u64 + 1;
        let page = client.pull(session, from, Direction::Forward, PAGE, how).await?;
        if page.first_seq > 1 {
            return Err(
                format!("{session} was trimmed to {}, and nobody asked for it", page.first_seq).into()
            );
        }
        let last = page.last_seq;
        if from <= last && page.records.is_empty() {
            return Err(format!("{session}: the page from {from} of {last} is empty").into());
        }
        records.extend(page.records);
        if records.len() as u64 >= last {
            return Ok(records);
        }
    }
}

/// A node's own copy, once it has caught up; the director bounds the wait.
async fn replica(client: &Client, session: &SessionId, length: usize) -> Verdict<Vec<Record>> {
    loop {
        let page = client.pull(session, 1, Direction::Forward, 1, Consistency::Replica).await?;
        if page.last_seq >= length as u64 {
            return read_all(client, session, Consistency::Replica).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn text(record: &Record) -> String {
    String::from_utf8_lossy(&record.content.0).into_owned()
}

fn judge_log(session: &SessionId, log: &[Record], stage: &Stage) -> Verdict<()> {
    if let Some((seq, record)) = (1..).zip(log).find(|(seq, record)| record.seq != *seq) {
        return Err(format!("{session}: seq {} stands at place {seq}", record.seq).into());
    }
    let acks = stage.acks.borrow();
    let acked = acks.get(session).cloned().unwrap_or_default();
    let said: Vec<&Record> = log.iter().filter(|record| record.kind == RecordKind::CONTENT).collect();
    let stored: BTreeMap<u64, String> = said.iter().map(|record| (record.seq, text(record))).collect();
    for (seq, text) in &acked {
        if stored.get(seq) != Some(text) {
            return Err(format!(
                "{session}: '{text}' was acknowledged as {seq}, where {:?} stands",
                stored.get(seq)
            )
            .into());
        }
    }
    // Every send was acknowledged, so whatever else is there was stored twice or never sent.
    if let Some((seq, text)) = stored.iter().find(|(seq, _)| !acked.contains_key(seq)) {
        return Err(format!("{session}: '{text}' stands at {seq}, and nobody was told so").into());
    }
    in_order(session, log, &said)
}

/// What follows from the order: each sender's numbers and texts rise, ids are unique, time and counts never go back.
fn in_order(session: &SessionId, log: &[Record], said: &[&Record]) -> Verdict<()> {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for record in said {
        let text = text(record);
        let number = text
            .split_once(' ')
            .and_then(|(_, number)| number.parse().ok())
            .ok_or("a text that nobody sent")?;
        let before = last.insert(record.sender.as_str(), number).unwrap_or(0);
        if before >= number {
            return Err(format!("{session}: '{text}' at {} stands behind number {before}", record.seq).into());
        }
    }
    for pair in log.windows(2) {
        let countable = u64::from(pair[1].kind.is_countable());
        let fine = pair[0].time_ms <= pair[1].time_ms
            && pair[0].message_id != pair[1].message_id
            && pair[0].count + countable == pair[1].count;
        if !fine {
            return Err(format!(
                "{session}: time, id or count is wrong between {:?} and {:?}",
                pair[0], pair[1]
            )
            .into());
        }
    }
    Ok(())
}

fn judge_heard(name: &'static str, session: &SessionId, log: &[Record], stage: &Stage) -> Verdict<()> {
    let heard = stage.heard.borrow();
    let heard = heard.get(&(name, session.clone())).cloned().unwrap_or_default();
    let told: Vec<(u64, String)> = log.iter().map(|record| (record.seq, text(record))).collect();
    if heard == told {
        return Ok(());
    }
    let at = heard
        .iter()
        .zip(&told)
        .position(|(heard, told)| heard != told)
        .unwrap_or(told.len().min(heard.len()));
    Err(format!("{name} heard {:?} of {session} where the log has {:?}", heard.get(at), told.get(at)).into())
}

fn difference(copy: &[Record], truth: &[Record]) -> String {
    let at =
        copy.iter().zip(truth).position(|(copy, truth)| copy != truth).unwrap_or(copy.len().min(truth.len()));
    format!("{:?} instead of {:?}", copy.get(at), truth.get(at))
}

#[test]
fn the_judge_finds_what_is_planted() {
    let session = super::direct("ann", "bob");
    let stage = Stage::new();
    let say = |seq: u64, text: &str| Record {
        seq,
        message_id: seq,
        time_ms: 1,
        count: seq,
        sender: super::user("ann"),
        device: "phone".parse().expect("a name"),
        epoch: 1,
        client_seq: seq,
        kind: RecordKind::CONTENT,
        content_type: "text/plain".into(),
        content: text.into(),
        extensions: Vec::new(),
    };
    for (seq, text) in [(1, "ann 1"), (2, "ann 2")] {
        stage.acks.borrow_mut().entry(session.clone()).or_default().insert(seq, text.to_owned());
        stage.heard.borrow_mut().entry(("ann", session.clone())).or_default().push((seq, text.to_owned()));
    }
    let good = vec![say(1, "ann 1"), say(2, "ann 2")];
    let fine = |log: &[Record]| judge_log(&session, log, &stage).is_ok();
    assert!(fine(&good) && judge_heard("ann", &session, &good, &stage).is_ok());
    assert!(!fine(&good[..1]), "an acknowledged message is lost");
    assert!(!fine(&[say(1, "ann 1"), say(3, "ann 2")]), "a gap");
    assert!(!fine(&[say(1, "ann 1"), say(2, "ann 2"), say(3, "ann 2")]), "a double");
    assert!(!fine(&[say(1, "ann 2"), say(2, "ann 1")]), "the wrong order");
    assert!(judge_heard("ann", &session, &good[..1], &stage).is_err(), "a push that is not in the log");
    assert!(judge_heard("bob", &session, &good, &stage).is_err(), "a push that never came");
}
