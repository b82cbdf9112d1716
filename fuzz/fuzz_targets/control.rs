#![no_main]

#[path = "../src/master.rs"]
#[allow(dead_code, reason = "other targets have the rest")]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::control(input));
