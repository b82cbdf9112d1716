//! Holds SSH connections open and lets every program that runs `ssh` use them.
//!
//! [`Fakessh`] connects to contexts and holds them: one login, and from then on any number of programs
//! at the price of a round trip each. A [`Context`] is an account on a host, or in a container,
//! reached by a route such as `bastion+web1+sudo`. A [`Command`] runs a program there, in the manner
//! of `std::process` and `tokio::process`. A [`Stream`] is a connection that is opened there, to a
//! port ([`Context::tcp`]) or a Unix socket ([`Context::unix`]): whatever runs over tokio's
//! `AsyncRead` and `AsyncWrite` runs over it.
//!
//! Connections are held in this process, or by the user's master ([`Fakessh::shared`]), which other
//! programs share and which outlives this one. To the rest of a program that makes no difference.
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
//! A [`Run`] lets tools such as rsync and git, which start an `ssh` of their own, reach contexts. The
//! module [`ask`] says who is asked for passwords. A route is written as for the program `fakessh`
//! (docs/routes.md), which is made of this library.
//!
//! When this crate is built, it builds the program for targets, too, which needs a C compiler and some
//! minutes the first time.
//!
//! It runs on Linux, in a tokio runtime. The library itself has no terminals and no ports that listen yet;
//! the tools of a [`Run`] have both.

pub mod ask;

mod accepting;
mod allowance;
mod bounded_log;
mod child;
mod command;
mod connection;
mod error;
mod fakessh;
mod fd_limit;
mod forward;
mod handle;
mod holder;
mod notice_relay;
mod open_forwards;
mod report_reader;
mod runs;
mod session;
mod shared;
mod socket;
mod start;
mod sys;

// What the program `fakessh` and the fuzz targets need beside the library. It may change with any version.
#[doc(hidden)]
pub mod audit;
#[doc(hidden)]
pub mod auth;
#[doc(hidden)]
pub mod caller;
#[doc(hidden)]
pub mod context;
#[doc(hidden)]
pub mod control;
#[doc(hidden)]
pub mod daemon;
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod hop;
#[doc(hidden)]
pub mod json_bytes;
#[doc(hidden)]
pub mod known_hosts;
#[doc(hidden)]
pub mod lifetime;
#[doc(hidden)]
pub mod link;
#[doc(hidden)]
pub mod pump;
#[doc(hidden)]
pub mod route;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod runtime_dir;
#[doc(hidden)]
pub mod ssh_config;
#[doc(hidden)]
pub mod stream;
#[doc(hidden)]
pub mod tool;

pub use child::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output, Signal};
pub use command::{Command, Stdio};
pub use connection::Stream;
pub use error::{Error, ErrorKind};
pub use fakessh::{Builder, Fakessh};
pub use handle::Context;
pub use runs::{Hosts, Run};
pub use sys::scrub::ScrubbingAllocator;

pub use fakessh_protocol::VERSION;
