//! What fakessh's processes say to each other, and nothing that says it: no I/O, no clock, no
//! async.
//!
//! A **link** is the byte stream between the master and one slave. [`wire`] says how it is cut into
//! frames, [`message`] what the control frames mean, and [`mux`] is the state machine that both
//! ends drive: many **handles**, each with its own credit, control before bulk, fair turns.
//! [`handles`] says which of them a session has.
//! [`pace`] tells bulk from the rest. [`start`] is how a link begins behind whatever a login
//! prints. [`terminal`] is the terminal of a session. [`invocation`] is one parsed `ssh` command line, [`exit`] how a program ended, [`failure`]
//! why something failed, and [`report`] how a connection stands. [`forward`] is a port or socket
//! whose connections are passed on. [`printable`] makes text from
//! outside fit for a terminal. [`pattern`] is ssh_config(5)'s.

pub mod connection;
pub mod counted;
pub mod exit;
pub mod failure;
pub mod forward;
pub mod handles;
pub mod invocation;
pub mod message;
pub mod mux;
pub mod pace;
pub mod pattern;
pub mod printable;
pub mod report;
pub mod start;
pub mod terminal;
pub mod wire;

/// The version of all of fakessh. A handoff between two versions is refused.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
