//! What control frames mean: the conversation on a link, and the one between a shim and its
//! master.

mod link;
mod shim;

pub use link::{
    Connection, Hello, Helper, HelperTerminal, LinkSettings, MAX_REVERSE, MAX_SOCKET_PATH,
    PackedHandoff, Peer, ProgramKind, Refusal, RefusalReason, Spawn, StartReverse, ToMaster,
    ToSlave, Tool,
};
pub use shim::{FromShim, Handoff, Notice, Question, QuestionKind, RealWords, Secret, ToShim};
