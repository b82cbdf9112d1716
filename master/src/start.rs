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

use crate::auth::IdleTimeout;
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
    /// There is no channel to start one on.
    #[error("can't start a slave on the target: {0}")]
    Channel(String),
    /// The target said something, or nothing, and hung up.
    #[error("the target did not start a slave{}", shown(.0))]
    Ended(Said),
    /// The target had begun to start one, and hung up.
    #[error("the start of a slave on the target was cut short{}", shown(.0))]
    CutShort(Said),
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
    /// The connection ended with the command that starts a slave, and the next one did so, too.
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
            StartError::Channel(_)
            | StartError::CutShort(_)
            | StartError::Timeout { .. }
            | StartError::Slow(_)
            | StartError::Protocol(_) => false,
        }
    }

    /// Whether to try it once more for somebody to whom nothing else is of use.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        // The network may have done twice what looks like the server's way.
        !self.is_lasting() || matches!(self, StartError::OneSession)
    }

    /// Whether the target hung up and gave no status: its connection may be about to end.
    pub(crate) fn is_without_status(&self) -> bool {
        matches!(self, StartError::Ended(said) | StartError::CutShort(said) if said.remark.is_none())
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
        "u=$(umask);umask 077;i=$PATH;t=false;r=;[ -O / ]&&t=true;[ -O /etc ]&&t=true;\
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
         if r=$({{ : >\"$p/slave\"&&chmod 700 \"$p/slave\"&&\"$p/slave\"&&z;}} 2>&1);then \
         echo \"{re}\"\"{ady}\";n=0;while [ $n -lt {size} ];do o=$n;\
         r=$(LC_ALL=C head -c $(({size}-$n)) 2>&1 >>\"$p/slave\");e=$?;n=$(wc -c <\"$p/slave\");\
         [ $n -gt $o ]&&continue;\
         case \"$e$r\" in 0*)break;;*temporarily*|*nput/output*|*I/O*)sleep .02 2>/dev/null||sleep 1;;*)break;;esac;done;\
         [ $n -eq {size} ]||f \"writing {size} bytes to $d failed${{r:+: $r}}\";\
         chmod 100 \"$p/slave\";PATH=$i;exec \"$p/slave\" {marker} \"$u\" \"$p\";fi;q;p=;done;\
         f \"no directory there can be written to, has room for {size} bytes and runs programs (tried XDG_RUNTIME_DIR, /dev/shm, /tmp, /var/tmp and the home directory)${{r:+; the last one: $r}}\"",
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
/// Gives up if there is no progress for the idle timeout: the script runs, a piece of the program is
/// on its way, or a question was answered.
///
/// # Errors
/// [`StartError`]; the stream is closed then. Cancelled, it closes the stream as well.
pub(crate) async fn start(
    stream: ByteStream,
    marker: &str,
    program: Upload,
    idle_timeout: &IdleTimeout,
    keepalive: Keepalive,
) -> Result<Link, StartError> {
    let (nobody, _) = oneshot::channel();
    start_and_tell(stream, marker, program, idle_timeout, keepalive, nobody).await
}

/// As [`start`]. `ready` is told when the script runs at the far end.
pub(crate) async fn start_and_tell(
    mut stream: ByteStream,
    marker: &str,
    program: Upload,
    idle_timeout: &IdleTimeout,
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
    let stuck = async { while idle_timeout.wait(progress.notified()).await.is_some() {} };
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
        // It ends up in logs.
        let printed = one_line(&idle_timeout.without_secrets(&printed));
        Said { remark: remark.map(|remark| idle_timeout.without_secrets(&remark)), printed }
    };
    match hello {
        Some(Ok((mux, early, hello))) => {
            // What the login printed is no reason for what happens later.
            stream.diagnostics.clear();
            Ok(Link::start(stream, mux, early, hello, keepalive))
        }
        Some(Err(Failure::Ended)) if scanner.is_ready() => {
            Err(StartError::CutShort(said(&scanner)))
        }
        Some(Err(Failure::Ended)) => Err(StartError::Ended(said(&scanner))),
        Some(Err(Failure::Other(error))) => Err(error),
        None => {
            let seconds = idle_timeout.limit().as_secs();
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
    let mut is_ready = false;
    let mut bytes = loop {
        let chunk = incoming.recv().await.ok_or(Failure::Ended)?;
        printed += chunk.len();
        if printed > MOST_PRINTED {
            return Err(Failure::Ended);
        }
        // What a login prints is no progress: it may go on for ever.
        match scanner.scan(&chunk) {
            Found::Nothing if scanner.is_ready() && !is_ready => {
                is_ready = true;
                progress.notify_one();
                ready.notify_one();
            }
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
mod tests;
