//! The benchmarks: `bench --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    fakessh_tests::bench::main()
}
