#![no_main]

#[path = "../src/mux.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::mux(input));
