"""What runs, contexts and the daemon took: `usage` in execution.json and context.json, the sums in `status`. No upper
bound of a time here: a machine under load must not break them."""

import contextlib
import json
import os
import pathlib
import re
import sys

import mount
import pytest

from mount import done, events, read, run, runs, until, write

MIB = 1 << 20
KEYS = {"cpu_ms", "wall_ms", "max_rss_bytes", "bytes_in", "bytes_out", "disk_bytes"}
SUMS = ("cpu_ms", "wall_ms", "bytes_in", "bytes_out")
BURN = "import time\nwhile time.process_time() < 0.3: pass\n"
CHILD = f"import subprocess, sys\nchild = subprocess.run([sys.executable, '-c', {BURN!r}])\n"
HUNGRY = "import subprocess, sys\nchild = subprocess.run([sys.executable, '-c', 'x = bytearray(200 << 20)'])\n"


def ran(ctx, cell, code, status="ok"):
    """The usage of a run, from its execution.json."""
    results = run(ctx, cell, code)
    assert done(results) == status, read(results / "report.md")
    return usage(results / "execution.json")


def usage(path):
    found = json.loads(read(path))["usage"]
    assert KEYS <= set(found) and all(found[key] >= 0 for key in found), found
    return found


def of_context(ctx):
    return usage(ctx / "context.json")


def lines(m):
    return dict(line.split(": ", 1) for line in read(m.path / "status").splitlines())


def grouped(m):
    return lines(m)["limits"].startswith("cgroup")


def kept_of_others(m):
    """The names of the files in other processes' /proc/PID that the daemon has open now."""
    links = set()
    for path in pathlib.Path(f"/proc/{m.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.add(os.readlink(path))
    links = {link for link in links if re.match(r"/proc/\d+/", link) and link.split("/")[2] != str(m.pid)}
    return {link.rsplit("/", 1)[1] for link in links}


def same(a, b):
    """Sums of texts that were rounded to a microsecond each."""
    return a == pytest.approx(b, abs=0.1)


@pytest.fixture(scope="module")
def weak():
    made = mount.Mount("sandbox=weak")
    yield made
    made.close()


def test_a_cell_that_burns_cpu_is_charged_for_it(ctx):
    used = ran(ctx, "a.py", "import time\nstart = time.process_time()\nwhile time.process_time() < start + 0.3: pass\n")
    assert used["cpu_ms"] >= 290 and used["wall_ms"] >= 290


def test_a_child_that_burns_cpu_is_charged_to_the_cell(ctx):
    assert ran(ctx, "a.py", CHILD)["cpu_ms"] >= 280
    assert ran(ctx, "b.sh", f"{sys.executable} -c '{BURN}'\n")["cpu_ms"] >= 280


def test_a_thread_that_burns_cpu_is_charged_to_the_cell(ctx):
    code = "import threading, time\ndef burn():\n    while time.thread_time() < 0.3: pass\n"
    assert ran(ctx, "a.py", code + "t = threading.Thread(target=burn)\nt.start()\nt.join()\n")["cpu_ms"] >= 280


def test_a_child_that_nobody_waited_for_is_charged_to_the_cell(m, ctx):
    if not grouped(m):
        pytest.skip("only a group tells of it while it lives")
    code = f"import subprocess, sys, time\nchild = subprocess.Popen([sys.executable, '-c', {BURN + 'time.sleep(60)'!r}])\n"
    code += "while sum(map(int, open(f'/proc/{child.pid}/stat').read().split()[13:15])) < 28: time.sleep(0.05)\n"
    assert ran(ctx, "a.py", code)["cpu_ms"] >= 250


def test_what_one_cell_took_is_not_charged_to_the_next(ctx):
    ran(ctx, "a.py", CHILD)
    ran(ctx, "a.py", CHILD)
    assert ran(ctx, "b.py", "1")["cpu_ms"] < 280


def test_the_peak_of_memory_is_of_the_run_and_not_of_the_kernel(ctx):
    small = ran(ctx, "a.py", "1")["max_rss_bytes"]
    assert ran(ctx, "b.py", "x = bytearray(200 << 20)\ndel x\n")["max_rss_bytes"] >= 200 * MIB
    assert 4 * MIB < ran(ctx, "a.py", "1")["max_rss_bytes"] < small + 50 * MIB


def test_the_peak_has_the_memory_of_children(m, ctx):
    if not grouped(m):
        pytest.skip("only a group tells of it")
    assert ran(ctx, "a.py", HUNGRY)["max_rss_bytes"] >= 200 * MIB
    assert ran(ctx, "b.py", "1")["max_rss_bytes"] < 150 * MIB


def test_a_large_file_is_no_memory(ctx):
    code = "with open('large', 'wb') as f:\n    for i in range(150): f.write(bytes(1 << 20)) and None\n"
    assert ran(ctx, "a.py", code)["max_rss_bytes"] < 130 * MIB
    assert ran(ctx, "b.py", "1")["max_rss_bytes"] < 130 * MIB


def test_a_file_in_tmp_is_memory_where_tmp_is(m, ctx):
    ran(ctx, "a.py", "import os\nkind = [l.split()[2] for l in open('/proc/mounts') if l.split()[1] == '/tmp']\n")
    if not grouped(m) or run(ctx, "b.py", "print(*kind)") and read(ctx / "results/b.py/stdout").strip() != "tmpfs":
        pytest.skip("/tmp is not in memory here, or nobody counts it")
    ran(ctx, "c.py", "with open('/tmp/large', 'wb') as f:\n    for i in range(100): f.write(bytes(1 << 20)) and None\n")
    assert usage(ctx / "results/c.py/execution.json")["max_rss_bytes"] >= 100 * MIB


def test_a_cell_cannot_hide_its_memory_by_clearing_its_own_counter(m, ctx):
    if not grouped(m):
        pytest.skip("only a group tells of it")
    code = "x = bytearray(200 << 20)\ndel x\ntry: open('/proc/self/clear_refs', 'w').write('5')\nexcept OSError: pass\n"
    assert ran(ctx, "a.py", code)["max_rss_bytes"] >= 200 * MIB


def test_bytes_in_is_the_code_and_bytes_out_all_that_it_made(ctx):
    code = "import sys\nprint('12345')\nprint('678', file=sys.stderr)\nopen('made', 'w').write('x' * 1000)\n'value'\n"
    used = ran(ctx, "a.py", code)
    assert used["bytes_in"] == len(code)
    values = sum(len(read(path)) for path in (ctx / "results/a.py").glob("result.*"))
    assert values > 0 and used["bytes_out"] == 6 + 4 + 1000 + values
    assert used["disk_bytes"] == used["bytes_in"] + used["bytes_out"]


def test_output_over_the_limit_is_made_but_not_kept(ctx):
    write(ctx / "config/output", "1M\n")
    used = ran(ctx, "a.py", "print('x' * 3_999_999)")
    assert used["bytes_out"] >= 4_000_000 > 1_500_000 > used["disk_bytes"]


def test_the_finished_event_says_the_same_as_the_record(ctx):
    used = ran(ctx, "a.py", "1")
    assert next(e for e in events(ctx) if e["type"] == "finished")["usage"] == used


def test_a_run_that_never_started_took_nothing(ctx):
    used = ran(ctx, "a.py", "#| eval: false\n1\n", "cancelled")
    assert used["cpu_ms"] == used["wall_ms"] == used["max_rss_bytes"] == 0 and used["bytes_in"] > 0


def test_a_run_that_was_interrupted_is_charged_until_then(ctx):
    used = ran(ctx, "a.py", "#| timeout: 1\nwhile True: pass\n", "timeout")  # long enough to get 50 ms of a busy processor
    assert used["cpu_ms"] > 50 and used["wall_ms"] >= 1000


def test_a_run_whose_kernel_was_killed_is_charged_until_then(ctx):
    used = ran(ctx, "a.py", BURN + "x = bytearray(100 << 20)\nimport os\nos.kill(os.getpid(), 9)\n", "killed")
    assert used["cpu_ms"] > 50 and used["max_rss_bytes"] >= 100 * MIB
    assert ran(ctx, "a.py", "1")["max_rss_bytes"] < 100 * MIB


def test_a_run_out_of_memory_took_what_it_was_allowed(m, ctx):
    if not grouped(m):
        pytest.skip("there is no group that has a limit")
    write(ctx / "config/memory", "128M\n")
    eat = "import mmap\nm = mmap.mmap(-1, 1 << 30)\nfor i in range(0, 1 << 30, 4096): m[i] = 1\n"
    used = ran(ctx, "a.py", eat, "oom")
    assert 100 * MIB <= used["max_rss_bytes"] <= 129 * MIB


def test_a_context_has_the_sums_of_its_runs(ctx):
    before = of_context(ctx)
    assert before["runs"] == before["cpu_ms"] == before["max_rss_bytes"] == 0
    of = [ran(ctx, "a.py", "print(1)"), ran(ctx, "b.sh", "echo 2"), ran(ctx, "a.py", "x = bytearray(90 << 20)")]
    of.append(ran(ctx, "c.py", "1/0", "error"))
    total = of_context(ctx)
    assert total["runs"] == 4
    for key in SUMS:
        assert same(total[key], sum(used[key] for used in of)), key
    assert total["max_rss_bytes"] == max(used["max_rss_bytes"] for used in of)


def test_the_disk_of_a_context_is_known_soon_and_after_a_restart(fresh):
    ran(fresh.main, "a.sh", "head -c 30000000 /dev/urandom > large\nsync large\n")
    until(lambda: of_context(fresh.main)["disk_bytes"] >= 29_000_000, why="nobody saw the file")
    fresh.remount()
    assert of_context(fresh.main)["disk_bytes"] >= 29_000_000


def test_a_disk_that_was_seen_before_the_stop_is_known_after_it(fresh):
    ran(fresh.main, "a.sh", "(sleep 0.3; head -c 20000000 /dev/urandom > large; sync large) &\n")
    until(lambda: of_context(fresh.main)["disk_bytes"] >= 19_000_000, why="nobody saw the file")
    fresh.remount()
    assert of_context(fresh.main)["disk_bytes"] >= 19_000_000


def test_the_disk_of_a_context_without_runs_is_known_after_a_restart(fresh):
    write(fresh.main / "workspace/large", "x" * 20_000_000)
    until(lambda: of_context(fresh.main)["disk_bytes"] >= 19_000_000, why="nobody saw the file")
    for _ in range(2):
        fresh.remount()
        assert of_context(fresh.main)["disk_bytes"] >= 19_000_000


def test_context_json_is_younger_when_another_disk_is_seen(fresh):
    before = (fresh.main / "context.json").stat().st_mtime_ns
    write(fresh.main / "workspace/large", "x" * 20_000_000)
    until(lambda: of_context(fresh.main)["disk_bytes"] >= 19_000_000, why="nobody saw the file")
    assert (fresh.main / "context.json").stat().st_mtime_ns > before


def test_of_a_kernel_nothing_is_read_that_can_make_the_daemon_wait(m, ctx, weak):
    for mounted, where in ((m, ctx), (weak, weak.main)):
        ran(where, "a.py", "1")
        # The worker, which may wait, has others open for a moment: what is kept open is looked at between two of its looks.
        until(lambda: kept_of_others(mounted) == {"status"}, why="the daemon keeps other files of kernels open")


def test_the_sums_keep_runs_that_are_forgotten(ctx):
    write(ctx / "config/keep", "2\n")
    of = [ran(ctx, "a.py", f"print({n})") for n in range(6)]
    until(lambda: len(runs(ctx)) <= 2, why="nothing was forgotten")
    total = of_context(ctx)
    assert total["runs"] == 6
    for key in SUMS:
        assert same(total[key], sum(used[key] for used in of)), key


@pytest.mark.parametrize("lost", ["nothing", "the index"])
def test_the_sums_of_a_context_survive_a_restart(fresh, lost):
    write(fresh.main / "config/keep", "3\n")
    for n in range(5):
        ran(fresh.main, "a.py", f"x = bytearray({n} << 20)\nprint({n})")
    until(lambda: len(runs(fresh.main)) <= 3, why="nothing was forgotten")
    before = of_context(fresh.main)
    fresh.unmount()
    if lost == "the index":
        for index in fresh.state.glob("contexts/*/runs.idx"):
            index.unlink()
    fresh.start()
    after = of_context(fresh.main)
    assert after["runs"] == 5 and same(after["cpu_ms"], before["cpu_ms"])
    assert all(same(after[key], before[key]) for key in SUMS)
    assert after["max_rss_bytes"] == before["max_rss_bytes"]
    more = ran(fresh.main, "a.py", "1")
    assert of_context(fresh.main)["bytes_in"] == before["bytes_in"] + more["bytes_in"]


def test_a_crash_counts_the_run_that_it_lost_and_takes_no_other_away(fresh):
    ran(fresh.main, "a.py", "print(1)")
    before = of_context(fresh.main)
    results = run(fresh.main, "b.sh", "echo on; sleep 60")
    until(lambda: read(results / "status").startswith("running"), why="it does not run")
    fresh.kill()
    fresh.start()
    assert done(fresh.main / "results/b.sh") == "lost"
    lost, after = usage(fresh.main / "results/b.sh/execution.json"), of_context(fresh.main)
    assert lost["cpu_ms"] == lost["wall_ms"] == 0 and after["runs"] == 2
    assert same(after["cpu_ms"], before["cpu_ms"]) and after["bytes_in"] == before["bytes_in"] + lost["bytes_in"]


def test_status_has_the_sums_of_all_contexts_since_the_start(fresh):
    other = fresh.context("other")
    of = [ran(fresh.main, "a.py", "print(1)"), ran(other, "a.py", BURN), ran(other, "b.py", "2")]
    said = lines(fresh)
    for key in SUMS:
        assert same(float(said[key + "_since_start"]), sum(used[key] for used in of)), key
    assert int(said["max_rss_bytes_since_start"]) == max(used["max_rss_bytes"] for used in of)
    assert int(said["disk_bytes_since_start"]) == sum(used["disk_bytes"] for used in of)
    fresh.remount()
    assert float(lines(fresh)["cpu_ms_since_start"]) == 0 and of_context(fresh.context("new"))["runs"] == 0


def test_without_a_group_a_cell_is_charged_for_its_driver(weak):
    ran(weak.main, "a.py", "1")
    assert ran(weak.main, "a.py", "import time\nstart = time.process_time()\n"
               "while time.process_time() < start + 0.3: pass\n")["cpu_ms"] >= 250
    assert ran(weak.main, "a.py", "1")["cpu_ms"] < 250


def test_without_a_group_children_are_charged_to_the_run_that_the_kernel_died_in(weak):
    ran(weak.main, "d.py", "1")
    used = ran(weak.main, "d.py", CHILD + "import os\nos.kill(os.getpid(), 9)\n", "killed")
    assert used["cpu_ms"] >= 250


def test_without_a_group_the_peak_is_of_the_run_too(weak):
    assert ran(weak.main, "b.py", "x = bytearray(200 << 20)\ndel x\n")["max_rss_bytes"] >= 200 * MIB
    assert ran(weak.main, "b.py", "1")["max_rss_bytes"] < 150 * MIB


def test_without_a_group_a_kernel_that_died_is_charged(weak):
    ran(weak.main, "c.py", "1")
    used = ran(weak.main, "c.py", "import time\nstart = time.process_time()\n"
               "while time.process_time() < start + 0.3: pass\nimport os\nos.kill(os.getpid(), 9)\n", "killed")
    assert used["cpu_ms"] >= 250 and used["max_rss_bytes"] > 4 * MIB
