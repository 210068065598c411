//! What is encoded is decoded to the same value, and contents are not copied on the way.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rookery_wire::codec::decode_prefix;
use rookery_wire::{Blob, Decoder, Kind, decode, encode};

use crate::bodies::Body;
use crate::strategies::body;

/// The blobs of a body, of the kinds that carry content.
fn blobs(body: &Body) -> Vec<&Blob> {
    match body {
        Body::Hello(hello) => vec![&hello.token, &hello.agent],
        Body::Send(send) => {
            let mut blobs = vec![&send.content_type, &send.content];
            blobs.extend(send.extensions.iter().map(|extension| &extension.data));
            blobs
        }
        Body::Sync(sync) => vec![&sync.after, &sync.since],
        Body::Message(message) => vec![&message.record.content_type, &message.record.content],
        Body::Page(page) => page.records.iter().flat_map(|r| [&r.content_type, &r.content]).collect(),
        Body::SyncPage(page) => vec![&page.next, &page.mark],
        Body::GoAway(goaway) => vec![&goaway.text],
        Body::Error(error) => vec![&error.text],
        _ => Vec::new(),
    }
}

proptest! {
    #[test]
    fn a_body_comes_back(body in body()) {
        let bytes = body.encode();
        prop_assert_eq!(&Body::decode(body.kind(), &bytes).unwrap(), &body);
    }

    #[test]
    fn a_frame_comes_back_and_its_blobs_are_slices_of_it(body in body(), request_id: u32) {
        let mut buffer = BytesMut::from(&body.frame(request_id)[..]);
        let held = buffer.as_ptr_range();
        let frame = Decoder::new(u32::MAX).next(&mut buffer).unwrap().unwrap();
        prop_assert!(buffer.is_empty());
        prop_assert_eq!((frame.version, frame.flags, frame.request_id), (1, 0, request_id));
        prop_assert_eq!(Kind::from_number(frame.kind), Some(body.kind()));

        let decoded = Body::decode(body.kind(), &frame.body).unwrap();
        prop_assert_eq!(&decoded, &body);
        for blob in blobs(&decoded).into_iter().filter(|blob| !blob.is_empty()) {
            let at = blob.as_ref().as_ptr_range();
            prop_assert!(held.start <= at.start && at.end <= held.end, "a blob was copied");
        }
    }

    #[test]
    fn a_prefix_is_decoded_with_its_length(body in body(), after in proptest::collection::vec(any::<u8>(), 0..20)) {
        if let Body::Send(send) = body {
            let bytes = encode(&send);
            let joined = Bytes::from([&bytes[..], &after[..]].concat());
            let (decoded, used) = decode_prefix::<rookery_wire::request::Send>(&joined).unwrap();
            prop_assert_eq!((decoded, used), (send, bytes.len()));
        }
    }
}

#[test]
fn cloning_a_blob_shares_its_bytes() {
    let bytes = encode(&Blob::from("hello"));
    let blob: Blob = decode(&bytes).unwrap();
    assert_eq!(blob.as_ref().as_ptr(), bytes[1..].as_ptr());
    assert_eq!(blob.clone().as_ref().as_ptr(), blob.as_ref().as_ptr());
}
