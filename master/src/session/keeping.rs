//! Sessions that keep a context: for themselves (`-N`), and for the clients of their ControlPath (`-M`).

use std::sync::Arc;

use fakessh_protocol::exit::{ExitStatus, TRANSPORT_FAILURE};
use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::forward::ForwardOptions;
use fakessh_protocol::invocation::Multiplex;
use fakessh_protocol::message::{Notice, Started, ToShim};

use super::record::Record;
use super::{ServedSession, multiplex};
use crate::context::Context;
use crate::lifetime::Use;
use crate::link::Traffic;
use crate::run::{Denied, Run};

impl ServedSession {
    /// Serves the ControlPath of a master. If that can't be, the person is told.
    pub(super) async fn multiplex(
        &self,
        multiplex: Option<&Multiplex>,
        pinned: Option<Arc<Run>>,
        context: &Arc<Context>,
        options: ForwardOptions,
    ) {
        let (Some(multiplex), Some(run), Some(sockets)) = (multiplex, pinned, &self.sockets) else {
            return;
        };
        let pid = self.ask.who().map_or(0, |who| who.pid);
        let at = (run, context.clone());
        let forwards = (self.forwards.clone(), options);
        match multiplex::Served::start(multiplex, at, sockets.clone(), forwards, pid).await {
            Ok(served) => drop(self.multiplex.set(served)),
            Err(why) => {
                let text = format!("{why}; disabling multiplexing");
                self.invoker.send(ToShim::Notice(Notice::ours(text))).await;
            }
        }
    }

    /// Serves the ControlPath no more.
    pub(super) async fn stop_multiplexing(&self) {
        if let Some(served) = self.multiplex.get() {
            served.stop().await;
        }
    }

    /// Waits until a client of the ControlPath ends the session.
    pub(super) async fn terminated(&self) {
        match self.multiplex.get() {
            Some(served) => served.over(None).await,
            None => std::future::pending().await,
        }
    }

    /// `-N`: keeps the context until the shim goes, or the context does, or a client of the
    /// ControlPath ends it.
    pub(super) async fn keep(
        &self,
        context: &Arc<Context>,
        announce: bool,
        multiplex: Option<Multiplex>,
        record: &Record,
    ) -> Result<ExitStatus, Denied> {
        let name = context.name();
        let lost = |message: String| Failure::new(FailureKind::ConnectionLost, message).of(name);
        let Some(_held) = context.hold(Use::Dependent) else {
            return Err(lost("the connection was just closed".to_owned()).into());
        };
        record.started(context, Traffic::default());
        if announce {
            self.invoker.send(ToShim::Started(Started::default())).await;
        }
        let over = async {
            match self.multiplex.get() {
                Some(served) => served.over(multiplex.and_then(|it| it.idle_seconds)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            why = context.lost() => Err(lost(why.to_string()).into()),
            // As ssh, whose master has no status of its own.
            () = over => Ok(ExitStatus::Code(TRANSPORT_FAILURE)),
        }
    }
}
