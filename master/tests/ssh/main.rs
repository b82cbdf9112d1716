//! Connections to real servers on the loopback address: an `sshd` that each test starts itself,
//! and the server of the demo.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

mod bulk;
mod connect;
mod contexts;
mod demo;
mod host_keys;
mod keys;
mod questions;
mod ways;
