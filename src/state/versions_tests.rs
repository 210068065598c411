//! What was said before an edit: kept where that is wanted and as long as that holds, and gone with its message.

use std::ops::RangeInclusive;

use rookery_wire::codec::{Blob, decode, encode};
use rookery_wire::{
    Digest, ErrorCode, Expires, Extension, GroupAction, Record, Retention, Salt, SessionId, Version,
};

use super::command::Act;
use super::key::{self, letter};
use super::records;
use super::tests::{
    Disk, LIMITS, actor, apply, arrived, at, code_of, group, new_group, seq_of, text, to_free, user,
};
use super::versions::needless_versions;
use super::{Actor, Freed, RowReader, RowWrites, Session, VersionBounds};

pub(super) const KEPT: VersionBounds = VersionBounds { most: 3, kept: true };

pub(super) fn edit(seq: u64, content: &str, versions: VersionBounds) -> Act {
    let (content_type, content) = (Blob::from("text/plain"), Blob::from(content));
    Act::Edit { seq, window_ms: u64::MAX, versions, content_type, content, extensions: Vec::new() }
}

pub(super) fn recall(seq: u64) -> Act {
    Act::Recall { seq, window_ms: u64::MAX }
}

pub(super) fn keep(on: bool) -> Act {
    Act::Manage { action: GroupAction::KeepVersions { on } }
}

/// Number and text of the versions of a message, the newest first, as LIST_VERSIONS gives them.
pub(super) fn listed(session: &Session, disk: &Disk, seq: u64) -> Result<Vec<(u64, String)>, ErrorCode> {
    let remembered = session.versions_of(None, seq).map_err(|refusal| refusal.code)?;
    let found = remembered.list(disk, session.id(), 0, 200, usize::MAX).expect("rows");
    let found = found.map_err(|refusal| refusal.code)?;
    assert_eq!((&found.lost[..], found.absent, found.more), (&[][..], false, false), "seq {seq}");
    let text = |blob: &Blob| String::from_utf8(blob.as_ref().to_vec()).expect("text");
    Ok(found.lines.iter().map(|line| (line.number, text(&line.content))).collect())
}

fn lines(of: &[(u64, &str)]) -> Result<Vec<(u64, String)>, ErrorCode> {
    Ok(of.iter().map(|(number, text)| (*number, (*text).to_owned())).collect())
}

/// What is written; then, as behind the flush, what nobody asks for any more goes.
pub(super) fn checkpoint(session: &mut Session, disk: &mut Disk) {
    disk.write(session.collect());
    session.written(&LIMITS);
    free(disk);
}

/// As the checkpoint does it, and whoever finds the row that says so after a crash.
pub(super) fn free(disk: &mut Disk) {
    for (id, Freed { first, versions, .. }) in to_free(disk) {
        let mut gone = RowWrites::default();
        let mut from = None;
        loop {
            let (keys, next) = needless_versions(disk, &id, first, versions, from, 2).expect("rows");
            keys.into_iter().for_each(|key| gone.delete(key.to_vec()));
            from = next;
            if from.is_none() {
                break;
            }
        }
        gone.delete(key::session(letter::FREED, &id));
        disk.write(gone);
    }
}

pub(super) fn version_rows(disk: &Disk) -> usize {
    let mut rows = 0;
    disk.scan(&[letter::VERSION], &mut |_, _| {
        rows += 1;
        Ok(true)
    })
    .expect("rows");
    rows
}

/// Ann's acts on one session, each under her next number and the next index.
struct Ann {
    session: Session,
    disk: Disk,
    index: u64,
    number: u64,
}

impl Ann {
    /// She has made a group and said "first" as record 2.
    fn new() -> Self {
        let disk = Disk::default();
        let session = new_group(&disk);
        let mut ann = Self { session, disk, index: 1, number: 1 };
        assert_eq!(ann.does(&text("first")), 2);
        ann
    }

    fn does(&mut self, act: &Act) -> u64 {
        (self.index, self.number) = (self.index + 1, self.number + 1);
        let Self { session, disk, index, number } = self;
        seq_of(&apply(session, disk, &at(*index), &actor("ann"), *number, act))
    }

    fn refused(&mut self, act: &Act) -> ErrorCode {
        (self.index, self.number) = (self.index + 1, self.number + 1);
        let Self { session, disk, index, number } = self;
        code_of(&apply(session, disk, &at(*index), &actor("ann"), *number, act))
    }

    fn checkpoint(&mut self) {
        checkpoint(&mut self.session, &mut self.disk);
    }

    fn reload(&mut self) {
        self.checkpoint();
        self.session = Session::load(&self.disk, &group()).expect("rows");
    }

    fn listed(&self, seq: u64) -> Result<Vec<(u64, String)>, ErrorCode> {
        listed(&self.session, &self.disk, seq)
    }
}

#[test]
fn what_was_said_before_an_edit_is_listed_where_it_is_kept() {
    let mut ann = Ann::new();
    ann.does(&edit(2, "second", KEPT));
    assert_eq!(ann.listed(2), lines(&[(2, "second"), (1, "first")]), "no row holds it yet");
    let on_their_way = ann.session.collect();
    assert_eq!(ann.listed(2), lines(&[(2, "second"), (1, "first")]), "on its way into rows");
    ann.disk.write(on_their_way);
    ann.does(&edit(2, "third", KEPT));
    ann.session.written(&LIMITS);
    let all = lines(&[(3, "third"), (2, "second"), (1, "first")]);
    assert_eq!(ann.listed(2), all, "some are rows and some are not");
    ann.reload();
    assert_eq!(ann.listed(2), all);
    assert!(ann.disk.says("first") && version_rows(&ann.disk) == 2);
    // Many messages later memory has none of it.
    (0..40).for_each(|_| _ = ann.does(&text("chatter")));
    ann.checkpoint();
    assert!(ann.session.record(2).is_none());
    assert_eq!(ann.listed(2), all);
    ann.does(&edit(2, "fourth", KEPT));
    assert_eq!(ann.listed(2).map(|lines| lines.len()), Ok(4));
    assert_eq!(ann.listed(3), Err(ErrorCode::NoSuchMessage), "a signal");
    assert_eq!(
        (ann.listed(0), ann.listed(999)),
        (Err(ErrorCode::NoSuchMessage), Err(ErrorCode::NoSuchMessage))
    );
    assert_eq!(ann.listed(10), lines(&[(1, "chatter")]), "one that was never edited");
}

#[test]
fn a_version_says_who_when_and_what_and_pages_end_where_they_must() {
    let mut ann = Ann::new();
    let Act::Edit { seq, window_ms, versions, content_type, .. } = edit(2, "", KEPT) else { unreachable!() };
    let extensions = vec![Extension { tag: 1024, data: Blob::from("thread 7") }];
    let content = Blob::from("x".repeat(600).as_str());
    let with_more =
        Act::Edit { seq, window_ms, versions, content_type, content, extensions: extensions.clone() };
    ann.does(&with_more);
    ann.does(&edit(2, "third", KEPT));
    let page = |ann: &Ann, before, most, bytes| {
        let remembered = ann.session.versions_of(None, 2).expect("there is one");
        let listed = remembered.list(&ann.disk, ann.session.id(), before, most, bytes).expect("rows");
        let listed = listed.expect("content");
        (listed.lines.iter().map(|line| line.number).collect::<Vec<_>>(), listed.more)
    };
    for _ in 0..2 {
        let remembered = ann.session.versions_of(None, 2).expect("there is one");
        let all =
            remembered.list(&ann.disk, ann.session.id(), 0, 9, 9999).expect("rows").expect("content").lines;
        let times: Vec<u64> = all.iter().map(|line| line.time_ms).collect();
        assert_eq!(times, [1004, 1003, 1002], "each when it was said");
        assert!(
            all.iter().all(|line| line.by == user("ann") && line.content_type == Blob::from("text/plain"))
        );
        assert_eq!(
            (&all[1].extensions, all[0].extensions.len(), all[2].extensions.len()),
            (&extensions, 0, 0)
        );
        assert_eq!(page(&ann, 0, 1, 9999), (vec![3], true));
        assert_eq!(page(&ann, 3, 1, 9999), (vec![2], true));
        assert_eq!(page(&ann, 2, 9, 9999), (vec![1], false));
        assert_eq!(page(&ann, 1, 9, 9999), (vec![], false));
        assert_eq!(page(&ann, 99, 9, 9999), (vec![3, 2, 1], false));
        assert_eq!(page(&ann, 0, 9, 500), (vec![3], true), "the second is too long for this page");
        assert_eq!(page(&ann, 3, 9, 500), (vec![2], true), "at least one");
        ann.reload();
    }
}

#[test]
fn a_version_whose_row_is_missing_is_named_and_the_others_are_listed() {
    let mut ann = Ann::new();
    for content in ["second", "third", "fourth"] {
        ann.does(&edit(2, content, KEPT));
    }
    ann.reload();
    for (gone, shown) in [(2, [true, true, false, true]), (1, [true, true, false, false])] {
        let mut row = RowWrites::default();
        row.delete(key::version(&group(), 2, gone));
        ann.disk.write(row);
        let remembered = ann.session.versions_of(None, 2).expect("there is one");
        let listed = remembered.list(&ann.disk, &group(), 0, 9, 9999).expect("rows").expect("content");
        let lines = &listed.lines;
        assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [4, 3, 2, 1]);
        assert_eq!(lines.iter().map(|line| !line.is_lost()).collect::<Vec<_>>(), shown);
        assert!(lines[2].content.is_empty() && lines[2].by == user("ann"));
        assert_eq!((listed.lost.last(), listed.more, listed.absent), (Some(&gone), false, false));
        let older = remembered.list(&ann.disk, &group(), 3, 1, 9999).expect("rows").expect("content");
        assert_eq!((older.lost, older.more), (vec![2], true), "a page may begin with it");
    }
}

#[test]
fn beyond_the_bound_the_oldest_goes_and_a_smaller_bound_takes_more() {
    let mut ann = Ann::new();
    for number in 2..=6 {
        ann.does(&edit(2, &format!("the {number}th"), KEPT));
        if number % 2 == 0 {
            ann.checkpoint();
        }
    }
    let kept = [(6, "the 6th"), (5, "the 5th"), (4, "the 4th"), (3, "the 3th")];
    assert_eq!(ann.listed(2), lines(&kept));
    ann.reload();
    assert_eq!(ann.listed(2), lines(&kept));
    assert_eq!(version_rows(&ann.disk), 3);
    assert!(!ann.disk.says("first") && !ann.disk.says("the 2th"));
    ann.does(&edit(2, "the 7th", VersionBounds { most: 1, kept: true }));
    assert_eq!(ann.listed(2), lines(&[(7, "the 7th"), (6, "the 6th")]));
    ann.checkpoint();
    assert_eq!(version_rows(&ann.disk), 1);
    // None at all: as if nothing were kept, though the number goes on.
    ann.does(&edit(2, "the 8th", VersionBounds { most: 0, kept: true }));
    assert_eq!(ann.listed(2), lines(&[(8, "the 8th")]));
    ann.checkpoint();
    assert_eq!(version_rows(&ann.disk), 0);
    // However much a node would keep, there is an end.
    for number in 9..130 {
        ann.does(&edit(2, &format!("the {number}th"), VersionBounds { most: u32::MAX, kept: true }));
    }
    ann.checkpoint();
    assert_eq!(version_rows(&ann.disk), rookery_wire::versions::MAX_VERSIONS as usize);
}

#[test]
fn with_its_message_every_version_goes() {
    for written in [false, true] {
        for expires in [false, true] {
            let mut ann = Ann::new();
            let lasts = Extension { tag: Expires::TAG, data: Blob(encode(&Expires { after_ms: 5 })) };
            let (content_type, content) = (Blob::default(), Blob::from("a secret"));
            let seq = ann.does(&Act::Send { content_type, content, extensions: vec![lasts] });
            ann.does(&edit(seq, "a second secret", KEPT));
            if written {
                ann.checkpoint();
                assert!(ann.disk.says("a secret"));
            }
            ann.does(&edit(seq, "a third secret", KEPT));
            assert_eq!(ann.listed(seq).map(|lines| lines.len()), Ok(3));
            if expires {
                ann.index += 100;
                let Ann { session, disk, index, .. } = &mut ann;
                let wanted: Vec<u64> = session.expiring_in_rows(&[seq]).collect();
                for seq in wanted {
                    session.give_runs(records::runs_with(disk, session.id(), seq).expect("rows"));
                }
                assert_eq!(session.expire(&at(*index), &[seq]).expired, [seq]);
                session.reflect(*index);
                session.forget_recalled();
            } else {
                ann.does(&recall(seq));
            }
            let gone = if expires { ErrorCode::NoSuchMessage } else { ErrorCode::Recalled };
            assert_eq!(ann.listed(seq), Err(gone));
            ann.reload();
            assert_eq!(ann.listed(seq), Err(gone));
            assert!(!ann.disk.says("secret") && version_rows(&ann.disk) == 0, "{written} {expires}");
        }
    }
}

#[test]
fn a_trimmed_message_takes_its_versions_along() {
    let mut ann = Ann::new();
    ann.does(&edit(2, "second", KEPT));
    ann.checkpoint();
    ann.does(&edit(2, "third", KEPT));
    let kept = ann.does(&text("stays"));
    ann.does(&edit(kept, "stays as well", KEPT));
    ann.index += 1;
    ann.session.trim(3, ann.session.count() - 1, Retention::default());
    ann.session.reflect(ann.index);
    assert_eq!(ann.listed(2), Err(ErrorCode::NoSuchMessage));
    ann.checkpoint();
    assert_eq!((ann.listed(2), version_rows(&ann.disk)), (Err(ErrorCode::NoSuchMessage), 1));
    assert_eq!(ann.listed(kept), lines(&[(2, "stays as well"), (1, "stays")]));
    assert!(!ann.disk.says("first"));
}

#[test]
fn turned_off_what_was_kept_goes() {
    let mut ann = Ann::new();
    let unwanted = VersionBounds { most: 3, kept: false };
    ann.does(&edit(2, "second", unwanted));
    assert_eq!(ann.listed(2), lines(&[(2, "second")]), "nobody wants it kept");
    ann.does(&keep(true));
    assert_eq!(ann.session.keeps_versions(), Some(true));
    let other = ann.does(&text("other"));
    for (number, seq) in [(3, 2), (2, other)] {
        ann.does(&edit(seq, &format!("edit {number}"), unwanted));
        ann.checkpoint();
    }
    ann.does(&edit(2, "edit 4", unwanted));
    assert_eq!(ann.listed(2), lines(&[(4, "edit 4"), (3, "edit 3"), (2, "second")]));
    let on_their_way = ann.session.collect();
    ann.does(&keep(false));
    assert_eq!((ann.listed(2), ann.listed(other)), (lines(&[(4, "edit 4")]), lines(&[(2, "edit 2")])));
    ann.disk.write(on_their_way);
    ann.session.written(&LIMITS);
    assert_eq!(ann.listed(2), lines(&[(4, "edit 4")]), "what was on its way is a row, and no version");
    assert_eq!(version_rows(&ann.disk), 3);
    // The rows that say so are there; a crash comes before the others are deleted.
    ann.disk.write(ann.session.collect());
    ann.session = Session::load(&ann.disk, &group()).expect("rows");
    assert_eq!((ann.listed(2), ann.listed(other)), (lines(&[(4, "edit 4")]), lines(&[(2, "edit 2")])));
    // Trimming does not make it forget.
    ann.index += 1;
    ann.session.trim(1, 0, Retention::default());
    ann.session.reflect(ann.index);
    ann.checkpoint();
    assert_eq!(version_rows(&ann.disk), 0);
    assert!(!ann.disk.says("second") && ann.disk.says("edit 4"));
    // On again: from here on, and nothing of before comes back.
    ann.does(&keep(true));
    ann.does(&edit(2, "edit 5", unwanted));
    assert_eq!(ann.listed(2), lines(&[(5, "edit 5"), (4, "edit 4")]));
    ann.reload();
    assert_eq!(ann.listed(2), lines(&[(5, "edit 5"), (4, "edit 4")]));
    // An edit takes along what is given up, before its rows are looked for.
    ann.does(&keep(false));
    ann.does(&keep(true));
    ann.does(&edit(2, "edit 6", unwanted));
    ann.disk.write(ann.session.collect());
    ann.session.written(&LIMITS);
    assert_eq!(version_rows(&ann.disk), 1);
    assert_eq!(ann.listed(2), lines(&[(6, "edit 6"), (5, "edit 5")]));
    free(&mut ann.disk);
    assert_eq!(ann.listed(2), lines(&[(6, "edit 6"), (5, "edit 5")]), "what came later stays");
}

#[test]
fn only_the_owner_and_services_say_whether_a_group_keeps_versions() {
    let mut ann = Ann::new();
    let Ann { session, disk, .. } = &mut ann;
    let bob = apply(session, disk, &at(10), &actor("bob"), 1, &keep(true));
    assert_eq!(code_of(&bob), ErrorCode::NotAllowed);
    let admin = Act::Manage {
        action: GroupAction::SetRole { user: user("bob"), role: rookery_wire::MemberRole::Admin },
    };
    seq_of(&apply(session, disk, &at(11), &actor("ann"), 3, &admin));
    let bob = apply(session, disk, &at(12), &actor("bob"), 2, &keep(true));
    assert_eq!(code_of(&bob), ErrorCode::NotAllowed, "an admin neither");
    let shop = Actor { service: true, ..actor("shop") };
    seq_of(&apply(session, disk, &at(13), &shop, 1, &keep(true)));
    assert_eq!(session.keeps_versions(), Some(true));
    let Some(stored) = session.record(session.last_seq()) else { panic!("the last record") };
    let told: Record = decode(stored).expect("a record");
    let told: GroupAction = decode(&told.content.0).expect("an action");
    assert_eq!(told, GroupAction::KeepVersions { on: true }, "members are told");
}

#[test]
fn both_users_of_a_direct_session_must_agree() {
    let id = SessionId::direct(&user("ann"), &user("bob")).expect("two users");
    let mut disk = Disk::default();
    let mut session = Session::new(id.clone());
    let mut index = 0;
    let mut does = |session: &mut Session, disk: &Disk, name: &str, number, act: &Act| {
        index += 1;
        apply(session, disk, &at(index), &actor(name), number, act)
    };
    let opens = does(&mut session, &disk, "ann", 1, &text("first"));
    let lists = arrived(&session);
    session.linked(&at(1), &lists);
    assert_eq!(seq_of(&opens), 1);
    let (by_default, not) = (KEPT, VersionBounds { kept: false, ..KEPT });
    let count = |session: &Session, disk: &Disk| listed(session, disk, 1).map(|lines| lines.len());
    assert_eq!(session.keeps_versions(), None);
    does(&mut session, &disk, "ann", 2, &keep(true));
    assert_eq!(session.keeps_versions(), None, "of bob the default is asked");
    does(&mut session, &disk, "ann", 3, &edit(1, "second", not));
    assert_eq!(count(&session, &disk), Ok(1));
    does(&mut session, &disk, "ann", 4, &edit(1, "third", by_default));
    assert_eq!(count(&session, &disk), Ok(2));
    does(&mut session, &disk, "bob", 1, &keep(true));
    does(&mut session, &disk, "ann", 5, &edit(1, "fourth", not));
    assert_eq!((session.keeps_versions(), count(&session, &disk)), (Some(true), Ok(3)), "both want it");
    checkpoint(&mut session, &mut disk);
    let mut session = Session::load(&disk, &id).expect("rows");
    does(&mut session, &disk, "bob", 2, &keep(false));
    assert_eq!((session.keeps_versions(), count(&session, &disk)), (Some(false), Ok(1)));
    does(&mut session, &disk, "ann", 6, &keep(true));
    assert_eq!(session.keeps_versions(), Some(false), "who wants it gone is not overruled");
    does(&mut session, &disk, "ann", 7, &edit(1, "fifth", by_default));
    assert_eq!(count(&session, &disk), Ok(1));
    checkpoint(&mut session, &mut disk);
    assert_eq!(version_rows(&disk), 0);
    let eve = does(&mut session, &disk, "eve", 1, &keep(true));
    assert_eq!(code_of(&eve), ErrorCode::NotMember);
    session.bar(&user("bob"), 1, true);
    let barred = does(&mut session, &disk, "ann", 8, &keep(false));
    assert_eq!(code_of(&barred), ErrorCode::RefusedByPeer);
}

#[test]
fn the_salt_of_what_was_said_first_goes_with_its_version_and_the_digest_stays() {
    let mut ann = Ann::new();
    let first: Record = decode(ann.session.record(2).expect("in the ring")).expect("a record");
    let salt =
        first.extensions.iter().find(|extension| extension.tag == Salt::TAG).expect("a salt").data.clone();
    let salted = |disk: &Disk| {
        let mut found = false;
        let all = disk.scan(&[], &mut |_, value| {
            found |= value.windows(salt.len()).any(|window| window == salt.as_ref());
            Ok(true)
        });
        all.expect("rows");
        found
    };
    let digest = |ann: &Ann| -> Digest {
        records::digest_at(&ann.disk, &group(), 2).expect("rows").expect("a digest")
    };
    ann.checkpoint();
    let before = digest(&ann);
    for number in 2..=4 {
        ann.does(&edit(2, &format!("the {number}th"), KEPT));
        ann.checkpoint();
        assert!(salted(&ann.disk), "with what was said first");
        assert_eq!(digest(&ann), before);
    }
    ann.does(&edit(2, "the 5th", KEPT));
    ann.checkpoint();
    assert!(!salted(&ann.disk), "the first version is gone, and nobody can guess it");
    assert_eq!(digest(&ann), before);
    // Its number has its first answer whatever is sent with it now.
    ann.session = Session::load(&ann.disk, &group()).expect("rows");
    let again = apply(&mut ann.session, &ann.disk, &at(90), &actor("ann"), 2, &text("whatever"));
    assert_eq!(seq_of(&again), 2);
}

/// Where versions were once given up, trimming looks at no more rows than anywhere else: only rows tell for how long there is
/// something to be deleted.
#[test]
fn versions_that_were_given_up_are_looked_for_until_they_are_gone_and_no_longer() {
    let trimmed = |ann: &mut Ann, upto: u64| {
        ann.index += 1;
        ann.session.trim(upto, 0, Retention::default());
        ann.session.reflect(ann.index);
        let rows = ann.session.collect();
        let found = rows.freed.clone().map(|(_, freed)| (freed.before, freed.first, freed.versions));
        ann.disk.write(rows);
        ann.session.written(&LIMITS);
        found
    };
    let remembered = |ann: &Ann| to_free(&ann.disk).pop().map(|(_, freed)| freed);
    let mut ann = Ann::new();
    ann.does(&edit(2, "second", KEPT));
    (0..8).for_each(|_| _ = ann.does(&text("chatter")));
    let off = ann.does(&keep(false));
    ann.disk.write(ann.session.collect());
    ann.session.written(&LIMITS);
    assert_eq!(remembered(&ann), Some(Freed { before: 1, first: 1, versions: off }));
    // Nothing could be deleted yet; the row goes on saying so, and the session does not.
    assert_eq!(trimmed(&mut ann, 3), Some((1, 4, 0)));
    assert_eq!(remembered(&ann), Some(Freed { before: 1, first: 4, versions: off }));
    free(&mut ann.disk);
    assert_eq!((version_rows(&ann.disk), remembered(&ann)), (0, None));
    assert_eq!(trimmed(&mut ann, 5), Some((4, 6, 0)), "in memory since");
    assert_eq!(remembered(&ann), Some(Freed { before: 4, first: 6, versions: 0 }));
    ann.session = Session::load(&ann.disk, &group()).expect("rows");
    assert_eq!(trimmed(&mut ann, 6), Some((6, 7, 0)), "loaded");
}

#[test]
fn a_record_says_which_version_it_is_and_its_signal_says_nothing() {
    let mut ann = Ann::new();
    let signal = ann.does(&edit(2, "second", KEPT));
    let record = |ann: &Ann, seq| decode::<Record>(ann.session.record(seq).expect("here")).expect("a record");
    assert_eq!(Version::of(&record(&ann, 2)), Version { number: 2, kept: 1 });
    assert_eq!(record(&ann, signal).extensions, Vec::new());
    ann.does(&recall(2));
    assert!(record(&ann, 2).extensions.iter().all(|extension| extension.tag != Version::TAG));
    assert_eq!(ann.refused(&edit(2, "third", KEPT)), ErrorCode::Recalled);
}

/// Loads what a crash has left and plays the acts again from there.
fn played_again(disk: &Disk, acts: &[(u64, Act)]) -> Session {
    let mut session = Session::load(disk, &group()).expect("rows");
    for (number, act) in acts {
        let outcome = apply(&mut session, disk, &at(*number), &actor("ann"), *number, act);
        assert!(
            outcome.answer.is_none_or(|answer| matches!(answer, super::Answer::Ack(_))),
            "number {number}"
        );
    }
    session
}

#[test]
fn a_crash_anywhere_between_rows_and_head_keeps_what_was_kept() {
    let (acts, mut disk) = {
        let mut ann = Ann::new();
        ann.checkpoint();
        let mut acts: Vec<Act> = (0..5).map(|nth| text(&format!("message {nth}"))).collect();
        acts.extend([edit(2, "2 again", KEPT), edit(3, "3 again", KEPT)]);
        let mut acts: Vec<(u64, Act)> = (3..).zip(acts).collect();
        for (_, act) in &acts {
            ann.does(act);
        }
        ann.checkpoint();
        // From here on no checkpoint is whole: bounds are passed, one is recalled, one is kept no more.
        let more = [
            edit(2, "2 once more", KEPT),
            edit(2, "2 a third time", KEPT),
            edit(2, "2 a fourth time", KEPT),
            edit(3, "3 a secret", KEPT),
            edit(3, "3 another secret", KEPT),
            edit(4, "4 again", KEPT),
            recall(3),
            edit(4, &"4 is long ".repeat(9000), VersionBounds { most: 3, kept: false }),
            edit(5, "5 again", KEPT),
            edit(2, "2 at last", KEPT),
            edit(4, "4 at last", KEPT),
        ];
        let next = acts.len() as u64 + 3;
        acts.extend((next..).zip(more));
        (acts, ann.disk)
    };
    let whole = played_again(&disk, &acts);
    let shown = |session: &Session, disk: &Disk| -> Vec<_> {
        let all: RangeInclusive<u64> = 1..=session.last_seq();
        all.map(|seq| listed(session, disk, seq)).collect()
    };
    let expected = shown(&whole, &disk);
    assert_eq!(expected[1].as_ref().map(Vec::len), Ok(4), "the bound is reached");
    let mut rows = played_again(&disk, &acts).collect();
    rows.seal().expect("records");
    assert!(rows.ahead.len() > 8, "{} rows go ahead", rows.ahead.len());
    for written in 0..=rows.ahead.len() {
        let mut disk = disk.clone();
        let mut part = RowWrites::default();
        part.rows.extend_from_slice(&rows.ahead[..written]);
        disk.write(part);
        let mut again = played_again(&disk, &acts);
        assert_eq!(shown(&again, &disk), expected, "{written} rows were there");
        checkpoint(&mut again, &mut disk);
        assert_eq!(shown(&again, &disk), expected, "{written} rows were there, written");
        let loaded = Session::load(&disk, &group()).expect("rows");
        assert_eq!(shown(&loaded, &disk), expected, "{written} rows were there, loaded");
        assert!(!disk.says("3 a secret") && !disk.says("3 another secret"), "{written} rows were there");
    }
    disk.write(rows);
    assert_eq!(version_rows(&disk), 3 + 1 + 1);
}
