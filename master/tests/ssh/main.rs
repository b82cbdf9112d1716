//! Connections to a real `sshd` on the loopback address, which each test starts itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

mod bulk;
mod connect;
mod contexts;
mod host_keys;
mod keys;
mod questions;
mod ways;
