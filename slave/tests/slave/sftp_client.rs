//! An SFTP client that sends what it is told, OpenSSH's server beside ours, and a place for both
//! to work in.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use fakessh_lab::{KillOnDrop, Watchdog};
use tempfile::TempDir;

use crate::account::directory;
use fakessh_lab::privilege::skipped;

/// Types of packets.
pub(crate) mod kind {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const WRITE: u8 = 6;
    pub(crate) const LSTAT: u8 = 7;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const SETSTAT: u8 = 9;
    pub(crate) const FSETSTAT: u8 = 10;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REMOVE: u8 = 13;
    pub(crate) const MKDIR: u8 = 14;
    pub(crate) const RMDIR: u8 = 15;
    pub(crate) const REALPATH: u8 = 16;
    pub(crate) const STAT: u8 = 17;
    pub(crate) const RENAME: u8 = 18;
    pub(crate) const READLINK: u8 = 19;
    pub(crate) const SYMLINK: u8 = 20;
    pub(crate) const EXTENDED: u8 = 200;
}

/// Where Debian, Fedora and Alpine keep OpenSSH's server.
const OPENSSH: [&str; 3] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
];

/// The command line of our server.
pub(crate) fn ours() -> Vec<String> {
    vec![env!("CARGO_BIN_EXE_fakessh-slave").to_owned(), "sftp".to_owned()]
}

/// The command line of OpenSSH's server, to compare with. Without one, the test says so.
pub(crate) fn openssh() -> Option<Vec<String>> {
    let found = OPENSSH.iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        skipped("needs OpenSSH's sftp-server");
    }
    found.map(|path| vec![(*path).to_owned()])
}

/// A directory of a test's own. It lies in another, so that `..` is the test's, too.
pub(crate) struct Scratch {
    outer: TempDir,
    _watchdog: Watchdog,
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let outer = directory();
        let path = outer.path().join("inner");
        fs::create_dir(&path).unwrap();
        Scratch { path, outer, _watchdog: Watchdog::new() }
    }

    /// Makes it new.
    pub(crate) fn empty(&self) {
        fs::remove_dir_all(&self.path).unwrap();
        fs::create_dir(&self.path).unwrap();
    }

    /// Where the program lies that is the server.
    pub(crate) fn server(&self) -> PathBuf {
        self.outer.path().join("server")
    }

    /// Runs a shell's line in it.
    pub(crate) fn shell(&self, line: &str) -> String {
        let output = Command::new("sh").args(["-ec", line]).current_dir(&self.path).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The body of a packet, field by field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body(pub(crate) Vec<u8>);

impl Body {
    pub(crate) fn u32(mut self, number: u32) -> Body {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, number: u64) -> Body {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn string(mut self, bytes: impl AsRef<[u8]>) -> Body {
        self = self.u32(bytes.as_ref().len() as u32);
        self.0.extend(bytes.as_ref());
        self
    }
}

/// A body that begins with this.
pub(crate) fn text(bytes: impl AsRef<[u8]>) -> Body {
    Body::default().string(bytes)
}

/// A packet, its length in front.
pub(crate) fn packet(kind: u8, id: u32, body: &Body) -> Vec<u8> {
    let mut packet = ((1 + 4 + body.0.len()) as u32).to_be_bytes().to_vec();
    packet.push(kind);
    packet.extend(id.to_be_bytes());
    packet.extend(&body.0);
    packet
}

/// A client with its server.
pub(crate) struct Client {
    pub(crate) child: KillOnDrop,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: ChildStdout,
    id: u32,
    _watchdog: Watchdog,
}

impl Client {
    /// Starts a server in this directory.
    pub(crate) fn start(server: &[String], directory: &Path) -> Client {
        let mut command = Command::new(&server[0]);
        command.args(&server[1..]).current_dir(directory);
        Client::start_with(command)
    }

    pub(crate) fn start_with(mut command: Command) -> Client {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().unwrap();
        Client { child: KillOnDrop(child), stdin, stdout, id: 0, _watchdog: Watchdog::new() }
    }

    /// Says that we speak this version. Returns the answer.
    pub(crate) fn init(&mut self, version: u32) -> Vec<u8> {
        // The version is where other packets have an id.
        self.send(&packet(kind::INIT, version, &Body::default()));
        self.receive()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// The next packet, without its length.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let mut len = [0; 4];
        self.stdout.read_exact(&mut len).unwrap();
        let mut packet = vec![0; u32::from_be_bytes(len) as usize];
        self.stdout.read_exact(&mut packet).unwrap();
        packet
    }

    /// Asks, and returns the answer.
    pub(crate) fn ask(&mut self, kind: u8, body: &Body) -> Vec<u8> {
        self.id += 1;
        self.send(&packet(kind, self.id, body));
        let answer = self.receive();
        assert_eq!(answer[1..5], self.id.to_be_bytes(), "the answer to another request");
        answer
    }

    /// Asks, and returns the status that is the answer.
    pub(crate) fn status(&mut self, kind: u8, body: &Body) -> u32 {
        let answer = self.ask(kind, body);
        assert_eq!(answer[0], 101, "{answer:?}");
        u32::from_be_bytes(answer[5..9].try_into().unwrap())
    }

    /// Asks, and returns the handle that is the answer.
    pub(crate) fn handle(&mut self, kind: u8, body: &Body) -> Vec<u8> {
        let answer = self.ask(kind, body);
        assert_eq!(answer[0], 102, "{answer:?}");
        answer[9..].to_vec()
    }

    /// Sends no more, and waits for the server's end.
    pub(crate) fn end(mut self) -> ExitStatus {
        self.stdin = None;
        self.wait()
    }

    /// Waits for the server's end, with more to say.
    pub(crate) fn wait(mut self) -> ExitStatus {
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).unwrap();
        self.child.wait().unwrap()
    }
}
