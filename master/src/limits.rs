//! How many files this process may open, and what programs that it starts get of it.
//!
//! A thousand sessions are thousands of descriptors, so a master raises its own limit. Programs
//! get the old one back: some close every descriptor up to the limit, and some still use
//! select(2), which knows no more than 1024.

use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that this process was started with, where it was raised.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of open files to the hard one, for this process alone.
///
/// # Errors
/// As setrlimit(2); the limit is what it was then.
pub(crate) fn raise() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    // Only the first of several calls has seen what the process was started with.
    ORIGINAL.get_or_init(|| limit);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// Has a program start with the limit that this process was started with.
pub(crate) fn give_back(command: &mut Command) {
    if let Some(limit) = ORIGINAL.get() {
        crate::sys::set_descriptor_limit(command, *limit);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Raises the limit, and returns the soft one that was there before.
    pub(crate) fn raised() -> String {
        let now = getrlimit(Resource::Nofile);
        if ORIGINAL.get().is_none() && now.current == now.maximum {
            // Else there would be nothing to raise.
            let current = now.maximum.map_or(Some(4096), |most| Some(most - 1));
            setrlimit(Resource::Nofile, Rlimit { current, ..now }).unwrap();
        }
        raise().unwrap();
        ORIGINAL.get().unwrap().current.unwrap().to_string()
    }

    #[test]
    fn programs_get_the_limit_that_was_there_before() {
        let original = raised();
        let limit = |give: bool| {
            let mut command = Command::new("sh");
            command.args(["-c", "ulimit -Sn"]);
            if give {
                give_back(&mut command);
            }
            String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
        };
        assert_eq!(limit(true), original);
        assert_ne!(limit(false), original);
    }
}
