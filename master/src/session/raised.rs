//! Sessions that a tool on a target raises: the same as those of a local one, and less. They reach
//! the contexts of their run and nothing else, and no question of theirs is asked over there.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use fakessh_protocol::message::Handoff;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Invoker, Said, Stdio, serve_one};
use crate::caller::Caller;
use crate::link::Raised;
use crate::pump::{Input, Output};
use crate::run::Run;

/// Serves what a tool raises. Questions go to who started the tool. Dropped, it ends them all.
pub(super) async fn serve_raised(
    run: Arc<Run>,
    mut raised: mpsc::UnboundedReceiver<Raised>,
    caller: Caller,
) -> Infallible {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            Some(one) = raised.recv() => {
                sessions.spawn(serve_it(run.clone(), one, caller.clone()));
            }
            Some(_) = sessions.join_next() => {}
            else => std::future::pending().await,
        }
    }
}

/// In a box, since a session's type must not hold itself; a raised one raises none.
fn serve_it(
    run: Arc<Run>,
    raised: Raised,
    caller: Caller,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let Raised { handoff, stdin, stdout, stderr, said, shim } = raised;
    let Handoff { version, mut invocation } = handoff;
    // These would be read here, and are files of another host.
    invocation.connection.clear();
    let handoff = Handoff { version, invocation };
    let ends = (Input::Handle(stdin), Output::Handle(stdout), Output::Handle(stderr));
    let stdio = Stdio::Handles(Box::new(ends));
    let ends = (Invoker::Raised(shim), Said::Raised(said));
    Box::pin(serve_one(run, handoff, stdio, ends, caller, None))
}
