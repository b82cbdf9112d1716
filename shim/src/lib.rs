//! The program that tools take for `ssh`, `scp` and `sftp`.

pub mod datagram;
