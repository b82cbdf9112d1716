//! `--password-file`: passwords of hops for programs that run without a person.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fakessh::route::{Route, Step};
use fakessh_shim::prompt;

use super::own;

/// Most bytes of a password file's first line.
const MAX_PASSWORD: usize = 4096;

/// The option's name.
const NAME: &str = "--password-file";

#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct PasswordFiles {
    /// File whose first line answers what sudo, su and doas ask, each hop once; with HOP (as in
    /// web1+sudo=FILE) for that hop alone; - for standard input, /dev/fd/N for a descriptor; may
    /// be given several times
    #[arg(long, value_name = "[HOP=]FILE")]
    password_file: Vec<OsString>,
}

impl PasswordFiles {
    /// Takes them out of words that are ssh's otherwise: they stand among the options, before the
    /// destination.
    ///
    /// # Errors
    /// If one lacks its file.
    pub(super) fn take_from(words: &mut Vec<OsString>) -> anyhow::Result<PasswordFiles> {
        let mut taken = PasswordFiles::default();
        while let Some(file) = own::take_from(words, NAME)? {
            taken.password_file.push(file);
        }
        Ok(taken)
    }

    /// Reads them: from here on, questions of hops are answered by them. `route` says what route a
    /// text is, as for a destination; `used` are the routes of the command, if it names any.
    ///
    /// # Errors
    /// If one can't be read, two are for the same hop, or one is for a hop of none of the routes.
    pub(super) fn read(
        &self,
        route: impl Fn(&str) -> anyhow::Result<Route>,
        used: &[&Route],
    ) -> anyhow::Result<()> {
        let mut hops = Vec::new();
        for given in &self.password_file {
            let (hop, path) = hop_and_file(given, &route);
            if hops.contains(&hop) {
                let whose = hop.as_deref().unwrap_or("every hop");
                anyhow::bail!("{NAME} is given twice for {whose}");
            }
            if let Some(hop) = &hop
                && !used.is_empty()
                && !used.iter().any(|route| leads_through(route, hop))
            {
                let routes: Vec<String> = used.iter().map(|route| route.to_string()).collect();
                anyhow::bail!("{NAME}: {hop} is no hop of {}", routes.join(", "));
            }
            prompt::answer_hop_with(hop.clone(), read(&path)?);
            hops.push(hop);
        }
        Ok(())
    }
}

/// Whether a route begins with the way to a hop, as the master names that.
fn leads_through(route: &Route, hop: &str) -> bool {
    let whole = route.to_string();
    whole.strip_prefix(hop).is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
}

/// The hop that a value of the option is for, as the master names it, and the file.
///
/// What stands before the first `=` is a hop if it is a route that ends with one; else the `=` is
/// a part of the file's name, as it is in a name that begins with a dot or a slash.
fn hop_and_file(
    given: &OsStr,
    route: impl Fn(&str) -> anyhow::Result<Route>,
) -> (Option<String>, PathBuf) {
    let text = given.to_str().filter(|text| !text.starts_with(['.', '/']));
    let parts = text.and_then(|text| text.split_once('='));
    let named = parts.and_then(|(hop, file)| {
        let route = route(hop).ok()?;
        let is_hop = matches!(route.steps().last(), Some(Step::Hop { .. }));
        is_hop.then(|| (Some(route.to_string()), PathBuf::from(file)))
    });
    named.unwrap_or_else(|| (None, PathBuf::from(given)))
}

/// The password in a file.
fn read(path: &Path) -> anyhow::Result<fakessh_protocol::message::Secret> {
    let failed = || format!("{NAME} {}", path.display());
    let file = if path.as_os_str() == "-" {
        // Without the buffer of `stdin()`: what follows the line is the tool's.
        std::io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    };
    let password = prompt::read_password(file.with_context(failed)?, MAX_PASSWORD);
    password.with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(words: &[&str]) -> (Vec<OsString>, Vec<OsString>) {
        let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let taken = PasswordFiles::take_from(&mut words).unwrap();
        (taken.password_file, words)
    }

    #[test]
    fn it_is_taken_from_among_the_options_and_from_nowhere_else() {
        let rest = ["-F", "conf", "-vp22", "web1", "id"].map(OsString::from).to_vec();
        for (words, files) in [
            (&["--password-file", "f", "-F", "conf", "-vp22", "web1", "id"][..], &["f"][..]),
            (&["-F", "conf", "--password-file", "f", "-vp22", "web1", "id"], &["f"]),
            (&["-F", "conf", "-vp22", "--password-file=f", "web1", "id"], &["f"]),
            (
                &[
                    "--password-file=f",
                    "-F",
                    "conf",
                    "--password-file",
                    "a+su=g",
                    "-vp22",
                    "web1",
                    "id",
                ],
                &["f", "a+su=g"],
            ),
        ] {
            let files = files.iter().map(OsString::from).collect();
            assert_eq!(taken(words), (files, rest.clone()), "{words:?}");
        }
        for words in
            [&["web1", "x", "--password-file", "f"][..], &["-o", "--password-file", "web1"], &[]]
        {
            assert!(taken(words).0.is_empty(), "{words:?}");
        }
        let mut words = vec![OsString::from("--password-file")];
        assert!(PasswordFiles::take_from(&mut words).is_err());
    }

    #[test]
    fn a_hop_is_told_from_a_file_whose_name_has_an_equals_sign() {
        let route = |text: &str| Ok(Route::parse(text)?);
        for (given, hop, file) in [
            ("f", None, "f"),
            ("-", None, "-"),
            ("web1+sudo=f", Some("web1+sudo"), "f"),
            ("web1+sudo:bob=/dev/fd/3", Some("web1+sudo:bob"), "/dev/fd/3"),
            ("sudo=a=b", Some("sudo"), "a=b"),
            ("web1=f", None, "web1=f"),
            ("./web1+sudo=f", None, "./web1+sudo=f"),
            ("/a+sudo=f", None, "/a+sudo=f"),
            ("=f", None, "=f"),
        ] {
            let expected = (hop.map(str::to_owned), PathBuf::from(file));
            assert_eq!(hop_and_file(OsStr::new(given), route), expected, "{given}");
        }
    }
}
