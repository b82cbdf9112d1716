//! Directories in which others could put an `ssh` of their own.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Permission bits with which others than the owner can write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The one for the group.
const WRITABLE_BY_GROUP: u32 = 0o020;

/// The permission bit of directories in which everybody removes and renames their own only.
const STICKY: u32 = 0o1000;

/// What a directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has links of fakessh, and nothing else.
    OursAlone,
    /// It has links of fakessh beside other programs, as `/usr/local/bin`.
    Shared,
    /// It is above such a directory.
    Above,
}

impl Place {
    /// Refuses a directory in which, or through which, others could put programs of theirs in the
    /// place of the links. A symbolic link is no directory.
    ///
    /// # Errors
    /// Says why, and the remedy.
    pub(super) fn check(self, directory: &Path, remedy: &str) -> anyhow::Result<()> {
        let shown = directory.display();
        let found =
            fs::symlink_metadata(directory).with_context(|| format!("can't look at {shown}"))?;
        let ours = rustix::process::geteuid().as_raw();
        if !found.is_dir() {
            bail!("{shown} is no directory; {remedy}");
        }
        if found.uid() != ours && (self == Place::OursAlone || found.uid() != 0) {
            bail!("{shown} belongs to uid {} and not to you (uid {ours}); {remedy}", found.uid());
        }
        if is_open(&found) && (self != Place::Above || found.mode() & STICKY == 0) {
            let mode = found.mode() & 0o7777;
            bail!("{shown} has mode {mode:04o}, so that others could put an ssh there; {remedy}");
        }
        Ok(())
    }
}

/// Whether others can write to a directory. A group that has the number of the account is the account's
/// alone, on systems where new files are the group's to write. To whom root gives a directory of its
/// own, as `staff` has `/usr/local/bin` on Debian, is root's affair.
fn is_open(found: &Metadata) -> bool {
    let is_trusted_group = found.gid() == found.uid() || found.uid() == 0;
    let closed = if is_trusted_group { WRITABLE_BY_GROUP } else { 0 };
    found.mode() & WRITABLE_BY_OTHERS & !closed != 0
}
