//! Lengths of messages, up to the limit and beyond it.
#![allow(clippy::unwrap_used)]

use fakessh_protocol::message::{ProgramKind, SessionHandles, Spawn, ToMaster, ToSlave};
use fakessh_protocol::wire::{self, Handle, MAX_MESSAGE, WireError};

fn spawn(program: ProgramKind, environment: Vec<(Vec<u8>, Vec<u8>)>) -> ToSlave {
    let handles = SessionHandles {
        control: Handle(4),
        stdin: Handle(5),
        stdout: Handle(6),
        stderr: Handle(7),
    };
    ToSlave::Spawn(Spawn { handles, program, environment })
}

#[test]
fn a_command_of_1_mib_with_an_environment_of_1_mib_fits() {
    let environment = vec![(vec![b'x'; 10], vec![b'y'; 20]); 1024 * 1024 / 30];
    let message = spawn(ProgramKind::Shell(vec![b'z'; 1024 * 1024]), environment);
    assert_eq!(wire::decode::<ToSlave>(&wire::encode(&message).unwrap()), Ok(message));
}

#[test]
fn what_can_be_encoded_can_be_decoded_however_small_its_parts() {
    let message = spawn(ProgramKind::Login, vec![(Vec::new(), Vec::new()); MAX_MESSAGE / 2 - 10]);
    let bytes = wire::encode(&message).unwrap();
    assert!(bytes.len() <= MAX_MESSAGE);
    assert_eq!(wire::decode::<ToSlave>(&bytes), Ok(message));
}

#[test]
fn a_message_above_the_limit_is_neither_sent_nor_read() {
    let message = spawn(ProgramKind::Shell(vec![b'z'; MAX_MESSAGE]), Vec::new());
    assert_eq!(wire::encode(&message), Err(WireError::TooLarge));
    let bytes = vec![0; MAX_MESSAGE + 1];
    assert_eq!(wire::decode::<ToSlave>(&bytes), Err(WireError::TooLarge));
}

#[test]
fn lengths_that_lie_are_refused() {
    for claimed in [[253, 255, 255, 255, 255, 255, 255, 255, 255], [253, 0, 0, 0, 1, 0, 0, 0, 0]] {
        for variant in [0, 1, 2] {
            let bytes = [&[variant][..], &claimed].concat();
            assert!(matches!(wire::decode::<ToMaster>(&bytes), Err(WireError::BadMessage(_))));
            let bytes = [&[1, 4, 5, 6, 7, variant][..], &claimed].concat();
            assert!(matches!(wire::decode::<ToSlave>(&bytes), Err(WireError::BadMessage(_))));
        }
    }
}
