//! `fakessh ssh`: as ssh, through the master.

use std::cell::Cell;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use fakessh::daemon::client::{Client, say};
use fakessh::daemon::request::{Request, RunRequest};
use fakessh::route::{Names, Options, Route};
use fakessh::run::RunDestination;
use fakessh::runtime_dir::RuntimeDir;
use fakessh::ssh_config::Target;
use fakessh::tool;
use fakessh_protocol::invocation::{self, Destination, Invocation};
use fakessh_shim::find::NotFound;
use fakessh_shim::parse::{CommandLine, Level};

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

The destination may be a route, since a person types it. Don't give `fakessh ssh` to a tool as its
ssh: the hosts that the tool names would be read as routes as well. For tools there is fakessh run.

Without a command a login shell starts on a terminal, and -t asks for one, as with ssh. At the start of
a line ~? lists the escapes, and ~. ends a session.")]
pub(super) struct Arguments {
    /// Options, destination (or route) and command, as for ssh(1); among the options there may be
    /// --password-file [HOP=]FILE and --persist TIME
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SSH ARGUMENT")]
    arguments: Vec<OsString>,
}

pub(super) fn ssh(arguments: Arguments) -> anyhow::Result<u8> {
    let mut words = arguments.arguments;
    // Our own, before all of ssh's.
    let files = PasswordFiles::take_from(&mut words)?;
    let held = HeldFor::take_from(&mut words)?;
    let mut args = vec![OsString::from("ssh")];
    args.extend(words);
    let names = Names::of_user()?;
    files.read(|text| Ok(names.expand(Route::parse(text)?)?), &[])?;
    let is_route = Cell::new(false);
    let look = |typed: &str| {
        is_route.set(!is_plain(typed, &names));
        is_route.get()
    };
    Ok(fakessh_shim::ssh_typed(args, look, |line| {
        if is_for_the_real_ssh(line) {
            return Ok(None);
        }
        let of_steps = is_route.get().then_some(&names);
        let run = destination(&mut line.invocation, of_steps).and_then(|destination| {
            let rules = held.rules(&names);
            run_of_our_own(RunRequest { destination: Some(destination), rules, ..request() })
        });
        run.map(Some).map_err(|error| format!("{error:#}"))
    }))
}

/// Whether a typed destination is what it is for ssh: `[user@]host` or a URI, and no name of the
/// user's configuration.
fn is_plain(typed: &str, names: &Names) -> bool {
    let is_plain = |route: &Route| {
        route.as_target().is_some_and(|target| {
            typed.starts_with("ssh://") || target.port.is_none() && target.to_string() == typed
        })
    };
    // A name of the configuration leads elsewhere, or to an error that says why not.
    let is_name = |route: Route| names.expand(route.clone()).ok() != Some(route);
    Route::parse(typed).is_ok_and(|route| is_plain(&route) && !is_name(route))
}

/// Takes the destination of a typed command line, with the options for the way there, out of its
/// invocation: from there on it is a name that means this destination. It is a route where there
/// are `names` for its steps.
fn destination(
    invocation: &mut Invocation,
    names: Option<&Names>,
) -> anyhow::Result<RunDestination> {
    let Destination { user, host: written, port } = std::mem::take(&mut invocation.destination);
    invocation.destination.host.clone_from(&written);
    let connection = std::mem::take(&mut invocation.connection);
    let connection: Vec<OsString> = connection.into_iter().map(OsString::from_vec).collect();
    let plain = Target { host: written.clone(), user, port, connection };
    let route = match names {
        None => plain.into(),
        Some(names) => {
            let options = Options::from_words(&plain.connection);
            let options = Options { login: plain.user, port: plain.port, ..options };
            names.expand(Route::parse(&written)?)?.with_options(&options)?
        }
    };
    let (names, any_name) = (Vec::new(), true);
    Ok(RunDestination { route, written, names, any_name })
}

/// Is ssh, called as `args[0]`: inside a run the run's, else one with the user's master, which
/// leaves to the real ssh what it can't do. A tool may be what calls it, so a host is a host.
pub(crate) fn as_ssh(args: Vec<OsString>) -> u8 {
    fakessh_shim::ssh_over(args, |line| match fakessh_shim::find_master(line) {
        Err(NotFound::NoRun) if is_for_the_real_ssh(line) => Ok(None),
        Err(NotFound::NoRun) => {
            let names = Names::of_user().map_err(|error| error.to_string())?;
            let rules = HeldFor::default().rules(&names);
            let names = super::destination::named(&names);
            let is_name = names.contains_key(&line.invocation.destination.host);
            match run_of_our_own(RunRequest { names, real_ssh: true, rules, ..request() }) {
                Ok(run) => Ok(Some(run)),
                // The real ssh knows nothing of the name, and would go elsewhere.
                Err(error) if is_name => Err(format!("{error:#}")),
                Err(error) => {
                    if line.local.level >= Level::Info {
                        say(&format!("using the real ssh, since: {error:#}"));
                    }
                    Ok(None)
                }
            }
        }
        found => found.map(Some).map_err(|error| error.to_string()),
    })
}

/// Whether the real ssh knows the answer just as well.
fn is_for_the_real_ssh(line: &CommandLine) -> bool {
    line.invocation.request == invocation::Request::Configuration
}

/// What every run of one command asks for. The session itself connects: `-O check` must not.
fn request() -> RunRequest {
    // This process is the shim, and answers as that.
    let version = fakessh::VERSION.to_owned();
    RunRequest { version, connect_later: true, ..RunRequest::default() }
}

/// A run for this process alone.
fn run_of_our_own(request: RunRequest) -> anyhow::Result<OwnedFd> {
    let (ours, masters) = tool::socket_pair()?;
    let directory = RuntimeDir::of_user()?;
    let (client, _) =
        Client::call(&directory, &Request::Run(Box::new(request)), &[masters.as_fd()])?;
    // The run is served as long as its socket is held: as long as this process lives.
    std::mem::forget(client);
    Ok(ours)
}
