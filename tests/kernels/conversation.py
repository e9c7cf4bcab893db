"""A client for one driver: what the daemon does, without the daemon."""

import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time

KERNELS = pathlib.Path(__file__).resolve().parents[2] / "kernels"
PATIENCE = 60  # asserts nothing
HELLO = 30  # seconds to the first event
F_SETPIPE_SZ = 1031
SIGNAL_PAUSE = 0.02  # from a SIGINT to the next cell, as the daemon has it


def manifests():
    """{language: manifest} of every driver there is, with its folder under `dir`."""
    found = {}
    for path in sorted(KERNELS.glob("*/manifest.json")):
        manifest = json.loads(path.read_text())
        manifest["dir"] = str(path.parent)
        found[manifest["name"]] = manifest
    return found


def probe(manifest):
    """(interpreter, note) of the first interpreter that the probe takes, or None."""
    second = None
    for name in manifest["interpreters"]:
        path = shutil.which(name)
        if not path:
            continue
        asked = [arg.replace("{dir}", manifest["dir"], 1) for arg in manifest["probe"]]
        done = subprocess.run([path, *asked], capture_output=True, text=True)
        if done.returncode == 0:
            return path, done.stdout.strip()
        if done.returncode == 1 and second is None:
            second = path, done.stdout.strip()
    return second


class Run:
    """What came of one cell: events in order, output, and all of it in the order it came."""

    def __init__(self):
        self.events = []
        self.order = []
        self.out = {1: bytearray(), 2: bytearray()}

    @property
    def done(self):
        return self.events[-1]

    @property
    def status(self):
        return self.done["status"]

    @property
    def stdout(self):
        return self.out[1].decode()

    @property
    def stderr(self):
        return self.out[2].decode()

    def of(self, kind):
        return [event for event in self.events if event["ev"] == kind]

    @property
    def error(self):
        errors = self.of("error")
        assert len(errors) <= 1
        return errors[0] if errors else None

    @property
    def displays(self):
        return [event for event in self.of("display") if event["kind"] != "result"]

    @property
    def value(self):
        results = [event for event in self.of("display") if event["kind"] == "result"]
        assert len(results) <= 1
        return results[0]["data"] if results else None


class Driver:
    """A running driver and its pipes."""

    def __init__(self, argv, env=None, cwd=None):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="cellfs-kernel-"))
        self.spool = self.base / "spool"
        self.spool.mkdir(mode=0o700)
        self.home = self.base / "home"
        self.home.mkdir()
        self.cwd = pathlib.Path(cwd or self.base / "work")
        self.cwd.mkdir(exist_ok=True)
        self.ids = itertools.count(1)
        self.numbers = itertools.count(1)
        self.ack = True
        self.ending = False  # it was acked: no SIGINT comes any more before the run is done
        self.signalled = 0
        self._start(argv, {**os.environ, "HOME": str(self.home), **(env or {})})
        self.hello = self.event(timeout=HELLO)
        self.send({"op": "init", "proto": 1, "spool": str(self.spool), "env": {},
                   "cwd": str(self.cwd), "opts": {}})
        self.ready = self.event()

    def _start(self, argv, env):
        ours, theirs = {}, {}
        for fd in (1, 2, 4):
            ours[fd], theirs[fd] = os.pipe()
        for fd in (3, 5, 6):
            theirs[fd], ours[fd] = os.pipe()
        fcntl.fcntl(ours[1], F_SETPIPE_SZ, 1 << 20)
        null = os.open(os.devnull, os.O_RDONLY)
        self.pid = os.fork()
        if not self.pid:
            try:
                os.setsid()
                high = {fd: fcntl.fcntl(end, fcntl.F_DUPFD, 100) for fd, end in theirs.items()}
                os.dup2(null, 0)
                for fd, end in high.items():
                    os.dup2(end, fd)
                os.closerange(7, 1024)
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.chdir(self.cwd)
                os.execve(argv[0], argv, env)
            finally:
                os._exit(127)
        for end in theirs.values():
            os.close(end)
        os.close(null)
        self.fds = ours
        self.waited = None
        self.poll = select.epoll()
        for fd in (1, 2, 4):
            os.set_blocking(ours[fd], False)
            self.poll.register(ours[fd], select.EPOLLIN)
        self.names = {end: fd for fd, end in ours.items()}
        self.events = []
        self.late = {1: bytearray(), 2: bytearray()}
        self.sink = None
        self._partial = b""

    def send(self, command):
        text = json.dumps(command, ensure_ascii=False, separators=(",", ":")) + "\n"
        os.write(self.fds[3], text.encode())

    def give_ack(self):
        os.write(self.fds[5], b"a")

    def step(self, timeout=PATIENCE):
        """Wait for the pipes and take what is there: output before events. False at a timeout."""
        ready = [self.names[end] for end, _ in self.poll.poll(timeout)]
        if not ready:
            return False
        if 4 in ready:
            self._read_events()
        for fd in (1, 2):
            self._read_output(fd)
        if 4 in ready:
            self._release_events()
        return True

    def _read_output(self, fd):
        while fd in self.fds:
            try:
                chunk = os.read(self.fds[fd], 1 << 20)
            except BlockingIOError:
                return
            if not chunk:
                self._drop(fd)
                return
            if self.sink is None:
                self.late[fd] += chunk
            else:
                self.sink(fd, chunk)

    def _read_events(self):
        try:
            chunk = os.read(self.fds[4], 65536)
        except BlockingIOError:
            return
        if not chunk:
            self._drop(4)
        self._partial += chunk

    def _release_events(self):
        *lines, self._partial = self._partial.split(b"\n")
        for line in lines:
            assert len(line) < 65536
            event = json.loads(line.decode())
            self.events.append(event)
            if event["ev"] == "display":
                self._take_files(event)
            self.ending = event["ev"] == "ending" or self.ending and event["ev"] != "done"
            if event["ev"] in ("display", "ending") and self.ack:
                self.give_ack()

    def _take_files(self, event):
        for mime, value in event["data"].items():
            if isinstance(value, dict) and "file" in value:
                path = self.spool / value["file"]
                assert path.stat().st_mode & 0o777 == 0o600
                event["data"][mime] = path.read_bytes()
                path.unlink()

    def _drop(self, fd):
        self.poll.unregister(self.fds[fd])
        os.close(self.fds.pop(fd))

    def event(self, kind=None, timeout=PATIENCE):
        """The next event (of a kind)."""
        end = time.monotonic() + timeout
        while True:
            for index, event in enumerate(self.events):
                if kind is None or event["ev"] == kind:
                    return self.events.pop(index)
            if 4 not in self.fds:
                raise EOFError("the driver has closed its events")
            if not self.step(max(0, end - time.monotonic())):
                raise TimeoutError(f"no event {kind or ''}; stderr {self.late[2][-2000:]}")

    def start(self, code, name, **options):
        """Send a cell without waiting for its end; its id."""
        run = next(self.ids)
        folder = self.spool / str(run)
        folder.mkdir()
        path = folder / name
        path.write_bytes(code if isinstance(code, bytes) else code.encode())
        command = {"op": "exec", "id": run, "n": next(self.numbers), "path": str(path),
                   "name": name}
        for key in ("n", "env", "cwd", *options):  # the order in which the daemon writes them
            if key in options:
                command[key] = options[key]
        self.send(command)
        return run

    def finish(self, run, after=None, timeout=PATIENCE, result=None):
        """Everything of the run until its `done`, with what `result` has of it already. `after(result)` is called at each step."""
        result = result or Run()
        for fd in self.late:
            result.out[fd] += self.late[fd]
        self.late = {1: bytearray(), 2: bytearray()}

        def sink(fd, chunk):
            result.out[fd] += chunk
            result.order.append((fd, chunk))

        self.sink = sink
        end = time.monotonic() + timeout
        try:
            while True:
                while self.events:
                    event = self.events.pop(0)
                    result.events.append(event)
                    result.order.append((4, event))
                    if event["ev"] == "done":
                        assert event["id"] == run
                        return result
                if 4 not in self.fds:
                    raise EOFError("the driver has closed its events")
                if after:
                    after(result)
                if not self.step(max(0, end - time.monotonic())):
                    raise TimeoutError(f"not done: {result.order[-5:]}")
        finally:
            self.sink = None

    def run(self, code, name="a.py", after=None, **options):
        """Run a cell to its end."""
        return self.finish(self.start(code, name, **options), after)

    def until(self, condition, timeout=PATIENCE):
        """Take output outside a run until `condition(stdout bytes)`."""
        end = time.monotonic() + timeout
        while not condition(self.late[1]):
            if not self.step(max(0, end - time.monotonic())):
                raise TimeoutError(repr(self.late))

    def until_there(self, path):
        """Wait for a file that the cell makes."""
        end = time.monotonic() + PATIENCE
        while not os.path.exists(path):
            if time.monotonic() > end:
                raise TimeoutError(f"no {path}; {self.late}")
            self.step(0.005)

    def interrupt(self):
        if not self.ending:
            os.killpg(self.pid, signal.SIGINT)
            self.signalled = time.monotonic()

    def pause(self):
        """What was interrupted may have ended before the driver has heard of it: as the daemon, give it the time."""
        time.sleep(max(0, self.signalled + SIGNAL_PAUSE - time.monotonic()))

    def stop(self, run):
        """Interrupt the run as the daemon does, again after a second: (result, tries)."""
        result = Run()
        for tries in (1, 2, 3):
            self.interrupt()
            with contextlib.suppress(TimeoutError):
                self.finish(run, timeout=1, result=result)
                self.pause()
                return result, tries
        raise TimeoutError("deaf to three interrupts")

    def wait(self):
        """The exit status, once the driver has ended (-signal, if by one)."""
        if self.waited is None:
            pidfd = os.pidfd_open(self.pid)
            ready = select.select([pidfd], [], [], PATIENCE)[0]
            os.close(pidfd)
            if not ready:
                raise TimeoutError("the driver does not end")
            self.waited = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.waited

    def close(self):
        """End the driver with everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        for end in self.fds.values():
            os.close(end)
        self.poll.close()
        shutil.rmtree(self.base, ignore_errors=True)
