//! Masters of a ControlPath (`-M`, `-S`): the real `ssh` is the client of ssh's own, and of ours.

use std::io::{IoSlice, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use fakessh_lab::port::ClosedPort;
use fakessh_lab::running::Running;
use fakessh_lab::{Askpass, Client, Lab, Shell, Tool, both_clients, wait_until};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// A master that keeps the connection and does nothing else.
struct Master<'a> {
    lab: &'a Lab,
    path: PathBuf,
    running: Running,
}

impl Master<'_> {
    fn start(lab: &Lab, client: Client) -> Master<'_> {
        let path = lab.local_dir("control").join("path");
        let words = ["ssh", "-M", "-N", "-S", path.to_str().unwrap(), "remote"];
        let running = lab.tool(client, words).start();
        wait_until(|| path.exists(), "there is no socket");
        Master { lab, path, running }
    }

    /// The real `ssh` with these words, which uses the master.
    fn ssh(&self, words: &[&str]) -> Tool {
        ssh(self.lab, &self.path, words)
    }

    fn end(mut self) {
        self.ssh(&["-O", "exit", "remote"]).run().expect_status(0);
        self.running.wait();
        assert!(!self.path.exists(), "the socket is left");
        assert_eq!(self.lab.logins(), 1, "somebody had a login of its own");
    }
}

fn ssh(lab: &Lab, path: &Path, words: &[&str]) -> Tool {
    let config = lab.config_path().to_str().unwrap();
    let first = ["ssh", "-F", config, "-S", path.to_str().unwrap()];
    lab.program(first.iter().chain(words))
}

both_clients! {
    fn programs_run_over_a_control_path(client) {
        let lab = Lab::start();
        let master = Master::start(&lab, client);
        let done = master.ssh(&["remote", "cat; echo err >&2; exit 3"]).input("in").run();
        done.expect_status(3).expect_out("in").expect_err("err\n");
        let big = "x".repeat(3_000_000);
        let done = master.ssh(&["remote", "cat"]).input(big.as_str()).run();
        assert!(done.expect_status(0).out() == big);
        // The server takes no variables, and its slave does.
        let done = master.ssh(&["-o", "SetEnv=\"LC_TEST=a b\"", "remote", "echo $LC_TEST"]).run();
        done.expect_status(0).expect_out(if client == Client::Ssh { "\n" } else { "a b\n" });
        let status = master.ssh(&["remote", "kill -9 $$"]).run().code();
        assert_eq!(status, client.status_of_signal(9));
        // A reader that leaves.
        let script = format!(
            "ssh -F {} -S {} remote 'yes; echo ended >&2' | head -n 1",
            lab.config_path().display(),
            master.path.display()
        );
        lab.program(["sh", "-c", &script]).run().expect_status(0).expect_out("y\n");
        // A subsystem.
        let config = lab.config_path().to_str().unwrap();
        let path = format!("ControlPath={}", master.path.display());
        std::fs::write(lab.local_dir("in").join("file"), "text").unwrap();
        let put = format!("put {}/file copy\nget copy {}/back\n", lab.local_dir("in").display(), lab.local_dir("in").display());
        let sftp = lab.program(["sftp", "-F", config, "-o", &path, "-b", "-", "remote"]);
        sftp.input(put).run().expect_status(0);
        assert_eq!(std::fs::read_to_string(lab.local_dir("in").join("back")).unwrap(), "text");
        master.end();
        lab.expect_nothing_left();
    }

    fn a_terminal_over_a_control_path_is_one(client) {
        let lab = Lab::start();
        let master = Master::start(&lab, client);
        let mut terminal = Shell::start(&lab);
        terminal.resize(100, 30);
        let config = lab.config_path().display();
        terminal.types(&format!("ssh -F {config} -S {} remote\n", master.path.display()));
        terminal.types("PS1='there> '\n");
        terminal.shows("there> ");
        terminal.types("tty; stty size; echo kind=$TERM\n");
        terminal.shows("/dev/pts/");
        terminal.shows("30 100");
        terminal.shows("kind=xterm");
        terminal.shows("there> ");
        terminal.types("(trap 'stty size; kill $!; exit' WINCH; sleep 1000 & echo rea''dy; wait)\n");
        terminal.shows("ready\r\n");
        terminal.resize(77, 20);
        terminal.shows("20 77\r\n");
        terminal.shows("there> ");
        terminal.types("sh -c \"trap 'echo inter''rupted; exit' INT; echo go''ing; read x\"\n");
        terminal.shows("going\r\n");
        terminal.types("\x03");
        terminal.shows("interrupted\r\n");
        terminal.shows("there> ");
        terminal.types("exit 7\n");
        terminal.shows(" closed.\r");
        terminal.types("echo status=$?\n");
        terminal.shows("status=7");
        terminal.exit();
        master.end();
    }

    fn forwards_are_opened_and_cancelled_over_a_control_path(client) {
        let lab = Lab::start();
        let master = Master::start(&lab, client);
        let here = ClosedPort::any();
        let forward = format!("{}:127.0.0.1:{}", here.number(), lab.port());
        master.ssh(&["-O", "forward", "-L", &forward, "remote"]).run().expect_status(0);
        let is_open = |port: u16| {
            let mut banner = [0; 4];
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
            std::io::Read::read_exact(&mut stream, &mut banner).ok()?;
            Some(banner == *b"SSH-")
        };
        assert_eq!(is_open(here.number()), Some(true));
        master.ssh(&["-O", "cancel", "-L", &forward, "remote"]).run().expect_status(0);
        wait_until(|| is_open(here.number()).is_none(), "the forward is there still");
        let done = master.ssh(&["-O", "cancel", "-L", &forward, "remote"]).run();
        assert!(done.err().contains("port not forwarded"), "{}", done.shown());
        let forward = format!("0:127.0.0.1:{}", lab.port());
        let port = master.ssh(&["-O", "forward", "-R", &forward, "remote"]).run();
        let port: u16 = port.expect_status(0).out().trim().parse().unwrap();
        assert_eq!(is_open(port), Some(true));
        // As for a program that brings its own forward, and for standard input and output.
        let socks = ClosedPort::any();
        let words = ["-D", &socks.number().to_string(), "remote", "echo on"];
        master.ssh(&words).run().expect_status(0).expect_out("on\n");
        let to = format!("127.0.0.1:{}", lab.port());
        let done = master.ssh(&["-W", &to, "remote"]).input("x\r\n").run();
        assert!(done.out().starts_with("SSH-"), "{}", done.shown());
        master.end();
        lab.expect_nothing_left();
    }

    fn a_forward_that_is_cancelled_keeps_its_connections(client) {
        let lab = Lab::start();
        let master = Master::start(&lab, client);
        let here = ClosedPort::any();
        let there = ClosedPort::any();
        for (option, listens) in [("-L", here.number()), ("-R", there.number())] {
            let forward = format!("{listens}:127.0.0.1:{}", lab.port());
            master.ssh(&["-O", "forward", option, &forward, "remote"]).run().expect_status(0);
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", listens)).unwrap();
            let mut banner = [0; 4];
            std::io::Read::read_exact(&mut stream, &mut banner).unwrap();
            // Who asks for it twice has it once.
            master.ssh(&["-O", "forward", option, &forward, "remote"]).run().expect_status(0);
            master.ssh(&["-O", "cancel", option, &forward, "remote"]).run().expect_status(0);
            wait_until(
                || std::net::TcpStream::connect(("127.0.0.1", listens)).is_err(),
                "the forward is there still",
            );
            // The server says something more.
            stream.write_all(b"no ssh\r\n").unwrap();
            let mut rest = String::new();
            std::io::Read::read_to_string(&mut stream, &mut rest).unwrap();
            assert!(rest.contains("Invalid SSH identification string"), "{rest:?}");
            master.ssh(&["-O", "forward", option, &forward, "remote"]).run().expect_status(0);
        }
        master.end();
        lab.expect_nothing_left();
    }

    fn a_master_says_that_it_is_there_and_stops_and_ends(client) {
        let lab = Lab::start();
        let master = Master::start(&lab, client);
        let done = master.ssh(&["-O", "check", "remote"]).run().expect_status(0);
        assert!(done.err().starts_with("Master running (pid="), "{}", done.shown());
        let mut session = master.ssh(&["remote", "echo up; cat"]).input_open().start();
        assert_eq!(session.read_line().as_deref(), Some("up"));
        let done = master.ssh(&["-O", "stop", "remote"]).run().expect_status(0);
        assert!(done.err().contains("Stop listening request sent."), "{}", done.shown());
        wait_until(|| !master.path.exists(), "the socket is left");
        // What runs goes on.
        session.write(b"on\n").unwrap();
        session.close_stdin();
        session.finish().expect_status(0).expect_out("up\non\n");
        let done = master.ssh(&["-O", "check", "remote"]).run().expect_status(255);
        assert!(done.err().contains("No such file or directory"), "{}", done.shown());
        let Master { running, .. } = master;
        running.signal(rustix::process::Signal::TERM);
        running.finish();
    }

    fn with_persistence_a_master_goes_to_the_background(client) {
        let lab = Lab::start();
        let path = lab.local_dir("control").join("path");
        let control = path.to_str().unwrap();
        let words = ["ssh", "-M", "-S", control, "-o", "ControlPersist=1m", "remote", "echo one; exit 5"];
        lab.tool(client, words).run().expect_status(5).expect_out("one\n");
        ssh(&lab, &path, &["remote", "echo two"]).run().expect_status(0).expect_out("two\n");
        let exit = ssh(&lab, &path, &["-O", "exit", "remote"]).run().expect_status(0);
        assert!(exit.err().contains("Exit request sent."), "{}", exit.shown());
        wait_until(|| !path.exists(), "the socket is left");
        assert_eq!(lab.logins(), 1);
        lab.expect_nothing_left();
    }

    fn a_socket_that_is_there_already_is_said(client) {
        let lab = Lab::start();
        let master = Master::start(&lab, client);
        let control = master.path.to_str().unwrap();
        let done = lab.tool(client, ["ssh", "-M", "-S", control, "remote", "echo on"]).run();
        assert!(done.err().contains("already exists, disabling multiplexing"), "{}", done.shown());
        done.expect_status(0).expect_out("on\n");
        let Master { running, path, .. } = master;
        running.signal(rustix::process::Signal::TERM);
        running.finish();
        wait_until(|| !path.exists(), "the socket is left");
    }
}

#[test]
fn a_forward_of_another_session_is_not_for_a_client_to_cancel() {
    let lab = Lab::start();
    let forward = format!("{}:127.0.0.1:{}", ClosedPort::any().number(), lab.port());
    let words = ["ssh", "-L", &forward, "remote", "echo up; cat"];
    let mut other = lab.tool(Client::Fakessh, words).input_open().start();
    assert_eq!(other.read_line().as_deref(), Some("up"));
    let master = Master::start(&lab, Client::Fakessh);
    let cancel = || master.ssh(&["-O", "cancel", "-L", &forward, "remote"]).run();
    let refused = cancel();
    assert!(refused.err().contains("port not forwarded"), "{}", refused.shown());
    let number: u16 = forward.split(':').next().unwrap().parse().unwrap();
    let is_open = || std::net::TcpStream::connect(("127.0.0.1", number)).is_ok();
    assert!(is_open());
    // Shared with a client, it is the other session's still.
    master.ssh(&["-O", "forward", "-L", &forward, "remote"]).run().expect_status(0);
    cancel().expect_status(0);
    assert!(is_open());
    other.close_stdin();
    other.finish().expect_status(0);
    assert!(!is_open());
    master.end();
    lab.expect_nothing_left();
}

#[test]
fn each_use_over_a_control_path_is_confirmed() {
    let lab = Lab::start();
    lab.configure("[route.prod]\nvia = \"remote\"\nconfirm = true\n");
    let path = lab.local_dir("control").join("path");
    let start = || {
        let words = ["-M", "-N", "-S", path.to_str().unwrap(), "prod"];
        lab.plain_ssh(Client::Fakessh, &words)
    };
    let here = ClosedPort::any();
    let forward = format!("{}:127.0.0.1:{}", here.number(), lab.port());
    let open = || ssh(&lab, &path, &["-O", "forward", "-L", &forward, "remote"]).run();
    let is_open = || std::net::TcpStream::connect(("127.0.0.1", here.number())).is_ok();
    let exit = |mut running: Running| {
        ssh(&lab, &path, &["-O", "exit", "remote"]).run().expect_status(0);
        running.wait();
    };
    // Nobody can be asked.
    let running = start().start();
    wait_until(|| path.exists(), "there is no socket");
    let refused = open();
    assert!(refused.err().contains("has to be confirmed"), "{}", refused.shown());
    assert!(!is_open());
    ssh(&lab, &path, &["remote", "echo used"]).run().expect_status(255).expect_out("");
    exit(running);
    // The person at the master is.
    let askpass = Askpass::new(&lab, "answers", &["no", "yes", "yes"]);
    let running = askpass.for_tool(start()).start();
    wait_until(|| path.exists(), "there is no socket");
    let refused = open();
    assert!(refused.err().contains("was not allowed"), "{}", refused.shown());
    assert!(!is_open());
    open().expect_status(0);
    assert!(is_open());
    ssh(&lab, &path, &["remote", "echo used"]).run().expect_status(0).expect_out("used\n");
    let asked = askpass.asked();
    assert!(asked.contains(&format!("-L localhost:{forward}")), "{asked}");
    assert!(asked.contains("echo used"), "{asked}");
    exit(running);
    lab.expect_nothing_left();
}

#[test]
fn who_has_used_a_master_and_what_for_is_in_the_audit_log() {
    let lab = Lab::start();
    let master = Master::start(&lab, Client::Fakessh);
    let forward = format!("{}:127.0.0.1:{}", ClosedPort::any().number(), lab.port());
    master.ssh(&["-O", "forward", "-L", &forward, "remote"]).run().expect_status(0);
    master.ssh(&["-O", "cancel", "-L", &forward, "remote"]).run().expect_status(0);
    let event = lab.wait_for_event("forward", &[("context", "remote")]);
    assert_eq!(event["forward"], format!("-L localhost:{forward}"));
    assert_eq!((event["connections"].as_u64(), event["id"].as_str()), (Some(0), Some("@1")));
    assert!(event["by"]["pid"].as_u64().unwrap() > 1, "{event}");
    master.ssh(&["remote", "exit 3"]).run().expect_status(3);
    let session = lab.wait_for_event("session", &[("program", "command")]);
    assert_eq!((&session["host"], session["status"].as_u64()), (&"remote".into(), Some(3)));
    assert!(session["by"]["pid"].as_u64().unwrap() > 1, "{session}");
    assert_ne!(session["by"]["pid"], event["by"]["pid"]);
    master.end();
}

#[test]
fn a_client_that_lies_is_let_go_and_no_other() {
    let lab = Lab::start();
    let master = Master::start(&lab, Client::Fakessh);
    let packet = |numbers: &[u32]| -> Vec<u8> {
        let payload: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        [&(payload.len() as u32).to_be_bytes()[..], &payload].concat()
    };
    let hello = packet(&[1, 4]);
    for lie in [
        packet(&[7, 7]),
        u32::MAX.to_be_bytes().to_vec(),
        [&hello[..], &packet(&[0x1000_0002, 1, u32::MAX])].concat(),
        [&hello[..], &packet(&[0x1000_0006, 1, 9, 0, 0, 0, 0])].concat(),
        [&hello[..], &packet(&[0x1000_0002, 1, 0, 0, 0, 0, 0, 0, 0, 0]), b"abc"].concat(),
        [&hello[..], &packet(&[0x1000_0004])].concat(),
    ] {
        let mut stream = UnixStream::connect(&master.path).unwrap();
        stream.write_all(&lie).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    }
    // More descriptors than a session has.
    let mut stream = UnixStream::connect(&master.path).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    for byte in hello {
        let descriptors = [null.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        // It may have been let go already.
        let _ = sendmsg(&stream, &[IoSlice::new(&[byte])], &mut control, SendFlags::NOSIGNAL);
    }
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    master.ssh(&["remote", "echo on"]).run().expect_status(0).expect_out("on\n");
    master.end();
}
