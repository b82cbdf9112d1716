//! What tools, and the text that passes through them, are not trusted with.

mod environment;
