//! Holds SSH connections open and lets every program that runs `ssh` use them.
//!
//! [`Fakessh`] connects to contexts and holds them: one login, and from then on any number of programs
//! at the price of a round trip each. A [`Context`] is an account on a host, or in a container,
//! reached by a route such as `bastion+web1+sudo`. A [`Command`] runs a program there, in the manner
//! of `std::process` and `tokio::process`. A [`Stream`] is a connection that is opened there, to a
//! port ([`Context::tcp`]) or a Unix socket ([`Context::unix`]): whatever runs over tokio's
//! `AsyncRead` and `AsyncWrite` runs over it.
//!
//! ```no_run
//! # async fn example() -> Result<(), fakessh::Error> {
//! let fakessh = fakessh::Fakessh::builder().build()?;
//! let web1 = fakessh.connect("web1").await?;
//! let output = web1.command("uname").arg("-r").output().await?;
//! println!("{}: {}", output.status, String::from_utf8_lossy(&output.stdout));
//! let docker = web1.unix("/run/docker.sock").await?;
//! # Ok(())
//! # }
//! ```
//!
//! The program `fakessh` is made of this library: a [`Run`](run::Run) lets a tool's `ssh` reach
//! contexts (see [`tool`]), and [`daemon`] is the master as a process of its own.
//!
//! It runs on Linux, in a tokio runtime. Terminals and the forwarding of ports that listen
//! are not there yet.

mod allowance;
pub mod audit;
pub mod auth;
mod bounded_log;
pub mod caller;
mod child;
mod command;
mod connection;
pub mod context;
pub mod daemon;
mod error;
mod fakessh;
mod fd_limit;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
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

pub use child::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output, Signal};
pub use command::{Command, Stdio};
pub use connection::Stream;
pub use error::{Error, ErrorKind};
pub use fakessh::{Builder, Fakessh};
pub use handle::Context;
pub use sys::scrub::ScrubbingAllocator;

pub use fakessh_protocol::VERSION;
