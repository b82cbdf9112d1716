//! The literal bytes of everything that is said: a change of codec, of a field's order or of a
//! variant's place shows here, and wants a new version of the program at both ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Debug;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::forward::{Forward, ForwardOptions, Listen, ListenAddress};
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::invocation::{
    Destination, ForwardAgent, Invocation, Multiplex, Request, SessionKeywords,
};
use fakessh_protocol::message::{
    Accepted, Connection, FromShim, Handoff, Hello, Helper, HelperTerminal, LinkSettings,
    ListenAnswer, Notice, Peer, ProgramKind, ProgramSetup, Question, QuestionKind, RealWords,
    Refusal, RefusalReason, Secret, SocketFileName, Spawn, Started, ToMaster, ToShim, ToSlave,
    Tool,
};
use fakessh_protocol::mux::{Mux, Transmit};
use fakessh_protocol::start;
use fakessh_protocol::terminal::{RequestTty, TerminalRequest, WindowSize};
use fakessh_protocol::wire::{self, Handle, Header, Kind};
use serde::{Serialize, de::DeserializeOwned};

/// A message is these bytes, and these bytes are the message.
#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(message: T, bytes: &[&[u8]]) {
    let bytes = bytes.concat();
    assert_eq!(*wire::encode(&message).unwrap(), bytes, "{message:?}");
    assert_eq!(wire::decode::<T>(&bytes).unwrap(), message);
    for cut in 0..bytes.len() {
        wire::decode::<T>(&bytes[..cut]).expect_err("a message that is cut is none");
    }
    wire::decode::<T>(&[&bytes[..], &[0]].concat()).expect_err("one message, not more");
}

#[test]
fn headers_of_frames() {
    let golden = |kind, len, handle, bytes: [u8; 8]| {
        let header = Header { kind, len, handle: Handle(handle) };
        assert_eq!(header.encode(), bytes);
        assert_eq!(Header::decode(bytes).unwrap(), header);
    };
    golden(Kind::Data, 65_528, 0x0403_0201, [1, 0xf8, 0xff, 0, 1, 2, 3, 4]);
    golden(Kind::Eof, 0, 5, [2, 0, 0, 0, 5, 0, 0, 0]);
    golden(Kind::Reset, 0, 5, [3, 0, 0, 0, 5, 0, 0, 0]);
    golden(Kind::Credit, 4, 5, [4, 4, 0, 0, 5, 0, 0, 0]);
    golden(Kind::Stop, 0, 5, [5, 0, 0, 0, 5, 0, 0, 0]);
    golden(Kind::Blocked, 0, 5, [6, 0, 0, 0, 5, 0, 0, 0]);
    golden(Kind::Message, 0x0003_0201, 0, [7, 1, 2, 3, 0, 0, 0, 0]);
    golden(Kind::Ping, 8, 0, [8, 8, 0, 0, 0, 0, 0, 0]);
    golden(Kind::Pong, 8, 0, [9, 8, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn frames_as_the_mux_sends_them() {
    let mut mux = Mux::new();
    let (up, down) = (Handle(5), Handle(6));
    mux.open_sending(up).unwrap();
    mux.open_receiving(down).unwrap();
    mux.message(Handle(4), &ToSlave::Hangup).unwrap();
    mux.probe();
    mux.receive(&[8, 8, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    for _ in 0..4 {
        mux.receive(&[1, 0, 0x80, 0, 6, 0, 0, 0]).unwrap();
        mux.took(32_768);
    }
    mux.consumed(down, 131_072);
    mux.offer(up, 3);
    mux.finish(up);
    let control = |bytes: &[u8]| Some(Transmit::Control(bytes.to_vec().into()));
    assert_eq!(mux.transmit(), control(&[7, 1, 0, 0, 4, 0, 0, 0, 3]));
    assert_eq!(mux.transmit(), control(&[9, 8, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!(mux.transmit(), control(&[8, 8, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(mux.transmit(), control(&[4, 4, 0, 0, 6, 0, 0, 0, 0, 0, 2, 0]));
    let header = [1, 3, 0, 0, 5, 0, 0, 0];
    assert_eq!(mux.transmit(), Some(Transmit::Data { header, handle: up, len: 3 }));
    assert_eq!(mux.transmit(), control(&[2, 0, 0, 0, 5, 0, 0, 0]));
    mux.stop(down);
    assert_eq!(mux.transmit(), control(&[5, 0, 0, 0, 6, 0, 0, 0]));
    mux.open_sending(up).unwrap();
    mux.reset(up);
    assert_eq!(mux.transmit(), control(&[3, 0, 0, 0, 5, 0, 0, 0]));
}

#[test]
fn from_the_master_to_a_slave() {
    let settings = LinkSettings { keepalive_ms: 15_000, silence_ms: 900_000 };
    golden(ToSlave::Settings(settings), &[&[0, 251, 0x98, 0x3a, 252, 0xa0, 0xbb, 0x0d, 0]]);
    let spawn_with = |program, setup| {
        let handles = SessionHandles {
            control: Handle(4),
            stdin: Handle(5),
            stdout: Handle(6),
            stderr: Handle(0x0001_0000),
        };
        ToSlave::Spawn(Spawn { handles, program, setup })
    };
    let spawn = |program, environment: Vec<_>| spawn_with(program, environment.into());
    let handles = &[1, 4, 5, 6, 252, 0, 0, 1, 0];
    let shell = ProgramKind::Shell(b"ls\xff".to_vec());
    let environment = vec![(b"LANG".to_vec(), b"C".to_vec()), (b"E".to_vec(), Vec::new())];
    golden(
        spawn(shell, environment),
        &[handles, &[0, 3], b"ls\xff", &[2, 4], b"LANG", &[1], b"C", &[1], b"E", &[0, 0, 0, 0]],
    );
    golden(spawn(ProgramKind::Login, Vec::new()), &[handles, &[1, 0, 0, 0, 0]]);
    let terminal = TerminalRequest {
        term: b"vt100".to_vec(),
        size: WindowSize { columns: 80, rows: 24, width: 640, height: 0 },
        modes: vec![(1, 3), (129, 38_400)],
    };
    let directory = b"/srv".to_vec();
    let setup = ProgramSetup { directory, terminal: Some(terminal), ..ProgramSetup::default() };
    let terminal: &[&[u8]] =
        &[&[5], b"vt100", &[80, 24, 251, 0x80, 2, 0], &[2, 1, 3, 129, 251, 0, 0x96, 0]];
    let start: &[&[u8]] = &[handles, &[1, 0, 4], b"/srv", &[1]];
    golden(spawn_with(ProgramKind::Login, setup), &[start, terminal].concat());
    let subsystem = ProgramKind::Subsystem("sftp".into());
    golden(spawn(subsystem, Vec::new()), &[handles, &[2, 4], b"sftp", &[0, 0, 0, 0]]);
    let helper = |terminal, carries| {
        ProgramKind::Helper(Helper { argv: vec![b"su".to_vec()], terminal, carries })
    };
    let sudo = helper(HelperTerminal::Controlling, true);
    golden(spawn(sudo, Vec::new()), &[handles, &[3, 1, 2], b"su", &[1, 1, 0, 0, 0, 0]]);
    let su = helper(HelperTerminal::Whole, false);
    golden(spawn(su, Vec::new()), &[handles, &[3, 1, 2], b"su", &[2, 0, 0, 0, 0, 0]]);
    let docker = helper(HelperTerminal::None, false);
    golden(spawn(docker, Vec::new()), &[handles, &[3, 1, 2], b"su", &[0, 0, 0, 0, 0, 0]]);
    let connection = |peer, reports| ProgramKind::Connection(Connection { peer, reports });
    let tcp = connection(Peer::Tcp { host: "db1".into(), port: 22 }, false);
    golden(spawn(tcp, Vec::new()), &[handles, &[4, 0, 3], b"db1", &[22, 0, 0, 0, 0, 0]]);
    let unix = connection(Peer::Unix(b"/r/s\xff".to_vec()), true);
    golden(spawn(unix, Vec::new()), &[handles, &[4, 1, 5], b"/r/s\xff", &[1, 0, 0, 0, 0]]);
    let tool = ProgramKind::Tool(Tool { argv: vec![b"git".to_vec()] });
    golden(spawn(tool, Vec::new()), &[handles, &[5, 1, 3], b"git", &[0, 0, 0, 0]]);
    golden(ToSlave::Signal(15), &[&[2, 15]]);
    golden(ToSlave::Hangup, &[&[3]]);
    golden(ToSlave::Type(Secret("pw".into())), &[&[4, 2], b"pw"]);
    golden(ToSlave::ToShim(ToShim::Started(Started::default())), &[&[5, 2, 0, 0]]);
    let size = WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
    golden(ToSlave::Resize(size), &[&[6, 80, 24, 0, 0]]);
    let address = ListenAddress::Tcp { host: None, port: 80 };
    let listen = Listen { address, unlink: false, mask: 0o177 };
    golden(ToSlave::Listen(listen), &[&[7, 0, 0, 80, 0, 127]]);
    let listen = Listen { address: ListenAddress::Unix(b"/s".into()), unlink: true, mask: 0 };
    golden(ToSlave::Listen(listen), &[&[7, 1, 2], b"/s", &[1, 0]]);
    golden(ToSlave::ListenForAgent, &[&[8]]);
}

#[test]
fn from_a_slave_to_the_master() {
    let hello = Hello { user: "root".into(), uid: 1000, home: "/r".into(), pid: 77 };
    golden(ToMaster::Hello(hello), &[&[0, 4], b"root", &[251, 0xe8, 3, 2], b"/r", &[77]]);
    golden(ToMaster::Exited(ExitStatus::Code(255)), &[&[1, 0, 255]]);
    golden(ToMaster::Exited(ExitStatus::Signal(9)), &[&[1, 1, 9]]);
    let reasons = [RefusalReason::NotFound, RefusalReason::Limit, RefusalReason::Other];
    for (number, reason) in (0..).zip(reasons) {
        let refusal = Refusal { reason, message: "no".into() };
        golden(ToMaster::Refused(refusal), &[&[2, number, 2], b"no"]);
    }
    golden(ToMaster::FromShim(FromShim::Signal(2)), &[&[4, 1, 2]]);
    golden(ToMaster::Gone, &[&[5]]);
    golden(ToMaster::Listening(300), &[&[6, 251, 44, 1]]);
    let (listener, handles) = (Handle(8), SessionHandles::of(Handle(16)));
    let accepted = Accepted { listener, handles, from: "::1".into() };
    golden(ToMaster::Accepted(accepted), &[&[7, 8, 16, 17, 18, 19, 3], b"::1"]);
}

#[test]
fn from_the_master_to_a_shim() {
    let kinds = [QuestionKind::Secret, QuestionKind::Line, QuestionKind::Confirm];
    for (number, kind) in (0..).zip(kinds) {
        let question = Question { kind, text: "P:".into(), hop: None };
        golden(ToShim::Ask(question), &[&[0, number, 2], b"P:", &[0]]);
    }
    let question = Question { hop: Some("a+su".into()), ..Question::secret("P:") };
    golden(ToShim::Ask(question), &[&[0, 0, 2], b"P:", &[1, 4], b"a+su"]);
    golden(ToShim::Notice(Notice::ours("hm")), &[&[1, 0, 2], b"hm"]);
    golden(ToShim::Notice(Notice::from("h", "hm")), &[&[1, 1, 1], b"h", &[2], b"hm"]);
    let started = Started { on_terminal: true, escape: Some(b'~') };
    golden(ToShim::Started(started), &[&[2, 1, 1, b'~']]);
    let address = ListenAddress::Tcp { host: Some(String::new()), port: 80 };
    let listen = Listen { address, unlink: false, mask: 0 };
    golden(ToShim::Listen(listen), &[&[3, 0, 1, 0, 80, 0, 0]]);
    golden(ToShim::Connect(5, Peer::Unix(b"/s".to_vec())), &[&[4, 5, 1, 2], b"/s"]);
    golden(ToShim::Exited(ExitStatus::Code(3)), &[&[5, 0, 3]]);
    let lost = Failure::new(FailureKind::ConnectionLost, "lost");
    golden(ToShim::Failed(lost), &[&[6, 10, 4], b"lost"]);
    for (number, words) in (0..).zip([RealWords::With, RealWords::These]) {
        let message = ToShim::RealSsh { why: "why".into(), words: words(vec![b"-v".to_vec()]) };
        golden(message, &[&[7, 3], b"why", &[number, 1, 2], b"-v"]);
    }
}

#[test]
fn from_a_shim_to_the_master() {
    golden(FromShim::Answer(None), &[&[0, 0]]);
    golden(FromShim::Answer(Some(Secret("pw".into()))), &[&[0, 1, 2], b"pw"]);
    golden(FromShim::Signal(2), &[&[1, 2]]);
    let size = WindowSize { columns: 300, rows: 24, width: 0, height: 1 };
    golden(FromShim::Resize(size), &[&[2, 251, 44, 1, 24, 0, 1]]);
    let file = Some(SocketFileName { name: b"so".to_vec(), device: 8, inode: 9 });
    let answer = ListenAnswer { why_not: "no".into(), file };
    golden(FromShim::Showing(true), &[&[3, 1]]);
    golden(FromShim::Background(7), &[&[4, 7]]);
    golden(FromShim::WindowChanged, &[&[5]]);
    golden(FromShim::Listening(answer), &[&[6, 2], b"no", &[1, 2], b"so", &[8, 9]]);
    golden(FromShim::Connected(5, String::new()), &[&[7, 5, 0]]);
}

#[test]
fn what_an_invocation_wants() {
    golden(Request::Login, &[&[0]]);
    golden(Request::Command(b"id".to_vec()), &[&[1, 2], b"id"]);
    golden(Request::Subsystem("sftp".into()), &[&[2, 4], b"sftp"]);
    golden(Request::Nothing, &[&[3]]);
    golden(Request::Tool(vec![b"git".to_vec()]), &[&[4, 1, 3], b"git"]);
    golden(Request::Program(vec![b"id".to_vec()]), &[&[5, 1, 2], b"id"]);
    golden(Request::Configuration, &[&[6]]);
    let peer = Peer::Unix(b"/s".to_vec());
    let connection = Connection { peer, reports: true };
    golden(Request::Connection(connection), &[&[7, 1, 2], b"/s", &[1]]);
    golden(Request::Stdio(Peer::Unix(b"/s".to_vec())), &[&[8, 1, 2], b"/s"]);
    let local = Forward::local("80:a:81").unwrap();
    golden(local, &[&[0, 0, 0, 80, 1, 0, 1], b"a", &[81]]);
    golden(Forward::remote("/s").unwrap(), &[&[1, 1, 2], b"/s", &[0]]);
}

#[test]
fn a_handoff() {
    let full = Invocation {
        destination: Destination { user: Some("me".into()), host: "web1".into(), port: Some(2222) },
        request: Request::Command(b"id".to_vec()),
        connection: vec![b"-i".to_vec(), b"key".to_vec()],
        batch: true,
        send_env: vec!["LC_*".into()],
        set_env: vec![(b"A".to_vec(), b"b".to_vec())],
        environment: vec![(b"HOME".to_vec(), b"/h".to_vec())],
        directory: b"/tmp".to_vec(),
        starts_in: b"/s".to_vec(),
        terminal: Some(TerminalRequest::default()),
        request_tty: Some(RequestTty::Force),
        forwards: vec![Forward::dynamic("80").unwrap()],
        forward_options: ForwardOptions {
            clear_all: Some(true),
            bind_mask: Some(2),
            ..ForwardOptions::default()
        },
        agent: Some(ForwardAgent::At("/a".into())),
        multiplex: Some(Multiplex { path: b"/c".to_vec(), idle_seconds: Some(60) }),
        unserved: Some("-L".into()),
        announce: true,
        given: SessionKeywords { session_type: true, ..SessionKeywords::default() },
        verbosity: 3,
    };
    let destination: &[&[u8]] = &[&[1, 2], b"me", &[4], b"web1", &[1, 251, 0xae, 0x08]];
    let wanted: &[&[u8]] = &[&[1, 2], b"id", &[2, 2], b"-i", &[3], b"key", &[1]];
    let surroundings: &[&[u8]] = &[
        &[1, 4],
        b"LC_*",
        &[1, 1],
        b"A",
        &[1],
        b"b",
        &[1, 4],
        b"HOME",
        &[2],
        b"/h",
        &[4],
        b"/tmp",
    ];
    let rest: &[&[u8]] = &[
        &[2],
        b"/s",
        &[1, 0, 0, 0, 0, 0, 0],
        &[1, 3],
        &[1, 0, 0, 0, 80, 0],
        &[0, 0, 1, 1, 0, 1, 2, 0],
        &[1, 2, 2],
        b"/a",
        &[1, 2],
        b"/c",
        &[1, 60],
        &[1, 2],
        b"-L",
        &[1],
        &[0, 1, 0],
        &[3],
    ];
    let invocation = [destination, wanted, surroundings, rest].concat().concat();
    golden(full.clone(), &[&invocation]);
    let handoff = Handoff { version: "0.1.0".into(), invocation: full };
    golden(handoff, &[&[5], b"0.1.0", &invocation]);

    let bare = Invocation {
        destination: Destination { host: "h".into(), ..Destination::default() },
        ..Invocation::default()
    };
    golden(bare, &[&[0, 1], b"h", &[0], &[0; 25]]);
}

#[test]
fn the_start_of_a_link() {
    assert_eq!(start::preamble("ab12"), b"\0fakessh start ab12\n");
    assert_eq!(start::readiness("ab12"), "fakessh ready ab12");
    assert_eq!(start::complaint("ab12"), "fakessh failed ab12 ");
}
