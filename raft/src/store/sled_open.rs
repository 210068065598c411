//! Opening a sled database, and what must be put right before sled looks at its files.
//!
//! Owns the settings both databases share, and a guard against a hole in sled 1.0.0-alpha.124: on opening it writes a new
//! snapshot of its metadata and *then removes the old one by name*; the two names are the same when there is no metadata
//! log beside the snapshot, so everything the database knew is gone with the next restart. A power cut soon after an
//! opening leaves exactly that: the log's name was never synced (seen, once in the first 40 cuts). With an
//! empty log put in place, the new snapshot has another name. Must never touch anything else of sled's.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::time::{Duration, Instant};

/// Keys per leaf of `log`. A leaf is rewritten whole at each flush and read whole for one key, and an entry of many
/// commands has tens of kilobytes, so leaves hold few. Fixed with the folder, like the next.
pub(crate) const LOG_FANOUT: usize = 8;
/// Keys per leaf of `state`, most of them of a hundred bytes. sled keeps some 250 bytes in memory for each leaf, read or not, and
/// an idle session has nine rows: of a million sessions that is 130 MB, and with half of the keys 250. A leaf is read and
/// written whole, so records are cut into rows of some 8 KiB by those who write them; one that is larger is a row alone, and a
/// leaf of messages of 64 KiB has 2 MiB.
pub(crate) const STATE_FANOUT: usize = 32;
/// sled's own flusher must never come first: ten years. (With none at all, dropping any iterator would flush.)
const NEVER_MS: usize = 10 * 365 * 24 * 3600 * 1000;
/// A negative level is zstd's fast mode. What we store is rarely compressible, and every flush rewrites whole leaves: of all samples of
/// a full load compression took 8 % at level 1 and 5 % at -5. Runs of random records: 1.0 GB/s at -5, 5.5 at -20; of short
/// texts 0.4 and 1.5, and these take 1.42 and 1.18 times less room.
const ZSTD_LEVEL: i32 = -20;

/// From which share of empty slots on sled moves objects to fill them, with every flush. At its own 0.9 a leaf that grows
/// from one size of slots into the next makes it rewrite others all the time: twice the bytes were written.
const FILL_RATIO: f32 = 0.6;

/// How long the one who had a database open before may take to let go of it: sled's own thread says that it has ended, and lets go
/// of the lock after that, whenever it gets a core. Other processes are kept out by the folder's lock.
const LET_GO: Duration = Duration::from_secs(10);

/// Opens or makes the database at `path`. Durable, its name included, when this returns.
pub(crate) fn open_sled<const FANOUT: usize>(
    path: &Path,
    cache_bytes: usize,
) -> io::Result<sled::Db<FANOUT>> {
    let metadata = path.join("metadata");
    if metadata.is_dir() {
        ensure_a_log(&metadata)?;
    }
    let mut config = sled::Config::new()
        .path(path)
        .cache_capacity_bytes(cache_bytes)
        .flush_every_ms(Some(NEVER_MS))
        .zstd_compression_level(ZSTD_LEVEL);
    config.target_heap_file_fill_ratio = FILL_RATIO;
    let until = Instant::now() + LET_GO;
    let db = loop {
        match config.open::<FANOUT>() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
            }
            opened => break opened?,
        }
    };
    // The new log's name, at once rather than with the first flush.
    File::open(&metadata)?.sync_all()?;
    Ok(db)
}

/// What a sled iterator yields.
type Item = io::Result<(sled::InlineArray, sled::InlineArray)>;

/// The keys from `from` up to `to`, in order.
///
/// sled's own forward range, once it has yielded its last key, reads every leaf from there to the end of the tree before
/// it says so (`Iterator for Iter` in its tree.rs): a read of the log at start took as long as reading the whole log. So
/// the range is open at its end, and the end is seen here.
pub(crate) fn ascending<'a, const FANOUT: usize>(
    tree: &sled::Tree<FANOUT>,
    from: &[u8],
    to: Bound<&'a [u8]>,
) -> impl Iterator<Item = Item> + use<'a, FANOUT> {
    let within = move |item: &Item| match (item, to) {
        (Err(_), _) | (_, Bound::Unbounded) => true,
        (Ok((key, _)), Bound::Excluded(to)) => key[..] < *to,
        (Ok((key, _)), Bound::Included(to)) => key[..] <= *to,
    };
    tree.range(from..).take_while(within)
}

/// Puts an empty metadata log behind a snapshot that has none.
fn ensure_a_log(metadata: &Path) -> io::Result<()> {
    let (mut snapshot, mut log) = (None, None);
    for entry in fs::read_dir(metadata)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let number = |prefix: &str| u64::from_str_radix(name.strip_prefix(prefix)?, 16).ok();
        snapshot = snapshot.max(number("snapshot_"));
        log = log.max(number("log_"));
    }
    if let Some(snapshot) = snapshot
        && log <= Some(snapshot)
    {
        tracing::warn!(path = %metadata.display(), "sled's metadata log was lost in a power cut before its first use");
        File::create(metadata.join(format!("log_{:016x}", snapshot + 1)))?.sync_all()?;
        File::open(metadata)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As after a power cut: the newest metadata log's name never reached the disk.
    fn lose_the_log(path: &Path) {
        for entry in fs::read_dir(path.join("metadata")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("log_") {
                fs::remove_file(path).unwrap();
            }
        }
    }

    fn value(path: &Path, guarded: bool) -> Option<sled::InlineArray> {
        let db = if guarded {
            open_sled::<LOG_FANOUT>(path, 1 << 20).unwrap()
        } else {
            sled::Config::new().path(path).flush_every_ms(Some(NEVER_MS)).open::<LOG_FANOUT>().unwrap()
        };
        db.get(b"key").unwrap()
    }

    #[test]
    fn who_had_it_open_may_let_go_a_moment_later() {
        let temp = tempfile::tempdir().unwrap();
        let db = open_sled::<LOG_FANOUT>(temp.path(), 1 << 20).unwrap();
        db.insert(b"key", b"value").unwrap();
        db.flush().unwrap();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(db);
        });
        assert_eq!(value(temp.path(), true).as_deref(), Some(&b"value"[..]));
        late.join().unwrap();
    }

    #[test]
    fn a_lost_metadata_log_takes_nothing_with_it() {
        for guarded in [false, true] {
            let temp = tempfile::tempdir().unwrap();
            let db = open_sled::<LOG_FANOUT>(temp.path(), 1 << 20).unwrap();
            db.insert(b"key", b"value").unwrap();
            db.flush().unwrap();
            drop(db);
            // The first opening moves everything into a snapshot, with an empty log behind it.
            assert!(value(temp.path(), true).is_some());
            lose_the_log(temp.path());
            assert!(value(temp.path(), guarded).is_some());
            let after = value(temp.path(), true);
            // Without the guard it is gone: if that ever changes, sled was mended and the guard can go.
            assert_eq!(after.is_some(), guarded);
        }
    }
}
