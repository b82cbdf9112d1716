//! A program to be run in a context, in the manner of `std::process::Command`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use fakessh_protocol::message::{Connection, Peer, ProgramKind};
use tokio::task::JoinSet;

use crate::child::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use crate::context::Context;
use crate::error::Error;
use crate::link::{Receiver, Sender, SessionIo};
use crate::pump::{self, Input, Received, Sent, Sink, Source};

/// Where a standard stream of a program leads.
#[derive(Debug)]
pub struct Stdio(Target);

#[derive(Debug)]
enum Target {
    Piped,
    Null,
    Inherit,
    Descriptor(OwnedFd),
}

impl Stdio {
    /// To a field of the [`Child`].
    pub fn piped() -> Stdio {
        Stdio(Target::Piped)
    }

    /// Nowhere: input is at its end, output is thrown away.
    pub fn null() -> Stdio {
        Stdio(Target::Null)
    }

    /// To the same stream of this process, whose flags stay as they are.
    pub fn inherit() -> Stdio {
        Stdio(Target::Inherit)
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        OwnedFd::from(file).into()
    }
}

impl From<OwnedFd> for Stdio {
    /// To a descriptor of this process: a file, pipe, socket or terminal, whose flags stay as they
    /// are.
    fn from(fd: OwnedFd) -> Stdio {
        Stdio(Target::Descriptor(fd))
    }
}

/// What is run.
#[derive(Clone, Debug)]
enum Program {
    Argv(Vec<OsString>),
    Line(OsString),
    Subsystem(String),
    Connection(Peer),
}

/// A program to be run in a context. Its standard streams are inherited unless they are set, or
/// unless [`Command::output`] runs it.
#[derive(Debug)]
pub struct Command {
    context: Arc<Context>,
    program: Program,
    environment: Vec<(OsString, OsString)>,
    stdio: [Option<Stdio>; 3],
}

impl Command {
    pub(crate) fn argv(context: &Arc<Context>, program: &OsStr) -> Command {
        Command::new(context, Program::Argv(vec![program.to_owned()]))
    }

    pub(crate) fn line(context: &Arc<Context>, line: &OsStr) -> Command {
        Command::new(context, Program::Line(line.to_owned()))
    }

    pub(crate) fn subsystem(context: &Arc<Context>, name: String) -> Command {
        Command::new(context, Program::Subsystem(name))
    }

    /// A connection that is opened there, and reports on its standard error.
    pub(crate) fn connection(context: &Arc<Context>, peer: Peer) -> Command {
        let command = Command::new(context, Program::Connection(peer));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
    }

    fn new(context: &Arc<Context>, program: Program) -> Command {
        let stdio = [None, None, None];
        Command { context: context.clone(), program, environment: Vec::new(), stdio }
    }

    /// Adds an argument, which arrives as it is: no shell reads it. For
    /// [`Context::shell`](crate::Context::shell) it is one more word of the line, quoted for a POSIX
    /// shell.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Command {
        match &mut self.program {
            Program::Argv(argv) => argv.push(argument.as_ref().to_owned()),
            Program::Line(line) => {
                line.push(" ");
                line.push(quoted(argument.as_ref()));
            }
            // They have none.
            Program::Subsystem(_) | Program::Connection(_) => {}
        }
        self
    }

    /// Adds arguments, as [`Command::arg`] does.
    #[must_use]
    pub fn args(self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        arguments.into_iter().fold(self, Command::arg)
    }

    /// Adds a variable to the login environment. `USER`, `LOGNAME`, `HOME`, `SHELL` and `LD_*` stay as
    /// the account has them.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Command {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Where standard input comes from.
    #[must_use]
    pub fn stdin(self, stdio: impl Into<Stdio>) -> Command {
        self.stream(0, stdio.into())
    }

    /// Where standard output goes.
    #[must_use]
    pub fn stdout(self, stdio: impl Into<Stdio>) -> Command {
        self.stream(1, stdio.into())
    }

    /// Where standard error goes.
    #[must_use]
    pub fn stderr(self, stdio: impl Into<Stdio>) -> Command {
        self.stream(2, stdio.into())
    }

    fn stream(mut self, number: usize, stdio: Stdio) -> Command {
        self.stdio[number] = Some(stdio);
        self
    }

    /// Starts the program. The request is on its way when this returns: nothing is waited for, and
    /// standard input may follow at once. Whether the program exists is known from [`Child::wait`].
    ///
    /// Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an argument or variable with a NUL or a
    /// variable's name with `=`, [`ErrorKind::ConnectionLost`](crate::ErrorKind::ConnectionLost),
    /// and [`ErrorKind::Limit`](crate::ErrorKind::Limit) if this process has no descriptors left.
    pub fn spawn(self) -> Result<Child, Error> {
        let Command { context, program, environment, stdio } = self;
        let name = context.name().to_owned();
        check(&name, &program, &environment)?;
        let environment = environment.into_iter().map(|(name, value)| (bytes(name), bytes(value)));
        let opened = context.open(program.into_kind(), environment.collect());
        let (session, running) = opened.map_err(|lost| Error::lost(&name, &lost))?;
        let SessionIo { stdin, stdout, stderr, control } = session;
        let [input, output, error] = stdio.map(|stdio| stdio.map_or(Target::Inherit, |it| it.0));
        let mut pumps = JoinSet::new();
        let failed = |error: io::Error| Error::of_stream(&name, &error);
        let stdin = give(&mut pumps, &name, input, stdin).map_err(failed)?;
        let stdout = take(&mut pumps, &name, output, stdout, std::io::stdout()).map_err(failed)?;
        let stderr = take(&mut pumps, &name, error, stderr, std::io::stderr()).map_err(failed)?;
        let streams = (stdin, stdout.map(ChildStdout::new), stderr.map(ChildStderr::new));
        Ok(Child::new(&name, control, running, streams, pumps))
    }

    /// Runs the program to its end. Streams that were not set are this process's own.
    ///
    /// # Errors
    /// As [`Command::spawn`] and [`Child::wait`]. A status other than 0 is no error. Cancelled, it hangs
    /// the program up.
    pub async fn status(self) -> Result<ExitStatus, Error> {
        self.spawn()?.wait().await
    }

    /// Runs the program to its end, and collects what it prints. Standard input is empty unless it
    /// was set.
    ///
    /// Memory grows with the output: for a lot of it take [`Command::spawn`].
    ///
    /// # Errors
    /// As [`Command::spawn`] and [`Child::wait_with_output`]. A status other than 0 is no error.
    /// Cancelled, it hangs the program up.
    pub async fn output(mut self) -> Result<Output, Error> {
        self.stdio[0].get_or_insert_with(Stdio::null);
        self.stdio[1].get_or_insert_with(Stdio::piped);
        self.stdio[2].get_or_insert_with(Stdio::piped);
        self.spawn()?.wait_with_output().await
    }
}

impl Program {
    fn into_kind(self) -> ProgramKind {
        match self {
            Program::Argv(argv) => ProgramKind::Program(argv.into_iter().map(bytes).collect()),
            Program::Line(line) => ProgramKind::Shell(bytes(line)),
            Program::Subsystem(name) => ProgramKind::Subsystem(name),
            Program::Connection(peer) => {
                ProgramKind::Connection(Connection { peer, reports: true })
            }
        }
    }
}

fn bytes(text: OsString) -> Vec<u8> {
    std::os::unix::ffi::OsStringExt::into_vec(text)
}

/// What no kernel would take, as std says it.
fn check(name: &str, program: &Program, environment: &[(OsString, OsString)]) -> Result<(), Error> {
    let has_nul = |text: &OsStr| text.as_bytes().contains(&0);
    let in_program = match program {
        Program::Argv(argv) => argv.iter().any(|word| has_nul(word)),
        Program::Line(line) => has_nul(line),
        Program::Subsystem(_) | Program::Connection(_) => false,
    };
    if in_program {
        return Err(Error::config(name, "an argument of the program holds a NUL"));
    }
    for (variable, value) in environment {
        if variable.is_empty() || variable.as_bytes().contains(&b'=') {
            let text = format!("{variable:?} is no name of a variable");
            return Err(Error::config(name, &text));
        }
        if has_nul(variable) || has_nul(value) {
            return Err(Error::config(name, &format!("the variable {variable:?} holds a NUL")));
        }
    }
    Ok(())
}

/// A word for a POSIX shell.
fn quoted(word: &OsStr) -> OsString {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./=:,@%+".contains(byte);
    if !word.is_empty() && word.as_bytes().iter().all(is_plain) {
        return word.to_owned();
    }
    let mut quoted = b"'".to_vec();
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    std::os::unix::ffi::OsStringExt::from_vec(quoted)
}

type Pumps = JoinSet<Result<(), Error>>;

/// Connects standard input.
fn give(
    pumps: &mut Pumps,
    name: &str,
    target: Target,
    sender: Sender,
) -> io::Result<Option<ChildStdin>> {
    let fd = match target {
        Target::Piped => return Ok(Some(ChildStdin::new(sender))),
        Target::Null => {
            sender.finish();
            return Ok(None);
        }
        Target::Inherit => rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?,
        Target::Descriptor(fd) => fd,
    };
    let mut input = Input::Descriptor(Ok(Source::new(fd)?));
    let name = name.to_owned();
    pumps.spawn(async move {
        match pump::send(&mut input, sender).await {
            Sent::Whole | Sent::Unwanted | Sent::Over => Ok(()),
            Sent::Failed(error) => Err(Error::of_stream(&name, &error)),
        }
    });
    Ok(None)
}

/// Connects an output; `ours` is the stream of this process.
fn take(
    pumps: &mut Pumps,
    name: &str,
    target: Target,
    receiver: Receiver,
    ours: impl std::os::fd::AsFd,
) -> io::Result<Option<Receiver>> {
    let fd = match target {
        Target::Piped => return Ok(Some(receiver)),
        Target::Null => {
            // Without a reader the program would get SIGPIPE.
            File::options().write(true).open("/dev/null")?.into()
        }
        Target::Inherit => rustix::io::fcntl_dupfd_cloexec(ours, 3)?,
        Target::Descriptor(fd) => fd,
    };
    let mut output = pump::Output::Descriptor(Ok(Sink::new(fd)?));
    let name = name.to_owned();
    pumps.spawn(async move {
        match pump::receive(receiver, &mut output).await {
            Received::Whole | Received::Unwanted => Ok(()),
            Received::Cut => Err(Error::output_cut(&name)),
            Received::Failed(error) => Err(Error::of_stream(&name, &error)),
        }
    });
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::ErrorKind;
    use crate::link::ends::{Carrier, ControlRequest, StreamEnd, StreamRequest, session};

    /// Carries nothing: the test plays the other side.
    #[derive(Debug)]
    struct Nothing;

    impl Carrier for Nothing {
        fn stream(&self, _: fakessh_protocol::handles::Stream, _: StreamRequest) -> bool {
            true
        }

        fn control(&self, _: ControlRequest) {}
    }

    #[tokio::test]
    async fn an_output_that_was_cut_is_not_taken_for_the_whole() {
        for (end, is_whole) in [(StreamEnd::Whole, true), (StreamEnd::Cut, false)] {
            let (io, carrier) = session(Arc::new(Nothing));
            let (mut reader, writer) = io::pipe().unwrap();
            let mut pumps = Pumps::new();
            let target = Target::Descriptor(writer.into());
            take(&mut pumps, "web1", target, io.stdout, std::io::stdout()).unwrap();
            assert!(carrier.stdout.put(bytes::Bytes::from_static(b"half")));
            carrier.stdout.end(end);
            let pumped = pumps.join_next().await.unwrap().unwrap();
            assert_eq!(pumped.is_ok(), is_whole);
            if let Err(error) = pumped {
                assert_eq!((error.kind(), error.route()), (ErrorKind::OutputCut, Some("web1")));
            }
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "half");
        }
    }

    #[test]
    fn words_are_quoted_for_a_posix_shell() {
        for (word, expected) in
            [("plain-1.txt", "plain-1.txt"), ("", "''"), ("a b", "'a b'"), ("it's", "'it'\\''s'")]
        {
            assert_eq!(quoted(OsStr::new(word)), expected);
        }
    }
}
