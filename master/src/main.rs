//! The `fakessh` program.
fn main() {}
