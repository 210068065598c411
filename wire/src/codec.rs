//! Bodies: bincode 2 `standard()` (varint integers, little-endian) under a size limit, whole input consumed.
//!
//! Owns the rules that keep a hostile body harmless: claimed lengths are checked against the limit before
//! memory is taken, and bytes left over are an error. [`Blob`] is decoded without copying: the decoder carries
//! the frame's own buffer as its context ([`Source`]) and a blob becomes a slice of it.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::de::read::Reader;
use bincode::de::{BorrowDecoder, Decode, Decoder};
use bincode::enc::write::Writer;
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use bytes::{Bytes, BytesMut};

/// No body may claim more memory than this, whatever its frame limit: 16 MiB.
pub const BODY_LIMIT: usize = 16 << 20;

type Config = Configuration<LittleEndian, Varint, Limit<BODY_LIMIT>>;

fn config() -> Config {
    bincode::config::standard().with_limit::<BODY_LIMIT>()
}

/// Why a body could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeFault {
    /// The bytes are not a value of the expected type.
    #[error("malformed body: {0}")]
    Malformed(String),
    /// The value ended before its bytes did.
    #[error("{0} bytes left over after the body")]
    Trailing(usize),
}

/// The buffer a body is decoded from; blobs become slices of it.
#[derive(Clone, Debug)]
pub struct Source(Bytes);

/// Opaque bytes (message content, tokens): decoding shares the frame's buffer, cloning is a reference count.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Blob(pub Bytes);

impl Blob {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if text.len() <= 80 => write!(f, "{text:?}"),
            _ => write!(f, "<{} bytes>", self.0.len()),
        }
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Blob(bytes)
    }
}

impl From<&str> for Blob {
    fn from(text: &str) -> Self {
        Blob(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Encode for Blob {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        Encode::encode(&(self.0.len() as u64), encoder)?;
        encoder.writer().write(&self.0)
    }
}

impl Decode<Source> for Blob {
    fn decode<D: Decoder<Context = Source>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let len = <u64 as Decode<Source>>::decode(decoder)?;
        let len = usize::try_from(len).map_err(|_| DecodeError::LimitExceeded)?;
        decoder.claim_bytes_read(len)?;
        let at = match decoder.reader().peek_read(len) {
            Some(slice) => slice.as_ptr() as usize,
            None => return Err(DecodeError::UnexpectedEnd { additional: len }),
        };
        // The reader reads the very buffer that is the context, so the slice lies inside it.
        let source = &decoder.context().0;
        let start = at.wrapping_sub(source.as_ptr() as usize);
        let end = start.checked_add(len).filter(|end| *end <= source.len());
        let blob = match end {
            Some(end) => Blob(source.slice(start..end)),
            None => return Err(DecodeError::OtherString("blob outside its buffer".to_owned())),
        };
        decoder.reader().consume(len);
        Ok(blob)
    }
}

impl<'de> bincode::BorrowDecode<'de, Source> for Blob {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Source>>(decoder: &mut D) -> Result<Self, DecodeError> {
        <Blob as Decode<Source>>::decode(decoder)
    }
}

/// Decodes one whole value from `bytes`.
///
/// # Errors
/// [`DecodeFault`] when the bytes are not exactly one value of type `T`.
pub fn decode<T: Decode<Source>>(bytes: &Bytes) -> Result<T, DecodeFault> {
    let (value, used) = bincode::decode_from_slice_with_context(bytes, config(), Source(bytes.clone()))
        .map_err(|fault| DecodeFault::Malformed(fault.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(DecodeFault::Trailing(left)),
    }
}

/// Decodes one value from the front of `bytes` and says how many bytes it took.
///
/// # Errors
/// [`DecodeFault`] when the bytes do not begin with a value of type `T`.
pub fn decode_prefix<T: Decode<Source>>(bytes: &Bytes) -> Result<(T, usize), DecodeFault> {
    bincode::decode_from_slice_with_context(bytes, config(), Source(bytes.clone()))
        .map_err(|fault| DecodeFault::Malformed(fault.to_string()))
}

/// What is encoded alone goes into a `Vec`: its small writes are inlined, those of `BytesMut` are calls, and a message
/// is a dozen of them.
struct Alone<'a>(&'a mut Vec<u8>);

impl Writer for Alone<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        match bytes {
            // Half of all writes: small numbers, and what says how long others are.
            [byte] => self.0.push(*byte),
            _ => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }
}

struct Out<'a>(&'a mut BytesMut);

impl Writer for Out<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends the encoding of `value` to `out`.
pub fn encode_into<T: Encode>(value: &T, out: &mut BytesMut) {
    // Writing into memory cannot fail, and the limit binds decoding only.
    if let Err(fault) = bincode::encode_into_writer(value, Out(out), bincode::config::standard()) {
        debug_assert!(false, "encoding into memory failed: {fault}");
    }
}

/// Encodes `value` alone.
pub fn encode<T: Encode>(value: &T) -> Bytes {
    encode_sized(value, 128)
}

/// Encodes `value` alone, into a buffer that has room for `capacity` bytes before it must grow.
pub fn encode_sized<T: Encode>(value: &T, capacity: usize) -> Bytes {
    let mut out = Vec::with_capacity(capacity);
    // As in `encode_into`.
    if let Err(fault) = bincode::encode_into_writer(value, Alone(&mut out), bincode::config::standard()) {
        debug_assert!(false, "encoding into memory failed: {fault}");
    }
    out.into()
}
