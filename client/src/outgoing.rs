//! What the application wants sent.

use bytes::Bytes;
use rookery_wire::{Blob, Burns, Expires, Extension, UserId};

/// Most extensions a message may carry.
pub(crate) const MAX_EXTENSIONS: usize = 16;
/// Most bytes they may have together.
pub(crate) const MAX_EXTENSION_BYTES: usize = 4096;
/// Longest media type, bytes.
pub(crate) const MAX_CONTENT_TYPE: usize = 64;
/// Most users one membership request may name.
pub(crate) const MAX_USERS: usize = 1000;
/// Bytes of such a request around its users, at most: header, session, numbers.
pub(crate) const AROUND_USERS: usize = 256;

/// One message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Media type, at most 64 bytes.
    pub content_type: Bytes,
    /// The content, opaque; bounded by the server's `limits.content`.
    pub content: Bytes,
    /// Skippable additions, at most 16, with at most 4,096 bytes of data together.
    pub extensions: Vec<Extension>,
    /// In whose name, for a service only.
    pub on_behalf_of: Option<UserId>,
}

impl Outgoing {
    /// Plain text.
    pub fn text(text: &str) -> Self {
        Self::new("text/plain", Bytes::copy_from_slice(text.as_bytes()))
    }

    /// Content of any media type.
    pub fn new(content_type: &'static str, content: impl Into<Bytes>) -> Self {
        Self {
            content_type: Bytes::from_static(content_type.as_bytes()),
            content: content.into(),
            extensions: Vec::new(),
            on_behalf_of: None,
        }
    }

    /// Lasts for this time only, a second at least: then its content goes, here and everywhere.
    #[must_use]
    pub fn lasting(self, time: std::time::Duration) -> Self {
        let after_ms = millis(time);
        self.going(Expires::TAG, &Expires { after_ms })
    }

    /// In a direct session: goes once the other user has read it, after this time.
    #[must_use]
    pub fn burning(self, time: std::time::Duration) -> Self {
        let after_ms = millis(time);
        self.going(Burns::TAG, &Burns { after_ms })
    }

    fn going(mut self, tag: u16, data: &impl bincode::Encode) -> Self {
        self.extensions.retain(|extension| ![Expires::TAG, Burns::TAG].contains(&extension.tag));
        self.extensions.push(Extension { tag, data: Blob(rookery_wire::encode(data)) });
        self
    }

    /// In the name of `user` (service only).
    #[must_use]
    pub fn on_behalf_of(mut self, user: UserId) -> Self {
        self.on_behalf_of = Some(user);
        self
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
