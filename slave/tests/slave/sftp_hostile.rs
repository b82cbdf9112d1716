//! Clients that send anything at all: the server ends as it should, or goes on; it never breaks,
//! and never takes more than it may.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::sftp_client::{Body, Client, Scratch, kind, ours, packet, text};

/// Whom the server runs as where we are root: packets at random must not find anything to break.
const NOBODY: u32 = 64_998;

/// How an end looks that the server meant: the client is gone, or a packet is malformed or too
/// long. A panic has status 101, or a signal.
const MEANT: [i32; 3] = [0, 11, 255];

/// Numbers at random, the same each time (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Nothing that leads out of the directory.
    fn name(&mut self) -> Vec<u8> {
        let names: [&[u8]; 10] =
            [b"a", b"b", b"d", b"d/x", b"d/y", b"l", b".", b"", b"\xff", b"e/e/e"];
        names[self.below(names.len() as u64) as usize].to_vec()
    }

    fn attributes(&mut self, body: Body) -> Body {
        let flags = self.below(16) as u32;
        let mut body = body.u32(flags);
        if flags & 1 != 0 {
            body = body.u64(self.below(100_000));
        }
        for _ in 0..2 * (flags >> 1 & 1) + (flags >> 2 & 1) + 2 * (flags >> 3 & 1) {
            body = body.u32(self.next() as u32);
        }
        body
    }

    fn handle(&mut self, body: Body) -> Body {
        body.string((self.below(6) as u32).to_be_bytes())
    }

    fn extended(&mut self) -> Body {
        let number = self.below(12) as usize;
        let body = text(
            [
                "posix-rename@openssh.com",
                "hardlink@openssh.com",
                "statvfs@openssh.com",
                "expand-path@openssh.com",
                "home-directory",
                "users-groups-by-id@openssh.com",
                "lsetstat@openssh.com",
                "fstatvfs@openssh.com",
                "fsync@openssh.com",
                "limits@openssh.com",
                "copy-data",
                "none",
            ][number],
        );
        match number {
            0..=5 => body.string(self.name()).string(self.name()),
            6 => {
                let body = body.string(self.name());
                self.attributes(body)
            }
            7 | 8 => self.handle(body),
            10 => {
                let body = self.handle(body).u64(self.below(9)).u64(self.below(9));
                self.handle(body).u64(self.below(9))
            }
            _ => body,
        }
    }

    /// A request that can be done, or nearly.
    fn request(&mut self) -> Vec<u8> {
        let kind = self.below(20) as u8 + 1;
        let body = match kind {
            kind::OPEN => {
                let body = text(self.name()).u32(self.below(64) as u32);
                self.attributes(body)
            }
            kind::CLOSE | kind::FSTAT | kind::READDIR => self.handle(Body::default()),
            kind::READ => self.handle(Body::default()).u64(self.below(9)).u32(self.next() as u32),
            kind::WRITE => {
                let len = self.below(2000) as usize;
                self.handle(Body::default()).u64(self.below(9)).string(vec![b'w'; len])
            }
            kind::FSETSTAT => {
                let body = self.handle(Body::default());
                self.attributes(body)
            }
            kind::SETSTAT | kind::MKDIR => {
                let body = text(self.name());
                self.attributes(body)
            }
            kind::RENAME | kind::SYMLINK => text(self.name()).string(self.name()),
            2 => return packet(kind::EXTENDED, 1, &self.extended()),
            _ => text(self.name()),
        };
        packet(kind, self.next() as u32, &body)
    }

    /// A request that is damaged in one of the ways there are.
    fn damaged(&mut self) -> Vec<u8> {
        let mut packet = self.request();
        match self.below(5) {
            // Cut, with a length that says so.
            0 => {
                let len = 4 + self.below(packet.len() as u64 - 3) as usize;
                packet.truncate(len);
                packet[..4].copy_from_slice(&((len - 4) as u32).to_be_bytes());
            }
            // A length that lies.
            1 => packet[..4].copy_from_slice(&(self.next() as u32).to_be_bytes()),
            2 => packet[3] = self.next() as u8,
            // A field's length, most likely.
            3 => {
                let place = 9.min(packet.len() - 1);
                packet[place] = self.next() as u8;
            }
            // Nothing that was ever a packet.
            _ => {
                let len = self.below(60) + 6;
                packet = (0..len).map(|_| self.next() as u8).collect();
                packet[..4].copy_from_slice(&(len as u32 - 4).to_be_bytes());
            }
        }
        packet
    }
}

fn unprivileged(scratch: &Scratch) -> Command {
    fs::set_permissions(&scratch.path, fs::Permissions::from_mode(0o777)).unwrap();
    let server = ours();
    let mut command = Command::new(&server[0]);
    command.args(&server[1..]).current_dir(&scratch.path);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

#[test]
fn random_packets_never_break_the_server() {
    let scratch = Scratch::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut ends = std::collections::BTreeMap::new();
    for round in 0..300 {
        if round % 20 == 0 {
            scratch.empty();
        }
        let mut client = Client::start_with(unprivileged(&scratch));
        client.init(3);
        let mut stdin = client.stdin.take().unwrap();
        let mut sent = Vec::new();
        for _ in 0..random.below(200) {
            sent.extend(random.request());
        }
        sent.extend(random.damaged());
        // It may end before it has read all.
        let sending = std::thread::spawn(move || stdin.write_all(&sent));
        let mut answers = Vec::new();
        client.stdout.read_to_end(&mut answers).unwrap();
        let _ = sending.join().unwrap();
        let status = client.child.wait().unwrap();
        let code = status.code().filter(|code| MEANT.contains(code));
        assert!(code.is_some(), "round {round}: {status}");
        *ends.entry(code).or_insert(0) += 1;
        // What it said was packets to the end.
        let mut rest = &answers[..];
        while let Some((len, more)) = rest.split_first_chunk() {
            rest = more.get(u32::from_be_bytes(*len) as usize..).unwrap();
        }
        assert!(rest.is_empty());
    }
    assert_eq!(ends.len(), MEANT.len(), "not all ways to end were tried: {ends:?}");
}

#[test]
fn handles_are_limited() {
    let scratch = Scratch::new();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 30; exec \"$0\" \"$@\""]).args(ours());
    shell.current_dir(&scratch.path);
    let mut client = Client::start_with(shell);
    client.init(3);
    let limits = client.ask(kind::EXTENDED, &text("limits@openssh.com"));
    assert_eq!(limits[limits.len() - 8..], 25u64.to_be_bytes());
    let open = text(".").u32(1).u32(0);
    let handles: Vec<_> = (0..25).map(|_| client.handle(kind::OPEN, &open)).collect();
    assert_eq!(client.status(kind::OPEN, &open), 4);
    assert_eq!(client.status(kind::OPENDIR, &text(".")), 4);
    assert_eq!(client.status(kind::CLOSE, &text(&handles[7])), 0);
    assert_eq!(client.handle(kind::OPENDIR, &text(".")), handles[7]);
    assert!(client.end().success());
}

/// A figure of a process's `/proc/PID/status`, in bytes.
fn memory(pid: u32, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn memory_is_bounded_whatever_is_asked_for() {
    /// What the process may have, code and libraries of a build for tests included.
    const BOUND: usize = 8 * 1024 * 1024;
    let scratch = Scratch::new();
    scratch.shell("truncate -s 1G big; for n in $(seq 1000); do : >$n; done");
    let mut client = Client::start(&ours(), &scratch.path);
    client.init(3);
    let file = client.handle(kind::OPEN, &text("big").u32(3).u32(0));
    let mut sent = Vec::new();
    for id in 0..500 {
        sent.extend(packet(kind::READ, id, &text(&file).u64(0).u32(u32::MAX)));
        let ids = vec![0; 200_000];
        let users = text("users-groups-by-id@openssh.com").string(&ids).string("");
        sent.extend(packet(kind::EXTENDED, id, &users));
        sent.extend(packet(kind::WRITE, id, &text(&file).u64(0).string(vec![0; 200_000])));
        sent.extend(packet(kind::MKDIR, id, &text(vec![b'n'; 200_000]).u32(0)));
        sent.extend(packet(kind::OPENDIR, id, &text(".")));
        sent.extend(packet(kind::READDIR, id, &text((id + 1).to_be_bytes())));
    }
    let mut stdin = client.stdin.take().unwrap();
    let sending = std::thread::spawn(move || {
        stdin.write_all(&sent).unwrap();
        stdin
    });
    for _ in 0..500 * 6 {
        client.receive();
    }
    let peak = memory(client.child.id(), "VmHWM");
    assert!(peak < BOUND, "{peak} bytes");
    drop(sending.join().unwrap());
}

#[test]
fn names_of_too_many_ids_are_refused() {
    let scratch = Scratch::new();
    let mut client = Client::start(&ours(), &scratch.path);
    client.init(3);
    // Each answer is a length and "root".
    let ids = vec![0; 4 * 32_700];
    let ask = |ids: &[u8]| text("users-groups-by-id@openssh.com").string(ids).string("");
    assert_eq!(client.ask(kind::EXTENDED, &ask(&ids)).len(), 1 + 4 + 4 + 8 * 32_700 + 4);
    let ids = vec![0; 4 * 33_000];
    assert_eq!(client.status(kind::EXTENDED, &ask(&ids)), 4);
    assert_eq!(client.status(kind::STAT, &text("no")), 2);
}

#[test]
fn a_client_that_reads_nothing_is_not_served_on() {
    let scratch = Scratch::new();
    scratch.shell("truncate -s 1M big");
    let mut client = Client::start(&ours(), &scratch.path);
    client.init(3);
    let file = client.handle(kind::OPEN, &text("big").u32(1).u32(0));
    for id in 0..1000 {
        client.send(&packet(kind::READ, id, &text(&file).u64(0).u32(32_768)));
    }
    // Who goes away without reading is no fault.
    client.stdin = None;
    let (reader, _) = std::io::pipe().unwrap();
    drop(std::mem::replace(&mut client.stdout, std::os::fd::OwnedFd::from(reader).into()));
    assert!(client.child.wait().unwrap().success());
}
