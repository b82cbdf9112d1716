//! Who is asked for passwords, passphrases and trust in a host key.
//!
//! By default nobody is: what needs an answer fails with
//! [`ErrorKind::NeedsAnswer`](crate::ErrorKind::NeedsAnswer). A program with a person at its terminal
//! takes [`Terminal`], and any other one that can ask somebody implements [`Ask`].
//!
//! ```no_run
//! # fn example() -> Result<(), fakessh::Error> {
//! let fakessh = fakessh::Fakessh::builder().ask(fakessh::ask::Terminal::new()).build()?;
//! # Ok(())
//! # }
//! ```

use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use async_trait::async_trait;
use fakessh_shim::{diagnostics, prompt};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::sync::Mutex;

pub use crate::caller::{Ask, AskNobody as Nobody};
pub use fakessh_protocol::message::{Notice, Question, QuestionKind, Secret};

/// Asks on the terminal of this process, or by the program of `SSH_ASKPASS`, as ssh(1) does
/// ("ENVIRONMENT"). Notices go to standard error.
///
/// A question that is cancelled is taken off the terminal. One question is asked at a time.
#[derive(Debug, Default)]
pub struct Terminal {
    asking: Mutex<()>,
}

impl Terminal {
    /// Asks on the terminal of this process.
    pub fn new() -> Terminal {
        Terminal::default()
    }
}

#[async_trait]
impl Ask for Terminal {
    async fn ask(&self, question: Question) -> Option<Secret> {
        let _asking = self.asking.lock().await;
        let (flags, kind) = (SocketFlags::CLOEXEC, SocketType::SEQPACKET);
        let pair = socketpair(AddressFamily::UNIX, kind, flags, None);
        // Its end tells the thread that nobody waits for the answer any more.
        let (_wanted, asker) = pair.ok()?;
        let variables = std::env::vars_os();
        let environment: Vec<_> = variables
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        let ask = move || prompt::ask(&question, &environment, asker.as_fd());
        tokio::task::spawn_blocking(ask).await.ok().flatten()
    }

    async fn notice(&self, notice: Notice) {
        diagnostics::tell(&notice);
    }
}
