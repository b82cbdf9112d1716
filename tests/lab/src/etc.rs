//! An `/etc` of a lab's own, for what can't be tried on the machine's: rules of sudo and doas.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::account::Account;

/// Rules of sudo (`sudoers.d/lab`) that ask nothing, and want a terminal.
pub const SUDO_WITHOUT_PASSWORD: &str = "Defaults requiretty\n$ACCOUNT ALL=(ALL) NOPASSWD: ALL\n";

/// Places that are empty and private where a lab has an `/etc` of its own. What is left in them
/// was left behind.
const PRIVATE_PLACES: [&str; 3] = ["/dev/shm", "/var/tmp", "/run/user"];

/// Where sudo and doas keep what they know of former runs: private as well, and not to be looked
/// at.
const STATES: [&str; 3] = ["/run/sudo", "/var/lib/sudo", "/run/doas"];

/// Files that such an `/etc` has, or has otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct EtcFiles(Vec<(String, String)>);

impl EtcFiles {
    /// A file at this path below `/etc`.
    pub(crate) fn add(&mut self, path: &str, text: &str) {
        self.0.push((path.to_owned(), text.to_owned()));
    }

    /// Writes these files into the lab's directory, and gives the commands that put a copy of the
    /// machine's `/etc` with them in place in a mount namespace; `None` if there are no files.
    pub(crate) fn script(
        &self,
        dir: &Path,
        account: &Account,
        others: &[Account],
    ) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let files = dir.join("etc");
        for (path, text) in &self.0 {
            let file = files.join(path);
            let parent = file.parent().expect("a file below /etc");
            fs::create_dir_all(parent).expect("creating a directory of the lab");
            let other = others.first().map_or("nobody", |other| &other.name);
            let text = text
                .replace("$ACCOUNT", &account.name)
                .replace("$OTHER", other)
                .replace("$LAB", &dir.to_string_lossy());
            fs::write(&file, text).expect("writing a file of the lab's /etc");
            // As sudo wants its rules.
            let mode = if path.starts_with("sudoers") { 0o440 } else { 0o644 };
            fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        }
        let mut script = String::from(
            "files=\"$LAB/etc\"; etc=\"$LAB/server/etc\"; mkdir -p \"$etc\"
            mount -t tmpfs -o mode=755 none \"$etc\"
            flock /etc cp -a /etc/. \"$etc\"
            cp -rp \"$files/.\" \"$etc\"
            mount --bind \"$etc\" /etc
            umount \"$etc\"\n",
        );
        for (places, mode) in [(&PRIVATE_PLACES, "1777"), (&STATES, "711")] {
            for place in places {
                script.push_str(&format!(
                    "[ ! -d {place} ] || mount -t tmpfs -o mode={mode} none {place}\n"
                ));
            }
        }
        Some(script)
    }
}
