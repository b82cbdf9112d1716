//! A context as users of the library hold it.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::command::Command;
use crate::context;
use crate::error::Error;

/// One place where programs can be run: an account on a host, or in a container. Clones are the
/// same place. It stays connected as long as its [`Fakessh`](crate::Fakessh) holds it.
#[derive(Clone, Debug)]
pub struct Context(Arc<context::Context>);

impl From<Arc<context::Context>> for Context {
    fn from(held: Arc<context::Context>) -> Context {
        Context(held)
    }
}

impl Context {
    /// The route, as it was first asked for.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The account that programs run as, as the far end says it.
    pub fn user(&self) -> &str {
        self.0.user()
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

    /// Waits until the connection is lost or closed, and says why. Cancel safe.
    pub async fn lost(&self) -> Error {
        let lost = self.0.lost().await;
        Error::lost(self.name(), &lost)
    }
}
