#!/usr/bin/python3
"""cellfs beside its peers, in one run: prints one table with ratios.

    tests/bench/run.py [--quick] [--build DIR] [--keep] [ROW...]

Rows are chosen by name (--list). A bar that is not met is marked `below bar` and is no failure: the
exit status is 1 only where something could not be measured at all. Peers are ipykernel (by
jupyter_client) and nbclient as Debian has them, the Python driver without the daemon, and a kernel
that does nothing (tests/bench/null), which shows what the file system and the daemon cost.
"""
import argparse
import contextlib
import fcntl
import glob
import json
import os
import platform
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
ROW_LIMIT = 1800  # seconds; a row that hangs is reported, the others go on
WARM = 50

ROWS = {}  # name -> function, in the order of the table


def row(function):
    ROWS[function.__name__] = function
    return function


# --- the table ---

class Table:
    """Lines of (what, ours, peer, ratio, bar); shown as they come, and once more at the end."""
    heads = ("what", "ours", "peer", "ratio", "bar")

    def __init__(self):
        self.lines = []

    def add(self, what, ours, peer="", ratio="", bar="", met=None):
        verdict = {None: "", True: "  ok", False: "  below bar"}[met]
        line = (what, ours, peer, "%.2f" % ratio if ratio else "", bar + verdict)
        self.lines.append(line)
        print("  " + " | ".join(filter(None, line)), flush=True)

    def show(self):
        lines = [self.heads, *self.lines]
        widths = [max(len(line[i]) for line in lines) for i in range(5)]
        for line in lines:
            print("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip())
        missed = sum(line[4].endswith("below bar") for line in self.lines)
        print("\n%d figures, %d below their bar. %s" % (len(self.lines), missed, self.machine()))

    @staticmethod
    def machine():
        return "Linux %s, %d CPUs, load %.1f, Python %s" % (
            platform.release(), os.cpu_count(), os.getloadavg()[0], platform.python_version())


def ms(ns):
    return "%.3f ms" % (ns / 1e6)


def median(values):
    return statistics.median(values)


def p99(values):
    return sorted(values)[int(len(values) * 0.99)]


def timed(times, work, warm=WARM):
    """The nanoseconds of each of so many calls, after some that do not count."""
    result = []
    for i in range(warm + times):
        start = time.perf_counter_ns()
        work()
        result.append(time.perf_counter_ns() - start)
    return result[warm:]


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def memory(pid, *keys):
    """Bytes; the sum of such lines of smaps_rollup as Rss or Private_Dirty."""
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return sum(int(line.split()[1]) * 1024 for line in f if line.split(":")[0] in keys)


def rss(pid):
    return memory(pid, "Rss")


def private(pid):
    return memory(pid, "Private_Clean", "Private_Dirty")


# --- ours ---

class Mount:
    """The daemon with a mount of its own. Plain file operations only: this is what users do."""

    def __init__(self, bench, state=None, limit_files=None, opts=""):
        self.bench, self.opts = bench, opts
        self.dir = tempfile.mkdtemp(dir=bench.dir)
        self.state = state or os.path.join(self.dir, "state")
        self.point = os.path.join(self.dir, "mnt")
        self.limit_files = limit_files

    def __enter__(self):
        os.makedirs(self.state, exist_ok=True)
        os.mkdir(self.point)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(os.path.join(self.dir, "notify"))
        self.log = open(os.path.join(self.dir, "log"), "w+")
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [os.path.join(self.bench.build, "cellfs"), "-f", self.state, self.point,
             "-o", "kernels=" + self.bench.kernels() + self.opts],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env={**os.environ, "NOTIFY_SOCKET": os.path.join(self.dir, "notify")},
            preexec_fn=self._limit)
        notify.settimeout(0.1)
        try:
            self._wait_for(notify)
        except BaseException:
            self.__exit__()
            raise
        finally:
            notify.close()
        return self

    def _limit(self):
        if self.limit_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit_files,) * 2)

    def _wait_for(self, notify):
        while self.process.poll() is None:
            with contextlib.suppress(socket.timeout):
                if b"READY=1" in notify.recv(4096):
                    return
        self.log.seek(0)
        raise RuntimeError("the daemon ended with %d: %s" % (
            self.process.returncode, self.log.read()[-2000:]))

    def __exit__(self, *exc):
        self.process.terminate()
        try:
            if self.process.wait(60) != 0:
                print("  the daemon's exit status is %d" % self.process.returncode)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            subprocess.run(["umount", "-l", self.point], check=False)
        self.log.close()

    def path(self, *parts):
        return os.path.join(self.point, *parts)

    def context(self, name):
        os.mkdir(self.path("contexts", name))
        return Context(self.path("contexts", name))

    def main(self):
        return Context(self.path("contexts", "main"))

    def spares(self):
        """The languages of which a kernel waits."""
        with open(self.path("status")) as f:
            return next((line.split()[1:] for line in f if line.startswith("spares:")), [])

    def has(self, extension):
        with open(self.path("languages")) as f:
            return ".%s" % extension in f.read()


class Context:
    def __init__(self, path):
        self.path = path

    def submit(self, cell, code):
        fd = os.open("%s/cells/%s" % (self.path, cell), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, code)
        os.close(fd)

    def open(self, cell, name):
        return os.open("%s/results/%s/%s" % (self.path, cell, name), os.O_RDONLY)

    def read(self, cell, name):
        fd = self.open(cell, name)
        data = os.read(fd, 65536)
        os.close(fd)
        return data

    def run(self, cell, code, name):
        self.submit(cell, code)
        return self.read(cell, name)

    def kernel_pid(self, language):
        with open(self.path + "/context.json") as f:
            return json.load(f)["kernels"][language]["pid"]


# --- the peers ---

class Driver:
    """A driver spoken to over its pipes, as PROTOCOL.md says, with no daemon in between."""

    def __init__(self, bench, language):
        folder = os.path.join(bench.kernels(), language)
        with open(os.path.join(folder, "manifest.json")) as f:
            manifest = json.load(f)
        interpreter = shutil.which(manifest["interpreters"][0])
        argv = [a.replace("{interpreter}", interpreter).replace("{dir}", folder)
                for a in manifest["argv"]]
        self.dir = tempfile.mkdtemp(dir=bench.dir)
        child, ours = {0: os.open("/dev/null", os.O_RDWR)}, {}
        child[1] = child[2] = child[0]
        for fd in range(3, 7):
            ends = [self._high(end) for end in os.pipe()]
            child[fd], ours[fd] = ends[::-1] if fd == 4 else ends
        self.pid = os.posix_spawn(
            argv[0], argv, {**os.environ, **manifest["env"]}, setsid=True,
            setsigdef=[signal.SIGINT],
            file_actions=[(os.POSIX_SPAWN_DUP2, child[fd], fd) for fd in range(7)])
        for fd in set(child.values()):
            os.close(fd)
        self.fds, self.buffer, self.id = ours, b"", 0
        self.code = os.path.join(self.dir, "1.code")
        self._until(b'"hello"')
        self._send(op="init", proto=1, spool=self.dir, env={}, cwd=self.dir, opts={})
        self._until(b'"ready"')

    @staticmethod
    def _high(fd):
        new = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 50)
        os.close(fd)
        return new

    def _send(self, **command):
        os.write(self.fds[3], json.dumps(command, separators=(",", ":")).encode() + b"\n")

    def _until(self, event):
        while True:
            line, found, rest = self.buffer.partition(b"\n")
            if not found:
                part = os.read(self.fds[4], 65536)
                if not part:
                    raise RuntimeError("the driver ended")
                self.buffer += part
                continue
            self.buffer = rest
            kind = line[:40].replace(b" ", b"").partition(b'"ev":')[2]
            if kind.startswith(b'"display"'):
                os.write(self.fds[5], b"a")
            if kind.startswith(event):
                return line

    def put(self, code):
        with open(self.code, "wb") as f:
            f.write(code)

    def run(self):
        self.id += 1
        self._send(op="exec", id=self.id, n=self.id, path=self.code, name="a.py")
        return self._until(b'"done"')

    def close(self):
        for fd in self.fds.values():
            os.close(fd)
        os.waitpid(self.pid, 0)


class Jupyter:
    """A kernel (ipykernel) behind jupyter_client. A run ends with its reply and its `idle`."""

    def __init__(self, kernel="python3"):
        from jupyter_client.manager import KernelManager
        self.manager = KernelManager(kernel_name=kernel)
        self.manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.client = self.manager.client()
        self.client.start_channels()

    def ready(self):
        self.client.wait_for_ready(timeout=120)
        return self

    def submit(self, code):
        return self.client.execute(code)

    def finish(self, asked, on_text=None):
        while True:
            message = self.client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != asked:
                continue
            if message["msg_type"] == "stream" and on_text:
                on_text(message["content"]["text"])
            if message["msg_type"] == "error":
                raise RuntimeError(message["content"]["evalue"])
            if message["content"].get("execution_state") == "idle":
                break
        while self.client.get_shell_msg(timeout=120)["parent_header"].get("msg_id") != asked:
            pass

    def run(self, code, on_text=None):
        self.finish(self.submit(code), on_text)

    def pid(self):
        return self.manager.provisioner.pid

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


# --- what the rows share ---

class Bench:
    def __init__(self, options):
        self.quick = options.quick
        self.build = os.path.abspath(options.build)
        self.dir = tempfile.mkdtemp(prefix="cellfs-bench-")
        self.table = Table()
        self.big = None  # (STATE_DIR, its big context's runs, its contexts), made by `growth`
        self.on_exit = contextlib.ExitStack()
        self._mount = self._jupyter = None

    def kernels(self):
        """All drivers and the null one in one folder, for -o kernels=."""
        folder = os.path.join(self.dir, "kernels")
        if not os.path.exists(folder):
            shutil.copytree(os.path.join(ROOT, "kernels"), folder)
            null = shutil.copytree(os.path.join(HERE, "null"), os.path.join(folder, "null"))
            subprocess.run(["gcc", "-std=gnu11", "-O2", "-o", null + "/null", null + "/null.c"],
                           check=True)
        return folder

    def mount(self):
        """One daemon for the rows that need no fresh one; started with the first of them."""
        if not self._mount:
            self._mount = self.on_exit.enter_context(Mount(self))
        return self._mount

    def jupyter(self):
        if not self._jupyter:
            self._jupyter = Jupyter()
            self.on_exit.callback(self._jupyter.close)
            self._jupyter.ready()
        return self._jupyter


# --- rows ---

@row
def roundtrip(bench):
    """a. a warm `x+1`: write the cell, read the value"""
    times = 300 if bench.quick else 2000
    driver = Driver(bench, "python")
    driver.put(b"x = 1\n")
    driver.run()
    driver.put(b"x+1\n")
    alone = timed(times, driver.run)
    driver.close()
    jupyter = bench.jupyter()
    jupyter.run("x = 1")
    peer = timed(times // 4, lambda: jupyter.run("x+1"))
    context = bench.mount().context("roundtrip")
    if context.run("a.null", b"\n", "result.txt") != b"null\n":
        raise RuntimeError("the null kernel does not answer")
    null = timed(times, lambda: context.run("a.null", b"x+1\n", "result.txt"))
    context.run("a.py", b"x = 1\n", "done")
    if context.run("a.py", b"x+1\n", "result.txt") != b"2\n":
        raise RuntimeError("the Python kernel does not answer with 2")
    ours = timed(times, lambda: context.run("a.py", b"x+1\n", "result.txt"))
    gain, floor = median(peer) / median(ours), median(alone) + median(null)
    bench.table.add("x+1 through the mount, median of %d" % times, ms(median(ours)),
                    ms(median(peer)) + " ipykernel", gain, ">= 5 x faster", gain >= 5)
    bench.table.add("    p99", ms(p99(ours)), ms(p99(peer)) + " ipykernel", p99(peer) / p99(ours))
    bench.table.add("    driver alone", ms(median(alone)), ms(median(peer)) + " ipykernel",
                    median(peer) / median(alone))
    bench.table.add("    null kernel through the mount", ms(median(null)))
    bench.table.add("    mount / (driver alone + null)", ms(median(ours)), ms(floor) + " the two",
                    median(ours) / floor, "<= 1.5", median(ours) <= 1.5 * floor)


FIRST = b"import time\ntime.sleep(0.03)\nprint(time.monotonic_ns(), flush=True)\ntime.sleep(0.03)\n"
FLOOD = """
import sys, time
piece = {piece}
print(time.monotonic_ns(), flush=True)
for i in range({times}): {write}(piece)
sys.stdout.flush()
"""


class Stopwatch:
    """Takes a text that begins with the time of its writing; knows when `size` bytes were there."""

    def __init__(self, size):
        self.head, self.got, self.size, self.first, self.last = b"", 0, size, None, None

    def take(self, part):
        now = time.monotonic_ns()
        self.first = self.first or now
        if b"\n" not in self.head:
            self.head += part[:64]
        self.got += len(part)
        if self.got >= self.size and not self.last:
            self.last = now

    def written(self):
        return int(self.head.partition(b"\n")[0])

    def delay(self):
        return self.first - self.written()

    def rate(self):
        if not self.last:
            raise RuntimeError("got %d bytes of %d" % (self.got, self.size))
        return self.size / 1e6 / ((self.last - self.written()) / 1e9)


def follow(context, code, size=0):
    watch = Stopwatch(size)
    context.submit("flood.py", code)
    fd = context.open("flood.py", "stdout.follow")
    while part := os.read(fd, 1 << 20):
        watch.take(part)
    os.close(fd)
    return watch


def listen(jupyter, code, size=0):
    watch = Stopwatch(size)
    jupyter.run(code, lambda text: watch.take(text.encode()))
    return watch


@row
def stream(bench):
    """b. 100 MB to stdout, read live, and how soon a first line is seen"""
    rounds, size = (1, 20) if bench.quick else (3, 100)
    jupyter, context = bench.jupyter(), bench.mount().context("stream")
    follow(context, FIRST)
    delay = median([follow(context, FIRST).delay() for i in range(20)])
    jupyter.run(FIRST.decode())
    delay_peer = median([listen(jupyter, FIRST.decode()).delay() for i in range(20)])
    bench.table.add("first line of a cell seen after", ms(delay), ms(delay_peer) + " ipykernel",
                    delay_peer / delay, "<= 5 ms", delay <= 5e6)
    texts = FLOOD.format(piece="'x' * 10**6", times=size, write="sys.stdout.write")
    peers = median([listen(jupyter, texts, size * 10**6).rate() for i in range(rounds)])
    raw = FLOOD.format(piece="b'x' * 10**6", times=size, write="sys.stdout.buffer.write")
    for how, code in (("sys.stdout.buffer.write", raw), ("sys.stdout.write", texts)):
        rate = median([follow(context, code.encode(), size * 10**6).rate() for i in range(rounds)])
        bench.table.add("%d MB by %s, read live" % (size, how), "%.0f MB/s" % rate,
                        "%.0f MB/s ipykernel" % peers, rate / peers, ">= 500 MB/s", rate >= 500)


def make_big_state(bench, mount):
    """Really runs them, so that it is right whatever the format on disk; a replicating one that
    reaches 1,000,000 can take its place. Returns the seconds of the first and last thousand."""
    runs, contexts = (5000, 1000) if bench.quick else (100000, 10000)
    cell, code = ("c.sh", b":\n") if mount.has("sh") else ("c.null", b"\n")
    context = mount.context("big")
    parts = [rss(mount.process.pid)]
    thousands = []

    def thousand():
        for i in range(1000):
            context.run(cell, code, "done")
    thousand()  # not counted: kernel, caches and heap get their size
    parts[0] = rss(mount.process.pid)
    for i in range(runs // 1000):
        thousands.append(seconds(thousand))
    parts.append(rss(mount.process.pid))
    for i in range(contexts):
        os.mkdir(mount.path("contexts", "c%d" % i))
    parts.append(rss(mount.process.pid))
    bench.big = (mount.state, runs, contexts, cell)
    return thousands, (parts[1] - parts[0]) / runs, (parts[2] - parts[1]) / contexts


@row
def growth(bench):
    """c. many runs in one context, then many contexts, with 1,024 file descriptors"""
    with Mount(bench, limit_files=1024) as mount:
        thousands, per_run, per_context = make_big_state(bench, mount)
        state, runs, contexts, cell = bench.big
        slower = thousands[-1] / thousands[0]
        bench.table.add("%d runs of .%s: last / first thousand" % (runs, cell[2:]),
                        "%.2f s" % thousands[-1], "%.2f s the first" % thousands[0], slower,
                        "<= 1.2", slower <= 1.2)
        bench.table.add("    daemon's memory a run", "%.0f B" % per_run, bar="<= 500 B",
                        met=per_run <= 500)
        bench.table.add("    daemon's memory a context, of %d" % contexts, "%.0f B" % per_context,
                        bar="<= 4096 B", met=per_context <= 4096)


@row
def remount(bench):
    """d. a mount of what c left: until ls and a result of the big context answer"""
    if not bench.big:
        with Mount(bench, limit_files=1024) as mount:
            make_big_state(bench, mount)
    state, runs, contexts, cell = bench.big
    with Mount(bench, state=state, limit_files=1024) as mount:
        listed = len(os.listdir(mount.path("contexts")))
        after_list = time.perf_counter() - mount.started
        status = Context(mount.path("contexts", "big")).read(cell, "done")
        took = time.perf_counter() - mount.started
        if listed < contexts or status != b"ok\n":
            raise RuntimeError("%d contexts listed, done is %r" % (listed, status))
        what = "mount of %d runs, %d contexts" % (runs, contexts)
        bench.table.add(what, "%.3f s" % took, bar="<= 1 s", met=took <= 1)
        bench.table.add("    until ls contexts", "%.3f s" % after_list)
        bench.table.add("    daemon's memory after it", "%.1f MB" % (rss(mount.process.pid) / 1e6))


@row
def million(bench):
    """d. a mount of 1,000,000 runs, made by the daemon's own code without a kernel"""
    runs = 20000 if bench.quick else 1000000
    program = os.path.join(bench.dir, "big")
    objects = [o for o in glob.glob(os.path.join(bench.build, "obj", "*.o")) if not o.endswith("/main.o")]
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "fuse3", "jansson"], text=True).split()
    fsd = os.path.join(os.path.dirname(os.path.dirname(HERE)), "fsd")
    subprocess.run(["gcc", "-std=gnu11", "-O2", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64",
                    "-DFUSE_USE_VERSION=314", "-iquote", fsd, "-o", program,
                    os.path.join(HERE, "big", "big.c"), *objects, *flags, "-lm", "-lpthread"], check=True)
    state = os.path.join(bench.dir, "million")
    subprocess.run([program, state, bench.kernels(), os.path.join(bench.build, "box"), str(runs)], check=True)
    with Mount(bench, state=state, limit_files=1024) as mount:
        status = Context(mount.path("contexts", "big")).read("c3.sh", "done")
        took = time.perf_counter() - mount.started
        if status != b"ok\n":
            raise RuntimeError("done is %r" % status)
        bench.table.add("mount of %d runs, until a result answers" % runs, "%.3f s" % took, bar="<= 1 s",
                        met=took <= 1)
        bench.table.add("    daemon's memory a run", "%.0f B" % (rss(mount.process.pid) / runs))


def twenty_contexts(mount):
    contexts = [mount.context("twenty%d" % i) for i in range(20)]
    for i, context in enumerate(contexts):
        context.submit("a.py", b"6*7+%d\n" % i)
    for i, context in enumerate(contexts):
        if context.read("a.py", "result.txt") != b"%d\n" % (42 + i):
            raise RuntimeError("context %d answers wrongly" % i)


def twenty_kernels(stack):
    kernels = []
    for i in range(20):
        kernels.append(Jupyter())
        stack.callback(kernels[-1].close)
    asked = [kernel.ready().submit("6*7") for kernel in kernels]
    for kernel, message in zip(kernels, asked):
        kernel.finish(message)


@row
def twenty(bench):
    """e. 20 contexts started at once, a Python cell in each, all answered"""
    with Mount(bench) as mount:
        ours = seconds(lambda: twenty_contexts(mount))
    with contextlib.ExitStack() as stack:
        peer = seconds(lambda: twenty_kernels(stack))
    bench.table.add("20 contexts at once, all answered", "%.2f s" % ours, "%.2f s ipykernel" % peer,
                    peer / ours)


@row
def notebook(bench):
    """f. 20 cells one after the other, from nothing"""
    import nbclient
    import nbformat
    cells = ["v%d = %d" % (i, i) if i % 2 else "%d + 1" % i for i in range(20)]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    with contextlib.redirect_stderr(open(os.devnull, "w")):
        peer = seconds(nbclient.NotebookClient(book, kernel_name="python3").execute)
    mount = bench.mount()

    def ours():
        context = mount.context("notebook")
        for i, code in enumerate(cells):
            status = context.run("%02d.py" % i, code.encode(), "done")
            if status != b"ok\n":
                raise RuntimeError("cell %d: %r" % (i, status))
    took = seconds(ours)
    bench.table.add("notebook of 20 cells, with the start", "%.2f s" % took,
                    "%.2f s nbclient" % peer, peer / took)


@row
def resident(bench):
    """memory of the daemon and of a kernel"""
    jupyter, mount = bench.jupyter(), bench.mount()
    context = mount.context("resident")
    context.run("a.py", b"1\n", "result.txt")
    fresh = Jupyter()
    try:
        fresh.ready().run("1")
        peer, peer_rss = private(fresh.pid()), rss(fresh.pid())
    finally:
        fresh.close()
    pid = context.kernel_pid("python")
    bench.table.add("private memory of a Python kernel", "%.1f MB" % (private(pid) / 1e6),
                    "%.1f MB ipykernel" % (peer / 1e6), peer / private(pid))
    bench.table.add("    its RSS", "%.1f MB" % (rss(pid) / 1e6),
                    "%.1f MB ipykernel" % (peer_rss / 1e6), peer_rss / rss(pid))
    bench.table.add("RSS of the daemon", "%.1f MB" % (rss(mount.process.pid) / 1e6))


# --- boxes ---

def run_plain():
    """posix_spawn of /bin/true, to its end."""
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def proportional(pids):
    return sum(memory(pid, "Pss") for pid in pids)


def without_fds(box):
    while box.fds:
        os.close(box.fds.pop())
    return box


def one_box(maker):
    box = maker.up()
    box.close()


@row
def box(bench):
    """a box and its first program, beside a plain exec"""
    sys.path.insert(0, os.path.join(ROOT, "tests", "box"))
    import boxes
    boxes.BOX = os.path.join(bench.build, "box")
    times = 50 if bench.quick else 200
    for who, uid in (("root", None), ("an ordinary user", boxes.NOBODY)):
        if os.getuid() and uid is None:
            continue
        directory = tempfile.mkdtemp(dir=bench.dir)
        for path in (bench.dir, directory):
            os.chmod(path, 0o755)
        maker = boxes.Maker(uid, directory)
        harness = timed(times, lambda: boxes.wait(maker.spawn(["true"], {}, program="/bin/true")), 10)
        ours = timed(times, lambda: one_box(maker), 10)
        cost = median(ours) - median(harness)
        tail = sorted(ours)[int(len(ours) * 0.95)] - median(harness)
        bench.table.add("a box, up and gone, by %s; over plain exec" % who, ms(cost), ms(median(harness)) + " exec",
                        median(ours) / median(harness), "<= 5 ms", cost <= 5e6)
        bench.table.add("    p95", ms(tail), "", 0, "<= 15 ms", tail <= 15e6)
        start = time.perf_counter()
        many = [without_fds(maker.up()) for _ in range(100)]
        up = time.perf_counter() - start
        each = proportional([b.pid for b in many]) / 100
        start = time.perf_counter()
        for b in many:
            os.close(b.socket.detach())
        for b in many:
            boxes.wait(b.pid)
        gone = time.perf_counter() - start
        bench.table.add("100 boxes up", "%.2f s" % up, "", 0, "< 1 s", up < 1)
        bench.table.add("    PSS each", "%.0f KiB" % (each / 1024), "", 0, "<= 512 KiB", each <= 512 << 10)
        bench.table.add("    gone after", "%.2f s" % gone, "", 0, "< 0.2 s", gone < 0.2)


@row
def confined(bench):
    """a warm `x+1` in a box and without one, in turns"""
    times = 20 if bench.quick else 100
    with Mount(bench, opts=",sandbox=none") as bare:
        contexts = [(bench.mount().context("confined"), []), (bare.main(), [])]
        for context, _ in contexts:
            context.run("a.py", b"x = 1\n", "done")
        for _ in range(times):
            for context, taken in contexts:
                taken += timed(20, lambda: context.run("a.py", b"x+1\n", "result.txt"), 2)
    (_, ours), (_, peer) = contexts
    bench.table.add("x+1 in a box, median of %d" % len(ours), ms(median(ours)), ms(median(peer)) + " without",
                    median(peer) / median(ours), ">= 0.95", median(peer) / median(ours) >= 0.95)


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@row
def flood(bench):
    """five contexts that run `yes`, and another one meanwhile"""
    long = 5 if bench.quick else 30
    with Mount(bench) as mount:
        other = mount.context("other")
        other.run("a.py", b"1\n", "done")
        pid = mount.process.pid
        before, cpu = rss(pid), cpu_seconds(pid)
        noisy = [mount.context("yes%d" % i) for i in range(5)]
        start = time.perf_counter()
        for context in noisy:
            context.submit("y.sh", b"#| timeout: %d\nyes\n" % long)
        waits = []
        while time.perf_counter() - start < long - 1:
            waits += timed(1, lambda: other.run("a.py", b"x = 1\nx+1\n", "result.txt"), 0)
            time.sleep(0.2)
        used = (cpu_seconds(pid) - cpu) / (time.perf_counter() - start)
        grown = rss(pid) - before
        for context in noisy:
            context.read("y.sh", "done")
    bench.table.add("five `yes` for %d s: CPUs of the daemon" % long, "%.2f" % used, "", 0, "<= 1", used <= 1)
    bench.table.add("    its RSS grew by", "%.1f MB" % (grown / 1e6), "", 0, "< 32 MB", grown < 32e6)
    bench.table.add("    a cell elsewhere, slowest of %d" % len(waits), ms(max(waits)), "", 0, "< 1 s",
                    max(waits) < 1e9)


# --- languages ---

# language: (its kernel, cell, code, the file to read and what it says, ms that a first and a warm cell may take)
SPOKEN = {
    "Bash": ("bash", "a.sh", b":\n", "done", b"ok\n", 30, 0.5),
    "Python": ("python", "a.py", b"40+2\n", "result.txt", b"42\n", None, None),
    "JavaScript": ("javascript", "a.js", b"40+2\n", "result.txt", b"42\n", 30, 0.8),
    "TypeScript": ("javascript", "a.ts", b"40+2 as number\n", "result.txt", b"42\n", 30, 0.8),
    "R": ("r", "a.r", b"40+2\n", "result.txt", b"[1] 42\n", 30, 1),
    "Java": ("java", "a.java", b"40+2\n", "result.txt", b"42\n", 60, 15),
}
# kernelspec: what it is called, its cell, our language beside it, rounds
PEERS = {
    "python3": ("ipykernel", "a.py", "Python", 500),
    "xpython": ("xeus-python", "a.py", "Python", 500),
    "ir": ("IRkernel", "a.r", "R", 100),
    "octave": ("octave_kernel", "a.m", None, 5),
}


SETTLED = 0.5  # seconds: a spare goes on warming behind its hello, and mostly has waited longer than that


class Spoken:
    """One language: cells of it in new contexts and in one that is warm."""

    def __init__(self, mount, name):
        self.mount, self.name, self.made = mount, name, 0
        self.kernel, self.cell, self.code, self.file, self.says, *self.bars = SPOKEN[name]

    def run(self, context):
        got = context.run(self.cell, self.code, self.file)
        if got != self.says:
            raise RuntimeError("%s answers %r: %s" % (self.name, got, context.read(self.cell, "report.md")))

    def context(self):
        self.made += 1
        return self.mount.context("%s%d" % (self.name, self.made))

    def first(self, times, ready=lambda: None):
        """Nanoseconds of the first cells of so many contexts. READY returns when one may begin."""
        took = []
        for i in range(times):
            context = self.context()
            ready()
            took += timed(1, lambda: self.run(context), 0)
            with open(context.path + "/ctl", "w") as f:
                f.write("remove\n")
        return took

    def spare(self):
        """Waits until the daemon says that one is ready."""
        end = time.monotonic() + 60
        while self.kernel not in self.mount.spares():
            if time.monotonic() > end:
                raise RuntimeError("no spare of %s within 60 s" % self.kernel)
            time.sleep(0.01)
        time.sleep(SETTLED)


def against(bar, taken):
    """The bar and whether it is met, as Table.add wants them."""
    return ("<= %g ms" % bar, taken <= bar * 1e6) if bar else ("", None)


def has_spare(bench, kernel):
    with open(os.path.join(bench.kernels(), kernel, "manifest.json")) as f:
        return json.load(f).get("spare", False)


def speak(bench, cold, warm, name):
    """First and warm cells of one language; returns both medians."""
    start = median(Spoken(cold, name).first(3))
    spoken = Spoken(warm, name)
    spoken.first(1)  # a language that is used has spares
    spared = has_spare(bench, spoken.kernel)
    first = median(spoken.first(2 if bench.quick else 5, spoken.spare if spared else lambda: None))
    bar, met = against(spoken.bars[0], first)
    bench.table.add("%s: first cell of a context%s" % (name, ", a spare ready" if spared else ""), ms(first),
                    ms(start) + " cold", start / first, bar, met)
    context = spoken.context()
    rounds = (100 if name == "Java" else 2000) // (10 if bench.quick else 1)
    again = median(timed(rounds, lambda: spoken.run(context), min(WARM, rounds)))
    bar, met = against(spoken.bars[1], again)
    bench.table.add("    a warm one, median of %d" % rounds, ms(again), "", 0, bar, met)
    return first, again


def bridged(mount, spec):
    """What runs a cell of a kernelspec as a language of the mount; None if there is no bridge to it."""
    cell = PEERS[spec][1]
    context = mount.context("bridge-" + spec)
    try:
        with open("%s/config/kernel/%s" % (context.path, cell.partition(".")[2]), "w") as f:
            f.write(spec)
    except OSError:
        return None
    report = context.run(cell, b"40+2\n", "report.md")
    if b"42" not in report:
        raise RuntimeError("%s answers: %s" % (spec, report))
    return lambda: context.run(cell, b"40+2\n", "done")


def converse(bench, mount, spec):
    """A kernelspec by jupyter_client alone: its first cell, a warm one; and in turns with that, a warm one of the mount."""
    rounds = PEERS[spec][3] // (5 if bench.quick else 1)
    at_once = min(10, rounds)
    start = time.perf_counter_ns()
    kernel = Jupyter(spec)
    try:
        kernel.ready().run("40+2")
        first = time.perf_counter_ns() - start
        alone, ours, through = [], [], bridged(mount, spec)
        for _ in range(max(1, rounds // at_once)):
            alone += timed(at_once, lambda: kernel.run("40+2"), 1)
            ours += timed(at_once, through, 1) if through else []
        return first, median(alone), median(ours) if through else None
    finally:
        kernel.close()


@row
def languages(bench):
    """each language: its first cell in a new context, cold and with a spare; a warm one; Jupyter kernels beside them"""
    from jupyter_client.kernelspec import KernelSpecManager
    installed = KernelSpecManager().find_kernel_specs()
    with Mount(bench, opts=",spares=0") as cold, Mount(bench) as warm:
        ours = {name: speak(bench, cold, warm, name) for name in SPOKEN}
        for spec, (title, _, language, _) in PEERS.items():
            if spec not in installed:
                bench.table.add(title, "not installed")
                continue
            first, again, through = converse(bench, warm, spec)
            if language:
                bench.table.add("%s beside %s: first" % (language, title), ms(ours[language][0]), ms(first),
                                first / ours[language][0])
                bench.table.add("    warm", ms(ours[language][1]), ms(again), again / ours[language][1])
            if through is None:
                bench.table.add("%s through the mount" % title, "no such language")
            elif again > 100e6:  # 1 ms more or less cannot be told of it
                bench.table.add("%s through the mount" % title, ms(through), ms(again) + " jupyter_client", again / through)
            else:
                bench.table.add("%s through the mount; over jupyter_client" % title, ms(through - again),
                                ms(again) + " jupyter_client", again / through, "<= 1 ms", through - again <= 1e6)


# --- main ---

# --- workspace/ beside the file system below, and beside bindfs ---

TREE_FILES = 20000


def make_tree(top, files):
    """200 directories, files of 0 to 4 KiB."""
    data = os.urandom(4096)
    for d in range(200):
        os.makedirs("%s/%d" % (top, d))
        for i in range(files // 200):
            with open("%s/%d/%d" % (top, d, i), "wb", buffering=0) as f:
                f.write(data[:(i * 41) % 4097])


@contextlib.contextmanager
def bindfs(bench, what):
    """A mount of bindfs that caches no name and no attribute, as workspace/."""
    point = tempfile.mkdtemp(dir=bench.dir)
    subprocess.run(["bindfs", "-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0", what, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["fusermount3", "-u", point], check=True)


@row
def tree(bench):
    """a tree of 20,000 small files in workspace/: find, tar, rm -r"""
    files = 2000 if bench.quick else TREE_FILES
    ours = bench.mount().context("tree").path + "/workspace"
    below = tempfile.mkdtemp(dir=bench.dir)
    with bindfs(bench, below) as peer:
        make_tree(ours + "/t", files)
        make_tree(peer + "/t", files)
        # tar to a pipe, for it does not read what goes to /dev/null
        for what, command, times in (("find", "find t -size +1 >/dev/null", 3), ("tar", "tar c t | cat >/dev/null", 3),
                                     ("rm -r", "rm -r t", 1)):
            took = {top: min(seconds(lambda: subprocess.run(command, shell=True, check=True, cwd=top))
                             for _ in range(times)) for top in (ours, peer)}
            bench.table.add("%s of %d small files" % (what, files), "%.2f s" % took[ours], "%.2f s bindfs" % took[peer],
                            took[ours] / took[peer], "<= 2", took[ours] <= 2 * took[peer])


def pass_over(path, size, write):
    """Seconds to read or write the file in pieces of 1 MiB; what is written is on the disk at the end."""
    piece = bytearray(1 << 20)
    fd = os.open(path, os.O_RDWR if write else os.O_RDONLY)
    start = time.perf_counter()
    for _ in range(size >> 20):
        os.write(fd, piece) if write else os.readv(fd, [piece])
    if write:
        os.fsync(fd)
    os.close(fd)
    return time.perf_counter() - start


def drop(path):
    """Out of the memory of the host."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


@row
def big_file(bench):
    """a file of 1 GiB in workspace/: read and write, cold and warm"""
    size = (128 if bench.quick else 1024) << 20
    for how in ("passthrough=on", "passthrough=off"):
        with Mount(bench, opts="," + how) as mount:
            context = mount.context("big")
            with open(context.path + "/config/disk", "w") as f:
                f.write("8G")
            with open(context.path + "/context.json") as f:
                below = os.path.join(mount.state, "contexts", json.load(f)["uuid"], "workspace", "f")
            path = context.path + "/workspace/f"
            with open(path, "wb") as f:
                f.truncate(size)
            pass_over(below, size, True)
            for what, cold, write in (("cold read", True, False), ("warm read", False, False),
                                      ("write and fsync", False, True)):
                took = {}
                for name in (path, below) * 3:  # the better of three, by turns: disks have moods
                    if cold:
                        drop(below)
                    t = pass_over(name, size, write)
                    took[name] = min(took.get(name, t), t)
                rate = {name: size / t / 1e6 for name, t in took.items()}
                bench.table.add("%s of %d MiB, %s" % (what, size >> 20, how), "%.0f MB/s" % rate[path], "%.0f MB/s below" % rate[below],
                                rate[path] / rate[below], ">= 0.9", rate[path] >= 0.9 * rate[below])


def too_long(*args):
    raise TimeoutError("took longer than %d s" % ROW_LIMIT)


def measure(bench, name):
    """True when the row could be measured; whatever it brings, the next one follows."""
    print("%s: %s" % (name, ROWS[name].__doc__), flush=True)
    signal.alarm(ROW_LIMIT)
    try:
        ROWS[name](bench)
        return True
    except Exception as e:
        bench.table.add(name, "not measured", "%s: %s" % (type(e).__name__, str(e)[-300:].strip()))
        traceback.print_exc()
        return False
    finally:
        signal.alarm(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help="one of: " + ", ".join(ROWS))
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, 5,000 runs")
    parser.add_argument("--build", default=os.environ.get("CELLFS_BUILD", ROOT + "/build"))
    parser.add_argument("--keep", action="store_true", help="keep the directory it worked in")
    options = parser.parse_args()
    if options.list:
        return print("\n".join("%-10s %s" % (n, f.__doc__) for n, f in ROWS.items()))
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error("no such row: " + ", ".join(sorted(unknown)))
    signal.signal(signal.SIGALRM, too_long)
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # or each ipykernel warns on stderr
    bench = Bench(options)
    try:
        with bench.on_exit:
            good = [measure(bench, name) for name in options.rows or ROWS]
    finally:
        if options.keep:
            print("kept:", bench.dir)
        else:
            shutil.rmtree(bench.dir, ignore_errors=True)
    print()
    bench.table.show()
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
