//! The static program on the target that starts programs and pumps their stdio.
//!
//! One binary has several names. Called as `ssh`, `scp` or `sftp` it is the shim. Otherwise it is
//! the slave: at `startup` it removes the private file that it was started from, and then says
//! hello over its standard output. The `event_loop` serves the link until that ends, with one
//! thread, one epoll descriptor (`poll`) and no async.
//!
//! The loop alone knows all parts. Each part has its own state and gets what else it needs as an
//! argument:
//! - `link` takes frames apart and composes them; it knows nothing of what they mean.
//! - `session` joins a program's pipes to handles; `program` starts programs.
//! - `reverse` serves the `ssh` of tools that run here.
//! - `cleanup` ends what a dead session started, and what a dead slave started.
//! - `sftp` is a server for targets that have no `sftp-server`.
//!
//! Below them are `io` (what all parts share), `child`, `pipe` and `sys`.

mod child;
mod cleanup;
mod event_loop;
#[doc(hidden)]
pub mod fuzzing;
mod io;
mod link;
mod pipe;
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

use crate::program::Account;
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
        return sftp::serve(Account::current().home);
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
/// `/proc/PID/mem` and core files. Bytes that they write to the pipe of a held `sudo` would run as
/// root. Children inherit this until they execute something.
///
/// No limit of core files is set: the kernel writes none of such a process, whatever the limit.
fn keep_others_out() {
    // This fails on no Linux. If a sandbox refuses it, the slave is no worse than what it serves.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Writes one line to standard error. Nobody may be there to read it; that is no reason to fail.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "fakessh: slave: {line}");
}
