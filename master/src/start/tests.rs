use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fakessh_protocol::start::preamble;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::stream::{Diagnostics, INCOMING_CHUNKS, OUTGOING_CHUNKS};

/// How long something may take. A guard against hangs only.
const GUARD: Duration = Duration::from_secs(60);

/// Runs the script with a non-blocking standard input, and feeds that in pieces, the next one
/// when the last was taken.
fn run(marker: &str, shell: &[&str], bytes: &[u8]) -> (Child, std::fs::File) {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    fcntl_setfl(&theirs, OFlags::NONBLOCK).unwrap();
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg("-c").arg(script(marker, Behind::Login)).stdin(theirs);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    let mut ours = std::fs::File::from(ours);
    for piece in bytes.chunks(200_000) {
        ours.write_all(piece).unwrap();
        let begin = Instant::now();
        while rustix::io::ioctl_fionread(&ours).unwrap() > 0 {
            assert!(begin.elapsed() < GUARD, "it is not read");
            std::thread::yield_now();
        }
    }
    (child, ours)
}

#[test]
fn a_slave_starts_over_a_pipe_that_does_not_block() {
    for shell in [&["sh"][..], &["bash"], &["busybox", "sh"]] {
        if Command::new(shell[0]).args(&shell[1..]).args(["-c", ":"]).status().is_err() {
            continue;
        }
        let marker = marker().unwrap();
        let (mut child, input) = run(&marker, shell, SLAVE);
        let expected = [readiness(&marker).as_bytes(), b"\n", &preamble(&marker)].concat();
        let (mut stdout, mut seen) = (child.stdout.take().unwrap(), vec![0; expected.len()]);
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let read = stdout.read_exact(&mut seen).map(|()| (seen, stdout));
            let _ = sender.send(read);
        });
        let (seen, _stdout) = receiver.recv_timeout(GUARD).expect("it says nothing").unwrap();
        assert_eq!(seen, expected, "{shell:?}");
        drop(input);
        assert!(child.wait().unwrap().success(), "{shell:?}");
    }
}

#[test]
fn a_slave_that_dies_leaves_no_core_file() {
    let marker = marker().unwrap();
    let limit = "ulimit -c unlimited 2>/dev/null;";
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{limit}{}", script(&marker, Behind::Login)));
    command.stdin(theirs).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    std::fs::File::from(ours.try_clone().unwrap()).write_all(SLAVE).unwrap();
    let ready = [readiness(&marker).as_bytes(), b"\n", &preamble(&marker)].concat();
    child.stdout.as_mut().unwrap().read_exact(&mut vec![0; ready.len()]).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    assert!(!status.core_dumped());
}

#[test]
fn a_start_that_nobody_listens_to_any_more_leaves_nothing() {
    for shell in [&["sh"][..], &["bash"], &["busybox", "sh"]] {
        for sent in [0, 1, SLAVE.len() / 2, SLAVE.len() - 1] {
            let marker = marker().unwrap();
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let mut command = Command::new(shell[0]);
            command.args(&shell[1..]).arg("-c").arg(script(&marker, Behind::Login));
            command.stdin(theirs).stdout(Stdio::piped()).stderr(Stdio::null());
            let Ok(mut child) = command.spawn() else {
                continue;
            };
            drop(command);
            let mut stdout = child.stdout.take().unwrap();
            stdout.read_exact(&mut vec![0; readiness(&marker).len() + 1]).unwrap();
            drop(stdout);
            std::fs::File::from(ours).write_all(&SLAVE[..sent]).unwrap();
            assert!(!child.wait().unwrap().success(), "{shell:?}");
            for directory in ["/dev/shm", "/tmp"] {
                let left = std::path::Path::new(directory).join(format!(".fakessh-{marker}"));
                assert!(!left.exists(), "{shell:?}, {sent} bytes: {}", left.display());
            }
        }
    }
}

#[test]
fn the_script_is_one_word_for_every_shell() {
    for behind in [Behind::Login, Behind::Helper] {
        let script = script(&marker().unwrap(), behind);
        assert!(!script.contains(['\'', '\\', '!', '\n']), "{script}");
    }
}

#[test]
fn what_a_target_lacks_for_now_is_no_lasting_reason() {
    let ended = |printed: &str, remark: &str| {
        let (printed, remark) = (printed.to_owned(), Some(remark.to_owned()));
        StartError::Ended(Said { remark, printed }).is_lasting()
    };
    let text = "This account is currently not available.";
    assert!(ended(text, "the command ended with status 1"));
    assert!(StartError::Ended(Said::default()).is_lasting());
    assert!(!ended("", "the command was killed by signal 9"));
    assert!(!ended("sh: 1: Cannot fork", "the command ended with status 2"));
    let refused = |why: &str| StartError::Refused(why.to_owned()).is_lasting();
    assert!(refused("its architecture is armv7l, and this fakessh has a slave for x86_64 only"));
    assert!(!refused("writing 900000 bytes to /tmp failed: No space left on device"));
    assert!(!StartError::Slow(2).is_lasting());
    // The script ran: a slave can.
    assert!(!StartError::CutShort(Said::default()).is_lasting());
    assert!(StartError::OneSession.is_lasting());
    assert!(StartError::OneSession.is_worth_another_try());
}

#[test]
fn an_upload_that_is_cut_is_a_failure_that_leaves_nothing() {
    let marker = marker().unwrap();
    let (child, input) = run(&marker, &["sh"], &SLAVE[..SLAVE.len() / 2]);
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&complaint(&marker)) && said.contains("bytes to"), "{said}");
    for directory in ["/dev/shm", "/tmp"] {
        assert!(!std::path::Path::new(directory).join(format!(".fakessh-{marker}")).exists());
    }
}

/// Starts a slave at a target that prints a line each second for ever, after these bytes.
async fn start_amid_noise(marker: &str, first: String, limit: Duration) -> StartError {
    let (to_us, incoming) = tokio::sync::mpsc::channel(INCOMING_CHUNKS);
    let (outgoing, _from_us) = tokio::sync::mpsc::channel(OUTGOING_CHUNKS);
    let noise = async move {
        let _ = to_us.send(first.into()).await;
        while to_us.send("Welcome, and welcome again\n".into()).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::spawn(noise);
    let stream = ByteStream { incoming, outgoing, diagnostics: Diagnostics::default() };
    let (idle, keepalive) = (IdleTimeout::new(limit), Keepalive::default());
    start(stream, marker, Upload::Sent, &idle, keepalive).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_target_that_prints_for_ever_is_given_up() {
    let limit = Duration::from_secs(60);
    let marker = marker().unwrap();
    for first in [String::new(), format!("{}\n", readiness(&marker))] {
        let begin = tokio::time::Instant::now();
        let error = start_amid_noise(&marker, first, limit).await;
        assert!(matches!(error, StartError::Timeout { .. }), "{error:?}");
        let took = begin.elapsed();
        assert!(limit <= took && took <= 2 * limit, "{took:?}");
    }
}
