//! Host keys that a server has got or given up: `UpdateHostKeys` (`ssh_config(5)`).
//!
//! A server that is known by one of its keys tells all of them after the login, and proves that it
//! has the new ones. The new ones are recorded in `known_hosts`. A key that the server has given up is
//! removed there, so that nobody who steals it later can pass for the server.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use russh::keys::{HashAlg, PublicKey};

use crate::ssh_config::Resolved;

use super::line;
use super::{HostName, KnownHosts, decide, read_file, text};

/// One change at a time: each reads a file, and puts another in its place.
static WRITING: Mutex<()> = Mutex::new(());

/// Keys that are to be recorded, and keys whose records are to be removed.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyChange {
    /// Keys of the server that are not recorded.
    pub(crate) new: Vec<PublicKey>,
    /// Recorded keys that the server does not have any more.
    pub(crate) obsolete: Vec<PublicKey>,
}

/// What a server has said of its keys.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    /// The key that it has shown for this connection.
    pub(crate) used: PublicKey,
    /// All of its keys.
    pub(crate) keys: Vec<PublicKey>,
}

impl KeyChange {
    /// What is to be changed in the user's files; `None` if nothing is, or may be.
    ///
    /// As with ssh, nothing is changed if the user's files do not know the host by the key that it
    /// has shown, if any of their lines about it has a marker or a pattern, or if another name has
    /// one of these keys: then somebody has written them with a purpose.
    ///
    /// # Errors
    /// If a file can't be read. It waits for the disk.
    pub(crate) fn find(
        resolved: &Resolved,
        announced: &Announced,
    ) -> io::Result<Option<KeyChange>> {
        let files = resolved.user_known_hosts_files.iter();
        let texts = files.filter_map(|file| read_file(file).transpose());
        let texts: Vec<String> = texts.map(|bytes| Ok(text(&bytes?))).collect::<io::Result<_>>()?;
        Ok(find(&texts, resolved, announced))
    }

    /// The lines in which ssh tells a person of a change.
    pub(crate) fn lines(&self) -> String {
        let line = |what: &str, key: &PublicKey| {
            let fingerprint = key.fingerprint(HashAlg::Sha256);
            format!("{what}: {} {fingerprint}\n", decide::kind_of(key))
        };
        let new = self.new.iter().map(|key| line("Learned new hostkey", key));
        let obsolete = self.obsolete.iter().map(|key| line("Deprecating obsolete hostkey", key));
        new.chain(obsolete).collect()
    }

    /// Writes the change into the user's files: new keys into the first. The old content stays
    /// beside it, as `known_hosts.old`.
    ///
    /// # Errors
    /// If a file can't be read or written. It waits for the disk.
    pub(crate) fn write(&self, resolved: &Resolved) -> io::Result<()> {
        let _one_at_a_time = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let name = HostName::of(resolved);
        for (index, file) in resolved.user_known_hosts_files.iter().enumerate() {
            let Some(before) = read_file(file)? else { continue };
            let new = if index == 0 { &self.new[..] } else { &[] };
            let after = self.applied(&before, new, &name, resolved.hash_known_hosts)?;
            if after != before {
                replace(file, &after)?;
            }
        }
        Ok(())
    }

    /// The content of a file after the change. What is in other lines stays as it is, byte by byte.
    fn applied(
        &self,
        before: &[u8],
        new: &[PublicKey],
        name: &HostName,
        hash: bool,
    ) -> io::Result<Vec<u8>> {
        let is_obsolete = |line: &[u8]| {
            let line = String::from_utf8_lossy(line);
            let Some(fields) = line::fields(&line) else { return false };
            let is_plain = fields.marker.is_none() && fields.is_about(name.recorded());
            is_plain && fields.key().is_some_and(|key| has(&self.obsolete, &key))
        };
        let mut after = Vec::with_capacity(before.len());
        for line in before.split_inclusive(|byte| *byte == b'\n') {
            if !is_obsolete(line) {
                after.extend_from_slice(line);
            }
        }
        let recorded = text(&after);
        for key in new {
            // Another login may have recorded it meanwhile.
            if line::lines(&recorded, name.recorded()).any(|line| same(&line.key, key)) {
                continue;
            }
            if after.last().is_some_and(|last| *last != b'\n') {
                after.push(b'\n');
            }
            after.extend_from_slice(decide::new_line(name, key, hash)?.as_bytes());
        }
        Ok(after)
    }
}

fn find(texts: &[String], resolved: &Resolved, announced: &Announced) -> Option<KeyChange> {
    let name = HostName::of(resolved);
    let mut known: Vec<(PublicKey, bool)> = Vec::new();
    let mut elsewhere: Vec<&str> = Vec::new();
    for fields in texts.iter().flat_map(|text| text.lines()).filter_map(line::fields) {
        if !fields.is_about(name.recorded()) {
            elsewhere.push(fields.blob);
            continue;
        }
        if fields.marker.is_some() || fields.has_pattern() {
            return None;
        }
        known.extend(fields.key().map(|key| (key, fields.names_others())));
    }
    if !known.iter().any(|(key, _)| same(key, &announced.used))
        || !has(&announced.keys, &announced.used)
    {
        return None;
    }
    let records = KnownHosts {
        allowed: resolved.algorithms.host_keys.clone(),
        rules: resolved.key_rules.clone(),
        ..KnownHosts::default()
    };
    let is_usable = |key: &&PublicKey| {
        line::is_usable(key)
            && records.allows(key)
            && records.rules.check_size(key.key_data()).is_ok()
    };
    let is_known = |key: &PublicKey| known.iter().any(|(known, _)| same(known, key));
    let mut change = KeyChange::default();
    for key in announced.keys.iter().filter(is_usable) {
        if !is_known(key) && !has(&change.new, key) {
            change.new.push(key.clone());
        }
    }
    for (key, names_others) in &known {
        if !has(&announced.keys, key) {
            if *names_others {
                return None;
            }
            change.obsolete.push(key.clone());
        }
    }
    if change.new.is_empty() && change.obsolete.is_empty() {
        return None;
    }
    let theirs = announced.keys.iter().chain(&change.obsolete).map(blob);
    let theirs: Option<Vec<String>> = theirs.collect();
    let is_elsewhere = theirs?.iter().any(|blob| elsewhere.contains(&blob.as_str()));
    (!is_elsewhere).then_some(change)
}

fn same(one: &PublicKey, other: &PublicKey) -> bool {
    one.key_data() == other.key_data()
}

fn has(keys: &[PublicKey], key: &PublicKey) -> bool {
    keys.iter().any(|it| same(it, key))
}

/// A key as it stands in a file.
fn blob(key: &PublicKey) -> Option<String> {
    Some(key.to_openssh().ok()?.split(' ').nth(1)?.to_owned())
}

/// Puts another content in the place of a file's, at once, and keeps the old one beside it.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    // A link stays one.
    let file = file.canonicalize()?;
    let directory = file.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::Builder::new().prefix(".known_hosts-").tempfile_in(directory)?;
    new.write_all(content)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    new.as_file().set_permissions(PermissionsExt::from_mode(mode))?;
    let mut old = file.as_os_str().to_owned();
    old.push(".old");
    let old = PathBuf::from(old);
    match std::fs::remove_file(&old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::hard_link(&file, &old)?,
    }
    new.persist(&file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests;
