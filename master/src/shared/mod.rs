//! The user's master, as the library uses it: the same connections as those of every other program of
//! the user.
//!
//! Everything goes through the control protocol ([`crate::control`]). A context is a connection to the
//! master; each program has a socket pair of its own, and real pipes.

mod context;
mod pipes;
mod session;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use fakessh_protocol::message::Question;
use serde_json::Value;

use crate::caller::{Ask, Caller};
use crate::control::{self, Envelope, PROTOCOL, Reached, Reply};
use crate::daemon::client::{Client, ClientError};
use crate::daemon::request::{ConnectRequest, Place, Request, RunRequest};
use crate::error::{Error, ErrorKind};
use crate::lifetime::Rules;
use crate::route::Route;
use crate::runs::{MappedHosts, Run};
use crate::runtime_dir::RuntimeDir;
use crate::socket::Socket;
use crate::tool::{RunDirectory, socket_pair};

pub(crate) use context::SharedContext;
pub(crate) use pipes::{InputPipe, OutputPipe, input_pipe, output_pipe};
pub(crate) use session::{Program, SharedSession};

/// The program that is the master, looked for on `PATH`.
const PROGRAM: &str = "fakessh";

/// Masters that are asked for one connection, since one that just ends turns everybody away.
const MOST_MASTERS: u32 = 5;

/// The user's master.
#[derive(Debug)]
pub(crate) struct UserMaster {
    directory: RuntimeDir,
    /// The program that becomes the master if there is none.
    program: PathBuf,
    /// How contexts are held, by the user's configuration.
    rules: Rules,
}

impl UserMaster {
    /// Finds the user's master, and starts it if there is none. `program` is what is started then, by
    /// default `fakessh` on `PATH`.
    ///
    /// # Errors
    /// If there is none, and none can be started.
    pub(crate) async fn find(
        directory: RuntimeDir,
        program: Option<PathBuf>,
        rules: Rules,
    ) -> Result<UserMaster, Error> {
        let program = program.unwrap_or_else(|| PathBuf::from(PROGRAM));
        let master = UserMaster { directory, program, rules };
        master.client().await?;
        Ok(master)
    }

    /// A connection to the master.
    async fn client(&self) -> Result<OwnedFd, Error> {
        let (directory, program) = (self.directory.clone(), self.program.clone());
        let connect = move || Client::connect_or_start_with(&directory, &program);
        let connected = tokio::task::spawn_blocking(connect).await;
        let connected = connected.map_err(|error| Error::other("", &error))?;
        connected.map(Client::into_socket).map_err(|error| of_client(&error))
    }

    /// Connects to a context, or finds it connected. Cancelled, an attempt that nobody else waits
    /// for ends.
    pub(crate) async fn connect(
        &self,
        route: &Route,
        caller: &Caller,
    ) -> Result<SharedContext, Error> {
        let name = route.to_string();
        let request = ConnectRequest { to: Place::Route(route.into()), rules: self.rules.clone() };
        let (socket, value) = self.request(&name, Request::Connect(request), &[], caller).await?;
        let reached: Reached = serde_json::from_value(value)
            .map_err(|error| Error::lost(&name, &no_answer(&error.into())))?;
        Ok(SharedContext::start(reached, socket, caller.ask.clone()))
    }

    /// Has the master serve tools of this process.
    pub(crate) async fn run(&self, hosts: MappedHosts, caller: &Caller) -> Result<Run, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Other, "", format_args!("can't prepare a run: {error}"))
        };
        let directory = RunDirectory::create(&self.directory).map_err(|error| failed(&error))?;
        let (ours, masters) = socket_pair().map_err(|error| failed(&error))?;
        let MappedHosts { destination, routes } = hosts;
        let request = RunRequest {
            version: crate::VERSION.to_owned(),
            destination,
            routes,
            rules: self.rules.clone(),
            directory: Some(directory.name()),
            ..RunRequest::default()
        };
        let request = Request::Run(Box::new(request));
        let descriptors = [masters.as_fd(), directory.listener().as_fd()];
        let (socket, _) = self.request("", request, &descriptors, caller).await?;
        Ok(Run::shared(directory, ours, socket))
    }

    /// Makes a request of the master. Gives the connection, and what the master answered.
    async fn request(
        &self,
        name: &str,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
        caller: &Caller,
    ) -> Result<(Socket, Value), Error> {
        let variables = caller.environment.iter();
        let envelope = Envelope {
            protocol: PROTOCOL,
            environment: variables
                .map(|(name, value)| ((**name).into(), (**value).into()))
                .collect(),
            directory: caller.directory.as_os_str().into(),
            request: serde_json::to_value(request).map_err(|error| Error::other(name, &error))?,
        };
        let bytes = serde_json::to_vec(&envelope).map_err(|error| Error::other(name, &error))?;
        for _ in 0..MOST_MASTERS {
            let socket = self.client().await?;
            let socket = Socket::new(socket).map_err(|error| Error::of_stream(name, &error))?;
            let reply = match socket.send(&bytes, descriptors).await {
                Ok(()) => reply(&socket, &*caller.ask).await,
                Err(error) => Err(error),
            };
            match reply {
                Ok(Reply::Done(value)) => return Ok((socket, value)),
                Ok(Reply::Failed(failure)) => return Err(Error::of_failure(name, failure)),
                // It was just ending, and has not done it.
                Ok(Reply::Ending) => {}
                Err(error) if has_ended(&error) => {}
                Ok(other) => return Err(unexpected(name, &other)),
                Err(error) => return Err(Error::lost(name, &no_answer(&error))),
            }
        }
        let text = format!("{MOST_MASTERS} masters ended before they answered; try again");
        Err(Error::lost(name, &text))
    }
}

fn of_client(error: &ClientError) -> Error {
    if let ClientError::Start(_) = error {
        let text = format!(
            "{error}; install fakessh so that it is on PATH, name it with Builder::program, or start \
             `fakessh master`"
        );
        return Error::other("", &text);
    }
    Error::other("", error)
}

fn no_answer(error: &io::Error) -> String {
    format!("the master did not answer: {error}")
}

fn unexpected(name: &str, reply: &Reply) -> Error {
    tracing::debug!(?reply, "the master said something else than an answer");
    Error::new(ErrorKind::Other, name, "the master said something else than an answer")
}

/// Whether an error of a socket says that the master is gone.
fn has_ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// The next reply that is no question and no notice; these are dealt with.
///
/// # Errors
/// `UnexpectedEof` if the master is gone.
async fn reply(socket: &Socket, ask: &dyn Ask) -> io::Result<Reply> {
    loop {
        match received(socket).await? {
            Reply::Ask { kind, text, hop } => {
                answer(socket, ask, Reply::question(&kind, text, hop)).await?;
            }
            Reply::Notice(notice) => ask.notice(notice).await,
            reply => return Ok(reply),
        }
    }
}

/// The next message of the master. Cancel safe.
async fn received(socket: &Socket) -> io::Result<Reply> {
    let received = socket.receive().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_slice(&received.payload)?)
}

/// Asks a question of the master's, and sends the answer.
async fn answer(socket: &Socket, ask: &dyn Ask, question: Question) -> io::Result<()> {
    let answer = control::encode_answer(ask.ask(question).await.as_ref());
    socket.send(&answer, &[]).await
}

/// A message as it goes over a socket.
fn to_bytes(message: &control::ClientMessage) -> Vec<u8> {
    // Such a message has no map with keys that are no text, and nothing else can fail.
    serde_json::to_vec(message).unwrap_or_default()
}

/// What goes to the master: a message, and its descriptors.
struct Outgoing {
    message: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// What became of whatever was under way when the master ended.
fn master_has_ended(name: &str) -> Error {
    Error::lost(name, "the master has ended, and the connection with it")
}
