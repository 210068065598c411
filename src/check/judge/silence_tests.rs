//! What was owed and never came: answers, and news of memberships. The judge must find what is silent, and must not call
//! silence what had no time to speak.

use super::play::{BOB, CID, GROUP, PAIR, STEP, good, good_and};
use super::tests::{expect, stream};
use super::{Harm, Rule, Standing, judge};
use crate::check::history::{
    Act, Bar, Drain, FaultKind, History, Micros, NEVER, Outcome, Owing, Round, Seen, Sync, Told, UserIx,
};

const SECOND: Micros = 1_000_000;

/// The history's end: nodes were up, and what was sent was waited for, for so long.
fn drained(mut history: History, waited: Micros) -> History {
    let begun = history.rounds[0].ended;
    let ended = begun + waited;
    history.setup.grace = 5 * SECOND;
    history.setup.drain = Some(Drain { begun, ended, whole_since: Some(begun), quiet: ended + SECOND });
    history
}

fn good_for(history: &History) {
    let verdict = judge(history);
    assert_eq!(verdict.violations, vec![]);
    assert_eq!(verdict.standing(), Standing::Good, "{:?}", verdict.inconclusive);
}

fn nothing_proved(history: &History) {
    let verdict = judge(history);
    assert_eq!(verdict.violations, vec![]);
    assert_eq!(verdict.standing(), Standing::Inconclusive);
    assert!(
        verdict.inconclusive[0].contains("requests that were never answered: 1;"),
        "{:?}",
        verdict.inconclusive
    );
}

#[test]
fn a_request_without_an_answer_on_a_connection_that_lasts() {
    let owes = |waited: Micros| {
        let mut history = drained(good(), 20 * SECOND);
        let asked = history.rounds[0].ended;
        let owing = Owing { what: "a PULL from seq 3".to_owned(), asked, waited };
        stream(&mut history, BOB).owing.push(owing);
        history
    };
    // The node goes on trying for 10 s, and has 5 more.
    expect(
        &owes(15 * SECOND),
        Rule::Answers,
        Harm::Lost,
        &["a PULL from seq 3", "bob/phone waited 15000 ms"],
    );
    good_for(&owes(15 * SECOND - 1));
    // A fault meanwhile: its time begins again.
    let mut history = owes(16 * SECOND);
    let asked = history.rounds[0].ended;
    let fault = Round {
        number: 2,
        fault: FaultKind::Pause,
        fault_at: asked + SECOND,
        healed: asked + 3 * SECOND,
        ..history.rounds[0].clone()
    };
    history.rounds.push(fault);
    assert_eq!(judge(&history).violations, vec![]);
    stream(&mut history, BOB).owing[0].waited = 18 * SECOND;
    expect(&history, Rule::Answers, Harm::Lost, &["bob/phone waited 18000 ms"]);
}

#[test]
fn a_send_that_is_repeated_in_vain_while_all_nodes_are_up() {
    let unknown = |waited| {
        let mut history = drained(good(), waited);
        let last = history.sends.last_mut().unwrap();
        (last.done, last.outcome) = (NEVER, Outcome::Unknown);
        history
    };
    expect(&unknown(15 * SECOND), Rule::Answers, Harm::Lost, &["was never answered", "15000 ms"]);
    // A drain that is cut short, or in which not all nodes were up, or for too short a time, says nothing.
    nothing_proved(&unknown(15 * SECOND - 1));
    let mut history = unknown(40 * SECOND);
    let drain = history.setup.drain.as_mut().unwrap();
    drain.whole_since = Some(drain.begun + 26 * SECOND);
    nothing_proved(&history);
    let drain = history.setup.drain.as_mut().unwrap();
    drain.whole_since = None;
    nothing_proved(&history);
    history.setup.drain = None;
    nothing_proved(&history);
}

#[test]
fn other_requests_that_are_asked_in_vain() {
    let mut history = drained(good(), 20 * SECOND);
    let (number, other, invoke) = (9, UserIx(0), history.rounds[0].ended);
    let answer = Told::Unknown;
    history.bars.push(Bar { device: BOB, number, other, on: true, invoke, done: NEVER, answer });
    expect(&history, Rule::Answers, Harm::Lost, &["#9 of the own acts of bob/phone was never answered"]);
    let mut history = drained(good(), 20 * SECOND);
    let mut act = history.keyed[0].clone();
    act.key = 1;
    act.hash ^= 1;
    for asking in &mut act.asked {
        (asking.done, asking.outcome) = (NEVER, Outcome::Unknown);
    }
    history.keyed.push(act);
    expect(&history, Rule::Answers, Harm::Lost, &["group:rooks: key 1 was never answered"]);
}

/// Cid has a list before he is let in.
fn with_a_list_of_cid(mut history: History) -> History {
    let (lines, unresolved) = (Vec::new(), Vec::new());
    let (invoke, done) = (1, 2);
    history.syncs.push(Sync {
        device: CID,
        epoch: 1,
        invoke,
        done,
        lines,
        unresolved,
        total: 0,
        since: false,
    });
    history
}

/// What told him that he is in the group is this.
fn told_by(mut history: History, seen: impl Fn(u64) -> Seen) -> History {
    let first = &mut stream(&mut history, CID).events[0];
    let (_, GROUP, Seen::Live(seq)) = *first else { unreachable!() };
    first.2 = seen(seq);
    history
}

#[test]
fn a_device_that_is_not_told_that_its_user_came_in() {
    let history = with_a_list_of_cid(drained(good(), 20 * SECOND));
    good_for(&told_by(history.clone(), Seen::Joined));
    assert_eq!(judge(&history).totals.told, 1, "cid's, for the others have asked for lists later only");
    // A list says so, too.
    good_for(&history);
    let words = ["group:rooks", "came into it", "cid/phone", "no JOINED"];
    let mut untold = told_by(history, Seen::Lagged);
    expect(&untold, Rule::News, Harm::Lost, &words);
    // What is asked for in the end, to be sure, is no excuse, but a push that is late is a push.
    let quiet = untold.setup.drain.unwrap().quiet;
    stream(&mut untold, CID).events.push((quiet + 1, GROUP, Seen::Live(10_000)));
    expect(&untold, Rule::News, Harm::Lost, &words);
    stream(&mut untold, CID).events.push((quiet + 2, GROUP, Seen::Joined(10_000)));
    good_for(&untold);
}

#[test]
fn a_device_that_is_not_told_that_its_user_was_let_go() {
    let removed = |waited| {
        let history = good_and(|play| {
            let _seq = play.send(BOB, GROUP, Act::Remove(vec![UserIx(2)]));
        });
        let mut history = told_by(with_a_list_of_cid(drained(history, waited)), Seen::Joined);
        for roster in &mut history.rosters {
            roster.users.pop();
            roster.total -= 1;
        }
        history
    };
    let words = ["group:rooks", "was let go", "cid/phone", "no LEFT"];
    let mut history = removed(20 * SECOND);
    expect(&history, Rule::News, Harm::Lost, &words);
    let at = history.rounds[0].ended;
    for seen in [Seen::Left, Seen::Unlisted] {
        let mut history = history.clone();
        stream(&mut history, CID).events.push((at, GROUP, seen));
        good_for(&history);
    }
    // It is of that session that it must say so.
    stream(&mut history, CID).events.push((at, PAIR, Seen::Left));
    expect(&history, Rule::News, Harm::Lost, &words);
    // Nobody knows what was on its way on a connection that was cut …
    let mut cut = history.clone();
    stream(&mut cut, CID).closed = Some(at + STEP);
    good_for(&cut);
    // … nor what there was no time for, since the change, or since the connection was told that it may have missed something.
    good_for(&removed(3 * SECOND));
    let mut behind = history.clone();
    stream(&mut behind, CID).events.push((at + 17 * SECOND, GROUP, Seen::Behind));
    good_for(&behind);
}

#[test]
fn a_history_that_is_as_long_as_it_may_be_proves_nothing() {
    let mut history = good();
    history.setup.full_at = Some(77);
    let verdict = judge(&history);
    assert_eq!(verdict.standing(), Standing::Inconclusive);
    assert!(verdict.inconclusive[0].contains("as long as it may be at 77 µs"), "{:?}", verdict.inconclusive);
}
