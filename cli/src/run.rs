//! `fakessh run`: runs a tool whose ssh goes through the master.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context as _, bail};
use fakessh::daemon::Answering;
use fakessh::daemon::client::{Client, say};
use fakessh::daemon::request::{Request, RunEnd, RunRequest};
use fakessh::route::{Names, Route};
use fakessh::run::RunDestination;
use fakessh::runtime_dir::RuntimeDir;
use fakessh::tool::{self, RunDirectory};
use fakessh_protocol::invocation::{self, Invocation};
use fakessh_protocol::terminal::RequestTty;
use fakessh_shim::parse::{Argv, CommandLine, Local, current_environment};

use super::destination::ConnectionOptions;
use super::held::HeldFor;
use super::note;
use super::password::PasswordFiles;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
With DEST, the host names remote, _ and DEST's own mean DEST in CMD: rsync x remote:/tmp. With
--route NAME=DEST, NAME means that DEST. A name that neither covers is refused: a tool that names
prod-db must not write to web1. --any-name lets every name mean DEST. With neither DEST nor
--route, hosts are taken from each ssh command line and connected to as ssh would; they are never
read as routes.

DEST is [user@]host[:port], an alias of ssh_config, a name of ~/.config/fakessh/config.toml, or a
route, whose steps are joined by +: bastion+web1+sudo, web1+docker:app, web1+su:postgres.

With --on, CMD itself runs on a target, and its ssh leads back to the --route names and to nothing
else.

The exit status is that of CMD, or 128 plus the number of the signal that killed it; 127 if CMD
does not exist, 126 if it can't be run, 255 if there is no connection.")]
pub(super) struct Arguments {
    #[command(flatten)]
    options: ConnectionOptions,
    #[command(flatten)]
    password: PasswordFiles,
    #[command(flatten)]
    held: HeldFor,
    /// Where its own names, remote and _ lead
    #[arg(value_name = "DEST", conflicts_with = "on")]
    destination: Option<String>,
    /// Let every host name without a --route mean DEST
    #[arg(long, requires = "destination")]
    any_name: bool,
    /// Where CMD itself is to run
    #[arg(long, value_name = "DEST")]
    on: Option<String>,
    /// Where NAME leads; may be given several times
    #[arg(long, value_name = "NAME=DEST")]
    route: Vec<String>,
    /// Say nothing about a CMD that did not use ssh
    #[arg(short = 'q', long)]
    quiet: bool,
    /// The tool and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<u8> {
    let names = Names::of_user()?;
    let request = request(&arguments, &names)?;
    let destination = request.destination.as_ref().map(|destination| &destination.route);
    let used = request.on.iter().chain(destination).chain(request.routes.values());
    let used: Vec<_> = used.collect();
    arguments.password.read(|text| arguments.options.route(text, &names), &used)?;
    if let Some(on) = arguments.on {
        return on_target(on, request, arguments.command);
    }
    let (status, was_called) = here(request, &arguments.command)?;
    if let Some(destination) = &arguments.destination
        && !was_called
        && !arguments.quiet
    {
        say(&note::not_used(&arguments.options.as_given(), destination, &arguments.command));
    }
    Ok(status)
}

/// What the command line asks for.
fn request(arguments: &Arguments, names: &Names) -> anyhow::Result<RunRequest> {
    let options = &arguments.options;
    let route = |text: &str| options.route(text, names);
    let destination = arguments.destination.as_deref();
    let destination = destination.map(|written| {
        // Its names are those of the route as the person wrote it, and as the configuration has it.
        let mut names = Route::parse(written)?.own_names();
        let destination = RunDestination::new(route(written)?);
        names.extend(destination.names);
        let (written, any_name) = (written.to_owned(), arguments.any_name);
        anyhow::Ok(RunDestination { written, names, any_name, ..destination })
    });
    let destination = destination.transpose()?;
    let on = arguments.on.as_deref().map(route).transpose()?;
    let mut routes = BTreeMap::new();
    for given in &arguments.route {
        let Some((name, destination)) = given.split_once('=').filter(|(name, _)| !name.is_empty())
        else {
            bail!("--route {given}: it has the form NAME=DEST");
        };
        if routes.insert(name.to_owned(), route(destination)?).is_some() {
            bail!("--route {name} is given twice");
        }
    }
    let rules = arguments.held.rules(names);
    let is_mapped = on.is_some() || destination.is_some() || !routes.is_empty();
    let connection = if is_mapped { Vec::new() } else { options.all_words() };
    let names = if is_mapped { BTreeMap::new() } else { super::destination::named(names) };
    Ok(RunRequest {
        version: fakessh::VERSION.to_owned(),
        on,
        destination,
        routes,
        names,
        connect_later: false,
        connection: connection.iter().map(|word| word.as_os_str().into()).collect(),
        real_ssh: true,
        directory: None,
        rules,
        answers: false,
        tool: arguments.command.first().map(|tool| tool.to_string_lossy().into_owned()),
    })
}

/// Runs the tool on a target: to the master it is one more session of ours.
fn on_target(on: String, request: RunRequest, command: Vec<OsString>) -> anyhow::Result<u8> {
    let request_tty = wants_terminal();
    let set_env = request_tty
        .map_or_else(terminal_size, |_| None)
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.to_string().into_bytes()));
    let invocation = Invocation {
        destination: invocation::Destination { host: on, ..Default::default() },
        request: invocation::Request::Tool(command.into_iter().map(OsString::into_vec).collect()),
        set_env: set_env.collect(),
        request_tty,
        ..Invocation::default()
    };
    hand_over(request, invocation)
}

/// A session of our own, which is a run's only one.
pub(super) fn hand_over(request: RunRequest, invocation: Invocation) -> anyhow::Result<u8> {
    let (ours, masters) = tool::socket_pair()?;
    let directory = RuntimeDir::of_user()?;
    let (client, _) =
        Client::call(&directory, &Request::Run(Box::new(request)), &[masters.as_fd()])?;
    // The run is served as long as its socket is held: as long as this process lives.
    std::mem::forget(client);
    drop(masters);
    let invocation = Invocation {
        environment: current_environment(),
        directory: std::env::current_dir().unwrap_or_default().into_os_string().into_vec(),
        ..invocation
    };
    let line = CommandLine { invocation, local: Local::default(), argv: Argv::default() };
    Ok(fakessh_shim::session::run(line, ours))
}

/// A program that is started from a terminal, with no stream led elsewhere, gets one.
pub(super) fn wants_terminal() -> Option<RequestTty> {
    let all = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    all.iter().all(rustix::termios::isatty).then_some(RequestTty::Yes)
}

/// The size of the terminal that the tool's output is for, as programs look for it that have
/// none.
fn terminal_size() -> Option<[(&'static str, u16); 2]> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some([("COLUMNS", size.ws_col), ("LINES", size.ws_row)])
}

/// Runs the tool on this host. Gives its status, and whether it can have called its ssh.
fn here(mut request: RunRequest, command: &[OsString]) -> anyhow::Result<(u8, bool)> {
    let directory = RuntimeDir::of_user()?;
    let run_directory = RunDirectory::create(&directory)?;
    let (ours, masters): (OwnedFd, OwnedFd) = tool::socket_pair()?;
    request.directory = Some(run_directory.name());
    request.answers = true;
    let descriptors = [masters.as_fd(), run_directory.listener().as_fd()];
    let (client, _) = Client::call(&directory, &Request::Run(Box::new(request)), &descriptors)?;
    drop(masters);
    let answering = Answering::start(client, run_directory.listener())?;
    let (program, words) = command.split_first().context("no command")?;
    let mut tool = tool::prepare(program, &run_directory, &ours)?;
    tool.args(words);
    // Only the tool holds it from here on: the master sees when nobody does any more.
    drop(ours);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(tool::run(tool));
    // Looked at first: a connection is there until the master has accepted, and counted it.
    let is_being_called = run_directory.is_being_called();
    let end = answering.end_of_run();
    if end.is_some_and(|end| end.is_held) {
        // Something that the tool started lives on, and its ssh is still ours.
        run_directory.leave();
    }
    let was_called = is_being_called || end.is_none_or(|end: RunEnd| end.was_called || end.is_held);
    match status {
        Ok(status) => Ok((status, was_called)),
        Err(error) => {
            say(&format!("can't run {}: {error}", program.to_string_lossy()));
            Ok((tool::status_of_failed_start(&error), true))
        }
    }
}
