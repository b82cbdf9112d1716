//! A master that breaks the protocol ends its link, and nothing else happens.

use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{ProgramKind, Spawn, ToSlave};
use fakessh_protocol::wire::{self, Handle, Header, Kind};

use crate::master::Master;

fn ends_the_link(bytes: &[u8]) {
    let mut master = Master::start();
    let handles = master.shell("echo ready; sleep 1000");
    master.until("ready", |master| master.text(handles.stdout) == "ready\n");
    master.send_raw(bytes);
    assert_eq!(master.until_closed().code(), Some(255), "{bytes:?}");
}

fn frame(kind: Kind, len: usize, handle: u32) -> Vec<u8> {
    Header { kind, len, handle: Handle(handle) }.encode().to_vec()
}

#[test]
fn garbage_ends_the_link() {
    ends_the_link(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
}

#[test]
fn frames_that_lie_about_their_length_end_the_link() {
    ends_the_link(&[1, 0xff, 0xff, 0xff, 2, 0, 0, 0]);
    ends_the_link(&[7, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
}

#[test]
fn data_for_a_handle_that_is_not_open_ends_the_link() {
    ends_the_link(&frame(Kind::Data, 10, 77));
}

#[test]
fn data_beyond_credit_ends_the_link() {
    let mut bytes = Vec::new();
    // Nobody reads in there.
    for _ in 0..400 {
        bytes.extend(frame(Kind::Data, 32_768, 5));
        bytes.extend(vec![0; 32_768]);
    }
    ends_the_link(&bytes);
}

#[test]
fn a_message_that_is_none_ends_the_link() {
    let mut bytes = frame(Kind::Message, 3, 8);
    bytes.extend([0xff, 0xff, 0xff]);
    ends_the_link(&bytes);
}

#[test]
fn a_session_with_handles_that_it_can_not_have_ends_the_link() {
    let row = |handle| SessionHandles::of(Handle(handle));
    for handles in [
        // Those of a session that runs.
        row(4),
        SessionHandles { stdout: Handle(6), ..row(52) },
        // The slave's to pick.
        row(1 << 31),
    ] {
        let program = ProgramKind::Shell(b"true".to_vec());
        let spawn = ToSlave::Spawn(Spawn { handles, program, setup: Default::default() });
        let payload = wire::encode(&spawn).unwrap();
        let mut bytes = frame(Kind::Message, payload.len(), handles.control.0);
        bytes.extend_from_slice(&payload);
        ends_the_link(&bytes);
    }
}

#[test]
fn a_claimed_length_is_not_allocated() {
    let mut master = Master::start();
    let before = master.memory("VmRSS");
    master.run("true", b"");
    master.send_raw(&frame(Kind::Message, 4_000_000, 9));
    master.send_raw(&[0; 1000]);
    master.until("sent", |master| master.is_flushed());
    assert!(master.memory("VmRSS") < before + 1_000_000);
    master.to_slave = None;
    assert_eq!(master.until_closed().code(), Some(0));
}
