//! The keywords of `ssh_config(5)`, as OpenSSH 10 and Debian's build of it know them, and what
//! each means to us.

/// What a keyword of `-o` means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// We act upon it.
    Honoured(Keyword),
    /// It says how to get to the host, and goes to `ssh -G`.
    Way,
    /// The same, and its value is a time.
    WayTime,
    /// It changes nothing for us: it is of a sharing of connections that is not ours, or is
    /// obsolete.
    Ignored,
    /// It stands in files only.
    FilesOnly,
}

/// A keyword that we act upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) enum Keyword {
    BatchMode,
    ClearAllForwardings,
    ControlMaster,
    DynamicForward,
    EscapeChar,
    ExitOnForwardFailure,
    ForkAfterAuthentication,
    ForwardAgent,
    ForwardX11,
    GatewayPorts,
    GssapiDelegateCredentials,
    IgnoreUnknown,
    LocalCommand,
    LocalForward,
    LogLevel,
    PermitLocalCommand,
    PermitRemoteOpen,
    Port,
    RemoteCommand,
    RemoteForward,
    RequestTty,
    SendEnv,
    SessionType,
    SetEnv,
    StdinNull,
    StreamLocalBindMask,
    StreamLocalBindUnlink,
    Tunnel,
    User,
}

use Keyword::*;
use Meaning::{FilesOnly, Honoured, Ignored, Way, WayTime};

/// All keywords in lower case, sorted.
const KEYWORDS: &[(&str, Meaning)] = &[
    ("addkeystoagent", Way),
    ("addressfamily", Way),
    ("afstokenpassing", Ignored),
    ("batchmode", Honoured(BatchMode)),
    ("bindaddress", Way),
    ("bindinterface", Way),
    ("canonicaldomains", Way),
    ("canonicalizefallbacklocal", Way),
    ("canonicalizehostname", Way),
    ("canonicalizemaxdots", Way),
    ("canonicalizepermittedcnames", Way),
    ("casignaturealgorithms", Way),
    ("certificatefile", Way),
    ("challengeresponseauthentication", Way),
    ("channeltimeout", Ignored),
    ("checkhostip", Way),
    ("cipher", Ignored),
    ("ciphers", Way),
    ("clearallforwardings", Honoured(ClearAllForwardings)),
    ("compression", Way),
    ("compressionlevel", Ignored),
    ("connectionattempts", Way),
    ("connecttimeout", WayTime),
    ("controlmaster", Honoured(ControlMaster)),
    ("controlpath", Ignored),
    ("controlpersist", Ignored),
    ("dsaauthentication", Way),
    ("dynamicforward", Honoured(DynamicForward)),
    ("enableescapecommandline", Ignored),
    ("enablesshkeysign", Way),
    ("escapechar", Honoured(EscapeChar)),
    ("exitonforwardfailure", Honoured(ExitOnForwardFailure)),
    ("fallbacktorsh", Ignored),
    ("fingerprinthash", Way),
    ("forkafterauthentication", Honoured(ForkAfterAuthentication)),
    ("forwardagent", Honoured(ForwardAgent)),
    ("forwardx11", Honoured(ForwardX11)),
    ("forwardx11timeout", Ignored),
    ("forwardx11trusted", Ignored),
    ("gatewayports", Honoured(GatewayPorts)),
    ("globalknownhostsfile", Way),
    ("globalknownhostsfile2", Ignored),
    ("gssapiauthentication", Way),
    ("gssapiclientidentity", Way),
    ("gssapidelegatecredentials", Honoured(GssapiDelegateCredentials)),
    ("gssapikexalgorithms", Way),
    ("gssapikeyexchange", Way),
    ("gssapirenewalforcesrekey", Way),
    ("gssapiserveridentity", Way),
    ("gssapitrustdns", Way),
    ("hashknownhosts", Way),
    ("host", FilesOnly),
    ("hostbasedacceptedalgorithms", Way),
    ("hostbasedauthentication", Way),
    ("hostbasedkeytypes", Way),
    ("hostkeyalgorithms", Way),
    ("hostkeyalias", Way),
    ("hostname", Way),
    ("identitiesonly", Way),
    ("identityagent", Way),
    ("identityfile", Way),
    ("identityfile2", Way),
    ("ignoreunknown", Honoured(IgnoreUnknown)),
    ("include", FilesOnly),
    ("ipqos", Way),
    ("kbdinteractiveauthentication", Way),
    ("kbdinteractivedevices", Way),
    ("keepalive", Way),
    ("kerberosauthentication", Ignored),
    ("kerberostgtpassing", Ignored),
    ("kexalgorithms", Way),
    ("knownhostscommand", Way),
    ("localcommand", Honoured(LocalCommand)),
    ("localforward", Honoured(LocalForward)),
    ("loglevel", Honoured(LogLevel)),
    ("logverbose", Ignored),
    ("macs", Way),
    ("match", FilesOnly),
    ("nohostauthenticationforlocalhost", Way),
    ("numberofpasswordprompts", Way),
    ("obscurekeystroketiming", Ignored),
    ("passwordauthentication", Way),
    ("permitlocalcommand", Honoured(PermitLocalCommand)),
    ("permitremoteopen", Honoured(PermitRemoteOpen)),
    ("pkcs11provider", Way),
    ("port", Honoured(Port)),
    ("preferredauthentications", Way),
    ("protocol", Ignored),
    ("proxycommand", Way),
    ("proxyjump", Way),
    ("proxyusefdpass", Way),
    ("pubkeyacceptedalgorithms", Way),
    ("pubkeyacceptedkeytypes", Way),
    ("pubkeyauthentication", Way),
    ("refuseconnection", Way),
    ("rekeylimit", Way),
    ("remotecommand", Honoured(RemoteCommand)),
    ("remoteforward", Honoured(RemoteForward)),
    ("requesttty", Honoured(RequestTty)),
    ("requiredrsasize", Way),
    ("revokedhostkeys", Way),
    ("rhostsauthentication", Ignored),
    ("rhostsrsaauthentication", Ignored),
    ("rsaauthentication", Ignored),
    ("securitykeyprovider", Way),
    ("sendenv", Honoured(SendEnv)),
    ("serveralivecountmax", Way),
    ("serveraliveinterval", WayTime),
    ("sessiontype", Honoured(SessionType)),
    ("setenv", Honoured(SetEnv)),
    ("skeyauthentication", Way),
    ("smartcarddevice", Way),
    ("stdinnull", Honoured(StdinNull)),
    ("streamlocalbindmask", Honoured(StreamLocalBindMask)),
    ("streamlocalbindunlink", Honoured(StreamLocalBindUnlink)),
    ("stricthostkeychecking", Way),
    ("syslogfacility", Ignored),
    ("tag", Way),
    ("tcpkeepalive", Way),
    ("tisauthentication", Way),
    ("tunnel", Honoured(Tunnel)),
    ("tunneldevice", Ignored),
    ("updatehostkeys", Way),
    ("useprivilegedport", Ignored),
    ("user", Honoured(User)),
    ("userknownhostsfile", Way),
    ("userknownhostsfile2", Ignored),
    ("useroaming", Ignored),
    ("usersh", Ignored),
    ("verifyhostkeydns", Way),
    ("versionaddendum", Way),
    ("visualhostkey", Way),
    ("warnweakcrypto", Way),
    ("xauthlocation", Ignored),
];

/// What a keyword means; `None` for one that `ssh` does not know. Takes lower case.
pub(super) fn meaning(keyword: &str) -> Option<Meaning> {
    let index = KEYWORDS.binary_search_by(|(name, _)| (*name).cmp(keyword)).ok()?;
    Some(KEYWORDS[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_in_lower_case() {
        assert!(KEYWORDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(KEYWORDS.iter().all(|(name, _)| *name == name.to_lowercase()));
        assert_eq!(meaning("port"), Some(Honoured(Port)));
        assert_eq!(meaning("xauthlocation"), Some(Ignored));
        assert_eq!(meaning("por"), None);
    }
}
