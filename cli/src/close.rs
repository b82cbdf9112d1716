//! `fakessh close`: closes connections.

use fakessh::daemon::client::Client;
use fakessh::daemon::request::Request;
use fakessh::runtime_dir::RuntimeDir;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Close every connection
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Connections by their names or ids in `fakessh ls`: web1+sudo, @3
    #[arg(required_unless_present = "all", value_name = "DEST")]
    names: Vec<String>,
}

pub(super) fn close(arguments: Arguments) -> anyhow::Result<u8> {
    let client = match Client::connect(&RuntimeDir::of_user()?) {
        Err(error) if super::is_no_master(&error) && arguments.all => return Ok(0),
        client => client?,
    };
    let request = if arguments.all { Request::CloseAll } else { Request::Close(arguments.names) };
    client.request(&request, &[])?;
    Ok(0)
}
