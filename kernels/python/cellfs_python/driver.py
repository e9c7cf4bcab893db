"""The command loop: one interpreter, driven by the daemon."""

import contextlib
import faulthandler
import gc
import importlib
import os
import platform
import sys
import threading
import time

from . import bundle, errors, imports, rich
from .interrupts import Interrupts
from .prefix import Prefix
from .streams import Streams
from .wire import Wire

LANGUAGE = "python"


class StdinUnavailable(RuntimeError):
    """Raised by input(): a cell has no stdin."""

    __module__ = "builtins"  # how it is named in a traceback


class Driver:
    """What runs between the wire and the interpreter."""

    def __init__(self):
        self.interrupts = Interrupts()
        self.interrupts.install()
        self.wire = Wire(self.interrupts)
        self.streams = Streams()
        self.pid = os.getpid()
        self.run = None
        self.epilogues = []
        self._answered = False
        self._loop = None
        self._loop_used = False
        os.register_at_fork(after_in_child=self.wire.close)
        self.interpreter = _interpreter(self)
        imports.install(self)
        self.prefix = Prefix()

    def serve(self):
        """Answer commands until the last."""
        self.wire.hello(lang=LANGUAGE, ver=platform.python_version(), engine=self.interpreter.engine)
        while True:
            command = self.wire.receive(self._idle if self._loop_used else None)
            operation = command["op"] if command else "shutdown"
            if operation == "exec":
                self.execute(command)
            elif operation == "set":
                self._set(command)
            elif operation == "init":
                if not self.wire.begin(command):
                    return 1
                self._set({"cwd": command["cwd"]})  # what it names may have been mounted since
                self.wire.send({"ev": "ready"})
            elif operation == "shutdown":
                return 0
            else:
                self.wire.log(f"unknown op {operation!r}")

    def warm(self):
        """Go the way of a cell once: the first one is then as fast as the others."""
        with contextlib.suppress(Exception):
            self.interpreter.warm()
            bundle.pack(bundle.readable("", self.interpreter.formats("")[0]))
            errors.describe(ValueError(), "")

    def execute(self, command):
        """Run one cell and say how it ended."""
        self.run, self._answered = command["id"], False
        failure = self._attempt(command)
        if os.getpid() != self.pid:
            self._end_child(failure)
        status, code = "ok", 0
        if isinstance(failure, SystemExit):
            status, code = "exit", exit_code(failure)
        elif failure is not None:
            status = "interrupted" if isinstance(failure, KeyboardInterrupt) else "error"
            self.wire.send({**errors.describe(failure, command["name"]), "id": self.run})
        self.streams.flush()
        with self.wire.lock:  # behind a thread's display that is under way
            done = {"ev": "done", "id": self.run, "status": status, "code": code}
            self.run = None
            self.wire.send(done)

    def _attempt(self, command):
        """Run the cell; what it raised, or None."""
        self.streams.renew()
        importlib.invalidate_caches()
        self.prefix.refresh()
        try:
            with surroundings(command.get("env"), command.get("cwd")), open(
                command["path"], "rb"
            ) as cell:
                source = cell.read()
                cell.close()
                return self._run(source, command)
        except OSError as error:
            return error.with_traceback(None)

    def _run(self, source, command):
        interrupted = False
        if b"async" in source or b"await" in source:
            self._begin_loop()
        if self._loop:
            sys.modules["asyncio"].set_event_loop(self._loop)
        try:
            self.interrupts.arm()
            try:
                try:
                    self.interpreter.run(source, command["name"], command["n"])
                except KeyboardInterrupt:
                    interrupted = True
                    raise
                finally:
                    for epilogue in self.epilogues:
                        epilogue(interrupted)
            finally:
                self.interrupts.disarm()
        except BaseException as failure:
            self.interrupts.disarm()
            return failure

    def _end_child(self, failure):
        """A child that the cell forked and that fell through its end is not a second driver."""
        code = 0
        if isinstance(failure, SystemExit):
            code = exit_code(failure)
        elif failure is not None:
            sys.excepthook(type(failure), failure, failure.__traceback__)
            code = 1
        self.streams.flush()
        os._exit(code)

    def _set(self, command):
        try:
            change(command.get("env"))
            if "cwd" in command:
                os.chdir(command["cwd"])
        except OSError as error:
            self.wire.log(f"set: {error}")
        self.prefix.follow()
        _find_user_site(self.prefix.place)

    # What the interpreter calls.

    def result(self, value):
        """Send the value of the run's last expression."""
        data, meta = self.interpreter.formats(value)
        kind = "display" if self._answered else "result"
        self._answered = True
        self.publish(bundle.readable(value, data), meta, kind)

    def display(self, value, kind="display", display_id=None, raw=False, metadata=None):
        """Send a value, or a whole bundle if `raw`, as a rich output."""
        data, meta = (value, {}) if raw else self.interpreter.formats(value)
        self.publish(data, {**meta, **(metadata or {})}, kind, display_id)

    def publish(self, data, meta, kind, display_id=None):
        """Send a bundle, behind all that was printed before it."""
        formats = bundle.pack(data)
        self.streams.flush()
        with self.wire.lock:
            if self.run is None:
                self.wire.log("a display outside a run was dropped")
            elif formats:
                event = {"ev": "display", "id": self.run, "kind": kind}
                if display_id is not None:
                    event["display_id"] = str(display_id)
                if meta and bundle.metadata(meta):
                    event["meta"] = meta
                self.wire.display(event, formats)

    def clear(self, wait=False):
        """Take the displays so far away, with `wait` when the next one comes."""
        if self.run is not None:
            self.streams.flush()
            self.wire.send({"ev": "clear", "id": self.run, "wait": bool(wait)})

    def complete(self, coroutine):
        """Run a cell's coroutine in the event loop, which goes on with other tasks after it."""
        from asyncio import CancelledError
        self._begin_loop()
        task = self._loop.create_task(coroutine)
        self.interrupts.watch(task, self._loop)
        try:
            self._loop.run_until_complete(task)
        except CancelledError as cancelled:
            if self.interrupts.cancelled:
                raise KeyboardInterrupt().with_traceback(cancelled.__traceback__) from None
            raise
        finally:
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                task.exception()  # or asyncio calls it never retrieved

    def refuse_input(self, prompt="", *arguments, **options):
        """input() and getpass() of a cell."""
        raise StdinUnavailable("a cell has no stdin: put the answer into the code or a file")

    # The event loop.

    def _begin_loop(self):
        import asyncio
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        self._loop_used = True

    def loop_here(self):
        """The cells' event loop, in the thread that runs them."""
        return self._loop if threading.current_thread() is threading.main_thread() else None

    def _idle(self, commands):
        """Let asyncio's tasks go on until a command comes."""
        if self._loop.is_closed():
            self._begin_loop()
        self._loop.add_reader(commands, self._loop.stop)
        try:
            self._loop.run_forever()
        except BaseException as error:  # SystemExit of a task
            self.wire.send({**errors.describe(error, ""), "id": None})
        finally:
            self._loop.remove_reader(commands)


def _interpreter(driver):
    try:
        from .shell import Shell
        return Shell(driver)
    except ImportError as error:
        if getattr(error, "name", None) != "IPython":
            driver.wire.log(f"IPython cannot be used: {error}")
    from .bare import Bare
    return Bare(driver)


def exit_code(failure):
    """The status that a process would have after this SystemExit."""
    code = failure.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def change(env):
    """Set, or with None remove, environment variables; the values there were."""
    before = {}
    for name, value in (env or {}).items():
        before[name] = os.environ.get(name)
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if before:
        _follow(before)
    return before


def _find_user_site(prefix):
    """Put the user's packages where Python has them that finds them at its start."""
    site = sys.modules.get("site")
    if not site or not site.ENABLE_USER_SITE:
        return
    place = site.getusersitepackages()
    if place in sys.path or not os.path.isdir(place):
        return
    before = list(sys.path)
    site.addsitedir(place)
    system = (index for index, path in enumerate(before) if path.endswith("-packages") and path != prefix)
    at = next(system, len(before))
    sys.path[:] = [*before[:at], *sys.path[len(before):], *before[at:]]


def _follow(before):
    """Do what Python does with some variables when it starts."""
    if "TZ" in before:
        time.tzset()
    if "PYTHONPATH" in before:
        old, new = (list(filter(None, (value or "").split(":")))
                    for value in (before["PYTHONPATH"], os.environ.get("PYTHONPATH")))
        sys.path[:] = [place for place in sys.path if place not in old]
        sys.path[1:1] = new


@contextlib.contextmanager
def surroundings(env, cwd):
    """Environment and cwd of one run, restored after it."""
    here = None
    if cwd is not None:
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    before = {}
    try:
        if cwd is not None:
            os.chdir(cwd)
        before = change(env)
        yield
    finally:
        change(before)
        if here is not None:
            os.fchdir(here)
            os.close(here)


def main():
    """Start the driver, serve, and leave by Python's own way out."""
    faulthandler.enable(2)
    sys.argv = [""]
    os.environ.setdefault("PLOTLY_RENDERER", rich.PLOTLY_RENDERER)
    driver = Driver()
    _prepare_builtins(driver)
    sys.path[0] = ""  # not before: what lies in the workspace is no module of the driver's
    driver.warm()
    gc.freeze()
    try:
        return driver.serve()
    except BrokenPipeError:
        os._exit(0)
    finally:
        driver.streams.flush()


def _prepare_builtins(driver):
    import builtins
    builtins.input = driver.refuse_input

    def leave(code=None):
        """End the run."""
        raise SystemExit(code)

    builtins.exit = builtins.quit = leave
