//! The numbers of contexts, for those of which several have one name.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

/// The number of a context, written `@3`: no host, user or route has such a name. It is never used
/// again as long as the master lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(u64);

impl ContextId {
    pub(super) fn next() -> ContextId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        ContextId(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number itself.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// The text is no [`ContextId`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the id of a connection is written as in @3")]
pub struct NoContextId;

impl FromStr for ContextId {
    type Err = NoContextId;

    fn from_str(text: &str) -> Result<ContextId, NoContextId> {
        let number = text.strip_prefix('@').and_then(|number| number.parse().ok());
        number.map(ContextId).ok_or(NoContextId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_from_every_name() {
        let id = ContextId::next();
        assert_eq!(id.to_string().parse(), Ok(id));
        for name in ["", "@", "3", "@web1", "a@3", "@-1", "@3+sudo"] {
            assert_eq!(name.parse::<ContextId>(), Err(NoContextId), "{name}");
        }
    }
}
