//! A program to be run in a context, in the manner of `std::process::Command`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use fakessh_protocol::invocation::Invocation;
use fakessh_protocol::message::{Connection, Peer, ProgramKind, ProgramSetup};

use crate::child::{
    Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output, Pumps, Streams,
};
use crate::context::Reached;
use crate::control::OutputName;
use crate::error::Error;
use crate::holder::Held;
use crate::link::{Receiver, Sender, SessionIo};
use crate::pump::{self, Input, Received, Sent, Sink, Source};
use crate::shared::{self, InputPipe, OutputPipe, SharedContext};

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
///
/// Each method takes the command and gives it back, so that the one that starts the program can move
/// what it needs: `let mut command = ...; command = command.arg("x");`.
#[derive(Debug)]
pub struct Command {
    context: Held,
    program: Program,
    environment: Vec<(OsString, OsString)>,
    directory: OsString,
    stdio: [Option<Stdio>; 3],
}

impl Command {
    pub(crate) fn argv(context: &Held, program: &OsStr) -> Command {
        Command::new(context, Program::Argv(vec![program.to_owned()]))
    }

    pub(crate) fn line(context: &Held, line: &OsStr) -> Command {
        Command::new(context, Program::Line(line.to_owned()))
    }

    pub(crate) fn subsystem(context: &Held, name: String) -> Command {
        Command::new(context, Program::Subsystem(name))
    }

    /// A connection that is opened there, and reports on its standard error.
    pub(crate) fn connection(context: &Held, peer: Peer) -> Command {
        let command = Command::new(context, Program::Connection(peer));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
    }

    fn new(context: &Held, program: Program) -> Command {
        let stdio = [None, None, None];
        let (environment, directory) = (Vec::new(), OsString::new());
        Command { context: context.clone(), program, environment, directory, stdio }
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

    /// Adds a variable to the login environment, in the place of one that was added before. `USER`,
    /// `LOGNAME`, `HOME`, `SHELL` and `LD_*` stay as the account has them.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Command {
        let name = name.as_ref();
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Adds variables, as [`Command::env`] does.
    #[must_use]
    pub fn envs(
        self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Command {
        variables.into_iter().fold(self, |command, (name, value)| command.env(name, value))
    }

    /// The directory there that the program starts in, from the home directory if it is relative. It
    /// is the home directory unless this is called. Without a slave there, the program is refused
    /// ([`ErrorKind::Refused`](crate::ErrorKind::Refused)).
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Command {
        self.directory = directory.as_ref().into();
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
        let Command { context, program, environment, directory, stdio } = self;
        check(context.name(), &program, &environment)?;
        if directory.as_bytes().contains(&0) {
            return Err(Error::config(context.name(), "the name of the directory holds a NUL"));
        }
        let environment = environment.into_iter().map(|(name, value)| (bytes(name), bytes(value)));
        let directory = bytes(directory);
        let setup = ProgramSetup {
            environment: environment.collect(),
            directory,
            ..ProgramSetup::default()
        };
        let stdio = stdio.map(|stdio| stdio.map_or(Target::Inherit, |it| it.0));
        match &context {
            Held::Here(reached) => spawn_here(reached, program, setup, stdio),
            Held::Shared(context) => spawn_shared(context, program, setup, stdio),
        }
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

/// Starts a program over a connection that this process holds.
fn spawn_here(
    Reached { context, options }: &Reached,
    program: Program,
    setup: ProgramSetup,
    stdio: [Target; 3],
) -> Result<Child, Error> {
    let name = context.name().to_owned();
    let program = match program {
        Program::Argv(argv) => ProgramKind::Program(argv.into_iter().map(bytes).collect()),
        Program::Line(line) => ProgramKind::Shell(bytes(line)),
        Program::Subsystem(name) => ProgramKind::Subsystem(name),
        Program::Connection(peer) => ProgramKind::Connection(Connection { peer, reports: true }),
    };
    // SetEnv of ssh_config counts, too.
    let set_env = setup.environment;
    let environment = options.variables(&Invocation { set_env, ..Invocation::default() });
    let opened = context.open(program, ProgramSetup { environment, ..setup });
    let (session, running) = opened.map_err(|lost| Error::lost(&name, &lost))?;
    let SessionIo { stdin, stdout, stderr, control } = session;
    let [input, output, error] = stdio;
    let mut pumps = Pumps::default();
    let failed = |error: io::Error| Error::of_stream(&name, &error);
    let stdin = give(&mut pumps, &name, input, stdin).map_err(failed)?;
    let stdout = take(&mut pumps, &name, output, stdout, std::io::stdout()).map_err(failed)?;
    let stderr = take(&mut pumps, &name, error, stderr, std::io::stderr()).map_err(failed)?;
    let streams = Streams {
        stdin: stdin.map(ChildStdin::of_link),
        stdout: stdout.map(ChildStdout::of_link),
        stderr: stderr.map(ChildStderr::of_link),
    };
    Ok(Child::here(&name, control, running, streams, pumps))
}

/// Starts a program over a connection of the user's master.
fn spawn_shared(
    context: &SharedContext,
    program: Program,
    setup: ProgramSetup,
    [input, output, error]: [Target; 3],
) -> Result<Child, Error> {
    let name = context.name();
    let failed = |error: io::Error| Error::of_stream(name, &error);
    let words = |argv: Vec<OsString>| argv.iter().map(|word| word.as_os_str().into()).collect();
    let program = match program {
        Program::Argv(argv) => shared::Program::Argv(words(argv)),
        Program::Line(line) => shared::Program::Shell(line.as_os_str().into()),
        Program::Subsystem(name) => shared::Program::Subsystem(name),
        Program::Connection(Peer::Tcp { host, port }) => shared::Program::Tcp { host, port },
        Program::Connection(Peer::Unix(path)) => shared::Program::Unix(path.into()),
    };
    let (stdin, for_stdin) = match input {
        Target::Piped => shared::input_pipe().map(|(ours, theirs)| (Some(ours), theirs)),
        other => descriptor(other, std::io::stdin()).map(|theirs| (None, theirs)),
    }
    .map_err(failed)?;
    let pipe_for = |target: Target, ours: BorrowedFd<'_>| match target {
        Target::Piped => shared::output_pipe().map(|(ours, theirs)| (Some(ours), theirs)),
        other => descriptor(other, ours).map(|theirs| (None, theirs)),
    };
    let (stdout, for_stdout) = pipe_for(output, std::io::stdout().as_fd()).map_err(failed)?;
    let (stderr, for_stderr) = pipe_for(error, std::io::stderr().as_fd()).map_err(failed)?;
    let descriptors = [for_stdin, for_stdout, for_stderr];
    let session = context.open(program, descriptors, setup)?;
    let streams = Streams {
        stdin: stdin.map(|pipe| ChildStdin::of_pipe(InputPipe::new(pipe, &session))),
        stdout: stdout
            .map(|pipe| ChildStdout::of_pipe(OutputPipe::new(pipe, &session, OutputName::Stdout))),
        stderr: stderr
            .map(|pipe| ChildStderr::of_pipe(OutputPipe::new(pipe, &session, OutputName::Stderr))),
    };
    Ok(Child::shared(name, session, streams))
}

/// A descriptor for a stream that is no pipe of ours; `ours` is the stream of this process.
fn descriptor(target: Target, ours: impl AsFd) -> io::Result<OwnedFd> {
    match target {
        Target::Null => Ok(File::options().read(true).write(true).open("/dev/null")?.into()),
        Target::Descriptor(fd) => Ok(fd),
        Target::Inherit | Target::Piped => Ok(rustix::io::fcntl_dupfd_cloexec(ours, 3)?),
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

/// Connects standard input.
fn give(
    pumps: &mut Pumps,
    name: &str,
    target: Target,
    sender: Sender,
) -> io::Result<Option<Sender>> {
    let fd = match target {
        Target::Piped => return Ok(Some(sender)),
        Target::Null => {
            sender.finish();
            return Ok(None);
        }
        other => descriptor(other, std::io::stdin())?,
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
    ours: impl AsFd,
) -> io::Result<Option<Receiver>> {
    // Nowhere is a descriptor, too: without a reader the program would get SIGPIPE.
    let fd = match target {
        Target::Piped => return Ok(Some(receiver)),
        other => descriptor(other, ours)?,
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
    use std::sync::Arc;

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
            let mut pumps = Pumps::default();
            let target = Target::Descriptor(writer.into());
            take(&mut pumps, "web1", target, io.stdout, std::io::stdout()).unwrap();
            assert!(carrier.stdout.put(bytes::Bytes::from_static(b"half")));
            carrier.stdout.end(end);
            let pumped = pumps.end().await;
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
