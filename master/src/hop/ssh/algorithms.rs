//! Which algorithms are offered, and how a connection is tuned.

use std::borrow::Cow;

use fakessh_protocol::printable::one_line;
use russh::client::Config;
use russh::keys::ssh_key::EcdsaCurve;
use russh::keys::{Algorithm, HashAlg};
use russh::{AlgorithmKind, Limits, Preferred, SshId, cipher, kex, mac};

use crate::known_hosts::{HostName, KnownHosts};
use crate::link::DEFAULT_KEEPALIVE;
use crate::ssh_config::Resolved;

use super::error::ConnectError;
use super::place;

/// Bytes that a server may send on one channel before we grant more: 1.3 Gbit/s at 100 ms. Memory
/// is not bounded by this, but by the credit on a link.
pub(super) const WINDOW: u32 = 16 * 1024 * 1024;

/// Largest packet, the most that russh takes. Fewer packets are fewer seals.
const MAX_PACKET: u32 = 65535;

/// Packets that wait for a channel's reader before the whole connection waits. Small: what waits
/// here is memory that no credit counts.
const CHANNEL_PACKETS: usize = 16;

/// Fewest bytes after which keys are exchanged anew: OpenSSH takes no smaller limit.
const MIN_REKEY: usize = 16;

/// The configuration of one connection.
///
/// # Errors
/// [`ConnectError::NoAlgorithm`] if nothing of a list of the user's can be used.
pub(super) fn config(resolved: &Resolved, records: &KnownHosts) -> Result<Config, ConnectError> {
    let preferred = preferred(resolved, records).map_err(|unusable| ConnectError::NoAlgorithm {
        host: place(resolved),
        keyword: unusable.keyword,
        list: unusable.list,
        usable: unusable.usable,
    })?;
    Ok(Config {
        client_id: SshId::Standard(Cow::Borrowed(concat!(
            "SSH-2.0-fakessh_",
            env!("CARGO_PKG_VERSION")
        ))),
        window_size: WINDOW,
        maximum_packet_size: MAX_PACKET,
        channel_buffer_size: CHANNEL_PACKETS,
        preferred,
        limits: limits(resolved),
        inactivity_timeout: None,
        // A link looks for signs of life itself; where no slave can run there is only this.
        keepalive_interval: Some(resolved.server_alive_interval.unwrap_or(DEFAULT_KEEPALIVE)),
        keepalive_max: resolved.server_alive_count_max as usize,
        nodelay: true,
        ..Config::default()
    })
}

/// When keys are exchanged anew: as the user wants it (`RekeyLimit`), and no later than the library
/// does by itself, which is after an hour or a gigabyte each way.
fn limits(resolved: &Resolved) -> Limits {
    let own = Limits::default();
    let bytes = |own: usize| {
        let wanted = resolved.rekey_limit.bytes.and_then(|bytes| usize::try_from(bytes).ok());
        wanted.map_or(own, |bytes| bytes.clamp(MIN_REKEY, own))
    };
    Limits {
        rekey_write_limit: bytes(own.rekey_write_limit),
        rekey_read_limit: bytes(own.rekey_read_limit),
        rekey_time_limit: resolved
            .rekey_limit
            .time
            .map_or(own.rekey_time_limit, |time| time.min(own.rekey_time_limit)),
    }
}

/// A list of the user's of which nothing can be used.
#[derive(Debug, PartialEq, Eq)]
struct Unusable {
    keyword: &'static str,
    list: String,
    usable: String,
}

fn preferred(resolved: &Resolved, records: &KnownHosts) -> Result<Preferred, Unusable> {
    let own = &resolved.algorithms;
    let ciphers = match &own.ciphers {
        Some(names) => chosen("Ciphers", names, cipher::ALL_CIPHERS)?,
        None => ciphers(has_fast_aes()),
    };
    let macs = own.macs.as_ref().map(|names| chosen("MACs", names, mac::ALL_MAC_ALGORITHMS));
    let kex = own.kex.as_ref().map(|names| {
        let mut list = chosen("KexAlgorithms", names, kex::ALL_KEX_ALGORITHMS)?;
        // Markers and no algorithms: without them there is no strict key exchange, and the server
        // does not say which signatures it takes.
        list.extend([
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
        ]);
        Ok(list)
    });
    let name = HostName::of(resolved);
    let own_keys = own.host_keys.as_deref();
    let keys = host_key_order(own_keys, &records.recorded_algorithms(&name));
    let certificates = match records.has_authority(&name) {
        true => host_certificates(own_keys),
        false => Vec::new(),
    };
    if let (true, true, Some(names)) = (keys.is_empty(), certificates.is_empty(), own_keys) {
        let usable: Vec<String> = default_keys().iter().map(ToString::to_string).collect();
        let usable = usable.join(",");
        return Err(Unusable { keyword: "HostKeyAlgorithms", list: names.join(","), usable });
    }
    Ok(Preferred {
        kex: kex.transpose()?.map_or(Preferred::DEFAULT.kex, Cow::Owned),
        key: Cow::Owned(keys),
        host_key_certificates: Cow::Owned(certificates),
        cipher: Cow::Owned(ciphers),
        mac: macs.transpose()?.map_or(Preferred::DEFAULT.mac, Cow::Owned),
        compression: Preferred::DEFAULT.compression,
    })
}

/// What russh counts among its algorithms and is none: to go without encryption, without integrity
/// or without keys.
const NO_PROTECTION: [&str; 2] = ["none", "clear"];

fn protects<N: AsRef<str>>(algorithm: &N) -> bool {
    !NO_PROTECTION.contains(&algorithm.as_ref())
}

/// The algorithms of a user's list that exist here, in its order.
fn chosen<N: AsRef<str> + Copy>(
    keyword: &'static str,
    names: &[String],
    all: &[&N],
) -> Result<Vec<N>, Unusable> {
    let usable: Vec<N> = all.iter().map(|known| **known).filter(protects).collect();
    let find = |name: &String| usable.iter().find(|known| known.as_ref() == name).copied();
    let found: Vec<N> = names.iter().filter_map(find).collect();
    if found.is_empty() {
        let usable: Vec<&str> = usable.iter().map(|known| known.as_ref()).collect();
        return Err(Unusable { keyword, list: names.join(","), usable: usable.join(",") });
    }
    Ok(found)
}

/// The error of a server with which an algorithm of this kind can't be agreed on.
pub(super) fn no_common_algorithm(
    (hostname, port): (String, u16),
    kind: &AlgorithmKind,
    (ours, theirs): (&[String], &[String]),
) -> ConnectError {
    let (what, keyword) = match kind {
        AlgorithmKind::Kex => ("key exchange method", "KexAlgorithms"),
        AlgorithmKind::Key => ("host key type", "HostKeyAlgorithms"),
        AlgorithmKind::Cipher => ("cipher", "Ciphers"),
        AlgorithmKind::Mac => ("MAC", "MACs"),
        AlgorithmKind::Compression => ("compression method", "Compression"),
    };
    let is_marker = |name: &&String| name.starts_with("ext-info") || name.starts_with("kex-strict");
    let ours: Vec<&str> = ours.iter().filter(|name| !is_marker(name)).map(|it| &**it).collect();
    let advice = match can_be_named(keyword, theirs) {
        Some(name) => format!("allow {name} with -o {keyword}=+{name}, or update the server's SSH"),
        None => {
            "update the server's SSH: fakessh does not have what is outdated (the real ssh may)"
                .to_owned()
        }
    };
    ConnectError::NoCommonAlgorithm {
        hostname,
        port,
        what,
        theirs: one_line(&theirs.join(",")),
        ours: ours.join(","),
        advice,
    }
}

/// The first of these algorithms that the user may add to a list, and that is not in ours.
fn can_be_named<'a>(keyword: &str, offered: &'a [String]) -> Option<&'a str> {
    let knows = |name: &&String| match keyword {
        "KexAlgorithms" => is_known(name, kex::ALL_KEX_ALGORITHMS),
        "Ciphers" => is_known(name, cipher::ALL_CIPHERS),
        "MACs" => is_known(name, mac::ALL_MAC_ALGORITHMS),
        "HostKeyAlgorithms" => default_keys().iter().any(|key| key.as_str() == name.as_str()),
        _ => false,
    };
    offered.iter().find(knows).map(String::as_str)
}

fn is_known<N: AsRef<str>>(name: &str, all: &[&N]) -> bool {
    all.iter().any(|known| known.as_ref() == name && protects(*known))
}

/// AES-GCM is several times faster than ChaCha20 where the processor knows AES, and slower where
/// it does not.
fn ciphers(fast_aes: bool) -> Vec<cipher::Name> {
    let gcm = [cipher::AES_128_GCM, cipher::AES_256_GCM];
    let chacha = [cipher::CHACHA20_POLY1305];
    let ctr = [cipher::AES_256_CTR, cipher::AES_192_CTR, cipher::AES_128_CTR];
    match fast_aes {
        true => [&gcm[..], &chacha, &ctr].concat(),
        false => [&chacha[..], &gcm, &ctr].concat(),
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn has_fast_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_fast_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn has_fast_aes() -> bool {
    false
}

/// What a key can be checked by. RSA with SHA-1 is not among it, as in ssh since 8.8.
fn default_keys() -> Vec<Algorithm> {
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    vec![
        Algorithm::Ed25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        Algorithm::SkEd25519,
        Algorithm::SkEcdsaSha2NistP256,
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
}

/// The certificates that count for a host: of the kinds of keys that can be checked, those that a
/// list of the user's names.
fn host_certificates(own: Option<&[String]>) -> Vec<Algorithm> {
    let Some(names) = own else { return default_keys() };
    let find =
        |name: &String| default_keys().into_iter().find(|key| key.to_certificate_type() == *name);
    names.iter().filter_map(find).collect()
}

/// Kinds of keys that are recorded for the host go first, or a server with several would show one
/// that can't be checked. A list of the user's is taken as it is.
fn host_key_order(own: Option<&[String]>, recorded: &[Algorithm]) -> Vec<Algorithm> {
    if let Some(names) = own {
        let known = |name: &String| default_keys().into_iter().find(|key| key.as_str() == name);
        return names.iter().filter_map(known).collect();
    }
    let is_recorded = |key: &Algorithm| {
        recorded
            .iter()
            .any(|recorded| recorded == key || (recorded.clone().is_rsa() && key.clone().is_rsa()))
    };
    let (first, others): (Vec<_>, Vec<_>) = default_keys().into_iter().partition(is_recorded);
    [first, others].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_kinds_of_keys_go_first() {
        let order = host_key_order(None, &[Algorithm::Rsa { hash: None }]);
        assert!(order[0].clone().is_rsa() && order[1].clone().is_rsa());
        assert_eq!(order.len(), 8);
        let order = host_key_order(Some(&["nonsense".into(), "ssh-ed25519".into()]), &[]);
        assert_eq!(order, [Algorithm::Ed25519]);
    }

    #[test]
    fn ciphers_are_in_the_order_of_speed() {
        assert_eq!(ciphers(true)[0], cipher::AES_128_GCM);
        assert_eq!(ciphers(false)[0], cipher::CHACHA20_POLY1305);
        assert_eq!(ciphers(true).len(), 6);
    }

    #[test]
    fn a_users_list_keeps_its_order_and_loses_what_is_unknown() {
        let names = ["aes256-ctr", "nonsense", "aes128-gcm@openssh.com"].map(str::to_owned);
        let list = chosen("Ciphers", &names, cipher::ALL_CIPHERS);
        assert_eq!(list, Ok(vec![cipher::AES_256_CTR, cipher::AES_128_GCM]));
    }

    #[test]
    fn nothing_goes_without_protection() {
        for name in NO_PROTECTION.map(str::to_owned) {
            let names = [name];
            assert!(chosen("Ciphers", &names, cipher::ALL_CIPHERS).is_err());
            assert!(chosen("MACs", &names, mac::ALL_MAC_ALGORITHMS).is_err());
            let unusable = chosen("KexAlgorithms", &names, kex::ALL_KEX_ALGORITHMS).unwrap_err();
            assert!(!unusable.usable.split(',').any(|name| name == names[0]), "{unusable:?}");
        }
    }

    #[test]
    fn a_list_says_which_certificates_count() {
        assert_eq!(host_certificates(None), default_keys());
        let own = ["ssh-ed25519", "rsa-sha2-512-cert-v01@openssh.com"].map(str::to_owned);
        assert_eq!(host_certificates(Some(&own)), [Algorithm::Rsa { hash: Some(HashAlg::Sha512) }]);
    }
}
