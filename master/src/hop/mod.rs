//! Hops: the steps of a route. Each leads from where the route is so far to the next place.
//!
//! `ssh` is a connection, and a module of its own. Every other hop is a **helper**: a program that
//! is run on the host where the route is so far, and whose standard input and output are a clean
//! byte stream to the next place. A kind of helper is one file here and one line of [`KINDS`].

pub mod ssh;

use std::ffi::OsString;
use std::fmt;

use fakessh_protocol::message::HelperTerminal;

/// All kinds of helpers.
pub const KINDS: &[&dyn Kind] = &[];

/// A kind of hop that a helper takes.
pub trait Kind: fmt::Debug + Sync {
    /// Its name in routes: `sudo`.
    fn name(&self) -> &'static str;

    /// How it is written, for messages: `sudo[:USER]`.
    fn syntax(&self) -> &'static str;

    /// Looks at what stands behind the name and its colon; empty where there is no colon.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    fn check(&self, argument: &str) -> Result<(), ArgumentError>;

    /// How to get there. Only called with an argument that [`Kind::check`] liked.
    fn plan(&self, argument: &str, start: &Start) -> Plan;

    /// Whether it always begins a route: it starts from the master's own host.
    fn is_first_only(&self) -> bool {
        false
    }
}

/// What is wrong with the argument of a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentError {
    /// Byte of the argument where it is wrong.
    pub at: usize,
    /// One line that says what is expected.
    pub message: String,
}

/// What a helper is to start at the far end, in the forms that helpers want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// A script for `/bin/sh -c`; its stream is standard input and output. It holds no single
    /// quote, backslash, exclamation mark or newline.
    pub script: String,
    /// Random characters that nobody else prints: for prompts.
    pub marker: String,
}

impl Start {
    /// The words of a command.
    pub fn words(&self) -> [OsString; 3] {
        ["/bin/sh".into(), "-c".into(), self.script.clone().into()]
    }

    /// One line for any shell, csh and fish among them.
    pub fn line(&self) -> String {
        format!("exec /bin/sh -c '{}'", self.script)
    }

    /// As [`Start::line`], where the stream is on descriptors 3 and 4 ([`HelperTerminal::Whole`]).
    pub fn line_over_descriptors(&self) -> String {
        format!("exec /bin/sh -c 'exec <&3 >&4 3<&- 4>&-;{}'", self.script)
    }
}

/// How a helper is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// Which terminal it gets.
    pub terminal: HelperTerminal,
    /// How it asks for a password, if it does.
    pub prompt: Option<Prompt>,
}

/// How a helper's prompt is known among what else it prints on its terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// By these characters, wherever they stand: they are our own choice.
    Marker(String),
    /// A last line without an end that has one of these endings, once blanks behind it are taken
    /// away.
    Ending(&'static [&'static str]),
}
