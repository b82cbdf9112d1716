//! Why there is no connection, each with its kind and the reason of the far end.

use fakessh::{Error, ErrorKind};
use fakessh_lab::Lab;
use fakessh_lab::port::ClosedPort;

use crate::{remote, soon, with_both};

#[track_caller]
fn expect(error: &Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!((error.kind(), error.route()), (kind, Some("remote")), "{error}");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "no {words:?} in {text}");
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_an_error_with_the_reason_of_the_far_end() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let closed = ClosedPort::any();
        let error = soon(context.tcp("127.0.0.1", closed.number())).await.unwrap_err();
        let place = format!("127.0.0.1:{}", closed.number());
        expect(&error, ErrorKind::Connect, &[&place, "Connection refused"]);
        assert!(error.is_retryable());
        // It is not asked of any server of names, being no name.
        let error = soon(context.tcp("-no-name", 1)).await.unwrap_err();
        expect(&error, ErrorKind::Resolve, &["-no-name:1", "Name or service not known"]);

        let unheard = lab.remote_dir().join("unheard");
        drop(std::os::unix::net::UnixListener::bind(&unheard).unwrap());
        lab.account().give(&unheard);
        let error = soon(context.unix(&unheard)).await.unwrap_err();
        expect(&error, ErrorKind::Connect, &["unheard", "Connection refused"]);
        let error = soon(context.unix(lab.remote_dir().join("none"))).await.unwrap_err();
        expect(&error, ErrorKind::NotFound, &["/none", "No such file or directory"]);
    })
    .await;
}

#[tokio::test]
async fn what_no_kernel_connects_to_is_an_error_before_anything_is_sent() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        // Whatever is sent now is not answered.
        lab.kill_connections();
        soon(context.lost()).await;
        let long = format!("/{}", "x".repeat(107));
        for path in ["", "run/socket", "@abstract", "/a\0b", &long] {
            let error = soon(context.unix(path)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{path:?}: {error}");
        }
        for host in ["", "a\0b"] {
            assert_eq!(soon(context.tcp(host, 1)).await.unwrap_err().kind(), ErrorKind::Config);
        }
        let error = soon(context.tcp("127.0.0.1", 1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    })
    .await;
}

#[tokio::test]
async fn the_loss_of_the_connection_ends_an_attempt() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let full = super::leftovers::FullPeer::new();
        let attempt = context.tcp("127.0.0.1", full.port());
        tokio::pin!(attempt);
        full.until_tried(&lab, attempt.as_mut()).await;
        lab.kill_connections();
        let error = soon(attempt).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    })
    .await;
}
