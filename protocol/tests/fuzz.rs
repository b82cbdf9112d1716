//! The bodies of the fuzz targets, over their seeds, mutations of these and pseudo-random bytes:
//! the same sequence in each run.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "../../fuzz/src/inputs.rs"]
mod inputs;
#[path = "../../fuzz/src/link.rs"]
mod link;
#[path = "../../fuzz/src/messages.rs"]
mod messages;
#[path = "../../fuzz/src/mux.rs"]
mod mux;
#[path = "../../fuzz/src/start.rs"]
mod start;

#[test]
fn a_mux_among_a_hostile_peer_and_any_driver() {
    inputs::run("mux", mux::mux);
}

#[test]
fn any_bytes_as_any_message() {
    inputs::run("messages", messages::messages);
}

#[test]
fn any_bytes_before_a_slave_speaks() {
    inputs::run("start", start::start);
}

#[test]
fn any_bytes_of_a_master() {
    inputs::run("to_slave", link::to_slave);
}

#[test]
fn any_bytes_of_a_slave() {
    inputs::run("to_master", link::to_master);
}
