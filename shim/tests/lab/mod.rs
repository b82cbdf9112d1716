//! A run directory with the shim in it, and a master that does what a test says.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use fakessh_lab::files::write_script;
use fakessh_lab::{GUARD, Watchdog};
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::{FromShim, Handoff, RealWords, ToShim};
use fakessh_unix::datagram::{receive_message, send_message};
use fakessh_unix::tool_environment::{SOCKET_NAME, SOCKET_VARIABLE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use tempfile::TempDir;

/// A run directory, removed at the end of the test.
pub(crate) struct Lab {
    pub(crate) directory: PathBuf,
    listener: OwnedFd,
    _place: TempDir,
    _watchdog: Watchdog,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        let place = tempfile::Builder::new().prefix("fakessh-").tempdir().unwrap();
        let directory = place.path().to_owned();
        for name in ["ssh", "scp", "sftp"] {
            symlink(env!("CARGO_BIN_EXE_shim"), directory.join(name)).unwrap();
        }
        let kind = SocketType::SEQPACKET;
        let listener = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(directory.join(SOCKET_NAME)).unwrap()).unwrap();
        listen(&listener, 64).unwrap();
        guard(&listener);
        Lab { directory, listener, _place: place, _watchdog: Watchdog::new() }
    }

    /// A shim of this run that knows its socket, and nothing else of the environment.
    pub(crate) fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.directory.join(name));
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin");
        command.env(SOCKET_VARIABLE, self.directory.join(SOCKET_NAME));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn ssh(&self, args: &[&str]) -> Command {
        self.command("ssh", args)
    }

    /// A shell that has the shim as `$SSH`.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).env_clear().env("PATH", "/usr/bin:/bin");
        command.env(SOCKET_VARIABLE, self.directory.join(SOCKET_NAME));
        command.env("SSH", self.directory.join("ssh"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Puts a program for `/bin/sh` into a directory of its own, which is returned.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let directory = self.directory.join("bin");
        fs::create_dir_all(&directory).unwrap();
        write_script(&directory.join(name), &format!("#!/bin/sh\n{text}\n"));
        directory
    }

    /// Waits for the handoff of the next shim.
    pub(crate) fn accept(&self) -> Session {
        let connection = accept_with(&self.listener, SocketFlags::CLOEXEC).unwrap();
        Session::receive(connection)
    }
}

fn guard(socket: &OwnedFd) {
    set_socket_timeout(socket, Timeout::Recv, Some(GUARD)).unwrap();
}

/// A session as the master holds it.
pub(crate) struct Session {
    pub(crate) handoff: Handoff,
    pub(crate) stdin: Option<File>,
    pub(crate) stdout: Option<File>,
    pub(crate) stderr: Option<File>,
    pub(crate) socket: OwnedFd,
}

impl Session {
    pub(crate) fn receive(connection: OwnedFd) -> Session {
        guard(&connection);
        let (handoff, descriptors) =
            receive_message::<Handoff>(connection.as_fd()).unwrap().expect("a handoff");
        let [socket, stdin, stdout, stderr] = <[OwnedFd; 4]>::try_from(descriptors).unwrap();
        guard(&socket);
        let [stdin, stdout, stderr] = [stdin, stdout, stderr].map(|fd| Some(File::from(fd)));
        Session { handoff, stdin, stdout, stderr, socket }
    }

    pub(crate) fn tell(&self, message: &ToShim) {
        send_message(self.socket.as_fd(), message, &[]).unwrap();
    }

    /// Ends the session, descriptors and all.
    pub(crate) fn exit(self, code: u8) {
        self.tell(&ToShim::Exited(ExitStatus::Code(code)));
    }

    /// Waits until the shim is gone.
    pub(crate) fn ended(&self) {
        assert_eq!(self.hear(), None);
    }

    /// The next message, or `None` once the shim is gone.
    pub(crate) fn hear(&self) -> Option<FromShim> {
        receive_message(self.socket.as_fd()).unwrap().map(|(message, _)| message)
    }

    /// Gives the descriptors back and leaves the invocation to the real `ssh`, with these words.
    pub(crate) fn leave_to_real_ssh(&mut self, words: RealWords) {
        let files =
            [&mut self.stdin, &mut self.stdout, &mut self.stderr].map(|f| f.take().unwrap());
        let descriptors = [files[0].as_fd(), files[1].as_fd(), files[2].as_fd()];
        let message = ToShim::RealSsh { why: "no route".into(), words };
        send_message(self.socket.as_fd(), &message, &descriptors).unwrap();
    }
}

/// Reads to the end, which must come.
pub(crate) fn to_end(mut reader: impl Read + AsFd) -> Vec<u8> {
    let guard = Timespec::try_from(GUARD).unwrap();
    let mut bytes = Vec::new();
    loop {
        let ready = poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&guard)).unwrap();
        assert_eq!(ready, 1, "no end after {:?}", String::from_utf8_lossy(&bytes));
        let mut buffer = [0; 4096];
        match reader.read(&mut buffer).unwrap() {
            0 => return bytes,
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Everything that a child wrote to its standard error.
pub(crate) fn stderr_of(child: &mut Child) -> String {
    String::from_utf8(to_end(child.stderr.take().unwrap())).unwrap()
}

pub(crate) fn kill(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}
