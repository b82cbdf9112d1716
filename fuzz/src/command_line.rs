//! The words of an `ssh` command line, which any tool may put together in any way.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use fakessh_protocol::invocation::Invocation;
use fakessh_protocol::wire;
use fakessh_shim::parse::{Parsed, Surroundings, parse};

/// The words behind `ssh`, with a NUL between each two.
pub fn command_line(input: &[u8]) {
    let words = input.split(|&byte| byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    let argv: Vec<OsString> = std::iter::once("ssh".into()).chain(words).collect();
    let surroundings = Surroundings {
        environment: vec![(b"HOME".to_vec(), b"/home/me".to_vec()), (b"A".to_vec(), Vec::new())],
        directory: b"/work".to_vec(),
    };
    match parse(argv.clone(), surroundings.clone()) {
        Ok(Parsed::RealSsh(same)) => assert_eq!(same, argv),
        Ok(Parsed::Session(command_line)) => {
            assert_eq!(command_line.argv.words(), argv);
            let invocation = command_line.invocation;
            assert!(!invocation.destination.host.is_empty(), "a session without a host");
            assert_eq!(invocation.directory, surroundings.directory);
            let bytes = wire::encode(&invocation).expect("it is not larger than its words");
            assert_eq!(wire::decode::<Invocation>(&bytes), Ok(invocation));
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "more than one line: {error:?}"),
    }
}
