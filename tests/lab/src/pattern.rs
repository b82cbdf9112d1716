//! A stream of bytes that can be checked at any length without being kept: each eight bytes are
//! their own position, so that what is lost, doubled, out of order or damaged shows.

use std::io::{self, Read, Write};

/// Bytes that are made or checked at once.
const BLOCK: usize = 256 * 1024;

/// Writes the first `len` bytes of the pattern; `len` is a multiple of eight.
///
/// # Errors
/// As the writer's.
pub fn write(mut to: impl Write, len: u64) -> io::Result<()> {
    let mut at = 0;
    let mut block = vec![0; BLOCK];
    while at < len {
        let count = BLOCK.min(usize::try_from(len - at).unwrap_or(BLOCK));
        fill(&mut block[..count], at);
        to.write_all(&block[..count])?;
        at += count as u64;
    }
    Ok(())
}

/// Reads to the end and gives the number of bytes, all of which were right.
///
/// # Errors
/// As the reader's, and [`io::ErrorKind::InvalidData`] with the place of the first wrong byte.
pub fn check(mut from: impl Read) -> io::Result<u64> {
    let mut at = 0;
    let mut block = vec![0; BLOCK];
    let mut expected = vec![0; BLOCK];
    loop {
        // Whole blocks, so that comparing is aligned whatever the splits of the stream are.
        let mut count = 0;
        while count < BLOCK {
            match from.read(&mut block[count..])? {
                0 => break,
                more => count += more,
            }
        }
        fill(&mut expected[..count.next_multiple_of(8)], at);
        if block[..count] != expected[..count] {
            let wrong = block.iter().zip(&expected).position(|(got, want)| got != want);
            let place = at + wrong.unwrap_or(0) as u64;
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("wrong at {place}")));
        }
        at += count as u64;
        if count < BLOCK {
            return Ok(at);
        }
    }
}

fn fill(block: &mut [u8], at: u64) {
    for (index, word) in block.chunks_exact_mut(8).enumerate() {
        // Multiplied by an odd number, so that all eight bytes change and nothing compresses.
        let value = (at / 8 + index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        word.copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_checks_and_what_is_damaged_does_not() {
        let mut bytes = Vec::new();
        write(&mut bytes, 3 * BLOCK as u64 + 8).unwrap();
        assert_eq!(check(&bytes[..]).unwrap(), bytes.len() as u64);
        assert_eq!(check(&bytes[..1001]).unwrap(), 1001);
        let damaged = bytes.len() - 3;
        bytes[damaged] ^= 1;
        assert!(check(&bytes[..]).unwrap_err().to_string().contains(&damaged.to_string()));
        bytes.drain(8..16);
        assert!(check(&bytes[..]).is_err());
    }
}
