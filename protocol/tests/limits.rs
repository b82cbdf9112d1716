//! Lengths of messages, up to the limit and beyond it.
#![allow(clippy::unwrap_used)]

use fakessh_protocol::counted::{MAX_VARIABLES, MAX_WORDS};
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{
    ProgramKind, Refusal, RefusalReason, Spawn, ToMaster, ToSlave, Tool,
};
use fakessh_protocol::mux::Mux;
use fakessh_protocol::wire::{self, Handle, Header, Kind, MAX_MESSAGE, WireError};

fn spawn(program: ProgramKind, environment: Vec<(Vec<u8>, Vec<u8>)>) -> ToSlave {
    let handles = SessionHandles::of(Handle(4));
    ToSlave::Spawn(Spawn { handles, program, setup: environment.into() })
}

#[test]
fn a_command_of_1_mib_with_an_environment_of_1_mib_fits() {
    let environment = vec![(vec![b'x'; 10], vec![b'y'; 90]); 1024 * 1024 / 100];
    let message = spawn(ProgramKind::Shell(vec![b'z'; 1024 * 1024]), environment);
    assert_eq!(wire::decode::<ToSlave>(&wire::encode(&message).unwrap()), Ok(message));
}

#[test]
fn an_environment_has_a_number_of_variables_and_a_command_line_one_of_words() {
    let environment = |count| spawn(ProgramKind::Login, vec![(Vec::new(), Vec::new()); count]);
    let tool = |count| spawn(ProgramKind::Tool(Tool { argv: vec![Vec::new(); count] }), Vec::new());
    for message in [environment(MAX_VARIABLES), tool(MAX_WORDS)] {
        let bytes = wire::encode(&message).unwrap();
        assert_eq!(wire::decode::<ToSlave>(&bytes), Ok(message));
    }
    for message in [environment(MAX_VARIABLES + 1), tool(MAX_WORDS + 1)] {
        let error = wire::encode(&message).unwrap_err();
        assert!(error.to_string().contains("a list of more than"), "{error}");
    }
    // One who writes it all the same is not believed: a number of 32 bits, and as many words.
    let mut bytes = vec![1, 4, 5, 6, 7, 5, 252];
    bytes.extend((MAX_WORDS as u32 + 1).to_le_bytes());
    bytes.extend(vec![0; MAX_WORDS + 2]);
    let error = wire::decode::<ToSlave>(&bytes).unwrap_err();
    assert!(error.to_string().contains("a list of more than"), "{error}");
}

#[test]
fn a_message_above_the_limit_of_its_kind_is_refused_at_its_first_byte() {
    // The kinds of `ToMaster`, the last of which is none.
    for kind in 0..=6 {
        let limit = ToMaster::limit(kind);
        assert!(limit < MAX_MESSAGE);
        let header = |len| Header { kind: Kind::Message, len, handle: Handle(4) }.encode();
        let mut allowed = Mux::new().limit_received(ToMaster::limit);
        allowed.receive(&header(limit)).unwrap();
        assert_eq!(allowed.receive(&[kind]), Ok((1, None)));
        let mut mux = Mux::new().limit_received(ToMaster::limit);
        mux.receive(&header(limit + 1)).unwrap();
        let error = WireError::TooLargeForKind { kind, len: limit + 1, limit };
        assert_eq!(mux.receive(&[kind]), Err(error.into()));
    }
    // What is not said is not sent either.
    let mut slave = Mux::new().limit_sent(ToMaster::limit);
    let message = "x".repeat(ToMaster::limit(2));
    let refused = ToMaster::Refused(Refusal { reason: RefusalReason::Other, message });
    assert!(matches!(
        slave.message(Handle(4), &refused),
        Err(WireError::TooLargeForKind { kind: 2, .. })
    ));
    assert!(!slave.wants_transmit());
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
