//! Why the configuration of a host can't be used.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// The configuration of a host could not be read.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// `ssh -G` did not accept the options or the configuration file.
    #[error("cannot read the ssh configuration of '{host}': {message}")]
    Rejected {
        /// The host that was looked up.
        host: String,
        /// What `ssh` said.
        message: String,
    },
    /// `ssh` could not be run.
    #[error("cannot run {}: {error}", program.display())]
    NotRun {
        /// The program that was tried.
        program: PathBuf,
        /// Why not.
        error: String,
    },
    /// `ssh -G` did not end in time.
    #[error(
        "the ssh configuration of '{host}' took more than {} seconds to read; look at its \
         'Match exec' lines",
        limit.as_secs()
    )]
    TimedOut {
        /// The host that was looked up.
        host: String,
        /// How long it could have taken.
        limit: Duration,
    },
    /// The configuration wants a way to the host that we don't support.
    #[error(
        "the ssh configuration of '{host}' sets {keyword}, which is not supported; \
         use -o {keyword}={off} if the host can be reached without"
    )]
    Unsupported {
        /// The host that was looked up.
        host: String,
        /// The keyword.
        keyword: &'static str,
        /// The value that switches it off.
        off: &'static str,
    },
    /// A list of files can't be told apart from a name with a space.
    #[error(
        "the ssh configuration of '{host}' is unclear: ssh -G prints {keyword} as '{value}', which \
         may be one file with a space in its name or several; write absolute names without spaces"
    )]
    UnclearFiles {
        /// The host that was looked up.
        host: String,
        /// The keyword.
        keyword: &'static str,
        /// Its value.
        value: String,
    },
    /// There is no `ssh` to read a configuration file with.
    #[error(
        "no ssh program was found, and '{0}' needs it to be understood; install openssh-client"
    )]
    NeedsSsh(String),
}
