//! What shells want to be told so that a directory comes first on `PATH`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A shell, or one that reads the same lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Shell {
    /// The shell of POSIX, and those like it: dash, ksh
    Sh,
    /// GNU's
    Bash,
    /// The Z shell
    Zsh,
    /// fish
    Fish,
    /// The C shell, and tcsh
    #[value(alias = "tcsh")]
    Csh,
}

impl Shell {
    /// The shell that has this path.
    pub(super) fn named(path: &OsStr) -> Shell {
        match Path::new(path).file_name().unwrap_or_default().as_bytes() {
            b"bash" => Shell::Bash,
            b"zsh" => Shell::Zsh,
            b"fish" => Shell::Fish,
            b"csh" | b"tcsh" => Shell::Csh,
            _ => Shell::Sh,
        }
    }

    /// The file with what such a shell does when it starts.
    pub(super) fn startup_file(self) -> &'static str {
        match self {
            Shell::Sh => "~/.profile",
            Shell::Bash => "~/.bashrc",
            Shell::Zsh => "~/.zshrc",
            Shell::Fish => "~/.config/fish/config.fish",
            Shell::Csh => "~/.cshrc",
        }
    }

    /// A line that puts a directory before all others.
    pub(super) fn line(self, directory: &Path) -> Vec<u8> {
        let directory = self.word(directory.as_os_str().as_bytes());
        match self {
            // An empty directory at the end would be the current one.
            Shell::Sh | Shell::Bash | Shell::Zsh => {
                [b"export PATH=", &directory[..], b"\"${PATH:+:$PATH}\""].concat()
            }
            Shell::Fish => [b"set -gx PATH ", &directory[..], b" $PATH"].concat(),
            Shell::Csh => [b"setenv PATH ", &directory[..], b":\"$PATH\""].concat(),
        }
    }

    /// A word that such a shell reads as it is.
    fn word(self, text: &[u8]) -> Vec<u8> {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@%,".contains(byte);
        if text.iter().all(is_plain) {
            return text.to_vec();
        }
        let mut word = vec![b'\''];
        for &byte in text {
            match (self, byte) {
                (Shell::Fish, b'\'' | b'\\') => word.extend([b'\\', byte]),
                (_, b'\'') => word.extend(b"'\\''"),
                (Shell::Csh, b'!' | b'\n') => word.extend([b'\\', byte]),
                _ => word.push(byte),
            }
        }
        word.push(b'\'');
        word
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn each_shell_reads_the_directory_as_it_is() {
        let strange = OsStr::from_bytes(b"/a b/it's $HOME `id` !x \\ \"q\" *\n\xff").to_owned();
        for directory in [OsStr::new("/plain/bin"), &strange] {
            for (shell, program) in [
                (Shell::Sh, "sh"),
                (Shell::Bash, "bash"),
                (Shell::Zsh, "zsh"),
                (Shell::Fish, "fish"),
                (Shell::Csh, "tcsh"),
            ] {
                // fish takes no byte that is no text.
                let directory = match shell {
                    Shell::Fish => directory.to_string_lossy().into_owned().into(),
                    _ => directory.to_owned(),
                };
                let mut script = shell.line(Path::new(&directory));
                script.extend(b"\nenv");
                let mut command = Command::new(program);
                if shell == Shell::Csh {
                    command.arg("-f");
                }
                command.arg("-c").arg(OsStr::from_bytes(&script)).env("PATH", "/usr/bin:/bin");
                // Not every machine has each of them.
                let Ok(done) = command.output() else { continue };
                let mut expected = b"PATH=".to_vec();
                expected.extend(directory.into_vec());
                expected.extend(b":/usr/bin:/bin");
                let found = done.stdout.windows(expected.len()).any(|part| part == expected);
                assert!(found, "{program}: {}", String::from_utf8_lossy(&script));
            }
        }
    }

    #[test]
    fn an_empty_path_gets_no_current_directory() {
        let mut script = Shell::Sh.line(Path::new("/d"));
        script.extend(b"; echo \"$PATH\"");
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(OsStr::from_bytes(&script)).env("PATH", "");
        assert_eq!(command.output().unwrap().stdout, b"/d\n");
    }
}
