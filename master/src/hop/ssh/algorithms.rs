//! Which algorithms are offered, and how a connection is tuned.

use std::borrow::Cow;

use russh::client::Config;
use russh::keys::ssh_key::EcdsaCurve;
use russh::keys::{Algorithm, HashAlg};
use russh::{Preferred, SshId, cipher, kex, mac};

use crate::known_hosts::{HostName, KnownHosts};
use crate::link::DEFAULT_KEEPALIVE;
use crate::ssh_config::Resolved;

/// Bytes that a server may send on one channel before we grant more: 1.3 Gbit/s at 100 ms. Memory
/// is not bounded by this, but by the credit on a link.
const WINDOW: u32 = 16 * 1024 * 1024;

/// Largest packet, the most that russh takes. Fewer packets are fewer seals.
const MAX_PACKET: u32 = 65535;

/// Packets that wait for a channel's reader before the whole connection waits. Small: what waits
/// here is memory that no credit counts.
const CHANNEL_PACKETS: usize = 16;

/// The configuration of one connection.
pub(super) fn config(resolved: &Resolved, records: &KnownHosts) -> Config {
    Config {
        client_id: SshId::Standard(Cow::Borrowed(concat!(
            "SSH-2.0-fakessh_",
            env!("CARGO_PKG_VERSION")
        ))),
        window_size: WINDOW,
        maximum_packet_size: MAX_PACKET,
        channel_buffer_size: CHANNEL_PACKETS,
        preferred: preferred(resolved, records),
        inactivity_timeout: None,
        // A link looks for signs of life itself; where no slave can run there is only this.
        keepalive_interval: Some(resolved.server_alive_interval.unwrap_or(DEFAULT_KEEPALIVE)),
        keepalive_max: resolved.server_alive_count_max as usize,
        nodelay: true,
        ..Config::default()
    }
}

fn preferred(resolved: &Resolved, records: &KnownHosts) -> Preferred {
    let own = &resolved.algorithms;
    let ciphers = match &own.ciphers {
        Some(names) => chosen(names, cipher::ALL_CIPHERS),
        None => ciphers(has_fast_aes()),
    };
    let macs = own.macs.as_ref().map(|names| chosen(names, mac::ALL_MAC_ALGORITHMS));
    let kex = own.kex.as_ref().map(|names| {
        let mut list = chosen(names, kex::ALL_KEX_ALGORITHMS);
        // Markers and no algorithms: without them there is no strict key exchange, and the server
        // does not say which signatures it takes.
        list.extend([
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
        ]);
        list
    });
    let name = HostName::of(resolved);
    let keys = host_key_order(own.host_keys.as_deref(), &records.recorded_algorithms(&name));
    let certificates = if records.has_authority(&name) { default_keys() } else { Vec::new() };
    Preferred {
        kex: kex.map_or(Preferred::DEFAULT.kex, Cow::Owned),
        key: Cow::Owned(keys),
        host_key_certificates: Cow::Owned(certificates),
        cipher: Cow::Owned(ciphers),
        mac: macs.map_or(Preferred::DEFAULT.mac, Cow::Owned),
        compression: Preferred::DEFAULT.compression,
    }
}

/// The algorithms of a user's list that exist here, in its order.
fn chosen<N: AsRef<str> + Copy>(names: &[String], all: &[&N]) -> Vec<N> {
    let find = |name: &String| all.iter().find(|known| known.as_ref() == name).map(|known| **known);
    names.iter().filter_map(find).collect()
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
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
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
        assert_eq!(order.len(), 6);
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
        let list = chosen(&names, cipher::ALL_CIPHERS);
        assert_eq!(list, [cipher::AES_256_CTR, cipher::AES_128_GCM]);
    }
}
