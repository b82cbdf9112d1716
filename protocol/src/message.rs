//! What control frames mean: the conversation on a link, and the one between a shim and its
//! master.

mod link;
mod shim;

pub use link::{
    Hello, Helper, HelperTerminal, LinkSettings, MAX_RAISED, PackedHandoff, ProgramKind, Raise,
    Refusal, RefusalReason, Spawn, ToMaster, ToSlave, Tool,
};
pub use shim::{FromShim, Handoff, Notice, Question, QuestionKind, RealWords, Secret, ToShim};
