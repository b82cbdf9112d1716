//! The two clients that every behaviour is held against.

/// Whose `ssh` a tool finds on its `PATH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// OpenSSH's.
    Ssh,
    /// Ours, in a `fakessh run`.
    Fakessh,
}

impl Client {
    /// The status of a session whose program was killed by this signal. `ssh` ignores the
    /// signal's name and says 255; ours is 128+n.
    pub fn status_of_signal(self, number: i32) -> i32 {
        match self {
            Client::Ssh => 255,
            Client::Fakessh => 128 + number,
        }
    }
}

/// Makes two tests of each body, one a client: `NAME::with_ssh` and `NAME::with_fakessh`.
///
/// ```ignore
/// both_clients! {
///     /// What a user sees.
///     fn exit_status_is_that_of_the_program(client) {
///         LAB.get().tool(client, ["ssh", "remote", "exit 7"]).run().expect_status(7);
///     }
/// }
/// ```
#[macro_export]
macro_rules! both_clients {
    ($($(#[$attribute:meta])* fn $name:ident($client:ident) $body:block)+) => {
        $(
            $(#[$attribute])*
            mod $name {
                #[allow(unused_imports, reason = "not every body needs what its file imports")]
                use super::*;

                fn body($client: $crate::Client) $body

                #[test]
                fn with_ssh() {
                    body($crate::Client::Ssh);
                }

                #[test]
                fn with_fakessh() {
                    body($crate::Client::Fakessh);
                }
            }
        )+
    };
}
