use std::os::fd::AsFd as _;

use rustix::net::{Shutdown, bind, listen, shutdown, socketpair};
use tempfile::TempDir;

use fakessh_unix::tool_environment::describe;

use super::*;

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// A run directory of this test's own, removed at its end.
struct Directory(TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn listen(&self) -> OwnedFd {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .unwrap();
        bind(&socket, &SocketAddrUnix::new(self.path().join(SOCKET_NAME)).unwrap()).unwrap();
        listen(&socket, 5).unwrap();
        socket
    }
}

#[test]
fn the_inherited_descriptor_is_found_by_number_and_inode() {
    let (near, _far) = pair();
    let description = describe(near.as_fd()).unwrap();
    let found = Search::default().inherited(Some(&description)).unwrap();
    let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
    assert_eq!(inode(&found), inode(&near));
}

#[test]
fn another_file_under_the_same_number_is_not_taken() {
    let (near, _far) = pair();
    let description = describe(near.as_fd()).unwrap();
    let (number, inode) = description.split_once(':').unwrap();
    let other: u64 = inode.parse::<u64>().unwrap() + 1;
    let file = rustix::fs::open(c"/dev/null", rustix::fs::OFlags::RDWR, 0.into()).unwrap();
    for wrong in [
        format!("{number}:{other}"),
        format!("1000000:{inode}"),
        format!("0:{inode}"),
        describe(file.as_fd()).unwrap(),
        "x".into(),
        "-1:5".into(),
        format!("{number}:"),
    ] {
        let mut search = Search::default();
        assert!(search.inherited(Some(&wrong)).is_none(), "{wrong}");
        assert!(matches!(search.not_found(), NotFound::NoRun));
    }
}

#[test]
fn a_descriptor_whose_other_end_is_closed_is_a_run_that_is_over() {
    let (near, far) = pair();
    // As the last copy's end does. (Another test that is about to start a program holds one.)
    shutdown(&far, Shutdown::Both).unwrap();
    let mut search = Search::default();
    assert!(search.inherited(Some(&describe(near.as_fd()).unwrap())).is_none());
    assert!(search.not_found().to_string().contains("is over"));
}

#[test]
fn a_socket_is_found_by_path_and_beside_the_program() {
    let directory = Directory::new();
    let _listener = directory.listen();
    assert!(Search::default().named(Some(&directory.path().join(SOCKET_NAME))).is_some());
    let nowhere = PathBuf::from("/nonexistent");
    assert!(Search::default().beside(&[nowhere, directory.path()]).is_some());
}

#[test]
fn a_refused_connection_falls_through_and_is_said() {
    let directory = Directory::new();
    // As its master's end does it, whoever holds a copy for a moment.
    shutdown(directory.listen(), Shutdown::Both).unwrap();
    let mut search = Search::default();
    assert!(search.named(Some(&directory.path().join("gone"))).is_none());
    assert!(search.beside(&[directory.path()]).is_none());
    let message = search.not_found().to_string();
    assert!(message.contains("gone: No such file"), "{message}");
    assert!(message.contains("master: Connection refused"), "{message}");
    assert!(!message.contains('\n'));
}

#[test]
fn without_any_sign_of_a_run_it_says_what_to_do() {
    let search = Search::default();
    assert!(search.not_found().to_string().contains("fakessh run"));
}
