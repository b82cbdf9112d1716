//! Both kinds of sessions, as the link sees them: owners of pipes.

use fakessh_protocol::handles::Side;
use fakessh_protocol::wire::Handle;

use crate::link::Pipes;
use crate::reverse::Reverse;
use crate::session::{Sessions, Sink, Source};

/// All that has handles.
#[derive(Debug, Default)]
pub(super) struct Owners {
    pub(super) sessions: Sessions,
    pub(super) reverse: Reverse,
}

impl Owners {
    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.sessions.len() + self.reverse.len()
    }
}

impl Pipes for Owners {
    fn sink(&mut self, handle: Handle) -> Option<&mut Sink> {
        match Side::of(handle)? {
            Side::Master => self.sessions.sink(handle),
            Side::Slave => self.reverse.sink(handle),
        }
    }

    fn source(&mut self, handle: Handle) -> Option<&mut Source> {
        match Side::of(handle)? {
            Side::Master => self.sessions.source(handle),
            Side::Slave => self.reverse.source(handle),
        }
    }
}
