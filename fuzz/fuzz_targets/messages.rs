#![no_main]

#[path = "../src/messages.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::messages(input));
