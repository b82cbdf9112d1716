//! Byte strings in JSON: command lines, file names and environments need not be UTF-8.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::{Deserialize, Serialize};

/// A byte string: in JSON a string if it is UTF-8, else a list of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum JsonBytes {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl From<&OsStr> for JsonBytes {
    fn from(text: &OsStr) -> JsonBytes {
        match text.to_str() {
            Some(text) => JsonBytes::Text(text.to_owned()),
            None => JsonBytes::Bytes(text.as_bytes().to_vec()),
        }
    }
}

impl From<Vec<u8>> for JsonBytes {
    fn from(bytes: Vec<u8>) -> JsonBytes {
        String::from_utf8(bytes)
            .map_or_else(|error| JsonBytes::Bytes(error.into_bytes()), JsonBytes::Text)
    }
}

impl From<JsonBytes> for OsString {
    fn from(text: JsonBytes) -> OsString {
        match text {
            JsonBytes::Text(text) => text.into(),
            JsonBytes::Bytes(bytes) => OsString::from_vec(bytes),
        }
    }
}
