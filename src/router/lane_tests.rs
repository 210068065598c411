//! A lane, fed by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rookery_wire::{ErrorBody, ErrorCode, Retry};
use tokio::time::Instant;

use super::super::seam::{Order, Request, Waiter};
use super::*;

struct Nobody;
impl Waiter for Nobody {
    fn complete(&self, _answers: Vec<(u64, Answer)>) {}
}

const LIMITS: LaneLimits = LaneLimits { requests: 8, bytes: 1000, deadline: Duration::from_secs(10) };

struct Bench {
    lane: LaneState,
    start: Instant,
    ms: u64,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        Self { lane: LaneState::new(LIMITS, 0x7777_0000_0000, start), start, ms: 0 }
    }
    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms)
    }
    /// Admits a request of one device, known by its `client_seq`.
    fn send(&mut self, client_seq: u64) -> Result<(), Answer> {
        let request = Request {
            command: Bytes::from(format!("{client_seq}")),
            order: Some(Order { sender: 1, number: client_seq }),
            waiter: Arc::new(Nobody),
            ticket: client_seq,
            carried: false,
        };
        self.lane.admit(request, self.now()).map_err(|(_, answer)| answer)
    }
    /// What is sent now: tags and commands.
    fn take(&mut self) -> Vec<(u64, String)> {
        let batch = self.lane.batch(self.now(), 100, 1000);
        batch.into_iter().map(|(tag, command)| (tag, String::from_utf8(command.to_vec()).unwrap())).collect()
    }
    fn commands(&mut self) -> Vec<String> {
        self.take().into_iter().map(|(_, command)| command).collect()
    }
    fn answer(&mut self, answers: Vec<(u64, Answer)>) -> Vec<(u64, Answer)> {
        let judged = self.lane.answers(answers, self.now());
        judged.settled.into_iter().map(|(request, answer)| (request.ticket, answer)).collect()
    }
}

fn again() -> Answer {
    Answer::Again { leader: None, after_ms: 0 }
}

fn gap(expected: u64) -> Answer {
    Answer::Refused(ErrorBody::new(ErrorCode::ClientSeqGap, "gap").with_detail(expected))
}

fn code(answer: &Answer) -> Option<ErrorCode> {
    match answer {
        Answer::Refused(error) => Some(error.code),
        _ => None,
    }
}

#[test]
fn what_waits_is_sent_once_in_order() {
    let mut bench = Bench::new();
    for number in 1..=3 {
        bench.send(number).unwrap();
    }
    assert_eq!(bench.commands(), ["1", "2", "3"]);
    assert!(bench.commands().is_empty());
    bench.send(4).unwrap();
    assert_eq!(bench.commands(), ["4"]);
}

#[test]
fn batches_keep_their_bounds_and_hold_at_least_one() {
    let mut bench = Bench::new();
    for number in 1..=5 {
        bench.send(number).unwrap();
    }
    let now = bench.now();
    assert_eq!(bench.lane.batch(now, 2, 1000).len(), 2);
    assert_eq!(bench.lane.batch(now, 100, 2).len(), 2);
    assert_eq!(bench.lane.batch(now, 100, 0).len(), 1, "one larger than the bound still goes");
    assert!(bench.lane.batch(now, 100, 0).is_empty());
}

#[test]
fn answers_settle_in_any_order_and_only_once() {
    let mut bench = Bench::new();
    for number in 1..=3 {
        bench.send(number).unwrap();
    }
    let sent = bench.take();
    assert_eq!(bench.answer(vec![(sent[1].0, Answer::Done)]), [(2, Answer::Done)]);
    assert!(bench.answer(vec![(sent[1].0, Answer::Done)]).is_empty());
    assert_eq!(bench.lane.len(), 2);
    let rest = bench.answer(vec![(sent[2].0, Answer::Done), (sent[0].0, Answer::Done)]);
    assert_eq!(rest, [(3, Answer::Done), (1, Answer::Done)]);
    assert_eq!((bench.lane.len(), bench.lane.bytes()), (0, 0));
}

#[test]
fn a_refusal_to_propose_sends_everything_from_there_again_in_order() {
    let mut bench = Bench::new();
    for number in 1..=4 {
        bench.send(number).unwrap();
    }
    let sent = bench.take();
    bench.answer(vec![(sent[0].0, Answer::Done), (sent[1].0, again())]);
    assert!(bench.commands().is_empty(), "not before a pause");
    bench.ms += 5;
    bench.send(5).unwrap();
    assert_eq!(bench.commands(), ["2", "3", "4", "5"]);
}

#[test]
fn pauses_grow_while_it_is_refused_and_a_hint_is_kept() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let sent = bench.take();
        bench.answer(vec![(sent[0].0, again())]);
        let mut pause = 0;
        while !bench.lane.wants_to_send(bench.now()) {
            bench.ms += 1;
            pause += 1;
        }
        pauses.push(pause);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 160]);
    let sent = bench.take();
    bench.answer(vec![(sent[0].0, Answer::Again { leader: None, after_ms: 400 })]);
    bench.ms += 399;
    assert!(bench.commands().is_empty(), "the shard asked for 400 ms");
    bench.ms += 1;
    assert_eq!(bench.commands(), ["1"]);
}

#[test]
fn a_new_leader_is_sent_everything_unanswered_at_once() {
    let mut bench = Bench::new();
    for number in 1..=3 {
        bench.send(number).unwrap();
    }
    let sent = bench.take();
    bench.answer(vec![(sent[1].0, Answer::Done)]);
    let now = bench.now();
    bench.lane.resend_all(now);
    assert_eq!(bench.commands(), ["1", "3"]);
    // A late answer of the old leader is as good as any other.
    assert_eq!(bench.answer(vec![(sent[0].0, Answer::Done)]).len(), 1);
}

#[test]
fn who_is_named_as_leader_is_asked_at_once_and_the_next_one_after_a_pause() {
    let named = |leader| Answer::Again { leader: Some(leader), after_ms: 0 };
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    // One names the other and that one the first, as while a lead is handed over.
    let first = bench.take();
    bench.answer(vec![(first[0].0, named(2))]);
    let second = bench.take();
    assert_eq!(second.len(), 1, "the one who was named, at once");
    bench.answer(vec![(second[0].0, named(1))]);
    let now = bench.now();
    bench.lane.resend_all(now);
    assert!(bench.commands().is_empty(), "not to and fro without a pause");
    bench.ms += 5;
    let third = bench.take();
    bench.answer(vec![(third[0].0, named(2))]);
    bench.ms += 5;
    assert!(bench.commands().is_empty(), "the pause has grown");
    // The replica here learns who leads.
    bench.lane.news();
    let fourth = bench.take();
    assert_eq!(bench.answer(vec![(fourth[0].0, Answer::Done)]).len(), 1);
    bench.send(2).unwrap();
    let other = bench.take();
    bench.answer(vec![(other[0].0, named(3))]);
    assert_eq!(bench.commands(), ["2"], "after an answer the next leader is asked at once again");
}

#[test]
fn a_gap_behind_something_on_its_way_is_not_final() {
    let mut bench = Bench::new();
    bench.send(7).unwrap();
    bench.send(8).unwrap();
    let sent = bench.take();
    // 7 was not proposed, 8 was and found a gap: both again, in order.
    assert!(bench.answer(vec![(sent[1].0, gap(7)), (sent[0].0, again())]).is_empty());
    bench.ms += 10;
    let second = bench.take();
    assert_eq!(second.iter().map(|(_, command)| command.as_str()).collect::<Vec<_>>(), ["7", "8"]);
    assert_eq!(bench.answer(vec![(second[0].0, Answer::Done)]).len(), 1);
    // 7 is answered; the first answer to 8 may still be on its way and must not count.
    assert!(bench.answer(vec![(sent[1].0, gap(7))]).is_empty());
    assert_eq!(bench.answer(vec![(second[1].0, Answer::Done)]), [(8, Answer::Done)]);
}

#[test]
fn a_gap_of_the_clients_own_making_is_final() {
    let mut bench = Bench::new();
    bench.send(9).unwrap();
    bench.send(7).unwrap();
    let sent = bench.take();
    let settled = bench.answer(vec![(sent[0].0, gap(7)), (sent[1].0, Answer::Done)]);
    assert_eq!(settled.len(), 2);
    assert_eq!(code(&settled[0].1), Some(ErrorCode::ClientSeqGap), "7 came after 9");
}

#[test]
fn a_late_refusal_to_an_earlier_attempt_is_nothing_new() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    let first = bench.take();
    let now = bench.now();
    bench.lane.resend_all(now);
    let second = bench.take();
    assert_ne!(first[0].0, second[0].0);
    bench.answer(vec![(first[0].0, again())]);
    bench.ms += 1000;
    assert!(bench.commands().is_empty(), "the second attempt is out");
}

/// The repeat may come after the group was created, and be stored.
#[test]
fn that_there_is_no_session_is_said_by_the_last_attempt_alone() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    let first = bench.take();
    bench.lane.resend_all(bench.now());
    let second = bench.take();
    let none = || Answer::Refused(ErrorBody::new(ErrorCode::NoSuchSession, "there is none"));
    assert!(bench.answer(vec![(first[0].0, none())]).is_empty());
    assert!(bench.commands().is_empty(), "the second attempt is out");
    assert_eq!(bench.answer(vec![(second[0].0, Answer::Done)]), [(1, Answer::Done)]);
    bench.send(2).unwrap();
    let only = bench.take();
    let settled = bench.answer(vec![(only[0].0, none())]);
    assert_eq!(code(&settled[0].1), Some(ErrorCode::NoSuchSession));
}

#[test]
fn given_up_at_the_deadline_and_not_before() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    bench.ms = 10;
    bench.send(2).unwrap();
    bench.take();
    bench.ms = 9_999;
    assert!(bench.lane.expire(bench.now()).is_empty());
    bench.ms = 10_000;
    let now = bench.now();
    let expired = bench.lane.expire(now);
    assert_eq!(expired.len(), 1);
    assert_eq!(code(&expired[0].1), Some(ErrorCode::Unavailable));
    assert_eq!(bench.lane.len(), 1);
}

#[test]
fn silence_sends_again_with_growing_patience() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    bench.take();
    let mut waits = Vec::new();
    for _ in 0..4 {
        let from = bench.ms;
        while !bench.lane.silence(bench.now()) {
            bench.ms += 10;
        }
        waits.push(bench.ms - from);
        assert_eq!(bench.commands(), ["1"]);
    }
    assert_eq!(waits, [300, 600, 1200, 2400]);
}

#[test]
fn one_lost_answer_among_many_is_noticed() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    bench.take();
    let mut number = 2;
    while !bench.lane.silence(bench.now()) {
        bench.send(number).unwrap();
        let sent = bench.take();
        bench.answer(vec![(sent[0].0, Answer::Done)]);
        bench.ms += 100;
        number += 1;
        assert!(bench.ms <= 2_000, "never noticed");
    }
    assert_eq!(bench.commands(), ["1"]);
}

#[test]
fn bounds_answer_busy_with_a_hint() {
    let mut bench = Bench::new();
    for number in 1..=8 {
        bench.send(number).unwrap();
    }
    let Err(Answer::Refused(error)) = bench.send(9) else { panic!("admitted beyond the bound") };
    assert_eq!(error.code, ErrorCode::Busy);
    assert!(matches!(error.retry, Retry::After(ms) if ms > 0));
    let sent = bench.take();
    bench.answer(vec![(sent[7].0, Answer::Done)]);
    bench.send(9).unwrap();
    assert_eq!(bench.commands(), ["9"]);
}

#[test]
fn answered_places_behind_a_stuck_request_are_bounded() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    bench.take();
    let mut admitted = 0;
    for number in 2..1000 {
        if bench.send(number).is_err() {
            break;
        }
        admitted += 1;
        let sent = bench.take();
        bench.answer(vec![(sent[0].0, Answer::Done)]);
    }
    assert_eq!(admitted, 8 * 4 - 1);
}

#[test]
fn answers_for_another_life_of_the_node_find_nothing() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    let sent = bench.take();
    assert!(bench.answer(vec![(0, Answer::Done), (sent[0].0 + 0x1_0000, Answer::Done)]).is_empty());
    assert_eq!(bench.lane.len(), 1);
}

#[test]
fn stopping_answers_everything() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    bench.send(2).unwrap();
    bench.take();
    let error = ErrorBody::new(ErrorCode::ShuttingDown, "bye");
    assert_eq!(bench.lane.drain(&error).len(), 2);
    assert!(bench.lane.is_empty());
    bench.send(3).unwrap();
    assert_eq!(bench.commands(), ["3"]);
}

fn low() -> Answer {
    Answer::Refused(ErrorBody::new(ErrorCode::DiskLow, "low"))
}

#[test]
fn a_leader_without_disk_is_given_the_time_to_hand_over() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    let sent = bench.take();
    assert!(bench.answer(vec![(sent[0].0, low())]).is_empty());
    bench.ms += 1000;
    let sent = bench.take();
    assert_eq!(bench.answer(vec![(sent[0].0, Answer::Done)]), [(1, Answer::Done)], "another leads now");

    bench.send(2).unwrap();
    let mut told = Vec::new();
    for _ in 0..60 {
        let sent = bench.take();
        told = bench.answer(sent.into_iter().map(|(tag, _)| (tag, low())).collect());
        bench.ms += 200;
    }
    assert!(told.is_empty() && bench.lane.is_empty(), "told once, long before the deadline");
}

#[test]
fn disk_low_is_not_said_of_what_may_be_stored() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    let sent = bench.take();
    // Unknown: it may have been appended by a leader that is gone.
    assert!(bench.answer(vec![(sent[0].0, again())]).is_empty());
    for _ in 0..30 {
        bench.ms += 200;
        let sent = bench.take();
        let told = bench.answer(sent.into_iter().map(|(tag, _)| (tag, low())).collect());
        assert!(told.is_empty(), "its deadline decides, with UNAVAILABLE");
    }
}

fn full() -> Answer {
    Answer::Refused(ErrorBody::new(ErrorCode::Busy, "full").with_retry(Retry::After(250)))
}

impl Bench {
    /// Everything that is sent now is refused, for a while; what was given back meanwhile, and after how many milliseconds.
    fn refuse_all(&mut self, rounds: u64, answer: fn() -> Answer) -> Vec<(u64, u64, Answer)> {
        let (begun, mut told) = (self.ms, Vec::new());
        for _ in 0..rounds {
            let sent = self.take();
            let settled = self.answer(sent.into_iter().map(|(tag, _)| (tag, answer())).collect());
            told.extend(settled.into_iter().map(|(number, answer)| (number, self.ms - begun, answer)));
            self.ms += 100;
        }
        told
    }
}

#[test]
fn a_full_journal_is_given_a_moment_and_then_busy_is_the_answer() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    assert!(bench.refuse_all(5, full).is_empty(), "a hitch");
    let sent = bench.take();
    assert_eq!(bench.answer(vec![(sent[0].0, Answer::Done)]), [(1, Answer::Done)]);

    bench.send(2).unwrap();
    bench.send(3).unwrap();
    let told = bench.refuse_all(30, full);
    assert_eq!(told.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [2, 3]);
    for (_, after, answer) in &told {
        assert!((1000..=1200).contains(after), "after {after} ms, and the deadline is 10 s");
        let Answer::Refused(error) = answer else { panic!("{answer:?}") };
        assert_eq!((error.code, error.retry), (ErrorCode::Busy, Retry::After(250)));
    }
    assert!(bench.lane.is_empty());
}

#[test]
fn busy_is_not_said_of_what_may_be_stored() {
    // Its outcome is unknown to a leader that is gone; or no answer came at all.
    for answered in [true, false] {
        let mut bench = Bench::new();
        bench.send(1).unwrap();
        let sent = bench.take();
        if answered {
            assert!(bench.answer(vec![(sent[0].0, again())]).is_empty());
        } else {
            bench.lane.resend_all(bench.now());
        }
        bench.ms += 200;
        assert!(bench.refuse_all(80, full).is_empty(), "its deadline decides, with UNAVAILABLE");
        bench.ms = 10_000;
        assert_eq!(code(&bench.lane.expire(bench.now())[0].1), Some(ErrorCode::Unavailable));
    }
}

#[test]
fn only_the_answer_to_the_last_attempt_says_that_there_is_no_room() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    let first = bench.take();
    bench.lane.resend_all(bench.now());
    let second = bench.take();
    assert!(bench.answer(vec![(first[0].0, full())]).is_empty());
    assert!(bench.commands().is_empty(), "an answer that is late sends nothing again");
    assert_eq!(bench.answer(vec![(second[0].0, Answer::Done)]), [(1, Answer::Done)]);
}

#[test]
fn disk_and_journal_may_take_turns_in_having_no_room() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    assert!(bench.refuse_all(15, low).is_empty());
    let told = bench.refuse_all(10, full);
    assert_eq!(told.len(), 1, "nothing of it was ever appended");
    assert_eq!(code(&told[0].2), Some(ErrorCode::Busy));
}

#[test]
fn what_comes_behind_a_number_that_found_the_journal_full_is_turned_away_for_a_moment() {
    let mut bench = Bench::new();
    bench.send(1).unwrap();
    assert_eq!(bench.refuse_all(12, full).len(), 1);
    assert_eq!(code(&bench.send(2).unwrap_err()), Some(ErrorCode::Busy), "it would only be a gap");
    bench.send(1).unwrap();
    bench.send(2).unwrap();
    assert_eq!(bench.commands(), ["1", "2"]);
}

#[test]
fn behind_a_number_that_was_turned_away_there_is_no_room_either() {
    let mut bench = Bench::new();
    for number in 1..=8 {
        bench.send(number).unwrap();
    }
    assert_eq!(code(&bench.send(9).unwrap_err()), Some(ErrorCode::Busy));
    let tags: Vec<u64> = bench.take().into_iter().map(|(tag, _)| tag).collect();
    bench.answer(tags[..4].iter().map(|tag| (*tag, Answer::Done)).collect());
    // Four places are free: 10 would only be a gap, 9 opens the way for it.
    assert_eq!(code(&bench.send(10).unwrap_err()), Some(ErrorCode::Busy));
    bench.send(9).unwrap();
    bench.send(10).unwrap();
    // Nobody is held up for long: the device may have gone on elsewhere.
    bench.send(11).unwrap();
    bench.send(12).unwrap();
    assert!(bench.send(13).is_err());
    bench.answer(tags[4..].iter().map(|tag| (*tag, Answer::Done)).collect());
    assert!(bench.send(14).is_err());
    bench.ms = 600;
    bench.send(14).unwrap();
}

#[test]
fn a_word_between_shards_has_room_in_a_full_lane() {
    let mut bench = Bench::new();
    for number in 1..=8 {
        bench.send(number).unwrap();
    }
    assert!(bench.send(9).is_err());
    let request = Request {
        command: Bytes::from("word"),
        order: None,
        waiter: Arc::new(Nobody),
        ticket: 0,
        carried: true,
    };
    assert!(bench.lane.admit(request, bench.now()).is_ok(), "the eight may be waiting for it");
    assert!(bench.send(9).is_err());
    assert_eq!(bench.commands().last().map(String::as_str), Some("word"));
}

#[test]
fn everybody_who_waits_is_called_once_with_what_is_his_in_order() {
    #[derive(Default)]
    struct Calls(parking_lot::Mutex<Vec<Vec<u64>>>);
    impl Waiter for Calls {
        fn complete(&self, answers: Vec<(u64, Answer)>) {
            self.0.lock().push(answers.into_iter().map(|(ticket, _)| ticket).collect());
        }
    }
    let waiters: [Arc<Calls>; 3] = Default::default();
    let settled = |(ticket, who): (u64, usize)| {
        let waiter = Arc::clone(&waiters[who]) as Arc<dyn Waiter>;
        (Request { command: Bytes::new(), order: None, waiter, ticket, carried: false }, Answer::Done)
    };
    let order = [(1, 0), (2, 0), (3, 1), (4, 0), (5, 2), (6, 2), (7, 1), (8, 0)];
    complete(order.into_iter().map(settled).collect());
    let calls = waiters.each_ref().map(|waiter| waiter.0.lock().clone());
    assert_eq!(calls, [vec![vec![1, 2, 4, 8]], vec![vec![3, 7]], vec![vec![5, 6]]]);
    complete(Vec::new());
}
