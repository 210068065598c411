//! The journal's files: preallocated segments that go round.
//!
//! Owns the files, which of them are free, and how far each is filled. A segment is written with zeros once, so that a
//! later fdatasync has no extents to convert. It becomes free only when the keeper says that sled has flushed every
//! batch in it. Must never give out a segment that recovery could still need, and never shrink one.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::store::error::StoreError;
use crate::store::folder::{io_error, sync_dir};

/// How often a writer that waits for a free segment says so.
const WAIT_NOTE: Duration = Duration::from_secs(5);

/// One preallocated file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u32,
    pub(crate) path: PathBuf,
    file: File,
}

impl Segment {
    pub(crate) fn open(dir: &Path, id: u32) -> Result<Self, StoreError> {
        let path = path_of(dir, id);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        Ok(Self { id, file: opened.map_err(|e| io_error("cannot open", &path, e))?, path })
    }

    /// Makes and fills a new file; a failure leaves nothing behind.
    pub(crate) fn create(dir: &Path, id: u32, bytes: u64) -> Result<Self, StoreError> {
        let path = path_of(dir, id);
        let fill = || -> io::Result<File> {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
            let zeros = vec![0; 1 << 20];
            let mut at = 0;
            while at < bytes {
                let part = zeros.len().min((bytes - at) as usize);
                file.write_all_at(&zeros[..part], at)?;
                at += part as u64;
            }
            file.sync_all()?;
            Ok(file)
        };
        match fill() {
            Ok(file) => {
                sync_dir(dir)?;
                Ok(Self { id, file, path })
            }
            Err(e) => {
                // An unused file of zeros; recovery would take it for a free segment anyway.
                let _ = fs::remove_file(&path);
                Err(io_error("cannot preallocate", &path, e))
            }
        }
    }

    pub(crate) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reads up to `bytes` from `at`; fewer at the file's end.
    pub(crate) fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut out = vec![0; bytes];
        let mut filled = 0;
        while filled < bytes {
            match self.file.read_at(&mut out[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        out.truncate(filled);
        Ok(out)
    }

    pub(crate) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

fn path_of(dir: &Path, id: u32) -> PathBuf {
    dir.join(format!("{id:08}.seg"))
}

/// The segments below `dir`, by number. A gap in the numbers means that a file is missing.
pub(crate) fn list(dir: &Path) -> Result<Vec<Segment>, StoreError> {
    let mut ids = Vec::new();
    let entries = fs::read_dir(dir).map_err(|e| io_error("cannot list", dir, e))?;
    for entry in entries {
        let name = entry.map_err(|e| io_error("cannot list", dir, e))?.file_name();
        let id = name.to_str().and_then(|n| n.strip_suffix(".seg")).and_then(|n| n.parse::<u32>().ok());
        ids.extend(id);
    }
    ids.sort_unstable();
    ids.into_iter().map(|id| Segment::open(dir, id)).collect()
}

/// Which segments are free, shared by the writer, who takes, and the keeper, who gives back.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) dir: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) most: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    free: VecDeque<Arc<Segment>>,
    /// Filled segments with the number of their last batch.
    full: Vec<(Arc<Segment>, u64)>,
    total: usize,
    /// Bytes used of the segment that is being written.
    active: u64,
    /// The writer waits for a segment.
    starved: bool,
    /// The writer and the keeper must not make the same file.
    growing: bool,
    /// The last attempt to make one failed.
    stunted: bool,
    stopped: bool,
}

/// How full the journal is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) used: u64,
    pub(crate) total: u64,
}

impl Segments {
    /// `free` holds every segment there is, in the order in which they are to be used.
    pub(crate) fn new(dir: PathBuf, bytes: u64, most: usize, free: Vec<Arc<Segment>>) -> Self {
        let state = State { total: free.len(), free: free.into(), ..State::default() };
        Self { dir, bytes, most: most.max(2), state: Mutex::new(state), freed: Condvar::new() }
    }

    /// A free segment. If the keeper has made none ahead, one is made here, up to the bound; then waits for one to be
    /// recycled. None when the store has stopped.
    pub(crate) fn take(&self) -> Option<Arc<Segment>> {
        self.grow();
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(segment) = state.free.pop_front() {
                (state.active, state.starved) = (0, false);
                return Some(segment);
            }
            state.starved = true;
            if self.freed.wait_for(&mut state, WAIT_NOTE).timed_out() {
                tracing::warn!("the journal is full and waits for sled to flush");
            }
        }
    }

    /// The writer leaves `segment`, whose last batch is `last`.
    pub(crate) fn fill(&self, segment: Arc<Segment>, last: u64) {
        self.state.lock().full.push((segment, last));
    }

    /// Whether the writer waits for a segment or is about to, so that nothing may be left to the journal alone. Well before
    /// the journal counts as full, which stops new work.
    pub(crate) fn is_pressed(&self) -> bool {
        let Fill { used, total } = self.fill_level();
        self.state.lock().starved || used >= total / 8 * 5
    }

    pub(crate) fn set_active(&self, used: u64) {
        self.state.lock().active = used;
    }

    /// sled has flushed every batch up to `flushed`.
    pub(crate) fn recycle(&self, flushed: u64) -> usize {
        let mut state = self.state.lock();
        let (free, full): (Vec<_>, Vec<_>) = state.full.drain(..).partition(|(_, last)| *last <= flushed);
        state.full = full;
        let count = free.len();
        state.free.extend(free.into_iter().map(|(segment, _)| segment));
        drop(state);
        self.freed.notify_all();
        count
    }

    /// Makes a further segment when none is free and the bound allows it. A full disk is no fault here: the journal
    /// merely does not grow, and callers see it fill.
    pub(crate) fn grow(&self) {
        let id = {
            let mut state = self.state.lock();
            if !state.free.is_empty() || state.total >= self.most || state.stopped || state.growing {
                return;
            }
            state.growing = true;
            state.total as u32 + 1
        };
        let made = Segment::create(&self.dir, id, self.bytes);
        let mut state = self.state.lock();
        (state.growing, state.stunted) = (false, made.is_err());
        match made {
            Ok(segment) => {
                state.free.push_back(Arc::new(segment));
                state.total += 1;
            }
            Err(error) => tracing::warn!(%error, "the journal cannot grow"),
        }
        drop(state);
        self.freed.notify_all();
    }

    /// Segment files that exist.
    pub(crate) fn files(&self) -> u32 {
        self.state.lock().total as u32
    }

    pub(crate) fn fill_level(&self) -> Fill {
        let state = self.state.lock();
        let full = state.full.len() as u64 * self.bytes;
        // Where the disk has no room for more of them, those there are must do.
        let segments = if state.stunted { state.total } else { self.most };
        Fill { used: full + state.active, total: segments as u64 * self.bytes }
    }

    /// Wakes a waiting writer for good.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.freed.notify_all();
    }
}
