//! The methods by which a login may be tried.

/// A method of authentication that we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `publickey`.
    PublicKey,
    /// `keyboard-interactive`: the server asks questions.
    KeyboardInteractive,
    /// `password`.
    Password,
}

impl Method {
    /// The method of this name (RFC 4250 section 4.5).
    pub(super) fn named(name: &str) -> Option<Method> {
        match name {
            "publickey" => Some(Method::PublicKey),
            "keyboard-interactive" => Some(Method::KeyboardInteractive),
            "password" => Some(Method::Password),
            _ => None,
        }
    }
}
