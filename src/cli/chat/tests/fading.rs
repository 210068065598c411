//! Messages that go: recalled, expired, burnt, cleared, deleted. None of them is shown or counted as unread any longer.

use std::time::Duration;

use rookery_client::wire::live::Receipt;
use rookery_client::wire::own::{SessionSettings, Settings};
use rookery_client::wire::reply::ReadMark;
use rookery_client::wire::{Record, RecordKind, SessionId, Target, encode};
use rookery_client::{Event, Goes, Outgoing};

use super::super::acts::{About, Action, Outcome};
use super::super::conversation::Body;
use super::super::state::Chat;
use super::{
    MINUTE, NOON, ack, actions, bob, chat, message, page, record, screen, shows, summary, synced, team, typed,
};

const SECOND: Duration = Duration::from_secs(1);

fn burning(seq: u64, sender: &str, time: Duration) -> Record {
    let mut burns = record(seq, sender, "for your eyes");
    burns.extensions = Outgoing::text("").burning(time).extensions;
    burns
}

fn lasting(seq: u64, sender: &str, time: Duration) -> Record {
    let mut lasts = record(seq, sender, "for a while");
    (lasts.extensions, lasts.time_ms) = (Outgoing::text("").lasting(time).extensions, NOON);
    lasts
}

fn recall(seq: u64, by: &str, target: u64, count: u64) -> Record {
    let mut signal = record(seq, by, "");
    (signal.kind, signal.count) = (RecordKind::RECALL, count);
    signal.content = encode(&Target { seq: target }).into();
    signal
}

fn shown(chat: &Chat, session: &SessionId, seq: u64) -> String {
    match &chat.sessions[session].entries[&seq].body {
        Body::Text(text) | Body::Other(text) | Body::Signal(text) => text.clone(),
    }
}

fn receipt(chat: &mut Chat, seq: u64) {
    chat.event(Event::Receipt(Receipt { session: bob(), user: "bob".parse().unwrap(), seq }));
}

fn read(chat: &mut Chat, session: SessionId, seq: u64, count: u64) {
    let mark = ReadMark { session: session.clone(), seq, count };
    chat.outcome(Outcome::About(session, About::Read(Ok(mark))));
}

#[test]
fn what_another_wrote_to_burn_goes_after_it_was_read_here() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(bob(), 1, 0)]);
    message(&mut chat, bob(), burning(2, "bob", 2 * SECOND));
    chat.tick(NOON + 10 * MINUTE);
    assert_eq!(shown(&chat, &bob(), 2), "for your eyes", "nobody has read it");
    chat.open(bob());
    assert!(shows(&screen(&mut chat, 80, 20), "for your eyes · goes once read"));
    let seen = chat.take_actions();
    assert!(seen.contains(&Action::Read { session: bob(), seq: 2 }), "{seen:?}");
    // The other user's reading burns what this one wrote, and nothing else.
    receipt(&mut chat, 2);
    chat.tick(NOON + 10 * MINUTE + 60_000);
    assert_eq!(shown(&chat, &bob(), 2), "for your eyes");
    let now = chat.now_ms;
    read(&mut chat, bob(), 2, 2);
    chat.tick(now + 1_999);
    assert_eq!(shown(&chat, &bob(), 2), "for your eyes");
    assert!(shows(&screen(&mut chat, 80, 20), "for your eyes · goes at 12:11"));
    chat.tick(now + 2_000);
    assert_eq!(
        (shown(&chat, &bob(), 2).as_str(), chat.sessions[&bob()].preview.as_str()),
        ("(expired)", "(expired)")
    );
    assert!(!shows(&screen(&mut chat, 80, 20), "goes"));
}

#[test]
fn what_one_wrote_oneself_to_burn_goes_after_the_receipt() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(bob(), 1, 0)]);
    chat.open(bob());
    typed(&mut chat, "/burning 5s psst");
    let sent = actions(&mut chat);
    let id = sent.iter().find_map(|action| match action {
        Action::Send { id, goes: Goes::OnceRead(_), .. } => Some(*id),
        _ => None,
    });
    chat.outcome(Outcome::About(bob(), About::Sent(id.unwrap(), Ok(ack(bob(), 2)))));
    read(&mut chat, bob(), 2, 2);
    chat.tick(NOON + MINUTE);
    assert_eq!(shown(&chat, &bob(), 2), "psst", "one's own reading burns nothing");
    receipt(&mut chat, 1);
    chat.tick(NOON + 2 * MINUTE);
    assert_eq!(shown(&chat, &bob(), 2), "psst", "read up to before it");
    receipt(&mut chat, 2);
    chat.tick(NOON + 2 * MINUTE + 4_999);
    assert_eq!(shown(&chat, &bob(), 2), "psst");
    chat.tick(NOON + 2 * MINUTE + 5_000);
    assert_eq!(shown(&chat, &bob(), 2), "(expired)");
    // One that is already read when it comes, from another device of this user, does not stay either.
    message(&mut chat, bob(), burning(3, "ann", 5 * SECOND));
    receipt(&mut chat, 4);
    message(&mut chat, bob(), burning(4, "ann", 5 * SECOND));
    chat.tick(NOON + 3 * MINUTE);
    assert_eq!(
        (shown(&chat, &bob(), 3).as_str(), shown(&chat, &bob(), 4).as_str()),
        ("(expired)", "(expired)")
    );
}

#[test]
fn whether_it_was_read_is_asked_when_the_receipt_came_to_nobody() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(bob(), 3, 0)]);
    chat.open(bob());
    chat.take_actions();
    page(&mut chat, bob(), vec![record(1, "bob", "x"), burning(2, "ann", SECOND), record(3, "bob", "y")], 3);
    let asked = Action::HasRead { session: bob(), seq: 2 };
    assert!(chat.take_actions().contains(&asked));
    chat.outcome(Outcome::About(bob(), About::OtherRead(None)));
    chat.tick(NOON + MINUTE);
    assert_eq!(shown(&chat, &bob(), 2), "for your eyes");
    chat.connected();
    assert!(chat.take_actions().contains(&asked), "it may have come while there was no connection");
    chat.outcome(Outcome::About(bob(), About::OtherRead(Some(3))));
    chat.tick(NOON + MINUTE + 1_000);
    assert_eq!(shown(&chat, &bob(), 2), "(expired)");
    assert!(chat.sessions[&bob()].other_read == 3 && shows(&screen(&mut chat, 80, 20), "· read"));
    // Opened again, what may be gone is pulled again: the other one may show nobody what it reads.
    message(&mut chat, bob(), burning(4, "ann", SECOND));
    chat.open(team());
    chat.take_actions();
    chat.open(bob());
    assert!(chat.take_actions().contains(&Action::Pull { session: bob(), before: 0 }));
}

#[test]
fn a_recalled_message_is_unread_no_longer() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 5, 0), summary(bob(), 1, 0)]);
    chat.open(bob());
    for seq in 6..=8 {
        message(&mut chat, team(), record(seq, "cat", "x"));
    }
    assert_eq!(chat.unread_elsewhere(), 3);
    message(&mut chat, team(), recall(9, "cat", 7, 8));
    assert_eq!((chat.unread_elsewhere(), shown(&chat, &team(), 7).as_str()), (2, "cat recalled this"));
    // The same again, or a page that has it as it is now, takes nothing more.
    message(&mut chat, team(), recall(9, "cat", 7, 8));
    let mut left = record(7, "cat", "");
    left.kind = RecordKind::RECALLED;
    page(&mut chat, team(), vec![record(6, "cat", "x"), left, record(8, "cat", "x")], 9);
    assert_eq!(chat.unread_elsewhere(), 2);
    // What was read before counts no more when it is recalled.
    chat.event(Event::ReadMark(ReadMark { session: team(), seq: 6, count: 6 }));
    assert_eq!(chat.unread_elsewhere(), 1);
    message(&mut chat, team(), recall(10, "cat", 6, 8));
    assert_eq!(chat.unread_elsewhere(), 1);
    // Nor what stands before the user's own last message.
    message(&mut chat, team(), record(11, "ann", "mine"));
    message(&mut chat, team(), record(12, "cat", "y"));
    message(&mut chat, team(), recall(13, "cat", 8, 10));
    assert_eq!(chat.unread_elsewhere(), 1);
    assert!(!actions(&mut chat).contains(&Action::Sync), "all of it was known here");
}

#[test]
fn what_has_gone_does_not_come_back_with_a_late_page_and_own_signals_read_nothing() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 5, 0), summary(bob(), 1, 0)]);
    chat.open(bob());
    message(&mut chat, team(), record(6, "cat", "a secret"));
    message(&mut chat, team(), record(7, "cat", "x"));
    message(&mut chat, team(), recall(8, "cat", 6, 7));
    page(&mut chat, team(), vec![record(6, "cat", "a secret"), record(7, "cat", "x")], 7);
    assert_eq!((shown(&chat, &team(), 6).as_str(), chat.unread_elsewhere()), ("cat recalled this", 1));
    // This user took something back on another device; that is no message, and says nothing of what it has read.
    message(&mut chat, team(), recall(9, "ann", 3, 7));
    assert_eq!(chat.unread_elsewhere(), 1);
}

#[test]
fn of_a_recalled_message_that_was_never_here_the_list_is_asked() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 9, 4), summary(bob(), 1, 0)]);
    chat.open(bob());
    actions(&mut chat);
    message(&mut chat, team(), recall(10, "cat", 8, 9));
    message(&mut chat, team(), recall(11, "cat", 7, 9));
    assert_eq!(actions(&mut chat), [Action::Sync], "once, however many");
    let mut told = summary(team(), 11, 2);
    (told.count, told.read_seq) = (9, 5);
    synced(&mut chat, vec![told]);
    assert_eq!(chat.unread_elsewhere(), 2);
    assert_eq!(actions(&mut chat), [Action::Sync], "the second one came while it was read");
    // A list that is older than what was pushed says nothing of it.
    message(&mut chat, team(), record(12, "cat", "z"));
    let old = rookery_client::wire::reply::Summary { read_seq: 5, ..summary(team(), 11, 0) };
    synced(&mut chat, vec![old]);
    assert_eq!(chat.unread_elsewhere(), 3);
}

#[test]
fn an_expired_message_is_unread_no_longer_and_what_was_never_here_is_asked_for_in_time() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 5, 2), summary(bob(), 1, 0)]);
    chat.open(bob());
    actions(&mut chat);
    message(&mut chat, team(), lasting(6, "cat", 30 * SECOND));
    assert_eq!(chat.unread_elsewhere(), 3);
    chat.tick(NOON + 30_000);
    assert_eq!((chat.unread_elsewhere(), shown(&chat, &team(), 6).as_str()), (2, "(expired)"));
    chat.tick(NOON + 90_000);
    assert_eq!(actions(&mut chat), [Action::Sync]);
    chat.tick(NOON + 400_000);
    assert_eq!(actions(&mut chat), [], "one reading at a time");
    let mut none = summary(team(), 6, 0);
    none.count = 6;
    synced(&mut chat, vec![none]);
    chat.tick(NOON + 800_000);
    assert_eq!(
        (chat.unread_elsewhere(), actions(&mut chat)),
        (0, vec![]),
        "nothing is unread, nothing is asked"
    );
}

#[test]
fn what_the_user_has_deleted_or_cleared_is_not_shown_nor_counted() {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 3, 0), summary(bob(), 1, 0)]);
    chat.open(bob());
    for seq in 4..=8 {
        message(&mut chat, team(), record(seq, "cat", "x"));
    }
    let set = |chat: &mut Chat, cleared_seq, deleted: Vec<(u64, u64)>| {
        let settings = Settings { cleared_seq, deleted, ..Settings::default() };
        chat.event(Event::Settings(SessionSettings { session: team(), settings }));
    };
    set(&mut chat, 0, vec![(6, 7)]);
    assert_eq!((chat.unread_elsewhere(), shown(&chat, &team(), 6).as_str()), (3, "(deleted for you)"));
    message(&mut chat, team(), recall(9, "cat", 6, 8));
    assert_eq!((chat.unread_elsewhere(), shown(&chat, &team(), 6).as_str()), (3, "(deleted for you)"));
    set(&mut chat, 4, vec![(6, 7)]);
    assert_eq!(chat.unread_elsewhere(), 2);
    assert!(!chat.sessions[&team()].entries.contains_key(&4));
    set(&mut chat, 9, Vec::new());
    let session = &chat.sessions[&team()];
    assert_eq!((session.unread, session.entries.len(), session.preview.as_str()), (0, 0, ""));
    // A page has what is left of it.
    let mut left = record(6, "cat", "");
    left.kind = RecordKind::DELETED;
    page(&mut chat, team(), vec![left], 9);
    assert_eq!(shown(&chat, &team(), 6), "(deleted for you)");
}
