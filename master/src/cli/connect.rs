//! `fakessh connect`: connects, and keeps the connections.

use fakessh::daemon::client::Client;
use fakessh::daemon::control::Request;
use fakessh::directory::Directory;

use super::FAILURE;
use super::destination::ConnectionOptions;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    options: ConnectionOptions,
    /// Hosts: [user@]host[:port], or aliases of ssh_config
    #[arg(required = true, value_name = "DEST")]
    destinations: Vec<String>,
}

pub(super) fn connect(arguments: Arguments) -> anyhow::Result<u8> {
    let directory = Directory::of_user()?;
    let mut status = 0;
    for destination in &arguments.destinations {
        let target = arguments.options.target(destination)?;
        // One that fails is no reason to leave out the others.
        if let Err(error) = Client::call(&directory, &Request::Connect((&target).into()), &[]) {
            super::say(&error.into());
            status = FAILURE;
        }
    }
    Ok(status)
}
