//! The static program on the target.
fn main() {}
