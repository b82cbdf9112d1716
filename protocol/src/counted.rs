//! Byte strings and lists of them, as messages carry them.
//!
//! serde reads a `Vec<u8>` byte by byte, and a list for as long as bytes are left: two bytes of a
//! message become fifty in memory. Here a byte string is taken over in one copy, and a list is
//! counted while it is decoded. What is refused when it is read is refused when it is written, too.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most words of a command line: what the kernel takes by default, whose 2 MiB for arguments and
/// environment (execve(2)) include a pointer of eight bytes for each.
pub const MAX_WORDS: usize = 2 * 1024 * 1024 / 8;

/// Most variables of an environment: a hundred times what anybody has.
pub const MAX_VARIABLES: usize = 16_384;

/// Most options that say how to get to a host, and most patterns or variables that a command line
/// names: a hundred times what anybody writes.
pub const MAX_OPTIONS: usize = 4096;

/// Byte strings and lists of them in one field of a message; for `#[serde(with = "...")]`.
macro_rules! counted {
    ($(#[$doc:meta])* $name:ident, $item:ty, $most:ident) => {
        $(#[$doc])*
        pub(crate) mod $name {
            use super::*;

            pub(crate) fn serialize<S: serde::Serializer>(
                list: &[$item],
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                $crate::counted::write_list(list, $most, serializer)
            }

            pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Vec<$item>, D::Error> {
                $crate::counted::read_list($most, deserializer)
            }
        }
    };
}
pub(crate) use counted;

/// Most modes of a terminal: the numbers that a mode may have (RFC 4254 section 8).
pub const MAX_MODES: usize = 256;

counted!(/** The words of a command line. */ words, Vec<u8>, MAX_WORDS);
counted!(/** Options of a command line. */ options, Vec<u8>, MAX_OPTIONS);
counted!(/** Patterns of names. */ patterns, String, MAX_OPTIONS);
counted!(/** Variables that a command line sets. */ settings, (Vec<u8>, Vec<u8>), MAX_OPTIONS);
counted!(/** An environment. */ variables, (Vec<u8>, Vec<u8>), MAX_VARIABLES);

counted!(/** The modes of a terminal. */ modes, (u8, u32), MAX_MODES);

/// One byte string.
pub(crate) mod bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(ByteString)
    }
}

struct ByteString;

impl Visitor<'_> for ByteString {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

/// What a list consists of, as it goes over the wire.
pub(crate) trait Item: Sized {
    /// The same, to be written.
    type Written<'a>: Serialize
    where
        Self: 'a;

    /// The same, to be read.
    type Read: for<'de> Deserialize<'de> + Into<Self>;

    fn written(&self) -> Self::Written<'_>;
}

/// Bytes to be written at once.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Written<'a>(#[serde(serialize_with = "bytes::serialize")] &'a [u8]);

/// Bytes that were read at once.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Read(#[serde(deserialize_with = "bytes::deserialize")] Vec<u8>);

/// A variable that was read.
#[derive(Deserialize)]
pub(crate) struct ReadPair(Read, Read);

impl From<Read> for Vec<u8> {
    fn from(Read(bytes): Read) -> Vec<u8> {
        bytes
    }
}

impl From<ReadPair> for (Vec<u8>, Vec<u8>) {
    fn from(ReadPair(Read(name), Read(value)): ReadPair) -> (Vec<u8>, Vec<u8>) {
        (name, value)
    }
}

impl Item for (u8, u32) {
    type Written<'a> = (u8, u32);
    type Read = (u8, u32);

    fn written(&self) -> (u8, u32) {
        *self
    }
}

impl Item for Vec<u8> {
    type Written<'a> = Written<'a>;
    type Read = Read;

    fn written(&self) -> Written<'_> {
        Written(self)
    }
}

impl Item for (Vec<u8>, Vec<u8>) {
    type Written<'a> = (Written<'a>, Written<'a>);
    type Read = ReadPair;

    fn written(&self) -> Self::Written<'_> {
        (Written(&self.0), Written(&self.1))
    }
}

impl Item for String {
    type Written<'a> = &'a str;
    type Read = String;

    fn written(&self) -> &str {
        self
    }
}

pub(crate) fn write_list<T: Item, S: Serializer>(
    list: &[T],
    most: usize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if list.len() > most {
        return Err(S::Error::custom(TooMany { most }));
    }
    let mut written = serializer.serialize_seq(Some(list.len()))?;
    for item in list {
        written.serialize_element(&item.written())?;
    }
    written.end()
}

pub(crate) fn read_list<'de, T: Item, D: Deserializer<'de>>(
    most: usize,
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(List::<T>::new(most))
}

/// Reads a list of at most so many.
struct List<T> {
    most: usize,
    item: PhantomData<T>,
}

impl<T> List<T> {
    fn new(most: usize) -> List<T> {
        List { most, item: PhantomData }
    }
}

impl<'de, T: Item> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {}", self.most)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        let too_many = || A::Error::custom(TooMany { most: self.most });
        if sequence.size_hint().is_some_and(|claimed| claimed > self.most) {
            return Err(too_many());
        }
        // It grows as items come: what is claimed costs nothing.
        let mut list = Vec::new();
        while let Some(item) = sequence.next_element::<T::Read>()? {
            if list.len() == self.most {
                return Err(too_many());
            }
            list.push(item.into());
        }
        Ok(list)
    }
}

struct TooMany {
    most: usize,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of more than {} items", self.most)
    }
}
