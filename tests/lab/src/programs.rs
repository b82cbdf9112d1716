//! Starting programs in a lab, as its user does.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::files::write_script;
use crate::guardian::MARK_VARIABLE;
use crate::wait::wait_until;
use crate::{Client, Lab, Tool, binary};

impl Lab {
    /// A program in the environment of the lab's user, with no `ssh` but the system's on `PATH`.
    pub fn program(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Tool {
        let tool = match (&self.0.network, &self.0.client_host) {
            (Some(network), Some(host)) => Tool::new(words).entering(&network.enter(host)),
            _ => Tool::new(words),
        };
        tool.env(MARK_VARIABLE, self.mark())
            .env("FAKESSH_DIR", self.fakessh_dir())
            .env("HOME", self.dir().join("user"))
            .env("TMPDIR", self.dir().join("tmp"))
            .env("XDG_RUNTIME_DIR", self.runtime_dir())
            .env("LANG", "C.UTF-8")
            .env("USER", "tester")
            .env("LOGNAME", "tester")
            .env("SHELL", "/bin/sh")
            // Nobody's settings, and somebody who commits.
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_AUTHOR_NAME", "tester")
            .env("GIT_AUTHOR_EMAIL", "tester@lab")
            .env("GIT_COMMITTER_NAME", "tester")
            .env("GIT_COMMITTER_EMAIL", "tester@lab")
            .directory(self.dir().join("user"))
    }

    /// As [`Lab::program`], where the server's mounts are: with the `/etc` that the lab has for
    /// itself.
    ///
    /// # Panics
    /// If the lab has none.
    pub fn program_at_server(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Tool {
        let mounts = self.0.mounts.as_ref().expect("a mount namespace of the lab's own");
        self.program(words).entering(&mounts.enter("mount", "mnt"))
    }

    /// A tool whose `ssh`, `scp` and `sftp` are this client's. Ours runs in a `fakessh run` to
    /// `remote`.
    pub fn tool(&self, client: Client, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Tool {
        self.tool_to(client, "remote", words)
    }

    /// As [`Lab::tool`], where ours runs in a `fakessh run` to this name.
    pub fn tool_to(
        &self,
        client: Client,
        name: &str,
        words: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Tool {
        match client {
            Client::Ssh => {
                let bin = self.dir().join("bin");
                self.program(words).env("PATH", format!("{}:{}", bin.display(), crate::tool::PATH))
            }
            Client::Fakessh => self.run([name], words),
        }
    }

    /// A tool in a `fakessh run` with these words before the `--`: options, destination, routes.
    pub fn run(
        &self,
        before: impl IntoIterator<Item = impl AsRef<OsStr>>,
        words: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Tool {
        self.fakessh(self.run_words(before, words))
    }

    /// The arguments of a `fakessh run` with the lab's configuration.
    fn run_words(
        &self,
        before: impl IntoIterator<Item = impl AsRef<OsStr>>,
        words: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["run".into(), "-F".into()];
        all.push(self.config_path().into());
        all.extend(before.into_iter().map(|word| word.as_ref().to_owned()));
        all.push("--".into());
        all.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        all
    }

    /// As [`Lab::run`] by an older `fakessh`, which has a master of its own.
    pub fn run_before(
        &self,
        program: &Path,
        before: impl IntoIterator<Item = impl AsRef<OsStr>>,
        words: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Tool {
        self.fakessh_before(program, self.run_words(before, words))
    }

    /// An older `fakessh` with these arguments.
    pub fn fakessh_before(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Tool {
        let arguments = arguments.into_iter().map(|word| word.as_ref().to_owned());
        let words = std::iter::once(program.as_os_str().to_owned()).chain(arguments);
        self.program(words).env("FAKESSH_DIR", self.before_dir())
    }

    /// The `FAKESSH_DIR` of an older `fakessh` that is measured beside this one.
    pub fn before_dir(&self) -> PathBuf {
        self.dir().join("run-before")
    }

    /// `ssh` of this client with these words, or `fakessh ssh`, outside of any run.
    pub fn plain_ssh(&self, client: Client, words: &[&str]) -> Tool {
        let before = match client {
            Client::Ssh => vec!["ssh".into()],
            Client::Fakessh => vec![binary::fakessh().into_os_string(), "ssh".into()],
        };
        let config: [&OsStr; 2] = ["-F".as_ref(), self.config_path().as_ref()];
        let words = words.iter().map(|word| word.as_ref());
        self.program(before.iter().map(|word| &**word).chain(config).chain(words))
    }

    /// The `fakessh` command with these arguments.
    pub fn fakessh(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Tool {
        let program = binary::fakessh().into_os_string();
        let arguments = arguments.into_iter().map(|word| word.as_ref().to_owned());
        self.program(std::iter::once(program).chain(arguments))
    }

    /// What `fakessh ls --json` lists.
    ///
    /// # Panics
    /// If it is no list.
    #[track_caller]
    pub fn list(&self) -> Vec<serde_json::Value> {
        let listed = self.fakessh(["ls", "--json"]).run().expect_status(0).expect_err("");
        serde_json::from_slice(&listed.stdout).expect("a list as JSON")
    }

    /// Why `remote` is a direct context, if it is one.
    ///
    /// # Panics
    /// If there is no such context.
    #[track_caller]
    pub fn direct(&self) -> Option<String> {
        let list = self.list();
        let entry = list.iter().find(|entry| entry["name"] == "remote").expect("a context");
        entry["direct"].as_str().map(str::to_owned)
    }

    /// Waits until the master has noticed that its connections are lost.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn expect_no_connections(&self) {
        wait_until(|| self.list().is_empty(), "the master holds lost connections");
    }

    /// The names of the contexts that are held, in order.
    #[track_caller]
    pub fn held(&self) -> Vec<String> {
        let name = |entry: &serde_json::Value| entry["name"].as_str().unwrap_or("?").to_owned();
        let mut names: Vec<String> = self.list().iter().map(name).collect();
        names.sort();
        names
    }

    /// Closes all contexts, so that the next run has its own login.
    #[track_caller]
    pub fn close_all(&self) {
        self.fakessh(["close", "--all"]).run().expect_status(0);
    }

    /// Writes `ssh`, `scp` and `sftp` that are OpenSSH's with the lab's configuration.
    pub(crate) fn write_wrappers(&self) {
        let bin = self.dir().join("bin");
        let config = self.config_path().display().to_string();
        let ssh = bin.join("ssh").display().to_string();
        for (name, options) in [
            ("ssh", format!("-F '{config}'")),
            ("scp", format!("-F '{config}' -S '{ssh}'")),
            ("sftp", format!("-F '{config}' -S '{ssh}'")),
        ] {
            let script = format!("#!/bin/sh\nexec /usr/bin/{name} {options} \"$@\"\n");
            write_script(&bin.join(name), &script);
        }
    }
}
