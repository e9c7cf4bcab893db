"""Kernels of one context side by side, of many contexts at once, and what the tree says of them."""

import errno
import json
import os
import shutil

import pytest

from control.steps import about, events, kernel, record, says, until_status
from mount import PATIENCE, ROOT, done, fails, read, run, runs, until, within, write


def test_bash_and_python_of_one_context_work_on_the_same_files(ctx):
    assert done(run(ctx, "fetch.sh", "printf 'a,b\\n1,2\\n' > data.csv; mkdir -p d; export X=1\n")) == "ok"
    r = run(ctx, "load.py", "import csv\nrows = list(csv.DictReader(open('data.csv')))\nopen('d/out', 'w').write('made\\n')\nrows\n")
    assert done(r) == "ok" and read(r / "result.txt") == "[{'a': '1', 'b': '2'}]\n"
    r = run(ctx, "show.sh", "cat d/out; pwd\n")
    assert read(r / "stdout").startswith("made\n")
    assert read(ctx / "workspace" / "d" / "out") == "made\n" and read(ctx / "workspace" / "data.csv") == "a,b\n1,2\n"
    write(ctx / "workspace" / "up.txt", "uploaded")
    assert read(run(ctx, "up.py", "print(open('up.txt').read(), end='')\n") / "stdout") == "uploaded"
    assert set(about(ctx)["kernels"]) == {"python", "bash"}


def test_twenty_contexts_started_at_once_are_all_answered(m):
    results = []
    for i in range(20):
        ctx = m.context(f"many-{i}")
        results.append(run(ctx, "a.py", f"print('out')\n{i} + 1\n"))
    for i, r in enumerate(results):
        assert done(r) == "ok", read(r / "report.md")
        assert read(r / "result.txt") == f"{i + 1}\n" and read(r / "stdout") == "out\n"
    for i in range(20):
        write(m.contexts / f"many-{i}" / "ctl", "remove\n")


def test_context_json(ctx):
    facts = about(ctx)
    assert set(facts) >= {"uuid", "kernels", "queue", "usage", "limits"}
    r = run(ctx, "a.py", "print('go', flush=True)\nimport time\ntime.sleep(1000)\n")
    says(r, "go")
    run(ctx, "b.sh", "true\n")
    facts = about(ctx)
    k = facts["kernels"]["python"]
    assert set(k) >= {"version", "pid", "state", "generation", "execution_count"}
    assert k["version"].startswith("3.") and (k["state"], k["generation"], k["execution_count"]) == ("busy", 1, 1)
    assert read(f"/proc/{k['pid']}/cmdline") and "b.sh" in json.dumps(facts["queue"]) or facts["queue"] == [2]
    assert {"timeout_s", "wait_s", "output_bytes", "keep"} <= set(facts["limits"])
    write(ctx / "ctl", "interrupt\n")
    assert done(ctx / "results" / "b.sh") == "ok"
    assert kernel(ctx)["state"] == "idle" and kernel(ctx, "bash")["state"] == "idle"
    write(ctx / "ctl", "stop\n")
    until_status(ctx, "stopped")
    until(lambda: kernel(ctx)["state"] == "stopped" and not kernel(ctx)["pid"])
    assert about(ctx)["uuid"] == facts["uuid"]


def test_a_first_kernel_carries_no_notice_and_a_second_one_does(ctx):
    r = run(ctx, "a.py", "print(1)\n")
    assert read(r / "stderr") == ""
    write(ctx / "ctl", "stop\n")
    r = run(ctx, "b.py", "import sys\nprint('mine', file=sys.stderr)\n")
    first, second = read(r / "stderr").splitlines()
    assert first.startswith("cellfs: ") and second == "mine"
    (note,) = [e for e in events(r) if e["type"] == "notice"] or [{"text": first}]
    assert note["text"]
    assert read(run(ctx, "c.sh", "true\n") / "stderr") == ""  # no state of Bash was lost


def test_a_kernel_that_ran_nothing_loses_no_state(ctx):
    assert done(run(ctx, "a.py", "#| eval: false\n1\n")) == "cancelled"
    write(ctx / "ctl", "stop\n")
    assert read(run(ctx, "b.py", "1\n") / "stderr") == ""


def test_kernels_see_the_environment_and_not_the_daemons_descriptors(ctx):
    r = run(ctx, "a.py", "import os\nfor fd in sorted(map(int, os.listdir('/proc/self/fd'))):\n"
            "    try: print(fd, os.readlink(f'/proc/self/fd/{fd}'))\n    except OSError: pass\n")
    assert done(r) == "ok"
    links = read(r / "stdout")
    assert "/dev/fuse" not in links and "journal" not in links and "stdout.log" not in links, links
    r = run(ctx, "b.sh", "ls -l /proc/self/fd | grep -c fuse; ulimit -n; trap; kill -l INT\n")
    assert read(r / "stdout").splitlines()[0] == "0"


def test_a_language_is_a_folder(fresh):
    """Adding one touches no C; one whose interpreter is missing is EINVAL, and `languages` says what to install."""
    kernels = fresh.dir / "kernels"
    shutil.copytree(ROOT / "kernels", kernels)
    for name, ext, interpreters in (("other", "oth", None), ("ruby", "rb", ["/nosuch/ruby"])):
        manifest = json.loads(read(ROOT / "kernels" / "bash" / "manifest.json"))
        manifest.update(name=name, title=name.title(), extensions=[ext], install=f"apt-get install {name}")
        if interpreters:
            manifest["interpreters"] = interpreters
        shutil.copytree(ROOT / "kernels" / "bash", kernels / name)
        write(kernels / name / "manifest.json", json.dumps(manifest))
    (kernels / "broken").mkdir()
    write(kernels / "broken" / "manifest.json", "{")
    fresh.remount(f"kernels={kernels}")
    lines = {line.split()[0]: line for line in read(fresh.path / "languages").splitlines()}
    assert ".oth" in lines["other"] and "apt-get install ruby" in lines["ruby"] and "broken" not in lines
    assert "broken" in read(fresh.path / "log")
    r = fresh.run("a.oth", "x=5; echo other\n")
    assert done(r) == "ok" and read(r / "stdout") == "other\n" and record(r)["language"] == "other"
    cells = fresh.main / "cells"
    with fails(errno.EINVAL):
        os.close(os.open(cells / "a.rb", os.O_CREAT | os.O_WRONLY))
    write(cells / "draft", "x")
    with fails(errno.EINVAL):
        os.rename(cells / "draft", cells / "a.rb")
    assert sorted(os.listdir(cells)) == ["a.oth", "draft"] and runs(fresh.main) == [1]
    assert "ruby" in read(fresh.main / "log").lower()


def test_the_status_of_a_draft_says_which_extensions_there_are(ctx):
    write(ctx / "cells" / "a.rb", "x")
    text = read(ctx / "results" / "a.rb" / "status")
    assert text.startswith("draft: ") and ".rb" in text and ".py" in text and ".sh" in text
    assert os.listdir(ctx / "results") in ([], ["latest"])


@pytest.mark.parametrize("cell", ["a.py", "a.sh"])
def test_a_cell_of_more_than_16_mib_is_efbig(ctx, cell):
    with fails(errno.EFBIG):
        (ctx / "cells" / cell).write_text("#" * (16 << 20) + "x")
    (ctx / "cells" / ("b" + cell[1:])).write_text("#" * (16 << 20))
    with within(PATIENCE):
        assert done(ctx / "results" / ("b" + cell[1:])) == "ok"
