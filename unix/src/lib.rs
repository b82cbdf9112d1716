//! What more than one of fakessh's programs needs of Linux. No async, and no thread.
//!
//! [`datagram`] carries a message with descriptors between a shim and a master or slave, and
//! [`peer`] says whose process is at the other end. [`tool_environment`] is how a tool that one of
//! them starts finds its way back. [`ready`], [`reopen`] and [`splice`] use a descriptor without
//! changing it, [`listen`] waits for connections, [`fd_limit`] and [`reserve`] keep one free, and [`process`] reads `/proc`.

pub mod datagram;
pub mod fd_limit;
pub mod listen;
pub mod peer;
pub mod process;
pub mod ready;
pub mod reopen;
pub mod reserve;
pub mod splice;
pub mod terminal_modes;
pub mod tool_environment;

/// The text of an error of the system, without its number.
pub fn without_number(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
