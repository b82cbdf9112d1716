//! Whether a host certificate that a known authority has signed is good for a host.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use fakessh_shim::parse::matches_pattern;
use russh::keys::{Certificate, HashAlg};

/// Why a host certificate is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateProblem {
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
    /// The authority's signature is wrong.
    BadSignature,
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateProblem::NotForHosts => f.write_str("is for a user and not for a host"),
            CertificateProblem::OtherHost(hosts) => write!(f, "is for {}", hosts.join(", ")),
            CertificateProblem::NotYetValid => f.write_str("is not yet valid"),
            CertificateProblem::Expired => f.write_str("has expired"),
            CertificateProblem::CriticalOption(name) => {
                write!(f, "has the unknown critical option '{name}'")
            }
            CertificateProblem::BadSignature => f.write_str("has a wrong signature"),
        }
    }
}

/// What is wrong with a certificate whose authority is trusted for this host, if anything
/// (PROTOCOL.certkeys). No principals at all mean any host; principals may have wildcards.
pub(super) fn problem(
    certificate: &Certificate,
    host: &str,
    now: SystemTime,
) -> Option<CertificateProblem> {
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
        matches_pattern(principal.to_ascii_lowercase().as_bytes(), host.as_bytes())
    };
    if !principals.is_empty() && !principals.iter().any(named) {
        return Some(CertificateProblem::OtherHost(principals.to_vec()));
    }
    if let Some((name, _)) = certificate.critical_options().iter().next() {
        return Some(CertificateProblem::CriticalOption(name.clone()));
    }
    let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
    match certificate.validate_at(now, [&authority]) {
        Ok(()) => None,
        Err(_) => Some(CertificateProblem::BadSignature),
    }
}
