//! A snapshot in motion: the stream a machine writes, and the spool in which a receiver keeps it until it is whole.
//!
//! A checkpoint *is* the snapshot: nothing is built ahead of time. The leader streams its machine when a follower needs
//! it ([`SnapshotWriter`]); the follower spools the chunks, and when all are there the machine reads them back
//! ([`SnapshotReader`]). One chunk written is one chunk read: boundaries are kept.
//!
//! Owns: `SnapshotWriter`, `SnapshotReader`, the spool file. Must never hold more than a few chunks in memory where there
//! is a disk, and must never hand over a stream that is not whole.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::machine::Fault;

/// The largest chunk a machine may write, in bytes.
pub const MAX_CHUNK: usize = 256 * 1024;

/// Chunks that wait between the machine and the link.
const WRITER_QUEUE: usize = 2;

/// A spool in memory (stores without a disk: simulations) takes no more than this, in bytes.
const MEMORY_SPOOL: usize = 256 * 1024 * 1024;

/// What openraft passes around as a snapshot.
#[derive(Debug)]
pub(crate) enum SnapshotData {
    /// The machine itself, to be streamed when somebody needs it.
    Live,
    /// What a leader sent, whole.
    Received(Spool),
}

/// Where a machine writes its snapshot.
#[derive(Debug)]
pub struct SnapshotWriter {
    chunks: mpsc::Sender<Bytes>,
    name: u64,
}

impl SnapshotWriter {
    /// A writer and where its chunks come, also for tests of machines.
    #[doc(hidden)]
    pub fn channel() -> (Self, mpsc::Receiver<Bytes>) {
        Self::named(u64::MAX)
    }

    /// Of the snapshot that the receiver will take for the machine as of this log index.
    #[doc(hidden)]
    pub fn named(name: u64) -> (Self, mpsc::Receiver<Bytes>) {
        let (chunks, rx) = mpsc::channel(WRITER_QUEUE);
        (Self { chunks, name }, rx)
    }

    /// Log index of the checkpoint that the snapshot is named after: the receiver goes on from there, and is told again whatever
    /// came later. By the time of writing there may be newer checkpoints.
    pub fn name(&self) -> u64 {
        self.name
    }

    /// Hands over one chunk of at most [`MAX_CHUNK`] bytes; waits while the receiver is behind. An error means that the
    /// transfer was given up: stop writing and return it.
    pub async fn chunk(&self, chunk: Bytes) -> Result<(), Fault> {
        if chunk.len() > MAX_CHUNK {
            return Err(Fault::new(format!(
                "snapshot chunk of {} bytes, more than {MAX_CHUNK}",
                chunk.len()
            )));
        }
        self.chunks.send(chunk).await.map_err(|_| Fault::new("snapshot transfer was given up"))
    }
}

/// From where a machine reads a snapshot, chunk by chunk as they were written.
#[derive(Debug)]
pub struct SnapshotReader {
    from: Source,
}

#[derive(Debug)]
enum Source {
    File { file: BufReader<File>, left: u64, path: PathBuf },
    Memory(VecDeque<Bytes>),
}

impl SnapshotReader {
    /// A snapshot at hand, for tests of machines.
    #[doc(hidden)]
    pub fn of(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        Self { from: Source::Memory(chunks.into_iter().collect()) }
    }

    /// The next chunk, or `None` after the last one. An error is damage on the disk.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        match &mut self.from {
            Source::Memory(chunks) => Ok(chunks.pop_front()),
            Source::File { left: 0, .. } => Ok(None),
            Source::File { file, left, path } => {
                let chunk = read_chunk(file)
                    .await
                    .map_err(|e| Fault::with_source(format!("reading the snapshot {}", path.display()), e))?;
                *left -= 1;
                Ok(Some(chunk))
            }
        }
    }
}

async fn read_chunk(file: &mut BufReader<File>) -> io::Result<Bytes> {
    let len = usize::try_from(file.read_u32_le().await?).unwrap_or(usize::MAX);
    let crc = file.read_u32_le().await?;
    if len > MAX_CHUNK {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("chunk length {len}")));
    }
    let mut chunk = BytesMut::zeroed(len);
    file.read_exact(&mut chunk).await?;
    if crc32c::crc32c(&chunk) != crc {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "chunk checksum"));
    }
    Ok(chunk.freeze())
}

/// A snapshot that was received whole. The file goes when this goes, and with it the right to have one.
#[derive(Debug)]
pub(crate) struct Spool {
    // Declared, and so dropped, before the permits.
    kept: Kept,
    chunks: u64,
    _permits: Vec<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Kept {
    File(TempPath),
    Memory(VecDeque<Bytes>),
}

/// Removes its file when dropped.
#[derive(Debug)]
struct TempPath(PathBuf);

impl Drop for TempPath {
    fn drop(&mut self) {
        // Nothing depends on it: leftovers are removed when the host starts.
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a snapshot spool");
        }
    }
}

impl Spool {
    /// Keeps these as long as there is the spool: whoever waits for the installation may give up long before that ends.
    pub(crate) fn holding(self, permits: impl Into<Vec<OwnedSemaphorePermit>>) -> Self {
        Self { _permits: permits.into(), ..self }
    }

    /// Reads all of it once. An error means that the disk does not hold what was received: a machine that began to
    /// install it could only stop the node.
    pub(crate) async fn verify(&self) -> Result<(), Fault> {
        let mut reader = self.reader().await?;
        while reader.next().await?.is_some() {}
        Ok(())
    }

    /// Opens it for the machine. The spool must outlive the reader.
    pub(crate) async fn reader(&self) -> Result<SnapshotReader, Fault> {
        let from = match &self.kept {
            Kept::Memory(chunks) => Source::Memory(chunks.clone()),
            Kept::File(TempPath(path)) => {
                let file = File::open(path)
                    .await
                    .map_err(|e| Fault::with_source(format!("opening the snapshot {}", path.display()), e))?;
                Source::File { file: BufReader::new(file), left: self.chunks, path: path.clone() }
            }
        };
        Ok(SnapshotReader { from })
    }
}

/// A snapshot that is being received.
pub(crate) struct SpoolWriter {
    to: Target,
    chunks: u64,
    bytes: usize,
}

enum Target {
    File { file: BufWriter<File>, path: TempPath },
    Memory(VecDeque<Bytes>),
}

impl SpoolWriter {
    /// Spools into a new file in `dir`, or into memory where there is none.
    pub(crate) async fn create(dir: Option<&Path>, name: &str) -> io::Result<Self> {
        let to = match dir {
            None => Target::Memory(VecDeque::new()),
            Some(dir) => {
                tokio::fs::create_dir_all(dir).await?;
                let path = TempPath(dir.join(name));
                Target::File { file: BufWriter::new(File::create(&path.0).await?), path }
            }
        };
        Ok(Self { to, chunks: 0, bytes: 0 })
    }

    /// Takes the next chunk.
    pub(crate) async fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        if chunk.len() > MAX_CHUNK {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "chunk too long"));
        }
        self.bytes = self.bytes.saturating_add(chunk.len());
        self.chunks += 1;
        match &mut self.to {
            Target::Memory(_) if self.bytes > MEMORY_SPOOL => {
                Err(io::Error::new(io::ErrorKind::OutOfMemory, "snapshot too large for a store in memory"))
            }
            Target::Memory(chunks) => {
                chunks.push_back(chunk);
                Ok(())
            }
            Target::File { file, .. } => {
                file.write_u32_le(u32::try_from(chunk.len()).unwrap_or(u32::MAX)).await?;
                file.write_u32_le(crc32c::crc32c(&chunk)).await?;
                file.write_all(&chunk).await
            }
        }
    }

    /// The sender says that this was all, and how much it was.
    pub(crate) async fn finish(self, chunks: u64) -> io::Result<Spool> {
        if chunks != self.chunks {
            let text = format!("snapshot of {chunks} chunks came as {}", self.chunks);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let kept = match self.to {
            Target::Memory(chunks) => Kept::Memory(chunks),
            Target::File { mut file, path } => {
                // No fsync: a spool does not outlive the process, and what is made of it is flushed by the machine.
                file.flush().await?;
                Kept::File(path)
            }
        };
        Ok(Spool { kept, chunks, _permits: Vec::new() })
    }
}

/// Removes what an earlier life of the process left behind.
pub(crate) async fn clear_spools(dir: &Path) -> io::Result<()> {
    match tokio::fs::remove_dir_all(dir).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn spooled(dir: Option<&Path>) -> Spool {
        let mut writer = SpoolWriter::create(dir, "one").await.unwrap();
        for chunk in [&b"first"[..], b"", b"third"] {
            writer.push(Bytes::from_static(chunk)).await.unwrap();
        }
        writer.finish(3).await.unwrap()
    }

    async fn read_all(spool: &Spool) -> Vec<Bytes> {
        let mut reader = spool.reader().await.unwrap();
        let mut all = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            all.push(chunk);
        }
        all
    }

    #[tokio::test]
    async fn chunks_come_back_as_they_went_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        for place in [Some(dir.path()), None] {
            let spool = spooled(place).await;
            assert_eq!(read_all(&spool).await, [&b"first"[..], b"", b"third"]);
            assert_eq!(path.exists(), place.is_some());
            drop(spool);
            assert!(!path.exists(), "a spool removes its file");
        }
    }

    #[tokio::test]
    async fn a_flipped_bit_and_a_missing_chunk_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spooled(Some(dir.path())).await;
        let path = dir.path().join("one");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[9] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = spool.reader().await.unwrap().next().await.unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
        assert!(spool.verify().await.is_err());
        drop(spool);
        assert!(!path.exists(), "a damaged spool goes too");

        let spool = spooled(Some(dir.path())).await;
        spool.verify().await.unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(spool.verify().await.is_err(), "cut at {length}");
        }

        let mut short = SpoolWriter::create(None, "").await.unwrap();
        short.push(Bytes::from_static(b"x")).await.unwrap();
        assert!(short.finish(2).await.is_err());
    }
}
