//! What the data folder takes on the disk, for `/status`: measured in the background, now and then.
//!
//! Owns the last figure. Must never walk the folder on the caller's thread, nor twice at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A figure is given out for so long before it is measured again.
const FRESH: Duration = Duration::from_secs(5);
/// Files and folders looked at in one walk. A data folder has some dozens; were there ever more, the figure is too low.
const MOST_ENTRIES: usize = 100_000;

/// The size of one folder, a few seconds old.
#[derive(Clone, Debug)]
pub(super) struct FolderSize(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    fresh: Duration,
    bytes: AtomicU64,
    walks: AtomicU64,
    measured: Mutex<Option<Instant>>,
    measuring: AtomicBool,
}

impl FolderSize {
    /// Of a folder; nothing is measured before somebody asks.
    pub(super) fn of(dir: PathBuf) -> Self {
        Self::fresh_for(dir, FRESH)
    }

    fn fresh_for(dir: PathBuf, fresh: Duration) -> Self {
        Self(Arc::new(Inner {
            dir,
            fresh,
            bytes: AtomicU64::new(0),
            walks: AtomicU64::new(0),
            measured: Mutex::new(None),
            measuring: AtomicBool::new(false),
        }))
    }

    /// Bytes, as last measured. Returns at once; a figure that is too old is measured again behind it. 0 until the
    /// first measurement has ended.
    pub(super) fn bytes(&self) -> u64 {
        let inner = &self.0;
        let old = inner.measured.lock().is_none_or(|at| at.elapsed() >= inner.fresh);
        if old
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !inner.measuring.swap(true, Ordering::AcqRel)
        {
            let measured = Arc::clone(inner);
            // Ends by itself: the walk is bounded.
            runtime.spawn_blocking(move || measured.measure());
        }
        inner.bytes.load(Ordering::Acquire)
    }
}

impl Inner {
    fn measure(&self) {
        let mut left = MOST_ENTRIES;
        self.bytes.store(walk(&self.dir, &mut left), Ordering::Release);
        self.walks.fetch_add(1, Ordering::AcqRel);
        *self.measured.lock() = Some(Instant::now());
        self.measuring.store(false, Ordering::Release);
    }
}

/// The bytes of the files below a folder. Links are not followed, and what goes while it is looked at counts nothing.
fn walk(dir: &Path, left: &mut usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let mut bytes = 0;
    for entry in entries.flatten() {
        if *left == 0 {
            break;
        }
        *left -= 1;
        bytes += match entry.metadata() {
            Ok(meta) if meta.is_dir() => walk(&entry.path(), left),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..500 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 5 s: {what}");
    }

    #[tokio::test]
    async fn many_questions_are_one_walk_until_the_figure_is_old() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("inner")).expect("a folder in it");
        std::fs::write(dir.path().join("one"), [0; 300]).expect("a file");
        std::fs::write(dir.path().join("inner/two"), [0; 41]).expect("another");
        let size = FolderSize::of(dir.path().to_owned());
        until("measured", || size.bytes() == 341).await;
        std::fs::write(dir.path().join("three"), [0; 9]).expect("a third");
        for _ in 0..10_000 {
            assert_eq!(size.bytes(), 341);
        }
        assert_eq!(size.0.walks.load(Ordering::Acquire), 1);

        let size = FolderSize::fresh_for(dir.path().to_owned(), Duration::from_millis(1));
        until("measured anew", || size.bytes() == 350).await;
        std::fs::write(dir.path().join("three"), [0; 10]).expect("it grows");
        until("measured again", || size.bytes() == 351).await;
    }

    #[test]
    fn a_walk_ends() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in 0..20 {
            std::fs::write(dir.path().join(name.to_string()), [0; 10]).expect("a file");
        }
        assert_eq!(walk(dir.path(), &mut 5), 50);
    }
}
