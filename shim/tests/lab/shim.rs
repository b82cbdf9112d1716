//! The shim alone, for its tests: called by a link whose name is `ssh`, `scp` or `sftp`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(fakessh_shim::main(std::env::args_os().collect()))
}
