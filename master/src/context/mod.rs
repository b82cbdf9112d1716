//! A context: one place where programs can be run, reached once and held.

mod environment;
mod error;
mod held;
mod holding;
mod id;
mod leg;
mod registry;
mod slots;
mod starting;
mod variables;
mod way;

use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fakessh_protocol::invocation::Invocation;
use fakessh_protocol::message::{self, ProgramKind, Tool};
use fakessh_protocol::printable;
use tokio::sync::{Mutex, mpsc};

use crate::auth::{IdleTimeout, earlier};
use crate::caller::{AskForNow, Caller};
use crate::hop::helper::{Helper, Talk};
use crate::hop::process::Process;
use crate::hop::ssh::{Deferred, Fallbacks, SshConnection};
use crate::hop::{Kind, Start};
use crate::lifetime::alarm::Alarm;
use crate::lifetime::{InUse, PRIVILEGED, Use, Uses};
use crate::link::{Keepalive, Link, LinkLost, PROBE_TIMEOUT, ReverseSession, SessionIo};
use crate::notice_relay::NoticeRelay;
use crate::ssh_config::Resolved;
use crate::start::{self, StartError, Upload};
use crate::stream::ByteStream;
use crate::sys::scrub::SecretAbout;

use held::HeldConnection;
use starting::Starting;

pub use error::ContextError;
pub use id::{ContextId, NoContextId};
pub use registry::{Branch, CloseError, Reached, Registry};
pub use variables::SessionOptions;

/// How long a slave may take to start. `ConnectTimeout` ends with the exchange of keys (ssh_config(5)):
/// what the account's login shell does first may take its time.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the end of a connection may come behind that of its last channel.
const END_TOGETHER: Duration = Duration::from_millis(250);

/// Most characters of an account's name that are believed. Linux allows 32.
const MAX_USER: usize = 256;

/// One place where programs can be run.
pub struct Context {
    id: ContextId,
    name: String,
    user: String,
    /// Host and port of the nearest SSH connection; nothing where there is none.
    address: Option<(String, u16)>,
    serving: Serving,
    way: Way,
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

/// What was made to get there, and ends with it.
enum Way {
    Ssh(HeldConnection),
    Helper(Mutex<Helper>),
    Process(Mutex<Process>),
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Context {
    /// The context at the end of a connection. A slave is started there, unless it is known why
    /// none can run; where that turns out, each session gets a channel of its own.
    async fn at_host(
        name: &str,
        resolved: &Resolved,
        base: Option<Arc<Context>>,
        connection: SshConnection,
        known: Option<Arc<StartError>>,
        alarm: &Arc<Alarm>,
    ) -> Result<Context, ContextError> {
        // Packets of the login are freed when their buffers are used again.
        let _secret = SecretAbout::new();
        let keepalive = keepalive(resolved);
        let starting = match known {
            Some(why) => Starting::failed(why, keepalive),
            None => {
                let starting = Starting::begin(&connection, keepalive).await;
                if let Some(error) = starting.why_none()
                    && (connection.is_closed()
                        || error.is_without_status() && ends_now(&connection).await)
                {
                    let lost = connection.closed().await;
                    let has_begun = matches!(*error, StartError::CutShort(_));
                    return Err(if has_begun {
                        ContextError::LostAtStart(lost)
                    } else {
                        ContextError::EndedAtStart(format!("{lost}; {error}"))
                    });
                }
                starting
            }
        };
        let (user, serving) = match starting.slave() {
            Some(link) => (shown_user(&link.hello().user), Serving::Slave(link)),
            None => (resolved.user.clone(), Serving::Direct(connection.clone(), starting)),
        };
        let address = Some((resolved.hostname.clone(), resolved.port));
        let (needs_answer, certificate_end) =
            (connection.was_asked(), connection.certificate_end());
        let held = HeldConnection::new(connection);
        if let Serving::Slave(link) = &serving {
            held.let_go_after(link.clone());
        }
        let way = (Way::Ssh(held), needs_answer, certificate_end);
        Ok(Context::new(name, user, address, serving, way, base, alarm))
    }

    /// The context that a helper leads to: from `base`, or from this host.
    async fn behind_helper(
        name: &str,
        (kind, argument): (&'static Kind, &str),
        base: Option<Arc<Context>>,
        resolved: Option<&Resolved>,
        caller: &Caller,
        alarm: &Arc<Alarm>,
    ) -> Result<Context, ContextError> {
        let _secret = SecretAbout::new();
        let random = || {
            start::marker().map_err(|error| {
                ContextError::Local(format!("the system gives no random numbers: {error}"))
            })
        };
        let marker = random()?;
        let script = start::script(&marker, start::Behind::Helper);
        let plan = kind.plan(argument, &Start { script, marker: random()? });
        let place = base.as_ref().map_or("this host", |base| base.name());
        let hop = match base {
            Some(_) => format!("{} on {place}", kind.name()),
            None => kind.name().to_owned(),
        };
        let idle_timeout = IdleTimeout::new(START_TIMEOUT);
        let keepalive = resolved.map(keepalive).unwrap_or_default();
        let failed = |error: StartError, unanswered| ContextError::Helper {
            hop: hop.clone(),
            error: Arc::new(error),
            unanswered,
        };
        let Some(base) = base else {
            let (process, stream) = Process::start(&plan.argv, caller)
                .map_err(|error| failed(StartError::Refused(error.to_string()), false))?;
            let link = start::start(stream, &marker, Upload::Sent, &idle_timeout, keepalive).await;
            let link = link.map_err(|error| failed(error, false))?;
            let user = shown_user(&link.hello().user);
            let way = (Way::Process(Mutex::new(process)), false, None);
            return Ok(Context::new(name, user, None, Serving::Slave(link), way, None, alarm));
        };
        let argv = plan.argv.iter().map(|word| word.as_encoded_bytes().to_vec()).collect();
        let helper = message::Helper { argv, terminal: plan.terminal, carries: true };
        let mut environment = match base.way {
            // The master's own host, which has many callers.
            Way::Process(_) => environment::of(kind, caller),
            _ => Vec::new(),
        };
        environment
            .extend(plan.environment.iter().map(|(name, value)| (name.into(), value.into())));
        let environment = environment
            .into_iter()
            .map(|(name, value)| (name.into_vec(), value.into_vec()))
            .collect();
        let program = ProgramKind::Helper(helper);
        let session = base.slave_session(program, environment, kind.name()).await?;
        let who = format!("{}: {}", base.name(), kind.name());
        let asked = Arc::new(AskForNow::new(idle_timeout.caller(caller).ask));
        let talk =
            Talk { prompt: plan.prompt, who, hop: NoticeRelay::new(name), ask: asked.clone() };
        let (helper, stream) = Helper::start(session, talk);
        let link = start::start(stream, &marker, Upload::Carried, &idle_timeout, keepalive).await;
        let link = link.map_err(|error| failed(error, helper.is_unanswered()))?;
        helper.arrived();
        asked.over();
        let (user, address) = (shown_user(&link.hello().user), base.address.clone());
        let needs_answer = idle_timeout.has_asked() || PRIVILEGED.contains(&kind.name());
        let way = (Way::Helper(Mutex::new(helper)), needs_answer, None);
        Ok(Context::new(name, user, address, Serving::Slave(link), way, Some(base), alarm))
    }

    fn new(
        name: &str,
        user: String,
        address: Option<(String, u16)>,
        serving: Serving,
        (way, needs_answer, of_login): (Way, bool, Option<SystemTime>),
        base: Option<Arc<Context>>,
        alarm: &Arc<Alarm>,
    ) -> Context {
        let of_base = base.as_ref().and_then(|base| base.certificate_end);
        Context {
            id: ContextId::next(),
            name: name.to_owned(),
            user,
            address,
            serving,
            way,
            use_of_base: base.as_ref().and_then(|base| base.hold(Use::Dependent)).into(),
            base,
            since: SystemTime::now(),
            uses: Uses::new(alarm.clone()),
            served: AtomicU64::new(0),
            needs_answer,
            certificate_end: earlier(of_login, of_base),
            said: AtomicBool::new(false),
        }
    }

    /// A TCP connection that the slave opens, as a stream.
    async fn tcp(&self, host: &str, port: u16) -> Result<ByteStream, ContextError> {
        let program = ProgramKind::Connection { host: host.to_owned(), port };
        let needs = "a connection from there";
        let session = self.slave_session(program, Vec::new(), needs).await?;
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
        environment: Vec<(Vec<u8>, Vec<u8>)>,
        needs: &str,
    ) -> Result<SessionIo, ContextError> {
        let link = self.slave().await.map_err(|why| ContextError::Slaveless {
            name: self.name.clone(),
            needs: needs.to_owned(),
            why,
        })?;
        let opened = link.open(program, environment);
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

    /// Asks for a sign of life; where none comes in ten seconds the connection is dead. Must be
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

    /// Starts a program. Nothing is waited for: the request is on its way when this returns, and
    /// standard input may follow at once.
    ///
    /// `environment` is added to the account's login environment, as name and value.
    ///
    /// # Errors
    /// Where the link is lost.
    pub fn open(
        &self,
        program: ProgramKind,
        environment: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(SessionIo, SessionCount), LinkLost> {
        self.open_with(program, environment, None)
    }

    /// As [`Context::open`]. Where the connection has no room for one more session, or is held up
    /// by another, `another` makes one for this session alone.
    pub(crate) fn open_with(
        &self,
        program: ProgramKind,
        environment: Vec<(Vec<u8>, Vec<u8>)>,
        another: Option<Deferred<Option<SshConnection>>>,
    ) -> Result<(SessionIo, SessionCount), LinkLost> {
        let running = self.count()?;
        let session = match &self.serving {
            Serving::Slave(link) => link.open(program, environment)?,
            Serving::Direct(connection, starting) => match starting.slave() {
                Some(link) => link.open(program, environment)?,
                None => {
                    let make_room: Deferred<()> = Box::pin(starting.clone().give_up());
                    let fallbacks = Fallbacks { make_room: Some(make_room), another };
                    connection.open_session(fallbacks, program, environment)
                }
            },
        };
        Ok((session, running))
    }

    /// Starts a tool whose own `ssh` comes back as a [`ReverseSession`], until the tool's session is over. A
    /// slave that is being started is waited for.
    ///
    /// # Errors
    /// Where the link is lost, or no slave can run there; one line that says why.
    pub async fn open_tool(
        &self,
        tool: Tool,
        environment: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(SessionIo, mpsc::UnboundedReceiver<ReverseSession>, SessionCount), String> {
        let link = self
            .slave()
            .await
            .map_err(|why| format!("a tool can't be run where there is no slave: {why}"))?;
        let running = self.count().map_err(|lost| lost.to_string())?;
        let opened = link.open_tool(tool, environment);
        let (session, reverse) = opened.map_err(|lost| lost.to_string())?;
        Ok((session, reverse, running))
    }

    fn count(&self) -> Result<SessionCount, LinkLost> {
        let running = self.uses.begin(Use::Session).ok_or_else(holding::just_ended)?;
        self.served.fetch_add(1, Ordering::Relaxed);
        Ok(SessionCount { _in_use: running })
    }

    /// Ends all sessions, and what was made to get there.
    pub async fn close(&self) {
        let connection = match &self.way {
            Way::Ssh(held) => held.take(),
            Way::Helper(_) | Way::Process(_) => None,
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
        match &self.way {
            Way::Ssh(_) => {}
            Way::Helper(helper) => helper.lock().await.gone().await,
            Way::Process(process) => process.lock().await.gone().await,
        }
        self.let_go_of_base();
    }
}

/// Whether a connection ends that has just lost its only channel. The two come together where a
/// server goes.
async fn ends_now(connection: &SshConnection) -> bool {
    tokio::time::timeout(END_TOGETHER, connection.closed()).await.is_ok()
}

/// Counts a session as running until it is dropped.
#[derive(Debug)]
pub struct SessionCount {
    _in_use: InUse,
}

/// The name of an account, from a target that may be hostile. Replaced and not left out: what is
/// no good name must not become one.
fn shown_user(user: &str) -> String {
    printable::word(user, MAX_USER)
}

/// `ServerAliveInterval` and `ServerAliveCountMax` where they are set, else our own.
fn keepalive(resolved: &Resolved) -> Keepalive {
    let Some(interval) = resolved.server_alive_interval.filter(|interval| !interval.is_zero())
    else {
        return Keepalive::default();
    };
    let silent_looks = resolved.server_alive_count_max.max(1);
    // The slave gives the master twice the time, so that it is the master who tells the user.
    Keepalive { interval, silent_looks, silence: interval * silent_looks * 2 }
}

impl Caller {
    /// The caller of an invocation.
    pub(crate) fn of_invocation(
        invocation: &Invocation,
        ask: Arc<dyn crate::caller::Ask>,
    ) -> Caller {
        use std::ffi::OsString;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let environment =
            invocation.environment.iter().map(|(name, value)| (text(name), text(value)));
        Caller {
            environment: environment.collect(),
            directory: text(&invocation.directory).into(),
            ask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_targets_user_is_shown_without_what_a_terminal_acts_on() {
        assert_eq!(shown_user("bob"), "bob");
        assert_eq!(shown_user("ro\x1bot\n"), "ro\u{fffd}ot\u{fffd}");
        assert_eq!(shown_user(&"x".repeat(1 << 20)).len(), MAX_USER);
    }
}
