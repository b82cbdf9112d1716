//! How a link begins: a random marker, behind whatever a login printed before it.
//!
//! The master starts a slave with a marker of its own choice. The slave writes [`preamble`], and
//! frames from there on. Where the start fails, the script that should have started it writes
//! [`complaint`] instead.

/// Most bytes of noise that are kept for an error message; more is read and forgotten.
pub const MAX_NOISE: usize = 4096;

/// What a slave writes before its first frame.
pub fn preamble(marker: &str) -> Vec<u8> {
    format!("\0fakessh start {marker}\n").into_bytes()
}

/// What the starting script writes where no slave can be started; a reason and a newline follow.
/// It holds no backslash, quote or newline, so that it can stand in a shell's word.
pub fn complaint(marker: &str) -> String {
    format!("fakessh failed {marker} ")
}

/// What the bytes so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Noise, up to now.
    Nothing,
    /// The slave runs. These bytes, behind the preamble, are its first frames.
    Started(Vec<u8>),
    /// It could not be started, for this reason.
    Failed(String),
}

/// Looks for the preamble in what a target sends.
#[derive(Debug)]
pub struct Scanner {
    preamble: Vec<u8>,
    complaint: Vec<u8>,
    seen: Vec<u8>,
}

impl Scanner {
    /// Looks for this marker.
    pub fn new(marker: &str) -> Scanner {
        Scanner {
            preamble: preamble(marker),
            complaint: complaint(marker).into_bytes(),
            seen: Vec::new(),
        }
    }

    /// Takes the next bytes of the stream.
    pub fn scan(&mut self, bytes: &[u8]) -> Found {
        self.seen.extend_from_slice(bytes);
        if let Some(at) = find(&self.seen, &self.preamble) {
            let rest = self.seen.split_off(at + self.preamble.len());
            self.seen.truncate(at);
            return Found::Started(rest);
        }
        if let Some(at) = find(&self.seen, &self.complaint) {
            let reason = &self.seen[at + self.complaint.len()..];
            if let Some(end) = reason.iter().position(|&byte| byte == b'\n') {
                let reason = String::from_utf8_lossy(&reason[..end]).into_owned();
                self.seen.truncate(at);
                return Found::Failed(reason);
            }
        }
        // Room for noise, and for a complaint that is not complete.
        let excess = self.seen.len().saturating_sub(2 * MAX_NOISE);
        self.seen.drain(..excess);
        Found::Nothing
    }

    /// The last of the noise, as text.
    pub fn noise(&self) -> String {
        let from = self.seen.len().saturating_sub(MAX_NOISE);
        String::from_utf8_lossy(&self.seen[from..]).trim().to_owned()
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn the_preamble_is_found_behind_noise_in_any_split() {
        let mut stream = b"Welcome\r\nLast login\0".to_vec();
        stream.extend(preamble(MARKER));
        stream.extend(b"frames");
        for split in 0..=stream.len() {
            let mut scanner = Scanner::new(MARKER);
            let mut rest = match scanner.scan(&stream[..split]) {
                Found::Started(rest) => rest,
                Found::Nothing => match scanner.scan(&stream[split..]) {
                    Found::Started(rest) => rest,
                    other => panic!("{other:?} at {split}"),
                },
                Found::Failed(reason) => panic!("{reason}"),
            };
            if scanner.seen.len() + preamble(MARKER).len() <= split {
                rest.extend(&stream[split.max(stream.len() - 6)..]);
            }
            assert!(b"frames".starts_with(&rest[..]) || rest == b"frames");
            assert!(scanner.noise().starts_with("Welcome"));
        }
    }

    #[test]
    fn a_complaint_gives_its_reason_once_its_line_is_whole() {
        let mut scanner = Scanner::new(MARKER);
        assert_eq!(scanner.scan(complaint(MARKER).as_bytes()), Found::Nothing);
        assert_eq!(scanner.scan(b"no room"), Found::Nothing);
        assert_eq!(scanner.scan(b" in /tmp\n"), Found::Failed("no room in /tmp".into()));
    }

    #[test]
    fn endless_noise_is_not_kept() {
        let mut scanner = Scanner::new(MARKER);
        for _ in 0..100 {
            assert_eq!(scanner.scan(&[b'x'; 1000]), Found::Nothing);
        }
        assert!(scanner.seen.len() <= 2 * MAX_NOISE);
    }
}
