"""A kernel's process: its connection file, its sockets, its pipes, its end."""

import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time

import zmq

from .session import Session

CHANNELS = {"shell": zmq.DEALER, "iopub": zmq.SUB, "stdin": zmq.DEALER, "control": zmq.DEALER}
ENDS = ("shell", "iopub")  # whose end is looked for
PORTS = ("shell", "iopub", "stdin", "control", "hb")
SOCKET_PATH_MAX = 100  # sun_path has 108 bytes, the names of the sockets some of them
PR_SET_PDEATHSIG = 1
HELD_SECONDS = 1  # how long a connection's end is waited for
_libc = ctypes.CDLL(None)


def transports():
    """Which to try, in order.

    In a box nobody else is on the network, and TCP, which all kernels speak, holds more of what comes too fast: with
    `ipc` a kernel that prints 10,000 messages at once drops some of them. Elsewhere others could listen.
    """
    with open("/proc/net/dev") as table:
        names = {line.partition(":")[0].strip() for line in table.readlines()[2:]}
    return ["tcp"] if names == {"lo"} else ["ipc", "tcp"]


class Process:
    """A kernel that was started by `transport`, "ipc" or "tcp"."""

    def __init__(self, spec, transport, context):
        self.transport = transport
        self.session = Session()
        self.folder = _folder(transport)
        self.sockets, self.ends = {}, {}
        self.popen = self.waited_until = None
        try:
            self._start(spec, context)
        except BaseException:
            self.close()
            raise

    def _start(self, spec, context):
        address, ports = self._places()
        connection = os.path.join(self.folder, "connection.json")
        with open(os.open(connection, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({
                "transport": self.transport, "ip": address, "key": self.session.key,
                "signature_scheme": "hmac-sha256", "kernel_name": spec["name"],
                **{f"{name}_port": port for name, port in ports.items()},
            }, file)
        for name, kind in CHANNELS.items():
            channel = self.sockets[name] = context.socket(kind)
            channel.linger = 0
            channel.rcvbuf = 8 << 20
            channel.rcvhwm = 0  # no limit: what a kernel cannot send it drops
            if name == "iopub":
                channel.subscribe(b"")
            else:
                channel.identity = self.session.id.encode()
            joint = "-" if self.transport == "ipc" else ":"
            if name in ENDS:
                self.ends[name] = channel.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            channel.connect(f"{self.transport}://{address}{joint}{ports[name]}")
        self.popen = subprocess.Popen(
            _argv(spec, connection), env=self._environment(spec), start_new_session=True, preexec_fn=_end_with_parent,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )
        self.pid = self.popen.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.pipes = {1: self.popen.stdout.fileno(), 2: self.popen.stderr.fileno()}
        for pipe in self.pipes.values():
            os.set_blocking(pipe, False)

    def _places(self):
        if self.transport == "ipc":
            # Short: xeus has 32 bytes for `ipc:///tmp/k-XXXXXXXX/s-1`, and ends when that is not enough.
            return os.path.join(self.folder, "s"), {name: i + 1 for i, name in enumerate(PORTS)}
        with contextlib.ExitStack() as taken:
            ports = {}
            for name in PORTS:
                place = taken.enter_context(socket.socket())
                place.bind(("127.0.0.1", 0))
                ports[name] = place.getsockname()[1]
        return "127.0.0.1", ports

    def _environment(self, spec):
        env = {
            "LANG": "C.UTF-8", **os.environ, "TERM": "dumb", "JPY_PARENT_PID": str(os.getpid()),
            "IPYTHONDIR": os.path.join(self.folder, "ipython"),
        }
        if os.path.dirname(self.folder) != "/tmp":  # which nobody can write then
            env.setdefault("TMPDIR", self.folder)
        for name, value in (spec.get("env") or {}).items():
            env[name] = string.Template(str(value)).safe_substitute(os.environ)
        return env

    def send(self, channel, kind, content, parent=None):
        """Send a request or a reply; its id."""
        number, frames = self.session.encode(kind, content, parent)
        self.sockets[channel].send_multipart(frames)
        return number

    def receive(self, channel):
        """The next message there is, or None."""
        while True:
            try:
                frames = self.sockets[channel].recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            message = self.session.decode(frames)
            if message and isinstance(message.content, dict):
                return message

    def read(self, fd):
        """What is in the pipe of its stdout or stderr: empty when there is nothing, None at the end."""
        try:
            return os.read(self.pipes[fd], 1 << 16) or None
        except BlockingIOError:
            return b""
        except KeyError:
            return None

    def listens(self):
        """Has it bound anything? Known of ipc only."""
        return self.transport != "ipc" or len(os.listdir(self.folder)) > 1

    @property
    def ended(self):
        """True once the process has ended."""
        return not self.popen or bool(select.select([self.pidfd], [], [], 0)[0])

    @property
    def all_came(self):
        """Is what it has sent, now that it has ended, in our queues? ZeroMQ tells of a connection's end when all before it
        is, unless a child of the kernel holds it."""
        self.waited_until = self.waited_until or time.monotonic() + HELD_SECONDS
        return time.monotonic() > self.waited_until or all(end.poll(0) for end in self.ends.values())

    def wait(self, seconds):
        """Its exit status (-signal, if by one), or None when it takes longer than this."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number):
        """To the kernel's process group."""
        with contextlib.suppress(ProcessLookupError):
            if not self.ended:
                os.killpg(self.pid, number)

    def close(self):
        """End what is left, and take its files away."""
        if self.popen:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.popen.wait()
            os.close(self.pidfd)
            self.popen.stdout.close()
            self.popen.stderr.close()
            self.popen = None
        while self.ends:
            name, end = self.ends.popitem()
            self.sockets[name].disable_monitor()  # first: it would wait for a reader
            end.close()
        for channel in self.sockets.values():
            channel.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _end_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _folder(transport):
    """A directory for the connection, in the first place where one can be made."""
    problem = None
    for place in ("/tmp", os.environ.get("TMPDIR"), os.environ.get("HOME")):
        if not place or transport == "ipc" and len(place) + 16 > SOCKET_PATH_MAX:
            continue
        try:
            return tempfile.mkdtemp(prefix="k-", dir=place)
        except OSError as error:
            problem = error
    raise problem or OSError("no directory is short enough for a socket")


def _argv(spec, connection):
    names = {"connection_file": connection, "resource_dir": spec.get("resource_dir", ""), "prefix": sys.prefix}
    return [re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], found[0]), part) for part in spec["argv"]]
