//! Every message that comes from another process.

use std::fmt::Debug;

use fakessh_protocol::message::{FromShim, Handoff, ToMaster, ToShim, ToSlave};
use fakessh_protocol::report::{MAX_LINE, Report, ReportLines};
use fakessh_protocol::wire;
use serde::{Serialize, de::DeserializeOwned};

/// The bytes of a message, which may be any of them.
pub fn messages(input: &[u8]) {
    message::<ToSlave>(input);
    message::<ToMaster>(input);
    message::<ToShim>(input);
    message::<FromShim>(input);
    message::<Handoff>(input);
    report(input);
}

/// The report of a connection, in pieces of any length.
fn report(input: &[u8]) {
    let mut lines = ReportLines::default();
    let len = input.first().map_or(1, |&byte| usize::from(byte).max(1));
    for mut piece in input.chunks(len) {
        while !piece.is_empty() {
            let Some(report) = lines.take(&mut piece) else { continue };
            let line = report.line();
            assert!(line.len() <= MAX_LINE && line.matches('\n').count() == 1);
            let again = ReportLines::default().take(&mut line.as_bytes());
            // A long reason is cut; what the report says stays.
            let same =
                |again: &Report| std::mem::discriminant(again) == std::mem::discriminant(&report);
            assert!(again.as_ref().is_some_and(same), "{report:?} became {again:?}");
        }
    }
}

/// What can be decoded says the same when it is said again.
fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(input: &[u8]) {
    let Ok(message) = wire::decode::<T>(input) else { return };
    let again = wire::encode(&message).expect("it came as a message that is not too large");
    assert!(again.len() <= input.len());
    assert_eq!(wire::decode::<T>(&again).expect("we said it"), message);
}
