#![no_main]

#[path = "../src/datagram.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::datagram(input));
