"""Every writer gives exactly one run of the complete text.

A row is a command for Bash that saves $F, a cell, once. $S is a file with the text, $OLD one with another text, $D the
directory of both (on another file system); `before` is written to the cell, and runs, before the command."""

import os
from dataclasses import dataclass

import pytest
from mount import done, ok, read_bytes, run, runs

TEXT = "echo one\necho two\n"
OLD = "echo zero\necho one\n"
PATCH = """--- a/f.sh
+++ b/f.sh
@@ -1,2 +1,2 @@
-echo zero
 echo one
+echo two
"""
NEW = """--- /dev/null
+++ b/f.sh
@@ -0,0 +1,2 @@
+echo one
+echo two
"""


@dataclass
class W:
    name: str
    command: str
    before: str = None
    text: str = TEXT


def shells():
    for s in ("bash", "dash", "zsh", "mksh"):
        yield W(f"{s}-echo", f"exec {s} -c 'echo \"echo one\" >$F'", text="echo one\n")
        yield W(f"{s}-echo-again", f"exec {s} -c 'echo \"echo one\" >$F'", OLD, "echo one\n")
        yield W(f"{s}-append", f"exec {s} -c 'echo \"echo two\" >>$F'", "echo one\n")
        yield W(f"{s}-heredoc", f"exec {s} <<'X'\ncat >$F <<'EOF'\necho one\necho two\nEOF\nX")
        yield W(f"{s}-printf-append", f"exec {s} -c 'printf \"echo %s\\n\" one two >>$F'")
        yield W(f"{s}-braces", f"exec {s} -c '{{ echo \"echo one\"; echo \"echo two\"; }} >$F'")
        yield W(f"{s}-two-children", f"exec {s} -c '(/bin/echo \"echo one\"; /bin/echo \"echo two\") >$F'")
        yield W(f"{s}-pipe-into-cat", f"exec {s} -c 'cat $S | cat >$F'")
        yield W(
            f"{s}-exec-3",
            f"exec {s} -c 'exec 3>$F; echo \"echo one\" >&3; /bin/true; /bin/echo \"echo two\" >&3; exec 3>&-; :'",
        )


PY = "/usr/bin/python3 - <<'EOF'\nimport os, sys, mmap, pathlib, shutil, subprocess, tempfile\nF, S = os.environ['F'], os.environ['S']\nT = open(S).read()\n{}\nEOF"
NODE = "node - <<'EOF'\nconst fs = require('fs'), F = process.env.F, T = fs.readFileSync(process.env.S);\n{}\nEOF"


def python():
    rows = {
        "open-write": "open(F, 'w').write(T)",
        "with": "with open(F, 'w') as f:\n  f.write(T[:5]); f.flush(); f.write(T[5:])",
        "unbuffered": "with open(F, 'wb', buffering=0) as f:\n  for c in T: f.write(c.encode())",
        "print": "for l in [1]:\n  print(T, end='', file=open(F, 'w'))",
        "pathlib": "pathlib.Path(F).write_text(T)",
        "copyfile": "shutil.copyfile(S, F)",
        "copy2": "shutil.copy2(S, F)",
        "move": "shutil.move(S, F)",
        "fsync": "f = open(F, 'w'); f.write(T); f.flush(); os.fsync(f.fileno()); f.close()",
        "inherited-fd": "f = open(F, 'w')\nfor w in 'one', 'two': subprocess.run(['echo', 'echo', w], stdout=f)\nf.close()",
        "fork": "f = os.open(F, os.O_WRONLY | os.O_CREAT)\nos.write(f, T[:9].encode())\n"
        "if os.fork() == 0:\n  os.write(f, T[9:].encode()); os._exit(0)\nos.close(f); os.wait()",
        "dup": "f = os.open(F, os.O_WRONLY | os.O_CREAT)\ng = os.dup(f)\nos.write(f, T[:9].encode()); os.close(f)\n"
        "os.write(g, T[9:].encode()); os.close(g)",
        "two-handles": "f = os.open(F, os.O_WRONLY | os.O_CREAT)\ng = os.open(F, os.O_WRONLY | os.O_APPEND)\n"
        "os.write(f, T[:9].encode()); os.close(f)\nos.write(g, T[9:].encode()); os.close(g)",
        "pwrite-backwards": "f = os.open(F, os.O_WRONLY | os.O_CREAT)\nos.pwrite(f, T[9:].encode(), 9)\n"
        "os.pwrite(f, T[:9].encode(), 0); os.close(f)",
        "mmap": "f = os.open(F, os.O_RDWR | os.O_CREAT)\nos.ftruncate(f, len(T))\nm = mmap.mmap(f, len(T))\n"
        "m[:] = T.encode(); m.close(); os.close(f)",
        "mmap-outlives-fd": "f = os.open(F, os.O_RDWR | os.O_CREAT)\nos.ftruncate(f, len(T))\nm = mmap.mmap(f, len(T))\n"
        "os.close(f); m[:] = T.encode(); m.close()",
        "replace": "p = F + '.new'; open(p, 'w').write(T); os.replace(p, F)",
        "named-temporary": "with tempfile.NamedTemporaryFile('w', dir=os.path.dirname(F), delete=False) as f: f.write(T)\n"
        "os.replace(f.name, F)",
        "claude-code": "p = F + '.tmp.4711.0a1b2c3d4e5f'\nf = os.open(p, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)\n"
        "os.write(f, T.encode()); os.fsync(f); os.close(f); os.chmod(p, 0o644); os.rename(p, F)",
        "mcp-server": "p = F + '.0123456789abcdef0123456789abcdef.tmp'\n"
        "f = os.open(p, os.O_WRONLY | os.O_CREAT | os.O_EXCL)\nos.write(f, T.encode()); os.close(f); os.rename(p, F)",
        "excl": "f = os.open(F, os.O_WRONLY | os.O_CREAT | os.O_EXCL); os.write(f, T.encode()); os.close(f)",
        "truncate-late": "f = os.open(F, os.O_WRONLY | os.O_CREAT); os.write(f, (T + 'exit 9').encode())\n"
        "os.ftruncate(f, len(T)); os.close(f)",
        "open-rename-close": "p = F + '.new'; f = open(p, 'w'); f.write(T[:9]); f.flush(); os.rename(p, F)\n"
        "f.write(T[9:]); f.close()",
        "copy-file-range": "s = os.open(S, os.O_RDONLY); f = os.open(F, os.O_WRONLY | os.O_CREAT)\n"
        "try: os.copy_file_range(s, f, 1000)\nexcept OSError: os.sendfile(f, s, 0, 1000)\nos.close(f)",
        "splice": "s = os.open(S, os.O_RDONLY); f = os.open(F, os.O_WRONLY | os.O_CREAT); os.sendfile(f, s, 0, 1000); os.close(f)",
    }
    for name, code in rows.items():
        yield W("python-" + name, PY.format(code))
    for name in ("open-write", "unbuffered", "pathlib", "claude-code", "mcp-server", "replace", "copyfile"):
        yield W(f"python-{name}-again", PY.format(rows[name]), OLD)


def node():
    rows = {
        "writeFileSync": "fs.writeFileSync(F, T)",
        "promises": "fs.promises.writeFile(F, T)",
        "appendFileSync": "fs.appendFileSync(F, T)",
        "createWriteStream": "const s = fs.createWriteStream(F); s.write(T.subarray(0, 5)); s.end(T.subarray(5))",
        "copyFile": "fs.copyFileSync(process.env.S, F)",
        "vscode": "const f = fs.openSync(F, 'r+'); fs.ftruncateSync(f, 0); fs.writeSync(f, T, 0, T.length, 0);"
        "fs.fdatasyncSync(f); fs.closeSync(f)",
        "vscode-flag-w": "const f = fs.openSync(F, 'w'); fs.writeSync(f, T); fs.fdatasyncSync(f); fs.closeSync(f)",
        "claude-code": "const p = F + '.tmp.' + process.pid + '.' + Date.now().toString(16); "
        "fs.writeFileSync(p, T, {flush: true, mode: 0o644}); fs.renameSync(p, F)",
        "mcp-server": "(async () => { const p = F + '.' + require('crypto').randomBytes(16).toString('hex') + '.tmp';"
        "await fs.promises.writeFile(p, T, 'utf-8'); await fs.promises.rename(p, F) })()",
    }
    for name, code in rows.items():
        yield W("node-" + name, NODE.format(code), OLD if name.startswith("vscode") else None)


def tools():
    yield W("tee", "tee $F <$S >/dev/null")
    yield W("tee-append", "echo 'echo two' | tee -a $F >/dev/null", "echo one\n")
    yield W("cp", "cp $S $F")
    yield W("cp-again", "cp $S $F", OLD)
    yield W("cp-p", "cp -p $S $F")
    yield W("cp-a", "cp -a $S $F")
    yield W("cp-f-again", "cp -f $S $F", OLD)
    yield W("cp-remove-destination", "cp --remove-destination $S $F", OLD)
    yield W("cp-backup", "cp -b $S $F", OLD)
    yield W("install", "install $S $F")
    yield W("install-again", "install -m 600 $S $F", OLD)
    yield W("dd", "dd if=$S of=$F status=none")
    yield W("dd-notrunc-fsync", "dd if=$S of=$F bs=5 conv=notrunc,fsync status=none", "echo 111\necho 222\n")
    yield W("mv-from-another-file-system", "mv $S $F")
    yield W("mv-again", "mv -f $S $F", OLD)
    yield W("tmp-and-rename", "echo 'echo one' >$C/.tmp1; echo 'echo two' >>$C/.tmp1; mv $C/.tmp1 $F")
    yield W("tmp-and-rename-again", "cp $S $C/x.tmp; mv $C/x.tmp $F", OLD)
    yield W("background-child", "{ echo 'echo one'; { /bin/echo 'echo two'; } & wait; } >$F")
    yield W("exec-3-children", "exec 3>$F; (echo 'echo one' >&3); /bin/echo 'echo two' >&3; exec 3>&-")
    yield W("sed-i", "sed -i -e 1d -e '$a echo two' $F", OLD)
    yield W("sed-i-backup", "sed -i.orig -e 1d -e '$a echo two' $F", OLD)
    yield W("perl-i", "perl -ni -e 'print \"echo one\\necho two\\n\" if $. == 1' $F", OLD)
    yield W("perl-print", "perl -e 'open F, \">\", $ENV{F}; print F \"echo one\\n\"; print F \"echo two\\n\"'")
    yield W("awk", "awk '{ print >ENVIRON[\"F\"] }' $S")
    yield W("rsync", "rsync $S $F")
    yield W("rsync-a", "rsync -a $S $F", OLD)
    yield W("rsync-inplace", "rsync --inplace $S $F", OLD)
    yield W("rsync-whole-file", "rsync -a -W $S $F", OLD)
    yield W("rsync-no-whole-file", "rsync -a --no-W $S $F", OLD)
    yield W("rsync-directory", "mkdir $D/up; cp $S $D/up/f.sh; rsync -a $D/up/ $C/")
    yield W("git-apply", "cd $C; git apply $D/patch", OLD)
    yield W("git-apply-new", "cd $C; git apply $D/new")
    yield W("patch", "patch -s $F $D/patch", OLD)
    yield W("patch-backup", "patch -s -b $F $D/patch", OLD)
    yield W("patch-new", "cd $C; patch -s -p1 <$D/new")
    yield W("tar", "cp $S $D/f.sh; tar -C $D -cf - f.sh | tar -C $C -xf -")
    yield W("tar-again", "cp $S $D/f.sh; tar -C $D -cf - f.sh | tar -C $C -xf -", OLD)
    yield W("zipfile", "cp $S $D/f.sh; cd $D; zip -q z f.sh; cd $C; /usr/bin/python3 -m zipfile -e $D/z.zip .")
    yield W("emacs", 'emacs --batch -Q $F --eval \'(progn (insert "echo one\\necho two\\n") (save-buffer))\'')
    yield W(
        "emacs-again",
        "emacs --batch -Q $F --eval "
        "'(progn (erase-buffer) (insert \"echo one\\necho two\\n\") (save-buffer))'",
        OLD,
    )
    yield W("vim-es", "vim -N -u NONE -i NONE -es -c 'call setline(1,[\"echo one\",\"echo two\"])' -c wq $F")
    yield W("vim-es-again", "vim -N -u NONE -i NONE -es -c 'call setline(1,[\"echo one\",\"echo two\"])' -c wq $F", OLD)
    yield W("ex", "printf '1d\\n$a\\necho two\\n.\\nwq\\n' | ex -s -i NONE $F", OLD)


ROWS = [*shells(), *python(), *node(), *tools()]


@pytest.mark.parametrize("w", ROWS, ids=lambda w: w.name)
def test_one_run_of_the_complete_text(ctx, tmp_path, w):
    cell = ctx / "cells" / "f.sh"
    first = 1
    if w.before is not None:
        done(run(ctx, "f.sh", w.before))
        first = 2
    (tmp_path / "s").write_text(TEXT)
    (tmp_path / "patch").write_text(PATCH)
    (tmp_path / "new").write_text(NEW)
    env = {"F": str(cell), "C": str(cell.parent), "S": str(tmp_path / "s"), "D": str(tmp_path), "HOME": str(tmp_path)}
    ok(w.command, env={**os.environ, **env})

    assert runs(ctx) == list(range(1, first + 1))
    assert done(ctx / "results" / "f.sh") == "ok"
    assert read_bytes(cell).decode() == w.text
    assert read_bytes(ctx / "history" / str(first) / "code").decode() == w.text
    assert read_bytes(ctx / "results" / "f.sh" / "run").decode().strip() == str(first)
    words = "".join(line.removeprefix("echo ") + "\n" for line in w.text.splitlines())
    assert read_bytes(ctx / "results" / "f.sh" / "stdout").decode() == words
    assert runs(ctx) == list(range(1, first + 1))
