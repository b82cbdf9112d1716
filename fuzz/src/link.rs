//! What goes over a link, as each end takes it: frames, and the messages in them.

use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::invocation::{Invocation, Request};
use fakessh_protocol::message::{
    ProgramKind, ProgramSetup, Spawn, StartReverse, ToMaster, ToSlave,
};
use fakessh_protocol::mux::{Event, Expecting, Mux, MuxError};
use fakessh_protocol::terminal::TerminalRequest;
use fakessh_protocol::wire::{self, Handle};
use serde::de::DeserializeOwned;

/// Bytes in memory that each byte of a message may become: the smallest item of a list takes one on
/// the wire, and a pair of empty vectors here.
const MOST_GROWTH: usize = 64;

/// What a slave hears of its master: it opens the handles of each session that is to be started.
pub fn to_slave(input: &[u8]) {
    let mut mux = Mux::new().limit_sent(ToMaster::limit);
    take(&mut mux, input, |mux, message: ToSlave, len| {
        let ToSlave::Spawn(spawn) = message else { return Ok(()) };
        assert!(size_of_spawn(&spawn) <= MOST_GROWTH * len);
        let SessionHandles { stdin, stdout, stderr, .. } = spawn.handles;
        mux.open_receiving(stdin)?;
        mux.open_sending(stdout)?;
        mux.open_sending(stderr)
    });
}

/// What the master hears of a slave: it opens the handles of each session that is raised.
pub fn to_master(input: &[u8]) {
    let mut mux = Mux::new().limit_received(ToMaster::limit);
    take(&mut mux, input, |mux, message: ToMaster, len| {
        let raise = match message {
            ToMaster::StartReverse(raise) => raise,
            ToMaster::Hello(_) | ToMaster::Refused(_) => return Ok(()),
            // A few numbers, and an answer.
            _ => {
                assert!(len <= 8192);
                return Ok(());
            }
        };
        let StartReverse { handles, handoff, .. } = *raise;
        assert!(handoff.size() <= len);
        if let Ok(handoff) = handoff.unpack() {
            assert!(size_of_invocation(&handoff.invocation) <= MOST_GROWTH * len);
        }
        mux.open_receiving(handles.stdin)?;
        mux.open_sending(handles.stdout)?;
        mux.open_sending(handles.stderr)
    });
}

/// Takes frames in, until the peer breaks the protocol.
fn take<T: DeserializeOwned>(
    mux: &mut Mux,
    mut bytes: &[u8],
    mut heard: impl FnMut(&mut Mux, T, usize) -> Result<(), MuxError>,
) {
    let all = bytes.len();
    while !bytes.is_empty() {
        match mux.expecting() {
            Expecting::Data(handle, remaining) => {
                let used = remaining.min(bytes.len());
                mux.took(used);
                mux.consumed(handle, used);
                bytes = &bytes[used..];
            }
            Expecting::Control(_) => {
                let Ok((used, event)) = mux.receive(bytes) else { return };
                bytes = &bytes[used..];
                let Some(Event::Message(handle, payload)) = event else { continue };
                assert_ne!(payload.len(), 0);
                let Ok(message) = wire::decode(&payload) else { return };
                if handle != Handle::LINK && heard(mux, message, payload.len()).is_err() {
                    return;
                }
            }
        }
        // Nothing of it makes us say more than it was itself, but for the answers to handles that
        // it has opened and closed.
        assert!(mux.queued() <= 8 * all);
        assert!(mux.received() <= all as u64);
    }
}

fn size_of_spawn(spawn: &Spawn) -> usize {
    let program = match &spawn.program {
        ProgramKind::Shell(command) => command.len(),
        ProgramKind::Helper(helper) => words(&helper.argv),
        ProgramKind::Tool(tool) => words(&tool.argv),
        ProgramKind::Program(argv) => words(argv),
        _ => 0,
    };
    let ProgramSetup { environment, directory, terminal, agent: _ } = &spawn.setup;
    program + pairs(environment) + directory.len() + terminal.as_ref().map_or(0, size_of_terminal)
}

fn size_of_terminal(terminal: &TerminalRequest) -> usize {
    terminal.term.len() + size_of_val(&terminal.modes[..])
}

fn size_of_invocation(invocation: &Invocation) -> usize {
    let Invocation { request, connection, send_env, set_env, environment, .. } = invocation;
    let request = match request {
        Request::Command(command) => command.len(),
        Request::Tool(argv) | Request::Program(argv) => words(argv),
        _ => 0,
    };
    let patterns: usize = send_env.iter().map(|pattern| size_of::<String>() + pattern.len()).sum();
    let terminal = invocation.terminal.as_ref().map_or(0, size_of_terminal);
    request + words(connection) + patterns + pairs(set_env) + pairs(environment) + terminal
}

fn words(words: &[Vec<u8>]) -> usize {
    words.iter().map(|word| size_of::<Vec<u8>>() + word.len()).sum()
}

fn pairs(pairs: &[(Vec<u8>, Vec<u8>)]) -> usize {
    pairs.iter().map(|(name, value)| 2 * size_of::<Vec<u8>>() + name.len() + value.len()).sum()
}
