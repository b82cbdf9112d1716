//! The program `fakessh`: one file a subcommand, and the demonstration.
//!
//! It is the first user of the library [`fakessh`]. Only [`main`] and the server of the
//! demonstration, which tests use, are for others.

mod close;
mod connect;
pub mod demo;
mod destination;
mod env;
mod exec;
mod forward;
mod held;
mod links;
mod lock;
mod ls;
mod master;
mod note;
mod own;
mod password;
mod place;
mod run;
mod shell;
mod shim;
mod ssh;
mod stop;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use fakessh::daemon::client::ClientError;
use fakessh_shim::Program;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// The status for everything that is ours or the transport's.
pub(crate) const FAILURE: u8 = fakessh_protocol::exit::TRANSPORT_FAILURE;

/// Holds SSH connections open and lets every program that runs ssh use them
#[derive(Debug, Parser)]
#[command(
    name = "fakessh",
    version,
    after_help = "\
Examples:
  fakessh run web1 -- rsync -a ./site/ remote:/srv/site/
  fakessh run bastion+web1+sudo -- scp nginx.conf remote:/etc/nginx/
  fakessh run --on web1 --route db=db1+sudo:postgres -- rsync -a /data/ db:/restore/
  fakessh run --route a=web1 --route b=web2 -- scp -3 a:file b:file
  fakessh run -- ansible-playbook site.yml
  fakessh exec web1 -- grep -r 'two words' /etc
  fakessh ssh web1 uptime
  fakessh demo

`remote` above means DEST, and so does DEST's own name; other host names are refused.
One login serves all; `fakessh ls` shows what is open, `fakessh close` closes it."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run CMD here, with an ssh that leads to DEST
    #[command(long_about = "Runs CMD here, with an ssh that leads to DEST.")]
    Run(run::Arguments),
    /// Run a program on a host, with its arguments as they are
    Exec(exec::Arguments),
    /// Run one command on a host, as ssh does, through a connection that is held from then on
    Ssh(ssh::Arguments),
    /// Connect to hosts, and keep the connections for later
    Connect(connect::Arguments),
    /// List the connections that are held
    Ls(ls::Arguments),
    /// List the ports and sockets that are forwarded, or end forwards
    Forward(forward::Arguments),
    /// Close connections, and end what runs in them
    Close(close::Arguments),
    /// Close the connections that nobody gets again without a password
    Lock(lock::Arguments),
    /// Close all connections and end the master
    Stop,
    /// Have every ssh, scp and sftp use held connections: link this program under those names
    Shim(shim::Arguments),
    /// Print a line that has one shell use them: eval "$(fakessh env)"
    Env(env::Arguments),
    /// Show the whole thing on this machine alone: no server and no keys needed
    Demo,
    /// Be the master, in the foreground (for service managers)
    Master(master::Arguments),
}

/// Is the program that `args` name: `ssh`, `scp` or `sftp` by its first word, else `fakessh`.
/// Returns the status to exit with.
pub fn main(args: Vec<OsString>) -> ExitCode {
    if let Some(program) = args.first().and_then(|name| Program::named(name)) {
        return as_shim(program, args).into();
    }
    keep_others_out();
    run_subcommand(args)
}

/// Keeps other processes of the user from looking into this one: from `ptrace`, `/proc/PID/fd`,
/// `/proc/PID/mem` and core files. A master holds every connection, and its clients hold runs and
/// see passwords. A program that they start is dumpable again.
///
/// No limit of core files is set: the kernel writes none of such a process, whatever the limit.
fn keep_others_out() {
    // It fails on no Linux. If a sandbox refuses it, we are no worse than other programs.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn run_subcommand(mut args: Vec<OsString>) -> ExitCode {
    if args.get(1).is_some_and(|word| word == "ssh") && args.get(2).is_some_and(|word| word == "--")
    {
        // clap takes the first one for its own. It is ssh's: a host comes next, whatever it is.
        args.insert(2, "--".into());
    }
    let words = args.clone();
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            if error.kind() == ErrorKind::UnknownArgument && lacks_dashes(&words) {
                fakessh::daemon::client::say(if words.get(1).is_some_and(|it| it == "exec") {
                    "write -- before CMD, as in: fakessh exec web1 -- ls -l (see fakessh exec --help)"
                } else {
                    "write -- before CMD, as in: fakessh run web1 -- rsync -a dir remote:dir (see \
                     fakessh run --help)"
                });
                return FAILURE.into();
            }
            let _ = error.print();
            // Help and version are no mistakes. 255 for the rest: the status of ssh's usage.
            return if error.use_stderr() { FAILURE.into() } else { ExitCode::SUCCESS };
        }
    };
    let done = match arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Exec(arguments) => exec::exec(arguments),
        Command::Ssh(arguments) => ssh::ssh(arguments),
        Command::Connect(arguments) => connect::connect(arguments),
        Command::Ls(arguments) => ls::ls(&arguments),
        Command::Forward(arguments) => forward::forward(arguments),
        Command::Close(arguments) => close::close(arguments),
        Command::Lock(arguments) => lock::lock(&arguments),
        Command::Stop => stop::stop(),
        Command::Shim(arguments) => shim::shim(arguments),
        Command::Env(arguments) => env::env(&arguments),
        Command::Demo => demo::demo(),
        Command::Master(arguments) => master::master(&arguments),
    };
    match done {
        Ok(status) => status.into(),
        Err(error) => {
            say(&error);
            FAILURE.into()
        }
    }
}

/// Whether a command line of `run` or `exec` has words for a CMD and no `--` before it.
fn lacks_dashes(words: &[OsString]) -> bool {
    let is_of_a_command = words.get(1).is_some_and(|word| word == "run" || word == "exec");
    let count = words.iter().skip(2).filter(|word| !word.as_encoded_bytes().starts_with(b"-"));
    is_of_a_command && count.count() > 1 && !words.iter().any(|word| word == "--")
}

/// Says on one line of standard error what went wrong.
pub(crate) fn say(error: &anyhow::Error) {
    fakessh::daemon::client::say(&format!("{error:#}"));
}

/// Whether an error only says that no master runs.
pub(crate) fn is_no_master(error: &ClientError) -> bool {
    matches!(error, ClientError::NoMaster)
}

/// Is what this program is called as: what a user's own link to it is for.
fn as_shim(program: Program, args: Vec<OsString>) -> u8 {
    match program {
        Program::Ssh => ssh::as_ssh(args),
        // They are the real ones with our ssh, which is the link beside this one.
        Program::Scp | Program::Sftp => fakessh_shim::main(program, args),
    }
}
