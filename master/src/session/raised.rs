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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use fakessh_protocol::invocation::{Destination, Invocation, Request};
    use fakessh_protocol::message::{
        FIRST_RAISED, FromShim, Hello, Raise, SessionHandles, ToMaster, ToShim, ToSlave, Tool,
    };
    use fakessh_protocol::mux::{Event, Expecting, Mux, Transmit};
    use fakessh_protocol::wire::{self, Handle};

    use super::*;
    use crate::caller::AskNobody;
    use crate::context::Registry;
    use crate::link::{Keepalive, Link};
    use crate::route::Route;
    use crate::run::Hosts;
    use crate::stream::{ByteStream, Diagnostics};

    /// How long something may take. A guard against hangs only.
    const GUARD: Duration = Duration::from_secs(60);

    /// A slave that says whatever a test wants.
    struct Liar {
        mux: Mux,
        to_master: mpsc::Sender<Bytes>,
        from_master: mpsc::Receiver<Bytes>,
    }

    impl Liar {
        fn start() -> (Link, Liar) {
            let (to_master, incoming) = mpsc::channel(16);
            let (outgoing, from_master) = mpsc::channel(16);
            let stream = ByteStream { incoming, outgoing, diagnostics: Diagnostics::default() };
            let hello = Hello { user: "mallory".into(), uid: 0, home: "/".into(), pid: 1 };
            let keepalive = Keepalive { interval: Duration::ZERO, ..Keepalive::default() };
            let link = Link::start(stream, Mux::new(), Bytes::new(), hello, keepalive);
            (link, Liar { mux: Mux::new(), to_master, from_master })
        }

        /// Raises a session; where handles can't be opened, the claim is made nevertheless.
        async fn raise(&mut self, control: Handle, handles: SessionHandles, raise: &ToMaster) {
            let _ = self.mux.open_sending(handles.stdin);
            let _ = self.mux.open_receiving(handles.stdout);
            let _ = self.mux.open_receiving(handles.stderr);
            self.say(control, raise).await;
        }

        async fn say(&mut self, handle: Handle, message: &ToMaster) {
            self.mux.message(handle, message).unwrap();
            self.flush().await;
        }

        async fn flush(&mut self) {
            while let Some(Transmit::Control(frame)) = self.mux.transmit() {
                let _ = self.to_master.send(frame.into()).await;
            }
        }

        /// The next thing that the master tells a shim; `None` when it has hung up.
        async fn told(&mut self) -> Option<(Handle, ToShim)> {
            loop {
                let mut bytes = self.from_master.recv().await?;
                while !bytes.is_empty() {
                    assert!(matches!(self.mux.expecting(), Expecting::Control(_)));
                    // What is about handles that only the master has opened is of no interest.
                    let Ok((used, event)) = self.mux.receive(&bytes) else { break };
                    bytes = bytes.slice(used..);
                    if let Some(Event::Message(handle, payload)) = event
                        && let Ok(ToSlave::Tell(message)) = wire::decode(&payload)
                    {
                        return Some((handle, message));
                    }
                }
            }
        }
    }

    fn handles(first: u32) -> SessionHandles {
        let [control, stdin, stdout, stderr] = [0, 1, 2, 3].map(|number| Handle(first + number));
        SessionHandles { control, stdin, stdout, stderr }
    }

    fn raise(tool: Handle, handles: SessionHandles, host: &str, request: Request) -> ToMaster {
        let invocation = Invocation {
            destination: Destination { host: host.into(), ..Destination::default() },
            request,
            connection: vec![b"-o".to_vec(), b"ProxyCommand=touch /tmp/owned".to_vec()],
            send_env: vec!["*".into()],
            ..Invocation::default()
        };
        let handoff = Handoff { version: crate::VERSION.to_owned(), invocation };
        ToMaster::Raise(Box::new(Raise { tool, handles, handoff }))
    }

    async fn guarded<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(GUARD, work).await.expect("hangs")
    }

    #[tokio::test]
    async fn a_slave_raises_nothing_where_no_tool_was_started() {
        let (link, mut liar) = Liar::start();
        let plain = link.open(fakessh_protocol::message::ProgramKind::Login, Vec::new()).unwrap();
        for (number, tool) in [Handle(4), Handle(0), Handle(FIRST_RAISED)].into_iter().enumerate() {
            let handles = handles(FIRST_RAISED + 8 * number as u32);
            let lie = raise(tool, handles, "db", Request::Login);
            liar.raise(handles.control, handles, &lie).await;
            let (handle, told) = guarded(liar.told()).await.unwrap();
            assert_eq!(handle, handles.control);
            assert!(matches!(told, ToShim::Failed(why) if why.contains("is over")));
        }
        drop(plain);
        assert!(!link.is_lost());
    }

    #[tokio::test]
    async fn handles_that_are_not_the_slaves_to_pick_end_the_link() {
        let twice = SessionHandles { stderr: Handle(FIRST_RAISED + 1), ..handles(FIRST_RAISED) };
        for (control, handles) in [
            (Handle(4), handles(4)),
            (Handle(FIRST_RAISED), handles(FIRST_RAISED - 2)),
            (Handle(FIRST_RAISED), twice),
            (Handle(FIRST_RAISED + 9), handles(FIRST_RAISED)),
        ] {
            let (link, mut liar) = Liar::start();
            let (_session, _raised) =
                link.open_tool(Tool { argv: vec![b"x".to_vec()] }, Vec::new()).unwrap();
            let lie = raise(Handle(4), handles, "db", Request::Login);
            liar.raise(control, handles, &lie).await;
            let lost = guarded(link.lost()).await;
            assert!(lost.to_string().contains("broke the protocol"), "{lost}");
        }
    }

    #[tokio::test]
    async fn a_hostile_slave_gets_no_context_that_its_run_does_not_name() {
        let (link, mut liar) = Liar::start();
        let tool = Tool { argv: vec![b"x".to_vec()] };
        let (_session, raised) = link.open_tool(tool, Vec::new()).unwrap();
        let on = Some(Route::parse("nowhere").unwrap());
        let hosts = Hosts::Mapped { on, every: None, routes: Default::default() };
        let run = Arc::new(Run::new(hosts, Registry::default(), "/".into()));
        let caller = Caller::current(Arc::new(AskNobody)).unwrap();
        let lie = async {
            let tool = || Request::Tool(vec![b"id".to_vec()]);
            for (number, (host, request, expected)) in [
                ("db", Request::Login, "no --route"),
                ("nowhere", Request::Command(b"id".to_vec()), "no --route"),
                ("local", Request::Command(b"id".to_vec()), "no --route"),
                ("local+sudo", Request::Subsystem("sftp".into()), "no --route"),
                ("nowhere", tool(), "only the run itself"),
            ]
            .into_iter()
            .enumerate()
            {
                let handles = handles(FIRST_RAISED + 8 * number as u32);
                let lie = raise(Handle(4), handles, host, request);
                liar.raise(handles.control, handles, &lie).await;
                // Nobody has asked for an answer, and a thousand are no harm.
                for _ in 0..1000 {
                    let answer = ToMaster::Said(FromShim::Answer(None));
                    liar.say(handles.control, &answer).await;
                }
                let (handle, told) = liar.told().await.unwrap();
                assert_eq!(handle, handles.control);
                assert!(matches!(&told, ToShim::Failed(why) if why.contains(expected)), "{told:?}");
            }
        };
        tokio::select! {
            () = guarded(lie) => {}
            never = serve_raised(run, raised, caller) => match never {},
        }
        assert!(!link.is_lost());
    }
}
