//! A lab: one server, one account, one client configuration, one directory for all of it.

use std::any::Any;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crate::account::Account;
use crate::adopted::Adopted;
use crate::binary;
use crate::client_config::ClientConfig;
use crate::docker::Docker;
use crate::files::keygen;
use crate::guardian::Guardian;
use crate::log::ServerLog;
use crate::namespaces::Namespaces;
use crate::network::Network;
use crate::port::ClosedPort;
use crate::process::Process;
use crate::server::{Server, ServerSetup};
use crate::wait::GUARD;

/// How many lines of the server's log a failing test shows.
const SHOWN: usize = 60;

/// A running lab. Clones share it; the last one to go takes everything with it. One that is
/// dropped by a failing test prints the server's log.
#[derive(Clone, Debug)]
pub struct Lab(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) dir: PathBuf,
    pub(crate) mark: String,
    pub(crate) account: Account,
    pub(crate) log: ServerLog,
    pub(crate) server: Mutex<Option<Server>>,
    pub(crate) server_config: String,
    pub(crate) others: Vec<Account>,
    /// Where the server listens.
    pub(crate) address: String,
    pub(crate) server_host: Option<String>,
    pub(crate) client_host: Option<String>,
    pub(crate) docker: OnceLock<Docker>,
    /// The first processes of the lab's containers: its own, not left behind.
    pub(crate) containers: Adopted,
    /// The temporary files on the target when the lab started.
    pub(crate) files_before: OnceLock<Vec<PathBuf>>,
    /// What lives as long as the lab.
    pub(crate) kept: Mutex<Vec<Box<dyn Any + Send>>>,
    pub(crate) client_config: ClientConfig,
    pub(crate) mounts: Option<Namespaces>,
    pub(crate) network: Option<Arc<Network>>,
    // Last, so that it is dropped last.
    pub(crate) guardian: Guardian,
}

impl Lab {
    /// The lab's directory. Everybody may read it.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The value of [`crate::guardian::MARK_VARIABLE`], also part of the lab's path.
    pub fn mark(&self) -> &str {
        &self.0.mark
    }

    /// The account on the target.
    pub fn account(&self) -> &Account {
        &self.0.account
    }

    /// Another account on the target, with [`crate::account::PASSWORD`]: see
    /// [`crate::LabBuilder::another_account`].
    pub fn other(&self) -> &Account {
        self.0.others.first().expect("the lab was built with another account")
    }

    /// The lab's Docker, started by the first who asks: see [`crate::privilege::containers_for`].
    ///
    /// # Panics
    /// If it does not start.
    pub fn docker(&self) -> &Docker {
        let Inner { dir, mark, account, containers, docker, .. } = &*self.0;
        docker.get_or_init(|| Docker::start(&dir.join("docker"), mark, account.gid, containers))
    }

    /// A directory that belongs to the account, for what tests put on the target. The tests can
    /// see it as well: target and client are one machine.
    pub fn remote_dir(&self) -> PathBuf {
        self.dir().join("remote")
    }

    /// A new directory of this name for what tests put on the client's side.
    pub fn local_dir(&self, name: &str) -> PathBuf {
        let dir = self.dir().join("user").join(name);
        fs::create_dir_all(&dir).expect("creating a directory of the lab");
        dir
    }

    /// The `FAKESSH_DIR` of this lab's clients.
    pub fn fakessh_dir(&self) -> PathBuf {
        self.dir().join("run")
    }

    /// The `XDG_RUNTIME_DIR` of this lab's clients: where a slave on their own host has its
    /// directory.
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir().join("runtime")
    }

    /// The clients' `ssh_config`.
    pub fn config_path(&self) -> &Path {
        self.0.client_config.path()
    }

    /// The clients' `known_hosts`.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir().join("user/known_hosts")
    }

    /// The private key that the server lets in.
    pub fn key(&self) -> PathBuf {
        self.dir().join("user/key")
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        let server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().expect("the lab's server runs").port
    }

    /// What the server logged.
    pub fn log(&self) -> &ServerLog {
        &self.0.log
    }

    /// How many logins the server let in so far.
    pub fn logins(&self) -> usize {
        let log = self.log().text();
        let accepted = |line: &&str| {
            // Not "Accepted key", which is said before the signature.
            line.starts_with("Accepted ") && line.contains(" for ")
        };
        log.lines().filter(accepted).count()
    }

    /// Adds or replaces a name in the clients' `ssh_config`, with these lines.
    pub fn host(&self, name: &str, lines: &[String]) {
        self.0.client_config.host(name, lines);
    }

    /// Lines for [`Lab::host`] that lead to the account through this port (a [`crate::Relay`]'s),
    /// with the server's key as the name `fakessh-lab` and without the account's key.
    pub fn way_in(&self, port: u16) -> Vec<String> {
        vec![
            format!("HostName {}", self.0.address),
            format!("Port {port}"),
            format!("User {}", self.account().name),
            "HostKeyAlias fakessh-lab".into(),
        ]
    }

    /// Adds a name for the account of another lab, with its key and host key and these further
    /// lines.
    pub fn know(&self, name: &str, other: &Lab, more: &[&str]) {
        let mut lines = other.way_in(other.port());
        lines.push(format!("IdentityFile {}", other.key().display()));
        lines.push(format!("UserKnownHostsFile {}", other.known_hosts().display()));
        lines.extend(more.iter().map(|&line| line.to_owned()));
        self.host(name, &lines);
    }

    /// Writes the user's configuration of fakessh.
    pub fn configure(&self, text: &str) {
        let dir = self.dir().join("user/.config/fakessh");
        fs::create_dir_all(&dir).expect("creating a directory of the lab");
        let file = dir.join("config.toml");
        fs::write(&file, text).expect("writing the lab's config.toml");
        // Whatever the umask is: one that others could write is not obeyed.
        for path in [dir, file] {
            let mode = fs::metadata(&path).expect("what was just made").mode();
            let closed = fs::Permissions::from_mode(mode & 0o755);
            fs::set_permissions(path, closed).expect("changing a mode");
        }
    }

    /// Adds a name that leads to the account with this key, and with these further lines before
    /// the others, so that they count.
    pub fn host_with_key(&self, name: &str, key: &Path, more: &[&str]) {
        let mut lines: Vec<String> = more.iter().map(|&line| line.to_owned()).collect();
        lines.extend(self.way_in(self.port()));
        lines.push(format!("IdentityFile {}", key.display()));
        self.host(name, &lines);
    }

    /// Adds a name that leads through this port with the account's key and these further lines.
    pub fn host_through(&self, name: &str, port: u16, more: &[&str]) {
        let mut lines = self.way_in(port);
        lines.push(format!("IdentityFile {}", self.key().display()));
        lines.extend(more.iter().map(|&line| line.to_owned()));
        self.host(name, &lines);
    }
}

/// The server.
impl Lab {
    pub(crate) fn start_server(&self, port: Option<u16>) {
        let inner = &self.0;
        let setup = ServerSetup {
            directory: &inner.dir.join("server"),
            config: &inner.server_config,
            enter: &self.enter(),
            mark: &inner.mark,
        };
        let server = Server::start(&setup, port, &inner.log, &inner.guardian);
        *inner.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    /// Options of `nsenter(1)` that lead to where the server lives.
    fn enter(&self) -> Vec<String> {
        let inner = &self.0;
        let mut options = Vec::new();
        options.extend(inner.mounts.as_ref().map(|mounts| mounts.enter("mount", "mnt")));
        if let (Some(network), Some(host)) = (&inner.network, &inner.server_host) {
            options.push(network.enter(host));
        }
        options
    }

    /// A file or directory as the server and its sessions see it.
    pub fn seen_by_target(&self, path: &str) -> PathBuf {
        match &self.0.mounts {
            Some(mounts) => format!("/proc/{}/root{path}", mounts.pid()).into(),
            None => path.into(),
        }
    }

    /// Changes a file of the `/etc` that the lab has for itself: see [`crate::LabBuilder::etc`].
    ///
    /// # Panics
    /// If the lab has none.
    pub fn change_etc(&self, path: &str, change: impl FnOnce(String) -> String) {
        assert!(self.0.mounts.is_some(), "the lab has no /etc of its own");
        let file = self.seen_by_target("/etc").join(path);
        let text = fs::read_to_string(&file).unwrap_or_default();
        let text = change(text)
            .replace("$ACCOUNT", &self.account().name)
            .replace("$LAB", &self.dir().to_string_lossy());
        fs::write(&file, text).expect("writing a file of the lab's /etc");
    }

    /// Gives a root devices and `/proc`, as the lab's server and its sessions see it.
    ///
    /// # Panics
    /// If the lab has no mount namespace of its own.
    pub fn furnish(&self, root: &Path) {
        let mounts = self.0.mounts.as_ref().expect("a mount namespace of the lab's own");
        let devices = crate::root::devices(root);
        let script = format!("{devices}\nmount -t proc proc '{}/proc'", root.display());
        let done = Command::new("nsenter")
            .args([&mounts.enter("mount", "mnt"), "sh", "-e", "-c", &script])
            .env_clear()
            .env("PATH", crate::tool::PATH)
            .output()
            .expect("starting nsenter");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "furnishing {}: {said}", root.display());
    }

    /// Lets this live as long as the lab: a container.
    pub fn keep(&self, value: impl Any + Send) {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(value));
    }

    /// Stops the server with all its sessions, as a machine that goes down, and gives the port,
    /// which refuses.
    pub fn stop_server(&self) -> ClosedPort {
        let mut server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server.take().expect("the lab's server runs");
        let port = server.port;
        server.stop(&self.0.guardian);
        ClosedPort::left(port)
    }

    /// Starts it again on this port.
    pub fn restart_server(&self, port: ClosedPort) {
        self.start_server(Some(port.number()));
    }

    /// Gives the server another host key, which no client knows yet.
    pub fn rotate_host_key(&self) {
        let port = self.stop_server();
        let key = self.dir().join("server/host_key");
        for file in [&key, &key.with_extension("pub")] {
            fs::remove_file(file).expect("removing the lab's host key");
        }
        keygen(&key);
        self.restart_server(port);
    }

    /// Writes the server's present host key into the clients' `known_hosts`, and nothing else.
    pub fn trust_host_key(&self) {
        let key = fs::read_to_string(self.dir().join("server/host_key.pub")).unwrap();
        let line = format!("fakessh-lab {key}");
        fs::write(self.known_hosts(), line).expect("writing the lab's known_hosts");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of the server's log:\n{}", self.log().last(SHOWN));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What does not stop for a kind word is killed by the guardian.
        if self.dir.join("run").exists() {
            let asked = Command::new(binary::fakessh())
                .arg("stop")
                .env("FAKESSH_DIR", self.dir.join("run"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            if let Ok(mut stopping) = asked {
                let ended = Process::open(stopping.id()).is_none_or(|it| it.wait(GUARD));
                if !ended {
                    _ = stopping.kill();
                }
                _ = stopping.wait();
            }
        }
        let server = self.server.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.stop(&self.guardian);
        }
    }
}

/// A lab that the tests of a file share while any of them runs. The last one to end takes it
/// down, because what is static is never dropped; the next one starts another.
#[derive(Debug)]
pub struct SharedLab {
    start: fn() -> Lab,
    running: Mutex<Weak<Inner>>,
}

impl SharedLab {
    /// A lab that is started in this way when a test first asks for it.
    pub const fn new(start: fn() -> Lab) -> SharedLab {
        SharedLab { start, running: Mutex::new(Weak::new()) }
    }

    /// The lab, started if none runs.
    pub fn get(&self) -> Lab {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = running.upgrade() {
            return Lab(inner);
        }
        let lab = (self.start)();
        *running = Arc::downgrade(&lab.0);
        lab
    }
}
