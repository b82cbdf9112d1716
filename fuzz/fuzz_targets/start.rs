#![no_main]

#[path = "../src/start.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::start(input));
