//! What the link asks of the sessions: the pipes of its handles.

use fakessh_protocol::wire::Handle;

use crate::session::{Sink, Source};

/// Finds the pipe of a handle, whichever kind of session has it.
pub(crate) trait Pipes {
    /// Where the handle's bytes go.
    fn sink(&mut self, handle: Handle) -> Option<&mut Sink>;

    /// Where the handle's bytes come from.
    fn source(&mut self, handle: Handle) -> Option<&mut Source>;
}
