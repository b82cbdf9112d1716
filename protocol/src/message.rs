//! What control frames mean: the conversation on a link, and the one between a shim and its
//! master.

mod link;
mod shim;

pub use link::{
    FIRST_RAISED, Hello, Helper, HelperTerminal, LinkSettings, MAX_RAISED, PackedHandoff,
    ProgramKind, Raise, Refusal, RefusalReason, SessionHandles, Spawn, ToMaster, ToSlave, Tool,
};
pub use shim::{FromShim, Handoff, Notice, Question, QuestionKind, RealWords, Secret, ToShim};
