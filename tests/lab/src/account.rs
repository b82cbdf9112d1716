//! The account that the lab's server lets in: as root a user of its own, else the caller's.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

use crate::guardian::Guardian;
use crate::privilege;

/// The password of every account that a lab creates.
pub const PASSWORD: &str = "correct horse lab";

/// [`PASSWORD`] as `crypt(3)` stores it.
const PASSWORD_HASH: &str = "$6$fakesshlab$7KS2aZZ5qMbSOk/Wylu8/9U1xKoA57b2uBPrHw6Y//zb14vTjhccMP8611gqmiCnNFPOoWf37eWvYAkOgU7vH1";

/// Runs `useradd` or one of its kin, with this input. They give up if another one holds the files,
/// so labs wait for each other.
///
/// # Panics
/// If the program fails; the message has what it said.
pub fn change_accounts(command: &mut Command, input: &str) {
    let lock = File::open("/etc").expect("opening /etc");
    flock(&lock, FlockOperation::LockExclusive).expect("locking /etc against other labs");
    let child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("starting a program that changes accounts");
    let mut pipe = child.stdin.take().expect("standard input is a pipe");
    // A program that asks for nothing may have ended.
    _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    let done = child.wait_with_output().expect("waiting for a program that changes accounts");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
}

/// An account on the lab's target.
#[derive(Clone, Debug)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// Its numeric user id.
    pub uid: u32,
    /// Its numeric group id.
    pub gid: u32,
    /// Its home directory.
    pub home: PathBuf,
}

impl Account {
    /// As root, a new user with this shell, a home below `homes` and [`PASSWORD`]; the guardian
    /// removes it. Otherwise the caller's own account, whose home is not the lab's.
    pub(crate) fn create(guardian: &Guardian, homes: &Path, shell: &str) -> Account {
        if !privilege::is_root() {
            return Account::own();
        }
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("fakessh-lab-{}-{number}", std::process::id());
        let home = homes.join(&name);
        let mut useradd = Command::new("useradd");
        useradd.args(["--no-create-home", "--user-group", "--shell", shell, "--home-dir"]);
        useradd.arg(&home).args(["--password", PASSWORD_HASH, &name]);
        change_accounts(&mut useradd, "");
        let account = Account::look_up(&name, home);
        guardian.account(&account.name, account.uid);
        std::fs::create_dir(&account.home).expect("creating the account's home");
        account.give(&account.home);
        std::fs::set_permissions(&account.home, PermissionsExt::from_mode(0o755)).unwrap();
        account
    }

    /// The caller's own account.
    fn own() -> Account {
        let uid = rustix::process::getuid().as_raw();
        let passwd = std::fs::read_to_string("/etc/passwd").expect("reading /etc/passwd");
        let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
        let fields: Vec<&str> = line.expect("an account for this user id").split(':').collect();
        Account::look_up(fields[0], fields[5].into())
    }

    fn look_up(name: &str, home: PathBuf) -> Account {
        let passwd = std::fs::read_to_string("/etc/passwd").expect("reading /etc/passwd");
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name));
        let fields: Vec<&str> = line.expect("the account's line").split(':').collect();
        let number = |field: &str| field.parse().expect("a number in /etc/passwd");
        let (uid, gid) = (number(fields[2]), number(fields[3]));
        Account { name: name.to_owned(), uid, gid, home }
    }

    /// Gives it another password than [`PASSWORD`].
    ///
    /// # Panics
    /// Without root.
    pub(crate) fn set_password(&self, password: &str) {
        let mut chpasswd = Command::new("chpasswd");
        chpasswd.args(["--crypt-method", "SHA512"]);
        change_accounts(&mut chpasswd, &format!("{}:{password}\n", self.name));
    }

    /// Makes this account the owner of a file or directory, if we may.
    pub fn give(&self, path: &Path) {
        if privilege::is_root() {
            chown(path, Some(self.uid), Some(self.gid)).expect("changing an owner in the lab");
        }
    }
}
