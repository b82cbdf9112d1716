//! `fakessh exec`: runs a program on a host, with its arguments as they are.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use fakessh::daemon::request::RunRequest;
use fakessh::route::Names;
use fakessh_protocol::invocation::{Destination, Invocation, Request};

use super::destination::ConnectionOptions;
use super::held::HeldFor;
use super::password::PasswordFiles;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
CMD is looked for on the PATH of a command that ssh runs there, and starts in the home directory. No
shell reads its arguments: spaces, quotes, * and $ arrive as they are. What needs a shell says so:
fakessh exec web1 -- sh -c 'cd /srv && ls *.log'

Standard input, output and error are those of CMD, as with ssh. If all three are a terminal, CMD runs
on a terminal of its own, as with ssh -t. The exit status is that of CMD, or 128 plus the number of the signal that killed it; 127 if CMD does not exist, 126
if it can't be run, 255 if there is no connection.

Where no slave can be started (see `fakessh ls`) the account's login shell reads a quoted command
line: the arguments arrive as they are, and a CMD that does not exist is what that shell makes of it.

Examples:
  fakessh exec web1 -- uptime
  fakessh exec web1+sudo -- grep -r 'two words' /etc")]
pub(super) struct Arguments {
    #[command(flatten)]
    options: ConnectionOptions,
    #[command(flatten)]
    password: PasswordFiles,
    #[command(flatten)]
    held: HeldFor,
    /// Host, alias of ssh_config, or route: web1, bastion+web1+sudo
    #[arg(value_name = "DEST")]
    destination: String,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn exec(arguments: Arguments) -> anyhow::Result<u8> {
    let names = Names::of_user()?;
    let route = arguments.options.route(&arguments.destination, &names)?;
    arguments.password.read(|text| arguments.options.route(text, &names), &[&route])?;
    let request = RunRequest {
        version: fakessh::VERSION.to_owned(),
        on: Some(route),
        rules: arguments.held.rules(&names),
        tool: arguments.command.first().map(|program| program.to_string_lossy().into_owned()),
        ..RunRequest::default()
    };
    let words = arguments.command.into_iter().map(OsString::into_vec);
    let invocation = Invocation {
        destination: Destination { host: arguments.destination, ..Destination::default() },
        request: Request::Program(words.collect()),
        request_tty: super::run::wants_terminal(),
        ..Invocation::default()
    };
    super::run::hand_over(request, invocation)
}
