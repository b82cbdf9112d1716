//! The library's entrance: connects to contexts, and holds them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::caller::{Ask, AskNobody, Caller};
use crate::context::Registry;
use crate::error::Error;
use crate::handle::Context;
use crate::lifetime::Rules;
use crate::route::{Names, Options, Route};
use crate::ssh_config::{Target, parse_destination};

/// Connections that are held in this process. Clones hold the same connections.
///
/// ```no_run
/// # async fn example() -> Result<(), fakessh::Error> {
/// let fakessh = fakessh::Fakessh::builder().build()?;
/// let web1 = fakessh.connect("bastion+web1+sudo").await?;
/// let output = web1.command("id").arg("-un").output().await?;
/// assert_eq!(output.stdout, b"root\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Fakessh {
    registry: Registry,
    caller: Arc<Caller>,
    names: Arc<Names>,
    options: Options,
}

impl Fakessh {
    /// What is to be said before the first connection.
    pub fn builder() -> Builder {
        Builder { ask: Arc::new(AskNobody), options: Options::default(), own_routes: false }
    }

    /// Connects to what a route leads to, `[user@]host[:port]` and hops joined by `+`, or finds it
    /// connected. Somebody wrote the route: a text that comes from data is for
    /// [`Fakessh::connect_host`].
    ///
    /// Whoever asks for the same context meanwhile shares the attempt. Cancel safe: an attempt that
    /// nobody waits for ends.
    ///
    /// # Errors
    /// [`Error`], by its kind.
    pub async fn connect(&self, route: &str) -> Result<Context, Error> {
        let parsed = Route::parse(route).map_err(|error| Error::config(route, &error))?;
        let expanded = self.names.expand(parsed).map_err(|error| Error::config(route, &error))?;
        self.reach(&expanded).await
    }

    /// Connects to a host whose name comes from data: an inventory, a database, a URL. It is
    /// `[user@]host[:port]`, and never read as a route, whatever it holds.
    ///
    /// # Errors
    /// As [`Fakessh::connect`].
    pub async fn connect_host(&self, host: &str) -> Result<Context, Error> {
        let target: Target =
            parse_destination(host).map_err(|error| Error::config(host, &error))?;
        self.reach(&target.into()).await
    }

    async fn reach(&self, route: &Route) -> Result<Context, Error> {
        let route = route.clone().with_options(&self.options);
        let route = route.map_err(|error| Error::config("", &error))?;
        let reached = self.registry.reach(&route, &Rules::default(), &self.caller).await;
        let reached = reached.map_err(|error| Error::of_context(&route, &error))?;
        reached.context.hold_briefly(false);
        Ok(reached.context.into())
    }

    /// Ends all connections, and what runs over them.
    pub async fn close(&self) {
        self.registry.close_all().await;
    }
}

/// Makes a [`Fakessh`].
#[must_use]
pub struct Builder {
    ask: Arc<dyn Ask>,
    options: Options,
    own_routes: bool,
}

impl Builder {
    /// Who is asked for passwords, passphrases and unknown host keys. By default nobody is: what
    /// needs an answer fails with [`ErrorKind::NeedsAnswer`](crate::ErrorKind::NeedsAnswer).
    pub fn ask(mut self, ask: impl Ask + 'static) -> Builder {
        self.ask = Arc::new(ask);
        self
    }

    /// The file that is read instead of `~/.ssh/config` (ssh(1), `-F`).
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Builder {
        self.options.config = Some(path.into().into_os_string());
        self
    }

    /// One more private key for logins (ssh(1), `-i`).
    pub fn identity(mut self, path: impl Into<PathBuf>) -> Builder {
        self.options.identity.push(path.into().into_os_string());
        self
    }

    /// How long a connection may take, in whole seconds (ssh_config(5), `ConnectTimeout`).
    pub fn connect_timeout(self, limit: Duration) -> Builder {
        let seconds = limit.as_secs().max(1);
        self.option(format!("ConnectTimeout={seconds}"))
    }

    /// An option in the form of ssh_config(5), `Key=value`, as ssh(1) takes it after `-o`.
    pub fn option(mut self, option: impl Into<OsString>) -> Builder {
        self.options.option.push(option.into());
        self
    }

    /// Reads the user's names for routes from `~/.config/fakessh/config.toml`.
    pub fn own_routes(mut self) -> Builder {
        self.own_routes = true;
        self
    }

    /// Makes it. Nothing is connected to as yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if `config.toml` is to be read and can't be,
    /// or if this process has no working directory.
    pub fn build(self) -> Result<Fakessh, Error> {
        let caller = Caller::current(self.ask).map_err(|error| Error::config("", &error))?;
        let names = match self.own_routes {
            true => Names::of_user().map_err(|error| Error::config("", &error))?,
            false => Names::default(),
        };
        Ok(Fakessh {
            registry: Registry::default(),
            caller: Arc::new(caller),
            names: Arc::new(names),
            options: self.options,
        })
    }
}
