//! SFTP for targets that have no `sftp-server`: containers, slim hosts.
//!
//! Version 3 of the protocol (draft-ietf-secsh-filexfer-02) as OpenSSH's `sftp-server` speaks it,
//! with its extensions, status codes and oddities, since clients were tried with those. In these
//! comments "OpenSSH" means that program.
//!
//! The server is a process of its own (`process`) and may block: one loop (`stream`) takes all
//! requests that are there, and writes all their replies at once. `wire` takes packets apart and
//! composes replies, `server` knows which module does which request: `file`, `directory`, `entry`,
//! `extension`. Nothing that comes from the client is believed before it is bounded.

mod attributes;
mod copy;
mod directory;
mod entry;
mod extension;
mod file;
mod handles;
mod long_name;
mod names;
mod packet;
mod path;
mod process;
mod server;
mod status;
mod stream;
mod sys;
mod wire;

use std::io;

pub(crate) use packet::kind;
pub(crate) use process::start;
pub(crate) use server::Server;

/// Serves the client at our standard input and output, whose account has this home directory, until
/// it is done. Returns the exit status, the same as OpenSSH's.
pub(crate) fn serve(home: Vec<u8>) -> u8 {
    match stream::serve(&io::stdin(), &io::stdout(), home) {
        Ok(()) => 0,
        Err(end) => {
            crate::complain(&format!("sftp: {end}"));
            end.exit_status()
        }
    }
}
