"""The bridge: one Jupyter kernel, driven by the daemon."""

import contextlib
import errno
import json
import os
import signal
import sys
import time

import zmq

from . import bundle, errors, languages
from .process import Process, transports
from .streams import Stream
from .wire import Wire

START_SECONDS = 26  # the daemon gives a driver 30
UNHEARD_SECONDS = 12
LEARN_SECONDS = 28  # since the start: a kernel may begin its interpreter with the first cell only
SILENT_SECONDS = 0.5
BEGIN_SECONDS = 0.2
DRAIN_SECONDS = 2
BREATH_SECONDS = 0.005  # ZeroMQ's thread may need the processor
EXIT_SECONDS = 3
MOST_AT_ONCE = 200  # messages, before signals are looked at again
META_LIMIT = 4096
TEXT_MOST = 65536
BRACKETS = {ord(char): None for char in "[]'\""}  # of a version that is a list
NO_STDIN = "a cell has no stdin: put the answer into the code or a file"


class Request:
    """One execute_request and what has come of it. A quiet one is the bridge's own: its output is kept here."""

    def __init__(self, number, quiet):
        self.number, self.quiet = number, quiet
        self.reply = self.error = None
        self.idle = False
        self.text = ""
        self.sent = time.monotonic()
        self.begun = False  # its code runs; before, an interrupt would end what the kernel does for it
        self.heard = time.monotonic()  # when its last message came, or an interrupt
        self.probe = None  # a request behind it: the answers tell what of this one was lost
        self.lossy = False

    @property
    def over(self):
        return self.idle and self.reply is not None


class Failure(Exception):
    """A run that the bridge itself has to end. LOST: why the kernel's state is gone with it."""

    def __init__(self, name, message, lost=None):
        super().__init__(message)
        self.name, self.lost = name, lost


class Bridge:
    """What runs between the wire and the kernel."""

    def __init__(self, spec):
        self.spec = spec
        self.wire = Wire()
        self.context = zmq.Context()
        self.poller = zmq.Poller()
        self.streams = {1: Stream(1), 2: Stream(2)}
        self.process = self.language = None
        self.info = {}
        self.failure = None    # why there is no kernel, for the run that asks
        self.request = None    # under way
        self.run = None        # the id of the run whose cell that is
        self.answered = False  # its result was sent
        self.held = None       # a display of its that may be its result
        self.asked = False     # it asked for input
        self.interrupts = 0
        self.unset = {}        # what `set` has told, and the kernel does not have
        self.place = os.getcwd()
        self.takers = {"iopub": self._published, "shell": self._replied, "stdin": self._refuse_input}
        self.commands = []
        self.ended = False     # end of the commands
        self._listen_to_signals()

    # Life.

    def serve(self):
        """Start the kernel, answer commands until the last. The exit status."""
        self._start()
        self._hello()
        self.poller.register(self.wire.commands, zmq.POLLIN)
        while self.commands or not self.ended:
            if self.commands:
                if not self._obey(self.commands.pop(0)):
                    return 1
            elif self.process and self.process.ended:
                return self._die()
            else:
                self.step()
        self._shutdown()
        return 0

    def _start(self):
        began = time.monotonic()
        for transport in transports():
            try:
                self.process = Process(self.spec, transport, self.context)
            except OSError as error:
                self.failure = self.failure or f"its command cannot be started: {error}"
                continue
            self._watch()
            self.failure = self._meet(began + START_SECONDS)
            if self.failure is None:
                break
            self.process.close()
            self.process = None
            self.poller = zmq.Poller()
            self.poller.register(self.wakeup, zmq.POLLIN)
        if self.process:
            self._learn(began + LEARN_SECONDS)

    def _watch(self):
        self.poller = zmq.Poller()
        self.poller.register(self.wakeup, zmq.POLLIN)
        self.poller.register(self.process.pidfd, zmq.POLLIN)
        for pipe in self.process.pipes.values():
            self.poller.register(pipe, zmq.POLLIN)
        for name in ("shell", "iopub", "stdin"):
            self.poller.register(self.process.sockets[name], zmq.POLLIN)

    def _meet(self, deadline):
        """Ask for kernel_info until both answer and iopub are heard. None, or what is wrong."""
        unheard = time.monotonic() + UNHEARD_SECONDS
        heard, self.info = False, {}
        self.process.send("shell", "kernel_info_request", {})
        while not (self.info and heard):
            self.poller.poll(200)
            for fd in (1, 2):
                self.streams[fd].keep(self.process.read(fd))
            if self.process.ended:
                return self._words()
            while message := self.process.receive("iopub"):
                heard = True
            while message := self.process.receive("shell"):
                if message.kind == "kernel_info_reply":
                    self.info = message.content
            if self.info and not heard:  # it was said before we listened
                self.process.send("shell", "kernel_info_request", {})
            now = time.monotonic()
            if now > deadline:
                return f"it did not answer within {START_SECONDS} s" + self._last_words()
            if now > unheard and not self.process.listens():
                return "it does not listen" + self._last_words()
        return None

    def _words(self):
        """How the kernel ended, with what it said."""
        code = self.process.wait(EXIT_SECONDS)
        for fd in (1, 2):
            while data := self.process.read(fd):
                self.streams[fd].keep(data)
        how = f"exit code {code}" if code is None or code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
        return f"its command ended with {how}" + self._last_words()

    def _last_words(self):
        tail = self.streams[2].tail.strip() or self.streams[1].tail.strip()
        return ":\n" + errors.plain(tail.decode("utf-8", "replace")) if tail else ""

    def _learn(self, deadline):
        """Whether environment and cwd can be set in the language, and where the output of a child comes out."""
        self.language = languages.known(self._language_name)
        if not self.language:
            return
        token = "cellfs" + os.urandom(8).hex()
        self.streams[1].running = True
        code = self.language.begin + self.language.read([]) + "\n" + self.language.child(f"echo {token}")
        asked = self.ask(code, deadline - time.monotonic())
        if asked and languages.answer(asked.text)[1]:
            self._drain()
            self.streams[1].learn(token, asked.text)
            self.streams[2].echoes = self.streams[1].echoes
        else:
            self.language = None
        self.streams[1].running = False

    @property
    def _language_info(self):
        info = self.info.get("language_info")
        return info if isinstance(info, dict) else {}

    @property
    def _language_name(self):
        return str(self._language_info.get("name") or self.spec.get("language") or "")

    def _hello(self):
        info = self._language_info
        engine = " ".join(str(self.info.get(key) or "") for key in ("implementation", "implementation_version"))
        event = {
            "lang": "jupyter", "ver": str(info.get("version") or ""), "engine": engine.translate(BRACKETS).strip(),
        }
        if self.failure:
            event["failed"] = self.failure
        else:
            event |= {
                "language": self._language_name, "extension": str(info.get("file_extension") or ""),
                "comment": languages.comment(self._language_name),
            }
        self.wire.hello(**event)

    def _die(self):
        """The kernel has ended while it ran nothing: end the same way, so that the daemon sees how."""
        code = self.process.wait(EXIT_SECONDS)
        self._drain()
        self.process.close()
        if code is not None and code < 0:
            if -code != signal.SIGKILL:
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        return code or 0

    def _shutdown(self):
        if not self.process:
            return
        self.process.send("control", "shutdown_request", {"restart": False})
        end = time.monotonic() + EXIT_SECONDS
        while not self.process.ended and time.monotonic() < end:
            self.step(100)
        if not self.process.ended:
            self.process.signal(signal.SIGTERM)
            self.process.wait(1)
        self._drain()
        self.process.close()

    # Signals.

    def _listen_to_signals(self):
        self.wakeup, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def _interrupt(self):
        try:
            os.read(self.wakeup, 4096)
        except BlockingIOError:
            return
        if self.run is None or self.request is None or self.request.quiet:
            return
        self.interrupts += 1
        if self.interrupts == 1:
            self.request.heard = time.monotonic()
        self._begin(self.request.begun)

    def _begin(self, heard):
        """The code of the request runs, as was HEARD or because of the time: native code can keep the kernel's threads
        from telling. Now interrupts reach it."""
        request = self.request
        if request.quiet:
            return
        if heard or time.monotonic() - request.sent > BEGIN_SECONDS:
            request.begun = True
            if self.interrupts:
                self._stop()

    def _stop(self):
        if self.spec.get("interrupt_mode") == "message":
            self.process.send("control", "interrupt_request", {})
        else:
            self.process.signal(signal.SIGINT)

    # Commands.

    def _obey(self, command):
        operation = command.get("op")
        if operation == "exec":
            self.execute(command)
        elif operation == "set":
            self._set(command)
        elif operation == "init":
            if not self.wire.begin(command):
                return False
            self.wire.send({"ev": "ready"})
        elif operation == "shutdown":
            self.ended, self.commands = True, []
        else:
            self.wire.log(f"unknown op {operation!r}")
        return True

    def _set(self, command):
        env, cwd = command.get("env") or {}, command.get("cwd")
        if self.language:
            asked = self.ask(self.language.change(env, cwd))
            if asked and asked.reply.get("status") != "ok":
                self.wire.log(f"set: {asked.reply.get('ename')}: {asked.reply.get('evalue')}")
            return
        for name, value in env.items():
            self._differs("config/env/" + name, value, os.environ.get(name))
        if cwd is not None:
            self._differs("config/cwd", cwd, self.place)

    def _differs(self, name, wanted, there):
        self.unset.pop(name, None)
        if wanted != there:
            self.unset[name] = wanted

    def execute(self, command):
        """Run one cell and say how it ended."""
        self.answered = self.asked = False
        self.interrupts = 0
        code, done, error = "", {}, None
        try:
            self._check()
            with open(command["path"], "rb") as cell:
                code = cell.read().decode("utf-8", "replace")
            with self._surroundings(command.get("env") or {}, command.get("cwd")):
                done, error = self._run(command["id"], code)
        except Failure as failure:
            error = {"ename": failure.name, "evalue": str(failure)}
            done = {"lost": failure.lost} if failure.lost else {}
        except OSError as failure:
            error = {"ename": type(failure).__name__, "evalue": str(failure)}
        if error:
            self.wire.send({**errors.describe(error, command["name"], code), "id": command["id"]})
            done = {"status": "error", **done}
        self.wire.send({"ev": "done", "id": command["id"], "status": "ok", "code": 0, **done})

    def _check(self):
        """Can a cell be run?"""
        if self.failure:
            raise Failure("KernelFailed", f"the kernel {self.spec['name']} cannot be started: {self.failure}",
                          "it could not be started")
        if self.process.ended:
            raise Failure("KernelDied", self._words(), "it ended by itself")
        if self.unset:
            raise Failure("NotSupported", f"{', '.join(self.unset)}: how a running kernel of the language "
                          f"{self._language_name} takes that over is not known here: restart it (echo restart > ctl)")

    @contextlib.contextmanager
    def _surroundings(self, env, cwd):
        """Environment and cwd of one run, restored after it."""
        if not env and cwd is None:
            yield
            return
        if cwd is not None:
            check_enterable(cwd)  # the error, if there is one, is the same in all languages
        if not self.language:
            raise Failure("NotSupported", f"options env and cwd: how the language {self._language_name} sets them is "
                          "not known here: set them in the code, or in config/ before the kernel starts")
        asked = self.ask(self.language.read(env))
        values, place = languages.answer(asked.text) if asked else ({}, None)
        if place is None or set(values) != set(env):
            raise Failure("NotSupported", "options env and cwd: the kernel does not tell what they are now, so they "
                          "could not be restored")
        try:
            asked = self.ask(self.language.change(env, cwd))
            if not asked or asked.reply.get("status") != "ok":
                reply = asked.reply if asked else {}
                raise Failure(errors.name_of(reply), str(reply.get("evalue") or "the kernel has ended"))
            yield
        finally:
            if not self.process.ended:
                self.ask(self.language.change(values, place))

    def _run(self, number, code):
        """Run CODE. What `done` says beside the usual, and the error as Jupyter has it."""
        self.run = number
        for stream in self.streams.values():
            stream.running = True
        request = self._send(self.language.prepare(code) if self.language else code, quiet=False)
        self._await(request)
        self._drain()
        for stream in self.streams.values():
            stream.message(stream.rest())
        if self.held:
            self._show(self.held, last="image/png" not in self.held.content["data"])
            self.held = None
        for stream in self.streams.values():
            stream.settle()
            stream.running = False
        self.run = self.request = None
        if request.lossy:
            self.streams[2].message("cellfs: the kernel has dropped messages, so output may be missing\n")
        if not request.over:
            return self._fallen()
        return self._outcome(request)

    def _fallen(self):
        """The kernel's process has ended in the run."""
        code = self.process.wait(EXIT_SECONDS)
        if code is None or code < 0:
            sys.exit(self._die())
        lost = f"its process ended with exit code {code}"
        if self.interrupts:
            return {"status": "interrupted", "lost": lost}, {"ename": "interrupted", "evalue": lost}
        return {"status": "exit", "code": code, "lost": lost}, None

    def _outcome(self, request):
        reply, error = request.reply, request.error
        status = reply.get("status")
        if status == "error" and not error:
            error = reply
        if not error and self.language:
            error = self.language.error_in(request.text)
        if self.asked:
            return {}, {"ename": "StdinUnavailable", "evalue": NO_STDIN}
        if self.interrupts:  # some kernels call it ok
            name = "KeyboardInterrupt" if self.language is languages.Python else "interrupted"
            if not error or errors.name_of(error) == "CancelledError":
                error = {**(error or {"evalue": ""}), "ename": name}
            return {"status": "interrupted"}, error
        if status == "ok" and not error:
            return self._payloads(reply.get("payload")), None
        error = error or {"ename": "Aborted", "evalue": "the kernel gave the cell up"}
        name = errors.name_of(error)
        if name == "SystemExit" and self.language is languages.Python:
            return {"status": "exit", "code": self._exit_code(str(error.get("evalue")))}, None
        if name == "StdinNotImplementedError" or "support input requests" in str(error.get("evalue")):
            error = {**error, "ename": "StdinUnavailable", "evalue": NO_STDIN}
        if self.language and self.language.through_pty and error.get("evalue") == "End of File":
            return {"lost": "its interpreter has ended"}, error
        return {}, error

    def _payloads(self, payloads):
        """What a reply asks the frontend to do: show a text, or end the kernel, which most do themselves."""
        for payload in payloads if isinstance(payloads, list) else ():
            if not isinstance(payload, dict):
                continue
            data = payload.get("data")
            if payload.get("source") == "page" and isinstance(data, dict):
                self.streams[1].message(errors.plain(str(data.get("text/plain") or "")).rstrip("\n") + "\n")
            if payload.get("source") == "ask_exit":
                if self.process.wait(1) is None:
                    return {"status": "exit"}
                return {"status": "exit", "lost": "the cell ended it"}
        return {}

    def _exit_code(self, text):
        if text in ("", "None"):
            return 0
        try:
            return int(text) & 0xFF
        except ValueError:
            self.streams[2].message(text + "\n")
            return 1

    # The kernel's side.

    def ask(self, code, seconds=None):
        """Run CODE quietly; None when the kernel ends or takes longer."""
        request = self._send(code, quiet=True)
        self._await(request, seconds)
        self.request = None
        return request if request.over else None

    def _await(self, request, seconds=None):
        """Go on until the request is over, the kernel has ended, or the time is.

        A kernel drops what its queue has no room for, and that may be the `idle`; the reply is lost when it fails over
        the code, or is interrupted between cells.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while not request.over and not self.process.ended:
            unsure = request.reply or request.idle or self.interrupts
            self.step(200 if end or unsure else None)
            now = time.monotonic()
            if end and now > end:
                return
            if self.interrupts and not request.begun:
                self._begin(False)
            if unsure and not request.probe and now - request.heard > SILENT_SECONDS:
                request.probe = self.process.send("shell", "kernel_info_request", {})

    def _send(self, code, quiet):
        self.request = Request(self.process.send("shell", "execute_request", {
            "code": code, "silent": False, "store_history": not quiet, "user_expressions": {}, "allow_stdin": False,
            "stop_on_error": False,
        }), quiet)
        return self.request

    def step(self, timeout=None):
        """Wait until something comes, and take it. False if there was nothing but the kernel's end."""
        ready = dict(self.poller.poll(timeout))
        if self.process:
            ready.pop(self.process.pidfd, None)
        if self.wakeup in ready:
            self._interrupt()
        if self.wire.commands in ready:
            self._receive()
        if self.process:
            for fd, pipe in list(self.process.pipes.items()):
                if pipe in ready:
                    self._pump(fd, pipe)
            for name, take in self.takers.items():
                if self.process.sockets[name] in ready:
                    self._each(name, take)
        return bool(ready)

    def _each(self, channel, take):
        for _ in range(MOST_AT_ONCE):
            message = self.process.receive(channel)
            if message is None:
                return
            take(message)

    def _receive(self):
        commands = self.wire.receive()
        self._interrupt()  # one that came before a command is not for it, and poll() may not have told yet
        if commands is None:
            self.ended = True
            self.poller.unregister(self.wire.commands)
            if self.run is not None:
                sys.exit(0)  # nobody waits for its end any more
        else:
            self.commands += commands

    def _pump(self, fd, pipe):
        data = self.process.read(fd)
        if data is None:
            self.poller.unregister(pipe)
            del self.process.pipes[fd]
        elif data:
            self.streams[fd].pipe(data)

    def _drain(self):
        """Take what is there; of a flood from a process that lives on no more than comes in a moment.

        Of one that has ended, what it has sent may still be on its way through ZeroMQ's thread.
        """
        end = time.monotonic() + DRAIN_SECONDS
        coming = True
        while coming and time.monotonic() < end:
            coming = self.process.ended and not self.process.all_came
            if self.step(0):
                coming = True
            elif coming:
                time.sleep(BREATH_SECONDS)

    def _replied(self, message):
        if self.request and message.parent == self.request.number and message.kind == "execute_reply":
            self.request.reply = message.content
            self.request.heard = time.monotonic()
        elif self.request and self.request.probe and message.parent == self.request.probe:
            self.request.reply = self.request.reply or {"status": "aborted"}

    def _refuse_input(self, message):
        if message.kind == "input_request" and self.run is not None:
            self.asked = True
            self._stop()
            self.process.send("stdin", "input_reply", {"status": "ok", "value": ""}, message.header)

    def _published(self, message):
        if self.held and message.kind != "status":
            self._show(self.held)
            self.held = None
        mine = self.request and message.parent == self.request.number
        if mine:
            self.request.heard = time.monotonic()
        elif self.request and self.request.probe and message.parent == self.request.probe:
            self.request.lossy = not self.request.idle and not self.interrupts
            self.request.idle |= message.content.get("execution_state") == "idle"
        if mine and message.kind == "execute_input":
            self._begin(True)
        elif message.kind == "stream":
            self._print(message, mine and self.request.quiet)
        elif message.kind in ("display_data", "execute_result", "update_display_data"):
            self._display(message, mine)
        elif message.kind == "clear_output" and mine and self.run is not None:
            self.wire.send({"ev": "clear", "id": self.run, "wait": bool(message.content.get("wait"))})
        elif message.kind == "error" and mine:
            self.request.error = message.content
        elif message.kind == "status" and mine:
            self.request.idle |= message.content.get("execution_state") == "idle"

    def _print(self, message, quiet):
        text = message.content.get("text")
        if not isinstance(text, str):
            return
        stream = self.streams[2 if message.content.get("name") == "stderr" else 1]
        if self.language and self.language.through_pty:
            text = errors.plain(stream.lines(text))
        if quiet:
            self.request.text += text
        else:
            if self.request and self.language and self.language.through_pty:
                self.request.text = (self.request.text + text)[-TEXT_MOST:]
            stream.message(text)

    def _display(self, message, mine):
        if self.run is None or message.parent and not mine:
            if not mine:
                self.wire.log("a display outside a run was dropped")
        elif isinstance(message.content.get("data"), dict) and not self.request.quiet:
            if self.language and self.language.shows_values and message.kind == "display_data":
                self.held = message  # the value of the cell, if nothing follows
            else:
                self._show(message)

    def _show(self, message, last=False):
        content, data = message.content, message.content["data"]
        event = {"ev": "display", "id": self.run, "kind": "display"}
        if message.kind == "update_display_data":
            event["kind"] = "update"
        elif (last or message.kind == "execute_result") and not self.answered:
            self.answered = True
            event["kind"] = "result"
            data = bundle.readable(data, self._language_name.lower())
        transient = content.get("transient")
        if isinstance(transient, dict) and transient.get("display_id") is not None:
            event["display_id"] = str(transient["display_id"])
        if content.get("metadata") and len(str(content["metadata"])) < META_LIMIT:
            event["meta"] = content["metadata"]
        try:
            formats = bundle.pack(data)
            if formats:
                self.wire.display(event, formats, self.wakeup)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.streams[2].message(f"a display is lost: {error}\n")


def check_enterable(path):
    """Raise the OSError that entering the directory would give."""
    os.close(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    if not os.access(path, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def main():
    """Start the kernel, serve, and leave nothing of it."""
    bridge = Bridge(json.loads(sys.argv[1]))
    try:
        return bridge.serve()
    except BrokenPipeError:
        return 0
    finally:
        if bridge.process:
            bridge.process.close()
