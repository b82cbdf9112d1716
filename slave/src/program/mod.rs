//! Starts programs.

pub(crate) mod account;
pub(crate) mod helper;
pub(crate) mod launcher;
pub(crate) mod self_upload;
pub(crate) mod subsystem;
pub(crate) mod tcp;
pub(crate) mod terminal;
pub(crate) mod tool;
