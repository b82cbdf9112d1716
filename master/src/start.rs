//! Starts a slave at the far end of a hop, with nothing installed there.
//!
//! One short command line goes through whatever shell the account has. When it says that it runs,
//! the slave's bytes follow on the same stream: a forced command must not take them for its data.
//! What the login prints is skipped up to a random marker.

use bytes::{Buf, Bytes};
use fakessh_protocol::message::{Hello, ToMaster};
use fakessh_protocol::mux::{Event, Expecting, Mux};
use fakessh_protocol::printable::one_line;
use fakessh_protocol::start::{Found, Scanner, complaint, readiness};
use fakessh_protocol::wire;
use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::auth::Patience;
use crate::link::{Keepalive, Link};
use crate::stream::{ByteStream, Said};

/// The slave's program for each architecture, as `uname -m` names it.
pub(crate) const SLAVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/slave"));

/// The architecture that [`SLAVE`] is for.
const ARCHITECTURE: &str = std::env::consts::ARCH;

/// Most bytes that a login may print before a slave speaks: many times the longest greeting. A
/// target that never stops does not start.
const MOST_PRINTED: usize = 16 * 1024 * 1024;

/// Bytes of the program that are sent in one piece.
const PIECE: usize = 32 * 1024;

/// Why there is no slave at the far end.
#[derive(Debug, Error)]
pub enum StartError {
    /// The starting script says why.
    #[error("can't start a slave on the target: {0}")]
    Refused(String),
    /// The target said something, or nothing, and hung up.
    #[error("the target did not start a slave{}", shown(.0))]
    Ended(Said),
    /// Nothing sensible came in time.
    #[error("the target did not start a slave although {seconds} s went by{}", shown(.said))]
    Timeout {
        /// How long it was given.
        seconds: u64,
        /// What it printed.
        said: Said,
    },
    /// The target has not said yet that it starts one; it may still do so.
    #[error("the target has not begun to start a slave in {0} s")]
    Slow(u64),
    /// The server ended the connection with the command that starts a slave.
    #[error("the server ends its connection with the first session")]
    OneSession,
    /// What came behind the marker is not our protocol.
    #[error("the slave does not speak our protocol: {0}")]
    Protocol(String),
}

/// What a target says whose failure passes: it lacks memory, processes, or room.
const PASSING: [&str; 8] = [
    "killed by signal",
    "cannot fork",
    "can't fork",
    "resource temporarily unavailable",
    "cannot allocate memory",
    "out of memory",
    "no space left",
    "quota exceeded",
];

impl StartError {
    /// Whether the next attempt would end in the same way: the account runs something else, or the
    /// target is of a kind that no slave is for.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            // The script's own words: there was no room.
            StartError::Refused(why)
                if why.starts_with("no directory") || why.starts_with("writing ") =>
            {
                false
            }
            StartError::Refused(why) => !is_passing(why),
            StartError::Ended(said) => {
                !is_passing(&said.printed) && !said.remark.as_deref().is_some_and(is_passing)
            }
            StartError::OneSession => true,
            StartError::Timeout { .. } | StartError::Slow(_) | StartError::Protocol(_) => false,
        }
    }
}

fn is_passing(why: &str) -> bool {
    let why = why.to_lowercase();
    PASSING.iter().any(|words| why.contains(words))
}

fn shown(said: &Said) -> String {
    if said.is_empty() { String::new() } else { format!("; {said}") }
}

/// A marker that no login prints: 128 random bits in hexadecimal digits.
pub(crate) fn marker() -> std::io::Result<String> {
    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The command that runs [`script`] through whatever shell the account has.
pub(crate) fn command(marker: &str) -> Vec<u8> {
    format!("exec /bin/sh -c '{}'", script(marker, Behind::Login)).into_bytes()
}

/// What the script runs behind, and so whose environment it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// A login of the account itself, whose environment is its own.
    Login,
    /// A helper, which may pass on the environment of another account.
    Helper,
}

/// Where a script that trusts no `PATH` finds its programs; the last is where NixOS has them.
const SAFE_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin";

/// The script that starts a slave whose bytes follow on standard input.
///
/// It goes through foreign shells, csh and fish among them, as one word in single quotes: so it
/// holds no single quote, backslash, exclamation mark or newline.
///
/// Directories are tried in order. One is passed over that can't be written to, that has no room
/// for the slave, or from which nothing may be run: an empty file is a script that does nothing,
/// but not if the kernel refuses to run files. Nobody else may be able to rename what is made
/// there: a directory that all share is sticky, any other is the account's own; for root, so is
/// the way to it. Root, and whoever comes behind a helper, uses the programs of the system: what
/// `PATH` says counts only for an image that keeps them elsewhere. The slave gets `PATH` back.
///
/// Standard input may be non-blocking (sudo's I/O logging makes it so): `head` then fails in the
/// middle, with EAGAIN or, busybox's, with EIO, and is called again for the rest.
///
/// What was made is removed on every way out: if the upload is cut, and if nobody listens any more
/// (SIGPIPE). Of a program that may be executed and not be read the kernel keeps others of the
/// account out, from its first instruction on.
pub(crate) fn script(marker: &str, behind: Behind) -> String {
    let size = SLAVE.len();
    // In two words, so that a target which prints the command does not say either by that.
    let complaint = complaint(marker);
    let (first, second) = complaint.split_at(complaint.len() / 2);
    let readiness = readiness(marker);
    let (re, ady) = readiness.split_at(readiness.len() / 2);
    let is_foreign = behind == Behind::Helper;
    format!(
        "u=$(umask);umask 077;i=$PATH;t=false;[ -O / ]&&t=true;[ -O /etc ]&&t=true;\
         if $t||{is_foreign};then PATH={SAFE_PATH};command -v head >/dev/null||PATH=$PATH:$i;fi;\
         f(){{ echo;echo \"{first}\"\"{second}$1\";exit 1;}};q(){{ rm -rf \"$p\";}};\
         trap q EXIT;trap exit HUP INT TERM PIPE;\
         a=$(uname -m);[ \"$a\" = {ARCHITECTURE} ]||f \"its architecture is $a, and this fakessh has a slave for {ARCHITECTURE} only\";\
         command -v head >/dev/null||f \"it has no head program\";\
         o(){{ [ -d \"$1\" ]&&[ -O \"$1\" ]||return 1;[ -L \"$1\" ]&&return 1;$t||return 0;\
         case $(ls -ld \"$1\") in d????-??-*);;*)return 1;;esac;\
         c=${{1%/*}};while [ -n \"$c\" ];do [ -O \"$c\" ]||return 1;[ -L \"$c\" ]&&return 1;c=${{c%/*}};done;}};\
         z(){{ [ -c /dev/zero ]||return 0;head -c {size} /dev/zero >\"$p/slave\"&&: >\"$p/slave\";}};\
         for d in \"$XDG_RUNTIME_DIR\" /dev/shm /tmp /var/tmp \"${{HOME:+$HOME/.}}\";do \
         case $d in /dev/shm|/tmp|/var/tmp)[ -k $d ]||o $d||continue;;/*)o \"$d\"||continue;;*)continue;;esac;\
         p=\"$d/.fakessh-{marker}\";mkdir \"$p\" 2>/dev/null||{{ p=;continue;}};\
         if (: >\"$p/slave\"&&chmod 700 \"$p/slave\"&&\"$p/slave\"&&z) 2>/dev/null;then \
         echo \"{re}\"\"{ady}\";n=0;while [ $n -lt {size} ];do o=$n;\
         r=$(LC_ALL=C head -c $(({size}-$n)) 2>&1 >>\"$p/slave\");e=$?;n=$(wc -c <\"$p/slave\");\
         [ $n -gt $o ]&&continue;\
         case \"$e$r\" in 0*)break;;*temporarily*|*nput/output*|*I/O*)sleep .02 2>/dev/null||sleep 1;;*)break;;esac;done;\
         [ $n -eq {size} ]||f \"writing {size} bytes to $d failed${{r:+: $r}}\";\
         chmod 100 \"$p/slave\";PATH=$i;exec \"$p/slave\" {marker} \"$u\" \"$p\";fi;q;p=;done;\
         f \"no directory there can be written to, has room for {size} bytes and runs programs (tried XDG_RUNTIME_DIR, /dev/shm, /tmp, /var/tmp and the home directory)\"",
    )
}

/// Where the slave's program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    /// It is sent over the stream.
    Sent,
    /// A slave on the way carries itself.
    Carried,
}

/// Makes a link of a stream at whose far end [`script`] runs, once the slave there has said hello.
/// Gives up where nothing moves for as long as there is patience.
///
/// # Errors
/// [`StartError`]; the stream is closed then. Cancelled, it closes the stream as well.
pub(crate) async fn start(
    stream: ByteStream,
    marker: &str,
    program: Upload,
    patience: &Patience,
    keepalive: Keepalive,
) -> Result<Link, StartError> {
    let (nobody, _) = oneshot::channel();
    start_and_tell(stream, marker, program, patience, keepalive, nobody).await
}

/// As [`start`]. `ready` is told when the script runs at the far end.
pub(crate) async fn start_and_tell(
    mut stream: ByteStream,
    marker: &str,
    program: Upload,
    patience: &Patience,
    keepalive: Keepalive,
    tell_ready: oneshot::Sender<()>,
) -> Result<Link, StartError> {
    let mut scanner = Scanner::new(marker);
    let (progress, ready) = (Notify::new(), Notify::new());
    let hello = async {
        let upload = async {
            if program == Upload::Sent {
                ready.notified().await;
                let _ = tell_ready.send(());
                upload(&stream.outgoing, &progress).await;
            }
        };
        let mut upload = std::pin::pin!(upload);
        let hello = hello(&mut stream.incoming, &mut scanner, &progress, &ready);
        let mut hello = std::pin::pin!(hello);
        // A target that refuses may never read the program: its word ends the upload.
        tokio::select! {
            biased;
            hello = &mut hello => return hello,
            () = &mut upload => {}
        }
        hello.await
    };
    let stuck = async { while patience.wait(progress.notified()).await.is_some() {} };
    let hello = tokio::select! {
        biased;
        hello = hello => Some(hello),
        () = stuck => None,
    };
    let said = |scanner: &Scanner| {
        let Said { remark, printed } = stream.diagnostics.said();
        // Some repeat the command that they don't know (git-shell) or allow (sudo), which is a page
        // of script.
        let printed = [Behind::Login, Behind::Helper]
            .into_iter()
            .fold(format!("{}\n{printed}", scanner.noise()), |printed, behind| {
                printed.replace(&script(marker, behind), "...")
            });
        let printed = one_line(&printed);
        Said { remark, printed }
    };
    match hello {
        Some(Ok((mux, early, hello))) => {
            // What the login printed is no reason for what happens later.
            stream.diagnostics.clear();
            Ok(Link::start(stream, mux, early, hello, keepalive))
        }
        Some(Err(Failure::Ended)) => Err(StartError::Ended(said(&scanner))),
        Some(Err(Failure::Other(error))) => Err(error),
        None => {
            let seconds = patience.limit().as_secs();
            Err(StartError::Timeout { seconds, said: said(&scanner) })
        }
    }
}

async fn upload(outgoing: &mpsc::Sender<Bytes>, progress: &Notify) {
    let mut rest = Bytes::from_static(SLAVE);
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(PIECE));
        if outgoing.send(piece).await.is_err() {
            return;
        }
        progress.notify_one();
    }
}

enum Failure {
    Ended,
    Other(StartError),
}

/// Reads up to the slave's first message.
async fn hello(
    incoming: &mut mpsc::Receiver<Bytes>,
    scanner: &mut Scanner,
    progress: &Notify,
    ready: &Notify,
) -> Result<(Mux, Bytes, Hello), Failure> {
    let protocol = |what: String| Failure::Other(StartError::Protocol(what));
    let mut printed = 0;
    let mut bytes = loop {
        let chunk = incoming.recv().await.ok_or(Failure::Ended)?;
        printed += chunk.len();
        if printed > MOST_PRINTED {
            return Err(Failure::Ended);
        }
        progress.notify_one();
        match scanner.scan(&chunk) {
            Found::Nothing if scanner.is_ready() => ready.notify_one(),
            Found::Nothing => {}
            Found::Started(rest) => break Bytes::from(rest),
            Found::Failed(reason) => {
                let reason = one_line(&reason);
                return Err(Failure::Other(StartError::Refused(reason)));
            }
        }
    };
    let mut mux = Mux::new().limit_received(ToMaster::limit);
    loop {
        while !bytes.is_empty() {
            if let Expecting::Data(..) = mux.expecting() {
                return Err(protocol("data before hello".into()));
            }
            let (used, event) = mux.receive(&bytes).map_err(|error| protocol(error.to_string()))?;
            bytes.advance(used);
            let Some(event) = event else { continue };
            let Event::Message(_, payload) = event else {
                return Err(protocol("something else before hello".into()));
            };
            return match wire::decode(&payload) {
                Ok(ToMaster::Hello(hello)) => Ok((mux, bytes, hello)),
                Ok(_) => Err(protocol("another message before hello".into())),
                Err(error) => Err(protocol(error.to_string())),
            };
        }
        bytes = incoming.recv().await.ok_or(Failure::Ended)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use fakessh_protocol::start::preamble;
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

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
        assert!(refused(
            "its architecture is armv7l, and this fakessh has a slave for x86_64 only"
        ));
        assert!(!refused("writing 900000 bytes to /tmp failed: No space left on device"));
        assert!(!StartError::Slow(2).is_lasting());
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
}
