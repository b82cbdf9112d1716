//! The standard streams of a session, held from the handoff to the end.

use std::os::fd::OwnedFd;

use crate::fd_limit;
use crate::pump::{Input, Output, Sink, Source};

/// Where a session's bytes come from and go to.
pub(super) struct Stdio {
    streams: Streams,
    /// Descriptors of a local shim that are not in use: none of them is yet, or they can't be.
    handed: [Option<OwnedFd>; 3],
}

/// What a program's input comes from, and its output and errors go to.
pub(super) struct Streams {
    pub(super) stdin: Input,
    pub(super) outputs: [Output; 2],
}

impl Stdio {
    /// What a local shim handed over: standard input, output and error.
    pub(super) fn descriptors(descriptors: [OwnedFd; 3]) -> Stdio {
        let streams = Streams { stdin: Input::Closed, outputs: [Output::Closed, Output::Closed] };
        Stdio { streams, handed: descriptors.map(Some) }
    }

    /// The handles of a slave whose tool called `ssh`.
    pub(super) fn handles(streams: Streams) -> Stdio {
        Stdio { streams, handed: Default::default() }
    }

    /// Gets ready to move bytes, before anything is started.
    ///
    /// # Errors
    /// One line where there are too few descriptors for it. What else can't be used is a fault of
    /// its stream, and shows there.
    pub(super) fn open(&mut self) -> Result<&mut Streams, String> {
        let [stdin, stdout, stderr] = &mut self.handed;
        if stdin.is_none() {
            return Ok(&mut self.streams);
        }
        let source = Source::take(stdin);
        let (stdout, stderr) = Sink::pair(stdout, stderr);
        let failures = [source.as_ref().err(), stdout.as_ref().err(), stderr.as_ref().err()];
        let is_reached = failures.into_iter().flatten().any(fd_limit::is_reached);
        self.streams = Streams {
            stdin: Input::Descriptor(source),
            outputs: [Output::Descriptor(stdout), Output::Descriptor(stderr)],
        };
        if is_reached { Err(fd_limit::refusal()) } else { Ok(&mut self.streams) }
    }

    /// Lets go of everything.
    pub(super) fn close(&mut self) {
        self.streams.stdin = Input::Closed;
        self.streams.outputs = [Output::Closed, Output::Closed];
        self.handed = Default::default();
    }

    /// The descriptors, where none of them is in use.
    pub(super) fn give_back(&mut self) -> Option<[OwnedFd; 3]> {
        match std::mem::take(&mut self.handed) {
            [Some(stdin), Some(stdout), Some(stderr)] => Some([stdin, stdout, stderr]),
            _ => None,
        }
    }

    /// Cuts the outputs that are handles and have not ended.
    pub(super) fn cut_handles(&mut self) {
        for output in &mut self.streams.outputs {
            if let Output::Handle(_) = output {
                *output = Output::Closed;
            }
        }
    }

    /// Whether a stream is open whose other end somebody may watch.
    pub(super) fn is_held(&self) -> bool {
        let Streams { stdin, outputs } = &self.streams;
        !matches!(stdin, Input::Closed)
            || outputs.iter().any(|output| !matches!(output, Output::Closed))
            || self.handed.iter().any(Option::is_some)
    }
}
