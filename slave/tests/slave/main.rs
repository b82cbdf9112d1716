//! The real binary over real pipes, with the master's part played by the mux.

#![allow(clippy::unwrap_used, reason = "all of this is a test, its helpers too")]

mod bulk;
mod ends;
mod environment;
mod hostile;
mod master;
mod sessions;
mod sftp_client;
mod sftp_hostile;
mod sftp_same;
mod sftp_session;
mod sftp_tools;
