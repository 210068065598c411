//! The node's folder: its lock, the store id, the small identity record of `src/`.
//!
//! ```text
//! <dir>/lock        held with an exclusive flock while a node runs
//! <dir>/store       magic, version, store id, crc32c; written once, when everything else of the folder exists
//! <dir>/identity    the bytes given to `set_identity`, with length and crc32c
//! <dir>/journal/    the redo journal       <dir>/log/    sled, votes and entries      <dir>/state/  sled, maps
//! ```
//! Must never make up a store id for a folder that already held a log (R4): a folder whose `store` file is gone or
//! damaged is refused. `store.new` marks a folder whose creation was interrupted; nothing was promised from it yet.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;

use super::error::StoreError;

const MAGIC: &[u8; 8] = b"ROOKSTOR";
const VERSION: u32 = 3;
/// Most bytes `set_identity` accepts.
pub(crate) const IDENTITY_MAX: usize = 64 * 1024;

/// The locked folder. The lock goes with this value or by `unlock`, so every thread that writes below the folder keeps an
/// `Arc`.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    pub(crate) store_id: u64,
    pub(crate) created: bool,
    lock: Mutex<Option<File>>,
}

impl Folder {
    /// Locks `dir`, made if absent, and reads or draws the store id. `finish_creation` must follow when `created`.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|e| io_error("cannot make the folder", dir, e))?;
        let lock = lock(dir)?;
        let id_file = dir.join("store");
        if id_file.exists() {
            let store_id = read_store_id(dir, &id_file)?;
            return Ok(Self { dir: dir.to_owned(), store_id, created: false, lock: Mutex::new(Some(lock)) });
        }
        Self::begin_creation(dir)?;
        let store_id = draw_store_id()?;
        write_durably(dir, "store.new", &encode_store_id(store_id))?;
        Ok(Self { dir: dir.to_owned(), store_id, created: true, lock: Mutex::new(Some(lock)) })
    }

    /// Refuses a folder that lost its identity, clears one whose creation was interrupted.
    fn begin_creation(dir: &Path) -> Result<(), StoreError> {
        let interrupted = dir.join("store.new").exists();
        for part in ["journal", "log", "state", "identity"] {
            let path = dir.join(part);
            if !path.exists() {
                continue;
            }
            if !interrupted {
                let why = format!("`{part}` exists, `store` does not");
                return Err(StoreError::NoIdentity { dir: dir.to_owned(), why });
            }
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.map_err(|e| io_error("cannot clear the interrupted creation", &path, e))?;
        }
        Ok(())
    }

    /// Everything of the new folder exists and is durable: from here on it has an identity.
    pub(crate) fn finish_creation(&self) -> Result<(), StoreError> {
        if !self.created {
            return Ok(());
        }
        let target = self.dir.join("store");
        fs::rename(self.dir.join("store.new"), &target).map_err(|e| io_error("cannot name", &target, e))?;
        sync_dir(&self.dir)?;
        // The folder itself must survive too, or the node would come back as a stranger.
        match self.dir.canonicalize().ok().and_then(|d| d.parent().map(Path::to_owned)) {
            Some(parent) => sync_dir(&parent),
            None => Ok(()),
        }
    }

    /// Lets another process have the folder. Every thread that wrote below it has ended.
    pub(crate) fn unlock(&self) {
        // Closing alone would leave it to a child that this process is about to start, between its fork and exec.
        let held = self.lock.lock().take();
        if let Some(Err(fault)) = held.map(|file| file.unlock()) {
            tracing::warn!(folder = %self.dir.display(), %fault, "the folder's lock was not released by hand");
        }
    }

    /// The path of a part of the folder.
    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.dir.join(part)
    }

    /// The identity record, if one was set. A damaged one is an error, never "none".
    pub(crate) fn read_identity(&self) -> Result<Option<Bytes>, StoreError> {
        let path = self.path("identity");
        let raw = match fs::read(&path) {
            Ok(raw) => raw,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("cannot read", &path, e)),
        };
        match unframe(&raw) {
            Some(body) => Ok(Some(Bytes::copy_from_slice(body))),
            None => {
                let what = format!("the identity record {} fails its checksum", path.display());
                Err(StoreError::LogDamaged { dir: self.dir.clone(), what })
            }
        }
    }

    /// Replaces the identity record; durable when this returns.
    pub(crate) fn write_identity(&self, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > IDENTITY_MAX {
            return Err(StoreError::TooLarge {
                what: "the identity record",
                bytes: bytes.len(),
                max: IDENTITY_MAX,
            });
        }
        write_durably(&self.dir, "identity.new", &frame(bytes))?;
        let target = self.path("identity");
        fs::rename(self.path("identity.new"), &target).map_err(|e| io_error("cannot name", &target, e))?;
        sync_dir(&self.dir)
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|e| io_error("cannot open the lock file", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(dir.to_owned())),
        Err(TryLockError::Error(e)) => Err(io_error("cannot lock", &path, e)),
    }
}

/// Never 0: 0 is "nobody" in a Raft id.
fn draw_store_id() -> Result<u64, StoreError> {
    loop {
        let id = getrandom::u64()
            .map_err(|e| StoreError::io("cannot draw a store id", io::Error::other(e.to_string())))?;
        if id != 0 {
            return Ok(id);
        }
    }
}

fn encode_store_id(id: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(20);
    body.extend_from_slice(MAGIC);
    body.extend_from_slice(&VERSION.to_le_bytes());
    body.extend_from_slice(&id.to_le_bytes());
    frame(&body)
}

fn read_store_id(dir: &Path, path: &Path) -> Result<u64, StoreError> {
    let refuse =
        |why: &str| StoreError::NoIdentity { dir: dir.to_owned(), why: format!("{} {why}", path.display()) };
    let raw = fs::read(path).map_err(|e| io_error("cannot read", path, e))?;
    let body = unframe(&raw).ok_or_else(|| refuse("fails its checksum"))?;
    // A newer format may have more behind the version.
    if body.len() < 20 || !body.starts_with(MAGIC) {
        return Err(refuse("is not a store id"));
    }
    let version = u32::from_le_bytes([body[8], body[9], body[10], body[11]]);
    if version > VERSION {
        return Err(StoreError::NewerFormat { dir: dir.to_owned(), found: version, known: VERSION });
    }
    if version != VERSION || body.len() != 20 {
        return Err(refuse(&format!("is of format {version}, and this version reads {VERSION} only")));
    }
    let mut id = [0; 8];
    id.copy_from_slice(&body[12..20]);
    Ok(u64::from_le_bytes(id))
}

/// length u32, crc32c u32 of length and body, body.
fn frame(body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), body);
    let mut out = Vec::with_capacity(8 + body.len());
    out.extend_from_slice(&length);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    out
}

fn unframe(raw: &[u8]) -> Option<&[u8]> {
    let (head, body) = raw.split_at_checked(8)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..4]), body);
    (head[..4] == (body.len() as u32).to_le_bytes() && head[4..] == crc.to_le_bytes()).then_some(body)
}

fn write_durably(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let path = dir.join(name);
    let write = || -> io::Result<()> {
        let mut file = File::create(&path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| io_error("cannot write", &path, e))?;
    sync_dir(dir)
}

/// Makes names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| io_error("cannot sync the folder", dir, e))
}

pub(crate) fn io_error(what: &str, path: &Path, source: io::Error) -> StoreError {
    StoreError::io(format!("{what} {}", path.display()), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_creation_starts_over_and_a_lost_identity_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let first = Folder::open(temp.path()).unwrap();
        fs::create_dir(first.path("log")).unwrap();
        assert!(first.created);
        drop(first);
        let again = Folder::open(temp.path()).unwrap();
        assert!(again.created && !again.path("log").exists());
        fs::create_dir(again.path("log")).unwrap();
        again.finish_creation().unwrap();
        let id = again.store_id;
        drop(again);
        let reopened = Folder::open(temp.path()).unwrap();
        assert!(!reopened.created && reopened.store_id == id);
        drop(reopened);
        fs::remove_file(temp.path().join("store")).unwrap();
        assert!(matches!(Folder::open(temp.path()), Err(StoreError::NoIdentity { .. })));
    }

    #[test]
    fn every_flipped_bit_of_the_store_file_and_of_the_identity_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        folder.finish_creation().unwrap();
        folder.write_identity(b"cluster 7, node 2").unwrap();
        assert_eq!(folder.read_identity().unwrap().unwrap(), b"cluster 7, node 2".as_slice());
        drop(folder);
        for name in ["store", "identity"] {
            let path = temp.path().join(name);
            let good = fs::read(&path).unwrap();
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, &bad).unwrap();
                let refused = Folder::open(temp.path()).and_then(|f| f.read_identity());
                assert!(refused.is_err(), "{name}: flipping bit {bit} went unnoticed");
            }
            fs::write(&path, &good).unwrap();
        }
    }

    #[test]
    fn a_newer_format_is_no_lost_identity() {
        let temp = tempfile::tempdir().unwrap();
        Folder::open(temp.path()).unwrap().finish_creation().unwrap();
        let mut body = MAGIC.to_vec();
        body.extend_from_slice(&(VERSION + 1).to_le_bytes());
        body.extend_from_slice(b"whatever comes later");
        fs::write(temp.path().join("store"), frame(&body)).unwrap();
        let error = Folder::open(temp.path()).unwrap_err();
        assert!(matches!(error, StoreError::NewerFormat { found, .. } if found == VERSION + 1), "{error}");
        assert!(!error.to_string().contains("move the folder away"), "{error}");
    }

    #[test]
    fn an_older_format_is_refused_by_its_number() {
        let temp = tempfile::tempdir().unwrap();
        Folder::open(temp.path()).unwrap().finish_creation().unwrap();
        let mut body = MAGIC.to_vec();
        body.extend_from_slice(&(VERSION - 1).to_le_bytes());
        body.extend_from_slice(&7u64.to_le_bytes());
        fs::write(temp.path().join("store"), frame(&body)).unwrap();
        let error = Folder::open(temp.path()).unwrap_err().to_string();
        let says = format!("is of format {}, and this version reads {VERSION} only", VERSION - 1);
        assert!(error.contains(&says), "{error}");
    }

    #[test]
    fn a_locked_folder_is_refused_by_name() {
        let temp = tempfile::tempdir().unwrap();
        let _held = Folder::open(temp.path()).unwrap();
        let error = Folder::open(temp.path()).unwrap_err();
        assert!(error.to_string().contains("is in use by a running node"), "{error}");
    }
}
