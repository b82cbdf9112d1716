//! The bodies of the shim's fuzz targets, over their seeds, mutations of these and pseudo-random
//! bytes: the same sequence in each run.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "../../fuzz/src/command_line.rs"]
mod command_line;
#[path = "../../fuzz/src/datagram.rs"]
mod datagram;
#[path = "../../fuzz/src/inputs.rs"]
mod inputs;

#[test]
fn any_words_as_a_command_line() {
    inputs::run("command_line", command_line::command_line);
}

#[test]
fn any_datagram_with_any_descriptors() {
    inputs::run("datagram", datagram::datagram);
}
