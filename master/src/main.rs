//! The `fakessh` program; called as `ssh`, `scp` or `sftp` it is what a tool takes for those.

mod cli;

use std::ffi::OsString;
use std::process::ExitCode;

use fakessh_shim::Program;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

#[global_allocator]
static ALLOCATOR: fakessh::ScrubbingAllocator = fakessh::ScrubbingAllocator;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(program) = args.first().and_then(|name| Program::named(name)) {
        return cli::as_shim(program, args).into();
    }
    keep_others_out();
    cli::main(args)
}

/// Keeps other processes of the user from looking into this one: from `ptrace`, `/proc/PID/fd`,
/// `/proc/PID/mem` and core files. A master holds every connection, and those who talk to it hold
/// runs and see passwords. What they start has it no more.
///
/// No limit of core files is set: the kernel writes none of such a process, whatever the limit.
fn keep_others_out() {
    // It fails on no Linux. Where a sandbox refuses it, nobody can be told who would do better.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
