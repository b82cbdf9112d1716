//! The real binary over real pipes, with the master's part played by the mux.

#![allow(clippy::unwrap_used, reason = "all of this is a test, its helpers too")]

mod account;
mod bulk;
mod connection;
mod ends;
mod environment;
mod far;
mod hangup;
mod helper;
mod hops;
mod hostile;
mod lifetime;
mod listen;
mod master;
mod report;
mod reverse;
mod sessions;
mod sftp_client;
mod sftp_hostile;
mod sftp_same;
mod sftp_session;
mod sftp_tools;
mod stdio;
mod tool;
