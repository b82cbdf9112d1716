//! `fakessh lock`: closes what needs an answer to be opened again.

use fakessh::daemon::client::Client;
use fakessh::daemon::request::Request;
use fakessh::runtime_dir::RuntimeDir;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
For the moment in which you leave the machine, as a hook of its screen lock. Closed are connections
behind sudo, su and doas; connections for whose login something was typed (a password, a passphrase,
a second factor); and all that goes through them. What runs in them ends, unless --idle is given.
Logins by a key that needed nothing stay.")]
pub(super) struct Arguments {
    /// Keep connections in which, or behind which, a session runs
    #[arg(long)]
    idle: bool,
}

pub(super) fn lock(arguments: &Arguments) -> anyhow::Result<u8> {
    match Client::connect(&RuntimeDir::of_user()?) {
        Err(error) if super::is_no_master(&error) => {}
        client => _ = client?.request(&Request::Lock { idle: arguments.idle }, &[])?,
    }
    Ok(0)
}
