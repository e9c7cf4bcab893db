"""A Jupyter kernel of a language that nobody has heard of, for tests: each line of a cell is a word and what belongs to it.

usage: tiny_kernel.py CONNECTION_FILE. TINY_EXTENSION is the extension that it claims.
"""

import hashlib
import hmac
import json
import os
import signal
import sys
import time

import zmq

with open(sys.argv[1]) as file:
    HOST = json.load(file)
KEY = HOST["key"].encode()


class Kernel:
    def __init__(self):
        self.context = zmq.Context()
        self.iopub = self.bind(zmq.PUB, "iopub")
        self.shell = self.bind(zmq.ROUTER, "shell")
        self.control = self.bind(zmq.ROUTER, "control")
        self.stdin = self.bind(zmq.ROUTER, "stdin")
        self.heart = self.bind(zmq.REP, "hb")
        self.count = 0

    def bind(self, kind, name):
        made = self.context.socket(kind)
        joint = ":" if HOST["transport"] == "tcp" else "-"
        made.bind(f"{HOST['transport']}://{HOST['ip']}{joint}{HOST[name + '_port']}")
        return made

    def send(self, channel, kind, content, parent, idents=(), key=KEY, **metadata):
        header = {"msg_id": os.urandom(8).hex(), "session": "tiny", "username": "", "version": "5.3",
                  "msg_type": kind, "date": "2020-01-01T00:00:00Z"}
        parts = [json.dumps(part).encode() for part in (header, parent, metadata, content)]
        sign = hmac.new(key, b"".join(parts), hashlib.sha256).hexdigest().encode()
        channel.send_multipart([*idents, b"<IDS|MSG>", sign, *parts])

    def say(self, kind, content, **metadata):
        self.send(self.iopub, kind, content, self.parent, [kind.encode()], **metadata)

    def serve(self):
        poller = zmq.Poller()
        for channel in (self.shell, self.control):
            poller.register(channel, zmq.POLLIN)
        while True:
            for channel, _ in poller.poll():
                *idents, _, _, header, _, _, content = channel.recv_multipart()
                self.parent = json.loads(header)
                self.take(channel, idents, json.loads(content))

    def take(self, channel, idents, content):
        kind = self.parent["msg_type"]
        self.say("status", {"execution_state": "busy"})
        reply, late = {"status": "ok"}, None
        if kind == "kernel_info_request":
            reply |= {
                "protocol_version": "5.3", "implementation": "tiny", "implementation_version": "1.0",
                "language_info": {"name": "tiny", "version": "0.1", "file_extension": os.environ["TINY_EXTENSION"]},
                "banner": "",
            }
        elif kind == "execute_request":
            self.count += 1
            self.idents = idents
            self.say("execute_input", {"code": content["code"], "execution_count": self.count})
            reply, late = self.execute(content["code"])
            if reply:
                reply["execution_count"] = self.count
        elif kind == "shutdown_request":
            os.write(1, b"goodbye\n")
        if reply:
            self.send(channel, kind.replace("request", "reply"), reply, self.parent, idents)
        self.say("status", {"execution_state": "idle"})
        if kind == "shutdown_request":
            self.leave(0)
        if late:
            self.say("stream", {"name": "stdout", "text": late})

    def execute(self, code):
        late = None
        for number, line in enumerate(code.split("\n"), 1):
            word, _, rest = line.partition(" ")
            try:
                if word == "late":
                    late = rest + "\n"
                elif word == "mute":
                    return None, None
                elif word == "page":
                    return {"status": "ok", "payload": [{"source": "page", "data": {"text/plain": rest}}]}, late
                elif word:
                    getattr(self, "do_" + word)(rest)
            except BaseException as error:
                error = {"ename": type(error).__name__, "evalue": str(error), "traceback": [
                    f"\x1b[31mLine {number}\x1b[0m of the cell", f"  {line}", f"\x1b[1m{type(error).__name__}\x1b[0m: {error}"]}
                self.say("error", error)
                return {"status": "error", **error}, late
        return {"status": "ok", "payload": [], "user_expressions": {}}, late

    def do_print(self, text):
        self.say("stream", {"name": "stdout", "text": text + "\n"})

    def do_warn(self, text):
        self.say("stream", {"name": "stderr", "text": text + "\n"})

    def do_raw(self, text):
        os.write(1, text.encode() + b"\n")

    def do_both(self, text):
        self.do_print(text)
        self.do_raw(text)

    def do_value(self, text):
        self.say("execute_result", {"data": json.loads(text), "metadata": {}, "execution_count": self.count})

    def do_show(self, text):
        self.say("display_data", {"metadata": {}, **json.loads(text)})

    def do_update(self, text):
        self.say("update_display_data", {"metadata": {}, **json.loads(text)})

    def do_clear(self, text):
        self.say("clear_output", {"wait": text == "wait"})

    def do_comm(self, text):
        self.say("comm_open", {"comm_id": "1", "target_name": "x", "data": {}})

    def do_forge(self, text):
        self.send(self.iopub, "stream", {"name": "stdout", "text": "forged\n"}, self.parent, [b"stream"], b"no key")

    def do_junk(self, text):
        self.iopub.send_multipart([b"junk"])
        self.iopub.send_multipart([b"x", b"<IDS|MSG>", b"", b"{", b"", b"", b""])

    def do_wait(self, text):
        self.do_print("waiting")
        time.sleep(100)

    def do_deaf(self, text):
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def do_control(self, text):
        """Wait for a message instead of a signal."""
        self.do_print("waiting")
        *idents, _, _, header, _, _, _ = self.control.recv_multipart()
        header = json.loads(header)
        self.send(self.control, "interrupt_reply", {"status": "ok"}, header, idents)
        raise KeyboardInterrupt(header["msg_type"])

    def do_raise(self, text):
        raise ValueError(text)

    def do_input(self, text):
        self.send(self.stdin, "input_request", {"prompt": text, "password": False}, self.parent, self.idents)
        *_, content = self.stdin.recv_multipart()
        self.do_print(repr(json.loads(content)["value"]))

    def do_env(self, text):
        self.do_print(os.environ.get(text, "(absent)"))

    def do_cwd(self, text):
        self.do_print(os.getcwd())

    def do_fork(self, text):
        """A child that has the kernel's connections."""
        if not os.fork():
            time.sleep(100)
            os._exit(0)

    def do_exit(self, text):
        self.leave(int(text))

    def leave(self, code):
        """Exit when all that was sent has left."""
        self.context.destroy(linger=10000)
        os._exit(code)

    def do_kill(self, text):
        os.write(2, b"last words\n")
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Kernel().serve()
