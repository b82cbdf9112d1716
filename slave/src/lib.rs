//! The static program on the target that starts programs and pumps their stdio.
//!
//! One binary, several names. Called as `ssh`, `scp` or `sftp` it is the shim. Otherwise it is
//! the slave: it removes the private file that it was started from (`startup`), says hello over
//! its standard output, and serves the link until that ends (`serve`). One thread, one epoll
//! descriptor, no async: `inbound` takes frames apart and fills programs' standard input,
//! `outbound` sends what programs print, `session` knows what belongs together, `program`
//! starts one as sshd does (a `helper`, which leads elsewhere, with a `terminal` where it needs
//! one; a `connection` is a program without a file), and `end` sees to it that what a dead session
//! started is gone. Should the slave itself be killed, its `watchdog` does. Where the target has no
//! `sftp-server`, `sftp` is one.
//!
//! A `tool` has a `run` that its own `ssh` comes back to, with a `directory` for it. What such an
//! `ssh` has `handed` over becomes a `raised` session; a `copier` carries bytes where the loop
//! can't.

mod cleanup;
mod event_loop;
#[doc(hidden)]
pub mod fuzzing;
mod link;
mod poll;
mod program;
mod reverse;
mod session;
mod sftp;
mod startup;
mod sys;

use std::ffi::OsString;
use std::io::Write;

use fakessh_protocol::exit::TRANSPORT_FAILURE;
use fakessh_shim::Program;
use rustix::process::DumpableBehavior;

use crate::program::account::Account;
use crate::startup::Startup;

/// Status of a call with wrong arguments.
const USAGE: u8 = 2;

/// Runs the program that `args` name and returns its exit status.
///
/// `args` is the whole argument vector. Its first word, or the path that was executed, chooses
/// between shim (`ssh`, `scp`, `sftp`) and slave; a slave takes `MARKER UMASK DIR`, or `check`,
/// which proves that the file can be executed here and does nothing, or `sftp`, which serves SFTP
/// on standard input and output (`sftp -D`, or a `Subsystem` of sshd).
pub fn run(args: Vec<OsString>) -> u8 {
    if let Some(program) = Program::started(args.first().map(OsString::as_os_str)) {
        return fakessh_shim::main(program, args);
    }
    keep_others_out();
    if args.len() == 2 && args[1] == "check" {
        return 0;
    }
    if args.len() == 2 && args[1] == "sftp" {
        return sftp::serve(Account::current());
    }
    let Some(startup) = Startup::parse(&args) else {
        complain("usage: fakessh-slave check | sftp | MARKER UMASK DIRECTORY|-");
        return USAGE;
    };
    match event_loop::serve(startup) {
        Ok(()) => 0,
        Err(end) => {
            complain(&end.to_string());
            TRANSPORT_FAILURE
        }
    }
}

/// Keeps other processes of the account from looking into this one: from `ptrace`, `/proc/PID/fd`,
/// `/proc/PID/mem` and core files. What they could write to the pipe of a held `sudo` would run as
/// root. Children have it from us until they execute something.
///
/// No limit of core files is set: the kernel writes none of such a process, whatever the limit.
fn keep_others_out() {
    // It fails on no Linux. Where a sandbox refuses it, the slave is no worse than what it serves.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Writes one line to standard error. Nobody may be there to read it; that is no reason to fail.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "fakessh: slave: {line}");
}
