//! How a link begins: a random marker, behind whatever a login printed before it.
//!
//! The master starts a slave with a marker of its own choice. The script that is to start it writes
//! [`readiness`] when it waits for the slave's program, which is not sent to anything else. The
//! slave writes [`preamble`], and frames from there on. Where the start fails, the script writes
//! [`complaint`] instead.

/// Most bytes of noise that are kept for an error message; more is read and forgotten.
pub const MAX_NOISE: usize = 4096;

/// What a slave writes before its first frame.
pub fn preamble(marker: &str) -> Vec<u8> {
    format!("\0fakessh start {marker}\n").into_bytes()
}

/// What the starting script writes when it reads the slave's program. It holds no backslash, quote
/// or newline, so that it can stand in a shell's word.
pub fn readiness(marker: &str) -> String {
    format!("fakessh ready {marker}")
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

/// Looks for the preamble in what a target sends. Each byte is looked at once or twice, however
/// the stream is split.
#[derive(Debug)]
pub struct Scanner {
    preamble: Vec<u8>,
    complaint: Vec<u8>,
    readiness: Vec<u8>,
    ready: bool,
    /// The last of what came.
    seen: Vec<u8>,
    /// Nothing that is looked for begins in `seen` before this.
    searched: usize,
    /// Where in `seen` the reason of a complaint begins whose line is not yet whole.
    reason: Option<usize>,
}

impl Scanner {
    /// Looks for this marker.
    pub fn new(marker: &str) -> Scanner {
        Scanner {
            preamble: preamble(marker),
            complaint: complaint(marker).into_bytes(),
            readiness: readiness(marker).into_bytes(),
            ready: false,
            seen: Vec::new(),
            searched: 0,
            reason: None,
        }
    }

    /// Takes the next bytes of the stream. Once it has found something it is done.
    pub fn scan(&mut self, bytes: &[u8]) -> Found {
        self.seen.extend_from_slice(bytes);
        if let Some(at) = self.find(&self.preamble) {
            let rest = self.seen.split_off(at + self.preamble.len());
            self.seen.truncate(at);
            return Found::Started(rest);
        }
        if !self.ready
            && let Some(at) = self.find(&self.readiness)
        {
            self.ready = true;
            self.seen.drain(at..at + self.readiness.len());
        }
        let new_complaint = self.find(&self.complaint).map(|at| at + self.complaint.len());
        self.reason = self.reason.or(new_complaint);
        if let Some(begin) = self.reason {
            let unread = begin.max(self.searched);
            if let Some(end) = self.seen[unread..].iter().position(|&byte| byte == b'\n') {
                let reason = String::from_utf8_lossy(&self.seen[begin..unread + end]).into_owned();
                self.seen.truncate(begin.saturating_sub(self.complaint.len()));
                return Found::Failed(reason);
            }
        }
        let longest = self.preamble.len().max(self.complaint.len()).max(self.readiness.len());
        self.searched = self.seen.len().saturating_sub(longest - 1);
        self.forget();
        Found::Nothing
    }

    /// Whether the starting script has said that it reads the slave's program.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Where this begins in what was not yet searched.
    fn find(&self, needle: &[u8]) -> Option<usize> {
        let unsearched = &self.seen[self.searched..];
        let at = unsearched.windows(needle.len()).position(|window| window == needle)?;
        Some(self.searched + at)
    }

    /// Drops old noise, a good deal at once; the last of it stays, and the last of a complaint.
    fn forget(&mut self) {
        if self.seen.len() > 2 * MAX_NOISE {
            let excess = self.seen.len() - MAX_NOISE;
            self.seen.drain(..excess);
            self.searched = self.searched.saturating_sub(excess);
            self.reason = self.reason.map(|at| at.saturating_sub(excess));
        }
    }

    /// The last of the noise, as text.
    pub fn noise(&self) -> String {
        let from = self.seen.len().saturating_sub(MAX_NOISE);
        String::from_utf8_lossy(&self.seen[from..]).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn the_preamble_is_found_behind_noise_in_any_split() {
        // The noise ends as the preamble begins, and holds most of a complaint.
        let noise = [b"Welcome\r\n", &complaint(MARKER).as_bytes()[1..], b"\0fakessh\0"].concat();
        let stream = [&noise[..], &preamble(MARKER), b"frames"].concat();
        let begin = noise.len() + preamble(MARKER).len();
        for split in 0..=stream.len() {
            let mut scanner = Scanner::new(MARKER);
            let (first, second) = stream.split_at(split);
            let started = if split < begin {
                assert_eq!(scanner.scan(first), Found::Nothing, "{split}");
                scanner.scan(second)
            } else {
                scanner.scan(first)
            };
            let frames = if split < begin { b"frames" } else { &first[begin..] };
            assert_eq!(started, Found::Started(frames.to_vec()), "{split}");
            assert_eq!(scanner.noise(), String::from_utf8_lossy(&noise).trim());
        }
    }

    #[test]
    fn the_preamble_is_found_byte_by_byte_behind_any_amount_of_noise() {
        for noise in [0, 1, 2 * MAX_NOISE - 20, 2 * MAX_NOISE, 100_000] {
            let mut scanner = Scanner::new(MARKER);
            let stream = [&vec![b'\0'; noise][..], &preamble(MARKER)].concat();
            let (last, before) = stream.split_last().unwrap();
            for &byte in before {
                assert_eq!(scanner.scan(&[byte]), Found::Nothing);
            }
            assert_eq!(scanner.scan(&[*last]), Found::Started(Vec::new()));
        }
    }

    #[test]
    fn a_complaint_is_found_byte_by_byte_and_its_noise_is_what_came_before() {
        let mut scanner = Scanner::new(MARKER);
        let stream = format!("motd\n{}no such file", complaint(MARKER));
        for byte in stream.bytes() {
            assert_eq!(scanner.scan(&[byte]), Found::Nothing);
        }
        assert_eq!(scanner.scan(b"\nmore"), Found::Failed("no such file".into()));
        assert_eq!(scanner.noise(), "motd");
    }

    #[test]
    fn readiness_is_found_byte_by_byte_and_is_no_noise() {
        let mut scanner = Scanner::new(MARKER);
        let said = format!("motd {}", readiness(MARKER));
        for byte in said.bytes() {
            assert!(!scanner.is_ready());
            assert_eq!(scanner.scan(&[byte]), Found::Nothing);
        }
        assert!(scanner.is_ready());
        assert_eq!(
            (scanner.scan(b"\nmore"), scanner.noise()),
            (Found::Nothing, "motd \nmore".into())
        );
        assert_eq!(scanner.scan(&preamble(MARKER)), Found::Started(Vec::new()));
    }

    #[test]
    fn a_reason_without_end_is_not_kept_whole() {
        let mut scanner = Scanner::new(MARKER);
        scanner.scan(complaint(MARKER).as_bytes());
        for _ in 0..100 {
            assert_eq!(scanner.scan(&[b'x'; 1000]), Found::Nothing);
        }
        let Found::Failed(reason) = scanner.scan(b"\n") else { panic!("a line has ended") };
        assert!((MAX_NOISE..=2 * MAX_NOISE + 1000).contains(&reason.len()));
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
