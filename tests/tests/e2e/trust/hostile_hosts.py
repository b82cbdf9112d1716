"""Gives every host and URL of a corpus to every tool, as text from elsewhere comes to them.

    hostile_hosts.py CORPUS CANARY [all] [-F CONFIG]

`all` adds the tools that take long. Prints how many commands were run, and each that succeeded.
"""
import concurrent.futures, os, shutil, subprocess, sys, tempfile, threading

corpus, canary, *rest = sys.argv[1:]
config = rest[rest.index('-F') + 1] if '-F' in rest else None
options = ['-F', config] if config else []
environment = dict(os.environ, GIT_TERMINAL_PROMPT='0')
if config:
    # Without a run, the lab's configuration has to be named to each of them.
    for name in ('GIT_SSH_COMMAND', 'RSYNC_RSH', 'SVN_SSH'):
        environment[name] = 'ssh -F ' + config

entries = []
with open(corpus) as lines:
    for line in lines:
        if line.strip() and not line.startswith('#'):
            kind, text, _ = line.rstrip('\n').split(' | ', 2)
            entries.append((kind, text.replace('CANARY', canary)))


def urls(kind, text):
    """What git may be told."""
    if kind == 'url':
        return [text]
    return ['ssh://%s/x' % text, 'ssh://[%s]/x' % text, '%s:x' % text, 'git+ssh://[%s]/x' % text]


def superproject(place, url):
    """A repository whose submodule is at this address, as a stranger may have made it."""
    git = ['git', '-C', place, '-c', 'user.name=a', '-c', 'user.email=a@b']
    quoted = url.replace('\\', '\\\\').replace('"', '\\"')
    with open(place + '/.gitmodules', 'w') as file:
        file.write('[submodule "m"]\n\tpath = m\n\turl = "%s"\n' % quoted)
    shutil.copy(canary, place + '/evil.sh')
    link = ['update-index', '--add', '--cacheinfo', '160000,' + '1' * 40 + ',m']
    for words in (['init', '-q'], ['add', '.gitmodules', 'evil.sh'], link, ['commit', '-qm', 'm']):
        subprocess.run(git + words, check=True, env=environment, stdout=subprocess.DEVNULL)


def quick(kind, text):
    for url in urls(kind, text):
        yield ['git', 'ls-remote', '--', url]
    if kind == 'host':
        yield ['ssh'] + options + ['--', text, 'true']
        yield ['ssh'] + options + ['-O', 'check', '--', text]
        yield ['ssh'] + options + ['--', 'ssh://%s' % text, 'true']
        yield ['rsync', '--', '%s:x' % text, '.']
        yield ['rsync', '--', '[%s]:x' % text, '.']
        for place in ('%s:x' % text, '[%s]:x' % text, 'scp://%s/x' % text):
            yield ['scp'] + options + ['-q', '--', place, '.']
        yield ['sftp'] + options + ['-q', '-b', '/dev/null', '--', text]
        yield ['svn', '--non-interactive', 'info', 'svn+ssh://%s/x' % text]


def slow(number, kind, text):
    hg = ['hg', '--config', 'ui.ssh=ssh ' + ' '.join(options)]
    yield hg + ['identify', '--', 'ssh://%s/x' % text if kind == 'host' else text]
    for url in urls(kind, text)[:2][-1:]:
        with tempfile.TemporaryDirectory() as place:
            yield ['git', 'clone', '-q', '--', url, place + '/clone']
            superproject(place, url)
            yield ['git', '-C', place, 'fetch', '-q', '--', url]
            yield ['git', '-c', 'protocol.file.allow=always', 'clone', '-q',
                   '--recurse-submodules', place, place + '/out']
    if number % 8 == 0:
        url = 'git+ssh://%s/x' % text if kind == 'host' else text
        yield [sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '-d', '.', url]


count, succeeded, lock = 0, [], threading.Lock()


def run(words):
    global count
    done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with lock:
        count += 1
        if done.returncode == 0:
            succeeded.append(words)


def work(numbered):
    number, (kind, text) = numbered
    for words in quick(kind, text):
        run(words)
    if 'all' in rest:
        for words in slow(number, kind, text):
            run(words)


with concurrent.futures.ThreadPoolExecutor(6) as pool:
    list(pool.map(work, enumerate(entries)))
print(len(entries), 'entries,', count, 'commands')
for words in succeeded:
    print('succeeded:', words)
