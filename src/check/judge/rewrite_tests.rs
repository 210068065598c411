//! One planted fault for each rule of recall, edit, blocks, pushed marks and members at the end.

use rookery_wire::{ErrorCode, RecordKind};

use super::play::{ANN1, ANN2, BOB, CID, GROUP, PAIR, good, print_of};
use super::tests::{dumps, expect, stream};
use super::{Harm, Rule, judge};
use crate::check::history::{Act, Fresh, History, NEVER, Outcome, Page, Seen, SessionIx, Told, UserIx};
use crate::check::print::{Parts, content_hash};

/// Session, message and signal of the recalls, the edit before the first of them.
struct Changed {
    edit: u64,
    hers: (u64, u64),
    his: (u64, u64),
}

fn changed(history: &History) -> Changed {
    let of = |session: SessionIx, kind: RecordKind| {
        let dump = history.dumps.iter().find(|dump| dump.session == session).unwrap();
        let signal = dump.entries.iter().find(|entry| entry.kind == kind.0).unwrap();
        (signal.target.unwrap(), signal.seq)
    };
    Changed {
        edit: of(PAIR, RecordKind::EDIT).1,
        hers: of(PAIR, RecordKind::RECALL),
        his: of(GROUP, RecordKind::RECALL),
    }
}

fn send_at(history: &mut History, session: SessionIx, at: u64) -> &mut crate::check::history::Send {
    let is = |outcome: &Outcome| matches!(outcome, Outcome::Acked { seq, .. } if *seq == at);
    history.sends.iter_mut().find(|send| send.session == session && is(&send.outcome)).unwrap()
}

#[test]
fn content_that_a_replica_keeps_after_its_recall() {
    let mut history = good();
    let Changed { his: (seq, signal), .. } = changed(&history);
    let dump = dumps(&mut history, GROUP).nth(1).unwrap();
    let entry = &mut dump.entries[seq as usize - 1];
    (entry.kind, entry.mark, entry.print) = (0, 0, print_of(GROUP, seq));
    let words = [&format!("seq {seq} on node 2"), &format!("recalled at seq {signal}"), "content is kept"];
    expect(&history, Rule::Recall, Harm::Wrong, &words);
}

#[test]
fn a_tombstone_that_names_another_is_wrong_on_all_replicas_alike() {
    let mut history = good();
    let Changed { his: (seq, signal), .. } = changed(&history);
    dumps(&mut history, GROUP).for_each(|dump| dump.entries[seq as usize - 1].print ^= 1);
    expect(&history, Rule::Recall, Harm::Wrong, &[&format!("not what the signal at seq {signal} made")]);
}

#[test]
fn a_message_that_changed_without_a_signal() {
    let mut history = good();
    dumps(&mut history, GROUP).for_each(|dump| dump.entries[4].kind = RecordKind::RECALLED.0);
    expect(&history, Rule::Recall, Harm::Wrong, &["seq 5", "no signal says so"]);
}

#[test]
fn a_recall_of_what_is_another_s() {
    let mut history = good();
    let Changed { his: (seq, signal), .. } = changed(&history);
    // Cid recalls what bob has said.
    let send = send_at(&mut history, GROUP, signal);
    send.device = CID;
    let number = send.client_seq;
    dumps(&mut history, GROUP).for_each(|dump| {
        let entry = &mut dump.entries[signal as usize - 1];
        (entry.sender, entry.device, entry.client_seq) = (Some(UserIx(2)), Some(CID), number);
    });
    let words = [&format!("seq {signal}"), &format!("seq {seq}, which is another's")];
    expect(&history, Rule::Recall, Harm::Wrong, &words.map(String::as_str));
}

#[test]
fn a_second_recall_of_one_message() {
    let mut history = good();
    let Changed { edit, hers: (seq, signal), .. } = changed(&history);
    // The edit was a recall, too.
    send_at(&mut history, PAIR, edit).act = Act::Recall(seq);
    dumps(&mut history, PAIR).for_each(|dump| dump.entries[edit as usize - 1].kind = RecordKind::RECALL.0);
    let words = [&format!("seq {signal}"), &format!("was recalled at seq {edit}")];
    expect(&history, Rule::Recall, Harm::Wrong, &words.map(String::as_str));
}

/// A page of one message, as it was when it was sent.
fn page_of(history: &History, session: SessionIx, seq: u64, last_seq: u64, after: u64) -> Page {
    let is = |outcome: &Outcome| matches!(outcome, Outcome::Acked { seq, .. } if *seq == after);
    let send = history.sends.iter().find(|send| send.session == session && is(&send.outcome)).unwrap();
    Page {
        device: BOB,
        session,
        from: seq,
        backward: false,
        max: 1,
        fresh: Fresh::AtLeast(1),
        invoke: send.done + 1,
        done: send.done + 100,
        first_seq: 1,
        last_seq,
        records: vec![(seq, print_of(session, seq))],
    }
}

#[test]
fn a_page_that_shows_what_was_recalled() {
    let Changed { edit, hers: (seq, signal), .. } = changed(&good());
    // A replica that is behind may show what it was, to who asks for no more …
    let mut history = good();
    let page = page_of(&history, PAIR, seq, edit - 1, signal);
    history.pages.push(page.clone());
    assert_eq!(judge(&history).violations, vec![]);
    // … one that knows of the edit may not …
    let mut history = good();
    history.pages.push(Page { last_seq: edit, ..page.clone() });
    let words = [&format!("shows seq {seq} as it was before seq {edit}"), "bob/phone"];
    expect(&history, Rule::Recall, Harm::Wrong, &words);
    // … and who asks for all that is acknowledged is shown nothing of it whatever the page says of itself.
    let mut history = good();
    history.pages.push(Page { fresh: Fresh::Linear, ..page });
    expect(&history, Rule::Recall, Harm::Wrong, &["acknowledged before the page was asked for"]);
}

/// What is overdue is shown as gone before the entry comes by which it goes, and may be recalled instead.
#[test]
fn what_was_shown_as_gone_by_itself_may_be_recalled_after_all() {
    const LASTS_MS: u64 = 1;
    let mut history = good();
    let Changed { his: (seq, signal), .. } = changed(&history);
    let stem = dumps(&mut history, GROUP).next().unwrap().entries[seq as usize - 1].stem;
    let kind = RecordKind::EXPIRED.0;
    let gone = Parts { stem, kind, hash: content_hash(b"", b"", &[]), mark: 0 }.print();
    let send = send_at(&mut history, GROUP, seq);
    send.lasts_ms = LASTS_MS;
    let early = send.invoke + LASTS_MS * 1000;
    let mut page = page_of(&history, GROUP, seq, signal - 1, seq);
    page.records[0].1 = gone;
    (page.invoke, page.done) = (early, early + 100);
    history.pages.push(page.clone());
    assert_eq!(judge(&history).violations, vec![]);

    let mut soon = history.clone();
    soon.pages.push(Page { invoke: early - 200, done: early - 100, ..page.clone() });
    expect(&soon, Rule::Expiry, Harm::Wrong, &[&format!("seq {seq} gone"), "before its time"]);
    // Who knows of the recall shows that it was recalled.
    history.pages.push(Page { last_seq: signal, ..page });
    expect(&history, Rule::Recall, Harm::Wrong, &[&format!("as it was before seq {signal}")]);
}

#[test]
fn a_page_that_shows_a_recall_before_anybody_asked_for_it() {
    let mut history = good();
    let Changed { his: (seq, signal), .. } = changed(&history);
    let tombstone = dumps(&mut history, GROUP).next().unwrap().entries[seq as usize - 1].print;
    let mut page = page_of(&history, GROUP, seq, seq, seq);
    page.records[0].1 = tombstone;
    history.pages.push(page);
    expect(&history, Rule::Recall, Harm::Wrong, &[&format!("as it is since seq {signal}, which nobody had")]);
}

#[test]
fn a_push_of_what_its_node_has_recalled() {
    let mut history = good();
    let Changed { his: (seq, signal), .. } = changed(&history);
    // Cid's connection is at the node of ann's first.
    stream(&mut history, CID).node = 1;
    stream(&mut history, ANN1).node = 1;
    let events = &mut stream(&mut history, CID).events;
    let is_push =
        |of: u64| move |event: &(u64, SessionIx, Seen)| matches!(event.2, Seen::Push(seq, _) if seq == of);
    let late = events.iter().position(is_push(signal)).unwrap();
    let at = events[late].0;
    let push = events.iter().position(is_push(seq)).unwrap();
    // Slow, and no fault: what was asked before the recall came there was answered.
    events[push].0 = at + 50;
    events.insert(push, (at + 40, GROUP, Seen::Answered(at - 10)));
    assert_eq!(judge(&history).violations, vec![]);
    stream(&mut history, CID).events[push].2 = Seen::Answered(at + 10);
    let words = [&format!("cid/phone was pushed seq {seq}"), &format!("before seq {signal}")];
    expect(&history, Rule::Recall, Harm::Wrong, &words.map(String::as_str));
}

#[test]
fn refusals_of_recalls_that_are_not_true() {
    let refuse = |at: fn(&Changed) -> u64, session, code: ErrorCode| {
        let mut history = good();
        let signal = at(&changed(&history));
        // As if it had not come to be: the signal is another's.
        let mut again = send_at(&mut history, session, signal).clone();
        (again.client_seq, again.outcome) = (9_999, Outcome::Refused(code.number()));
        again.done = again.invoke + 1;
        history.sends.push(again);
        history
    };
    let history = refuse(|changed| changed.hers.1, PAIR, ErrorCode::NotAllowed);
    expect(&history, Rule::Recall, Harm::Wrong, &["is another's; it is not"]);
    let history = refuse(|changed| changed.hers.1, PAIR, ErrorCode::NoSuchMessage);
    expect(&history, Rule::Recall, Harm::Wrong, &["there is one"]);
    let history = refuse(|changed| changed.edit, PAIR, ErrorCode::Recalled);
    expect(&history, Rule::Recall, Harm::Wrong, &["nobody had by then"]);
    // The owner may recall what is bob's, bob himself may not recall hers.
    let history = refuse(|changed| changed.his.1, GROUP, ErrorCode::NotAllowed);
    expect(&history, Rule::Recall, Harm::Wrong, &["is another's; it is not"]);
    let mut history = refuse(|changed| changed.hers.1, PAIR, ErrorCode::NotAllowed);
    history.sends.last_mut().unwrap().device = BOB;
    assert_eq!(judge(&history).violations, vec![]);
}

#[test]
fn recalled_messages_that_are_counted_as_unread() {
    let mut history = good();
    let sync = history.syncs.iter_mut().rev().find(|sync| sync.device == ANN1).unwrap();
    sync.lines.iter_mut().find(|line| line.session == GROUP).unwrap().unread += 1;
    expect(&history, Rule::Unread, Harm::Wrong, &["group:rooks", "unread"]);
}

#[test]
fn a_message_that_enters_against_a_block() {
    // Bob wrote when the block was over; had it not been, that was wrong.
    let mut history = good();
    let end = history.bars.iter().position(|bar| !bar.on).unwrap();
    let over = history.bars.remove(end);
    expect(&history, Rule::Blocks, Harm::Wrong, &["bob wrote it, whom ann blocked"]);
    // An end that nobody knows of may have come at any time after its begin …
    history.bars.push(crate::check::history::Bar { done: NEVER, answer: Told::Unknown, ..over.clone() });
    assert_eq!(judge(&history).violations, vec![]);
    // … one that was refused never came …
    history.bars.last_mut().unwrap().answer = Told::Refused(300);
    expect(&history, Rule::Blocks, Harm::Wrong, &["bob wrote it"]);
    // … and a block without an answer may not have come.
    history.bars.pop();
    history.bars[0].done = NEVER;
    history.bars[0].answer = Told::Unknown;
    assert_eq!(judge(&history).violations, vec![]);
}

#[test]
fn a_send_that_was_begun_before_the_block_was_answered_may_enter() {
    let mut history = good();
    history.bars.retain(|bar| bar.on);
    let from = history.bars[0].done;
    // All of bob's later sends were under way by then, and nothing after them either.
    for send in history.sends.iter_mut().filter(|send| send.session == PAIR && send.invoke > from) {
        send.invoke = from;
    }
    assert_eq!(judge(&history).violations, vec![]);
}

#[test]
fn a_refusal_for_a_block_that_is_not_there() {
    let mut history = good();
    history.bars.clear();
    expect(&history, Rule::Blocks, Harm::Wrong, &["refused by the other user, who blocks nobody"]);
    let mut history = good();
    // The block was over before.
    let (on, off) = (history.bars[0].clone(), history.bars[1].clone());
    let begun =
        history.sends.iter().find(|send| matches!(send.outcome, Outcome::Refused(417))).unwrap().invoke;
    (history.bars[0].invoke, history.bars[0].done) = (begun - 400, begun - 300);
    (history.bars[1].invoke, history.bars[1].done) = (begun - 200, begun - 100);
    expect(&history, Rule::Blocks, Harm::Wrong, &["who blocks nobody"]);
    // Of the two at the same moment nobody knows which came last.
    history.bars[1].invoke = begun - 350;
    assert_eq!(judge(&history).violations, vec![]);
    assert!(on.on && !off.on);
}

#[test]
fn a_read_of_which_another_device_is_not_told() {
    let mut history = good();
    let events = &mut stream(&mut history, ANN2).events;
    let last = events.iter().rposition(|(_, _, seen)| matches!(seen, Seen::Mark(_))).unwrap();
    let told = events.remove(last);
    expect(&history, Rule::Cursors, Harm::Lost, &["ann/desk", "was told of no more than"]);
    // Unless it knows that it may have lost something …
    stream(&mut history, ANN2).events.push((told.0, SessionIx(0), Seen::Behind));
    assert_eq!(judge(&history).violations, vec![]);
    // … or was cut.
    let stream = stream(&mut history, ANN2);
    stream.events.pop();
    stream.closed = Some(told.0);
    assert_eq!(judge(&history).violations, vec![]);
}

#[test]
fn a_pushed_mark_that_nobody_set_and_a_list_behind_one() {
    let mut history = good();
    stream(&mut history, ANN2).events.push((9_000_000, GROUP, Seen::Mark(1_000)));
    expect(
        &history,
        Rule::Cursors,
        Harm::Wrong,
        &["READ_MARK 1000 pushed to ann/desk, which nobody had read to"],
    );
    // A list that was asked for after a push shows no less than that.
    let mut history = good();
    let mark = history.marks.last().unwrap().clone();
    let sync = history.syncs.last_mut().unwrap();
    sync.lines.iter_mut().find(|line| line.session == mark.session).unwrap().read_seq = 0;
    history.marks.last_mut().unwrap().done = NEVER;
    history.marks.last_mut().unwrap().answer = None;
    expect(&history, Rule::Cursors, Harm::Wrong, &["the cursor went back"]);
}

#[test]
fn a_preview_of_another_record() {
    let mut history = good();
    history.syncs[3].lines[0].last.as_mut().unwrap().0 -= 1;
    expect(&history, Rule::Lists, Harm::Wrong, &["previews a record of kind 0"]);
}

#[test]
fn members_at_the_end_that_are_not_those_of_the_log() {
    let mut history = good();
    history.rosters[1].users.pop();
    expect(&history, Rule::Membership, Harm::Lost, &["group:rooks", "node 2 lists 3 members (ann, bob)"]);
    let mut history = good();
    history.rosters[1].total = 4;
    expect(&history, Rule::Membership, Harm::Wrong, &["node 2 lists 4 members"]);
}
