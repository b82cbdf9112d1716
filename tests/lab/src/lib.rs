//! The lab: real servers that the end-to-end tests and the benchmarks start and stop.
//!
//! A [`Lab`] is a real `sshd` on loopback with keys, an account and a temporary directory of its
//! own. A [`Tool`] is a program started in it as a user would start it: with [`Client::Ssh`] its
//! `ssh` is OpenSSH's, with [`Client::Fakessh`] it is ours, started by `fakessh run`, so that one
//! test body holds both against the same expectation. A [`Relay`] puts a bad network between, a
//! [`Network`] hosts that can't all reach each other, and [`Docker`], [`Lxc`] and [`Container`] are
//! further places on the target. A [`Terminal`] and an [`Askpass`] answer what is asked.
//! Whatever a lab started or created is gone when its last holder drops it, and also when the test
//! process dies: see [`guardian`].
//!
//! Functions here panic when the lab itself can't do its work, and say what it could not do.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "the lab is test code: what it can't do fails the test"
)]

pub mod account;
mod adopted;
pub mod askpass;
pub mod binary;
pub mod builder;
mod capture;
pub mod client;
pub mod client_config;
pub mod container;
pub mod docker;
pub mod etc;
mod events;
mod expect_nothing_left;
pub mod files;
pub mod gate;
pub mod guardian;
pub mod hostile;
pub mod hostile_sshd;
pub mod lab;
pub mod log;
mod namespaces;
pub mod network;
pub mod pattern;
pub mod port;
pub mod privilege;
pub mod process;
mod processes;
mod programs;
pub mod relay;
pub mod root;
pub mod running;
pub mod screen;
pub mod server;
pub mod shell;
pub mod stand_ins;
pub mod terminal;
pub mod tool;
pub mod tree;
pub mod wait;

pub use askpass::Askpass;
pub use builder::LabBuilder;
pub use client::Client;
pub use container::{Container, Lxc};
pub use docker::Docker;
pub use gate::Gate;
pub use hostile::HostileHost;
pub use hostile_sshd::HostileSshd;
pub use lab::{Lab, SharedLab};
pub use network::Network;
pub use relay::Relay;
pub use running::{Finished, Running};
pub use screen::Screen;
pub use shell::Shell;
pub use terminal::Terminal;
pub use tool::Tool;
pub use wait::{GUARD, KillOnDrop, Watchdog, wait_until};
