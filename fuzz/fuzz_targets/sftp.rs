#![no_main]

#[path = "../src/sftp.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::sftp(input));
