//! `fakessh master`: the master itself.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use fakessh::daemon::{self, BoundedLog, EventLines, IDLE_EXIT, InstanceLock, client};
use fakessh::runtime_dir::RuntimeDir;
use tracing_subscriber::EnvFilter;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// End after this many seconds without a connection and a client; 0 for never
    #[arg(long, value_name = "SECONDS", env = "FAKESSH_IDLE_EXIT")]
    idle_exit: Option<u64>,
    /// Say "ready" on standard output, let go of it, and log to a file
    #[arg(long, hide = true)]
    background: bool,
}

pub(super) fn master(arguments: &Arguments) -> anyhow::Result<u8> {
    let filter = || {
        EnvFilter::try_from_env("FAKESSH_LOG").unwrap_or_else(|_| EnvFilter::new("info,russh=warn"))
    };
    if arguments.background {
        fakessh::daemon::detach()?;
    }
    let lock = match prepare() {
        Ok(lock) => lock,
        Err(error) if arguments.background => {
            // The client that started us shows it.
            println!("{error:#}");
            return Ok(super::FAILURE);
        }
        Err(error) => return Err(error),
    };
    if arguments.background {
        let log = Mutex::new(EventLines(BoundedLog::open(&RuntimeDir::of_user()?)?));
        let log = tracing_subscriber::fmt().with_writer(log).with_ansi(false);
        log.with_env_filter(filter()).init();
    } else {
        let log = tracing_subscriber::fmt().with_writer(|| EventLines(std::io::stderr()));
        log.with_ansi(false).with_env_filter(filter()).init();
    }
    // Nobody waits in the foreground for an idle master to end, unless told so.
    let default = if arguments.background { IDLE_EXIT } else { Duration::ZERO };
    let idle = arguments.idle_exit.map_or(default, Duration::from_secs);
    // One thread: a command passes through four tasks, and a wake-up across threads costs more
    // than all that they do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let serving = daemon::serve(lock, (!idle.is_zero()).then_some(idle));
        if arguments.background {
            let mut stdout = std::io::stdout();
            stdout.write_all(client::READY)?;
            stdout.flush()?;
            daemon::let_go_of_stdio()?;
        }
        serving.await
    });
    // A read of a descriptor that never gives anything must not keep us.
    runtime.shutdown_background();
    served?;
    Ok(0)
}

fn prepare() -> anyhow::Result<InstanceLock> {
    Ok(InstanceLock::take(RuntimeDir::of_user()?)?)
}
