//! Space that was freed is used again: a store that keeps as much as before does not grow.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking"
)]

mod store_history;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_raft::{Batch, Map, Store};
use store_history::options;

/// Rows of one turn, and bytes of each: runs of records are as large.
const ROWS: u64 = 1_000;
const ROW: usize = 4_000;
/// What is written in all is twelve times what is ever kept at once.
const TURNS: u64 = 24;

/// What the files of a folder take on the disk.
fn taken(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { taken(&path) } else { path.metadata().unwrap().blocks() * 512 })
        .sum()
}

fn keys(turn: u64) -> impl Iterator<Item = bytes::Bytes> {
    (turn * ROWS..(turn + 1) * ROWS).map(|row| row.to_be_bytes().to_vec().into())
}

/// As a session that is trimmed: new rows behind the old ones, which go. Nothing in them can be packed.
async fn turn(map: &Map, turn: u64, random: &mut StdRng) {
    for keys in keys(turn).collect::<Vec<_>>().chunks(100) {
        let mut batch = Batch::new();
        for key in keys {
            let mut row = vec![0; ROW];
            random.fill(row.as_mut_slice());
            batch.put(key.clone(), bytes::Bytes::from(row));
        }
        map.apply(batch).await.unwrap();
    }
    if let Some(before) = turn.checked_sub(1) {
        let mut batch = Batch::new();
        keys(before).for_each(|key| batch.delete(key));
        map.apply(batch).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_trimmed_makes_room_for_what_comes() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(options(temp.path())).unwrap();
    let map = store.map("rows").unwrap();
    let mut random = StdRng::seed_from_u64(11);
    let state = temp.path().join("state");
    let mut sizes = Vec::new();
    for number in 0..TURNS {
        turn(&map, number, &mut random).await;
        store.sync().await.unwrap();
        sizes.push(taken(&state));
    }
    println!("bytes in `state` after each turn: {sizes:?}");
    let kept = ROWS * ROW as u64;
    let left = map.read(|view| view.range(b"", b"", usize::MAX, usize::MAX, false)).await.unwrap();
    assert_eq!(left.len() as u64, ROWS, "the last turn's rows are there and no others");
    let most = sizes.iter().copied().max().unwrap();
    assert!(sizes[0] >= kept, "what cannot be packed takes its room: {sizes:?}");
    assert!(most <= 6 * kept, "{TURNS} turns of {kept} bytes take {most}, though one is kept: {sizes:?}");
    store.close().await;
}
