//! How a session ends.

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::RealWords;

use crate::run::Denied;

/// How a session ended.
#[derive(Debug)]
pub(super) enum SessionOutcome {
    /// The program ended, and its output is where it should be.
    Exited(ExitStatus),
    /// There was no session, or it was lost.
    Failed(Denied),
    /// The real `ssh` is to do it, for this reason, with the descriptors that were handed over.
    RealSsh { why: String, words: RealWords },
}
