//! The body of the fuzz target `command_line`, over its seeds, mutations of these and pseudo-random
//! bytes: the same sequence in each run.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "../../fuzz/src/command_line.rs"]
mod command_line;
#[path = "../../fuzz/src/inputs.rs"]
mod inputs;

#[test]
fn any_words_as_a_command_line() {
    inputs::run("command_line", command_line::command_line);
}
