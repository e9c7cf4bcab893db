"""Forged and garbled messages: user code shares its driver's pipes, so it can say anything to the daemon.

What breaks the protocol ends that kernel, and nobody else: the other kernel of the same context keeps its state, the
daemon its memory. CELLFS_FORGE=N sends N random messages live.
"""

import os
import re

import pytest

from host import HERE, KEEP, LEAK, RUNTIME, SLOW, SOON, missing, write

BROKEN = r"killed: the driver broke the protocol: .*"
# Bytes by which the daemon may grow; with AddressSanitizer what was freed waits in a quarantine.
MORE = 512 << 20 if "ASAN_OPTIONS" in os.environ else 16 << 20

# Python: EV is the real event pipe, ID the id of the run under way, send() writes a line; spool is the real one.
HEAD = """
from attack import *
import gc, json, stat
from attack import write as put
gc.unfreeze()
WIRE = [o for o in gc.get_objects() if type(o).__name__ == "Wire"][0]
DRIVER = [o for o in gc.get_objects() if type(o).__name__ == "Driver"][0]
EV, ID, SPOOL = WIRE._events, DRIVER.run, WIRE.spool
SECRET = canary["files"][2]
def raw(data):
    data = memoryview(data)
    while data:
        data = data[os.write(EV, data):]
def send(**message):
    raw(json.dumps(message).encode() + b"\\n")
def show(name, mime="text/plain", **more):
    send(ev="display", id=ID, kind="display", data={mime: {"file": name}}, **more)
def wait():
    import time
    time.sleep(100)
ok("begun")
"""

CASES = {  # name: (what it sends, what the status must match)
    "done of a future run": ("send(ev='done', id=ID + 1, status='ok', code=0); wait()", BROKEN),
    "done of a past run": ("send(ev='done', id=ID - 1, status='ok', code=0); wait()", BROKEN),
    "done twice": ("send(ev='done', id=ID, status='ok', code=0); send(ev='done', id=ID, status='ok', code=0)", r"ok|" + BROKEN),
    "done in a thread, then goes on": ("send(ev='done', id=ID, status='ok', code=7); wait()", r"ok"),
    "done of many runs": ("[send(ev='done', id=i, status='ok', code=0) for i in range(1000) if i != ID]; wait()", BROKEN),
    "done with an unknown status": ("send(ev='done', id=ID, status='superb', code=0); wait()", BROKEN),
    "id of 2^63": ("raw(b'{\"ev\":\"done\",\"id\":9223372036854775808,\"status\":\"ok\",\"code\":0}\\n'); wait()", BROKEN),
    "id of 1,000 digits": ("raw(b'{\"ev\":\"done\",\"id\":' + b'9' * 1000 + b',\"status\":\"ok\"}\\n'); wait()", BROKEN),
    "id of 1e999": ("raw(b'{\"ev\":\"done\",\"id\":1e999,\"status\":\"ok\"}\\n'); wait()", BROKEN),
    "negative id": ("send(ev='done', id=-1, status='ok', code=0); wait()", BROKEN),
    "id that is text": ("send(ev='done', id=str(ID), status='ok', code=0); wait()", BROKEN),
    "no JSON": ("raw(b'}{\\n'); wait()", BROKEN),
    "no object": ("raw(b'[1,2]\\n'); wait()", BROKEN),
    "an empty line": ("raw(b'\\n'); wait()", BROKEN),
    "NUL bytes": ("raw(b'{\"ev\":\"log\\0\",\"text\":\"a\\0b\"}\\n'); wait()", BROKEN),
    "invalid UTF-8": ("raw(b'{\"ev\":\"log\",\"text\":\"\\xff\\xfe\\xc0\\x80\"}\\n'); wait()", BROKEN),
    "a key twice": ("raw(b'{\"ev\":\"log\",\"ev\":\"done\",\"id\":1}\\n'); wait()", BROKEN),
    "deep": ("raw(b'[' * 60000 + b'\\n'); wait()", BROKEN),
    "deep objects": ("raw(b'{\"ev\":' * 10000 + b'\\n'); wait()", BROKEN),
    "wide": ("raw(b'{\"ev\":\"log\",\"text\":[' + b'{},' * 21000 + b'1]}\\n')", r".*"),
    "1 GB without a newline": ("piece = b'x' * (1 << 20)\nfor i in range(1024): raw(piece)", BROKEN),
    "a line of 64 KiB and 1": ("raw(b'{\"ev\":\"log\",\"text\":\"' + b'x' * 65536 + b'\"}\\n'); wait()", BROKEN),
    "1,000,000 tiny frames": ("piece = b'{\"ev\":\"x\"}\\n' * 1000\nfor i in range(1000): raw(piece)\nwait()", BROKEN),
    "1,000,000 empty frames": ("piece = b'{}\\n' * 1000\nfor i in range(1000): raw(piece)\nwait()", BROKEN),
    "1,000,000 endings": ("piece = json.dumps(dict(ev='ending', id=ID)).encode() + b'\\n'\nfor i in range(1000): raw(piece * 1000)\nwait()", r"(killed|timeout)\b.*"),
    "another hello": ("send(ev='hello', proto=99, min_proto=99, lang='x', ver='y' * 1000, engine='z', pid=1)", r"(killed|ok|error)\b.*"),
    "another ready": ("send(ev='ready')", r"(killed|ok|error)\b.*"),
    "hello with the pid of the daemon": ("send(ev='hello', proto=1, min_proto=1, lang='python', ver='3', engine='', pid=canary['pids'][1])", r"(killed|ok|error)\b.*"),
    "display of ..": ("show('../x')", r"(killed|ok|error)\b.*"),
    "display of a path": ("show('../../../../../..' + SECRET)", r"(killed|ok|error)\b.*"),
    "display of an absolute path": ("show(SECRET)", r"(killed|ok|error)\b.*"),
    "display of nothing": ("show(''); show('.'); show('..')", r"(killed|ok|error)\b.*"),
    "display of a missing file": ("show('none')", r"(killed|ok|error)\b.*"),
    "display of a name with NUL": ("raw(b'{\"ev\":\"display\",\"id\":%d,\"kind\":\"display\",\"data\":{\"text/plain\":{\"file\":\"a\\\\u0000b\"}}}\\n' % ID)", r"(killed|ok|error)\b.*"),
    "display of a link": ("os.symlink(SECRET, SPOOL + '/link'); show('link')", r"(killed|ok|error)\b.*"),
    "display of a link to /etc/shadow": ("os.symlink('/etc/shadow', SPOOL + '/link2'); show('link2')", r"(killed|ok|error)\b.*"),
    "display of a fifo": ("os.mkfifo(SPOOL + '/fifo'); show('fifo')", r"(killed|ok|error)\b.*"),
    "display of a directory": ("os.mkdir(SPOOL + '/dir'); show('dir')", r"(killed|ok|error)\b.*"),
    "display of a socket": ("import socket; s = socket.socket(socket.AF_UNIX); s.bind(SPOOL + '/sock'); show('sock')", r"(killed|ok|error)\b.*"),
    "display of a file of mode 000": ("open(SPOOL + '/none', 'w').close(); os.chmod(SPOOL + '/none', 0); show('none')", r"(killed|ok|error)\b.*"),
    "display of a file that changes": ("open(SPOOL + '/a', 'w').write('x' * 1000)\nshow('a')\nos.truncate(SPOOL + '/a', 0) if os.path.exists(SPOOL + '/a') else 0", r".*"),
    "display of a sparse giant": ("open(SPOOL + '/big', 'w').close()\ntry: os.truncate(SPOOL + '/big', 1 << 40)\nexcept OSError: pass\nshow('big')", r".*"),
    "display of evil types": ("for t in ('../../x', '/etc/passwd', 'a', '', 'text/plain\\n', 'text/../../x', 'x' * 500 + '/y'):\n open(SPOOL + '/m', 'w').close(); show('m', t)", r"(killed|ok|error)\b.*"),
    "2,000 displays": ("for i in range(2000): send(ev='display', id=ID, kind='display', data={'text/plain': 'x'})", r".*"),
    "2,000 results": ("for i in range(2000): send(ev='display', id=ID, kind='result', data={'text/plain': 'x'})", r".*"),
    "display with 1,000 types": ("send(ev='display', id=ID, kind='display', data={f'x/y{i}': 'x' for i in range(1000)})", r".*"),
    "display with a deep meta": ("raw(b'{\"ev\":\"display\",\"id\":%d,\"kind\":\"display\",\"data\":{\"text/plain\":\"x\"},\"meta\":' % ID + b'{\"a\":' * 1000 + b'1' + b'}' * 1001 + b'\\n')", r".*"),
    "update of a display that never was": ("send(ev='display', id=ID, kind='update', display_id='none', data={'text/plain': 'x'})", r".*"),
    "an error with evil frames": ("send(ev='error', id=ID, name='x' * 30000, message='\\x1b[31m' * 100, line=-5, column=1e300, frames=[[]] * 100, traceback=[{}] * 100)", r".*"),
    "streams of another kernel's": ("for i in range(1000): send(ev='stream', id=ID, name='stdout', text='y' * 50)", r".*"),
    "a flood of logs": ("for i in range(20000): send(ev='log', text='x' * 400)", r".*"),
}

_grown = {}


@pytest.fixture
def pair(host, request):
    """A context with two kernels; the Bash one is to keep its state through all cases."""
    if host.kind not in _grown:
        host.make("forge", "timeout=20", [HERE / "cells" / "attack.py", HERE / "cells" / "attack.sh", HERE / "forger.py"])
        host.cell("forge", "keep.sh", "kept=1\n")
        host.cell("forge", "warm.py", "print(1)\n")
        _grown[host.kind] = host.rss()
    return host


@pytest.mark.parametrize("case", CASES)
def test_forged(pair, canaries, case):
    code, expected = CASES[case]
    ran = pair.cell("forge", "forge.py", until_forged(expected, 2) + HEAD + code + "\n", 12)
    print(ran)
    assert re.fullmatch(expected, ran.text), ran
    assert not LEAK.search(ran.out) and "ok: begun" in ran.out, ran
    assert ran.took < 10 * SLOW
    results = {n: pair.do(read_bytes, ran.results / n) for n in pair.do(os.listdir, ran.results) if "display" in n or "result" in n}
    assert not any(canaries.token.encode() in text for text in results.values()), "a secret was shown"
    assert pair.alive_cell() < SOON
    after = pair.cell("forge", "after.sh", "echo $kept\n", 10)
    assert (after.status, after.out) == ("ok", "1\n"), f"the other kernel of the context: {after}"
    if case == "done in a thread, then goes on":  # its kernel is busy with what it said was over, until that times out
        after = pair.cell("forge", "after.py", "#| timeout: 2\nprint('next')\n", 15)
        assert after.status == "timeout", after
    after = pair.cell("forge", "after.py", "print('next')\n", 15)
    assert (after.status, after.out) == ("ok", "next\n"), after
    canaries.check()


def until_forged(expected, seconds, comment="#|"):
    """The line that gives the forging cell SECONDS where it may well end by its time-out, and else enough for any machine."""
    return f"{comment} timeout: {seconds if re.fullmatch(expected, f'timeout: {seconds} s') else 20}\n"


def read_bytes(path):
    with open(path, "rb") as f:
        return f.read(1 << 20)


BASH = {
    "done of a future run": ("printf '{\"ev\":\"done\",\"id\":%d,\"status\":\"ok\",\"code\":0}\\n' $((__cellfs_id + 1)) >&254; sleep 100", BROKEN),
    "from a child": ("bash -c 'echo garbage >&254'; sleep 100", BROKEN),
    "from a daemon": ("(setsid bash -c 'sleep 0.3; echo garbage >&254' &); sleep 100", BROKEN),
    "through /proc": ("echo garbage >/proc/$$/fd/254; sleep 100", BROKEN + r"|timeout.*"),
    "the pipes stolen": ("exec 252<&- 253<&- 254>&-; sleep 100", r"(killed|timeout)\b.*"),
    "commands eaten": ("(cat <&253 >/dev/null &); sleep 0.3; echo eaten", r".*"),
    "acks eaten": ("(cat <&252 >/dev/null &); display - text/plain <<<x; echo shown", r".*"),
}


@pytest.mark.parametrize("case", BASH)
def test_forged_from_bash(host, case):
    name = "forge-bash"
    host.make(name, "timeout=20", [HERE / "cells" / "attack.sh"])
    try:
        host.cell(name, "keep.py", "kept = 1\n")
        ran = host.cell(name, "forge.sh", until_forged(BASH[case][1], 1) + ". ./attack.sh\nok begun\n" + BASH[case][0] + "\n", 12)
        print(ran)
        assert re.fullmatch(BASH[case][1], ran.text), ran
        if "eaten" in case:
            host.cell(name, "next.sh", "#| timeout: 1\ntrue\n", 20)
            host.do(write, host.contexts / name / "ctl", "restart bash\n")
        after = host.cell(name, "after.sh", "echo next\n", 20)
        assert (after.status, after.out) == ("ok", "next\n"), after
        after = host.cell(name, "after.py", "print(kept)\n", 10)
        assert (after.status, after.out) == ("ok", "1\n"), after
    finally:
        host.remove(name)


# The text of a line to every pipe of the kernel's process above 2: events, and the driver's own commands and acks.
FORGERS = {
    "js": """const { ok, pipes } = require('./attack.js');
const fs = require('fs');
ok('begun');
for (const fd of pipes()) fs.writeSync(fs.openSync(`/proc/self/fd/${fd}`, 'w'), '%s\\n');
for (;;);
""",
    "r": """source("attack.R")
said("begun", TRUE)
for (fd in setdiff(list.files("/proc/self/fd"), 0:2)) {
	path <- file.path("/proc/self/fd", fd)
	if (isTRUE(startsWith(Sys.readlink(path), "pipe:"))) try(cat('%s\\n', file = path), silent = TRUE)
}
Sys.sleep(100)
""",
    "java": """import java.nio.file.*;
if (!Files.readString(Path.of("/proc/sys/kernel/hostname")).trim().equals("sandbox")) throw new Error("not in a box");
System.out.println("ok: begun");
for (var fd : Files.list(Path.of("/proc/self/fd")).toList()) {
	int n = Integer.parseInt(fd.getFileName().toString());
	if (n > 2 && Files.isSymbolicLink(fd) && Files.readSymbolicLink(fd).toString().startsWith("pipe:"))
		try (var out = new java.io.FileOutputStream(fd.toString())) { out.write(("%s\\n").replace('`', '"').getBytes()); }
}
Thread.sleep(100000);
""",
}
FORGED = {
    "garbage": "garbage",
    "done of a future run": '{"ev":"done","id":987654,"status":"ok","code":0}',
    "a shutdown of itself": '{"op":"shutdown"}',
    "a long line": "x" * 70000,
}


@pytest.mark.parametrize("case", FORGED)
@pytest.mark.parametrize("language", FORGERS)
def test_forged_from_other_languages(host, language, case):
    if lacking := missing(RUNTIME[language]):
        pytest.skip(f"{lacking} is not installed")
    name, text = f"forge-{language}", FORGED[case]
    if language == "java":  # a constant has at most 65,535 bytes there
        text = '" + "x".repeat(70000) + "' if case == "a long line" else text.replace('"', "`")
    host.make(name, "timeout=20", [HERE / "cells" / n for n in ("attack.js", "attack.R")])
    expected = r"(killed|timeout)\b.*" if case == "a long line" else r"killed\b.*"
    limit = until_forged(expected, 2, "#|" if language == "r" else "//|")
    try:
        host.cell(name, "keep.py", "kept = 1\n")
        ran = host.cell(name, "forge." + language, limit + FORGERS[language] % text, 40)
        print(ran)
        # A pipe that nobody reads takes no long line: then the cell waits for itself.
        assert re.fullmatch(expected, ran.text) and "ok: begun" in ran.out, ran
        after = host.cell(name, "after." + language, KEEP[language][1], 40)
        if case == "a long line" and after.status == "killed":  # of a driver that lives on, and has it for a command
            after = host.cell(name, "after." + language, KEEP[language][1], 40)
        assert after.status == "ok" and "cellfs: " in after.err, after
        after = host.cell(name, "after.py", "print(kept)\n", 10)
        assert (after.status, after.out) == ("ok", "1\n"), after
        assert host.alive_cell() < SOON
    finally:
        host.remove(name)


LIVE = int(os.environ.get("CELLFS_FORGE", "2000"))


def test_random_messages(pair):
    """N random messages, live: the daemon and the other kernel never mind."""
    total = round_ = 0
    before = pair.rss()
    worst = 0
    while total < LIVE:
        round_ += 1
        code = f"#| timeout: 5\n. ./attack.sh\nok begun\n/usr/bin/python3 -IS forger.py {round_ * 7919 + LIVE} 2000 60\nsleep 100\n"
        ran = pair.cell("forge", "random.sh", code, 12)
        assert ran.status in ("killed", "timeout"), ran
        total += int.from_bytes(pair.do(read_bytes, pair.contexts / "forge" / "workspace" / "sent")[:8], "little")
        worst = max(worst, pair.rss() - before)
    print(f"{total} messages to {round_} kernels; the daemon grew by {worst >> 10} KiB at most")
    assert worst < MORE
    assert pair.cell("forge", "last.py", "print('fine')\n", 15).out == "fine\n"
    host_keeps(pair)


def test_the_daemon_has_not_grown(pair):
    """Behind all of the above."""
    grown = pair.rss() - _grown[pair.kind]
    print(f"the daemon grew by {grown >> 10} KiB")
    assert grown < MORE, f"{grown >> 20} MiB"
    pair.remove("forge")
    del _grown[pair.kind]


def host_keeps(host):
    assert host.alive_cell() < SOON


