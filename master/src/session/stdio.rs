//! The standard streams of a session, held from the handoff to the end.

use fakessh_protocol::failure::Failure;

use crate::fd_limit;
use crate::pump::{Foreign, Input, Output, Sink, Source};

/// Where a session's bytes come from and go to.
pub(super) enum Stdio {
    /// Descriptors of a local shim, of which none is in use.
    Handed([Foreign; 3]),
    /// Streams in use, and descriptors that can't be used but are held nevertheless.
    Open(Streams, [Option<Foreign>; 3]),
}

/// What a program's input comes from, and its output and errors go to.
pub(super) struct Streams {
    pub(super) stdin: Input,
    pub(super) outputs: [Output; 2],
}

impl Stdio {
    /// What a local shim handed over: standard input, output and error.
    pub(super) fn descriptors(descriptors: [Foreign; 3]) -> Stdio {
        Stdio::Handed(descriptors)
    }

    /// The handles of a slave whose tool called `ssh`.
    pub(super) fn handles(streams: Streams) -> Stdio {
        Stdio::Open(streams, Default::default())
    }

    fn closed() -> Stdio {
        Stdio::handles(Streams { stdin: Input::Closed, outputs: [Output::Closed, Output::Closed] })
    }

    /// Gets ready to move bytes, before anything is started.
    ///
    /// # Errors
    /// If there are too few descriptors for it. Any other fault of a stream shows when the stream is
    /// used.
    pub(super) fn open(&mut self) -> Result<&mut Streams, Failure> {
        let mut is_reached = false;
        if let Some(handed) = self.give_back() {
            let mut slots = handed.map(Some);
            let [stdin, stdout, stderr] = &mut slots;
            let source = Source::take(stdin);
            let (stdout, stderr) = Sink::pair(stdout, stderr);
            let failures = [source.as_ref().err(), stdout.as_ref().err(), stderr.as_ref().err()];
            is_reached = failures.into_iter().flatten().any(fd_limit::is_reached);
            let streams = Streams {
                stdin: Input::Descriptor(source),
                outputs: [Output::Descriptor(stdout), Output::Descriptor(stderr)],
            };
            *self = Stdio::Open(streams, slots);
        }
        match self {
            Stdio::Open(streams, _) if !is_reached => Ok(streams),
            _ => Err(fd_limit::refusal()),
        }
    }

    /// Lets go of everything.
    pub(super) fn close(&mut self) {
        *self = Stdio::closed();
    }

    /// Takes the descriptors back, if none of them is in use.
    pub(super) fn give_back(&mut self) -> Option<[Foreign; 3]> {
        match std::mem::replace(self, Stdio::closed()) {
            Stdio::Handed(descriptors) => Some(descriptors),
            open @ Stdio::Open(..) => {
                *self = open;
                None
            }
        }
    }

    /// Cuts the outputs that are handles and have not ended.
    pub(super) fn cut_handles(&mut self) {
        let Stdio::Open(streams, _) = self else { return };
        for output in &mut streams.outputs {
            if let Output::Handle(_) = output {
                *output = Output::Closed;
            }
        }
    }

    /// Whether a stream is open whose other end somebody may watch.
    pub(super) fn is_held(&self) -> bool {
        let Stdio::Open(Streams { stdin, outputs }, slots) = self else { return true };
        !matches!(stdin, Input::Closed)
            || outputs.iter().any(|output| !matches!(output, Output::Closed))
            || slots.iter().any(Option::is_some)
    }
}
