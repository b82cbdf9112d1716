//! How many files this process may open, and what programs that it starts get of it.
//!
//! A thousand sessions are thousands of descriptors, so a master raises its own limit. Programs
//! get the old one back: some close every descriptor up to the limit, and some still use
//! select(2), which knows no more than 1024.
//!
//! At the limit a few descriptors are kept in reserve: one is lent to each call that takes what
//! somebody sends, so that there is always one over which a refusal can be said. As long as the
//! reserve is not whole, nothing new is begun.

use std::io;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_unix::fd_limit;
use fakessh_unix::reserve::Reserve;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit};

/// The soft limit before this process raised it; unset if it was not raised.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of open files to the hard one, for this process alone.
///
/// # Errors
/// As setrlimit(2); the limit is what it was then.
pub(crate) fn raise() -> std::io::Result<()> {
    // Only the first of several calls has seen what the process was started with.
    ORIGINAL.get_or_init(|| getrlimit(Resource::Nofile));
    fd_limit::raise()
}

/// Has a program start with the limit that this process was started with.
pub(crate) fn give_back(command: &mut Command) {
    if let Some(limit) = ORIGINAL.get() {
        crate::sys::set_descriptor_limit(command, *limit);
    }
}

/// Descriptors in reserve: for clients that end something (`fakessh close`, `fakessh stop`), for
/// connections of shims that are being refused, and for what such a shim sends.
const RESERVED: usize = 8;

/// What must be left in reserve for shims when a client is accepted.
pub(crate) const FOR_CLIENTS: usize = 6;

/// What must be left in reserve for handoffs when a connection of a shim is accepted.
pub(crate) const FOR_SHIMS: usize = 4;

static RESERVE: Mutex<Reserve> = Mutex::new(Reserve::new(RESERVED));

fn reserve() -> MutexGuard<'static, Reserve> {
    RESERVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lends `take` a descriptor of the reserve: with nothing else free, it can open one. `take` must
/// not block.
pub(crate) fn lend<T>(take: impl FnOnce() -> T) -> T {
    // What is missing is looked for again by those who want to begin something.
    reserve().lend(1, take).0
}

/// Fills the reserve, so that something new may begin.
///
/// # Errors
/// [`FailureKind::Limit`], if the reserve can't be filled.
pub(crate) fn check() -> Result<(), Failure> {
    let filled = reserve().fill();
    filled.map_err(|error| Failure::new(FailureKind::Limit, explain(&error.into())))
}

/// Whether so many are in reserve.
pub(crate) fn has_reserve(count: usize) -> bool {
    reserve().holds(count)
}

/// Says in one line what an error of the system means to the user.
pub(crate) fn explain(error: &io::Error) -> String {
    if is_reached(error) { refusal().message } else { error.to_string() }
}

/// Whether an error says that this process may open no more descriptors.
pub(crate) fn is_reached(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::MFILE)
}

/// The failure of those who are refused at the limit.
pub(crate) fn refusal() -> Failure {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let message = format!(
        "the master is at its limit of open descriptors ({limit}); try again when other sessions \
         have ended, or end it (fakessh stop) and start it with a higher limit (ulimit -Hn)"
    );
    Failure::new(FailureKind::Limit, message)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::LazyLock;

    use rustix::process::setrlimit;

    use super::*;

    /// Raises the limit, and returns the soft one that was there before. Once for all tests of the
    /// process: those that come meanwhile wait for it.
    pub(crate) fn raised() -> &'static str {
        static RAISED: LazyLock<String> = LazyLock::new(|| {
            let now = getrlimit(Resource::Nofile);
            if now.current == now.maximum {
                // Else there would be nothing to raise.
                let current = now.maximum.map_or(Some(4096), |most| Some(most - 1));
                setrlimit(Resource::Nofile, Rlimit { current, ..now }).unwrap();
            }
            raise().unwrap();
            ORIGINAL.get().unwrap().current.unwrap().to_string()
        });
        &RAISED
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
