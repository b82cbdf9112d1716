//! Unix sockets, also those that only root may reach.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fakessh::ErrorKind;
use fakessh_lab::Lab;
use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::privilege::root_for;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;

use super::{rest, send_back};
use crate::{library, remote, soon, with_both};

/// Sends all back that comes to this socket, which has this mode.
pub(super) fn echo_at(path: &Path, mode: u32) {
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(send_back(socket));
        }
    });
}

#[tokio::test]
async fn a_unix_socket_is_connected_to_and_ends_each_way() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let path = lab.remote_dir().join("a socket");
        echo_at(&path, 0o666);
        let mut stream = soon(context.unix(&path)).await.unwrap();
        soon(stream.write_all(b"there and back")).await.unwrap();
        soon(stream.shutdown()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "there and back");
    })
    .await;
}

#[tokio::test]
async fn a_socket_of_root_is_reached_behind_sudo_alone() {
    with_both(async |holder| {
        if !root_for("rules of sudo") {
            return;
        }
        let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
        let fakessh = library(&lab, holder).await;
        let path = lab.remote_dir().join("root's");
        echo_at(&path, 0o600);
        let account = soon(fakessh.connect("remote")).await.unwrap();
        let error = soon(account.unix(&path)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("Permission denied"), "{error}");
        let root = soon(fakessh.connect("remote+sudo")).await.unwrap();
        let mut stream = soon(root.unix(&path)).await.unwrap();
        soon(stream.write_all(b"to root")).await.unwrap();
        soon(stream.shutdown()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "to root");
        fakessh.close().await;
    })
    .await;
}
