"""Readers that are started while a run goes on get its complete output, or refuse loudly: never a silent part.

All of them read one run at once: it prints half, waits until each of them waits (or has given up), and prints the rest."""

import hashlib
import os
import subprocess

import pytest
from mount import done, end, let_go, parked, run, running, spawn, status

LINES = [b'{"n":%d}\n' % n for n in range(1, 11)]
TEXT = b"".join(LINES)
TALKS = """for n in 1 2 3 4 5; do echo "{\\"n\\":$n}"; done
while [ ! -e go ]; do sleep 0.02; done
for n in 6 7 8 9 10; do echo "{\\"n\\":$n}"; sleep 0.05; done
"""
SILENT = """while [ ! -e go ]; do sleep 0.02; done
for n in 1 2 3 4 5 6 7 8 9 10; do echo "{\\"n\\":$n}"; done
"""
PY = "/usr/bin/python3 -c 'import os, sys, mmap, pathlib; F = os.environ[\"F\"]; O = sys.stdout.buffer\n{}'"
NODE = "node -e 'const F = process.env.F, O = process.stdout\n{}'"
GIT = hashlib.sha1(b"blob %d\0" % len(TEXT) + TEXT).hexdigest().encode() + b"\n"

# name: (command that reads $F, what it prints of the whole text). $D: a directory, $E: a file with the text
READERS = {
    "cat": ("cat $F", TEXT),
    "cp": ("cp $F $D/o && cat $D/o", TEXT),
    "cp-a": ("cp -a $F $D/o && cat $D/o", TEXT),
    "dd": ("dd if=$F status=none", TEXT),
    "dd-1-byte": ("dd if=$F bs=1 status=none", TEXT),
    "grep": ("grep n $F", TEXT),
    "grep-c": ("grep -c n $F", b"10\n"),
    "wc-c": ("wc -c <$F", b"%d\n" % len(TEXT)),
    "wc-c-name": ("wc -c $F | cut -d' ' -f1", b"%d\n" % len(TEXT)),
    "wc-l": ("wc -l <$F", b"10\n"),
    "tail": ("tail $F", TEXT),
    "tail-n2": ("tail -n2 $F", b"".join(LINES[-2:])),
    "tail-c9": ("tail -c9 $F", TEXT[-9:]),
    "head": ("head $F", TEXT),
    "head-n-1": ("head -n-1 $F", b"".join(LINES[:-1])),
    "jq": ("jq -c . $F", TEXT),
    "less": ("less $F", TEXT),
    "sed": ("sed -n p $F", TEXT),
    "awk": ("awk 1 $F", TEXT),
    "sort": ("sort -t: -nk2 $F", TEXT),
    "tac": ("tac $F | tac", TEXT),
    "md5sum": ("md5sum <$F", hashlib.md5(TEXT).hexdigest().encode() + b"  -\n"),
    "sha256sum": ("sha256sum $F | cut -c-64", hashlib.sha256(TEXT).hexdigest().encode() + b"\n"),
    "cksum": ("cksum $F | cut -d' ' -f2", b"%d\n" % len(TEXT)),
    "python-open": (PY.format('O.write(open(F, "rb").read())'), TEXT),
    "python-readlines": (PY.format('O.writelines(open(F, "rb").readlines())'), TEXT),
    "python-pathlib": (PY.format("O.write(pathlib.Path(F).read_bytes())"), TEXT),
    "python-os-read": (PY.format("f = os.open(F, os.O_RDONLY)\nwhile b := os.read(f, 7): O.write(b)"), TEXT),
    "python-mmap": (
        PY.format('f = open(F, "rb"); O.write(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:])'),
        TEXT,
    ),
    "python-pread-by-size": (
        PY.format("f = os.open(F, os.O_RDONLY); n = os.fstat(f).st_size\nO.write(os.pread(f, n - 10, 0) + os.pread(f, 10, n - 10))"),
        TEXT,
    ),
    "python-exists-then-read": (PY.format('O.write(open(F, "rb").read() if os.path.exists(F) else b"")'), TEXT),
    "node-readFileSync": (NODE.format("O.write(require(`fs`).readFileSync(F))"), TEXT),
    "node-promises": (NODE.format("require(`fs`).promises.readFile(F).then(b => O.write(b))"), TEXT),
    "node-stream": (NODE.format("require(`fs`).createReadStream(F).pipe(O)"), TEXT),
    "node-existsSync": (NODE.format("if (fs.existsSync(F)) O.write(fs.readFileSync(F))"), TEXT),
    "while-read": ('while IFS= read -r l; do printf "%s\\n" "$l"; done <$F', TEXT),
    "dash-while-read": ("dash -c 'while IFS= read -r l; do printf \"%s\\n\" \"$l\"; done <$F'", TEXT),
    "bash-substitution": ('printf "%s\\n" "$(<$F)"', TEXT),
    "mapfile": ("mapfile a <$F; printf %s \"${a[@]}\"", TEXT),
    "test-r": ("[ -r $F ] && cat $F", TEXT),
    "test-s": ("[ -s $F ] && cat $F", TEXT),
    "perl": ("perl -pe 1 $F", TEXT),
    "perl-s": ("perl -e 'open F, $ENV{F}; read F, $b, -s F; print $b'", TEXT),
    "tar": ("tar -C ${F%/*} -cf - ${F##*/} | tar -xOf -", TEXT),
    "rsync": ("rsync $F $D/o && cat $D/o", TEXT),
    "git-hash-object": ("git hash-object $F", GIT),
    "git-diff": ("git diff --no-index --quiet $F $E && echo same", b"same\n"),
    "diff": ("diff $F $E && echo same", b"same\n"),
    "diff-same-file": ("diff $F $F && echo same", b"same\n"),
    "cmp": ("cmp $F $E && echo same", b"same\n"),
    "xxd": ("xxd -p $F | xxd -p -r", TEXT),
    "od": ("od -An -v -tx1 $F | xxd -p -r", TEXT),
    "base64": ("base64 $F | base64 -d", TEXT),
    "file": ("file -b --mime-encoding $F", b"us-ascii\n"),
    "rg": ("rg -N n $F", TEXT),
    "grep-r": ("grep -r n $F", TEXT),
    "zip": ("zip -qj $D/z $F && cd $D && /usr/bin/python3 -m zipfile -e z.zip . && cat stdout", TEXT),
    "gzip": ("gzip -c $F | gzip -d", TEXT),
    "cp-r": ("cp -r $F $D/o && cat $D/o", TEXT),
    "install": ("install -m 644 $F $D/o && cat $D/o", TEXT),
    "ln-s": ("ln -s $F $D/l && cat $D/l", TEXT),
    "vim": ("vim -N -u NONE -i NONE -es -c '%print' -c q $F", TEXT),
    "python-requests-by-url": (PY.format('import urllib.request\nO.write(urllib.request.urlopen("file://" + F).read())'), TEXT),
    "nonblock": (PY.format('f = os.open(F, os.O_RDONLY | os.O_NONBLOCK)\nwhile b := os.read(f, 99): O.write(b)'), TEXT),
    "stat": ("stat -c %s $F", b"%d\n" % len(TEXT)),
    "find-size": ("find $F -printf '%s\\n'", b"%d\n" % len(TEXT)),
    "du": ("du -b $F | cut -f1", b"%d\n" % len(TEXT)),
    "ls-l": ("set -- $(ls -l $F); echo $5", b"%d\n" % len(TEXT)),
    "follow": ("cat ${F%/*}/stdout.follow", TEXT),
}
REFUSALS = {"nonblock", "grep-r", "gzip"}  # these may open with O_NONBLOCK, and say so


class Outcome:
    pass


@pytest.fixture(scope="module", params=["talks", "silent"])
def outcomes(request, m, tmp_path_factory):
    """Starts all the readers beside a running cell. {name: Outcome}"""
    if not m.alive:
        m.remount()
    ctx = m.context(request.param)
    tmp = tmp_path_factory.mktemp(request.param)
    (tmp / "text").write_bytes(TEXT)
    results = run(ctx, "x.sh", TALKS if request.param == "talks" else SILENT)
    running(results)
    out = {}
    for name, (command, _) in READERS.items():
        o = out[name] = Outcome()
        (tmp / name).mkdir()
        o.file = open(tmp / name / "out", "w+b")
        env = {**os.environ, "F": str(results / "stdout"), "D": str(tmp / name), "E": str(tmp / "text"), "HOME": str(tmp),
               "GIT_CEILING_DIRECTORIES": str(m.dir)}  # fmt: skip
        o.proc = spawn("set -o pipefail; " + command, stdout=o.file, stderr=subprocess.PIPE, env=env)
    for o in out.values():
        parked(o.proc, seconds=30)
    early = [name for name, o in out.items() if o.proc.poll() is not None]
    assert status(results) == "running"
    let_go(ctx)
    assert done(results) == "ok"
    for name, o in out.items():
        o.early = name in early
        try:
            o.stderr = o.proc.communicate(timeout=20)[1]
            o.rc = o.proc.returncode
        except subprocess.TimeoutExpired:
            o.rc, o.stderr = "no end", b""
        end(o.proc)
        o.file.seek(0)
        o.stdout = o.file.read()
        o.file.close()
    yield out
    if m.alive:
        (ctx / "ctl").write_text("remove\n")


@pytest.mark.parametrize("name", READERS)
def test_reader_of_a_running_cell(outcomes, name):
    o = outcomes[name]
    if o.rc == 0:
        assert o.stdout == READERS[name][1], o.stderr
        assert not o.early
    else:
        assert name in REFUSALS, (o.rc, o.stdout, o.stderr)
        assert o.rc != "no end" and o.stderr, o.rc
