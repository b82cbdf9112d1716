//! Whether the other end is still there, counted in looks.

use fakessh_protocol::mux::{Liveness, Mux};

use crate::pair::{Pair, Side};

#[test]
fn a_peer_that_answers_is_alive_at_the_second_look() {
    let mut pair = Pair::default();
    for _ in 0..3 {
        assert_eq!(pair.peer(Side::A).mux.look(), Liveness::Silent(1));
        pair.settle(true);
        assert_eq!(pair.peer(Side::A).mux.look(), Liveness::Alive);
        pair.settle(true);
    }
}

#[test]
fn silent_looks_are_counted_until_any_byte_comes() {
    let mut pair = Pair::default();
    for looks in 1..=5 {
        assert_eq!(pair.peer(Side::A).mux.look(), Liveness::Silent(looks));
    }
    pair.peer(Side::B).message();
    pair.peer(Side::B).transmit();
    pair.deliver(Side::B, 1);
    assert_eq!(pair.peer(Side::A).mux.look(), Liveness::Alive);
    assert_eq!(pair.peer(Side::A).mux.look(), Liveness::Silent(1));
}

#[test]
fn looks_at_a_link_that_takes_nothing_pile_up_one_ping() {
    let mut mux = Mux::new();
    for _ in 0..1000 {
        mux.look();
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
    assert_eq!(pair.peer(Side::A).mux.look(), Liveness::Alive);
    pair.settle(true);
    assert_eq!(pair.peer(Side::A).mux.look(), Liveness::Alive);
    assert_eq!(pair.peer(Side::A).mux.look(), Liveness::Silent(1));
}
