//! Who holds a context that a user of the library has.

use std::sync::Arc;

use crate::context::Reached;
use crate::shared::SharedContext;

/// Who holds a context.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    /// This process.
    Here(Reached),
    /// The user's master.
    Shared(Arc<SharedContext>),
}

impl Held {
    pub(crate) fn name(&self) -> &str {
        match self {
            Held::Here(reached) => reached.context.name(),
            Held::Shared(context) => context.name(),
        }
    }
}
