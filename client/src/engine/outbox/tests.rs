//! Numbering, step by step: each test plays the cluster's part by hand.

use std::sync::Arc;

use bytes::Bytes;
use rookery_wire::SessionId;
use rookery_wire::reply::Ack;
use tokio::sync::{Semaphore, oneshot};

use super::Outbox;
use crate::command::Op;
use crate::error::ClientError;

/// How long a copy may live on a node that is lost.
const HOLD: u64 = 15_000;

type Answer = oneshot::Receiver<Result<Ack, ClientError>>;

fn push(outbox: &mut Outbox, text: &'static str) -> Answer {
    let (reply, answer) = oneshot::channel();
    let op = Op::Send {
        content_type: Bytes::new(),
        content: Bytes::from_static(text.as_bytes()),
        extensions: Vec::new(),
        on_behalf_of: None,
    };
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    outbox.push(op, reply, permit, 1000);
    answer
}

/// Writes all that may be written: numbers and contents.
fn write(outbox: &mut Outbox, now: u64) -> Vec<(u64, String)> {
    let mut written = Vec::new();
    while let Some(flight) = outbox.next_to_write(now) {
        let Op::Send { content, .. } = &flight.op else { panic!("only sends here") };
        let number = flight.number;
        written.push((number, String::from_utf8(content.to_vec()).unwrap()));
        outbox.wrote(number);
    }
    written
}

fn pairs(list: &[(u64, &str)]) -> Vec<(u64, String)> {
    list.iter().map(|(number, text)| (*number, (*text).to_owned())).collect()
}

fn outbox_of(texts: &[&'static str]) -> (Outbox, Vec<Answer>) {
    let mut outbox = Outbox::default();
    let answers = texts.iter().map(|text| push(&mut outbox, text)).collect();
    (outbox, answers)
}

fn ack(outbox: &mut Outbox, number: u64) {
    let session = SessionId::group("g".parse().unwrap());
    let ack = Ack { session, client_seq: number, seq: number, message_id: 1, time_ms: 1, count: 1 };
    outbox.consumed(number).expect("in flight").answer(Ok(ack));
}

#[test]
fn numbers_follow_the_order_of_the_calls() {
    let (mut outbox, _answers) = outbox_of(&["a", "b", "c"]);
    assert_eq!(write(&mut outbox, 0), pairs(&[(1, "a"), (2, "b"), (3, "c")]));
    assert_eq!(write(&mut outbox, 0), []);
    ack(&mut outbox, 1);
    let _d = push(&mut outbox, "d");
    assert_eq!(write(&mut outbox, 0), pairs(&[(4, "d")]));
}

#[test]
fn a_cut_writes_the_same_numbers_again() {
    let (mut outbox, _answers) = outbox_of(&["a", "b", "c"]);
    write(&mut outbox, 0);
    ack(&mut outbox, 1);
    outbox.cut(5);
    assert_eq!(write(&mut outbox, 5), pairs(&[(2, "b"), (3, "c")]));
}

#[test]
fn busy_holds_back_what_is_behind_it() {
    let (mut outbox, _answers) = outbox_of(&["a", "b", "c"]);
    write(&mut outbox, 0);
    outbox.retry(1, 100);
    outbox.gap(2, 1, 0);
    outbox.gap(3, 1, 0);
    assert_eq!(write(&mut outbox, 99), []);
    assert_eq!(write(&mut outbox, 100), pairs(&[(1, "a"), (2, "b"), (3, "c")]));
}

#[test]
fn a_refusal_before_the_log_renumbers_only_when_all_is_answered() {
    let (mut outbox, _answers) = outbox_of(&["a", "b", "c"]);
    write(&mut outbox, 0);
    assert!(outbox.unused(1).is_some());
    outbox.gap(2, 1, 0);
    // "c" was written as 3 and might yet be stored as such: nothing moves.
    assert_eq!(write(&mut outbox, 500), []);
    outbox.gap(3, 1, 0);
    let _d = push(&mut outbox, "d");
    assert_eq!(write(&mut outbox, 500), pairs(&[(1, "b"), (2, "c"), (3, "d")]));
    assert_eq!(outbox.last_number(), 3);
}

#[test]
fn a_refusal_of_the_last_gives_its_number_to_the_next() {
    let (mut outbox, _answers) = outbox_of(&["a"]);
    write(&mut outbox, 0);
    outbox.unused(1);
    let _b = push(&mut outbox, "b");
    assert_eq!(write(&mut outbox, 0), pairs(&[(1, "b")]));
}

#[test]
fn two_refusals_and_one_that_stays() {
    let (mut outbox, _answers) = outbox_of(&["a", "b", "c", "d", "e"]);
    write(&mut outbox, 0);
    outbox.unused(2);
    outbox.unused(4);
    outbox.retry(1, 10);
    outbox.gap(3, 1, 0);
    outbox.gap(5, 1, 0);
    assert_eq!(write(&mut outbox, 500), pairs(&[(1, "a"), (2, "c"), (3, "e")]));
}

#[test]
fn a_refusal_that_did_use_the_number_after_all() {
    let (mut outbox, _answers) = outbox_of(&["a", "b", "c"]);
    write(&mut outbox, 0);
    outbox.unused(1);
    ack(&mut outbox, 2);
    outbox.retry(3, 0);
    assert_eq!(write(&mut outbox, 500), pairs(&[(3, "c")]));
}

#[test]
fn a_cluster_that_expects_less_is_followed() {
    let mut outbox = Outbox::default();
    outbox.raise(9);
    let _a = push(&mut outbox, "a");
    let _b = push(&mut outbox, "b");
    assert_eq!(write(&mut outbox, 0), pairs(&[(10, "a"), (11, "b")]));
    outbox.gap(10, 4, 0);
    outbox.gap(11, 4, 0);
    assert_eq!(write(&mut outbox, 500), pairs(&[(4, "a"), (5, "b")]));
}

#[test]
fn a_gap_answer_that_was_overtaken_moves_nothing() {
    let (mut outbox, _answers) = outbox_of(&["a", "b"]);
    write(&mut outbox, 0);
    ack(&mut outbox, 1);
    outbox.gap(2, 1, 0);
    assert_eq!(write(&mut outbox, 500), pairs(&[(2, "b")]));
    // A cluster that insists is believed.
    outbox.gap(2, 1, 500);
    assert_eq!(write(&mut outbox, 1000), pairs(&[(2, "b")]));
    outbox.gap(2, 1, 1000);
    assert_eq!(write(&mut outbox, 2000), pairs(&[(1, "b")]));
}

#[test]
fn a_cut_before_renumbering_rests_until_old_requests_are_dead() {
    let (mut outbox, _answers) = outbox_of(&["a", "b"]);
    write(&mut outbox, 0);
    outbox.cut(7 + HOLD);
    assert_eq!(write(&mut outbox, 8), pairs(&[(1, "a"), (2, "b")]));
    outbox.unused(1);
    outbox.gap(2, 1, 8);
    assert_eq!(write(&mut outbox, 7 + HOLD - 1), []);
    assert_eq!(write(&mut outbox, 7 + HOLD), pairs(&[(1, "b")]));
}

#[test]
fn a_number_is_not_given_away_while_its_first_request_may_live() {
    let (mut outbox, _answers) = outbox_of(&["a"]);
    write(&mut outbox, 0);
    outbox.cut(7 + HOLD);
    assert_eq!(write(&mut outbox, 8), pairs(&[(1, "a")]));
    assert!(outbox.unused(1).is_some());
    let _b = push(&mut outbox, "b");
    assert_eq!(write(&mut outbox, 7 + HOLD - 1), []);
    assert_eq!(write(&mut outbox, 7 + HOLD), pairs(&[(1, "b")]));
    // Later ones need not wait for what is dead.
    outbox.unused(1);
    let _c = push(&mut outbox, "c");
    assert_eq!(write(&mut outbox, 8 + HOLD), pairs(&[(1, "c")]));
}

#[test]
fn a_deadline_drops_what_was_never_written_and_keeps_the_rest() {
    let (mut outbox, mut answers) = outbox_of(&["a", "b"]);
    let flight = outbox.next_to_write(0).unwrap().number;
    outbox.wrote(flight);
    assert_eq!(outbox.expire(999, "down"), 0);
    assert_eq!(outbox.expire(1000, "down"), 1);
    let mut written = |at: usize| match answers[at].try_recv().unwrap() {
        Err(ClientError::Deadline { written, .. }) => written,
        other => panic!("{other:?}"),
    };
    assert!(written(0));
    assert!(!written(1));
    // The first may be stored: its number stays its own, and it is tried on.
    let _c = push(&mut outbox, "c");
    outbox.cut(1001);
    assert_eq!(write(&mut outbox, 1001), pairs(&[(1, "a"), (2, "c")]));
}

#[test]
fn a_new_epoch_gives_back_what_may_have_been_stored() {
    let (mut outbox, _answers) = outbox_of(&["a", "b", "c"]);
    let first = outbox.next_to_write(0).unwrap().number;
    outbox.wrote(first);
    let lost = outbox.restart();
    assert_eq!(lost.len(), 1);
    assert_eq!(write(&mut outbox, 0), pairs(&[(1, "b"), (2, "c")]));
}

#[test]
fn the_clusters_word_counts_only_while_nothing_is_under_way() {
    let mut outbox = Outbox::default();
    outbox.raise(3);
    let _a = push(&mut outbox, "a");
    outbox.raise(8);
    assert_eq!(write(&mut outbox, 0), pairs(&[(4, "a")]));
}
