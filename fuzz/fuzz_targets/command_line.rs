#![no_main]

#[path = "../src/command_line.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::command_line(input));
