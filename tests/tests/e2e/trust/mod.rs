//! What tools, the text that passes through them, and other processes of a target's account are not
//! trusted with.

mod environment;
mod neighbours;
