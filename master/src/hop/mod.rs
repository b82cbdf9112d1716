//! Hops: the steps of a route. Each leads from where the route is so far to the next place.
//!
//! `ssh` is a connection, and a module of its own. Every other hop is a **helper**: a program that
//! is run on the host where the route is so far, and whose standard input and output are a clean
//! byte stream to the next place. A kind of helper is one row of [`KINDS`].

mod account;
mod argument;
mod container;
mod exec;
pub(crate) mod helper;
mod kubectl;
mod machine;
mod namespace;
mod openssh;
pub(crate) mod process;
mod prompt;
pub mod ssh;

use std::ffi::OsString;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use fakessh_protocol::message::HelperTerminal;

pub use argument::ArgumentError;
pub use prompt::{Asked, Prompt};

/// All kinds of helpers, in the order in which messages list them.
pub static KINDS: [Kind; 14] = [
    account::SUDO,
    account::SU,
    account::DOAS,
    container::DOCKER,
    container::PODMAN,
    kubectl::KUBECTL,
    container::LXC,
    container::INCUS,
    machine::MACHINE,
    namespace::NSENTER,
    namespace::CHROOT,
    exec::EXEC,
    namespace::LOCAL,
    openssh::OPENSSH,
];

/// Finds the kind of this name.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// A kind of hop that a helper takes. Two kinds are the same if their names are.
pub struct Kind {
    name: &'static str,
    syntax: &'static str,
    variables: Variables,
    /// What an empty argument means, if it means an argument that could be written, too.
    default_argument: &'static str,
    /// Whether it always begins a route.
    begins: bool,
    place: for<'a> fn(&'a str) -> PlaceName<'a>,
    check: fn(&str) -> Result<(), ArgumentError>,
    plan: fn(&str, &Start) -> Plan,
}

/// Names of variables that say where a helper leads.
#[derive(Clone, Copy)]
enum Variables {
    These(&'static [&'static str]),
    /// Those of all other kinds, and these.
    OfAllAnd(&'static [&'static str]),
}

impl Kind {
    /// A row of the table, which leads to a place without a name.
    const fn new(
        name: &'static str,
        syntax: &'static str,
        check: fn(&str) -> Result<(), ArgumentError>,
        plan: fn(&str, &Start) -> Plan,
    ) -> Kind {
        Kind {
            name,
            syntax,
            variables: Variables::These(&[]),
            default_argument: "",
            begins: false,
            place: |_| PlaceName::None,
            check,
            plan,
        }
    }

    /// Its name in routes: `sudo`. Lower case letters; no other kind has it, and none is `ssh`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How it is written, for messages: `sudo[:USER]`.
    pub fn syntax(&self) -> &'static str {
        self.syntax
    }

    /// Checks the argument after the name and its colon; it is empty if there is no colon.
    ///
    /// # Errors
    /// What is wrong with the argument, and where.
    pub fn check(&self, argument: &str) -> Result<(), ArgumentError> {
        (self.check)(argument)
    }

    /// Says how to run the helper. The argument must have passed [`Kind::check`].
    pub fn plan(&self, argument: &str, start: &Start) -> Plan {
        (self.plan)(argument, start)
    }

    /// The argument that an empty one stands for: `sudo` is `sudo:root`. Routes hold the empty one.
    /// Empty for kinds without such a default.
    pub fn default_argument(&self) -> &'static str {
        self.default_argument
    }

    /// Whether it always begins a route: it starts from the master's own host.
    pub fn is_first_only(&self) -> bool {
        self.begins
    }

    /// The name of the place that it leads to: tools may use that name for it.
    pub fn place_name<'a>(&self, argument: &'a str) -> PlaceName<'a> {
        (self.place)(argument)
    }

    /// Variables that say where it leads. On the master's own host it gets the environment of its
    /// caller, and callers for whom these variables differ do not share it. A kind without such
    /// variables gets the environment of a login, and nothing of a caller's.
    pub fn variables(&self) -> &'static [&'static str] {
        static ALL: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
            let names = KINDS.iter().flat_map(|kind| match kind.variables {
                Variables::These(names) | Variables::OfAllAnd(names) => names,
            });
            let mut names: Vec<&'static str> = names.copied().collect();
            names.sort_unstable();
            names.dedup();
            names
        });
        match self.variables {
            Variables::These(names) => names,
            Variables::OfAllAnd(_) => &ALL,
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kind").field(&self.name).finish()
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Kind) -> bool {
        self.name == other.name
    }
}

impl Eq for Kind {}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The name of the place that a helper leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceName<'a> {
    /// The name of the place before it, which is the same place: another account there.
    AsBefore,
    /// A name of its own.
    Own(&'a str),
    /// No name that a tool could know.
    None,
}

/// The command that a helper starts at the far end, in the forms that helpers take.
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

    /// The plan of a helper that takes the words of the command after these words of its own.
    pub fn after(&self, helper: &[&str]) -> Plan {
        Plan::of(helper.iter().map(OsString::from).chain(self.words()))
    }

    /// One line for any shell, csh and fish among them.
    pub fn line(&self) -> String {
        format!("exec /bin/sh -c '{}'", self.script)
    }

    /// As [`Start::line`], for a stream on descriptors 3 and 4 ([`HelperTerminal::Whole`]).
    pub fn line_over_descriptors(&self) -> String {
        format!("exec /bin/sh -c 'exec <&3 >&4 3<&- 4>&-;{}'", self.script)
    }
}

/// How a helper is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// Variables that the helper gets beside the environment, as name and value.
    pub environment: &'static [(&'static str, &'static str)],
    /// Which terminal it gets.
    pub terminal: HelperTerminal,
    /// How it asks for a password, if it asks.
    pub prompt: Option<Prompt>,
}

impl Plan {
    /// A helper that asks nothing and needs no terminal.
    pub fn of(argv: impl IntoIterator<Item = OsString>) -> Plan {
        let argv = argv.into_iter().collect();
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
    pub(super) fn argv(kind: &Kind, argument: &str) -> Vec<String> {
        assert_eq!(kind.check(argument), Ok(()), "{argument:?}");
        let plan = kind.plan(argument, &start());
        plan.argv.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    /// Where a kind finds this argument wrong.
    pub(super) fn wrong_at(kind: &Kind, argument: &str) -> usize {
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
        for kind in &KINDS {
            let rest = kind.syntax().strip_prefix(kind.name()).expect("the syntax is of the kind");
            assert!(rest.is_empty() || rest.starts_with([':', '[']), "{}", kind.syntax());
            assert_eq!(super::kind(kind.name()), Some(kind));
            let default = kind.default_argument();
            assert!(default.is_empty() || kind.check("").is_ok() && kind.check(default).is_ok());
        }
    }

    #[test]
    fn no_kind_takes_an_option_or_a_control_character_for_an_argument() {
        for kind in &KINDS {
            for argument in ["-x", "-", "--help", "a\nb", "a\0", "\u{1b}[2J", "a\u{85}"] {
                assert!(kind.check(argument).is_err(), "{}:{argument:?}", kind.name());
            }
            let long = "a".repeat(argument::MAX_ARGUMENT + 1);
            assert!(kind.check(&long).is_err(), "{}", kind.name());
        }
    }

    #[test]
    fn what_decides_for_any_kind_decides_for_exec() {
        let of_exec = exec::EXEC.variables();
        for kind in &KINDS {
            assert!(kind.variables().iter().all(|name| of_exec.contains(name)), "{kind:?}");
        }
        assert!(of_exec.contains(&"PATH") && of_exec.contains(&"DOCKER_HOST"));
    }

    #[test]
    fn the_start_is_one_line_for_a_shell() {
        assert_eq!(start().line(), "exec /bin/sh -c 'cat'");
        let expected = "exec /bin/sh -c 'exec <&3 >&4 3<&- 4>&-;cat'";
        assert_eq!(start().line_over_descriptors(), expected);
        assert_eq!(start().after(&["a"]).argv, ["a", "/bin/sh", "-c", "cat"]);
    }
}
