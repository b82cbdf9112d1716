//! What an `ssh` has built in, so that what a user has set can be told from it.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::caller::{AskNobody, Caller};

use super::ConfigError;
use super::ssh_g::dump;

/// What each `ssh` has built in, asked for once.
static DEFAULTS: Mutex<Vec<(ProgramFile, Arc<OnceCell<String>>)>> = Mutex::new(Vec::new());

/// How many are remembered. There is one on nearly all machines; more come with a `PATH` of some
/// callers.
const MAX_DEFAULTS: usize = 8;

/// What is asked with. No variable of a caller counts: the answer is for all of them.
const PLAIN_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A program file. Another version of it is another program.
#[derive(Clone, PartialEq, Eq)]
struct ProgramFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl ProgramFile {
    fn at(path: &Path) -> io::Result<ProgramFile> {
        let found = path.metadata()?;
        Ok(ProgramFile {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// What an `ssh` prints without any configuration.
///
/// # Errors
/// [`ConfigError`]. Cancel safe.
pub(super) async fn defaults(ssh: &Path, caller: &Caller) -> Result<String, ConfigError> {
    let plain = ["-F", "none", "-G", "--", "localhost"].map(OsString::from);
    let nobody = Caller {
        environment: vec![("PATH".into(), PLAIN_PATH.into())],
        directory: "/".into(),
        ask: Arc::new(AskNobody),
    };
    let ask = || dump(ssh, &plain, "localhost", &nobody);
    let answer = match ProgramFile::at(ssh) {
        Ok(program) => remembered(program).get_or_try_init(ask).await.cloned(),
        Err(_) => ask().await,
    };
    match answer {
        Ok(answer) => Ok(answer),
        // It may need something of the caller's to run at all. Then the answer is the caller's.
        Err(_) => dump(ssh, &plain, "localhost", caller).await,
    }
}

/// The place for a program's answer.
fn remembered(program: ProgramFile) -> Arc<OnceCell<String>> {
    let mut all = DEFAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, cell)) = all.iter().find(|(known, _)| *known == program) {
        return cell.clone();
    }
    if all.len() >= MAX_DEFAULTS {
        all.remove(0);
    }
    let cell = Arc::new(OnceCell::new());
    all.push((program, cell.clone()));
    cell
}
