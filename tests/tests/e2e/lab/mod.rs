//! Tests of the lab itself, with the plain programs and without fakessh.

mod places;
mod promises;
