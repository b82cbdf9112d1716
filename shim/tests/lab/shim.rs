//! The shim alone, for its tests: called by a link whose name is `ssh`, `scp` or `sftp`.

use std::ffi::OsString;
use std::process::ExitCode;

use fakessh_shim::Program;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let program = Program::started(args.first().map(OsString::as_os_str));
    program.map_or(ExitCode::FAILURE, |program| fakessh_shim::main(program, args).into())
}
