//! The link to the master: frames in, frames out, and nothing of what they mean.
//!
//! `inbound` takes frames apart and fills sinks, `outbound` empties sources. Each owns its
//! `direction` of the link. Events of the mux go to whoever called: the event loop.

mod clock;
mod direction;
mod end;
mod inbound;
mod outbound;
mod pipes;

pub(crate) use end::LinkEnd;
pub(crate) use inbound::{Inbound, Taken, Turn as TurnIn};
pub(crate) use outbound::{Outbound, Turn as TurnOut};
pub(crate) use pipes::Pipes;
