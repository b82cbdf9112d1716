//! A slave that lies: see [`fakessh_tests::hostile`].

use std::process::ExitCode;

fn main() -> ExitCode {
    fakessh_tests::hostile::main()
}
