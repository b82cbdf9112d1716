//! Accounts, rules for sudo and directories that a test makes and removes.

use std::fs::{self, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use fakessh_lab::account::change_accounts;
use tempfile::TempDir;

/// The password of every account: with what a shell or a terminal might take for its own.
pub(crate) const PASSWORD: &str = "correct \"hörse'  $lab\\ \u{20ac}";

/// A name that nobody has: not even a test that was killed long ago, in a process of this number.
fn unique(name: &str) -> String {
    format!("fakessh-{name}-{:016x}", RandomState::new().hash_one(name))
}

/// An account with a home and [`PASSWORD`].
pub(crate) struct Account {
    pub(crate) name: String,
    home: PathBuf,
}

impl Account {
    pub(crate) fn new() -> Account {
        let name = unique("u");
        let home = std::env::temp_dir().join(&name);
        let mut useradd = Command::new("useradd");
        useradd.args(["--create-home", "--user-group", "--shell", "/bin/sh", "--home-dir"]);
        change_accounts(useradd.arg(&home).arg(&name), "");
        let account = Account { name, home };
        let line = format!("{}:{PASSWORD}\n", account.name);
        change_accounts(&mut Command::new("chpasswd"), &line);
        account
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        change_accounts(Command::new("userdel").args(["-f", "-r"]).arg(&self.name), "");
        assert!(!self.home.exists());
    }
}

/// Rules for sudo, in a file of their own.
pub(crate) struct Sudoers(PathBuf);

impl Sudoers {
    pub(crate) fn new(rules: &str) -> Sudoers {
        use std::os::unix::fs::OpenOptionsExt;
        let path = PathBuf::from("/etc/sudoers.d").join(unique("sudo"));
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o440).open(&path).unwrap();
        file.write_all(rules.as_bytes()).unwrap();
        Sudoers(path)
    }
}

impl Drop for Sudoers {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A directory of a test's own, removed with it. Other accounts may look into it.
pub(crate) fn directory() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("fakessh-").permissions(Permissions::from_mode(0o755)).tempdir().unwrap()
}
