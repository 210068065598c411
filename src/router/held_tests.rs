//! A lane whose sessions have shares, fed by hand: who goes before whom, whatever the clock says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rookery_wire::{ErrorBody, ErrorCode};
use tokio::time::Instant;

use super::lane::{LaneLimits, LaneState, Settled, Standing};
use super::seam::{Order, Request, Waiter};
use crate::shard::Answer;

struct Nobody;
impl Waiter for Nobody {
    fn complete(&self, _answers: Vec<(u64, Answer)>) {}
}

const LIMITS: LaneLimits = LaneLimits { requests: 64, bytes: 10_000, deadline: Duration::from_secs(10) };
const HOT: u64 = 1;

struct Bench {
    lane: LaneState,
    now: Instant,
    share: usize,
}

impl Bench {
    fn new(share: usize) -> Self {
        let now = Instant::now();
        Self { lane: LaneState::new(LIMITS, 0x7777_0000_0000, now), now, share }
    }

    fn send_as(&mut self, session: u64, number: u64, quiet: bool) -> Result<(), Settled> {
        let request = Request {
            command: Bytes::from(format!("{session}:{number}")),
            order: Some(Order { sender: session, number }),
            session: Some(session),
            message: true,
            waiter: Arc::new(Nobody),
            ticket: number,
            carried: false,
        };
        self.lane.admit_as(request, Standing { quiet, share: self.share }, self.now)
    }

    fn send(&mut self, session: u64, number: u64) {
        self.send_as(session, number, false).map_err(|(_, answer)| answer).unwrap();
    }

    /// What goes out now.
    fn take(&mut self) -> Vec<(u64, String)> {
        self.lane.refill(self.share);
        let batch = self.lane.batch(self.now, 1000, 100_000);
        batch.into_iter().map(|(tag, command)| (tag, String::from_utf8(command.to_vec()).unwrap())).collect()
    }

    fn answer(&mut self, tags: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        let answers = tags.into_iter().map(|tag| (tag, Answer::Done)).collect();
        self.lane.answers(answers, self.now).quiet
    }
}

fn names(sent: &[(u64, String)]) -> Vec<&str> {
    sent.iter().map(|(_, name)| name.as_str()).collect()
}

#[test]
fn a_quiet_session_passes_what_a_hot_one_sent_beyond_its_share() {
    let mut bench = Bench::new(2);
    for number in 1..=6 {
        bench.send(HOT, number);
    }
    bench.send(2, 1);
    let sent = bench.take();
    assert_eq!(names(&sent), ["1:1", "1:2", "2:1"]);
    assert_eq!((bench.lane.held(), bench.lane.len()), (4, 7));
    assert!(bench.take().is_empty(), "nothing is answered yet");
    bench.answer([sent[0].0]);
    assert_eq!(names(&bench.take()), ["1:3"], "an answer makes room for one");
    bench.send(HOT, 7);
    bench.share = usize::MAX;
    bench.send(HOT, 8);
    assert_eq!(
        names(&bench.take()),
        ["1:4", "1:5", "1:6", "1:7", "1:8"],
        "none passes another of its session"
    );
}

#[test]
fn sessions_that_wait_take_turns() {
    let mut bench = Bench::new(1);
    for session in 1..=3 {
        for number in 1..=3 {
            bench.send(session, number);
        }
    }
    let sent = bench.take();
    assert_eq!(names(&sent), ["1:1", "2:1", "3:1"]);
    bench.share = 3;
    assert_eq!(names(&bench.take()), ["1:2", "2:2", "3:2", "1:3", "2:3", "3:3"]);
}

#[test]
fn what_waits_counts_against_the_bounds() {
    let mut bench = Bench::new(1);
    for number in 1..=64 {
        bench.send(HOT, number);
    }
    let (_, answer) = bench.send_as(HOT, 65, false).unwrap_err();
    assert!(matches!(answer, Answer::Refused(error) if error.code == ErrorCode::Busy));
    assert_eq!(bench.take().len(), 1);
}

#[test]
fn what_waits_is_given_up_at_its_own_deadline_wherever_it_waits() {
    let mut bench = Bench::new(1);
    bench.send(HOT, 1);
    bench.send(HOT, 2);
    bench.send(HOT, 3);
    let first = bench.take();
    bench.now += Duration::from_secs(4);
    bench.send(2, 1);
    bench.answer([first[0].0]);
    assert_eq!(names(&bench.take()), ["2:1", "1:2"], "an older one is behind a younger one now");
    bench.now += Duration::from_secs(6);
    let given_up = bench.lane.expire(bench.now);
    let tickets: BTreeSet<_> =
        given_up.iter().map(|(request, _)| (request.session, request.ticket)).collect();
    assert_eq!(tickets, BTreeSet::from([(Some(HOT), 2), (Some(HOT), 3)]));
    assert_eq!((bench.lane.len(), bench.lane.held()), (1, 0));
    bench.send(HOT, 4);
    bench.send(HOT, 5);
    let stopped = bench.lane.drain(&ErrorBody::new(ErrorCode::ShuttingDown, "stop"));
    assert_eq!(stopped.len(), 3);
    assert_eq!((bench.lane.len(), bench.lane.bytes(), bench.lane.held()), (0, 0, 0));
}

#[test]
fn how_long_quiet_requests_took_is_told_of_them_alone() {
    let mut bench = Bench::new(8);
    bench.send(HOT, 1);
    bench.send_as(2, 1, true).map_err(|(_, answer)| answer).unwrap();
    let sent = bench.take();
    bench.now += Duration::from_millis(7);
    assert_eq!(bench.answer(sent.iter().map(|(tag, _)| *tag)), [Duration::from_millis(7)]);
}

#[test]
fn whatever_comes_each_session_keeps_its_order_and_its_share() {
    for seed in 0..200_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut bench = Bench::new(1 + draw(4) as usize);
        let (mut next, mut out) = (BTreeMap::new(), BTreeMap::new());
        let mut under_way: Vec<(u64, u64)> = Vec::new();
        for step in 0..400 {
            let quiet_down = step > 300;
            if !quiet_down && bench.lane.len() < 60 {
                let session = draw(4);
                let number = next.entry(session).or_insert(0_u64);
                *number += 1;
                bench.send(session, *number);
            }
            if draw(10) == 0 {
                bench.share = 1 + draw(4) as usize;
            }
            for (tag, name) in bench.take() {
                let (session, number) = name.split_once(':').unwrap();
                let session: u64 = session.parse().unwrap();
                let last = out.entry(session).or_insert(0_u64);
                assert_eq!(
                    number.parse::<u64>().unwrap(),
                    *last + 1,
                    "seed {seed} step {step} session {session}"
                );
                *last += 1;
                under_way.push((tag, session));
                let of_it = under_way.iter().filter(|(_, other)| *other == session).count();
                assert!(of_it <= 4, "seed {seed} step {step}: {of_it} under way");
            }
            if !under_way.is_empty() && (quiet_down || draw(2) == 0) {
                let at = draw(under_way.len() as u64) as usize;
                let (tag, _) = under_way.swap_remove(at);
                bench.answer([tag]);
            }
        }
        assert_eq!(next, out, "seed {seed}: everything went out");
        assert_eq!((bench.lane.len(), bench.lane.bytes(), bench.lane.held()), (0, 0, 0), "seed {seed}");
    }
}
