//! All contexts of a master, by what they are.

use std::path::PathBuf;
use std::sync::Arc;

use crate::caller::Caller;
use crate::hop::ssh::{SshConnection, Via, WeakConnection};
use crate::ssh_config::{self, MAX_JUMPS, Resolved, Target};

use super::slots::Slots;
use super::{Context, ContextError};

/// What makes two connections the same: who logs in where, by which way, and with which keys. At
/// hosts of git repositories the key alone says which account it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    user: String,
    hostname: String,
    port: u16,
    host_key_alias: Option<String>,
    proxy_jump: Option<String>,
    proxy_command: Option<String>,
    identity_files: Vec<PathBuf>,
    certificate_files: Vec<PathBuf>,
    identities_only: bool,
}

impl Key {
    fn new(resolved: &Resolved) -> Key {
        Key {
            user: resolved.user.clone(),
            hostname: resolved.hostname.clone(),
            port: resolved.port,
            host_key_alias: resolved.host_key_alias.clone(),
            proxy_jump: resolved.proxy_jump.clone(),
            proxy_command: resolved.proxy_command.clone(),
            identity_files: resolved.identity_files.clone(),
            certificate_files: resolved.certificate_files.clone(),
            identities_only: resolved.identities_only,
        }
    }
}

/// All contexts of a master. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry {
    contexts: Arc<Slots<Key, Arc<Context>, ContextError>>,
    /// Connections to jump hosts, held by those that go through them.
    jumps: Arc<Slots<Key, WeakConnection, ContextError>>,
}

impl Default for Registry {
    fn default() -> Self {
        Registry { contexts: Arc::new(Slots::new()), jumps: Arc::new(Slots::new()) }
    }
}

impl Registry {
    /// The context of a destination: the one that is held, or a new connection.
    ///
    /// Questions go to `caller`. Who asks for a context that another caller is just connecting to
    /// waits for that one. Cancelled, the attempt ends and leaves nothing.
    ///
    /// # Errors
    /// [`ContextError`]; those who waited for the same attempt get the same error.
    pub async fn context(
        &self,
        target: &Target,
        caller: &Caller,
    ) -> Result<Arc<Context>, ContextError> {
        let resolved = resolve(target, caller).await?;
        self.contexts
            .get(
                &Key::new(&resolved),
                |context| !context.is_lost(),
                async || {
                    let connection = self.connect(&resolved, caller, 0).await?;
                    let name = target.to_string();
                    Ok(Arc::new(Context::start(name, resolved.clone(), connection).await?))
                },
            )
            .await
    }

    /// Contexts that are connected now.
    pub fn contexts(&self) -> Vec<Arc<Context>> {
        self.contexts.retain(|context| !context.is_lost());
        self.contexts.values()
    }

    /// Closes contexts by name, and says which names there were.
    pub async fn close(&self, names: &[String]) -> Vec<String> {
        let mut closed = Vec::new();
        for context in self.contexts() {
            if names.iter().any(|name| name == context.name()) {
                context.close().await;
                closed.push(context.name().to_owned());
            }
        }
        self.contexts.retain(|context| !context.is_lost());
        closed
    }

    /// Closes all contexts.
    pub async fn close_all(&self) {
        let contexts = self.contexts();
        let names: Vec<String> = contexts.iter().map(|context| context.name().to_owned()).collect();
        self.close(&names).await;
    }

    /// Makes a connection, over its jump hosts.
    async fn connect(
        &self,
        resolved: &Resolved,
        caller: &Caller,
        depth: usize,
    ) -> Result<SshConnection, ContextError> {
        let failed = |error| ContextError::Connect(Arc::new(error));
        if depth >= MAX_JUMPS {
            return Err(ContextError::TooManyJumps(MAX_JUMPS));
        }
        if let Some(list) = &resolved.proxy_jump {
            let jumps = ssh_config::parse_proxy_jump(resolved, list)?;
            let mut through: Option<SshConnection> = None;
            for jump in jumps {
                through = Some(self.jump(&jump, through, caller, depth + 1).await?);
            }
            if let Some(through) = through {
                let via = Via::Through(&through);
                return SshConnection::connect(resolved, via, caller).await.map_err(failed);
            }
        }
        let via = match &resolved.proxy_command {
            Some(command) => Via::Command(command),
            None => Via::Tcp,
        };
        SshConnection::connect(resolved, via, caller).await.map_err(failed)
    }

    /// The connection to a jump host, shared by all that go through it.
    async fn jump(
        &self,
        target: &Target,
        through: Option<SshConnection>,
        caller: &Caller,
        depth: usize,
    ) -> Result<SshConnection, ContextError> {
        let resolved = resolve(target, caller).await?;
        let mut made = None;
        let usable = |weak: &WeakConnection| {
            weak.upgrade().is_some_and(|connection| !connection.is_closed())
        };
        let weak = self
            .jumps
            .get(&Key::new(&resolved), usable, async || {
                let connection = match through {
                    Some(through) => {
                        SshConnection::connect(&resolved, Via::Through(&through), caller)
                            .await
                            .map_err(|error| ContextError::Connect(Arc::new(error)))?
                    }
                    None => Box::pin(self.connect(&resolved, caller, depth)).await?,
                };
                let weak = connection.downgrade();
                made = Some(connection);
                Ok(weak)
            })
            .await?;
        made.or_else(|| weak.upgrade()).ok_or_else(|| {
            ContextError::Local(format!("{}: the connection was lost at once", target.host))
        })
    }
}

async fn resolve(target: &Target, caller: &Caller) -> Result<Resolved, ContextError> {
    ssh_config::resolve(target, caller).await.map_err(|error| ContextError::Config(Arc::new(error)))
}
