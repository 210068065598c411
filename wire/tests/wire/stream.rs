//! The decoder over a stream: however the bytes arrive, the frames are the same.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use rookery_wire::{Decoder, Frame, FrameFault, HEADER_BYTES};

use crate::bodies::Body;
use crate::strategies::body;

const MAX: u32 = 1 << 20;

/// Feeds `bytes` in pieces of these lengths (the last one takes the rest) and gathers every frame.
fn decode_in_pieces(bytes: &[u8], pieces: impl IntoIterator<Item = usize>) -> Result<Vec<Frame>, FrameFault> {
    let decoder = Decoder::new(MAX);
    let (mut buffer, mut frames, mut rest) = (BytesMut::new(), Vec::new(), bytes);
    let mut pieces = pieces.into_iter();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(pieces.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        rest = after;
        buffer.extend_from_slice(piece);
        while let Some(frame) = decoder.next(&mut buffer)? {
            frames.push(frame);
        }
    }
    assert!(buffer.is_empty(), "whole frames leave nothing behind");
    Ok(frames)
}

fn stream(bodies: &[Body]) -> Vec<u8> {
    bodies.iter().zip(1..).flat_map(|(body, id)| body.frame(id)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_make_no_difference(bodies in vec(body(), 1..6), pieces in vec(1..200usize, 0..200)) {
        let bytes = stream(&bodies);
        let whole = decode_in_pieces(&bytes, [bytes.len()]).unwrap();
        prop_assert_eq!(whole.len(), bodies.len());
        for (frame, body) in whole.iter().zip(&bodies) {
            prop_assert_eq!(&Body::decode(body.kind(), &frame.body).unwrap(), body);
        }
        prop_assert_eq!(&decode_in_pieces(&bytes, std::iter::repeat(1)).unwrap(), &whole);
        prop_assert_eq!(&decode_in_pieces(&bytes, pieces).unwrap(), &whole);
    }

    #[test]
    fn random_streams_do_no_harm(bytes in vec(any::<u8>(), 0..2_000)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        let decoder = Decoder::new(MAX);
        while let Ok(Some(frame)) = decoder.next(&mut buffer) {
            prop_assert!(frame.body.len() <= MAX as usize - HEADER_BYTES);
        }
    }

    /// A good frame before a bad one is still given.
    #[test]
    fn the_fault_comes_in_its_place(body in body(), length in 0..HEADER_BYTES as u32) {
        let mut buffer = BytesMut::from(&body.frame(7)[..]);
        buffer.extend_from_slice(&length.to_le_bytes());
        let decoder = Decoder::new(MAX);
        prop_assert!(decoder.next(&mut buffer).unwrap().is_some());
        prop_assert_eq!(decoder.next(&mut buffer), Err(FrameFault::TooShort(length)));
    }
}

fn next(bytes: &[u8], max: u32) -> Result<Option<Frame>, FrameFault> {
    Decoder::new(max).next(&mut BytesMut::from(bytes))
}

#[test]
fn a_length_is_judged_as_soon_as_it_is_there() {
    assert_eq!(next(&[0xff, 0xff, 0xff], 100), Ok(None));
    assert_eq!(next(&[101, 0, 0, 0], 100), Err(FrameFault::TooLarge { length: 101, max: 100 }));
    assert_eq!(next(&[0xff; 4], 100), Err(FrameFault::TooLarge { length: u32::MAX, max: 100 }));
    assert_eq!(next(&[7, 0, 0, 0], 100), Err(FrameFault::TooShort(7)));
    assert_eq!(next(&[100, 0, 0, 0], 100), Ok(None));
    assert_eq!(next(&[0xff; 4], u32::MAX), Ok(None));
}

#[test]
fn another_version_is_refused_at_its_byte() {
    assert_eq!(next(&[8, 0, 0, 0], 100), Ok(None));
    assert_eq!(next(&[8, 0, 0, 0, 2], 100), Err(FrameFault::Version(2)));
    // What a browser would say: read as a length, it is far too large.
    assert!(matches!(next(b"GET / HTTP/1.1\r\n", MAX), Err(FrameFault::TooLarge { .. })));
}

#[test]
fn unknown_kinds_and_flags_are_frames_like_any_other() {
    let frame = next(&[9, 0, 0, 0, 1, 200, 0xff, 0xff, 4, 3, 2, 1, 42], MAX).unwrap().unwrap();
    assert_eq!((frame.kind, frame.flags, frame.request_id), (200, 0xffff, 0x0102_0304));
    assert_eq!(&frame.body[..], [42]);
}
