//! A context as users of the library hold it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use fakessh_protocol::message::Peer;

use crate::command::Command;
use crate::connection::Stream;
use crate::context::{self, Reached};
use crate::error::Error;
use crate::holder::Held;
use crate::shared::SharedContext;

/// One place where programs can be run: an account on a host, or in a container. Clones are the
/// same place. It stays connected as long as its [`Fakessh`](crate::Fakessh) holds it, or the user's
/// master does ([`Fakessh::shared`](crate::Fakessh::shared)). It is never connected to again: after a
/// loss, [`Fakessh::connect`](crate::Fakessh::connect) makes another one.
#[derive(Clone, Debug)]
pub struct Context(Held);

impl From<Reached> for Context {
    fn from(reached: Reached) -> Context {
        Context(Held::Here(reached))
    }
}

/// Without the variables that a configuration sets.
impl From<Arc<context::Context>> for Context {
    fn from(context: Arc<context::Context>) -> Context {
        Reached { context, options: Arc::default() }.into()
    }
}

impl From<SharedContext> for Context {
    fn from(context: SharedContext) -> Context {
        Context(Held::Shared(Arc::new(context)))
    }
}

impl Context {
    /// The route, as it was first asked for.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The account that programs run as, as the far end says it.
    pub fn user(&self) -> &str {
        match &self.0 {
            Held::Here(reached) => reached.context.user(),
            Held::Shared(context) => context.user(),
        }
    }

    /// A program, looked for on the account's `PATH`, to be given arguments: they arrive as they are,
    /// since no shell is in between. It runs in the home directory, with the login environment.
    ///
    /// If no slave can run there, the server knows shells only. Then the words are quoted for the
    /// account's shell, and a program that does not exist is what that shell says of it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::argv(&self.0, program.as_ref())
    }

    /// A command line for the account's login shell, as `ssh HOST COMMAND` runs it. Nothing in it is
    /// quoted.
    pub fn shell(&self, line: impl AsRef<OsStr>) -> Command {
        Command::line(&self.0, line.as_ref())
    }

    /// A subsystem by its name, such as `sftp`.
    pub fn subsystem(&self, name: impl Into<String>) -> Command {
        Command::subsystem(&self.0, name.into())
    }

    /// Connects to a TCP port from there: the name is looked up, and the port reached, as a program
    /// of the account would. Behind `+sudo` root opens it, and in a
    /// container a program of the container.
    ///
    /// It takes one round trip, and what the connection takes there. A connection counts as a
    /// session. Cancelled, it leaves nothing.
    ///
    /// If no slave can run there, the SSH server connects, as for `ssh -L`. Three things are
    /// different then: a host that is not known counts as [`Connect`], a peer's reset is read as
    /// its end, and a stream that nobody reads holds up the others of its connection after a
    /// mebibyte. SSH can't tell more.
    ///
    /// ```no_run
    /// # async fn example(web1: fakessh::Context) -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    ///
    /// let mut stream = web1.tcp("127.0.0.1", 8080).await?;
    /// stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    /// stream.shutdown().await?;
    /// let mut answer = Vec::new();
    /// stream.read_to_end(&mut answer).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Resolve`], [`Connect`] and others with the reason of the far end,
    /// [`Limit`](crate::ErrorKind::Limit) if there can be no more connections,
    /// [`Config`](crate::ErrorKind::Config) if `host` can't be a host, and
    /// [`ConnectionLost`](crate::ErrorKind::ConnectionLost).
    ///
    /// [`Resolve`]: crate::ErrorKind::Resolve
    /// [`Connect`]: crate::ErrorKind::Connect
    pub async fn tcp(&self, host: &str, port: u16) -> Result<Stream, Error> {
        Stream::connect(&self.0, Peer::Tcp { host: host.to_owned(), port }).await
    }

    /// Connects to a Unix stream socket there, by its absolute path, as [`Context::tcp`] does to a
    /// port.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such path,
    /// [`Refused`](crate::ErrorKind::Refused) if the account may not connect to it,
    /// [`Connect`](crate::ErrorKind::Connect) if nobody listens, and for all of these if the SSH
    /// server connects. [`Config`](crate::ErrorKind::Config) if the path has more than 107 bytes or
    /// is not absolute: as with `ssh -L`, abstract names are not connected to.
    pub async fn unix(&self, path: impl AsRef<Path>) -> Result<Stream, Error> {
        let path = path.as_ref().as_os_str().as_bytes().to_vec();
        Stream::connect(&self.0, Peer::Unix(path)).await
    }

    /// Waits until the connection is lost or closed, and says why. Cancel safe.
    pub async fn lost(&self) -> Error {
        match &self.0 {
            Held::Here(reached) => {
                let lost = reached.context.lost().await;
                Error::lost(self.name(), &lost)
            }
            Held::Shared(context) => context.lost().await,
        }
    }

    /// Ends the connection for everybody who has it, and what runs over it; a connection of the user's
    /// master, too. Cancelled, it may end later.
    pub async fn close(&self) {
        match &self.0 {
            Held::Here(reached) => reached.context.close().await,
            Held::Shared(context) => context.close().await,
        }
    }
}
