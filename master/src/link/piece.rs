//! Bytes on their way out, with room for a frame's header in front of them: bulk that was read in
//! one piece goes out in one piece, and is not copied here.

use bytes::Bytes;
use fakessh_protocol::wire::HEADER_LEN;

/// Bytes to be sent on a handle.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Behind room for a header.
    Framed(Vec<u8>),
    /// As they are.
    Plain(Bytes),
}

impl Piece {
    /// What `read` puts behind the room for a header; it is given a vector with room for `most`
    /// further bytes.
    ///
    /// # Errors
    /// That of `read`.
    pub(crate) fn read<E>(
        most: usize,
        read: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Piece, E> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + most);
        bytes.resize(HEADER_LEN, 0);
        read(&mut bytes)?;
        Ok(Piece::Framed(bytes))
    }

    /// How many bytes are to be sent.
    pub(crate) fn len(&self) -> usize {
        match self {
            Piece::Framed(bytes) => bytes.len() - HEADER_LEN,
            Piece::Plain(bytes) => bytes.len(),
        }
    }

    /// The bytes without the room for a header.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Piece::Framed(bytes) => Bytes::from(bytes).slice(HEADER_LEN..),
            Piece::Plain(bytes) => bytes,
        }
    }

    /// The bytes as a whole frame, if there is room for its header.
    pub(crate) fn into_frame(self, header: [u8; HEADER_LEN]) -> Result<Bytes, Piece> {
        match self {
            Piece::Framed(mut bytes) => {
                bytes[..HEADER_LEN].copy_from_slice(&header);
                Ok(bytes.into())
            }
            plain => Err(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_was_read_becomes_a_frame_where_it_lies() {
        let read = || {
            Piece::read::<()>(100, |bytes| {
                bytes.extend_from_slice(b"bulk");
                Ok(())
            })
        };
        let piece = read().unwrap();
        assert_eq!(piece.len(), 4);
        assert_eq!(piece.into_bytes(), "bulk");
        assert_eq!(read().unwrap().into_frame(*b"12345678").unwrap(), "12345678bulk");
        let plain = Piece::Plain(Bytes::from_static(b"x"));
        assert!(matches!(plain.into_frame([0; 8]), Err(Piece::Plain(_))));
    }
}
