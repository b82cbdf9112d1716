//! Holds SSH connections open and lets every program that runs `ssh` use them.
//!
//! The program `fakessh` is made of this library, and what it does can be done with a call:
//!
//! - A [`Registry`](context::Registry) makes each [`Context`](context::Context) once and holds it:
//!   one login, and from then on any number of sessions at the price of a round trip.
//! - [`Context::command`](context::Context::command) runs programs there from Rust.
//! - A [`Run`](run::Run) lets a tool's `ssh` reach contexts: see [`tool`].
//! - [`daemon`] is the master as a process of its own, and the client's side of it.
//!
//! ```no_run
//! use std::sync::Arc;
//! use fakessh::caller::{AskNobody, Caller};
//! use fakessh::context::Registry;
//! use fakessh::ssh_config::parse_destination;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = Registry::default();
//! let caller = Caller::current(Arc::new(AskNobody))?;
//! let web1 = registry.context(&parse_destination("web1")?, &caller).await?;
//! let output = web1.command("uname -r").output().await?;
//! println!("{} {}", output.status.shell_code(), String::from_utf8_lossy(&output.stdout));
//! # Ok(())
//! # }
//! ```
//!
//! It runs on Linux, in a tokio runtime. Terminals and forwarding are not there yet.

mod allowance;
pub mod audit;
pub mod auth;
mod bounded_log;
pub mod caller;
pub mod command;
pub mod context;
pub mod daemon;
mod fd_limit;
#[doc(hidden)]
pub mod fuzzing;
pub mod hop;
pub mod json_bytes;
pub mod known_hosts;
pub mod lifetime;
pub mod link;
mod notice_relay;
pub mod pump;
pub mod route;
pub mod run;
pub mod runtime_dir;
mod session;
mod socket;
pub mod ssh_config;
mod start;
pub mod stream;
mod sys;
pub mod tool;

pub use sys::scrub::ScrubbingAllocator;

/// The version of this program. Shims and clients of another one are refused.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
