//! Bytes of an enemy: cut, padded, changed, invented. Decoding says no, and never panics.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use rookery_wire::{DecodeFault, Kind};

use crate::bodies::Body;
use crate::strategies::body;

/// Whatever decodes must be a value like any other: it encodes, and comes back as itself.
fn decodes_soundly(kind: Kind, bytes: &Bytes) {
    if let Ok(body) = Body::decode(kind, bytes) {
        assert_eq!(Body::decode(kind, &body.encode()).unwrap(), body);
    }
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..600)) {
        let bytes = Bytes::from(bytes);
        for kind in Kind::ALL {
            decodes_soundly(*kind, &bytes);
        }
    }

    #[test]
    fn every_truncation_is_refused(body in body()) {
        let bytes = body.encode();
        for length in 0..bytes.len() {
            let cut = Body::decode(body.kind(), &bytes.slice(..length));
            prop_assert!(matches!(cut, Err(DecodeFault::Malformed(_))), "{length} of {}: {cut:?}", bytes.len());
        }
    }

    #[test]
    fn bytes_left_over_are_refused(body in body(), more in vec(any::<u8>(), 1..20)) {
        let bytes = Bytes::from([&body.encode()[..], &more[..]].concat());
        let padded = Body::decode(body.kind(), &bytes);
        prop_assert!(matches!(padded, Err(DecodeFault::Trailing(left)) if left == more.len()), "{padded:?}");
    }

    #[test]
    fn changed_bytes_do_no_harm(body in body(), at: prop::sample::Index, byte: u8) {
        let mut bytes = body.encode().to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        decodes_soundly(body.kind(), &Bytes::from(bytes));
    }

    /// A length or count that lies, put in place of every byte in turn: as large as an integer can be, as large as
    /// an address, and just more than there is.
    #[test]
    fn lying_lengths_do_no_harm(body in body()) {
        let bytes = body.encode();
        let lies = [u64::MAX, u64::MAX >> 1, 1 << 32, 16 << 20, (16 << 20) + 1, bytes.len() as u64];
        for at in 0..bytes.len() {
            for lie in lies {
                let lie = [&[253][..], &lie.to_le_bytes()].concat();
                let lying = [&bytes[..at], &lie, &bytes[at + 1..]].concat();
                decodes_soundly(body.kind(), &Bytes::from(lying));
            }
        }
    }

    #[test]
    fn a_body_of_another_kind_does_no_harm(body in body()) {
        let bytes = body.encode();
        for kind in Kind::ALL {
            decodes_soundly(*kind, &bytes);
        }
    }
}
