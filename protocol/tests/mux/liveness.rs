//! Whether the other end is still there, counted in ticks.

use fakessh_protocol::mux::{Liveness, Mux, Transmit};
use fakessh_protocol::wire::Handle;

use crate::pair::{Pair, Side};

#[test]
fn a_peer_that_answers_is_alive_at_the_second_tick() {
    let mut pair = Pair::default();
    for _ in 0..3 {
        assert_eq!(pair.peer(Side::A).mux.tick(), Liveness::Silent(1));
        pair.settle(true);
        assert_eq!(pair.peer(Side::A).mux.tick(), Liveness::Alive);
        pair.settle(true);
    }
}

#[test]
fn silent_looks_are_counted_until_an_answer_comes() {
    let mut pair = Pair::default();
    for ticks in 1..=5 {
        assert_eq!(pair.peer(Side::A).mux.tick(), Liveness::Silent(ticks));
    }
    pair.settle(true);
    assert_eq!(pair.peer(Side::A).mux.tick(), Liveness::Alive);
    assert_eq!(pair.peer(Side::A).mux.tick(), Liveness::Silent(1));
}

/// One direction of a link that loses the other: what `from` sends arrives, and it hears nothing.
fn deliver_one_way(from: &mut Mux, to: &mut Mux) {
    while let Some(transmit) = from.transmit() {
        let (frame, len) = match transmit {
            Transmit::Control(frame) => (frame.to_vec(), 0),
            Transmit::Data { header, len, .. } => (header.to_vec(), len),
        };
        to.receive(&frame).unwrap();
        to.took(len);
    }
}

#[test]
fn what_a_peer_says_that_hears_nothing_is_no_sign_of_life() {
    let (mut near, mut far) = (Mux::new(), Mux::new());
    let handle = Handle(1);
    near.open_receiving(handle).unwrap();
    far.open_sending(handle).unwrap();
    for ticks in 1..=5 {
        far.tick();
        far.message(Handle(2), &"words").unwrap();
        far.offer(handle, 100);
        deliver_one_way(&mut far, &mut near);
        assert_eq!(near.tick(), Liveness::Silent(ticks));
    }
}

#[test]
fn bulk_is_a_sign_of_life_for_as_long_as_credit_arrives() {
    let (mut near, mut far) = (Mux::new(), Mux::new());
    let handle = Handle(1);
    near.open_receiving(handle).unwrap();
    far.open_sending(handle).unwrap();
    far.offer(handle, usize::MAX / 2);
    let mut ticks = 0;
    // The grants of `near` are lost: what `far` has credit for is all that ever comes.
    while near.tick() != Liveness::Silent(3) {
        deliver_one_way(&mut far, &mut near);
        ticks += 1;
        assert!(ticks < 100, "it is never noticed");
    }
    deliver_one_way(&mut near, &mut far);
    deliver_one_way(&mut far, &mut near);
    assert_eq!(near.tick(), Liveness::Alive);
}

#[test]
fn looks_at_a_link_that_takes_nothing_pile_up_one_ping() {
    let mut mux = Mux::new();
    for _ in 0..1000 {
        mux.tick();
        mux.probe();
    }
    assert!(mux.transmit().is_some());
    assert_eq!(mux.transmit(), None);
}

#[test]
fn a_probe_is_answered_though_the_link_was_busy() {
    let mut pair = Pair::default();
    pair.peer(Side::B).message();
    pair.settle(true);
    pair.peer(Side::A).mux.probe();
    assert_eq!(pair.peer(Side::A).mux.tick(), Liveness::Silent(1));
    pair.settle(true);
    assert_eq!(pair.peer(Side::A).mux.tick(), Liveness::Alive);
    assert_eq!(pair.peer(Side::A).mux.tick(), Liveness::Silent(1));
}
