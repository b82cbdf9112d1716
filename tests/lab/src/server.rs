//! A real `sshd`, on loopback or in a network namespace.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::guardian::Guardian;
use crate::log::ServerLog;
use crate::{privilege, process};

/// How often another port is tried when somebody took the free one that was found.
const ATTEMPTS: usize = 10;

/// A running `sshd`.
#[derive(Debug)]
pub struct Server {
    listener: Child,
    /// Where it listens.
    pub port: u16,
}

/// What an `sshd` is started with.
#[derive(Debug)]
pub struct ServerSetup<'a> {
    /// Where its files are.
    pub directory: &'a Path,
    /// Configuration, without the port.
    pub config: &'a str,
    /// Options of `nsenter(1)` that lead to where it lives; none for here.
    pub enter: &'a [String],
    /// The lab's mark, for its environment.
    pub mark: &'a str,
}

impl Server {
    /// Starts an `sshd` and waits until it listens: on this port, or on any free one.
    ///
    /// # Panics
    /// If it does not; the message has what it logged.
    pub fn start(
        setup: &ServerSetup<'_>,
        port: Option<u16>,
        log: &ServerLog,
        guardian: &Guardian,
    ) -> Server {
        if privilege::is_root() {
            // Privilege separation needs it; the service's own start would have created it.
            std::fs::create_dir_all("/run/sshd").expect("creating /run/sshd");
        }
        let file = setup.directory.join("sshd_config");
        for _ in 0..ATTEMPTS {
            let port = port.unwrap_or_else(free_port);
            let config = format!("Port {port}\n{}", setup.config);
            std::fs::write(&file, config).expect("writing the lab's sshd_config");
            let from = log.len();
            let mut listener = spawn(setup, &file);
            guardian.listener(listener.id());
            log.follow(listener.stderr.take().expect("sshd's standard error"));
            if log.wait_for(from, "Server listening on").is_some() {
                return Server { listener, port };
            }
            let status = listener.wait().expect("waiting for sshd");
            guardian.listener(0);
            let taken = log.text().lines().skip(from).any(|line| line.contains("Address already"));
            assert!(taken, "sshd did not start ({status}):\n{}", log.text());
        }
        panic!("no free port for sshd after {ATTEMPTS} attempts");
    }

    /// The process id of the listening `sshd`.
    pub fn pid(&self) -> u32 {
        self.listener.id()
    }

    /// Ends it, its sessions and all that they started and that did not leave them.
    pub fn stop(mut self, guardian: &Guardian) {
        let below = process::descendants(self.pid());
        let _ = self.listener.kill();
        let _ = self.listener.wait();
        guardian.listener(0);
        for process in below {
            process.kill();
        }
    }
}

fn spawn(setup: &ServerSetup<'_>, file: &Path) -> Child {
    let sshd = sshd_path();
    let mut command = match setup.enter {
        [] => Command::new(sshd),
        options => {
            let mut command = Command::new("nsenter");
            command.args(options).arg("--").arg(sshd);
            command
        }
    };
    command
        .args(["-D", "-e", "-f"])
        .arg(file)
        .env_clear()
        .env("PATH", crate::tool::PATH)
        .env(crate::guardian::MARK_VARIABLE, setup.mark)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting sshd")
}

/// The server's program, if it is installed.
pub fn installed() -> Option<PathBuf> {
    let places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];
    places.iter().map(PathBuf::from).find(|path| path.exists())
}

fn sshd_path() -> PathBuf {
    installed().expect("sshd is not installed (Debian: openssh-server)")
}

/// Lines for `sshd_config` that only newer servers know.
pub(crate) fn lines_for_new_servers() -> &'static str {
    static LINES: OnceLock<&str> = OnceLock::new();
    LINES.get_or_init(|| {
        // OpenSSH 9.8 and later slow down a source that fails to log in: all tests are one source.
        let line = "PerSourcePenalties=no";
        let tried = Command::new(sshd_path())
            .args(["-G", "-f", "/dev/null", "-o", line])
            .stdin(Stdio::null())
            .output();
        let known = tried.is_ok_and(|output| output.status.success());
        if known { "PerSourcePenalties no" } else { "" }
    })
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("binding a port on loopback");
    socket.local_addr().expect("the port that was bound").port()
}
