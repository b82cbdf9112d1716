//! Holds SSH connections open and lets every program that runs `ssh` use them.

pub mod auth;
pub mod caller;
pub mod context;
pub mod daemon;
pub mod demo;
pub mod hop;
pub mod known_hosts;
pub mod link;
pub mod pump;
pub mod run;
mod session;
mod socket;
pub mod ssh_config;
mod start;
pub mod stream;
mod sys;
pub mod tool;

/// The version of this program. Shims and clients of another one are refused.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
