//! The device's memory: a small JSON file, replaced atomically (temporary file of a name of its own, fsync, rename, fsync of
//! the folder). Behind the JSON stands its SHA-256, so that a damaged file is noticed and never taken for a good one, nor for
//! none: cursors that went back would be silent repeats, and numbers that did would be refused.
//!
//! A run marks the file as open before it sends anything. A run that finds it so knows that its predecessor did not
//! close: numbers may have been used that the file does not know, so it keeps the cursors and registers the device
//! anew, which starts the numbers at 1 under a new epoch. That is what epochs are for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rookery_wire::{DeviceId, SessionId, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::ClientError;
use crate::verify::Proof;

/// With a line of its own for the checksum.
const VERSION: u32 = 2;
/// Without one; such a file is read, and the next save makes it one with.
const UNCHECKED: u32 = 1;
/// What to do about a file that cannot be read.
const REMEDY: &str = "put back a copy or delete it: then the device is registered anew, begins behind what the cluster knows \
                      it to have had, and may be given some messages again";
/// The end of the name of a file that is being written.
const UNFINISHED: &str = ".new";

/// Tells the temporary files of one process apart.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// What a run leaves to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Remembered {
    pub(crate) cluster: Option<[u8; 16]>,
    pub(crate) epoch: u32,
    pub(crate) nonce: u64,
    /// The run that wrote it closed with every number settled.
    pub(crate) clean: bool,
    /// Of the last reading of the session list, with which `listed` of the sessions belongs; empty for none.
    pub(crate) mark: Vec<u8>,
    pub(crate) sessions: BTreeMap<SessionId, SessionMemory>,
    /// How far histories were verified.
    pub(crate) proofs: BTreeMap<SessionId, Proof>,
}

/// What is remembered of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionMemory {
    /// The application has handled all up to here.
    pub(crate) cursor: u64,
    /// The device's last number.
    pub(crate) last_client_seq: u64,
    /// The user is in it by the list of the mark, and it is known to go up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listed: Option<u64>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Format {
    version: u32,
    user: UserId,
    device: DeviceId,
    cluster: Option<[u8; 16]>,
    epoch: u32,
    nonce: u64,
    clean: bool,
    /// In hexadecimal; a file of a program that knew none has none.
    #[serde(default)]
    mark: String,
    sessions: BTreeMap<SessionId, SessionMemory>,
    #[serde(default)]
    proofs: BTreeMap<SessionId, Proof>,
}

/// Bytes as text.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of such a text; none if it is no such text.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let whole = digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit);
    whole.then(|| digits.chunks(2).map(byte).collect())?
}

/// The JSON, and the checksum in the last line if there is one.
fn split(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        // JSON as it is saved has no line ends; whatever stands behind the first must be the checksum and its own.
        Some(end) => (&bytes[..end], Some(bytes[end + 1..].strip_suffix(b"\n").unwrap_or_default())),
        None => (bytes, None),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The file of one device.
#[derive(Clone, Debug)]
pub(crate) struct MemoryFile {
    path: PathBuf,
    user: UserId,
    device: DeviceId,
}

impl MemoryFile {
    pub(crate) fn new(path: PathBuf, user: UserId, device: DeviceId) -> Self {
        Self { path, user, device }
    }

    /// What is in it; nothing if there is no file.
    pub(crate) fn load(&self) -> Result<Remembered, ClientError> {
        self.sweep();
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Remembered::default()),
            Err(error) => return Err(self.fault(error)),
        };
        let (json, checksum) = split(&bytes);
        let damaged = |what: &dyn std::fmt::Display| self.fault(format_args!("damaged, {what}; {REMEDY}"));
        if checksum.is_some_and(|checksum| checksum != to_hex(&Sha256::digest(json)).as_bytes()) {
            return Err(damaged(&"its checksum is another"));
        }
        let Version { version } = serde_json::from_slice(json).map_err(|error| damaged(&error))?;
        if version != VERSION && version != UNCHECKED {
            return Err(
                self.fault(format_args!("version {version}, this program knows {VERSION}; update it"))
            );
        }
        if checksum.is_some() != (version == VERSION) {
            return Err(damaged(&"its checksum is missing or not its own"));
        }
        let format: Format = serde_json::from_slice(json).map_err(|error| damaged(&error))?;
        if (&format.user, &format.device) != (&self.user, &self.device) {
            let whose = format_args!("it belongs to {} on {}", format.user, format.device);
            return Err(self.fault(format_args!("{whose}; give each device a file of its own")));
        }
        let Format { cluster, epoch, nonce, clean, mark, sessions, proofs, .. } = format;
        // One that is not to be read is none: then everything is read.
        let mark = from_hex(&mark).unwrap_or_default();
        Ok(Remembered { cluster, epoch, nonce, clean, mark, sessions, proofs })
    }

    /// Replaces the file. When this returns, the new content survives a power cut.
    pub(crate) fn save(&self, remembered: Remembered) -> Result<(), ClientError> {
        let Remembered { cluster, epoch, nonce, clean, mark, sessions, proofs } = remembered;
        let format = Format {
            version: VERSION,
            user: self.user.clone(),
            device: self.device.clone(),
            cluster,
            epoch,
            nonce,
            clean,
            mark: to_hex(&mark),
            sessions,
            proofs,
        };
        let mut bytes = serde_json::to_vec(&format).map_err(|error| self.fault(error))?;
        let checksum = to_hex(&Sha256::digest(&bytes));
        bytes.extend_from_slice(format!("\n{checksum}\n").as_bytes());
        self.replace(&bytes).map_err(|error| self.fault(error))
    }

    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        let folder = self.folder();
        std::fs::create_dir_all(folder)?;
        // Two that write at once must not write into one file: each puts a whole one in place.
        let temporary = self.unfinished(&format!("{}-{}", std::process::id(), WRITES.fetch_add(1, Relaxed)));
        let written = write_synced(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &self.path));
        if written.is_err() {
            // Of a full disk, perhaps. The failure is what is told.
            let _ = std::fs::remove_file(&temporary);
        }
        written?;
        File::open(folder)?.sync_all()
    }

    /// Removes what runs that were killed while they wrote have left. Only this device writes files of these names, and one
    /// process at a time.
    fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(self.folder()) else { return };
        let Some(own) = self.path.file_name() else { return };
        let own = own.to_string_lossy().into_owned();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let middle = name.strip_prefix(&own).and_then(|rest| rest.strip_suffix(UNFINISHED));
            if middle.is_some_and(|middle| middle.chars().all(|c| matches!(c, '.' | '-' | '0'..='9'))) {
                // One that stays costs its bytes and nothing else.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn unfinished(&self, tag: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{tag}{UNFINISHED}"));
        PathBuf::from(name)
    }

    fn fault(&self, reason: impl std::fmt::Display) -> ClientError {
        ClientError::Memory { path: self.path.display().to_string(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir) -> MemoryFile {
        let (user, device) = ("ann".parse().expect("a user"), "laptop".parse().expect("a device"));
        MemoryFile::new(folder.path().join("memory.json"), user, device)
    }

    fn some() -> Remembered {
        let session = SessionId::group("room".parse().expect("a group"));
        let memory = SessionMemory { cursor: 7, last_client_seq: 3, listed: None };
        Remembered {
            epoch: 2,
            nonce: 5,
            sessions: BTreeMap::from([(session, memory)]),
            ..Remembered::default()
        }
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(folder.path()).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn no_byte_of_it_can_change_or_be_missing_unnoticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = file(&folder);
        assert_eq!(file.load().expect("none"), Remembered::default());
        file.save(some()).expect("saved");
        assert_eq!(file.load().expect("whole"), some());
        let whole = std::fs::read(&file.path).expect("bytes");
        let refused = |bytes: &[u8], what: &dyn std::fmt::Display| {
            std::fs::write(&file.path, bytes).expect("written");
            let error = file.load().map(|_| ()).expect_err("damaged").to_string();
            assert!(error.contains("delete it") || error.contains("update it"), "{what}: {error}");
        };
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            refused(&other, &format_args!("byte {at}"));
            refused(&whole[..at], &format_args!("cut at {at}"));
        }
        refused(&[&whole[..], b"x"].concat(), &"more behind it");
        assert_eq!(names(&folder), ["memory.json"], "and it was left where it is");
    }

    #[test]
    fn a_file_without_a_checksum_is_read_and_saved_with_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = file(&folder);
        let json = r#"{"version":1,"user":"ann","device":"laptop","cluster":null,"epoch":2,"nonce":5,"clean":false,"sessions":{}}"#;
        std::fs::write(&file.path, json).expect("written");
        let remembered = file.load().expect("read");
        assert_eq!((remembered.epoch, remembered.nonce), (2, 5));
        file.save(remembered).expect("saved");
        assert!(split(&std::fs::read(&file.path).expect("bytes")).1.is_some());
    }

    #[test]
    fn writers_at_once_leave_one_whole_file_and_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = file(&folder);
        for left in ["memory.json.new", "memory.json.4-7.new", "memory.json.mine.new"] {
            std::fs::write(folder.path().join(left), b"half").expect("written");
        }
        std::thread::scope(|scope| {
            for epoch in 1..=4 {
                let file = file.clone();
                scope.spawn(move || {
                    for _ in 0..20 {
                        file.save(Remembered { epoch, ..some() }).expect("saved");
                    }
                });
            }
        });
        assert!((1..=4).contains(&file.load().expect("whole").epoch));
        let mut left = names(&folder);
        left.sort();
        assert_eq!(left, ["memory.json", "memory.json.mine.new"], "what is not ours stays");
    }
}
