//! A client of control protocol 1 that knows docs/control-protocol.md and nothing of this tree. What is
//! here must work with every later master: a test that has to be changed is a promise that is broken.

use std::io::{IoSlice, Read as _, pipe};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fakessh_lab::{GUARD, Lab};
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, recv, sendmsg, socket_with, socketpair,
};
use serde_json::{Value, json};

/// A socket that speaks the protocol.
struct Peer(OwnedFd);

impl Peer {
    /// A socket on which nothing is waited for without end.
    fn new(socket: OwnedFd) -> Peer {
        set_socket_timeout(&socket, Timeout::Recv, Some(GUARD)).unwrap();
        Peer(socket)
    }

    fn connect(lab: &Lab) -> Peer {
        let kind = SocketType::SEQPACKET;
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        let path = lab.fakessh_dir().join("control");
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Peer::new(socket)
    }

    fn send(&self, message: &Value, descriptors: &[BorrowedFd<'_>]) {
        self.send_bytes(message.to_string().as_bytes(), descriptors);
    }

    fn send_bytes(&self, payload: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let pieces = [IoSlice::new(&[0]), IoSlice::new(payload)];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        sendmsg(&self.0, &pieces, &mut ancillary, SendFlags::empty()).unwrap();
    }

    /// The next message; `None` at the end.
    fn receive(&self) -> Option<Value> {
        let mut bytes = vec![0; 65_537];
        // With a time limit of its own a socket is interrupted by each signal (signal(7)), such as
        // that of a child of another test.
        let received = retry_on_intr(|| recv(&self.0, &mut bytes[..], RecvFlags::empty()));
        let (_, len) = received.unwrap();
        if len == 0 {
            return None;
        }
        assert_eq!(bytes[0], 0, "a short message is in the datagram");
        Some(serde_json::from_slice(&bytes[1..len]).unwrap())
    }

    fn request(&self, request: &Value) -> Option<Value> {
        self.send(&json!({"protocol": 1, "request": request}), &[]);
        self.receive()
    }
}

/// A master that runs.
fn master(lab: &Lab) {
    let started = lab.fakessh(["master", "--background"]).run().expect_status(0).out();
    assert_eq!(started, "ready\n");
}

/// The connection of the context of the lab's target.
fn context(lab: &Lab) -> Peer {
    context_held_by(lab, &json!({}))
}

/// The same, held by these rules.
fn context_held_by(lab: &Lab, rules: &Value) -> Peer {
    context_of("remote", lab, rules)
}

/// The connection of the context at the end of this route.
fn context_of(route: &str, lab: &Lab, rules: &Value) -> Peer {
    let peer = Peer::connect(lab);
    let home = lab.local_dir("home");
    let config = lab.config_path();
    let place = json!({"route": {"route": route, "connection": [[0, ["-F", config]]]}});
    let environment = [("HOME", home.to_str().unwrap()), ("PATH", "/usr/bin:/bin")];
    let request = json!({"connect": {"to": place, "rules": rules}});
    peer.send(
        &json!({"protocol": 1, "environment": environment, "directory": home, "request": request}),
        &[],
    );
    let reply = peer.receive().unwrap();
    assert_eq!(reply["done"]["name"], route, "{reply}");
    assert!(reply["done"]["id"].as_str().unwrap().starts_with('@'), "{reply}");
    peer
}

/// A program: the socket of its session, and its outputs. Its input is empty.
fn start(context: &Peer, program: &Value) -> (Peer, [std::io::PipeReader; 2]) {
    let kind = SocketType::SEQPACKET;
    let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let (near, far) = pair.unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let (stdout, to_stdout) = pipe().unwrap();
    let (stderr, to_stderr) = pipe().unwrap();
    let descriptors = [far.as_fd(), null.as_fd(), to_stdout.as_fd(), to_stderr.as_fd()];
    context.send(&json!({"start": {"program": program}}), &descriptors);
    (Peer::new(near), [stdout, stderr])
}

/// All that a session says, up to its last word.
fn said(session: &Peer) -> Vec<Value> {
    let mut said = Vec::new();
    while let Some(message) = session.receive() {
        let is_last = message.get("done").is_some() || message.get("failed").is_some();
        said.push(message);
        if is_last {
            break;
        }
    }
    said
}

#[test]
fn programs_run_and_tell_how_they_end() {
    let lab = Lab::start();
    master(&lab);
    let context = context(&lab);
    let (session, [mut stdout, mut stderr]) =
        start(&context, &json!({"shell": "echo out; echo err >&2; exit 3"}));
    let (mut out, mut err) = (String::new(), String::new());
    stdout.read_to_string(&mut out).unwrap();
    stderr.read_to_string(&mut err).unwrap();
    assert_eq!((&*out, &*err), ("out\n", "err\n"));
    let mut messages = said(&session);
    assert_eq!(messages.pop(), Some(json!({"done": {"code": 3}})));
    messages.sort_by_key(Value::to_string);
    assert_eq!(messages, [json!({"whole": "stderr"}), json!({"whole": "stdout"})]);

    let (session, _streams) = start(&context, &json!({"argv": ["no-such-program"]}));
    let last = said(&session).pop().unwrap();
    assert_eq!(last["failed"]["kind"], "not_found", "{last}");

    let (session, [mut stdout, _stderr]) =
        start(&context, &json!({"argv": ["sh", "-c", "echo up; exec sleep 1000"]}));
    stdout.read_exact(&mut [0; 3]).unwrap();
    session.send(&json!({"signal": 15}), &[]);
    assert_eq!(said(&session).pop(), Some(json!({"done": {"signal": 15}})));
}

#[test]
fn each_program_is_confirmed_and_a_signal_meanwhile_is_not_lost() {
    let lab = Lab::start();
    master(&lab);
    let confirm = json!({"hops": {"ssh": {"confirm": true}}});
    let context = context_held_by(&lab, &confirm);
    for (answer, last) in [
        ("=yes", json!({"done": {"signal": 15}})),
        ("=no", json!({"failed": {"kind": "refused"}})),
        ("", json!({"failed": {"kind": "needs_answer"}})),
    ] {
        let (session, _streams) = start(&context, &json!({"argv": ["sleep", "1000"]}));
        let asked = session.receive().unwrap();
        assert_eq!(asked["ask"]["kind"], "permission", "{asked}");
        assert!(asked["ask"]["text"].as_str().unwrap().contains("sleep 1000"), "{asked}");
        session.send(&json!({"signal": 15}), &[]);
        session.send_bytes(answer.as_bytes(), &[]);
        let mut told = said(&session).pop().unwrap();
        if let Some(failed) = told.get_mut("failed").and_then(Value::as_object_mut) {
            failed.remove("message");
        }
        assert_eq!(told, last);
    }
}

#[test]
fn who_says_no_rules_is_asked_for_by_those_of_what_is_held() {
    let lab = Lab::start();
    master(&lab);
    let _held = context_held_by(&lab, &json!({"routes": {"remote": {"confirm": true}}}));
    // The context itself, and one that hangs on it.
    for route in ["remote", "remote+exec:env"] {
        let context = context_of(route, &lab, &json!({}));
        for (answer, last) in [("=yes", "done"), ("=no", "failed")] {
            let (session, _streams) = start(&context, &json!({"argv": ["true"]}));
            let asked = session.receive().unwrap();
            assert_eq!(asked["ask"]["kind"], "permission", "{route}: {asked}");
            session.send_bytes(answer.as_bytes(), &[]);
            let told = said(&session).pop().unwrap();
            assert!(told.get(last).is_some(), "{route}, {answer}: {told}");
        }
    }
}

#[test]
fn a_message_for_another_connection_is_refused_and_ends_its_own() {
    let lab = Lab::start();
    master(&lab);
    for message in [json!({"signal": 9}), json!("abort"), json!("detach"), json!("ended")] {
        let context = context(&lab);
        context.send(&message, &[]);
        let refused = context.receive().unwrap();
        assert_eq!(refused["failed"]["kind"], "other", "{message}: {refused}");
        assert_eq!(context.receive(), None, "{message}");
    }
    let context = context(&lab);
    for message in
        [json!({"start": {"program": {"argv": ["true"]}}}), json!("close"), json!("ended")]
    {
        let (session, [mut stdout, _stderr]) =
            start(&context, &json!({"argv": ["sh", "-c", "echo up; exec sleep 1000"]}));
        stdout.read_exact(&mut [0; 3]).unwrap();
        session.send(&message, &[]);
        let refused = said(&session).pop().unwrap();
        assert_eq!(refused["failed"]["kind"], "config", "{message}: {refused}");
        assert_eq!(session.receive(), None, "{message}");
        // The program was hung up.
        assert_eq!(stdout.read(&mut [0]).unwrap(), 0, "{message}");
    }
    // The connection of the context goes on.
    let (session, _streams) = start(&context, &json!({"argv": ["true"]}));
    assert_eq!(said(&session).pop(), Some(json!({"done": {"code": 0}})));
}

#[test]
fn a_start_without_a_socket_for_its_session_is_refused() {
    let lab = Lab::start();
    master(&lab);
    let null = std::fs::File::open("/dev/null").unwrap();
    let (reader, writer) = pipe().unwrap();
    let file_first = [null.as_fd(), null.as_fd(), writer.as_fd(), writer.as_fd()];
    for descriptors in [&[][..], &file_first] {
        let context = context(&lab);
        context.send(&json!({"start": {"program": {"argv": ["true"]}}}), descriptors);
        let refused = context.receive().unwrap();
        assert_eq!(refused["failed"]["kind"], "config", "{refused}");
        assert_eq!(context.receive(), None);
    }
    drop(writer);
    // Nobody holds what came along.
    assert_eq!((&reader).read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_context_is_closed_and_its_loss_is_told() {
    let lab = Lab::start();
    master(&lab);
    let context = context(&lab);
    let listed = Peer::connect(&lab).request(&json!("list")).unwrap();
    assert_eq!(listed["done"][0]["name"], "remote", "{listed}");
    context.send(&json!("close"), &[]);
    let lost = context.receive().unwrap();
    assert_eq!(lost["lost"]["kind"], "connection_lost", "{lost}");
    assert_eq!(context.receive(), None);
    assert_eq!(Peer::connect(&lab).request(&json!("list")), Some(json!({"done": []})));
}

#[test]
fn what_is_not_understood_is_refused() {
    let lab = Lab::start();
    master(&lab);
    let failed = |message: &Value| {
        let peer = Peer::connect(&lab);
        peer.send(message, &[]);
        let reply = peer.receive().unwrap();
        reply["failed"]["kind"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    };
    for protocol in [json!(0), json!(2), json!("1"), json!(null)] {
        let kind = failed(&json!({"protocol": protocol, "later": true, "request": "list"}));
        assert_eq!(kind, "version", "{protocol}");
    }
    // A client that is older than protocols.
    assert_eq!(failed(&json!({"version": "0.0.1", "request": "list"})), "version");
    for message in [
        json!({"protocol": 1, "request": "list", "later": 1}),
        json!({"protocol": 1, "request": "later"}),
        json!({"protocol": 1, "request": {"connect": {"to": {"route": "remote"}, "later": 1}}}),
        json!({"protocol": 1, "request": {"connect": {"to": {"later": "remote"}}}}),
        json!({"protocol": 1}),
        json!(7),
    ] {
        failed(&message);
    }
    let no_route = json!({"connect": {"to": {"route": "remote+dokcer:app"}}});
    assert_eq!(failed(&json!({"protocol": 1, "request": no_route})), "config");
    for rules in [
        json!({"hops": {"shs": {"confirm": true}}}),
        json!({"routes": {"remote++": {"confirm": true}}}),
    ] {
        let request = json!({"connect": {"to": {"route": "remote"}, "rules": rules}});
        assert_eq!(failed(&json!({"protocol": 1, "request": request})), "config", "{rules}");
    }
    let options = json!({"route": "remote", "connection": [[0, ["-F", "none", "web1"]]]});
    let request = json!({"connect": {"to": {"route": options}}});
    assert_eq!(failed(&json!({"protocol": 1, "request": request})), "config");
    let later = json!({"lock": {"idle": true, "later": 1}});
    failed(&json!({"protocol": 1, "request": later}));
    let no_route = json!({"connect": {"to": {"host": "remote+sudo"}}});
    let kind = failed(&json!({"protocol": 1, "request": no_route}));
    assert!(["resolve", "config"].contains(&&*kind), "a host from data is no route: {kind}");

    // A start that lacks descriptors, words that are none, and the messages of other connections.
    let context = context(&lab);
    for start in [
        json!({"program": {"argv": ["true"]}, "cwd": "/"}),
        json!({"program": {"tcp": {"host": "localhost", "port": 70_000}}}),
        json!({"program": {"tcp": {"host": "localhost", "port": 1, "later": 2}}}),
        json!({"program": {"later": 1}}),
    ] {
        let pair =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (near, far) = pair.unwrap();
        context.send(&json!({"start": start}), &[far.as_fd()]);
        drop(far);
        let refused = Peer::new(near).receive().unwrap();
        assert_eq!(refused["failed"]["kind"], "config", "{start}: {refused}");
    }
    // Too few descriptors, and the session's own other end among them, which would hold it for ever.
    for holds_itself in [false, true] {
        let pair =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (near, far) = pair.unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let all = [far.as_fd(), near.as_fd(), null.as_fd(), null.as_fd()];
        let descriptors = if holds_itself { &all[..] } else { &all[..1] };
        context.send(&json!({"start": {"program": {"argv": ["true"]}}}), descriptors);
        drop(far);
        let refused = Peer::new(near).receive().unwrap();
        assert_eq!(refused["failed"]["kind"], "config", "{refused}");
    }
    for (program, kind) in [
        (json!({"argv": []}), "config"),
        (json!({"shell": "a\u{0}b"}), "config"),
        (json!({"subsystem": "no-such"}), "not_found"),
    ] {
        let (session, _streams) = start(&context, &program);
        let last = said(&session).pop().unwrap();
        assert_eq!(last["failed"]["kind"], kind, "{program}: {last}");
    }
    for number in [0, 65, 300] {
        let (session, _streams) = start(&context, &json!({"argv": ["sleep", "1000"]}));
        session.send(&json!({"signal": number}), &[]);
        let last = said(&session).pop().unwrap();
        assert_eq!(last["failed"]["kind"], "config", "{number}: {last}");
    }
    context.send(&json!({"signal": 9}), &[]);
    assert_eq!(context.receive().unwrap()["failed"]["kind"], "other");
    assert_eq!(context.receive(), None);
}

#[test]
fn any_client_may_stop_a_master() {
    let lab = Lab::start();
    master(&lab);
    let peer = Peer::connect(&lab);
    peer.send(&json!({"request": "stop", "of": "another time"}), &[]);
    assert_eq!(peer.receive(), None);
}
