//! One planted fault for each rule: the judge must find nothing in a good history and the fault, named, in each of
//! the others.

use super::play::{ANN2, BOB, CID, GROUP, PAIR, good, print_of};
use super::{Harm, Rule, Standing, Verdict, judge};
use crate::check::file;
use crate::check::history::{
    DeviceIx, Dump, Entry, Fresh, History, Micros, NEVER, Outcome, Page, Seen, SessionIx, Stream, UserIx,
};

pub(super) fn expect(history: &History, rule: Rule, harm: Harm, words: &[&str]) -> Verdict {
    let verdict = judge(history);
    let hit = verdict.violations.iter().find(|found| {
        found.rule == rule && found.harm == harm && words.iter().all(|word| found.text.contains(word))
    });
    assert!(hit.is_some(), "no {rule:?}/{harm:?} with {words:?} in {:#?}", verdict.violations);
    assert_eq!(verdict.standing(), Standing::Bad);
    verdict
}

pub(super) fn dumps(history: &mut History, session: SessionIx) -> impl Iterator<Item = &mut Dump> {
    history.dumps.iter_mut().filter(move |dump| dump.session == session)
}

pub(super) fn stream(history: &mut History, device: DeviceIx) -> &mut Stream {
    history.streams.iter_mut().find(|stream| stream.device == device).unwrap()
}

#[test]
fn a_good_history_is_good() {
    let verdict = judge(&good());
    assert_eq!(verdict.violations, vec![]);
    assert_eq!(verdict.inconclusive, Vec::<String>::new());
    assert_eq!(verdict.standing(), Standing::Good);
    assert_eq!(verdict.rounds.len(), 1);
    assert!(verdict.gap_ms(50.0).unwrap() < 1.0);
}

#[test]
fn ack_gaps_are_held_against_a_bound() {
    let mut verdict = judge(&good());
    let round = verdict.rounds[0].clone();
    let gaps = |slow: &[u64]| {
        let quick = (1..=20 - slow.len() as u64).map(|at| at * 1_000);
        let gaps = quick.chain(slow.iter().copied());
        gaps.map(|ack_gap| super::RoundReport { ack_gap, ..round.clone() }).collect::<Vec<_>>()
    };
    // One of twenty may be slow, however slow; a gap of exactly the bound keeps it.
    verdict.rounds = gaps(&[1_000_000, 9_000_000]);
    verdict.hold_gap(1_000);
    assert_eq!(verdict.standing(), Standing::Good, "{:?}", verdict.too_slow);
    verdict.rounds = gaps(&[9_000_000, 1_000_100]);
    verdict.inconclusive.push("a weak run".to_owned());
    verdict.hold_gap(1_000);
    assert_eq!(verdict.standing(), Standing::Bad, "two of twenty, and a weak run is no excuse");
    let [why] = &verdict.too_slow[..] else { panic!("{:?}", verdict.too_slow) };
    for words in ["p95 of 1000.1 ms", "number 19 of 20", "1000 ms are the most"] {
        assert!(why.contains(words), "{words} in {why}");
    }
    // With few rounds it is the longest.
    let mut verdict = judge(&good());
    verdict.rounds = vec![super::RoundReport { ack_gap: 2_000_000, ..round.clone() }, round];
    verdict.hold_gap(1_999);
    assert_eq!(verdict.standing(), Standing::Bad);
    let mut verdict = Verdict::default();
    verdict.hold_gap(0);
    assert_eq!(verdict.standing(), Standing::Good, "without a round there is no gap");
}

#[test]
fn a_run_for_snapshots_without_one_proves_nothing() {
    let mut history = good();
    history.setup.snapshots = true;
    let verdict = judge(&history);
    assert_eq!(verdict.standing(), Standing::Inconclusive);
    assert_eq!(verdict.inconclusive, ["no node came back by a snapshot"]);
    history.rounds[0].snapshots = 2;
    let verdict = judge(&history);
    assert_eq!((verdict.standing(), verdict.totals.snapshots), (Standing::Good, 2));
}

#[test]
fn a_history_survives_its_file() {
    let history = good();
    let mut bytes = Vec::new();
    file::write(&history, &mut bytes).unwrap();
    assert_eq!(file::read(&bytes[..]).unwrap(), history);
    let cut = bytes.len() - 20;
    assert!(file::read(&bytes[..cut]).is_err(), "a file cut short must not be judged");
}

#[test]
fn replicas_that_differ() {
    let mut history = good();
    dumps(&mut history, GROUP).nth(1).unwrap().entries[41].print ^= 1;
    expect(&history, Rule::Replicas, Harm::Wrong, &["group:rooks seq 42", "node 2"]);
}

#[test]
fn a_replica_that_skipped_an_entry() {
    let mut history = good();
    dumps(&mut history, GROUP).nth(2).unwrap().entries.remove(99);
    expect(&history, Rule::Replicas, Harm::Lost, &["group:rooks", "node 3"]);
}

#[test]
fn a_gap_in_the_seqs() {
    let mut history = good();
    dumps(&mut history, PAIR).for_each(|dump| drop(dump.entries.remove(6)));
    expect(&history, Rule::Replicas, Harm::Lost, &["direct:ann,bob", "seq 8 stands at place 7"]);
}

#[test]
fn a_count_that_is_off() {
    let mut history = good();
    dumps(&mut history, PAIR).for_each(|dump| dump.entries[9].count += 1);
    expect(&history, Rule::Replicas, Harm::Wrong, &["seq 10", "count is 11"]);
}

#[test]
fn an_acked_send_that_is_nowhere() {
    let mut history = good();
    let last = dumps(&mut history, PAIR).map(|dump| dump.entries.pop().unwrap()).last().unwrap();
    let words = format!("acknowledged at seq {}", last.seq);
    let verdict = expect(&history, Rule::Answers, Harm::Lost, &["direct:ann,bob", &words, "in no log"]);
    assert!(verdict.lost >= 1);
}

#[test]
fn an_entry_that_nobody_sent() {
    let mut history = good();
    dumps(&mut history, PAIR).for_each(|dump| dump.entries[3].client_seq = 9_999);
    expect(&history, Rule::Entries, Harm::Wrong, &["seq 4", "nobody sent"]);
}

#[test]
fn a_send_that_is_stored_twice() {
    let mut history = good();
    dumps(&mut history, PAIR).for_each(|dump| {
        let again = Entry { seq: dump.entries.len() as u64 + 1, message_id: 5, ..dump.entries[3].clone() };
        dump.entries.push(Entry { count: dump.entries.last().unwrap().count + 1, print: 77, ..again });
    });
    let verdict = expect(&history, Rule::Entries, Harm::Doubled, &["stored at seq 4 and again at seq"]);
    assert!(verdict.doubled >= 1);
}

#[test]
fn a_refused_send_that_is_stored() {
    let mut history = good();
    history.sends[20].outcome = Outcome::Refused(403);
    expect(&history, Rule::Answers, Harm::Wrong, &["refused with code 403"]);
}

#[test]
fn an_unknown_send_may_be_there_or_not() {
    let mut history = good();
    let last = history.sends.len() - 1;
    history.sends[last].outcome = Outcome::Unknown;
    history.sends[last].done = NEVER;
    assert_eq!(judge(&history).violations, vec![]);
}

#[test]
fn a_retry_that_got_another_seq() {
    let mut history = good();
    let Outcome::Acked { seq, .. } = &mut history.retries[0].outcome else { unreachable!() };
    *seq += 1;
    expect(&history, Rule::Answers, Harm::Doubled, &["repeated at node 2"]);
}

#[test]
fn sends_of_one_device_out_of_order() {
    let mut history = good();
    let find = |entries: &[Entry]| {
        let of_bob: Vec<usize> =
            (0..entries.len()).filter(|at| entries[*at].device == Some(BOB)).take(2).collect();
        (of_bob[0], of_bob[1])
    };
    dumps(&mut history, PAIR).for_each(|dump| {
        let (a, b) = find(&dump.entries);
        let number = dump.entries[a].client_seq;
        dump.entries[a].client_seq = dump.entries[b].client_seq;
        dump.entries[b].client_seq = number;
    });
    let verdict = expect(&history, Rule::DeviceOrder, Harm::Reordered, &["bob/phone", "direct:ann,bob"]);
    assert!(verdict.reordered >= 1);
}

#[test]
fn a_record_by_someone_who_is_no_member() {
    let mut history = good();
    dumps(&mut history, GROUP).for_each(|dump| {
        dump.entries[5].sender = Some(UserIx(2));
        dump.entries[5].device = Some(CID);
    });
    expect(&history, Rule::Membership, Harm::Wrong, &["seq 6", "cid was no member"]);
}

#[test]
fn an_append_that_overtook_an_acked_one() {
    let mut history = good();
    let (early, late) = (30, 900);
    history.sends[early].invoke = history.sends[late].done + 10;
    history.sends[early].done = history.sends[late].done + 20;
    expect(&history, Rule::Linear, Harm::Reordered, &["the send at seq"]);
}

#[test]
fn a_stale_read() {
    let mut history = good();
    let page = &mut history.pages[5];
    page.records.pop();
    page.last_seq -= 1;
    expect(&history, Rule::Linear, Harm::Wrong, &["a pull that saw last seq", "bob/phone"]);
}

#[test]
fn a_page_with_a_hole() {
    let mut history = good();
    history.pages[3].records.remove(4);
    expect(&history, Rule::Pages, Harm::Lost, &["page pulled forward", "follows seq"]);
}

#[test]
fn a_page_of_other_bytes() {
    let mut history = good();
    history.pages[3].records[2].1 ^= 4;
    expect(&history, Rule::Pages, Harm::Wrong, &["is not what the log holds"]);
}

#[test]
fn a_page_beyond_the_final_log() {
    let mut history = good();
    history.pages[3].last_seq += 5_000;
    expect(&history, Rule::Pages, Harm::Lost, &["the log ends at"]);
}

#[test]
fn a_doubled_and_a_reordered_push() {
    let mut history = good();
    let events = &mut stream(&mut history, BOB).events;
    let doubled = events[10];
    events.insert(11, doubled);
    expect(&history, Rule::Pushes, Harm::Doubled, &["bob/phone", "was pushed seq"]);
    let mut history = good();
    let events = &mut stream(&mut history, CID).events;
    events.swap(10, 11);
    expect(&history, Rule::Pushes, Harm::Reordered, &["cid/phone", "group:rooks"]);
}

#[test]
fn a_push_of_what_never_came_to_be() {
    let mut history = good();
    let events = &mut stream(&mut history, CID).events;
    let end = (9_000_000, GROUP, Seen::Push(5_000, 12));
    events.push(end);
    expect(&history, Rule::Pushes, Harm::Lost, &["cid/phone", "seq 5000", "no replica"]);
}

#[test]
fn a_push_to_someone_who_is_no_member() {
    let mut history = good();
    stream(&mut history, CID).events.insert(0, (50, PAIR, Seen::Push(1, print_of(PAIR, 1))));
    expect(&history, Rule::Pushes, Harm::Wrong, &["cid/phone", "direct:ann,bob", "no member"]);
}

#[test]
fn a_push_that_was_skipped_in_silence() {
    let mut history = good();
    let events = &mut stream(&mut history, CID).events;
    let (_, session, Seen::Push(seq, _)) = events.remove(40) else { unreachable!() };
    assert_eq!(session, GROUP);
    let words = format!("not pushed seq {seq} and not told");
    expect(&history, Rule::Delivery, Harm::Lost, &["cid/phone", &words]);
    // The same hole, told and pulled, is in order …
    let events = &mut stream(&mut history, CID).events;
    events.insert(40, (1, GROUP, Seen::Live(seq + 1)));
    let (invoke, done) = (events[41].0, events[41].0 + 5);
    let mut page = history.pages.iter().find(|page| page.session == GROUP).unwrap().clone();
    let at = history.sends.iter().filter(|send| send.session == GROUP && send.done < invoke).count() as u64;
    page = Page { device: CID, from: seq, invoke, done, last_seq: at, max: 1, ..page };
    page.records = vec![(seq, print_of(GROUP, seq))];
    page.fresh = Fresh::AtLeast(seq);
    history.pages.push(page);
    assert_eq!(judge(&history).violations, vec![]);
    // … and told but never pulled is not.
    history.pages.pop();
    expect(&history, Rule::Delivery, Harm::Lost, &["cid/phone never got 1 messages"]);
}

#[test]
fn a_tail_that_was_never_pushed() {
    let mut history = good();
    let events = &mut stream(&mut history, BOB).events;
    events.truncate(events.len() - 3);
    expect(&history, Rule::Delivery, Harm::Lost, &["bob/phone"]);
}

#[test]
fn a_session_a_live_connection_was_never_told_of() {
    let mut history = good();
    stream(&mut history, CID).events.clear();
    expect(&history, Rule::Delivery, Harm::Lost, &["cid/phone is in it", "neither SYNC nor JOINED"]);
}

#[test]
fn an_application_that_missed_one() {
    let mut history = good();
    let at = history.handed[0].records.iter().position(|(session, seq, _)| {
        let entry = history.dumps[3].entries.get(*seq as usize - 1);
        *session == GROUP && *seq > 20 && entry.is_some_and(|entry| entry.device != Some(BOB))
    });
    let (_, seq, _) = history.handed[0].records.remove(at.unwrap());
    expect(&history, Rule::Delivery, Harm::Lost, &["bob/phone", &format!("seq {seq}")]);
}

#[test]
fn a_cursor_that_goes_back() {
    let mut history = good();
    let reads: Vec<(u64, Micros)> = history.marks.iter().map(|mark| (mark.seq, mark.done)).collect();
    let pair = history.marks[0].session;
    let sync = history.syncs.iter_mut().find(|sync| sync.invoke > reads[3].1).unwrap();
    let line = sync.lines.iter_mut().find(|line| line.session == pair).unwrap();
    line.read_seq = reads[0].0;
    expect(&history, Rule::Cursors, Harm::Wrong, &["ann", "the cursor went back"]);
}

#[test]
fn a_pushed_mark_that_goes_back() {
    let mut history = good();
    let events = &mut stream(&mut history, ANN2).events;
    events.extend([(1, PAIR, Seen::Mark(9)), (2, PAIR, Seen::Mark(8))]);
    expect(&history, Rule::Cursors, Harm::Wrong, &["ann/desk", "READ_MARK 8 after 9"]);
}

#[test]
fn a_cursor_nobody_set() {
    let mut history = good();
    history.marks[1].answer = Some((history.marks[1].seq + 1, 0));
    expect(&history, Rule::Cursors, Harm::Wrong, &["nobody had read to"]);
}

#[test]
fn an_unread_count_that_is_off() {
    let mut history = good();
    history.syncs[2].lines[1].unread += 1;
    expect(&history, Rule::Unread, Harm::Wrong, &["group:rooks", "unread", "the log says"]);
}

#[test]
fn a_list_that_leaves_out_a_session() {
    let mut history = good();
    history.syncs[4].lines.pop();
    expect(&history, Rule::Lists, Harm::Lost, &["group:rooks is missing in the SYNC of ann/phone"]);
}

#[test]
fn a_list_with_a_wrong_total() {
    let mut history = good();
    history.syncs[4].total = 3;
    expect(&history, Rule::Lists, Harm::Wrong, &["says 3 sessions in all, between 2 and 2"]);
}

#[test]
fn a_list_with_a_wrong_last_number() {
    let mut history = good();
    history.syncs[4].lines[0].last_client_seq -= 1;
    expect(&history, Rule::Lists, Harm::Wrong, &["direct:ann,bob", "last client_seq"]);
}

#[test]
fn a_list_with_a_wrong_count_of_members() {
    let mut history = good();
    history.syncs[4].lines[1].members = 2;
    expect(&history, Rule::Lists, Harm::Wrong, &["group:rooks", "2 members"]);
}

fn weak(history: &History, words: &str) {
    let verdict = judge(history);
    assert_eq!(verdict.standing(), Standing::Inconclusive, "{:#?}", verdict.violations);
    assert!(verdict.inconclusive.iter().any(|why| why.contains(words)), "{:?}", verdict.inconclusive);
}

#[test]
fn runs_that_prove_nothing() {
    let mut history = good();
    history.retries.clear();
    weak(&history, "no send was retried");
    let mut history = good();
    history.rounds[0].fault_at = history.sends[700].done + 10;
    weak(&history, "no send was in flight");
    let mut history = good();
    history.rounds[0].ended = history.sends[900].done;
    weak(&history, "acked sends, 1000 are the least");
    let mut history = good();
    history.dumps.retain(|dump| dump.node != 2);
    weak(&history, "2 of 3 replicas");
    let mut history = good();
    history.unread.push((2, PAIR, "connection refused".to_owned()));
    weak(&history, "node 2: connection refused");
    let mut history = good();
    history.bars.clear();
    history.sends.retain(|send| !matches!(send.outcome, Outcome::Refused(_)));
    weak(&history, "nothing was blocked");
    let mut history = good();
    history.marks.clear();
    history.syncs.clear();
    history.streams.iter_mut().for_each(|stream| {
        stream.events.retain(|(_, _, seen)| !matches!(seen, Seen::Mark(_)));
    });
    weak(&history, "nothing was read");
    weak(&History::default(), "no round");
}

#[test]
fn the_ack_gap_counts_clients_that_wait_in_vain() {
    let mut history = good();
    let fault_at = history.rounds[0].fault_at;
    let at = history.sends.iter().position(|send| send.invoke > fault_at).unwrap();
    history.sends[at].done = history.sends[at].invoke + 300_000;
    let who = history.sends[at].device;
    // Everything else that client does in the meantime is taken out, so that it really waits.
    let (from, to) = (history.sends[at].invoke, history.sends[at].done);
    for send in &mut history.sends {
        if send.device == who && send.invoke > from && send.invoke < to {
            send.done = to + 1;
        }
    }
    let round = judge(&history).rounds.remove(0);
    assert_eq!(round.ack_gap, 300_000);
}
