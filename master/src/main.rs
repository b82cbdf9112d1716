//! The `fakessh` program; called as `ssh`, `scp` or `sftp` it is what a tool takes for those.

mod cli;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.first().is_some_and(|name| fakessh_shim::is_shim(name)) {
        return cli::as_shim(args).into();
    }
    cli::main(args)
}
