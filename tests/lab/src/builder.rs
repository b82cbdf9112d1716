//! How a lab is described, and how its files come to be.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use crate::account::Account;
use crate::adopted::Adopted;
use crate::client_config::ClientConfig;
use crate::etc::EtcFiles;
use crate::files::keygen;
use crate::guardian::Guardian;
use crate::guardian::MARK_VARIABLE;
use crate::lab::{Inner, Lab};
use crate::log::ServerLog;
use crate::namespaces::Namespaces;
use crate::network::Network;
use crate::server::lines_for_new_servers;

/// What a lab is to be like.
#[derive(Clone, Debug)]
pub struct LabBuilder {
    server: Vec<String>,
    client: Vec<String>,
    shell: String,
    max_sessions: u32,
    subsystem: String,
    password: bool,
    pam: bool,
    private_mounts: Option<String>,
    environment: Vec<(String, String)>,
    etc: EtcFiles,
    others: usize,
    account_password: Option<String>,
    network: Option<Arc<Network>>,
    server_host: Option<String>,
    client_host: Option<String>,
}

impl Default for LabBuilder {
    /// As a plain Debian server is: one account, its key, ten sessions a connection.
    fn default() -> LabBuilder {
        LabBuilder {
            server: Vec::new(),
            client: Vec::new(),
            shell: "/bin/bash".into(),
            max_sessions: 10,
            subsystem: "/usr/lib/openssh/sftp-server".into(),
            password: false,
            pam: false,
            private_mounts: None,
            environment: Vec::new(),
            etc: EtcFiles::default(),
            others: 0,
            account_password: None,
            network: None,
            server_host: None,
            client_host: None,
        }
    }
}

impl Lab {
    /// A lab to be described, as a plain Debian server to begin with.
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }

    /// Starts a lab without anything special.
    pub fn start() -> Lab {
        Lab::builder().start()
    }
}

impl LabBuilder {
    /// Adds a line to `sshd_config`, before all others, so that it counts. `$LAB` in it is the lab's
    /// directory.
    #[must_use]
    pub fn sshd(mut self, line: &str) -> LabBuilder {
        self.server.push(line.to_owned());
        self
    }

    /// Adds a line to the `Host remote` block of the clients' `ssh_config`.
    #[must_use]
    pub fn client(mut self, line: &str) -> LabBuilder {
        self.client.push(line.to_owned());
        self
    }

    /// `MaxSessions`; 10 otherwise, as sshd's own default.
    #[must_use]
    pub fn max_sessions(mut self, count: u32) -> LabBuilder {
        self.max_sessions = count;
        self
    }

    /// The login shell of the account; `/bin/bash` otherwise. Counts for root only.
    #[must_use]
    pub fn shell(mut self, shell: &str) -> LabBuilder {
        shell.clone_into(&mut self.shell);
        self
    }

    /// What `Subsystem sftp` names; Debian's `sftp-server` otherwise.
    #[must_use]
    pub fn sftp(mut self, command: &str) -> LabBuilder {
        command.clone_into(&mut self.subsystem);
        self
    }

    /// Lets the account in with [`crate::account::PASSWORD`] only, and gives `remote` no key.
    #[must_use]
    pub fn password(mut self) -> LabBuilder {
        self.password = true;
        self
    }

    /// `UsePAM yes`, as Debian has it: environment, limits and password checks by PAM.
    #[must_use]
    pub fn pam(mut self) -> LabBuilder {
        self.pam = true;
        self
    }

    /// Sets a variable for the server's sessions. `$LAB` in the value is the lab's directory.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> LabBuilder {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts a file into an `/etc` that only the server and its sessions have: a copy of the
    /// machine's, made when the lab starts. `$ACCOUNT`, `$OTHER` (the first other account) and
    /// `$LAB` in the text are replaced. What `sudo` keeps between its runs is private as well, and
    /// so are the places for temporary files but `/tmp`. Root only.
    #[must_use]
    pub fn etc(mut self, path: &str, text: &str) -> LabBuilder {
        self.etc.add(path, text);
        self
    }

    /// Gives the account this password instead of [`crate::account::PASSWORD`]. Root only.
    #[must_use]
    pub fn account_password(mut self, password: &str) -> LabBuilder {
        self.account_password = Some(password.to_owned());
        self
    }

    /// Makes another account, with `/bin/bash`: see [`Lab::other`]. Root only.
    #[must_use]
    pub fn another_account(mut self) -> LabBuilder {
        self.others += 1;
        self
    }

    /// Lets the server be this host of a network. Root only.
    #[must_use]
    pub fn at(mut self, network: &Arc<Network>, host: &str) -> LabBuilder {
        self.network = Some(network.clone());
        self.server_host = Some(host.to_owned());
        self
    }

    /// Starts the lab's programs on this host of the network that [`LabBuilder::at`] named.
    #[must_use]
    pub fn clients_at(mut self, host: &str) -> LabBuilder {
        self.client_host = Some(host.to_owned());
        self
    }

    /// Runs these shell commands (`mount ...`) as root in a mount namespace of the lab's own,
    /// in which its server and the sessions live. `$LAB` is the lab's directory, `$ACCOUNT_HOME`
    /// the account's home.
    #[must_use]
    pub fn private_mounts(mut self, script: &str) -> LabBuilder {
        self.private_mounts = Some(script.to_owned());
        self
    }

    /// Starts the lab and waits until its server listens.
    pub fn start(self) -> Lab {
        let guardian = Guardian::start();
        let temporary = tempfile::Builder::new().prefix("fklab-").tempdir_in("/tmp");
        let dir = temporary.expect("creating the lab's directory").keep();
        guardian.directory(&dir);
        let mark = dir.file_name().and_then(OsStr::to_str).expect("a plain name").to_owned();
        guardian.mark(&mark);
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        for (name, mode) in [
            ("server", 0o755),
            ("home", 0o755),
            ("user", 0o700),
            ("tmp", 0o700),
            ("runtime", 0o700),
            ("bin", 0o755),
        ] {
            fs::create_dir(dir.join(name)).expect("creating a directory of the lab");
            fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        let account = Account::create(&guardian, &dir.join("home"), &self.shell);
        if let Some(password) = &self.account_password {
            account.set_password(password);
        }
        let others: Vec<Account> = (0..self.others)
            .map(|_| Account::create(&guardian, &dir.join("home"), "/bin/bash"))
            .collect();
        fs::create_dir(dir.join("remote")).unwrap();
        account.give(&dir.join("remote"));
        keygen(&dir.join("server/host_key"));
        keygen(&dir.join("user/key"));
        fs::copy(dir.join("user/key.pub"), dir.join("server/authorized_keys")).unwrap();

        let log = ServerLog::default();
        let address = match (&self.network, &self.server_host) {
            (Some(network), Some(host)) => network.address(host).to_owned(),
            _ => "127.0.0.1".to_owned(),
        };
        let server_config = self.server_config(&dir, &mark, &address);
        let mounts = self.mounts(&dir, &mark, &account, &others);
        if let Some(mounts) = &mounts {
            guardian.mounts(mounts.pid());
        }
        let client_config = ClientConfig::new(dir.join("ssh_config"), client_defaults(&dir));
        let lab = Lab(Arc::new(Inner {
            dir,
            mark,
            account,
            log,
            server: Mutex::new(None),
            server_config,
            others,
            mounts,
            address,
            network: self.network,
            server_host: self.server_host,
            client_host: self.client_host,
            containers: Adopted::default(),
            files_before: OnceLock::new(),
            docker: OnceLock::new(),
            kept: Mutex::new(Vec::new()),
            client_config,
            guardian,
        }));
        lab.note_files_before();
        lab.write_wrappers();
        lab.start_server(None);
        lab.trust_host_key();
        let mut lines = lab.way_in(lab.port());
        lines.extend(self.client);
        if !self.password {
            lines.push(format!("IdentityFile {}", lab.dir().join("user/key").display()));
        }
        lab.host("remote", &lines);
        lab
    }

    /// The mount namespace that was asked for, if any was.
    fn mounts(
        &self,
        dir: &Path,
        mark: &str,
        account: &Account,
        others: &[Account],
    ) -> Option<Namespaces> {
        let etc = self.etc.script(dir, account, others);
        let own = self.private_mounts.as_deref();
        if etc.is_none() && own.is_none() {
            return None;
        }
        let script = format!(
            "LAB='{}'\nACCOUNT_HOME='{}'\n{}\n{}",
            dir.display(),
            account.home.display(),
            etc.unwrap_or_default(),
            own.unwrap_or_default()
        );
        Some(Namespaces::new(&["--mount", "--propagation", "private"], &script, mark))
    }

    fn server_config(&self, dir: &Path, mark: &str, address: &str) -> String {
        let files = dir.join("server");
        let yes_no = |yes| if yes { "yes" } else { "no" };
        let keys = if self.password { "no" } else { "yes" };
        [
            self.server.join("\n").replace("$LAB", &dir.to_string_lossy()),
            format!("ListenAddress {address}"),
            "PidFile none".into(),
            "LogLevel VERBOSE".into(),
            format!("HostKey {}/host_key", files.display()),
            format!("AuthorizedKeysFile {}/authorized_keys", files.display()),
            "StrictModes no".into(),
            format!("UsePAM {}", yes_no(self.pam)),
            format!("PubkeyAuthentication {keys}"),
            format!("PasswordAuthentication {}", yes_no(self.password)),
            "KbdInteractiveAuthentication no".into(),
            "PermitRootLogin yes".into(),
            "PrintLastLog no".into(),
            "AcceptEnv LANG LC_* GIT_PROTOCOL".into(),
            self.variables(dir, mark),
            format!("MaxSessions {}", self.max_sessions),
            "MaxStartups 200".into(),
            lines_for_new_servers().into(),
            format!("Subsystem sftp {}\n", self.subsystem),
        ]
        .join("\n")
    }
}

impl LabBuilder {
    /// One line: only the first of its kind counts.
    fn variables(&self, dir: &Path, mark: &str) -> String {
        let mut line = format!("SetEnv {MARK_VARIABLE}={mark}");
        for (name, value) in &self.environment {
            let value = value.replace("$LAB", &dir.to_string_lossy());
            line.push_str(&format!(" {name}=\"{value}\""));
        }
        line
    }
}

/// What every host has in the clients' configuration.
fn client_defaults(dir: &Path) -> String {
    [
        "    IdentitiesOnly yes".to_owned(),
        format!("UserKnownHostsFile {}/known_hosts", dir.join("user").display()),
        "GlobalKnownHostsFile /dev/null".into(),
        "StrictHostKeyChecking yes".into(),
        "UpdateHostKeys no".into(),
        "ControlMaster no\n".into(),
    ]
    .join("\n    ")
}
