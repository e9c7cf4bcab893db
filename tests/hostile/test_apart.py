"""Between two kernels of one context: what one of them left behind attacks the run and the driver of the other.

With Landlock's ABI 6 (Linux 6.12) everything is refused. Before it, signals reach: then that run says `killed`, and the
box goes on.
"""

import re

import pytest

from host import GUARD, HERE, KEEP, RUNTIME, SOON, landlock_abi, missing, until

FILES = [HERE / "apart" / "attacker.py", HERE / "cells" / "attack.py", HERE / "cells" / "attack.sh"]
BY_SHELL = "setsid /usr/bin/python3 -IS /workspace/attacker.py $PPID {how} >/dev/null 2>/workspace/err </dev/null &"
# How each language leaves an attacker behind, and how the other one runs meanwhile.
LEAVE = {
    "py": "import os, subprocess\nsubprocess.Popen(['/usr/bin/python3', '-IS', '/workspace/attacker.py', str(os.getpid()), {how!r}], "
    "start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open('/workspace/err', 'w'))\nprint('left')\n",
    "sh": "(setsid /usr/bin/python3 -IS /workspace/attacker.py $$ {how} >/dev/null 2>/workspace/err </dev/null 252<&- 253<&- 254<&- &)\necho left\n",
    "js": f"require('child_process').execSync('{BY_SHELL}')\nconsole.log('left')\n",
    "r": f"invisible(system('{BY_SHELL}'))\ncat('left\\n')\n",
    "java": f'new ProcessBuilder("sh", "-c", "{BY_SHELL}").start().waitFor();\nSystem.out.println("left");\n',
}
MEANWHILE = {
    "sh": "echo $$ >.go; mv .go go\nfor i in {1..200}; do sleep 0.05; grep -qE 'finished|^kill -1' said 2>/dev/null && break; done\necho survived $kept\n",
    "py": "import time, os\nopen('.go', 'w').write(str(os.getpid()))\nos.rename('.go', 'go')\nfor i in range(200):\n    time.sleep(0.05)\n"
    "    if os.path.exists('said') and any(w in open('said').read() for w in ('finished', 'kill -1')): break\nprint('survived', kept)\n",
    "js": "const fs = require('fs');\nfs.writeFileSync('.go', String(process.pid));\nfs.renameSync('.go', 'go');\n"
    "for (let i = 0; i < 200 && !(fs.existsSync('said') && /finished|^kill -1/m.test(fs.readFileSync('said', 'utf8'))); i++)\n"
    "  await new Promise(done => setTimeout(done, 50));\nconsole.log('survived', kept)\n",
    "r": "writeLines(as.character(Sys.getpid()), '.go')\ninvisible(file.rename('.go', 'go'))\nfor (i in 1:200) {\n  Sys.sleep(0.05)\n"
    "  if (file.exists('said') && any(grepl('finished|^kill -1', readLines('said', warn = FALSE)))) break\n}\ncat('survived', kept)\ncat('\\n')\n",
    "java": "import java.nio.file.*;\nFiles.writeString(Path.of(\".go\"), \"\" + ProcessHandle.current().pid());\nFiles.move(Path.of(\".go\"), Path.of(\"go\"));\n"
    "for (int i = 0; i < 200 && !(Files.exists(Path.of(\"said\")) && Files.lines(Path.of(\"said\")).anyMatch(l -> l.matches(\"finished|kill -1.*\"))); i++) Thread.sleep(50);\n"
    "System.out.println(\"survived \" + kept);\n",
}
KEPT = {"py": "kept=1\n", "sh": "kept=1\n", "js": "var kept = 1\n", "r": "kept <- 1\n", "java": "int kept = 1;\n"}
PAIRS = [("py", "sh"), ("sh", "py"), ("js", "py"), ("py", "js"), ("java", "r"), ("r", "java")]


@pytest.mark.parametrize("how", ["aimed", "all"])
@pytest.mark.parametrize("attacker,victim", PAIRS)
def test_one_kernel_attacks_the_other(host, canaries, attacker, victim, how):
    if lacking := missing(f"{RUNTIME.get(attacker, '')} {RUNTIME.get(victim, '')}"):
        pytest.skip(f"{lacking} is not installed")
    name = f"apart-{attacker}-{how}"
    ctx = host.make(name, "timeout=30", FILES)
    try:
        assert host.cell(name, "keep." + victim, KEPT[victim]).status == "ok"
        left = host.cell(name, "leave." + attacker, LEAVE[attacker].format(how=how))
        assert (left.status, left.out) == ("ok", "left\n"), left
        ran = host.cell(name, "run." + victim, MEANWHILE[victim], 25, other="victim")
        said = host.read(f"contexts/{name}/workspace/said")
        assert ("finished" in said or said.endswith("kill -1\n")) and len(re.findall("^ok", said, re.M)) > 60 and GUARD not in said, said[-1000:]
        leaks = re.findall(r"^LEAK.*$", said, re.M)
        assert ran.other < SOON
        if landlock_abi() >= 6:
            assert not leaks, "\n".join(leaks[:30])
            assert (ran.status, ran.out) == ("ok", "survived 1\n"), ran
        else:
            signals = re.compile(r"SIG|pidfd|thread")
            assert all(signals.search(leak) for leak in leaks), "\n".join(leaks[:30])
            assert ran.status in ("ok", "killed"), ran
        after = host.cell(name, "after." + victim, KEEP[victim][1])
        assert after.status == "ok" and after.out, after
    finally:
        host.remove(name)
    canaries.check()


def test_the_attackers_own_kernel_starts_again(host):
    """kill -1 ends the kernel that it came from, if anything; the box and the next kernel are fine."""
    ctx = host.make("suicide", "", FILES)
    try:
        host.cell("suicide", "keep.sh", "kept=1\n")
        ran = host.cell("suicide", "kill.py", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
        assert ran.text.startswith("killed: signal 9"), ran
        ran = host.cell("suicide", "next.py", "print(2)\n")
        assert (ran.status, ran.out) == ("ok", "2\n") and "cellfs: " in ran.err, ran
        ran = host.cell("suicide", "next.sh", "echo $kept\n")
        assert (ran.status, ran.out) == ("ok", "1\n"), ran
    finally:
        host.remove("suicide")
    until(lambda: host.alive, 1)
    assert ctx
