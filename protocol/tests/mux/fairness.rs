//! Handles take turns, and control goes first.

use fakessh_protocol::mux::{Mux, Transmit};
use fakessh_protocol::wire::{HEADER_LEN, Handle, Kind};
use proptest::prelude::*;

use crate::pair::{Pair, Side};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_handle_that_is_always_ready_gets_two_turns_more_than_another(
        sizes in prop::collection::vec(1usize..70_000, 2..12),
        rounds in 1usize..40,
    ) {
        let mut pair = Pair::default();
        let handles: Vec<Handle> = sizes.iter().map(|_| pair.open(Side::A, true)).collect();
        let mut turns = vec![0usize; handles.len()];
        for (&handle, &size) in handles.iter().zip(&sizes) {
            pair.peer(Side::A).offer(handle, size);
        }
        for _ in 0..rounds * handles.len() {
            let before = pair.peer(Side::A).turns.len();
            while pair.peer(Side::A).turns.len() == before {
                prop_assert!(pair.peer(Side::A).transmit());
            }
            let turn = pair.peer(Side::A).turns[before];
            let at = handles.iter().position(|&handle| handle == turn).unwrap();
            turns[at] += 1;
            // More is always ready, and the reader keeps up.
            pair.peer(Side::A).offer(turn, sizes[at]);
            pair.deliver(Side::A, usize::MAX);
            pair.peer(Side::B).consume_all();
            while pair.peer(Side::B).transmit() {}
            pair.deliver(Side::B, usize::MAX);
            let (least, most) = (turns.iter().min().unwrap(), turns.iter().max().unwrap());
            prop_assert!(most - least < 2, "{turns:?}");
        }
    }

    #[test]
    fn a_handle_that_was_closed_in_line_and_opened_again_has_one_turn_a_round(
        reopened in 1usize..5,
    ) {
        let mut mux = Mux::new();
        let (old, other) = (Handle(1), Handle(2));
        for _ in 0..reopened {
            mux.open_sending(old).unwrap();
            mux.offer(old, 1000);
            mux.reset(old);
        }
        for handle in [old, other] {
            mux.open_sending(handle).unwrap();
            mux.offer(handle, 200_000);
        }
        let mut turns = Vec::new();
        while let Some(transmit) = mux.transmit() {
            if let Transmit::Data { handle, .. } = transmit {
                turns.push(handle);
            }
        }
        prop_assert_eq!(turns, [old, other, old, other, old, other, old, other]);
    }
}

#[test]
fn a_message_goes_before_bulk_that_was_offered_earlier() {
    let mut mux = Mux::new();
    mux.open_sending(Handle(1)).unwrap();
    mux.offer(Handle(1), 250_000);
    assert!(matches!(mux.transmit(), Some(Transmit::Data { .. })));
    mux.message(Handle::LINK, &7u8).unwrap();
    mux.probe();
    assert_eq!(control_kind(mux.transmit()), Some(Kind::Message));
    assert_eq!(control_kind(mux.transmit()), Some(Kind::Ping));
    assert!(matches!(mux.transmit(), Some(Transmit::Data { .. })));
}

#[test]
fn a_message_given_once_a_handle_has_closed_comes_behind_its_last_byte() {
    let mut mux = Mux::new();
    mux.open_sending(Handle(1)).unwrap();
    mux.offer(Handle(1), 100_000);
    mux.finish(Handle(1));
    let mut sent = 0;
    while mux.is_sending(Handle(1)) {
        match mux.transmit() {
            Some(Transmit::Data { len, .. }) => sent += len,
            other => assert_eq!(control_kind(other), Some(Kind::Eof)),
        }
    }
    assert_eq!(sent, 100_000);
    mux.message(Handle::LINK, &7u8).unwrap();
    assert_eq!(control_kind(mux.transmit()), Some(Kind::Message));
    assert_eq!(mux.transmit(), None);
}

fn control_kind(transmit: Option<Transmit>) -> Option<Kind> {
    let Some(Transmit::Control(frame)) = transmit else { return None };
    let header = *frame.first_chunk::<HEADER_LEN>()?;
    fakessh_protocol::wire::Header::decode(header).ok().map(|header| header.kind)
}
