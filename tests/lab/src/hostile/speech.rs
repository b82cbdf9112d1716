//! What hostile slaves say, frame by frame.

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::invocation::{Destination, Invocation, Request};
use fakessh_protocol::message::{
    Accepted, FromShim, Handoff, Hello, PackedHandoff, Refusal, RefusalReason, StartReverse,
    ToMaster,
};
use fakessh_protocol::wire::{self, HEADER_LEN, Handle, Header, Kind};

/// Bytes that are written at once.
const BLOCK: usize = 256 * 1024;

/// A handle that nobody has opened.
pub(super) const UNOPENED: Handle = Handle(0x00ff_fff0);

/// A frame with this payload.
pub(super) fn frame(kind: Kind, handle: Handle, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, len: payload.len(), handle }.encode();
    [&header[..], payload].concat()
}

/// A message as a frame, whatever its limit.
pub(super) fn message(handle: Handle, message: &ToMaster) -> Vec<u8> {
    let payload = wire::encode(message).expect("a message that can be said at all");
    frame(Kind::Message, handle, &payload)
}

/// A frame, so many times that writing them costs little.
pub(super) fn many(frame: &[u8]) -> Vec<u8> {
    frame.repeat((BLOCK / frame.len()).max(1))
}

pub(super) fn hello(home: usize) -> ToMaster {
    let hello = Hello { user: "mallory".into(), uid: 0, home: "/".repeat(home), pid: 1 };
    ToMaster::Hello(hello)
}

pub(super) fn exited() -> ToMaster {
    ToMaster::Exited(ExitStatus::Code(0))
}

pub(super) fn refused(words: usize) -> ToMaster {
    ToMaster::Refused(Refusal { reason: RefusalReason::Other, message: "x".repeat(words) })
}

pub(super) fn said(signal: u8) -> ToMaster {
    ToMaster::FromShim(FromShim::Signal(signal))
}

/// The handles of the so-many-th session that is raised.
pub(super) fn handles(number: u32) -> SessionHandles {
    SessionHandles::of(Handle((1 << 31) + 8 * (number % (1 << 28))))
}

/// A session that is raised, and the end of what it would send: so its handles may be used again.
pub(super) fn raise(tool: Handle, handles: SessionHandles, invocation: Invocation) -> Vec<u8> {
    let handoff = Handoff { version: env!("CARGO_PKG_VERSION").to_owned(), invocation };
    let handoff = PackedHandoff::pack(&handoff).expect("a handoff that can be said at all");
    let raise = ToMaster::StartReverse(Box::new(StartReverse { tool, handles, handoff }));
    let mut bytes = message(handles.control, &raise);
    bytes.extend(frame(Kind::Reset, handles.stdin, &[]));
    bytes
}

/// A connection that is accepted, and the end of what it would send.
pub(super) fn accept(listener: Handle, handles: SessionHandles, from: usize) -> Vec<u8> {
    let accepted = Accepted { listener, handles, from: "x".repeat(from) };
    let mut bytes = message(handles.control, &ToMaster::Accepted(accepted));
    bytes.extend(frame(Kind::Reset, handles.stdin, &[]));
    bytes
}

/// An `ssh` to a host that no run names.
pub(super) fn invocation() -> Invocation {
    Invocation {
        destination: Destination { host: "nowhere".into(), ..Destination::default() },
        request: Request::Command(b"id".to_vec()),
        ..Invocation::default()
    }
}

/// One with a command of so many bytes.
pub(super) fn with_command(len: usize) -> Invocation {
    Invocation { request: Request::Command(vec![b'x'; len]), ..invocation() }
}

/// One with so many variables that say nothing.
pub(super) fn with_variables(count: usize) -> Invocation {
    Invocation { environment: vec![(Vec::new(), Vec::new()); count], ..invocation() }
}

/// A raise of 3.9 MB that is nothing but empty variables, which no honest encoder writes.
pub(super) fn long_raise() -> Vec<u8> {
    const LEN: usize = 3_900_000;
    let mut payload = wire::encode(&ToMaster::StartReverse(Box::new(StartReverse {
        tool: Handle(4),
        handles: handles(0),
        handoff: PackedHandoff::pack(&Handoff {
            version: String::new(),
            invocation: with_variables(1000),
        })
        .expect("a thousand variables"),
    })))
    .expect("a raise")
    .to_vec();
    payload.resize(LEN, 0);
    frame(Kind::Message, handles(0).control, &payload)
}

/// A header that claims so many bytes of a message.
pub(super) fn claim(len: usize) -> [u8; HEADER_LEN] {
    Header { kind: Kind::Message, len, handle: Handle::LINK }.encode()
}
