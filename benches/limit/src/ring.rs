//! The file of one process: preallocated, written in a circle, synced with fdatasync.
//!
//! It stands for the best log there could be: no metadata changes with a write, so a sync is the data alone. What is
//! overwritten is gone; of the last [`RING`] bytes a hash says whether two files hold the same.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

/// Bytes of each file.
const RING: u64 = 256 << 20;
/// Bytes read or written at once where time does not count.
const CHUNK: u64 = 1 << 20;

/// The file, and how much has ever been written to it.
pub(crate) struct Ring {
    file: File,
    bytes: u64,
    end: u64,
}

impl Ring {
    /// Makes the file. Zeros are written, and not only promised: a block that was never written costs a sync its metadata.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Self::with_bytes(path, RING)
    }

    fn with_bytes(path: &Path, bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let zeros = vec![0; CHUNK as usize];
        let mut at = 0;
        while at < bytes {
            let step = CHUNK.min(bytes - at);
            file.write_all_at(&zeros[..step as usize], at)?;
            at += step;
        }
        file.sync_all()?;
        Ok(Self { file, bytes, end: 0 })
    }

    /// Bytes ever written.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Writes behind what is there. Not durable before [`Ring::sync`].
    pub(crate) fn append(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let at = self.end % self.bytes;
            let room = usize::try_from(self.bytes - at).unwrap_or(usize::MAX);
            let (now, rest) = data.split_at(data.len().min(room));
            self.file.write_all_at(now, at)?;
            self.end += now.len() as u64;
            data = rest;
        }
        Ok(())
    }

    /// Everything that was appended is on disk when it returns.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// What the file holds, in the order in which it was written.
    pub(crate) fn hash(&self) -> io::Result<u64> {
        let mut hash = Xxh3::new();
        let mut buffer = vec![0; CHUNK as usize];
        let mut at = self.end.saturating_sub(self.bytes);
        while at < self.end {
            let place = at % self.bytes;
            let step = CHUNK.min(self.end - at).min(self.bytes - place) as usize;
            self.file.read_exact_at(&mut buffer[..step], place)?;
            hash.update(&buffer[..step]);
            at += step as u64;
        }
        Ok(hash.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However it was cut into writes, and wherever the circle closed, the same bytes have the same hash, and others another.
    #[test]
    fn what_was_written_last_is_what_is_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let all: Vec<u8> = (0..10_000u32).flat_map(u32::to_le_bytes).collect();
        let mut hashes = Vec::new();
        for (name, cut) in [("a", 7), ("b", 40_000), ("c", 512)] {
            let mut ring = Ring::with_bytes(&folder.path().join(name), 3_000).unwrap();
            all.chunks(cut).for_each(|part| ring.append(part).unwrap());
            ring.sync().unwrap();
            assert_eq!(ring.end(), 40_000);
            hashes.push(ring.hash().unwrap());
        }
        let mut last = Xxh3::new();
        last.update(&all[37_000..]);
        assert_eq!(hashes, [last.digest(); 3]);
        let mut other = Ring::with_bytes(&folder.path().join("d"), 3_000).unwrap();
        other.append(&all[..39_999]).unwrap();
        other.append(b"x").unwrap();
        assert_ne!(other.hash().unwrap(), hashes[0]);
    }
}
