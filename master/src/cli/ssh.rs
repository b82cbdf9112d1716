//! `fakessh ssh`: as ssh, through the master.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};

use fakessh::daemon::client::Client;
use fakessh::daemon::control::{Request, RunRequest};
use fakessh::directory::Directory;
use fakessh::route::{Names, Route};
use fakessh::tool;
use fakessh_protocol::invocation;
use fakessh_shim::find::NotFound;
use fakessh_shim::parse::CommandLine;

use super::held::HeldFor;
use super::password::PasswordFiles;

/// Everything is ssh's own but `--help`, and what stands before the destination of
/// `--password-file` and `--persist`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  fakessh ssh web1 uptime
  fakessh ssh -p 2222 -i key ana@web1 'tar c dir' >dir.tar
  fakessh ssh bastion+web1+sudo 'cat /etc/shadow'

There is no terminal yet: -t, and no command on a terminal, are refused.")]
pub(super) struct Arguments {
    /// Options, destination (or route) and command, as for ssh(1); among the options there may be
    /// --password-file [HOP=]FILE and --persist TIME
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SSH ARGUMENT")]
    arguments: Vec<OsString>,
}

pub(super) fn ssh(arguments: Arguments) -> u8 {
    let mut words = arguments.arguments;
    // Our own, before all of ssh's.
    let route = |text: &str| Ok(Names::of_user()?.expand(Route::parse(text)?)?);
    let password = PasswordFiles::take_from(&mut words).and_then(|files| files.read(route));
    let held = match password.and_then(|()| HeldFor::take_from(&mut words)) {
        Ok(held) => held,
        Err(error) => {
            super::say(&error);
            return super::FAILURE;
        }
    };
    let mut args = vec![OsString::from("ssh")];
    args.extend(words);
    fakessh_shim::ssh_over(args, |line| run_of_our_own(line, false, &held))
}

/// Is ssh, called as `args[0]`: inside a run the run's, else one with the user's master, which
/// leaves to the real ssh what it can't do.
pub(crate) fn as_ssh(args: Vec<OsString>) -> u8 {
    fakessh_shim::ssh_over(args, |line| match fakessh_shim::find_master(line) {
        Err(NotFound::NoRun) => run_of_our_own(line, true, &HeldFor::default()),
        found => found.map(Some).map_err(|error| error.to_string()),
    })
}

/// A run for this process alone. Hosts are taken from the command line, as ssh does. None for what
/// the real ssh knows just as well.
fn run_of_our_own(
    line: &CommandLine,
    real_ssh: bool,
    held: &HeldFor,
) -> Result<Option<OwnedFd>, String> {
    if line.invocation.request == invocation::Request::Configuration {
        return Ok(None);
    }
    let run = || -> anyhow::Result<OwnedFd> {
        let (ours, masters) = tool::socket_pair()?;
        let names = Names::of_user()?;
        let request = RunRequest {
            on: None,
            every: None,
            routes: BTreeMap::new(),
            names: super::destination::named(&names),
            connection: Vec::new(),
            real_ssh,
            directory: None,
            rules: held.rules(&names),
            // This process is the shim, and answers as that.
            answers: false,
            tool: None,
        };
        let directory = Directory::of_user()?;
        let (client, _) = Client::call(&directory, &Request::Run(request), &[masters.as_fd()])?;
        // The run is served as long as its socket is held: as long as this process lives.
        std::mem::forget(client);
        Ok(ours)
    };
    run().map(Some).map_err(|error| format!("{error:#}"))
}
