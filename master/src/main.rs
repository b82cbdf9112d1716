//! The `fakessh` program; called as `ssh`, `scp` or `sftp` it is what a tool takes for those.

mod cli;

use std::ffi::OsString;
use std::process::ExitCode;

use fakessh_shim::Program;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(program) = args.first().and_then(|name| Program::named(name)) {
        return cli::as_shim(program, args).into();
    }
    cli::main(args)
}
