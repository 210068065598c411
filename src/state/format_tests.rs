//! Formats: what this program writes under each version byte is pinned, so that no layout changes under an old number. A row
//! or an entry of another layout would be misread as damage, or worse, as something else.
//!
//! If one of these fails: a layout has changed. Give the format the next number (once between two states of the program of which
//! one may meet what the other wrote), and put the new hash here.

use rookery_wire::{Blob, GroupAction, RequestKey, UserAction, encode};
use xxhash_rust::xxh3::Xxh3;

use super::command::{Act, ENTRY_VERSION};
use super::own_tests::{act, pair, person};
use super::session_rows::ROW_VERSION;
use super::tests::{Disk, LIMITS, actor, apply, at, new_group, says, text, user};
use super::versions_tests::{KEPT, edit, keep};
use super::{Actor, Command, DeviceBounds, Entry, Link, PartOf, ReadTo, RowReader};

fn hash(parts: &[(Vec<u8>, Vec<u8>)]) -> u64 {
    let mut hash = Xxh3::new();
    for part in parts.iter().flat_map(|(key, value)| [key, value]) {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.digest()
}

fn rows(disk: &Disk) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let all = disk.scan(&[], &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        Ok(true)
    });
    all.expect("rows");
    rows
}

fn recall(seq: u64) -> Act {
    Act::Recall { seq, window_ms: 1_000_000 }
}

#[test]
fn the_rows_of_a_session_have_the_layout_of_their_number() {
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    let shop = Actor::keyed(user("shop"), None).expect("a service");
    let mute = Act::Manage { action: GroupAction::Mute { user: user("bob"), until_ms: 1 << 50 } };
    let edited = edit(3, "two again", KEPT);
    for (number, act) in (2..).zip([text("one"), text("two"), recall(2), mute, edited, keep(true)]) {
        apply(&mut session, &disk, &at(number), &actor("ann"), number, &act);
        session.reflect(number);
    }
    let key = RequestKey::new("k1").expect("a key");
    session.apply_keyed(&at(8), &LIMITS, &shop, &key, &text("three"));
    session.reflect(8);
    disk.write(session.collect());
    assert_eq!(
        (ROW_VERSION, hash(&rows(&disk))),
        (9, 0xb1c9_0cbf_0d48_946d),
        "see the words at the top of this file"
    );
}

#[test]
fn the_rows_of_a_user_have_the_layout_of_their_number() {
    let mut disk = Disk::default();
    let mut ann = person("ann");
    let with_bob = pair("ann", "bob");
    let link =
        Link { session: with_bob.clone(), version: 3, member: true, joined_seq: 1, from: Some(user("bob")) };
    ann.reflect(1);
    ann.link(&link, 100);
    ann.reflect(2);
    ann.read(&at(3), &ReadTo { session: with_bob, seq: 7, count: 5, burns: false });
    ann.reflect(3);
    ann.act(
        &at(4),
        &actor("ann"),
        &act(1, UserAction::RequestFriend { user: user("cid"), text: Blob::from("hi") }),
    );
    ann.reflect(4);
    disk.write(ann.collect());
    assert_eq!(
        (ROW_VERSION, hash(&rows(&disk))),
        (9, 0x194b_0ee8_60b8_3b64),
        "see the words at the top of this file"
    );
}

#[test]
fn a_log_entry_has_the_layout_of_its_number() {
    let session = pair("ann", "bob");
    let act = |act| Command::Act { actor: actor("ann"), session: session.clone(), client_seq: 9, act };
    let device = actor("ann").device;
    let commands = [
        act(text("one")),
        act(recall(1)),
        act(edit(1, "one again", KEPT)),
        Command::Register { user: user("ann"), device, says: says(4), bounds: DeviceBounds::default() },
        Command::Read {
            user: user("ann"),
            to: ReadTo { session: session.clone(), seq: 7, count: 5, burns: true },
            taken_ms: 1_700_000_000_000,
        },
        Command::Expire { session: session.clone(), seqs: vec![1, 300] },
        Command::ReadMany {
            user: user("ann"),
            of: PartOf::Numbered { actor: actor("ann"), number: 3 },
            cursors: vec![ReadTo { session: session.clone(), seq: 7, count: 5, burns: false }],
        },
        Command::ReadMany {
            user: user("ann"),
            of: PartOf::CountedNumber { actor: actor("ann"), number: 4, unread: 300 },
            cursors: vec![ReadTo { session: session.clone(), seq: 9, count: 7, burns: false }],
        },
    ];
    let mut entry = Entry::begin(1_700_000_000_000, true, [7; 16], 100);
    for command in &commands {
        Entry::push(&mut entry, &command.encode());
    }
    let key = encode(&session).to_vec();
    assert_eq!(
        (ENTRY_VERSION, hash(&[(key, entry.to_vec())])),
        (11, 0xbcbd_6b66_bec9_0d85),
        "see the words at the top of this file"
    );
}
