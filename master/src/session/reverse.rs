//! Reverse sessions: a tool on a target asks for them. They are as those of a local tool, and less:
//! they reach the contexts of their run and nothing else, and no question is asked over there.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use fakessh_protocol::failure::Failure;
use fakessh_protocol::message::{Notice, Question, Secret};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Invoker, Messages, ServedSession, Stdio, Streams};
use crate::audit::Who;
use crate::caller::{Ask, AskFrom};
use crate::link::ReverseSession;
use crate::pump::{Input, Output};
use crate::run::{Denied, Run};

/// Most questions that the sessions of one tool may lead to: a few logins after lost connections.
const MOST_QUESTIONS: usize = 32;

/// Most notices that they may lead to: a screenful.
const MOST_NOTICES: usize = 24;

/// Serves the reverse sessions of a tool that runs in the context of this name. Questions go to the
/// person who started the tool. Dropped, this ends all of the sessions.
pub(super) async fn serve_reverse(
    run: Arc<Run>,
    mut incoming: mpsc::UnboundedReceiver<ReverseSession>,
    ask: Arc<dyn Ask>,
    at: &str,
) -> Infallible {
    let ask: Arc<dyn Ask> = Arc::new(AskFrom { ask, at: at.to_owned() });
    let ask: Arc<dyn Ask> = Arc::new(ForTarget::new(ask));
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            Some(one) = incoming.recv() => {
                sessions.spawn(serve_it(run.clone(), one, ask.clone()));
            }
            Some(_) = sessions.join_next() => {}
            else => std::future::pending().await,
        }
    }
}

/// Serves one session. In a box, since the type of a session must not hold itself; a reverse session
/// starts none.
fn serve_it(
    run: Arc<Run>,
    session: ReverseSession,
    ask: Arc<dyn Ask>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let ReverseSession { handoff, stdin, stdout, stderr, messages, shim } = session;
    let stdin = Input::Handle(stdin);
    let outputs = [Output::Handle(stdout), Output::Handle(stderr)];
    let stdio = Stdio::handles(Streams { stdin, outputs });
    let (invoker, messages) = (Invoker::Reverse(shim), Messages::Reverse(messages));
    Box::pin(ServedSession::new(run, invoker, ask).serve(handoff, stdio, messages, None))
}

/// The failure of a reverse session as its shim may know it: what a target may know, and no more.
/// Other reasons name addresses, routes, key files and agents of this machine, so they are for the
/// person alone. So is their kind.
pub(super) async fn shown_failure(host: &str, denied: Denied, ask: &dyn Ask) -> Failure {
    let Denied { failure: Failure { kind, message }, for_target } = denied;
    tracing::info!(host, why = message, "a session that a target asked for failed");
    if let Some(message) = for_target {
        return Failure { kind, message };
    }
    ask.notice(Notice::ours(message)).await;
    Failure::other(format!(
        "{host}: it can't be reached, or was lost; the reason stands where the run was started"
    ))
}

/// The person who has started a tool on a target, for the tool's reverse sessions. A target that
/// starts them without end does not get all of that person's attention.
struct ForTarget {
    inner: Arc<dyn Ask>,
    questions: AtomicUsize,
    notices: AtomicUsize,
}

impl ForTarget {
    fn new(inner: Arc<dyn Ask>) -> ForTarget {
        let (questions, notices) = (AtomicUsize::new(0), AtomicUsize::new(0));
        ForTarget { inner, questions, notices }
    }
}

#[async_trait]
impl Ask for ForTarget {
    async fn ask(&self, question: Question) -> Option<Secret> {
        if self.questions.fetch_add(1, Ordering::Relaxed) >= MOST_QUESTIONS {
            return None;
        }
        self.inner.ask(question).await
    }

    fn may_answer(&self) -> bool {
        self.questions.load(Ordering::Relaxed) < MOST_QUESTIONS && self.inner.may_answer()
    }

    fn who(&self) -> Option<Who> {
        self.inner.who()
    }

    async fn notice(&self, notice: Notice) {
        match self.notices.fetch_add(1, Ordering::Relaxed) {
            ..MOST_NOTICES => self.inner.notice(notice).await,
            MOST_NOTICES => {
                let text = "sessions of this tool have more to say; it is in the master's log";
                self.inner.notice(Notice::ours(text)).await;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use fakessh_protocol::handles::SessionHandles;
    use fakessh_protocol::invocation::{Destination, Invocation, Request};
    use fakessh_protocol::message::{
        Connection, FromShim, Handoff, Hello, PackedHandoff, Peer, StartReverse, ToMaster, ToShim,
        ToSlave, Tool,
    };
    use fakessh_protocol::mux::{Event, Expecting, Mux, Transmit};
    use fakessh_protocol::wire::{self, Handle};

    use super::*;
    use crate::caller::{AskNobody, Caller};
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
                let _ = self.to_master.send(Bytes::from_owner(frame)).await;
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
                        && let Ok(ToSlave::ToShim(message)) = wire::decode(&payload)
                    {
                        return Some((handle, message));
                    }
                }
            }
        }
    }

    /// A number of the slave's.
    const FIRST: u32 = 1 << 31;

    /// The handles of the so-many-th reverse session.
    fn handles(number: u32) -> SessionHandles {
        SessionHandles::of(Handle(FIRST + 8 * number))
    }

    fn invocation(host: &str, request: Request) -> Invocation {
        Invocation {
            destination: Destination { host: host.into(), ..Destination::default() },
            request,
            connection: vec![b"-o".to_vec(), b"ProxyCommand=touch /tmp/owned".to_vec()],
            send_env: vec!["*".into()],
            ..Invocation::default()
        }
    }

    fn raise(tool: Handle, handles: SessionHandles, invocation: Invocation) -> ToMaster {
        let handoff = Handoff { version: crate::VERSION.to_owned(), invocation };
        let handoff = PackedHandoff::pack(&handoff).unwrap();
        ToMaster::StartReverse(Box::new(StartReverse { tool, handles, handoff }))
    }

    async fn guarded<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(GUARD, work).await.expect("hangs")
    }

    #[tokio::test]
    async fn a_slave_raises_nothing_where_no_tool_was_started() {
        let (link, mut liar) = Liar::start();
        let plain =
            link.open(fakessh_protocol::message::ProgramKind::Login, Default::default()).unwrap();
        for (tool, number) in [Handle(4), Handle(0), Handle(FIRST)].into_iter().zip(0..) {
            let handles = handles(number);
            let lie = raise(tool, handles, invocation("db", Request::Login));
            liar.raise(handles.control, handles, &lie).await;
            let (handle, told) = guarded(liar.told()).await.unwrap();
            assert_eq!(handle, handles.control);
            assert!(matches!(told, ToShim::Failed(why) if why.message.contains("is over")));
        }
        drop(plain);
        assert!(!link.is_lost());
    }

    #[tokio::test]
    async fn handles_that_are_not_the_slaves_to_pick_end_the_link() {
        let twice = SessionHandles { stderr: Handle(FIRST + 1), ..handles(0) };
        for (control, handles) in [
            (Handle(4), SessionHandles::of(Handle(4))),
            (Handle(FIRST), SessionHandles::of(Handle(FIRST - 4))),
            (Handle(FIRST), twice),
            (Handle(FIRST + 9), handles(0)),
        ] {
            let (link, mut liar) = Liar::start();
            let (_session, _raised) =
                link.open_tool(Tool { argv: vec![b"x".to_vec()] }, Default::default()).unwrap();
            let lie = raise(Handle(4), handles, invocation("db", Request::Login));
            liar.raise(control, handles, &lie).await;
            let lost = guarded(link.lost()).await;
            assert!(lost.to_string().contains("broke the protocol"), "{lost}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slave_that_takes_no_answer_ends_its_link() {
        let (link, mut liar) = Liar::start();
        let handles = handles(0);
        let lie = raise(Handle(4), handles, invocation("db", Request::Login));
        let lies = async {
            while !link.is_lost() {
                liar.raise(handles.control, handles, &lie).await;
                liar.mux.reset(handles.stdin);
                liar.flush().await;
            }
        };
        // The link rests between them, as long as its share of the thread says.
        tokio::time::timeout(10 * GUARD, lies).await.expect("hangs");
        let lost = guarded(link.lost()).await;
        assert!(lost.to_string().contains("takes no answer"), "{lost}");
    }

    #[tokio::test]
    async fn what_raised_sessions_bring_is_bounded_all_together() {
        let (link, mut liar) = Liar::start();
        let tool = Tool { argv: vec![b"x".to_vec()] };
        let (_session, mut raised) = link.open_tool(tool, Default::default()).unwrap();
        let lie = |handles| {
            let command = Request::Command(vec![b'x'; 2_000_000]);
            raise(Handle(4), handles, invocation("nowhere", command))
        };
        let mut held = Vec::new();
        for number in 0..4 {
            let handles = handles(number);
            liar.raise(handles.control, handles, &lie(handles)).await;
            held.push(guarded(raised.recv()).await.unwrap());
        }
        let last = handles(4);
        liar.raise(last.control, last, &lie(last)).await;
        let (handle, told) = guarded(liar.told()).await.unwrap();
        assert_eq!(handle, last.control);
        assert!(matches!(&told, ToShim::Failed(why) if why.message.contains("8 MiB")), "{told:?}");
        // The end of one makes room for another.
        held.pop();
        let next = handles(5);
        liar.raise(next.control, next, &lie(next)).await;
        assert_eq!(guarded(raised.recv()).await.unwrap().handoff, held[0].handoff);
    }

    #[tokio::test]
    async fn a_hostile_slave_gets_no_context_that_its_run_does_not_name() {
        let (link, mut liar) = Liar::start();
        let tool = Tool { argv: vec![b"x".to_vec()] };
        let (_session, raised) = link.open_tool(tool, Default::default()).unwrap();
        let on = Some(Route::parse("nowhere").unwrap());
        let hosts = Hosts::Mapped { on, destination: None, routes: Default::default() };
        let opener = Caller::current(Arc::new(AskNobody)).unwrap();
        let run = Arc::new(Run::new(hosts, Registry::default(), &opener));
        let lie = async {
            let tool = || Request::Tool(vec![b"id".to_vec()]);
            let connection = || {
                let peer = Peer::Tcp { host: "127.0.0.1".into(), port: 22 };
                Request::Connection(Connection { peer, reports: true })
            };
            let with = |send_env: Vec<String>, variables: usize, name: &[u8]| Invocation {
                send_env,
                environment: vec![(name.to_vec(), Vec::new()); variables],
                ..invocation("nowhere", Request::Login)
            };
            let stars = || format!("{}b", "*a".repeat(100));
            for (number, (invocation, expected)) in [
                (invocation("db", Request::Login), "no --route"),
                (invocation("nowhere", Request::Command(b"id".to_vec())), "no --route"),
                (invocation("local", Request::Command(b"id".to_vec())), "no --route"),
                (invocation("local+sudo", Request::Subsystem("sftp".into())), "no --route"),
                (invocation("nowhere", tool()), "only the run itself"),
                (invocation("db", connection()), "only the run itself"),
                (with(vec!["A".into(); 257], 1, b"A"), "values of SendEnv"),
                (with(vec!["A".into()], 4097, b"A"), "variables in the"),
                (with(vec![stars(); 256], 4096, &[b'a'; 200]), "too long"),
                (with(vec![stars()], 1, &[b'a'; 10_000]), "no --route"),
            ]
            .into_iter()
            .enumerate()
            {
                let handles = handles(number as u32);
                let lie = raise(Handle(4), handles, invocation);
                liar.raise(handles.control, handles, &lie).await;
                // Nobody has asked for an answer, and a thousand are no harm.
                for _ in 0..1000 {
                    let answer = ToMaster::FromShim(FromShim::Answer(None));
                    liar.say(handles.control, &answer).await;
                }
                let (handle, told) = liar.told().await.unwrap();
                assert_eq!(handle, handles.control);
                assert!(
                    matches!(&told, ToShim::Failed(why) if why.message.contains(expected)),
                    "{told:?}"
                );
            }
        };
        tokio::select! {
            () = guarded(lie) => {}
            never = serve_reverse(run, raised, opener.ask, "here") => match never {},
        }
        assert!(!link.is_lost());
    }

    /// Somebody who gives no answer and keeps what is said.
    #[derive(Default)]
    struct Person(std::sync::Mutex<Vec<String>>);

    #[async_trait]
    impl Ask for Person {
        async fn ask(&self, _: Question) -> Option<Secret> {
            None
        }

        async fn notice(&self, notice: Notice) {
            self.0.lock().unwrap().push(notice.to_string());
        }
    }

    #[tokio::test]
    async fn the_reason_of_a_failure_is_for_the_person_and_not_for_the_target() {
        let (link, mut liar) = Liar::start();
        let tool = Tool { argv: vec![b"x".to_vec()] };
        let (_session, raised) = link.open_tool(tool, Default::default()).unwrap();
        let route = |text: &str| Route::parse(text).unwrap();
        // Nothing listens there, and this machine has no such helper.
        let routes = [("db", "deploy@127.0.0.1:1"), ("app", "exec:/no/such/helper")];
        let routes = routes.map(|(name, to)| (name.to_owned(), route(to)));
        let hosts =
            Hosts::Mapped { on: Some(route("a")), destination: None, routes: routes.into() };
        let person = Arc::new(Person::default());
        let opener = Caller::current(person.clone()).unwrap();
        let run = Arc::new(Run::new(hosts, Registry::default(), &opener));
        let check = async |liar: &mut Liar, number: u32, host: &str, for_person: &str| {
            let handles = handles(number);
            let raise = raise(Handle(4), handles, invocation(host, Request::Login));
            liar.raise(handles.control, handles, &raise).await;
            let (_, told) = guarded(liar.told()).await.unwrap();
            let ToShim::Failed(Failure { message: why, .. }) = told else { panic!("{told:?}") };
            assert!(why.starts_with(&format!("{host}: ")), "{why}");
            for secret in ["deploy", "127.0.0.1", "refused", "exec", "/no/such", "app"] {
                assert!(host == secret || !why.contains(secret), "{why}");
            }
            let said = person.0.lock().unwrap().concat();
            assert!(said.contains(for_person), "{said}");
        };
        let work = async {
            check(&mut liar, 0, "db", "port 1: Connection refused").await;
            check(&mut liar, 1, "app", "/no/such/helper").await;
            // Which names there are is not told, and there is nothing to add for the person.
            check(&mut liar, 2, "prod", "").await;
            assert_eq!(person.0.lock().unwrap().len(), 2);
            // However many it raises, the person is told of some.
            for number in 3..100 {
                check(&mut liar, number, "db", "").await;
            }
            assert_eq!(person.0.lock().unwrap().len(), MOST_NOTICES + 1);
        };
        tokio::select! {
            () = work => {}
            never = serve_reverse(run, raised, opener.ask, "here") => match never {},
        }
    }
}
