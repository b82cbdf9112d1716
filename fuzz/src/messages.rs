//! Every message that comes from another process.

use std::fmt::Debug;

use fakessh_protocol::message::{FromShim, Handoff, ToMaster, ToShim, ToSlave};
use fakessh_protocol::wire;
use serde::{Serialize, de::DeserializeOwned};

/// The bytes of a message, which may be any of them.
pub fn messages(input: &[u8]) {
    message::<ToSlave>(input);
    message::<ToMaster>(input);
    message::<ToShim>(input);
    message::<FromShim>(input);
    message::<Handoff>(input);
}

/// What can be decoded says the same when it is said again.
fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(input: &[u8]) {
    let Ok(message) = wire::decode::<T>(input) else { return };
    let again = wire::encode(&message).expect("it came as a message that is not too large");
    assert!(again.len() <= input.len());
    assert_eq!(wire::decode::<T>(&again).expect("we said it"), message);
}
