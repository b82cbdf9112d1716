//! Holds SSH connections open and lets every program that runs `ssh` use them.

pub mod caller;
pub mod link;
pub mod pump;
mod start;
pub mod stream;
mod sys;
