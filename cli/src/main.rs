//! The `fakessh` program; called as `ssh`, `scp` or `sftp` it is what a tool takes for those.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: fakessh::ScrubbingAllocator = fakessh::ScrubbingAllocator;

fn main() -> ExitCode {
    fakessh_cli::main(std::env::args_os().collect())
}
