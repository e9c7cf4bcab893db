"""Everything at once, at random: the daemon lives, answers with errors that make sense, and ends in order."""

import contextlib
import errno
import os
import random
import select
import signal
import subprocess
import threading
import time

import pytest
from mount import PATIENCE, done, read, run, runs, status, write

SECONDS = 5
SEEDS = [int(n) for n in os.environ.get("SEEDS", "1 2").split()]
SENSE = {
    errno.ENOENT, errno.ESTALE, errno.EEXIST, errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ESRCH, errno.EINVAL,
    errno.ENOSPC, errno.EPERM, errno.EROFS, errno.EXDEV, errno.ENOTEMPTY, errno.ENODATA, errno.ENOTDIR, errno.EISDIR,
    errno.EACCES,
}  # fmt: skip
CODES = [
    "echo one\n", "sleep 0.01; echo two\n", "exit 3\n", "x=1\n", "for i in 1 2 3; do echo $i; sleep 0.005; done\n",
    "head -c 100000 /dev/zero\n", "if\n", "sleep 0.05 & echo background\n", "kill -9 $$\n", "echo $x >&2\n",
]  # fmt: skip
NAMES = ["a.sh", "b.sh", "c.sh", "d.bash", "e.sh~", ".f.swp", "g.txt"]
FILES = ["stdout", "stderr", "done", "status", "run", "code", "report.md", "execution.json", "events.jsonl", "error.json",
         "result.txt", "display-1.png", "exit_code", "stdout.follow", "nothing"]  # fmt: skip
VERBS = ["interrupt", "cancel all", "restart", "restart bash", "stop", "clear", "run a.sh", "run all", "cancel a.sh", "nonsense"]


class Monkey:
    def __init__(self, m, seed):
        self.m, self.r = m, random.Random(seed)
        self.problems, self.count = [], 0

    def ctx(self):
        return self.m.contexts / self.r.choice(["main", "a", "b"])

    def cell(self):
        return self.ctx() / "cells" / self.r.choice(NAMES)

    def run_directory(self):
        c = self.ctx()
        return self.r.choice([c / "results" / self.r.choice(NAMES), c / "history" / str(self.r.randint(1, 30)), c / "results/latest"])

    def act_write(self):
        write(self.cell(), self.r.choice(CODES))

    def act_write_slowly(self):
        with open(self.cell(), self.r.choice(["wb", "ab", "r+b"]), buffering=0) as f:
            for _ in range(3):
                f.write(b"echo x\n")
                os.sched_yield()

    def act_rename(self):
        os.rename(self.cell(), self.cell())

    def act_unlink(self):
        os.unlink(self.cell())

    def act_read(self):
        fd = os.open(self.run_directory() / self.r.choice(FILES), os.O_RDONLY | self.r.choice([0, os.O_NONBLOCK]))
        try:
            while len(os.read(fd, 65536)) == 65536:
                pass
        finally:
            os.close(fd)

    def act_stat(self):
        os.stat(self.run_directory() / self.r.choice(FILES))

    def act_list(self):
        d = self.r.choice([self.run_directory(), self.ctx(), self.ctx() / "history", self.ctx() / "cells", self.m.contexts])
        for name in os.listdir(d):
            with contextlib.suppress(FileNotFoundError):
                os.lstat(d / name)

    def act_killed_reader(self):
        p = subprocess.Popen(["cat", self.run_directory() / self.r.choice(FILES)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.sched_yield()
        p.send_signal(self.r.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
        p.wait(PATIENCE)

    def act_killed_writer(self):
        p = subprocess.Popen(["tee", self.cell()], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(BrokenPipeError):
            p.stdin.write(b"echo x\n")
            p.stdin.flush()
        p.kill()
        p.wait(PATIENCE)
        p.stdin.close()

    def act_poll(self):
        fd = os.open(self.r.choice([self.ctx() / "status", self.ctx() / "stdout", self.run_directory() / "status"]), os.O_RDONLY)
        try:
            os.read(fd, 100)
            p = select.poll()
            p.register(fd, select.POLLIN)
            p.poll(10)
        finally:
            os.close(fd)

    def act_ctl(self):
        write(self.ctx() / "ctl", self.r.choice(VERBS) + "\n")

    def act_forget(self):
        subprocess.run(["rm", "-r", self.run_directory()], stderr=subprocess.DEVNULL, timeout=PATIENCE)

    def act_config(self):
        d = self.ctx() / "config"
        write(d / self.r.choice(["timeout", "wait", "output", "keep", "env/X"]), self.r.choice(["1", "2s", "10", "", "x", "1h"]))
        if self.r.random() < 0.5:
            write(d / "wait", "1")

    def act_context(self):
        c = self.m.contexts / self.r.choice(["a", "b"])
        if self.r.random() < 0.7:
            c.mkdir()
            write(c / "config/wait", "1")
        elif self.r.random() < 0.5:
            write(c / "ctl", "remove\n")
        else:
            os.rename(c, self.m.contexts / self.r.choice(["a", "b"]))

    WEIGHTS = {
        act_write: 12, act_write_slowly: 4, act_rename: 4, act_unlink: 2, act_read: 14, act_stat: 8, act_list: 4, act_killed_reader: 3,
        act_killed_writer: 2, act_poll: 4, act_ctl: 3, act_forget: 2, act_config: 1, act_context: 2,
    }  # fmt: skip

    def play(self, stop):
        while (time.monotonic() < stop or self.count < 30) and not self.problems:
            (act,) = self.r.choices(list(self.WEIGHTS), list(self.WEIGHTS.values()))
            start = time.monotonic()
            try:
                act(self)
            except OSError as e:
                if e.errno not in SENSE:
                    self.problems.append(f"{act.__name__}: {e!r}")
            if time.monotonic() - start > PATIENCE:
                self.problems.append(f"{act.__name__} took {time.monotonic() - start:.1f} s")
            self.count += 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.options("wait=1,timeout=5")
def test_monkeys(fresh, seed):
    for name in "a", "b":
        fresh.context(name)
    monkeys = [Monkey(fresh, seed * 100 + n) for n in range(8)]
    stop = time.monotonic() + SECONDS
    threads = [threading.Thread(target=k.play, args=(stop,)) for k in monkeys]
    for t in threads:
        t.start()
    for t in threads:
        t.join(max(0, stop + 2 * PATIENCE - time.monotonic()))
    assert not any(t.is_alive() for t in threads), "a monkey hangs"
    assert fresh.alive
    assert not [p for k in monkeys for p in k.problems]
    assert sum(k.count for k in monkeys) > 200
    # it is all still there, consistent, and works
    main = fresh.main
    with contextlib.suppress(ProcessLookupError):
        write(main / "ctl", "cancel all\n")
    for key in "timeout", "wait", "output", "keep":
        write(main / "config" / key, "")
    assert done(run(main, "last.sh", "echo last\n")) == "ok"
    assert read(main / "results/last.sh/stdout") == "last\n"
    before = {n: (status(main / f"history/{n}"), read(main / f"history/{n}/code")) for n in runs(main)}
    fresh.remount()
    after = {n: (status(main / f"history/{n}"), read(main / f"history/{n}/code")) for n in runs(main)}
    assert before == after
