//! The body of the fuzz target `sftp`, over its seeds, mutations of these and pseudo-random bytes:
//! the same sequence in each run.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "../../fuzz/src/inputs.rs"]
mod inputs;
#[path = "../../fuzz/src/sftp.rs"]
mod sftp;

#[test]
fn any_bytes_of_an_sftp_client() {
    inputs::run("sftp", sftp::sftp);
}
