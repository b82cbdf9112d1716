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

use fakessh_protocol::message::{ProgramKind, Refusal, RefusalReason};

pub(crate) use account::Account;
pub(crate) use launcher::{Launcher, Variables};
pub(crate) use self_upload::SelfUpload;
pub(crate) use spawn::{HelperStdio, Program};
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
    variables: &Variables,
) -> Result<Program, Refusal> {
    match program {
        ProgramKind::Shell(line) => shell::command(launcher, line, variables, false),
        ProgramKind::Login => shell::login(launcher, variables),
        ProgramKind::Subsystem(name) if subsystem::is_ours(name) => {
            let started = start_sftp(launcher, variables);
            started.map_err(|error| spawn::refusal(&error, "the SFTP server", 0))
        }
        ProgramKind::Subsystem(name) => {
            let line = subsystem::command(name).ok_or_else(|| Refusal {
                reason: RefusalReason::NotFound,
                message: format!("the target has no subsystem {name:?}"),
            })?;
            shell::command(launcher, line.as_bytes(), variables, true)
        }
        ProgramKind::Helper(helper) => helper::start(launcher, helper, variables),
        ProgramKind::Connection(connection) => connection::start(launcher, connection),
        ProgramKind::Program(argv) => start_directly(launcher, argv, variables),
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
    variables: &Variables,
) -> Result<Program, Refusal> {
    let (mut command, name) = spawn::direct_command(argv, "program")?;
    launcher.prepare(&mut command, variables);
    spawn::spawn(command, false).map_err(|error| spawn::refusal(&error, &name, spawn::length(argv)))
}

/// Starts the slave's own SFTP server.
fn start_sftp(launcher: &Launcher, variables: &Variables) -> io::Result<Program> {
    let (child_stdin, stdin) = pipe::to_child()?;
    let (stdout, child_stdout) = pipe::from_child()?;
    let variables: Vec<_> = launcher::settable(variables).collect();
    let (home, setup) = (launcher.home(), launcher.child_setup());
    let pid = sftp::start(home, setup, &variables, child_stdin, child_stdout)?;
    let pidfd = child::pidfd(pid)?;
    Ok(Program { pid, pidfd, stdin, stdout, stderr: None, helper: None })
}
