//! What tools, the text that passes through them, and other processes of a target's account are not
//! trusted with.

mod environment;
mod hostile_hosts;
mod neighbours;
mod plus;
mod who_is_meant;
