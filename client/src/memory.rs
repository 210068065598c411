//! The device's memory: a small JSON file, replaced atomically (temporary file, fsync, rename, fsync of the folder).
//!
//! A run marks the file as open before it sends anything. A run that finds it so knows that its predecessor did not
//! close: numbers may have been used that the file does not know, so it keeps the cursors and registers the device
//! anew, which starts the numbers at 1 under a new epoch. That is what epochs are for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use rookery_wire::{DeviceId, SessionId, UserId};
use serde::{Deserialize, Serialize};

use crate::error::ClientError;
use crate::verify::Proof;

const VERSION: u32 = 1;

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
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Remembered::default()),
            Err(error) => return Err(self.fault(error)),
        };
        let format: Format = serde_json::from_slice(&bytes)
            .map_err(|error| self.fault(format_args!("{error}; delete it to register the device anew")))?;
        if format.version != VERSION {
            return Err(self.fault(format_args!("version {}, this program knows {VERSION}", format.version)));
        }
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
        let bytes = serde_json::to_vec(&format).map_err(|error| self.fault(error))?;
        self.replace(&bytes).map_err(|error| self.fault(error))
    }

    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder)?;
        }
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn fault(&self, reason: impl std::fmt::Display) -> ClientError {
        ClientError::Memory { path: self.path.display().to_string(), reason: reason.to_string() }
    }
}
