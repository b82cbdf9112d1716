//! Descriptors that fakessh did not open are as they were when it is done with them.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use fakessh_lab::files::copy_program;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Gate, Lab, SharedLab, binary, both_clients, pattern};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

static LAB: SharedLab = SharedLab::new(Lab::start);

/// The status flags of the open file description.
fn flags(fd: impl AsFd) -> OFlags {
    fcntl_getfl(fd).unwrap()
}

fn set_nonblocking(fd: impl AsFd) {
    let flags = flags(&fd);
    fcntl_setfl(fd, flags | OFlags::NONBLOCK).unwrap();
}

/// A terminal without echo: what is on the screen is what a program wrote.
fn terminal() -> (File, File) {
    let (screen, terminal) = fakessh_lab::terminal::pair();
    let mut modes = tcgetattr(&terminal).unwrap();
    modes.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &modes).unwrap();
    (screen, terminal)
}

both_clients! {
    fn pipes_stay_blocking_while_a_session_runs_and_after_it(client) {
        let lab = LAB.get();
        let gate = Gate::new(&lab);
        let (input, mut input_end): (PipeReader, PipeWriter) = std::io::pipe().unwrap();
        let (mut output_end, output) = std::io::pipe().unwrap();
        let (mut error_end, error) = std::io::pipe().unwrap();
        let before = [flags(&input), flags(&output), flags(&error)];
        let command = format!("cat; echo err >&2; cat {}", gate.path());
        let running = lab
            .tool(client, ["ssh", "remote", &command])
            .stdin(OwnedFd::from(input.try_clone().unwrap()))
            .stdout(OwnedFd::from(output.try_clone().unwrap()))
            .stderr(OwnedFd::from(error.try_clone().unwrap()))
            .start();
        input_end.write_all(b"in\n").unwrap();
        drop(input_end);
        let mut line = [0; 3];
        output_end.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"in\n");
        let during = [flags(&input), flags(&output), flags(&error)];
        gate.open("end\n");
        running.finish().expect_status(0);
        assert_eq!([flags(&input), flags(&output), flags(&error)], before);
        // OpenSSH sets O_NONBLOCK for as long as it runs. Ours never does.
        if client == fakessh_lab::Client::Fakessh {
            assert_eq!(during, before);
        }
        drop((output, error));
        let (mut out, mut err) = (String::new(), String::new());
        output_end.read_to_string(&mut out).unwrap();
        error_end.read_to_string(&mut err).unwrap();
        assert_eq!((out.as_str(), err.as_str()), ("end\n", "err\n"));
    }

    fn files_are_read_from_and_written_to_where_their_position_is(client) {
        let lab = LAB.get();
        let dir = lab.local_dir(&format!("files-{client:?}"));
        let path = |name| dir.join(name);
        std::fs::write(path("in"), "skipped\nread\n").unwrap();
        let mut input = File::open(path("in")).unwrap();
        input.seek(std::io::SeekFrom::Start(8)).unwrap();
        let mut output = File::create(path("out")).unwrap();
        output.write_all(b"before\n").unwrap();
        let error = File::options().append(true).create(true).open(path("err")).unwrap();
        let before = [flags(&input), flags(&output), flags(&error)];
        lab.tool(client, ["ssh", "remote", "cat; echo err >&2"])
            .stdin(OwnedFd::from(input.try_clone().unwrap()))
            .stdout(OwnedFd::from(output.try_clone().unwrap()))
            .stderr(OwnedFd::from(error.try_clone().unwrap()))
            .run()
            .expect_status(0);
        assert_eq!([flags(&input), flags(&output), flags(&error)], before);
        output.write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read_to_string(path("out")).unwrap(), "before\nread\nafter\n");
        assert_eq!(std::fs::read_to_string(path("err")).unwrap(), "err\n");
    }

    fn a_terminal_keeps_its_flags_and_modes(client) {
        let lab = LAB.get();
        let (mut screen, terminal) = terminal();
        let (before, modes) = (flags(&terminal), tcgetattr(&terminal).unwrap());
        let give = || OwnedFd::from(terminal.try_clone().unwrap());
        let running = lab
            .tool(client, ["ssh", "-T", "remote", "read line; echo got $line; echo err >&2"])
            .stdin(give())
            .stdout(give())
            .stderr(give())
            .start();
        screen.write_all(b"typed\n").unwrap();
        running.finish().expect_status(0);
        assert_eq!(flags(&terminal), before);
        let after = tcgetattr(&terminal).unwrap();
        assert_eq!(
            (after.input_modes, after.output_modes, after.local_modes, after.control_modes),
            (modes.input_modes, modes.output_modes, modes.local_modes, modes.control_modes)
        );
        let mut shown = [0; 14];
        screen.read_exact(&mut shown).unwrap();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(shown.contains("got typed\n") && shown.contains("err\n"), "{shown:?}");
    }

    fn a_non_blocking_socket_of_rsync_passes_everything(client) {
        let lab = LAB.get();
        let (mut near, far) = UnixStream::pair().unwrap();
        set_nonblocking(&far);
        let give = || OwnedFd::from(far.try_clone().unwrap());
        // Much more than the socket holds, so that writing to it would block.
        let running = lab
            .tool(client, ["ssh", "remote", "cat; head -c 8000000 /dev/zero"])
            .stdin(give())
            .stdout(give())
            .start();
        near.write_all(b"hello").unwrap();
        near.shutdown(std::net::Shutdown::Write).unwrap();
        let before = flags(&far);
        drop(far);
        let mut got = Vec::new();
        near.read_to_end(&mut got).unwrap();
        running.finish().expect_status(0);
        assert!(before.contains(OFlags::NONBLOCK));
        assert_eq!((got.len(), &got[..5]), (8_000_005, &b"hello"[..]));
    }
}

#[test]
fn a_socket_pair_stays_blocking_with_fakessh() {
    let lab = LAB.get();
    let (mut near, far) = UnixStream::pair().unwrap();
    let before = flags(&far);
    let give = || OwnedFd::from(far.try_clone().unwrap());
    let running = lab
        .tool(fakessh_lab::Client::Fakessh, ["ssh", "remote", "cat"])
        .stdin(give())
        .stdout(give())
        .start();
    near.write_all(b"hello").unwrap();
    let mut got = [0; 5];
    near.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
    assert_eq!(flags(&far), before);
    near.shutdown(std::net::Shutdown::Write).unwrap();
    running.finish().expect_status(0);
    assert_eq!(flags(&far), before);
}

/// As behind sudo or su: who opened the pipes is not who may open them anew.
#[test]
fn pipes_of_another_user_pass_everything_with_fakessh() {
    if !root_for("a user whose pipes are another's") {
        return;
    }
    let lab = LAB.get();
    let account = lab.account();
    let dir = lab.remote_dir().join("other-user");
    std::fs::create_dir(&dir).unwrap();
    let files = [
        (lab.key(), dir.join("key")),
        (lab.known_hosts(), dir.join("known_hosts")),
        (binary::fakessh(), dir.join("fakessh")),
    ];
    for (from, to) in &files {
        copy_program(from, to);
        account.give(to);
    }
    account.give(&dir);
    let path = |name: &str| dir.join(name).display().to_string();
    let mut config = vec!["Host remote".to_owned()];
    config.extend(lab.way_in(lab.port()));
    config.push(format!("IdentityFile {}", path("key")));
    config.push(format!("UserKnownHostsFile {}", path("known_hosts")));
    std::fs::write(dir.join("config"), config.join("\n") + "\n").unwrap();
    let (uid, gid) = (format!("--reuid={}", account.uid), format!("--regid={}", account.gid));
    let as_account = |words: &[&str]| {
        let (fakessh, dir) = (path("fakessh"), path("run"));
        let all = ["setpriv", &uid, &gid, "--clear-groups", &fakessh];
        lab.program(all.iter().chain(words)).env("HOME", path("")).env("FAKESSH_DIR", dir)
    };
    // Much more than a pipe holds.
    let mut input = Vec::new();
    pattern::write(&mut input, 3_000_000).unwrap();
    let command = "cat; echo err >&2; exit 3";
    let words = ["run", "-F", &path("config"), "remote", "--", "ssh", "remote", command];
    let done = as_account(&words).input(input.clone()).run().expect_status(3).expect_err("err\n");
    assert!(done.stdout == input, "{} bytes of {}", done.stdout.len(), input.len());
    as_account(&["stop"]).run().expect_status(0);
}
