//! What more than one of fakessh's programs needs of Linux. No async, and no thread.
//!
//! [`datagram`] carries a message with descriptors between a shim and a master or slave, and
//! [`peer`] says whose process is at the other end. [`tool_environment`] is how a tool that one of
//! them starts finds its way back. [`ready`], [`reopen`] and [`splice`] use a descriptor without
//! changing it, [`fd_limit`] and [`reserve`] keep one free, and [`process`] reads `/proc`.

pub mod datagram;
pub mod fd_limit;
pub mod peer;
pub mod process;
pub mod ready;
pub mod reopen;
pub mod reserve;
pub mod splice;
pub mod terminal_modes;
pub mod tool_environment;
