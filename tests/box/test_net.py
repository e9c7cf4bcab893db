"""The network of a box (fsd/net.c) with the real programs, in a network namespace that plays the host: it has a
loopback with a secret on it, an address of its own, a default route and nothing behind it."""
import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BOX = os.path.join(os.environ.get("CELLFS_BUILD", os.path.join(ROOT, "build")), "box")
PYTHON = "/usr/bin/python3"
LIMIT = int(os.environ.get("CELLFS_PATIENCE", "20"))  # seconds until a wait is a failure
NOBODY = 65534
CONTEXT_UID = 0x70000007  # as the daemon of root gives them out
HOST = "198.51.100.1"
HOST6 = "2001:db8:100::1"
LOOPBACK = "127.0.0.1", "::1"
# By which the loopback of the host could be reached.
DOORS = ["127.0.0.1", "127.0.0.53", "127.1.2.3", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "10.0.2.2", "10.0.2.3",
         "10.0.2.100", "10.0.2.15", "10.0.2.255", HOST, HOST6, "198.51.100.254", "2001:db8:100::ff", "fd00::2",
         "fe80::1%eth0", "169.254.2.1", "169.254.2.2"]

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a private host takes root")

# What net.c is to the daemon. Commands: s(tart), x (stop), S (both at once), q(uit), n; it prints what it is told.
DRIVER = r"""
#include "net.h"
#include "spawn.h"
#include <fcntl.h>
#include <stdio.h>
static struct loop *l;
static struct net net;
static struct net_link *k;
static struct watch in;
static int ns[2];
static const char *box;
static int64_t t0;
static void said(void *arg, const char *why)
{
	if (why)
		printf("failed %s\n", why);
	else
		printf("up %lld\n", (long long)(mono_us() - t0));
}
static void start(void)
{
	auto_buf struct buf why = { 0 };
	t0 = mono_us();
	if (net_start(&net, l, box, ns[0], ns[1], said, NULL, &k, &why))
		printf("refused %s\n", why.s ? why.s : "");
}
static void on_in(void *arg, uint32_t mask)
{
	char c[2];
	if (read(0, c, 2) != 2 || *c == 'q')
		return loop_quit(l);
	if (*c == 's' || *c == 'S')
		start();
	if (*c == 'x' || *c == 'S') {
		net_stop(k);
		k = NULL;
	}
	if (*c == 'n') /* nothing left to reap? */
		printf("%s\n", list_empty(&net.links) ? "none" : "some");
}
static void after(void *arg)
{
}
int main(int argc, char **argv)
{
	char path[64];
	setvbuf(stdout, NULL, _IOLBF, 0);
	l = loop_new();
	net_find(&net);
	box = argv[1];
	snprintf(path, sizeof(path), "/proc/%s/ns/user", argv[2]);
	ns[0] = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%s/ns/net", argv[2]);
	ns[1] = open(path, O_RDONLY | O_CLOEXEC);
	printf("%s\n", net_name(&net) ? net_name(&net) : "none");
	watch_add(l, &in, 0, EPOLLIN, on_in, NULL);
	loop_run(l, after, NULL);
	watch_del(l, &in);
	net_stop(k);
	net_free(&net);
	loop_free(l);
	puts("bye");
	if (argc > 3) {
		auto_buf struct buf b = { 0 };
		net_resolv(argv[3], &b);
		fputs(b.s, stdout);
	}
	return 0;
}
"""

# A box, as far as its network goes: pid 1 has given up everything, is undumpable, and answers expressions.
STANDIN = r"""
import concurrent.futures, ctypes, errno, fcntl, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
r, w = os.pipe(); r2, w2 = os.pipe()
pid = os.fork()
if pid:
    os.read(r, 1)
    host = int(sys.argv[1])
    if os.getuid():
        open("/proc/%d/setgroups" % pid, "w").write("deny")
    for m in "uid_map", "gid_map":
        open("/proc/%d/%s" % (pid, m), "w").write("1000 %d 1" % host)
    os.write(w2, b"x")
    os.waitpid(pid, 0)
    os._exit(0)
libc.prctl(1, 9)
assert libc.unshare(0x10000000 | 0x20000 | 0x40000000 | 0x08000000 | 0x04000000) == 0, os.strerror(ctypes.get_errno())
s = socket.socket()
fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 0x41))
s.close()
os.write(w, b"x"); os.read(r2, 1)
os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)
assert libc.syscall(126, struct.pack("Ii", 0x20080522, 0), bytes(24)) == 0  # capset: none
libc.prctl(1, 9)

def tcp(addr, port, limit=3):
    try:
        s = socket.create_connection((addr, port), limit)
        s.settimeout(limit)
        return s.recv(100).decode()
    except OSError as e:
        return errno.errorcode.get(e.errno, type(e).__name__)

def udp(addr, port, limit=1):
    try:
        s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(limit)
        s.connect((addr, port))
        s.send(b"?")
        return s.recv(100).decode()
    except OSError as e:
        return errno.errorcode.get(e.errno, type(e).__name__)

def dns(addr, limit):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(limit)
    s.connect((addr, 53))
    s.send(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01")
    return s.recv(100)[:2] == b"\x12\x34"

def unix(name):
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(name)
        return s.recv(100).decode()
    except OSError as e:
        return errno.errorcode[e.errno]

def each(f, addrs, port):
    with concurrent.futures.ThreadPoolExecutor(len(addrs)) as pool:
        return dict(zip(addrs, pool.map(lambda a: f(a, port), addrs)))

def listen(port):
    global listener
    listener = socket.create_server(("0.0.0.0", port))

def interfaces():
    return sorted(n for i, n in socket.if_nameindex())

print(os.getpid(), flush=True)
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""

# The host's servers at the addresses it is given: on loopback a secret and a resolver, elsewhere what everybody may read.
SERVERS = r"""
import contextlib, select, socket, sys
SECRET, PUBLIC = 7001, 7002
LOOPBACK = "127.0.0.1", "::1"
def make(kind, addr, port):
    s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((addr, port))
    if kind == socket.SOCK_STREAM:
        s.listen(50)
    return s
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
says = {}
for kind in TCP, UDP:
    for addr in sys.argv[1:]:
        port, text = (SECRET, b"secret") if addr in LOOPBACK else (PUBLIC, b"public")
        says[make(kind, addr, port)] = text
if LOOPBACK[0] in sys.argv:
    says[make(UDP, "127.0.0.53", 53)] = None
    a = socket.socket(socket.AF_UNIX)
    a.bind("\0cellfs-canary")
    a.listen(5)
    says[a] = b"secret"
print("ready", flush=True)
while True:
    for s in select.select(list(says), [], [])[0]:
        if s.type == UDP:
            data, who = s.recvfrom(1000)
            s.sendto(says[s] or data, who)
        else:
            c, _ = s.accept()
            with c, contextlib.suppress(OSError):  # who asked may have gone
                c.sendall(says[s])
"""

HOST_SETUP = f"""
set -e
mount --make-rprivate /
ip link set lo up
ip link add ext0 type veth peer name ext1
ip link set ext0 up
ip link set ext1 up
ip addr add {HOST}/24 dev ext0
ip addr add {HOST6}/64 dev ext0 nodad
ip route add default via 198.51.100.254
ip -6 route add default via 2001:db8:100::ff
mkdir -p $DIR/dev $DIR/etc
mount -t tmpfs -o mode=755 none $DIR/dev
mkdir -p /dev/net
mknod -m 666 $DIR/dev/tun c 10 200
[ -e /dev/net/tun ] || mount -t tmpfs none /dev/net && : >>/dev/net/tun
mount --bind $DIR/dev/tun /dev/net/tun
echo nameserver 127.0.0.53 >$DIR/resolv.conf
mount --bind $DIR/resolv.conf /etc/resolv.conf
echo ready
exec cat
"""


class Program:
    """A program of a test, spoken to by lines."""

    def __init__(self, *argv, **kw):
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **kw)

    def line(self, limit=LIMIT + 5):  # what it does may take the limit itself
        out = b""
        while not out.endswith(b"\n"):
            assert select.select([self.p.stdout], [], [], limit)[0], "nothing to read: %r" % out
            c = os.read(self.p.stdout.fileno(), 1)
            assert c, "ended after %r" % out
            out += c
        return out.decode().rstrip("\n")

    def say(self, text):
        self.p.stdin.write(text.encode() + b"\n")
        self.p.stdin.flush()

    def ask(self, code):
        self.say(code)
        return eval(self.line())

    def close(self):
        self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()


def children(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return [int(p) for p in f.read().split()]


def descendants(pid):
    out = []
    for p in children(pid):
        out += [p, *descendants(p)]
    return out


def gone(pidfds, limit=LIMIT):
    end = time.monotonic() + limit
    for fd in pidfds:
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            return False
    return True


def serve(stack, enter, *addrs):
    servers = Program(*enter, PYTHON, "-c", SERVERS, *addrs)
    stack.callback(servers.close)
    assert servers.line() == "ready"


class Host:
    def __init__(self, stack):
        self.dir = tempfile.mkdtemp(prefix="cellfs-net-")
        stack.callback(shutil.rmtree, self.dir, ignore_errors=True)
        os.chmod(self.dir, 0o755)
        with open(self.dir + "/driver.c", "w") as f:
            f.write(DRIVER)
        src = [os.path.join(ROOT, "fsd", n + ".c") for n in ("net", "spawn", "loop", "util")]
        subprocess.run(["gcc", "-std=gnu11", "-g", "-D_GNU_SOURCE", "-fsanitize=address,undefined", "-iquote",
                        os.path.join(ROOT, "fsd"), "-o", self.dir + "/driver", self.dir + "/driver.c", *src],
                       check=True)
        shutil.copy(BOX, self.dir + "/box")  # where an ordinary user can read it
        self.net = Program("unshare", "-n", "-m", "sh", "-c", HOST_SETUP, env={**os.environ, "DIR": self.dir})
        stack.callback(self.net.close)
        assert self.net.line() == "ready"
        self.enter = ["nsenter", "-t", str(self.net.p.pid), "-n", "-m", "--"]
        serve(stack, self.enter, *LOOPBACK, HOST, HOST6)

    def only(self, program):
        """A PATH with nothing else in it."""
        d = os.path.join(self.dir, "bin-" + program)
        os.makedirs(d, exist_ok=True)
        if not os.path.exists(os.path.join(d, program)):
            os.symlink(shutil.which(program, path="/usr/bin:/bin"), os.path.join(d, program))
        return d


@pytest.fixture(scope="module")
def host():
    with contextlib.ExitStack() as stack:
        yield Host(stack)


class Case:
    def __init__(self, stack, host, user, path, prelude=()):
        plain = [] if not user else ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--"]
        self.stack = stack
        self.box = Program(*host.enter, *prelude, *plain, PYTHON, "-c", STANDIN, str(NOBODY if user else CONTEXT_UID))
        stack.callback(self.box.close)
        pid = self.box.line()
        self.net = Program(*host.enter, *prelude, *plain, "env", "-i", "PATH=" + path, host.dir + "/driver",
                           host.dir + "/box", pid)
        stack.callback(self.net.close)
        self.program = self.net.line()
        self.box.ask("libc.prctl(4, 0)")
        assert self.box.ask("interfaces()") == ["lo"]

    def start(self):
        self.net.say("s")
        return self.net.line()

    def up(self):
        said = self.start()
        assert said.startswith("up "), said
        return int(said.split()[1]) / 1000

    def processes(self):
        """Of the network: box and what runs under it."""
        fds = [os.pidfd_open(p) for p in descendants(self.net.p.pid)]
        for fd in fds:
            self.stack.callback(os.close, fd)
        return fds


WAYS = {"pasta, root": ("pasta", False), "pasta, user": ("pasta", True), "slirp4netns, user": ("slirp4netns", True)}


@pytest.fixture
def case(host):
    with contextlib.ExitStack() as stack:
        def make(program="pasta", user=False, **kw):
            return Case(stack, host, user, host.only(program), **kw)
        yield make


@pytest.fixture(params=list(WAYS))
def way(request, case):
    program, user = WAYS[request.param]
    # PATH is looked at first, so what is beside it in /usr/bin does not matter for pasta; slirp4netns is
    # taken only where there is no pasta.
    hide = () if program == "pasta" else ("unshare", "-m", "sh", "-c", "mount --bind /dev/null /usr/bin/passt; "
                                          "mount --bind /dev/null /usr/bin/pasta; exec \"$@\"", "sh")
    c = case(program, user, prelude=hide)
    assert c.program == program
    return c


def test_up_and_out(way):
    ms = way.up()
    print("up after %.0f ms" % ms)
    assert way.box.ask("interfaces()") == ["eth0", "lo"]
    assert way.box.ask("tcp(%r, 7002, %d)" % (HOST, LIMIT)) == "public"
    assert way.box.ask("udp(%r, 7002, %d)" % (HOST, LIMIT)) == "public"


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_the_loopback_of_the_host_is_out_of_reach(way, kind):
    way.up()
    got = way.box.ask("each(%s, %r, 7001)" % (kind, DOORS))
    assert len(got) == len(DOORS) and "secret" not in got.values(), got


def test_abstract_sockets_of_the_host_are_out_of_reach(way):
    way.up()
    assert way.box.ask(r"unix('\0cellfs-canary')") == "ECONNREFUSED"


def test_names_by_the_resolver_of_the_host(way):
    way.up()
    assert way.box.ask("dns('10.0.2.3', %d)" % LIMIT)


def test_nobody_comes_in(way, host):
    """A port that the box listens on is no port of the host."""
    way.up()
    assert way.box.ask("listen(7003)") is None
    for addr in ("127.0.0.1", HOST):
        code = "import socket, sys; print(socket.socket().connect_ex((sys.argv[1], 7003)))"
        out = subprocess.run([*host.enter, PYTHON, "-c", code, addr], capture_output=True, check=True, text=True).stdout
        assert out.strip() == "111", addr


def test_the_box_has_no_more_rights_for_it(way):
    way.up()
    status = way.box.ask("open('/proc/self/status').read()")
    assert "CapEff:\t0000000000000000" in status
    assert way.box.ask("libc.setns(0, 0)") == -1


def test_stop(way):
    way.up()
    fds = way.processes()
    assert fds
    way.net.say("x")
    assert gone(fds)
    assert way.box.ask("interfaces()") == ["lo"]
    while True:
        way.net.say("n")
        if way.net.line() == "none":
            break
    way.net.say("q")
    assert way.net.line() == "bye"
    assert way.net.p.wait() == 0


def test_stop_at_once(way):
    way.net.say("S")
    way.net.say("q")
    assert way.net.line() == "bye"
    assert way.net.p.wait() == 0
    assert way.box.ask("interfaces()") == ["lo"]


def test_again(way):
    for i in range(3):
        way.up()
        way.net.say("x")
        while True:
            way.net.say("n")
            if way.net.line() == "none":
                break


def test_it_dies_with_the_daemon(way):
    way.up()
    fds = way.processes()
    os.kill(way.net.p.pid, signal.SIGKILL)
    assert gone(fds)
    assert way.box.ask("interfaces()") == ["lo"]


def test_its_own_end_is_told(way):
    way.up()
    pids = descendants(way.net.p.pid)
    os.kill(pids[-1], signal.SIGKILL)
    assert way.net.line() == "failed %s: it has ended; the box has no network any more" % way.program
    way.net.say("q")
    assert way.net.line() == "bye"


def test_the_end_of_its_supervisor_is_told(way):
    way.up()
    fds = way.processes()
    os.kill(children(way.net.p.pid)[0], signal.SIGKILL)
    assert way.net.line().startswith("failed ")
    assert gone(fds)


def test_the_programs_have_no_more_than_they_need(way):
    way.up()
    assert way.box.ask("tcp(%r, 7002, %d)" % (HOST, LIMIT)) == "public"  # it takes packets only when it has confined itself
    pid = descendants(way.net.p.pid)[-1]
    with open("/proc/%d/status" % pid) as f:
        status = dict(line.rstrip().split(":\t", 1) for line in f if ":\t" in line.rstrip())
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    with open("/proc/%d/environ" % pid) as f:
        assert f.read() == "PATH=/usr/bin:/bin\0"
    lifeline = os.readlink("/proc/%d/fd/7" % children(way.net.p.pid)[0])
    for fd in os.listdir("/proc/%d/fd" % pid):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile, as those of that connection are
            assert os.readlink("/proc/%d/fd/%s" % (pid, fd)) != lifeline
    if way.program == "pasta":
        assert os.listdir("/proc/%d/root/" % pid) == []


# --- when there is none ---

def test_without_a_program(case):
    hide = ("unshare", "-m", "sh", "-c", "for p in passt pasta slirp4netns; do mount --bind /dev/null /usr/bin/$p; "
            "done; exec \"$@\"", "sh")
    for user, names in ((False, "pasta"), (True, "pasta or slirp4netns")):
        c = case("slirp4netns", user, prelude=hide)
        assert c.program == "none"
        assert c.start() == "refused network = on needs the program %s: install the package passt" % names


def test_root_does_not_take_slirp4netns(case):
    hide = ("unshare", "-m", "sh", "-c", "for p in passt pasta; do mount --bind /dev/null /usr/bin/$p; done; exec \"$@\"",
            "sh")
    assert case("slirp4netns", False, prelude=hide).program == "none"


def test_without_dev_net_tun(case):
    hide = ("unshare", "-m", "sh", "-c", "mount -t tmpfs none /dev/net; exec \"$@\"", "sh")
    assert "as root, modprobe tun" in case(prelude=hide).start()


def test_dev_net_tun_of_root_only(case):
    closed = ("unshare", "-m", "sh", "-c", "mount -t tmpfs -o mode=755 none /dev/net; mknod -m 600 /dev/net/tun c 10 200; "
              "exec \"$@\"", "sh")
    assert "chmod 666 /dev/net/tun" in case(user=True, prelude=closed).start()
    case(user=False, prelude=closed).up()


@pytest.mark.parametrize("user", [False, True])
def test_a_host_without_a_route(case, host, user):
    """Either pasta says that there is none, or (since the end of 2024) the box reaches what the host will reach."""
    with contextlib.ExitStack() as stack:
        alone = Program(*host.enter, "unshare", "-n", "sh", "-c", "ip link set lo up; echo ready; exec cat")
        stack.callback(alone.close)
        assert alone.line() == "ready"
        inside = ("nsenter", "-t", str(alone.p.pid), "-n", "--")
        serve(stack, [*host.enter, *inside], *LOOPBACK)
        c = case(user=user, prelude=inside)
        said = c.start()
        if said.startswith("failed pasta: "):
            assert "routable interface" in said and c.box.ask("interfaces()") == ["lo"]
            return
        assert said.startswith("up ") and c.box.ask("interfaces()") == ["eth0", "lo"]
        assert c.box.ask("dns('10.0.2.3', %d)" % LIMIT)
        for kind in ("tcp", "udp"):
            assert "secret" not in c.box.ask("each(%s, %r, 7001)" % (kind, DOORS)).values()
        subprocess.run([*host.enter, *inside, "sh", "-ec", f"""
            ip link add ext0 type veth peer name ext1
            ip link set ext0 up
            ip link set ext1 up
            ip addr add {HOST}/24 dev ext0
            ip route add default via 198.51.100.254"""], check=True)
        serve(stack, [*host.enter, *inside], HOST)
        assert c.box.ask("tcp(%r, 7002, %d)" % (HOST, LIMIT)) == "public"
        for kind in ("tcp", "udp"):
            assert "secret" not in c.box.ask("each(%s, %r, 7001)" % (kind, DOORS)).values()


@pytest.mark.parametrize("host_text, want", [
    ("nameserver 127.0.0.53\noptions edns0\n", []),
    ("# made by hand\nnameserver 192.0.2.7\nnameserver 2001:db8::7\nnameserver 192.0.2.8\n", ["192.0.2.7", "2001:db8::7"]),
    ("nameserver ::1\nnameserver fe80::1%eth0\nnameserver junk\nnameserver 0.0.0.0\nnameserver 192.0.2.9", ["192.0.2.9"]),
    ("", []),
])
def test_resolv_conf(host, tmp_path, host_text, want):
    (tmp_path / "resolv.conf").write_text(host_text)
    for path in (str(tmp_path / "resolv.conf"), *([str(tmp_path / "none")] if not host_text else [])):
        out = subprocess.run([host.dir + "/driver", host.dir + "/box", "1", path], input="",
                             capture_output=True, check=True, text=True).stdout.splitlines()
        assert out[out.index("bye") + 1:] == ["nameserver " + a for a in ["10.0.2.3", *want]]
