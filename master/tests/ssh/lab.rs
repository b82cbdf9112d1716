//! A real `sshd` with keys and configuration of its own, and a caller who answers questions.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fakessh::caller::{Ask, Caller};
use fakessh::hop::ssh::{ConnectError, SshConnection, Via};
use fakessh::ssh_config::{Resolved, Target, resolve};
use fakessh::stream::ByteStream;
use fakessh_lab::GUARD;
use fakessh_lab::guardian::Guardian;
use fakessh_lab::log::ServerLog;
use fakessh_lab::privilege::skipped;
use fakessh_lab::server::{self, Server, ServerSetup};
use fakessh_protocol::message::{Notice, Question, Secret};
use tokio::net::TcpSocket;

/// Answers questions from a list of (part of the question, answer), and keeps what it saw.
#[derive(Default)]
pub(crate) struct Person {
    pub(crate) answers: Mutex<Vec<(&'static str, &'static str)>>,
    pub(crate) seen: Mutex<Vec<String>>,
}

impl Person {
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl Ask for Person {
    async fn ask(&self, question: Question) -> Option<Secret> {
        self.seen.lock().unwrap().push(question.text.clone());
        let mut answers = self.answers.lock().unwrap();
        let index = answers.iter().position(|(part, _)| question.text.contains(part))?;
        Some(Secret(answers.remove(index).1.to_owned()))
    }

    async fn notice(&self, notice: Notice) {
        self.seen.lock().unwrap().push(notice.to_string());
    }
}

/// A directory with keys, and a server that accepts one of them.
pub(crate) struct Lab {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) person: Arc<Person>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    sshd: Option<Server>,
    log: ServerLog,
    guardian: Guardian,
    /// Has the port, and does not listen. Connections are refused as long as nobody else listens
    /// there, and the system gives the port to nobody who asks for any.
    _port: TcpSocket,
}

impl Lab {
    /// Starts an `sshd` with these further lines of configuration; `None`, with a line on stderr,
    /// where there is none on this machine.
    pub(crate) fn start(lines: &str) -> Option<Lab> {
        if server::installed().is_none() {
            skipped("there is no sshd");
            return None;
        }
        let mut lab = Lab::without_server();
        lab.keygen("host", &["-t", "ed25519", "-N", ""]);
        lab.keygen("id", &["-t", "ed25519", "-N", ""]);
        fs::copy(lab.path("id.pub"), lab.path("authorized")).unwrap();
        let directory = lab.directory.path().display();
        let config = format!(
            "ListenAddress 127.0.0.1\nHostKey {directory}/host\nPidFile none\n\
             AuthorizedKeysFile {directory}/authorized\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n\
             PermitRootLogin yes\n{lines}\n"
        );
        lab.start_sshd(&config);
        lab.trust_host();
        Some(lab)
    }

    pub(crate) fn without_server() -> Lab {
        let socket = TcpSocket::new_v4().unwrap();
        // Who listens there on purpose sets this, too: sshd does, and so does tokio.
        socket.set_reuseaddr(true).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        Lab {
            directory: tempfile::tempdir().unwrap(),
            port: socket.local_addr().unwrap().port(),
            person: Arc::default(),
            environment: vec![("PATH".into(), path), ("HOME".into(), "/nonexistent".into())],
            sshd: None,
            log: ServerLog::default(),
            guardian: Guardian::start(),
            _port: socket,
        }
    }

    fn start_sshd(&mut self, config: &str) {
        let directory = self.directory.path();
        let setup = ServerSetup { directory, config, enter: &[], mark: "" };
        self.sshd = Some(Server::start(&setup, Some(self.port), &self.log, &self.guardian));
    }

    /// Starts the server anew, with these further lines of configuration.
    pub(crate) fn restart(&mut self, lines: &str) {
        self.kill_server();
        let written = fs::read_to_string(self.path("sshd_config")).unwrap();
        let (_port, config) = written.split_once('\n').unwrap();
        self.start_sshd(&format!("{config}{lines}\n"));
    }

    /// Ends the server, and the processes that serve connections.
    pub(crate) fn kill_server(&mut self) {
        if let Some(sshd) = self.sshd.take() {
            sshd.stop(&self.guardian);
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    pub(crate) fn keygen(&self, name: &str, arguments: &[&str]) {
        let status = Command::new("ssh-keygen")
            .args(["-q", "-C", name, "-f"])
            .arg(self.path(name))
            .args(arguments)
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Records the host's key.
    pub(crate) fn trust_host(&self) {
        let key = fs::read_to_string(self.path("host.pub")).unwrap();
        fs::write(self.path("known"), format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }

    pub(crate) fn answer(&self, part: &'static str, answer: &'static str) {
        self.person.answers.lock().unwrap().push((part, answer));
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller {
            environment: self.environment.clone(),
            directory: self.directory.path().to_owned(),
            ask: self.person.clone(),
        }
    }

    /// The configuration of the server, with these options before the usual ones.
    pub(crate) async fn resolved(&self, options: &[&str]) -> Resolved {
        resolve(&self.target(options), &self.caller()).await.unwrap()
    }

    /// The server as a destination, with these options before the usual ones.
    pub(crate) fn target(&self, options: &[&str]) -> Target {
        let mut connection: Vec<OsString> = ["-F", "none"].map(Into::into).to_vec();
        for option in options {
            connection.extend(["-o".into(), OsString::from(option)]);
        }
        for option in [
            format!("UserKnownHostsFile={}", self.path("known").display()),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            format!("IdentityFile={}", self.path("id").display()),
            format!("ConnectTimeout={}", GUARD.as_secs()),
        ] {
            connection.extend(["-o".into(), option.into()]);
        }
        let user = Some(account());
        Target { host: "127.0.0.1".into(), user, port: Some(self.port), connection }
    }

    pub(crate) async fn connect(&self, options: &[&str]) -> Result<SshConnection, ConnectError> {
        let resolved = self.resolved(options).await;
        let caller = self.caller();
        let connect = SshConnection::connect(&resolved, Via::Tcp, &caller);
        tokio::time::timeout(GUARD, connect).await.expect("no answer")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of sshd:\n{}", self.log());
        }
        self.kill_server();
    }
}

/// The name of the account that the test runs as.
pub(crate) fn account() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Everything that a stream brings until it ends.
pub(crate) async fn read_all(stream: &mut ByteStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) =
        tokio::time::timeout(GUARD, stream.incoming.recv()).await.expect("hangs")
    {
        all.extend_from_slice(&chunk);
    }
    all
}

/// Runs a command that reads nothing, and returns what it printed.
pub(crate) async fn output(connection: &SshConnection, command: &str) -> String {
    let mut stream = connection.exec(command.into()).await.unwrap();
    String::from_utf8(read_all(&mut stream).await).unwrap()
}
