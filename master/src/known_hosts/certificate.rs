//! Whether a host certificate that a known authority has signed is good for a host.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use fakessh_protocol::pattern;
use fakessh_protocol::printable::one_line;
use russh::keys::Certificate;

use crate::ssh_config::{KeyRules, ShortRsa};

/// Why a host certificate is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateProblem {
    /// The authority's signature is wrong.
    BadSignature,
    /// The authority has signed by an algorithm that does not count.
    WeakSignature(String),
    /// The authority's key is too short.
    ShortAuthority(ShortRsa),
    /// It is a user's certificate.
    NotForHosts,
    /// It names other hosts.
    OtherHost(Vec<String>),
    /// It is not yet valid.
    NotYetValid,
    /// It is not valid any more.
    Expired,
    /// It holds a critical option, and none is defined for hosts.
    CriticalOption(String),
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateProblem::BadSignature => f.write_str("has a wrong signature"),
            CertificateProblem::WeakSignature(algorithm) => write!(
                f,
                "is signed with {algorithm}, which CASignatureAlgorithms does not allow or we do \
                 not trust"
            ),
            CertificateProblem::ShortAuthority(short) => write!(f, "is signed with {short}"),
            CertificateProblem::NotForHosts => f.write_str("is for a user and not for a host"),
            CertificateProblem::OtherHost(hosts) => {
                write!(f, "is for {}", one_line(&hosts.join(", ")))
            }
            CertificateProblem::NotYetValid => f.write_str("is not yet valid"),
            CertificateProblem::Expired => f.write_str("has expired"),
            CertificateProblem::CriticalOption(name) => {
                write!(f, "has the unknown critical option '{}'", one_line(name))
            }
        }
    }
}

/// Whether the authority that a certificate names has signed it. Before that nothing that stands
/// in it may be believed, or quoted.
pub(super) fn is_signed(certificate: &Certificate) -> bool {
    certificate.verify_signature().is_ok()
}

/// What is wrong with a certificate that is signed, by an authority that is trusted for this host,
/// if anything (PROTOCOL.certkeys). No principals at all mean any host; principals may have wildcards.
pub(super) fn problem(
    certificate: &Certificate,
    host: &str,
    rules: &KeyRules,
    now: SystemTime,
) -> Option<CertificateProblem> {
    if let Err(short) = rules.check_authority_size(certificate.signature_key()) {
        return Some(CertificateProblem::ShortAuthority(short));
    }
    let algorithm = certificate.signature().algorithm();
    if !rules.allows_authority_signature(&algorithm) {
        return Some(CertificateProblem::WeakSignature(algorithm.as_str().to_owned()));
    }
    if !certificate.cert_type().is_host() {
        return Some(CertificateProblem::NotForHosts);
    }
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if now < certificate.valid_after() {
        return Some(CertificateProblem::NotYetValid);
    }
    if now >= certificate.valid_before() {
        return Some(CertificateProblem::Expired);
    }
    let principals = certificate.valid_principals();
    let named = |principal: &String| {
        pattern::matches(principal.to_ascii_lowercase().as_bytes(), host.as_bytes())
    };
    if !principals.is_empty() && !principals.iter().any(named) {
        return Some(CertificateProblem::OtherHost(principals.to_vec()));
    }
    let option = certificate.critical_options().iter().next();
    option.map(|(name, _)| CertificateProblem::CriticalOption(name.clone()))
}
