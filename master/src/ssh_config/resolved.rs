//! The settings of one host, read from what `ssh -G` prints.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fakessh_protocol::invocation::{ForwardAgent, SessionKeywords};
use fakessh_protocol::terminal::RequestTty;

use super::files;
use super::forwards::ConfiguredForwards;
use super::values::{
    AddressFamily, RekeyLimit, UpdateHostKeys, escape, request_tty, update_host_keys,
};
use super::{KeyRules, Method, Target};

/// Whom a host key that is not recorded can be trusted by (`ssh_config(5)`).
///
/// The strictest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StrictHostKeyChecking {
    /// Only recorded keys.
    Yes,
    /// Recorded keys, others after a question.
    Ask,
    /// Recorded keys, and keys of hosts of which none is recorded.
    AcceptNew,
    /// As `accept-new` for us: a changed key is refused whatever is set.
    No,
}

/// Lists of algorithms that the user has set, most preferred first; `None` where ours is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Algorithms {
    /// `Ciphers`.
    pub ciphers: Option<Vec<String>>,
    /// `MACs`.
    pub macs: Option<Vec<String>>,
    /// `KexAlgorithms`.
    pub kex: Option<Vec<String>>,
    /// `HostKeyAlgorithms`.
    pub host_keys: Option<Vec<String>>,
}

/// Everything that a connection to one host needs to know. Names of files are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The host as it was named.
    pub host: String,
    /// The name or address to connect to.
    pub hostname: String,
    /// The account on the host.
    pub user: String,
    /// The port.
    pub port: u16,
    /// `-F file` of the command line, if it was there: what hops of a `ProxyJump` are looked up
    /// with.
    pub config_file: Vec<OsString>,
    /// Private keys to try, in order.
    pub identity_files: Vec<PathBuf>,
    /// Whether `identity_files` are the built-in ones, that need not exist.
    pub default_identities: bool,
    /// Certificates of the user's keys.
    pub certificate_files: Vec<PathBuf>,
    /// Whether only keys of `identity_files` are tried, also those of an agent.
    pub identities_only: bool,
    /// The agent's socket; `None` for no agent.
    pub identity_agent: Option<PathBuf>,
    /// The user's records of host keys; new ones go to the first.
    pub user_known_hosts_files: Vec<PathBuf>,
    /// The machine's records of host keys.
    pub global_known_hosts_files: Vec<PathBuf>,
    /// Whether host names are hashed in new records.
    pub hash_known_hosts: bool,
    /// What happens with a host key that is not recorded.
    pub strict_host_key_checking: StrictHostKeyChecking,
    /// The name to look host keys up by, instead of the host's.
    pub host_key_alias: Option<String>,
    /// Hosts to go through; see [`parse_proxy_jump`](super::parse_proxy_jump).
    pub proxy_jump: Option<String>,
    /// The command that makes the connection, with its tokens.
    pub proxy_command: Option<String>,
    /// Methods of authentication, most preferred first.
    pub preferred_authentications: Vec<String>,
    /// Whether keys may be tried.
    pub pubkey_authentication: bool,
    /// Whether passwords may be tried.
    pub password_authentication: bool,
    /// Whether the server may ask questions.
    pub kbdinteractive_authentication: bool,
    /// Tries for each of password and keyboard-interactive.
    pub number_of_password_prompts: u32,
    /// Whether nothing may be asked.
    pub batch_mode: bool,
    /// Longest time to a finished key exchange; `None` where the user has set none.
    pub connect_timeout: Option<Duration>,
    /// Rounds of tries to connect, a second apart; 1 or more.
    pub connection_attempts: u32,
    /// Silence after which the server is asked for a sign of life; `None` for never.
    pub server_alive_interval: Option<Duration>,
    /// Signs of life that may be missed.
    pub server_alive_count_max: u32,
    /// Patterns of names of variables to send.
    pub send_env: Vec<String>,
    /// Variables to set.
    pub set_env: Vec<(String, String)>,
    /// Whether a session is to have a terminal; `None` is what no command line need override.
    pub request_tty: Option<RequestTty>,
    /// The escape character of a session on a terminal.
    pub escape: Option<u8>,
    /// Which addresses are tried.
    pub address_family: AddressFamily,
    /// The local address to connect from.
    pub bind_address: Option<String>,
    /// The network interface to connect from.
    pub bind_interface: Option<String>,
    /// Whether the kernel looks for a dead peer.
    pub tcp_keep_alive: bool,
    /// What the user's lists of algorithms say.
    pub algorithms: Algorithms,
    /// `LogLevel`, as `ssh` spells it.
    pub log_level: String,
    /// Lists of host keys that are refused (`RevokedHostKeys`).
    pub revoked_host_keys: Vec<PathBuf>,
    /// What becomes of further host keys that the host tells of.
    pub update_host_keys: UpdateHostKeys,
    /// When keys are exchanged anew.
    pub rekey_limit: RekeyLimit,
    /// The command that prints further records of host keys, with its tokens.
    pub known_hosts_command: Option<String>,
    /// What keys and signatures must be like.
    pub key_rules: KeyRules,
    /// Which agent each session gets.
    pub forward_agent: Option<ForwardAgent>,
    /// The forwards that each session opens.
    pub forwards: ConfiguredForwards,
    /// Keywords of what the configuration wants for each session and sessions do not get yet.
    pub unsupported: Vec<&'static str>,
    /// Keywords that make something else of each session, and that only the real `ssh` obeys as yet.
    pub session: SessionKeywords,
}

impl Resolved {
    /// The methods that a login may be tried by, most preferred first.
    pub fn methods(&self) -> Vec<Method> {
        let named = self.preferred_authentications.iter();
        let methods = named.filter_map(|name| Method::named(name.trim()));
        let is_on = |method: &Method| match method {
            Method::PublicKey => self.pubkey_authentication,
            Method::KeyboardInteractive => self.kbdinteractive_authentication,
            Method::Password => self.password_authentication,
        };
        methods.filter(is_on).collect()
    }

    /// A line about what the configuration asks for in vain.
    pub fn unsupported_notice(&self) -> Option<String> {
        let (host, keywords) = (&self.host, self.unsupported.join(", "));
        let are = if self.unsupported.len() > 1 { "are" } else { "is" };
        (!keywords.is_empty()).then(|| {
            format!(
                "ssh_config asks for {keywords} for {host}, which {are} not supported yet: \
                 sessions go without"
            )
        })
    }
}

/// `-F file` and `-Ffile` among the words of a command line.
pub(super) fn config_file_words(connection: &[OsString]) -> Vec<OsString> {
    let mut words = connection.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "-F" {
            return words.next().map(|file| vec![word.clone(), file.clone()]).unwrap_or_default();
        }
        if text.starts_with("-F") {
            return vec![word.clone()];
        }
        // These take a word of their own, which may look like anything.
        if text.len() == 2 && ["-i", "-J", "-o"].contains(&text.as_ref()) {
            words.next();
        }
    }
    Vec::new()
}

/// The lines that `ssh -G` prints, by keyword in lower case.
#[derive(Debug, Default)]
pub(super) struct Dump(HashMap<String, Vec<String>>);

impl Dump {
    /// Reads the lines. Whatever is no `keyword value` is passed over.
    pub(super) fn read(text: &str) -> Dump {
        let mut dump = HashMap::<String, Vec<String>>::new();
        for line in text.lines() {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            dump.entry(keyword.to_ascii_lowercase()).or_default().push(value.to_owned());
        }
        Dump(dump)
    }

    fn values(&self, keyword: &str) -> &[String] {
        self.0.get(keyword).map(Vec::as_slice).unwrap_or_default()
    }

    /// The value of a keyword as it was printed.
    pub(super) fn raw(&self, keyword: &str) -> Option<&str> {
        self.values(keyword).first().map(String::as_str)
    }

    /// The value of a keyword; `None` where it is missing, empty or `none`.
    pub(super) fn value(&self, keyword: &str) -> Option<&str> {
        let value = self.raw(keyword)?;
        (!value.is_empty() && !value.eq_ignore_ascii_case("none")).then_some(value)
    }

    fn flag(&self, keyword: &str, default: bool) -> bool {
        self.value(keyword).map_or(default, |value| !matches!(value, "no" | "false"))
    }

    fn number(&self, keyword: &str, default: u32) -> u32 {
        self.value(keyword).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    fn seconds(&self, keyword: &str) -> Option<Duration> {
        let seconds = self.number(keyword, 0);
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    fn list(&self, keyword: &str) -> Option<Vec<String>> {
        self.value(keyword).map(|value| value.split(',').map(str::to_owned).collect())
    }

    /// A list of algorithms. An empty one allows none, and is not the same as no list.
    fn algorithms(&self, keyword: &str) -> Option<Vec<String>> {
        let names = self.raw(keyword)?.split(',').filter(|name| !name.is_empty());
        Some(names.map(str::to_owned).collect())
    }

    /// A list of algorithms that differs from what `ssh` has built in.
    fn own_list(&self, keyword: &str, defaults: &Dump) -> Option<Vec<String>> {
        if self.raw(keyword) == defaults.raw(keyword) { None } else { self.algorithms(keyword) }
    }

    fn files(&self, keyword: &'static str, place: &Place<'_>) -> Result<Vec<PathBuf>, Unclear> {
        let Some(value) = self.value(keyword) else { return Ok(Vec::new()) };
        files::split(value, place.home, place.directory)
            .map_err(|files::Ambiguous| Unclear { keyword, value: value.to_owned() })
    }

    /// The settings, with tokens and relative names of files left as they are. `defaults` is what
    /// `ssh -G` prints without any configuration.
    ///
    /// # Errors
    /// If it is unclear which files a value names.
    pub(super) fn resolved(
        &self,
        target: &Target,
        place: &Place<'_>,
        defaults: &Dump,
    ) -> Result<Resolved, Unclear> {
        let words = |value: &String| {
            let (name, value) = value.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        let identities = self.values("identityfile");
        Ok(Resolved {
            host: target.host.clone(),
            hostname: self.value("hostname").unwrap_or(&target.host).to_owned(),
            user: self.value("user").unwrap_or_default().to_owned(),
            port: self.value("port").and_then(|port| port.parse().ok()).unwrap_or(22),
            config_file: config_file_words(&target.connection),
            identity_files: paths(identities),
            default_identities: identities == defaults.values("identityfile"),
            certificate_files: paths(self.values("certificatefile")),
            identities_only: self.flag("identitiesonly", false),
            identity_agent: None,
            user_known_hosts_files: self.files("userknownhostsfile", place)?,
            global_known_hosts_files: self.files("globalknownhostsfile", place)?,
            hash_known_hosts: self.flag("hashknownhosts", false),
            strict_host_key_checking: strict(self.value("stricthostkeychecking")),
            host_key_alias: self.value("hostkeyalias").map(str::to_owned),
            proxy_jump: self.value("proxyjump").map(str::to_owned),
            proxy_command: self.value("proxycommand").map(str::to_owned),
            preferred_authentications: self
                .list("preferredauthentications")
                .unwrap_or_else(default_authentications),
            pubkey_authentication: self.flag("pubkeyauthentication", true),
            password_authentication: self.flag("passwordauthentication", true),
            kbdinteractive_authentication: self.flag("kbdinteractiveauthentication", true)
                && self.flag("challengeresponseauthentication", true),
            number_of_password_prompts: self.number("numberofpasswordprompts", 3),
            batch_mode: self.flag("batchmode", false),
            connect_timeout: self.seconds("connecttimeout"),
            connection_attempts: self.number("connectionattempts", 1).max(1),
            server_alive_interval: self.seconds("serveraliveinterval"),
            server_alive_count_max: self.number("serveralivecountmax", 3),
            send_env: self
                .values("sendenv")
                .iter()
                .flat_map(|value| value.split_whitespace())
                .map(str::to_owned)
                .collect(),
            set_env: self.values("setenv").iter().filter_map(words).collect(),
            request_tty: request_tty(self.value("requesttty")),
            escape: escape(self.raw("escapechar")),
            address_family: match self.value("addressfamily") {
                Some("inet") => AddressFamily::Inet,
                Some("inet6") => AddressFamily::Inet6,
                _ => AddressFamily::Any,
            },
            bind_address: self.value("bindaddress").map(str::to_owned),
            bind_interface: self.value("bindinterface").map(str::to_owned),
            tcp_keep_alive: self.flag("tcpkeepalive", true),
            algorithms: Algorithms {
                ciphers: self.own_list("ciphers", defaults),
                macs: self.own_list("macs", defaults),
                kex: self.own_list("kexalgorithms", defaults),
                host_keys: self.own_list("hostkeyalgorithms", defaults),
            },
            log_level: self.value("loglevel").unwrap_or("INFO").to_owned(),
            revoked_host_keys: self.files("revokedhostkeys", place)?,
            update_host_keys: update_host_keys(self.value("updatehostkeys")),
            rekey_limit: RekeyLimit::read(self.value("rekeylimit")),
            known_hosts_command: self.value("knownhostscommand").map(str::to_owned),
            key_rules: self.key_rules(defaults),
            forward_agent: self.raw("forwardagent").map(ForwardAgent::read),
            forwards: ConfiguredForwards::of(|keyword| self.values(keyword)),
            unsupported: self.unsupported(),
            session: self.session(),
        })
    }

    fn key_rules(&self, defaults: &Dump) -> KeyRules {
        let ours = KeyRules::default();
        // Older ones call it so.
        let accepted = ["pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes"];
        KeyRules {
            required_rsa_size: self.number("requiredrsasize", ours.required_rsa_size),
            authority_signatures: self
                .algorithms("casignaturealgorithms")
                .unwrap_or(ours.authority_signatures),
            user_signatures: accepted.iter().find_map(|keyword| self.own_list(keyword, defaults)),
        }
    }

    /// What is wanted of each session that changes what it is. (`none` is a value here.)
    fn session(&self) -> SessionKeywords {
        SessionKeywords {
            remote_command: self.value("remotecommand").is_some(),
            session_type: self.raw("sessiontype").is_some_and(|value| value != "default"),
            stdin_null: self.flag("stdinnull", false),
        }
    }

    /// What is wanted of each session and not supported, and can be done without.
    fn unsupported(&self) -> Vec<&'static str> {
        let wanted = [
            ("ForwardX11", self.flag("forwardx11", false)),
            ("Tunnel", self.flag("tunnel", false)),
            ("ForkAfterAuthentication", self.flag("forkafterauthentication", false)),
            (
                "LocalCommand",
                self.flag("permitlocalcommand", false) && self.value("localcommand").is_some(),
            ),
        ];
        wanted.into_iter().filter_map(|(keyword, wanted)| wanted.then_some(keyword)).collect()
    }

    /// The keyword of what the way to the host needs and can't have: to go without would be
    /// another way, or less checked.
    pub(super) fn refused(&self) -> Option<&'static str> {
        let passes = self.flag("proxyusefdpass", false) && self.value("proxycommand").is_some();
        passes.then_some("ProxyUseFdpass")
    }
}

/// What these lines of `ssh -G` mean for a host, if `ssh` has nothing built in; `None` if it is
/// unclear which files they name.
pub(crate) fn read_dump(text: &str, host: &str) -> Option<Resolved> {
    let target = Target { host: host.to_owned(), ..Target::default() };
    Dump::read(text).resolved(&target, &root(), &Dump::default()).ok()
}

/// From where names of files are meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The home directory.
    pub(super) home: Option<&'a Path>,
    /// The working directory.
    pub(super) directory: &'a Path,
}

/// The root directory, for somebody without a home.
pub(super) fn root() -> Place<'static> {
    Place { home: None, directory: Path::new("/") }
}

/// A value of which it is unclear which files it names.
#[derive(Debug)]
pub(super) struct Unclear {
    pub(super) keyword: &'static str,
    pub(super) value: String,
}

fn paths(values: &[String]) -> Vec<PathBuf> {
    values.iter().filter(|value| *value != "none").map(PathBuf::from).collect()
}

fn strict(value: Option<&str>) -> StrictHostKeyChecking {
    match value {
        Some("yes" | "true") => StrictHostKeyChecking::Yes,
        Some("no" | "off" | "false") => StrictHostKeyChecking::No,
        Some("accept-new") => StrictHostKeyChecking::AcceptNew,
        _ => StrictHostKeyChecking::Ask,
    }
}

/// The order of methods where the user has set none.
pub(super) fn default_authentications() -> Vec<String> {
    ["publickey", "keyboard-interactive", "password"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: &str = "ciphers a,b\nmacs m\nidentityfile ~/.ssh/id_rsa\n";

    fn resolved(text: &str) -> Resolved {
        let target = Target { host: "web1".into(), ..Target::default() };
        Dump::read(text).resolved(&target, &root(), &Dump::read(DEFAULTS)).unwrap()
    }

    #[test]
    fn lists_that_ssh_has_built_in_are_not_taken_for_the_users() {
        let resolved = resolved("hostname 10.0.0.1\nciphers a\nmacs m\n");
        assert_eq!(resolved.algorithms.ciphers, Some(vec!["a".into()]));
        assert_eq!(resolved.algorithms.macs, None);
        assert_eq!(resolved.hostname, "10.0.0.1");
    }

    #[test]
    fn values_none_and_absent_ones_are_defaults() {
        let resolved = resolved("proxycommand none\nport 22\nconnecttimeout none\n");
        assert_eq!(resolved.proxy_command, None);
        assert_eq!(resolved.connect_timeout, None);
        assert_eq!(resolved.preferred_authentications.len(), 3);
        assert_eq!(resolved.number_of_password_prompts, 3);
        assert_eq!(resolved.strict_host_key_checking, StrictHostKeyChecking::Ask);
    }

    #[test]
    fn what_sessions_do_not_get_is_named_on_one_line() {
        let text = "forkafterauthentication yes\nforwardx11 yes\n\
                    tunnel false\nrequesttty force\nforwardagent yes\nforwardx11trusted yes\n";
        assert_eq!(
            resolved(text).unsupported_notice().unwrap(),
            "ssh_config asks for ForwardX11, ForkAfterAuthentication for web1, which are not \
             supported yet: sessions go without"
        );
        let defaults = "forwardagent no\nforwardx11 no\ntunnel false\nrequesttty auto\n";
        assert_eq!(resolved(defaults).unsupported_notice(), None);
    }

    #[test]
    fn what_the_way_needs_and_can_not_have_is_refused() {
        let refused = |text| Dump::read(text).refused();
        assert_eq!(refused("proxycommand nc\nproxyusefdpass yes\n"), Some("ProxyUseFdpass"));
        assert_eq!(refused("proxyusefdpass yes\nproxycommand none\n"), None);
        assert_eq!(refused("proxyusefdpass no\nproxycommand nc\n"), None);
    }

    #[test]
    fn variables_and_durations_are_read() {
        let text = "setenv A=b\nsetenv C=d e\nsendenv LANG\nsendenv LC_*\nconnecttimeout 60\n\
                    serveraliveinterval 0\nstricthostkeychecking accept-new\n";
        let resolved = resolved(text);
        assert_eq!(resolved.set_env[1], ("C".into(), "d e".into()));
        assert_eq!(resolved.send_env, ["LANG", "LC_*"]);
        assert_eq!(resolved.connect_timeout, Some(Duration::from_secs(60)));
        assert_eq!(resolved.server_alive_interval, None);
        assert_eq!(resolved.strict_host_key_checking, StrictHostKeyChecking::AcceptNew);
    }

    #[test]
    fn the_configuration_file_is_found_among_other_words() {
        let words = ["-o", "-Fx", "-i", "-F", "-F", "/a"].map(OsString::from);
        assert_eq!(config_file_words(&words), ["-F", "/a"].map(OsString::from));
        assert_eq!(config_file_words(&["-F/b".into()]), [OsString::from("-F/b")]);
        assert!(config_file_words(&["-oFoo=-F".into()]).is_empty());
    }
}
