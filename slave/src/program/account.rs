//! Whose programs we run: the account's entry in the password database.
//!
//! In a statically linked program the C library can't ask its name services. So `/etc/passwd` is
//! read here, and `getent` answers for accounts that are kept elsewhere.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::subsystem::is_executable;

/// Most bytes of a line of `/etc/passwd` that is looked at. The C library begins with 1 KiB; no
/// account has a longer line than this.
const MAX_LINE: usize = 16 * 1024;

/// Most bytes of a password database that are read: half a million accounts.
const MAX_DATABASE: u64 = 64 * 1024 * 1024;

/// Where `getent` lies. It is not looked for on `PATH`, which may be another account's after `sudo`.
const GETENT: [&str; 3] = ["/usr/bin/getent", "/bin/getent", "/run/current-system/sw/bin/getent"];

/// Names of programs that are entered as shells to turn everybody away.
const NO_SHELLS: [&[u8]; 2] = [b"nologin", b"false"];

/// What starting programs needs to know of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: Vec<u8>,
    pub(crate) uid: u32,
    pub(crate) home: Vec<u8>,
    pub(crate) shell: Vec<u8>,
}

impl Account {
    /// The account that this process runs as.
    pub(crate) fn current() -> Account {
        let uid = rustix::process::getuid().as_raw();
        let names = ["USER", "LOGNAME"].map(|name| env::var_os(name).map(OsStringExt::into_vec));
        let known = File::open("/etc/passwd")
            .ok()
            .and_then(|file| find(BufReader::new(file.take(MAX_DATABASE)), uid, &names))
            .or_else(|| ask_getent(uid));
        known.unwrap_or_else(|| Account::from_environment(uid))
    }

    /// An account that no database has (a container's numeric user).
    fn from_environment(uid: u32) -> Account {
        let variable = |name: &str| {
            env::var_os(name).map(OsStringExt::into_vec).filter(|value| value.starts_with(b"/"))
        };
        Account {
            name: uid.to_string().into_bytes(),
            uid,
            home: variable("HOME").unwrap_or_else(|| b"/".to_vec()),
            shell: variable("SHELL").unwrap_or_else(|| b"/bin/sh".to_vec()),
        }
    }

    /// The login shell, as a program to start.
    ///
    /// For an account that may not log in it is `/bin/sh`: the caller has come by a way that needs
    /// no login, such as `sudo -u www-data COMMAND`.
    pub(crate) fn shell(&self) -> &OsStr {
        let name = self.shell.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let turns_away = NO_SHELLS.contains(&name);
        OsStr::from_bytes(if turns_away { b"/bin/sh" } else { &self.shell })
    }
}

/// The entry of `uid` that has one of `names`, else its first.
fn find(mut database: impl BufRead, uid: u32, names: &[Option<Vec<u8>>]) -> Option<Account> {
    let mut first = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if database.read_until(b'\n', &mut line).ok()? == 0 {
            return first;
        }
        if line.len() > MAX_LINE {
            continue;
        }
        if let Some(account) = parse(&line).filter(|account| account.uid == uid) {
            if names.iter().flatten().any(|name| *name == account.name) {
                return Some(account);
            }
            first.get_or_insert(account);
        }
    }
}

/// One line of passwd(5).
fn parse(line: &[u8]) -> Option<Account> {
    let mut fields = line.trim_ascii_end().split(|&byte| byte == b':');
    let name = fields.next()?.to_vec();
    let uid = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
    let home = or_default(fields.nth(2)?, b"/");
    let shell = or_default(fields.next()?, b"/bin/sh");
    Some(Account { name, uid, home, shell })
}

/// Empty fields have a meaning (passwd(5)).
fn or_default(field: &[u8], default: &[u8]) -> Vec<u8> {
    if field.is_empty() { default.to_vec() } else { field.to_vec() }
}

fn ask_getent(uid: u32) -> Option<Account> {
    let getent = GETENT.iter().find(|path| is_executable(Path::new(path)))?;
    let answer = Command::new(getent)
        .env_clear()
        .arg("passwd")
        .arg(uid.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    parse(&answer.stdout).filter(|account| account.uid == uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        toor:x:0:0::/toor:/bin/zsh\n\
        broken:x:zero\n\
        bare:x:7:7:::\n";

    #[test]
    fn the_entry_named_by_the_environment_is_preferred() {
        let toor = [None, Some(b"toor".to_vec())];
        assert_eq!(find(DATABASE, 0, &toor).unwrap().shell, b"/bin/zsh");
        let other = [Some(b"bare".to_vec()), None];
        assert_eq!(find(DATABASE, 0, &other).unwrap().shell, b"/bin/bash");
    }

    #[test]
    fn an_account_without_a_login_has_a_plain_shell() {
        let account =
            |shell: &[u8]| Account { shell: shell.to_vec(), ..Account::from_environment(0) };
        assert_eq!(account(b"/usr/sbin/nologin").shell(), "/bin/sh");
        assert_eq!(account(b"/bin/false").shell(), "/bin/sh");
        assert_eq!(account(b"/bin/zsh").shell(), "/bin/zsh");
    }

    #[test]
    fn empty_fields_have_their_defaults() {
        let bare = find(DATABASE, 7, &[]).unwrap();
        assert_eq!((&bare.home[..], &bare.shell[..]), (&b"/"[..], &b"/bin/sh"[..]));
    }

    #[test]
    fn an_unknown_uid_is_nobody() {
        assert_eq!(find(DATABASE, 12, &[]), None);
    }
}
