//! Two muxes joined by a byte pipe each way: what holds in any order of actions and any split of
//! bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod delivery;
mod fairness;
mod hostile;
mod liveness;
mod pair;
mod races;
