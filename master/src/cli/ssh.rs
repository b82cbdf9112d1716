//! `fakessh ssh`: as ssh, through the master.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};

use fakessh::daemon::client::Client;
use fakessh::daemon::control::{Request, RunRequest};
use fakessh::directory::Directory;
use fakessh::tool;

/// Everything is ssh's own, `--help` too.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Options, destination and command, as for ssh(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SSH ARGUMENT")]
    arguments: Vec<OsString>,
}

pub(super) fn ssh(arguments: Arguments) -> u8 {
    let mut args = vec![OsString::from("ssh")];
    args.extend(arguments.arguments);
    as_ssh(args)
}

/// Is ssh, with this `argv`. Hosts are taken from the command line, as ssh does.
pub(crate) fn as_ssh(args: Vec<OsString>) -> u8 {
    fakessh_shim::ssh_over(args, |_| run_of_our_own().map_err(|error| format!("{error:#}")))
}

/// A run for this process alone.
fn run_of_our_own() -> anyhow::Result<OwnedFd> {
    let client = Client::connect_or_start(&Directory::of_user()?)?;
    let (ours, masters) = tool::socket_pair()?;
    let request = RunRequest {
        every: None,
        routes: BTreeMap::new(),
        connection: Vec::new(),
        directory: None,
    };
    client.request(&Request::Run(request), &[masters.as_fd()])?;
    // The master serves the run as long as the connection or the socket is held: that is as long
    // as this process lives.
    std::mem::forget(client);
    Ok(ours)
}
