//! A slave that lies: see [`fakessh_lab::hostile`].

use std::process::ExitCode;

fn main() -> ExitCode {
    fakessh_lab::hostile::main()
}
