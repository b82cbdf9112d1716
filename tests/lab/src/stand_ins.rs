//! Stand-ins for engines that a test machine can't run: programs that take the command lines of
//! the real ones, and refuse any other, and that enter a real [`crate::Container`].
//!
//! What they take is what the manuals say: podman-exec(1), `kubectl exec --help`,
//! `incus exec --help`, machinectl(1).

use std::fs;

use crate::{Lab, root};

/// A file for [`crate::LabBuilder::etc`] that lets the stand-ins enter the container, and lets
/// root find them behind sudo.
pub const RULE: (&str, &str) = (
    "sudoers.d/lab",
    "$ACCOUNT ALL=(ALL) NOPASSWD: ALL\nDefaults secure_path=$LAB/stand-ins:/usr/sbin:/usr/bin:/sbin:/bin\n",
);

/// What `PATH` is to be on the target, for [`crate::LabBuilder::environment`].
pub const PATH: &str =
    "$LAB/stand-ins:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The name under which all of them know the container.
pub const NAME: &str = "app";

/// The program. Its name says whose stand-in it is.
const PROGRAM: &str = r#"#!/usr/bin/python3
import os, sys

name = os.path.basename(sys.argv[0])
with open('@NOTES@', 'a') as notes:
    notes.write(' '.join([name] + sys.argv[1:]) + '\n')
words = sys.argv[1:]

def refuse(why):
    sys.exit('%s: stand-in: %s in %r' % (name, why, sys.argv[1:]))

def options(known, anywhere):
    """Takes options off the words: known maps each to whether it has a value. Gives what was
    found, and the other words before `--` (or, unless anywhere, all from the first other word)."""
    found, others = {}, []
    while words:
        word = words.pop(0)
        if word == '--':
            if not anywhere:
                others += words
                words.clear()
            return found, others
        if not word.startswith('-'):
            others.append(word)
            if anywhere:
                continue
            others += words
            words.clear()
            return found, others
        option, equals, value = word.partition('=')
        if option not in known or (equals and not option.startswith('--')):
            refuse('option ' + word)
        if not known[option]:
            value = True
        elif not equals:
            value = words.pop(0) if words else refuse('no value of ' + option)
        found[option] = value
    return found, others

def enter(user, command):
    if not command:
        refuse('no command')
    ids = []
    if user not in (None, '0', 'root', '0:0'):
        if user not in ('@USER@', '@ID@'):
            sys.exit('Error: unable to find user %s: no matching entries in passwd file' % user)
        ids = ['-S', '@ID@', '-G', '@ID@']
    os.environ['PATH'] = '/usr/sbin:/usr/bin:/sbin:/bin'
    os.execv('/usr/bin/sudo', ['sudo', '-n', 'nsenter', '--all', '--target', '@PID@'] + ids
             + ['--'] + command)

if words[:1] == ['exec'] and name in ('podman', 'kubectl', 'incus'):
    words.pop(0)
    if name == 'podman':
        flags = {'-i': 0, '--interactive': 0, '-u': 1, '--user': 1, '--detach-keys': 1}
        found, others = options(flags, False)
        if not ('-i' in found or '--interactive' in found):
            refuse('no -i')
        target, command = others[:1], others[1:]
        user = found.get('-u', found.get('--user'))
        if target != ['@NAME@']:
            print('Error: no container with name or ID "%s" found: no such container'
                  % ''.join(target), file=sys.stderr)
            sys.exit(125)
        enter(user, command)
    if name == 'kubectl':
        flags = {'-i': 0, '--stdin': 0, '-c': 1, '--container': 1, '-n': 1, '--namespace': 1}
        if '--' not in words:
            refuse('no --')
        found, others = options(flags, True)
        if not ('-i' in found or '--stdin' in found):
            refuse('no -i')
        if len(others) != 1:
            refuse('not one pod')
        space = found.get('-n', found.get('--namespace', 'default'))
        if space not in ('default', 'prod'):
            sys.exit('Error from server (NotFound): namespaces "%s" not found' % space)
        pod = others[0]
        if pod not in ('@NAME@', 'pod/@NAME@', 'pods/@NAME@'):
            sys.exit('Error from server (NotFound): pods "%s" not found' % pod)
        box = found.get('-c', found.get('--container', 'main'))
        if box not in ('main', 'web'):
            sys.exit('Error from server (BadRequest): container %s is not valid for pod %s'
                     % (box, pod))
        enter(None, words)
    found, others = options({'--mode': 1, '--user': 1, '--group': 1, '-T': 0,
                             '--force-noninteractive': 0}, True)
    if found.get('--mode') != 'non-interactive' and '-T' not in found:
        refuse('no --mode=non-interactive')
    command = others[1:] + words
    if others[:1] != ['@NAME@']:
        sys.exit('Error: Instance not found')
    enter(found.get('--user'), command)
elif name == 'machinectl' and words[:1] == ['show']:
    words.pop(0)
    found, others = options({'-p': 1, '--property': 1, '--value': 0}, True)
    others += words
    if found.get('-p', found.get('--property')) != 'Leader':
        refuse('no --property=Leader')
    if others != ['@NAME@']:
        sys.exit('Could not get path to machine: No machine \'%s\' known' % ''.join(others))
    print('@PID@' if '--value' in found else 'Leader=@PID@')
else:
    refuse('no such command')
"#;

/// Puts the stand-ins of `podman`, `kubectl`, `incus` and `machinectl` on the target's [`PATH`].
/// They know the container of this first process.
///
/// # Panics
/// If they can't be written.
pub fn install(lab: &Lab, pid: u32) {
    let dir = lab.dir().join("stand-ins");
    fs::create_dir_all(&dir).expect("creating a directory of the lab");
    let notes = lab.remote_dir().join("stand-in-calls");
    fs::write(&notes, "").expect("writing in the lab");
    lab.account().give(&notes);
    let (user, id) = root::USER;
    let text = PROGRAM
        .replace("@NOTES@", &notes.to_string_lossy())
        .replace("@PID@", &pid.to_string())
        .replace("@NAME@", NAME)
        .replace("@USER@", user)
        .replace("@ID@", &id.to_string());
    for name in ["podman", "kubectl", "incus", "machinectl"] {
        crate::files::write_script(&dir.join(name), &text);
    }
}

/// The command lines that the stand-ins were called with so far, one a line.
pub fn calls(lab: &Lab) -> String {
    fs::read_to_string(lab.remote_dir().join("stand-in-calls")).unwrap_or_default()
}
