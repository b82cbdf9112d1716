//! A real `sshd` with keys and configuration of its own, and a caller who answers questions.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fakessh::caller::{Ask, Caller};
use fakessh::hop::ssh::{ConnectError, SshConnection, Via};
use fakessh::ssh_config::{Resolved, Target, resolve};
use fakessh::stream::ByteStream;
use fakessh_protocol::message::{Notice, Question, Secret};
use tokio::net::TcpSocket;

/// No test waits longer for anything. Shells of some accounts take long to start.
pub(crate) const GUARD: Duration = Duration::from_secs(120);

const SSHD: &str = "/usr/sbin/sshd";

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
    sshd: Option<Child>,
    /// Has the port, and does not listen. Connections are refused as long as nobody else listens
    /// there, and the system gives the port to nobody who asks for any.
    _port: TcpSocket,
}

impl Lab {
    /// Starts an `sshd` with these further lines of configuration; `None`, with a line on stderr,
    /// where there is none on this machine.
    pub(crate) fn start(lines: &str) -> Option<Lab> {
        if !Path::new(SSHD).exists() {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            // Past the test runner's capture: tests/run counts these lines.
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: there is no {SSHD}");
            return None;
        }
        let mut lab = Lab::without_server();
        lab.keygen("host", &["-t", "ed25519", "-N", ""]);
        lab.keygen("id", &["-t", "ed25519", "-N", ""]);
        fs::copy(lab.path("id.pub"), lab.path("authorized")).unwrap();
        let directory = lab.directory.path().display();
        // For sshd that checks it; it is only there while sshd runs as a service.
        let _ = fs::create_dir_all("/run/sshd");
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {directory}/host\nPidFile none\n\
             AuthorizedKeysFile {directory}/authorized\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n\
             PermitRootLogin yes\n{lines}\n",
            port = lab.port
        );
        fs::write(lab.path("sshd_config"), config).unwrap();
        lab.start_sshd();
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
            _port: socket,
        }
    }

    fn start_sshd(&mut self) {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut child = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(self.path("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let listens = format!("Server listening on 127.0.0.1 port {}.", self.port);
        let start = Instant::now();
        while !self.log().contains(&listens) {
            assert_eq!(child.try_wait().unwrap(), None, "sshd has ended: {}", self.log());
            assert!(start.elapsed() < GUARD, "sshd did not start: {}", self.log());
            std::thread::yield_now();
        }
        self.sshd = Some(child);
    }

    /// Starts the server anew, with these further lines of configuration.
    pub(crate) fn restart(&mut self, lines: &str) {
        self.kill_server();
        let config = fs::read_to_string(self.path("sshd_config")).unwrap();
        fs::write(self.path("sshd_config"), format!("{config}{lines}\n")).unwrap();
        self.start_sshd();
    }

    /// Ends the server, and the processes that serve connections.
    pub(crate) fn kill_server(&mut self) {
        let Some(mut sshd) = self.sshd.take() else { return };
        let children = format!("/proc/{0}/task/{0}/children", sshd.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        let mut pids: Vec<i32> =
            children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        pids.push(sshd.id() as i32);
        for pid in pids {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        sshd.wait().unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
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
