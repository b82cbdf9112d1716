//! Packets in, replies out. All that is there is done before anything is written: a client that
//! sends many requests at once gets their replies at once.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use thiserror::Error;

use super::packet::{MAX_PACKET, Malformed};
use super::server::Server;
use super::wire::LENGTH;

/// Bytes of packets that are taken in at once: one of the longest fits after the beginning of
/// another.
const INBOX: usize = 2 * (LENGTH + MAX_PACKET);

/// Why the server left a client that has not just gone.
#[derive(Debug, Error)]
pub(crate) enum End {
    /// The client announced a packet that is longer than any may be.
    #[error("a packet of {0} bytes is longer than {MAX_PACKET}")]
    TooLong(u32),
    /// The client sent bytes that are no packet.
    #[error("a packet is malformed")]
    Malformed,
    /// The client can't be read from or written to.
    #[error("{0}")]
    Failed(#[from] io::Error),
}

impl End {
    /// As OpenSSH.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            End::TooLong(_) => 11,
            End::Malformed => 255,
            End::Failed(_) => 1,
        }
    }
}

impl From<Malformed> for End {
    fn from(_: Malformed) -> End {
        End::Malformed
    }
}

/// Serves a client until it has closed `input` or reads `output` no more.
///
/// # Errors
/// If it broke the protocol. Requests before that are done and answered.
pub(crate) fn serve(input: &impl AsFd, output: &impl AsFd, home: Vec<u8>) -> Result<(), End> {
    let mut server = Server::new(home);
    let mut inbox = Inbox::new();
    loop {
        let broken = answer_all(&mut server, &mut inbox, output);
        if !write_all(output, server.replies.waiting())? {
            return Ok(());
        }
        server.replies.clear();
        broken?;
        if inbox.fill(input)? == 0 {
            return Ok(());
        }
    }
}

/// Does all that is asked for in `inbox`. Writes only if no more replies fit.
fn answer_all(server: &mut Server, inbox: &mut Inbox, output: &impl AsFd) -> Result<(), End> {
    while let Some(packet) = inbox.next()? {
        server.answer(packet)?;
        if server.replies.is_full() {
            // The caller, too, sees that a client is gone.
            write_all(output, server.replies.waiting())?;
            server.replies.clear();
        }
    }
    Ok(())
}

/// Bytes that came and were not taken apart yet.
#[derive(Debug)]
struct Inbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbox {
    fn new() -> Inbox {
        Inbox { bytes: vec![0; INBOX].into_boxed_slice(), start: 0, end: 0 }
    }

    /// The next packet, without its length, if all of it is here.
    fn next(&mut self) -> Result<Option<&[u8]>, End> {
        let here = &self.bytes[self.start..self.end];
        let Some((len, rest)) = here.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let len = u32::from_be_bytes(*len);
        if len as usize > MAX_PACKET {
            return Err(End::TooLong(len));
        }
        let Some(packet) = rest.get(..len as usize) else { return Ok(None) };
        self.start += LENGTH + packet.len();
        Ok(Some(packet))
    }

    /// Waits for more. Returns how much that was, 0 at the end.
    fn fill(&mut self, input: &impl AsFd) -> io::Result<usize> {
        // The rest is less than one packet, and so fits into one half.
        if self.start == self.end || self.end > INBOX / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let len = patiently(input, PollFlags::IN, || {
            rustix::io::read(input, &mut self.bytes[self.end..])
        })?;
        self.end += len;
        Ok(len)
    }
}

/// Writes all of it. Returns whether there is somebody who reads.
fn write_all(output: &impl AsFd, mut bytes: &[u8]) -> io::Result<bool> {
    while !bytes.is_empty() {
        match patiently(output, PollFlags::OUT, || rustix::io::write(output, bytes)) {
            Ok(len) => bytes = &bytes[len..],
            Err(Errno::PIPE) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Repeats a call until it did something: our parent may have made the descriptor non-blocking.
fn patiently(
    fd: &impl AsFd,
    ready: PollFlags,
    mut call: impl FnMut() -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(fd, ready)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            },
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn packets_come_whole_however_they_are_cut() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut sent = Vec::new();
        for len in [1, 0, 5, 70_000, MAX_PACKET, 3, MAX_PACKET, MAX_PACKET, 9] {
            sent.extend((len as u32).to_be_bytes());
            sent.resize(sent.len() + len, len as u8);
        }
        let expected = [1, 0, 5, 70_000, MAX_PACKET, 3, MAX_PACKET, MAX_PACKET, 9];
        let writing = std::thread::spawn(move || {
            for piece in sent.chunks(33_333) {
                writer.write_all(piece).unwrap();
            }
        });
        let (mut inbox, mut seen) = (Inbox::new(), Vec::new());
        loop {
            while let Some(packet) = inbox.next().unwrap() {
                assert!(packet.iter().all(|&byte| byte == packet.len() as u8));
                seen.push(packet.len());
            }
            if inbox.fill(&reader).unwrap() == 0 {
                break;
            }
        }
        assert_eq!(seen, expected);
        writing.join().unwrap();
    }

    #[test]
    fn a_packet_that_is_too_long_is_not_waited_for() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(&(MAX_PACKET as u32 + 1).to_be_bytes()).unwrap();
        let mut inbox = Inbox::new();
        inbox.fill(&reader).unwrap();
        assert!(matches!(inbox.next(), Err(End::TooLong(_))));
    }
}
