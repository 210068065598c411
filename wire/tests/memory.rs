//! What hostile bytes can make the decoder allocate, counted by the allocator itself.
//!
//! A binary of its own with a single test, because the count is of the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait around the system's own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use rookery_wire::codec::{BODY_LIMIT, Source};
use rookery_wire::{Decoder, decode, reply, request};

/// Counts live bytes, and the most there ever were since the last reset.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; the counters touch no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the pointer came from `alloc` above, thus from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes that were live at once beyond those live before.
fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    drop(work());
    PEAK.load(Relaxed).saturating_sub(before)
}

/// Error texts, the error itself, and whatever the test harness does meanwhile.
const SLACK: usize = 64 << 10;

/// A count or length of `claim`, and nothing behind it.
fn claim(before: &[u8], claim: u64) -> Bytes {
    Bytes::from([before, &[253], &claim.to_le_bytes()].concat())
}

fn peak_of_decoding<T: bincode::Decode<Source>>(bytes: &Bytes) -> usize {
    peak_of(|| assert!(decode::<T>(bytes).is_err()))
}

#[test]
fn claims_do_not_allocate_beyond_their_bounds() {
    // A blob takes nothing: it is a slice of what is there.
    for lie in [1 << 10, 16 << 20, u64::from(u32::MAX), u64::MAX] {
        let peak = peak_of_decoding::<request::Sync>(&claim(b"", lie));
        assert!(peak < SLACK, "a blob of {lie} took {peak} bytes");
    }
    // A list may take what the body limit allows, for as long as it is being decoded.
    for lie in [10, 1_000, 100_000, 1 << 20, u64::from(u32::MAX), u64::MAX / 48, u64::MAX] {
        let lists = [
            peak_of_decoding::<request::Delivered>(&claim(b"", lie)),
            peak_of_decoding::<request::Members>(&claim(b"\x01\x01g\x01\x00", lie)),
            peak_of_decoding::<reply::Page>(&claim(b"\x01\x01g\x01\x01", lie)),
            peak_of_decoding::<reply::SyncPage>(&claim(b"", lie)),
        ];
        assert!(lists.iter().all(|peak| *peak <= BODY_LIMIT + SLACK), "lists of {lie} took {lists:?} bytes");
    }
    // A frame that is announced and does not come takes next to nothing, one that comes about twice its bytes.
    let decoder = Decoder::new(16 << 20);
    let announced = [&(16u32 << 20).to_le_bytes()[..], &[1, 2, 0, 0]].concat();
    let peak = peak_of(|| {
        let mut buffer = BytesMut::from(&announced[..]);
        assert_eq!(decoder.next(&mut buffer), Ok(None));
        buffer
    });
    assert!(peak < SLACK, "an announcement took {peak} bytes");
    for arrived in [100 << 10, 1 << 20, 8 << 20] {
        let mut bytes = announced.clone();
        bytes.resize(arrived, 0);
        let peak = peak_of(|| {
            let mut buffer = BytesMut::new();
            for piece in bytes.chunks(4_096) {
                buffer.extend_from_slice(piece);
                assert_eq!(decoder.next(&mut buffer), Ok(None));
            }
            buffer
        });
        // While a buffer grows, the old one and the new one are both there.
        assert!(peak <= 4 * arrived + SLACK, "{arrived} bytes of a frame took {peak} bytes");
    }
}
