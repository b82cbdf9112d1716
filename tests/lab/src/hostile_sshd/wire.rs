//! What the hostile server writes and reads: the data types of RFC 4251, and packets in clear or
//! sealed with aes128-gcm.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};

/// Largest packet that is read: RFC 4253 section 6.1 asks for 35,000 bytes.
const MAX_PACKET: usize = 256 * 1024;

/// Length of the tag behind a sealed packet.
const TAG: usize = 16;

/// Bytes to be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Out(pub(super) Vec<u8>);

impl Out {
    pub(super) fn message(number: u8) -> Out {
        Out(vec![number])
    }

    pub(super) fn byte(mut self, byte: u8) -> Out {
        self.0.push(byte);
        self
    }

    pub(super) fn number(mut self, number: u32) -> Out {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(super) fn string(self, bytes: impl AsRef<[u8]>) -> Out {
        let bytes = bytes.as_ref();
        let mut out = self.number(u32::try_from(bytes.len()).expect("a short string"));
        out.0.extend(bytes);
        out
    }

    /// A positive number of any length, from its bytes.
    pub(super) fn mpint(self, bytes: &[u8]) -> Out {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let mut number = bytes[zeros..].to_vec();
        if number.first().is_some_and(|byte| byte & 0x80 != 0) {
            number.insert(0, 0);
        }
        self.string(number)
    }
}

/// Takes a number from the front.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_be_bytes(*number))
}

/// Takes a string from the front.
pub(super) fn take_string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_number(bytes)?).ok()?;
    let (string, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(string)
}

/// The key of one direction.
struct Seal {
    key: LessSafeKey,
    nonce: [u8; 12],
}

impl Seal {
    /// RFC 4253 section 7.2: the letter says what the bytes are for.
    fn new(secret: &Out, hash: &[u8], session: &[u8], nonce: u8, key: u8) -> Seal {
        let derive = |letter: u8| {
            let bytes = [secret.0.as_slice(), hash, &[letter], session].concat();
            digest(&SHA256, &bytes).as_ref().to_vec()
        };
        let key = UnboundKey::new(&AES_128_GCM, &derive(key)[..16]).expect("16 bytes");
        let nonce = derive(nonce)[..12].try_into().expect("12 bytes");
        Seal { key: LessSafeKey::new(key), nonce }
    }

    /// The nonce for one packet (RFC 5647 section 7.1).
    fn next(&mut self) -> Nonce {
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let (_, counter) = self.nonce.split_at_mut(4);
        let count = u64::from_be_bytes(counter.try_into().expect("8 bytes")).wrapping_add(1);
        counter.copy_from_slice(&count.to_be_bytes());
        nonce
    }
}

/// A connection on which packets are read and written.
pub(super) struct Wire {
    stream: TcpStream,
    seals: Option<(Seal, Seal)>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Wire {
        Wire { stream, seals: None }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A line of the greeting, without its end.
    pub(super) fn read_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            match byte {
                [b'\n'] => break,
                [b'\r'] => {}
                [other] => line.push(other),
            }
        }
        Ok(line)
    }

    /// Seals what follows with new keys.
    pub(super) fn seal(&mut self, secret: &Out, hash: &[u8], session: &[u8]) {
        let from_client = Seal::new(secret, hash, session, b'A', b'C');
        let to_client = Seal::new(secret, hash, session, b'B', b'D');
        self.seals = Some((from_client, to_client));
    }

    pub(super) fn send(&mut self, payload: &Out) -> io::Result<()> {
        let payload = &payload.0;
        let head = if self.seals.is_some() { 0 } else { 4 };
        // Blocks of 16, and 4 bytes of padding or more.
        let mut padding = 16 - (payload.len() + 1 + head) % 16;
        if padding < 4 {
            padding += 16;
        }
        let mut body = vec![u8::try_from(padding).expect("less than 20")];
        body.extend(payload);
        body.resize(body.len() + padding, 0);
        let len = u32::try_from(body.len()).expect("a short packet").to_be_bytes();
        if let Some((_, seal)) = &mut self.seals {
            let nonce = seal.next();
            seal.key
                .seal_in_place_append_tag(nonce, Aad::from(len), &mut body)
                .expect("sealing a packet");
        }
        self.stream.write_all(&[&len[..], &body].concat())
    }

    pub(super) fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let size = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if size > MAX_PACKET {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let tag = if self.seals.is_some() { TAG } else { 0 };
        let mut body = vec![0; size + tag];
        self.stream.read_exact(&mut body)?;
        if let Some((seal, _)) = &mut self.seals {
            let nonce = seal.next();
            let opened = seal.key.open_in_place(nonce, Aad::from(len), &mut body);
            opened.map_err(|_| io::ErrorKind::InvalidData)?;
        }
        let padding = usize::from(*body.first().ok_or(io::ErrorKind::InvalidData)?);
        let end = size.checked_sub(padding).filter(|end| *end > 1);
        Ok(body[1..end.ok_or(io::ErrorKind::InvalidData)?].to_vec())
    }
}
