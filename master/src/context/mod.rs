//! A context: one place where programs can be run, reached once and held.

mod arrive;
mod environment;
mod error;
mod establish;
mod held;
mod holding;
mod id;
mod path;
mod pool;
mod registry;
mod segment;
mod sharing;
mod single_flight;
mod slaveless;
mod starting;
mod tell;
mod variables;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::forward::Listen;
use fakessh_protocol::message::{Connection, Peer, ProgramKind, ProgramSetup, Tool};
use fakessh_protocol::wire::Handle;
use tokio::sync::{Mutex, mpsc};

use crate::auth::earlier;
use crate::hop::helper::{Helper, Talk};
use crate::hop::process::Process;
use crate::hop::ssh::{Deferred, Fallbacks, SshConnection};
use crate::lifetime::alarm::Alarm;
use crate::lifetime::{InUse, Use, Uses};
use crate::link::{Link, LinkLost, ListenFor, Listener, PROBE_TIMEOUT, ReverseSession, SessionIo};
use crate::notice_relay::NoticeRelay;
use crate::start::StartError;
use crate::stream::ByteStream;

use held::HeldConnection;
use starting::Starting;

pub use error::ContextError;
pub use id::{ContextId, NoContextId};
pub use registry::{Branch, CloseError, Reached, Registry};
pub use variables::SessionOptions;
pub(crate) use variables::WantedForwards;

/// How long a slave may take to start. `ConnectTimeout` ends with the exchange of keys (ssh_config(5)):
/// what the account's login shell does first may take its time.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// One place where programs can be run.
pub struct Context {
    id: ContextId,
    name: String,
    user: String,
    /// Host and port of the nearest SSH connection, if there is one.
    address: Option<(String, u16)>,
    serving: Serving,
    underlay: Underlay,
    /// Kept as long as this.
    base: Option<Arc<Context>>,
    /// Until this is closed, though somebody may still know of it.
    use_of_base: std::sync::Mutex<Option<InUse>>,
    since: SystemTime,
    uses: Arc<Uses>,
    served: AtomicU64,
    /// Whether a person has to answer something to get here again.
    needs_answer: bool,
    /// When the first certificate ends that leads here.
    certificate_end: Option<SystemTime>,
    /// Whether somebody was told why no slave runs there, or need not be.
    said: AtomicBool,
}

/// What starts the programs.
enum Serving {
    /// A slave that waits there.
    Slave(Link),
    /// The SSH server itself, each on a channel of its own: no slave runs there, or not yet.
    Direct(SshConnection, Starting),
}

/// What carries a context, and ends with it.
enum Underlay {
    Ssh(HeldConnection),
    Helper(Mutex<Helper>),
    Process(Mutex<Process>),
}

/// What a context is made of.
struct NewContext {
    name: String,
    user: String,
    address: Option<(String, u16)>,
    serving: Serving,
    underlay: Underlay,
    needs_answer: bool,
    /// When the certificate of its own login ends.
    certificate_end: Option<SystemTime>,
    base: Option<Arc<Context>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Context {
    fn new(new: NewContext, alarm: &Arc<Alarm>) -> Context {
        let NewContext { name, user, address, serving, underlay, needs_answer, base, .. } = new;
        let of_base = base.as_ref().and_then(|base| base.certificate_end);
        Context {
            id: ContextId::next(),
            name,
            user,
            address,
            serving,
            underlay,
            use_of_base: base.as_ref().and_then(|base| base.hold(Use::Dependent)).into(),
            base,
            since: SystemTime::now(),
            uses: Uses::new(alarm.clone()),
            served: AtomicU64::new(0),
            needs_answer,
            certificate_end: earlier(new.certificate_end, of_base),
            said: AtomicBool::new(false),
        }
    }

    /// A TCP connection that the slave opens, as a stream.
    async fn tcp(&self, host: &str, port: u16) -> Result<ByteStream, ContextError> {
        let peer = Peer::Tcp { host: host.to_owned(), port };
        let program = ProgramKind::Connection(Connection { peer, reports: false });
        let needs = "a connection from there";
        let session = self.slave_session(program, ProgramSetup::default(), needs).await?;
        let ask = Arc::new(crate::caller::AskNobody);
        let (_, stream) = Helper::start(
            session,
            Talk { prompt: None, who: String::new(), hop: NoticeRelay::new(&*self.name), ask },
        );
        Ok(stream)
    }

    /// A session that is part of a way, and not counted. A slave that is being started is waited
    /// for.
    async fn slave_session(
        &self,
        program: ProgramKind,
        setup: ProgramSetup,
        needs: &str,
    ) -> Result<SessionIo, ContextError> {
        let link = self.slave().await.map_err(|why| ContextError::Slaveless {
            name: self.name.clone(),
            needs: needs.to_owned(),
            why,
        })?;
        let opened = link.open(program, setup);
        opened.map_err(|lost| ContextError::Local(format!("{}: {lost}", self.name)))
    }

    /// The slave; one that is being started is waited for, and a start that has failed for a
    /// reason that passes is tried again. Cancel safe.
    async fn slave(&self) -> Result<Link, Arc<StartError>> {
        match &self.serving {
            Serving::Slave(link) => Ok(link.clone()),
            Serving::Direct(connection, starting) => starting.obtain(connection).await,
        }
    }

    /// The context nearest to this machine, of this one and those that it hangs on, to which nobody
    /// gets again without an answer.
    fn root_that_needs_answer(&self) -> Option<ContextId> {
        let of_base = self.base.as_ref().and_then(|base| base.root_that_needs_answer());
        of_base.or_else(|| self.needs_answer.then(|| self.id()))
    }

    /// The destination as it was first asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The account that programs run as, as the target says it; what a terminal would act on is
    /// replaced.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Why no slave runs there, the first time that somebody wants to say it; not where it was known
    /// before.
    fn unsaid_reason(&self) -> Option<Arc<StartError>> {
        let why = self.why_direct()?;
        (!self.said.swap(true, Ordering::Relaxed)).then_some(why)
    }

    /// Whether the connection is gone. A new one is made when the destination is asked for again.
    pub fn is_lost(&self) -> bool {
        match &self.serving {
            Serving::Slave(link) => link.is_lost(),
            Serving::Direct(connection, starting) => {
                connection.is_closed() || starting.slave().is_some_and(|link| link.is_lost())
            }
        }
    }

    /// Waits until the connection is gone, and says why. Cancel safe.
    pub async fn lost(&self) -> LinkLost {
        match &self.serving {
            Serving::Slave(link) => link.lost().await,
            Serving::Direct(connection, starting) => {
                tokio::select! {
                    lost = async { starting.succeeded().await.lost().await } => lost,
                    lost = connection.closed() => LinkLost(lost.message.into()),
                }
            }
        }
    }

    /// Asks for a sign of life; if none comes in ten seconds, the connection is dead. Must be
    /// called in a tokio runtime.
    pub fn probe(&self) {
        match &self.serving {
            Serving::Slave(link) => link.probe(),
            Serving::Direct(_, starting) if starting.slave().is_some() => {
                starting.slave().inspect(Link::probe);
            }
            // A session whose reader has stopped holds up the answer: the keepalive has to do.
            Serving::Direct(..) if self.sessions() > 0 => {}
            Serving::Direct(connection, _) => {
                let connection = connection.clone();
                tokio::spawn(async move { connection.probe(PROBE_TIMEOUT).await });
            }
        }
    }

    /// Asks for a sign of life, and waits for it so long. Must be called in a tokio runtime. Cancel
    /// safe.
    pub(crate) async fn answers(&self, limit: Duration) -> bool {
        let answer = async {
            match &self.serving {
                Serving::Slave(link) => link.answers().await,
                Serving::Direct(connection, starting) => match starting.slave() {
                    Some(link) => link.answers().await,
                    None => connection.answers().await,
                },
            }
        };
        tokio::time::timeout(limit, answer).await.unwrap_or(false)
    }

    /// Starts a program. Nothing is waited for: the request is on its way when this returns, and
    /// standard input may follow at once.
    ///
    /// # Errors
    /// If the link is lost.
    pub fn open(
        &self,
        program: ProgramKind,
        setup: ProgramSetup,
    ) -> Result<(SessionIo, SessionCount), LinkLost> {
        self.open_with(program, setup, None)
    }

    /// As [`Context::open`]. Where the connection has no room for one more session, or is held up
    /// by another, `another` makes one for this session alone.
    pub(crate) fn open_with(
        &self,
        program: ProgramKind,
        setup: ProgramSetup,
        another: Option<Deferred<Option<SshConnection>>>,
    ) -> Result<(SessionIo, SessionCount), LinkLost> {
        let running = self.count()?;
        let session = match &self.serving {
            Serving::Slave(link) => link.open(program, setup)?,
            Serving::Direct(connection, starting) => match starting.slave() {
                Some(link) => link.open(program, setup)?,
                None => {
                    let make_room: Deferred<()> = Box::pin(starting.clone().give_up());
                    let fallbacks = Fallbacks { make_room: Some(make_room), another };
                    connection.open_session(fallbacks, program, setup)
                }
            },
        };
        Ok((session, running))
    }

    /// Starts a tool whose own `ssh` comes back as a [`ReverseSession`], until the tool's session is over. A
    /// slave that is being started is waited for.
    ///
    /// # Errors
    /// If the link is lost, or no slave can run there.
    pub async fn open_tool(
        &self,
        tool: Tool,
        setup: ProgramSetup,
    ) -> Result<(SessionIo, mpsc::UnboundedReceiver<ReverseSession>, SessionCount), Failure> {
        let link = self.slave().await.map_err(|why| {
            let message = format!("a tool can't be run without a slave there: {why}");
            Failure::new(FailureKind::NoSlave, message)
        })?;
        let lost = |lost: LinkLost| Failure::new(FailureKind::ConnectionLost, lost.to_string());
        let running = self.count().map_err(lost)?;
        let opened = link.open_tool(tool, setup);
        let (session, reverse) = opened.map_err(lost)?;
        Ok((session, reverse, running))
    }

    /// Listens there for a forward. While a slave is being started, the SSH server does.
    ///
    /// # Errors
    /// Why it can't be listened there, or that the connection is lost.
    pub(crate) async fn listen(&self, listen: Listen) -> Result<Listener, Failure> {
        match &self.serving {
            Serving::Slave(link) => link.listen(ListenFor::Forward(listen))?.ready().await,
            Serving::Direct(connection, starting) => match starting.slave() {
                Some(link) => link.listen(ListenFor::Forward(listen))?.ready().await,
                None => connection.listen(&listen).await,
            },
        }
    }

    /// Has a socket stand for an agent there, for the program that is started with this handle in its
    /// setup. Nothing is waited for before the listener.
    ///
    /// # Errors
    /// That the connection is lost.
    pub(crate) fn listen_for_agent(
        &self,
    ) -> Result<(Handle, Deferred<Result<Listener, Failure>>), Failure> {
        let link = match &self.serving {
            Serving::Slave(link) => link.clone(),
            Serving::Direct(connection, starting) => match starting.slave() {
                Some(link) => link,
                None => {
                    let listener = connection.listen_for_agent();
                    return Ok((Handle::LINK, Box::pin(async move { Ok(listener) })));
                }
            },
        };
        let pending = link.listen(ListenFor::Agent)?;
        Ok((pending.handle(), Box::pin(pending.ready())))
    }

    /// What an agent has to be told before it serves this context: that the host here has it used
    /// (`session-bind@openssh.com`). `None` if no SSH connection leads here.
    pub(crate) fn agent_binding(&self) -> Option<Vec<u8>> {
        match &self.underlay {
            Underlay::Ssh(held) => held.connection()?.agent_binding(),
            Underlay::Helper(_) | Underlay::Process(_) => self.base.as_ref()?.agent_binding(),
        }
    }

    fn count(&self) -> Result<SessionCount, LinkLost> {
        let running = self.uses.begin(Use::Session).ok_or_else(holding::just_ended)?;
        self.served.fetch_add(1, Ordering::Relaxed);
        Ok(SessionCount { _in_use: running })
    }

    /// Ends all sessions, and what was made to get there.
    pub async fn close(&self) {
        let connection = match &self.underlay {
            Underlay::Ssh(held) => held.take(),
            Underlay::Helper(_) | Underlay::Process(_) => None,
        };
        let link = match &self.serving {
            Serving::Slave(link) => Some(link.clone()),
            Serving::Direct(_, starting) => starting.slave(),
        };
        if let Some(link) = link {
            link.close();
            link.lost().await;
        }
        if let Some(connection) = connection {
            connection.close().await;
        }
        match &self.underlay {
            Underlay::Ssh(_) => {}
            Underlay::Helper(helper) => helper.lock().await.gone().await,
            Underlay::Process(process) => process.lock().await.gone().await,
        }
        self.let_go_of_base();
    }
}

/// Counts a session as running until it is dropped.
#[derive(Debug)]
pub struct SessionCount {
    _in_use: InUse,
}
