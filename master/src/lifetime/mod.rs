//! How long a connection is held: the times that people write, the rules of the configuration, and
//! when a context that nobody uses comes to its end.
//!
//! What is held can be used by whoever gets at the master's socket, and behind `sudo` that is root.
//! So what is idle ends, and early where it is a privilege.

pub(crate) mod alarm;
mod expiry;
mod persist;
mod rules;
mod uses;

pub(crate) use expiry::{Ends, Expiry, Moment, Use};
pub use persist::{Persist, PersistError};
pub(crate) use rules::{PRIVILEGED, Terms};
pub use rules::{Rule, Rules};
pub(crate) use uses::{InUse, Uses};
