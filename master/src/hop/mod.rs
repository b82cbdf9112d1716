//! Hops: the steps of a route. Each leads from where the route is so far to the next place.
//!
//! `ssh` is a connection, and a module of its own. Every other hop is a **helper**: a program that
//! is run on the host where the route is so far, and whose standard input and output are a clean
//! byte stream to the next place. A kind of helper is one file here and one line of [`KINDS`].

mod argument;
mod chroot;
mod doas;
mod docker;
mod exec;
pub(crate) mod helper;
mod incus;
mod kubectl;
mod local;
mod lxc;
mod machine;
mod nsenter;
mod openssh;
mod podman;
pub(crate) mod process;
mod prompt;
pub mod ssh;
mod su;
mod sudo;

use std::ffi::OsString;
use std::fmt;
use std::hash::{Hash, Hasher};

use fakessh_protocol::message::HelperTerminal;

pub use argument::ArgumentError;
pub use prompt::{Asked, Prompt};

/// All kinds of helpers, in the order in which messages list them.
pub const KINDS: &[&dyn Kind] = &[
    &sudo::Sudo,
    &su::Su,
    &doas::Doas,
    &docker::Docker,
    &podman::Podman,
    &kubectl::Kubectl,
    &lxc::Lxc,
    &incus::Incus,
    &machine::Machine,
    &nsenter::Nsenter,
    &chroot::Chroot,
    &exec::Exec,
    &local::Local,
    &openssh::Openssh,
];

/// The kind of this name.
pub fn kind(name: &str) -> Option<&'static dyn Kind> {
    KINDS.iter().copied().find(|kind| kind.name() == name)
}

/// A kind of hop that a helper takes.
pub trait Kind: fmt::Debug + Sync {
    /// Its name in routes: `sudo`. Lower case letters; no other kind has it, and none is `ssh`.
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

    /// What an empty argument means, where it means one that could be written, too: `sudo` is
    /// `sudo:root`. Routes hold the empty one.
    fn default_argument(&self) -> &'static str {
        ""
    }

    /// Whether it always begins a route: it starts from the master's own host.
    fn is_first_only(&self) -> bool {
        false
    }

    /// What the place is called that it leads to: tools may use that name for it.
    fn place_name<'a>(&self, _argument: &'a str) -> PlaceName<'a> {
        PlaceName::None
    }

    /// Variables that say where it leads, on the master's own host: there it gets the environment
    /// of its caller, and callers for whom these differ do not share it. Where there are none, it
    /// gets that of a login and nothing of a caller's.
    fn decided_by(&self) -> &'static [&'static str] {
        &[]
    }
}

/// What a place is called that a helper leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceName<'a> {
    /// As the place before it, for it is the same one: another account there.
    AsBefore,
    /// By a name of its own.
    Own(&'a str),
    /// By no name that a tool could know.
    None,
}

/// Kinds are the same when their names are.
impl PartialEq for dyn Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Kind {}

impl Hash for dyn Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

/// What a helper is to start at the far end, in the forms that helpers want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// A script for `/bin/sh -c`; its stream is standard input and output. It holds no single
    /// quote, backslash, exclamation mark or newline, and does not begin with `-` or `+`.
    pub script: String,
    /// Random characters that nobody else prints: for prompts. They are hexadecimal digits, and not
    /// in the script: sudo prints the command that it refuses to run.
    pub marker: String,
}

impl Start {
    /// The words of a command.
    pub fn words(&self) -> [OsString; 3] {
        ["/bin/sh".into(), "-c".into(), self.script.clone().into()]
    }

    /// The words of a command behind those of the helper that runs it.
    pub fn words_behind(&self, helper: &[&str]) -> Vec<OsString> {
        helper.iter().map(OsString::from).chain(self.words()).collect()
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
    /// Variables that the helper gets on top of the environment, as name and value.
    pub environment: &'static [(&'static str, &'static str)],
    /// Which terminal it gets.
    pub terminal: HelperTerminal,
    /// How it asks for a password, if it does.
    pub prompt: Option<Prompt>,
}

impl Plan {
    /// A helper that asks nothing and needs no terminal.
    pub fn of(argv: Vec<OsString>) -> Plan {
        Plan { argv, environment: &[], terminal: HelperTerminal::None, prompt: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the tests of all kinds start.
    pub(super) fn start() -> Start {
        Start { script: "cat".into(), marker: "5eed".into() }
    }

    /// A plan's words, for comparing.
    pub(super) fn argv(kind: &dyn Kind, argument: &str) -> Vec<String> {
        assert_eq!(kind.check(argument), Ok(()), "{argument:?}");
        let plan = kind.plan(argument, &start());
        plan.argv.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    /// Where a kind finds this argument wrong.
    pub(super) fn wrong_at(kind: &dyn Kind, argument: &str) -> usize {
        kind.check(argument).expect_err(argument).at
    }

    #[test]
    fn kinds_have_names_that_routes_can_hold() {
        let mut names: Vec<&str> = KINDS.iter().map(|kind| kind.name()).collect();
        names.push("ssh");
        for (at, name) in names.iter().enumerate() {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}");
            assert!(!names[..at].contains(name), "{name} is there twice");
        }
        for kind in KINDS {
            let rest = kind.syntax().strip_prefix(kind.name()).expect("the syntax is of the kind");
            assert!(rest.is_empty() || rest.starts_with([':', '[']), "{}", kind.syntax());
            assert_eq!(super::kind(kind.name()), Some(*kind));
            let default = kind.default_argument();
            assert!(default.is_empty() || kind.check("").is_ok() && kind.check(default).is_ok());
        }
    }

    #[test]
    fn no_kind_takes_an_option_or_a_control_character_for_an_argument() {
        for kind in KINDS {
            for argument in ["-x", "-", "--help", "a\nb", "a\0", "\u{1b}[2J", "a\u{85}"] {
                assert!(kind.check(argument).is_err(), "{}:{argument:?}", kind.name());
            }
            let long = "a".repeat(argument::MAX_ARGUMENT + 1);
            assert!(kind.check(&long).is_err(), "{}", kind.name());
        }
    }

    #[test]
    fn any_of_the_others_can_be_what_exec_runs() {
        let of_exec = exec::Exec.decided_by();
        for kind in KINDS {
            let missing = kind.decided_by().iter().find(|name| !of_exec.contains(name));
            assert_eq!(missing, None, "{}", kind.name());
        }
    }

    #[test]
    fn the_start_is_one_line_for_a_shell() {
        assert_eq!(start().line(), "exec /bin/sh -c 'cat'");
        let expected = "exec /bin/sh -c 'exec <&3 >&4 3<&- 4>&-;cat'";
        assert_eq!(start().line_over_descriptors(), expected);
        assert_eq!(start().words_behind(&["a"]), ["a", "/bin/sh", "-c", "cat"]);
    }
}
