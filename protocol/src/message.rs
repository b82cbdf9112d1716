//! What control frames mean: the conversation on a link, and the one between a shim and its
//! master.

mod link;
mod shim;

pub use crate::connection::{Connection, MAX_SOCKET_PATH, Peer};
pub use link::{
    Accepted, Hello, Helper, HelperTerminal, LinkSettings, MAX_ORIGIN, MAX_REVERSE, PackedHandoff,
    ProgramKind, ProgramSetup, Refusal, RefusalReason, Spawn, StartReverse, ToMaster, ToSlave,
    Tool,
};
pub use shim::{
    FromShim, Handoff, ListenAnswer, MAX_LISTENERS, Notice, Question, QuestionKind, RealWords,
    Secret, SocketFileName, Started, ToShim,
};
