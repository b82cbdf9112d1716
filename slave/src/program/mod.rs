//! Starts programs: each kind of program that the master can ask for.
//!
//! The `launcher` has what every program gets, and `spawn` starts one with pipes of ours. A program
//! is started by the login `shell`, or without it, as a `helper` or a `tool`; a `connection` is a
//! program without a file.

mod account;
mod connection;
mod helper;
mod launcher;
mod self_upload;
mod shell;
mod spawn;
mod subsystem;
mod terminal;
mod tool;

use std::io;

use fakessh_protocol::message::{ProgramKind, ProgramSetup, Refusal, RefusalReason};

pub(crate) use account::Account;
pub(crate) use launcher::Launcher;
pub(crate) use self_upload::SelfUpload;
pub(crate) use spawn::{Program, ProgramStdio};
pub(crate) use terminal::Terminal;
pub(crate) use tool::start as start_tool;

use crate::{child, pipe, sftp};

/// Starts a program that is no tool. It runs when this returns.
///
/// # Errors
/// What the master is to be told.
pub(crate) fn start(
    launcher: &Launcher,
    program: &ProgramKind,
    setup: &ProgramSetup,
) -> Result<Program, Refusal> {
    launcher.check_directory(setup)?;
    match program {
        ProgramKind::Shell(line) => shell::command(launcher, line, setup, false),
        ProgramKind::Login => shell::login(launcher, setup),
        ProgramKind::Subsystem(name) if subsystem::is_ours(name) => {
            let started = start_sftp(launcher, setup);
            started.map_err(|error| spawn::refusal(&error, "the SFTP server", 0))
        }
        ProgramKind::Subsystem(name) => {
            let line = subsystem::command(name).ok_or_else(|| Refusal {
                reason: RefusalReason::NotFound,
                message: format!("the target has no subsystem {name:?}"),
            })?;
            shell::command(launcher, line.as_bytes(), setup, true)
        }
        ProgramKind::Helper(helper) => helper::start(launcher, helper, setup),
        ProgramKind::Connection(connection) => connection::start(launcher, connection),
        ProgramKind::Program(argv) => start_directly(launcher, argv, setup),
        ProgramKind::Tool(_) => {
            let message = "a tool needs a run of its own".to_owned();
            Err(Refusal { reason: RefusalReason::Other, message })
        }
    }
}

/// Starts a program without a shell in between.
fn start_directly(
    launcher: &Launcher,
    argv: &[Vec<u8>],
    setup: &ProgramSetup,
) -> Result<Program, Refusal> {
    let (mut command, name) = spawn::direct_command(argv, "program")?;
    launcher.prepare(&mut command, setup);
    let started = spawn::start_program(command, setup, false);
    started.map_err(|error| spawn::refusal(&error, &name, spawn::length(argv)))
}

/// Starts the slave's own SFTP server.
fn start_sftp(launcher: &Launcher, setup: &ProgramSetup) -> io::Result<Program> {
    let (child_stdin, stdin) = pipe::to_child()?;
    let (stdout, child_stdout) = pipe::from_child()?;
    let variables: Vec<_> = launcher::settable(&setup.environment).collect();
    let (home, child_setup) = (launcher.home(), launcher.child_setup(setup));
    let pid = sftp::start(home, &child_setup, &variables, child_stdin, child_stdout)?;
    let pidfd = child::pidfd(pid)?;
    Ok(Program { pid, pidfd, stdin, stdout, stderr: None, stdio: ProgramStdio::Pipes })
}
