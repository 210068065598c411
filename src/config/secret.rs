//! A text that must not be shown: it prints as dots, wherever it is printed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret of the configuration. `Debug` and serialization hide it; [`Secret::expose`] is the only way to read it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as a secret.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
    /// The text itself. For keys of ciphers, never for messages.
    pub fn expose(&self) -> &str {
        &self.0
    }
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "\"\"" } else { "\"•••\"" })
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { "•••" })
    }
}
