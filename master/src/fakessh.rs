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
use crate::run;
use crate::runs::{Hosts, Run};
use crate::runtime_dir::RuntimeDir;
use crate::shared::UserMaster;
use crate::ssh_config::{Target, parse_destination};
use crate::tool::ServedRun;

/// Connections that are held in this process, or by the user's master. Clones hold the same
/// connections.
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
    holder: Holder,
    caller: Arc<Caller>,
    names: Arc<Names>,
    options: Options,
}

/// Who holds the connections.
#[derive(Clone, Debug)]
enum Holder {
    /// This process. Directories of runs are made in this directory, if one is named.
    Here(Registry, Option<PathBuf>),
    /// The user's master.
    Shared(Arc<UserMaster>),
}

impl Fakessh {
    /// What is to be said before the first connection.
    pub fn builder() -> Builder {
        Builder {
            ask: Arc::new(AskNobody),
            options: Options::default(),
            own_routes: false,
            program: None,
            directory: None,
        }
    }

    /// The user's master: connections are shared with every other program of the user, and outlive
    /// this one. [`Builder::shared`] with nothing else said.
    ///
    /// # Errors
    /// As [`Builder::shared`].
    pub async fn shared() -> Result<Fakessh, Error> {
        Fakessh::builder().shared().await
    }

    /// Connects to what a route leads to, `[user@]host[:port]` and hops joined by `+`, or finds it
    /// connected. Somebody wrote the route: a text that comes from data is for
    /// [`Fakessh::connect_host`].
    ///
    /// Whoever asks for the same context meanwhile shares the attempt. Cancel safe: an attempt that
    /// nobody waits for ends.
    ///
    /// # Errors
    /// [`Error::kind`] says why there is no context: see [`ErrorKind`](crate::ErrorKind).
    pub async fn connect(&self, route: &str) -> Result<Context, Error> {
        self.reach(&self.read(route)?).await
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

    /// Lets tools on this host run with an `ssh` of their own that leads to these hosts. They are
    /// connected to first, or found connected.
    ///
    /// ```no_run
    /// # async fn example(fakessh: fakessh::Fakessh) -> Result<(), Box<dyn std::error::Error>> {
    /// use fakessh::Hosts;
    ///
    /// let run = fakessh.run(Hosts::mapped().route("db", "bastion+db1+sudo:postgres")).await?;
    /// let status = run.command("rsync")?.args(["-a", "./", "db:site/"]).status().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Fakessh::connect`] for the first host that can't be reached,
    /// [`ErrorKind::Version`](crate::ErrorKind::Version) if the user's master is of another version, and
    /// [`ErrorKind::Other`](crate::ErrorKind::Other) if no directory for programs can be made.
    pub async fn run(&self, hosts: Hosts) -> Result<Run, Error> {
        let hosts = hosts.read(|route| self.with_options(&self.read(route)?))?;
        match &self.holder {
            Holder::Here(registry, directory) => {
                let run = run::Run::new(hosts.into(), registry.clone(), &self.caller);
                let connected = run.connect(&self.caller.ask).await;
                connected.map_err(|(route, error)| Error::of_context(&route, &error))?;
                let base = directory_of(directory.clone())?;
                let served = ServedRun::start(Arc::new(run), &base);
                served.map(Run::here).map_err(|error| Error::other("", &error))
            }
            Holder::Shared(master) => master.run(hosts, &self.caller).await,
        }
    }

    /// Reads a route, with the user's names for routes if they are wanted.
    fn read(&self, route: &str) -> Result<Route, Error> {
        let parsed = Route::parse(route).map_err(|error| Error::config(route, &error))?;
        self.names.expand(parsed).map_err(|error| Error::config(route, &error))
    }

    fn with_options(&self, route: &Route) -> Result<Route, Error> {
        // They are for all connections by SSH. A route without one has no use for them.
        if !route.has_connection() {
            return Ok(route.clone());
        }
        let with_options = route.clone().with_options(&self.options);
        with_options.map_err(|error| Error::config(&route.to_string(), &error))
    }

    async fn reach(&self, route: &Route) -> Result<Context, Error> {
        let route = self.with_options(route)?;
        match &self.holder {
            Holder::Here(registry, _) => {
                let reached = registry.reach(&route, &Rules::default(), &self.caller).await;
                let reached = reached.map_err(|error| Error::of_context(&route, &error))?;
                reached.context.hold_briefly(false);
                Ok(reached.into())
            }
            Holder::Shared(master) => Ok(master.connect(&route, &self.caller).await?.into()),
        }
    }

    /// Ends all connections that this process holds, and what runs over them. Those of the user's
    /// master stay, since others may use them; `fakessh close` ends them.
    pub async fn close(&self) {
        if let Holder::Here(registry, _) = &self.holder {
            registry.close_all().await;
        }
    }
}

/// Makes a [`Fakessh`].
#[must_use]
pub struct Builder {
    ask: Arc<dyn Ask>,
    options: Options,
    own_routes: bool,
    program: Option<PathBuf>,
    directory: Option<PathBuf>,
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

    /// The program that is started if the user has no master, for [`Builder::shared`]. By default it
    /// is `fakessh`, looked for on `PATH`.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Builder {
        self.program = Some(path.into());
        self
    }

    /// The directory of the user's master, and of runs. By default it is `$FAKESSH_DIR`, else `$XDG_RUNTIME_DIR/fakessh`, else `/tmp/fakessh-UID`.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Builder {
        self.directory = Some(path.into());
        self
    }

    /// Makes it, and holds connections in this process. Nothing is connected to as yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if `config.toml` is to be read and can't be,
    /// or if this process has no working directory.
    pub fn build(mut self) -> Result<Fakessh, Error> {
        let directory = self.directory.take();
        self.with(Holder::Here(Registry::default(), directory))
    }

    /// Makes it with the connections of the user's master, which is started if there is none. The
    /// API is the same; connections are shared with every other program of the user, and outlive
    /// this one. How long they are held is for the user's `config.toml` to say.
    ///
    /// The streams of programs are pipes then. A process that does not ignore SIGPIPE, as Rust
    /// programs do, is killed if it writes to the input of a program that has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) as [`Builder::build`], or if the directory of
    /// the master's socket can't be used. [`ErrorKind::Version`](crate::ErrorKind::Version) if the
    /// master is of a version that knows nothing of this one's protocol.
    /// [`ErrorKind::Other`](crate::ErrorKind::Other) if no master can be started.
    pub async fn shared(mut self) -> Result<Fakessh, Error> {
        let rules = Names::of_user().map_err(|error| Error::config("", &error))?.rules();
        let directory = directory_of(self.directory.take())?;
        let master = UserMaster::find(directory, self.program.take(), rules).await?;
        self.with(Holder::Shared(Arc::new(master)))
    }

    fn with(self, holder: Holder) -> Result<Fakessh, Error> {
        let caller = Caller::current(self.ask).map_err(|error| Error::config("", &error))?;
        let names = match self.own_routes {
            true => Names::of_user().map_err(|error| Error::config("", &error))?,
            false => Names::default(),
        };
        let (caller, names) = (Arc::new(caller), Arc::new(names));
        Ok(Fakessh { holder, caller, names, options: self.options })
    }
}

/// The directory of the user's master, if no other one is named.
fn directory_of(named: Option<PathBuf>) -> Result<RuntimeDir, Error> {
    let directory = named.map_or_else(RuntimeDir::of_user, RuntimeDir::at);
    directory.map_err(|error| Error::config("", &error))
}
