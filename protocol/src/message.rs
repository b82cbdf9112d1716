//! What control frames mean: the conversation on a link, and the one between a shim and its
//! master.

mod link;
mod shim;

pub use link::{
    Hello, LinkSettings, ProgramKind, Refusal, RefusalReason, SessionHandles, Spawn, ToMaster,
    ToSlave,
};
pub use shim::{FromShim, Handoff, Question, QuestionKind, Secret, ToShim};
