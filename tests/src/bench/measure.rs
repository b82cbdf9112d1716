//! The measures, by the names under which plans and reports know them.

use crate::row::Row;
use crate::{
    Bench, backlog, bulk, contexts, files, forward, hostile, latency, login, memory, sessions,
};

/// One measure: it may give several rows of the table.
pub(super) struct Measure {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// Takes it. Panics if it can't be taken, as all of the lab does.
    pub(super) take: fn(&Bench) -> Vec<Row>,
}

/// All of them, in the order of the table.
pub(super) const ALL: &[Measure] = &[
    Measure { id: "L1", title: "ssh h true", take: latency::loopback },
    Measure { id: "L2", title: "ssh h true, 50 ms round trip", take: latency::far },
    Measure { id: "L3", title: "ssh h true beside bulk", take: latency::beside_bulk },
    Measure { id: "R1", title: "ssh h true, 32 at a time", take: sessions::rate },
    Measure { id: "C1", title: "sessions at once on one connection", take: sessions::at_once },
    Measure { id: "T1", title: "bulk up", take: bulk::up },
    Measure { id: "T2", title: "bulk down", take: bulk::down },
    Measure { id: "T3", title: "bulk through +sudo", take: bulk::behind_sudo },
    Measure { id: "T4", title: "connections through -L", take: forward::local },
    Measure { id: "F1", title: "rsync, git clone, sftp", take: files::tools },
    Measure { id: "K1", title: "login and first command", take: login::cold },
    Measure { id: "M1", title: "memory of a further context", take: contexts::memory },
    Measure { id: "M2", title: "memory of a shim and of a slave", take: memory::idle },
    Measure { id: "H1", title: "ssh h true beside a hostile target", take: hostile::flood },
    Measure { id: "B1", title: "memory behind stopped readers", take: backlog::memory },
];
