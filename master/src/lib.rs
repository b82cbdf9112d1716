//! Holds SSH connections open and lets every program that runs `ssh` use them.

pub mod caller;
pub mod stream;
