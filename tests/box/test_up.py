"""A box (fsd/box/up.c): what it shows, what it holds, and how it ends, made by root and by an ordinary user."""
import array
import contextlib
import errno
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

import boxes
from boxes import IDS, OWN, alive, python

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="takes root")


@pytest.fixture
def maker(makers):
    yield makers
    makers.stack.close()
    makers.stack = contextlib.ExitStack()


@pytest.fixture(scope="module")
def shared(makers):
    """One box for all the tests that only look."""
    b = boxes.Up(makers, [])
    assert b.state == "up", b.state
    yield b
    b.close()


def mounts(box):
    """Mount point: (type, options of the mount, options of the file system)."""
    got = {}
    for line in box.run("print(json.dumps(open('/proc/self/mountinfo').read().splitlines()))"):
        left, right = line.split(" - ")
        fields = left.split()
        got[fields[4]] = (right.split()[0], set(fields[5].split(",")), set(right.split()[2].split(",")))
    return got



# ---- messages ----

def test_it_says_its_pid_and_comes_up_with_descriptors(maker):
    b = maker.up()
    assert b.said == ["pid %d" % b.pid, "up"] and b.launcher_exit == 0
    for fd, name in zip(b.fds, ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")):
        assert os.readlink("/proc/self/fd/%d" % fd).startswith(name + ":[")
        assert os.fstat(fd).st_ino != os.stat("/proc/self/ns/" + name).st_ino
    assert len(b.fds) == 10
    assert {"self", "1"} <= set(os.listdir(b.fds[7]))
    assert sorted(p for p in os.listdir(b.fds[7]) if p.isdigit()) == ["1"]
    assert os.readlink("lib", dir_fd=b.fds[8]) == os.readlink("/lib")


def test_its_pid_1_is_a_child_of_who_started_the_launcher(maker):
    b = maker.up()
    with open("/proc/%d/stat" % b.pid) as f:
        stat = f.read().rpartition(")")[2].split()
    assert int(stat[1]) == os.getpid() and int(stat[3]) == b.pid  # its own session
    b.end()
    assert b.exit == 0


@pytest.mark.parametrize("options, message", [
    (["--ro=/no/where:/x"], "failed bind 2 /no/where: No such file or directory"),
    (["--rw=/no/where:/x"], "failed bind 2 /no/where: No such file or directory"),
    (["--ro=/usr:x"], "failed options 22 Invalid argument"),
    (["--ro=usr:/x"], "failed options 22 Invalid argument"),
    (["--ro=/usr"], "failed options 22 Invalid argument"),
    (["--net=on"], "failed options 22 Invalid argument"),
    (["--what"], "failed options 22 Invalid argument"),
    (["more"], "failed options 22 Invalid argument"),
    (["--ids=0:0"], "failed options 22 Invalid argument"),
    (["--ids=5:0"], "failed options 22 Invalid argument"),
    (["--ids=0:5"], "failed options 22 Invalid argument"),
    (["--ids=x"], "failed options 22 Invalid argument"),
    (["--tmp=1T0"], None),
])
def test_a_failure_is_told_by_its_step(maker, options, message):
    b = maker.up(*options, fails=True)
    if message:
        assert b.state == message
        assert boxes.recv(b.socket) == ("", [])


def test_without_seccomp_programs_it_does_not_come_up(maker):
    with open("/dev/null") as f:
        keep, maker.filters = maker.filters, [f.fileno()] * 2
        try:
            b = maker.up(fails=True)
        finally:
            maker.filters = keep
    assert b.state.startswith("failed seccomp 22 ")
    assert boxes.wait(b.pid) == 1
    b.pid = 0


@as_root
@pytest.mark.parametrize("ids", ["0:0", "1:1", "%d:%d" % (IDS, IDS), "4294967295:1"])
def test_an_ordinary_user_gets_no_ids_but_his_own(ids):
    with boxes.maker("user") as m:
        b = m.up("--ids=" + ids, fails=True)
        assert b.state.startswith("failed "), b.state


def test_who_has_no_namespaces_left_is_told_so(maker):
    """As the host that has user.max_user_namespaces=0, played by a user namespace without any."""
    if maker.uid is None:
        pytest.skip("as an ordinary user")

    def inside():
        uid = os.getuid()
        boxes.libc.prctl(4, 1)  # else its own /proc entries are root's
        if boxes.libc.unshare(0x10000000):
            raise OSError
        with open("/proc/self/uid_map", "w") as f:
            f.write("0 %d 1" % uid)
        with open("/proc/sys/user/max_user_namespaces", "w") as f:
            f.write("0")
    maker_uid, become = maker.uid, maker.become
    maker.become = lambda: (become(), inside())
    try:
        b = maker.up(fails=True, workspace=False)
    finally:
        maker.become = become
    assert maker_uid and b.state.startswith("failed clone %d " % errno.ENOSPC)


def test_a_launcher_that_is_killed_leaves_nothing(maker):
    """At any moment: pid 1 waits for a byte of it before it does anything, and for the daemon's socket after."""
    before = boxes.children()
    for delay in range(0, 40, 4):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ids = ["--ids=%d:%d" % (IDS, IDS)] if maker.uid is None else []
        pid = maker.spawn(["up", *ids], {OWN: theirs.fileno()})
        theirs.close()
        time.sleep(delay / 10000)
        os.kill(pid, signal.SIGKILL)
        boxes.wait(pid)
        with ours:
            line, fds = boxes.recv(ours)
            while line and line != "up":
                line, fds = boxes.recv(ours)
            for fd in fds:
                os.close(fd)
        for pid in boxes.children() - before:
            boxes.wait(pid)


# ---- the file system ----

def test_root_and_dev_are_what_they_are_and_no_more(shared):
    root, dev, pts = shared.run("print(json.dumps([os.listdir('/'), os.listdir('/dev'), os.listdir('/dev/pts')]))")
    system = {d for d in ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32") if os.path.lexists("/" + d)}
    assert set(root) == system | {"dev", "etc", "home", "proc", "run", "tmp", "var", "workspace"}
    assert set(dev) == {"null", "zero", "full", "random", "urandom", "fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm"}
    assert pts == ["ptmx"]


def test_every_mount_has_its_attributes(shared):
    got = mounts(shared)
    rw = {p for p, m in got.items() if "rw" in m[1]}
    assert rw == {"/proc", "/dev/pts", "/dev/shm", "/tmp", "/workspace"} | {
        "/dev/" + d for d in ("null", "zero", "full", "random", "urandom")}
    for point, (kind, options, _) in got.items():
        assert "nosuid" in options, point
        assert "nodev" in options or point.startswith("/dev/") and point != "/dev/shm", point
    assert {"ro", "nodev"} <= got["/"][1] and got["/"][0] == "tmpfs"
    assert "noexec" in got["/proc"][1] and "noexec" in got["/dev/null"][1]
    assert {"size=262144k", "nr_inodes=65600"} <= got["/tmp"][2]
    assert {"size=65536k", "nr_inodes=16448"} <= got["/dev/shm"][2]
    assert shared.run("print(json.dumps([oct(os.stat(d).st_mode) for d in ('/tmp', '/dev/shm')]))") == ["0o41777"] * 2
    assert {"mode=620", "ptmxmode=666", "max=64"} <= got["/dev/pts"][2]
    assert {"ro", "nosuid", "nodev"} <= got["/usr"][1]
    assert {p for p in got if p.startswith(("/sys", "/run", "/root", "/var", "/mnt"))} <= {"/var/cache/fontconfig"}


def test_what_is_read_only_is(shared):
    dirs = ["/", "/usr", "/etc", "/dev", "/var", "/run", "/home", "/proc", "/etc/ssl", "/usr/bin", "/workspace/..", "/bin"]
    got = shared.run("""
        print(json.dumps([no(os.mkdir, os.path.join(d, 'x')) for d in %r]))""" % dirs)
    assert set(got) <= {"EROFS", "EACCES", "ENOENT"} and got[0] == got[4] == "EROFS"
    got = shared.run("""
        print(json.dumps([no(w, p) for p in ('/etc/passwd', '/etc/hosts', '/usr/bin/env', '/proc/sys/kernel/core_pattern',
            '/proc/sys/vm/drop_caches', '/proc/sysrq-trigger', '/proc/sys/kernel/hostname', '/proc/sys/user/max_user_namespaces',
            '/proc/sys/net/ipv4/ip_forward', '/proc/kcore')]))""")
    assert got == [
        "EROFS", "EROFS", "EACCES"] + [e if e == "ENOENT" else "EACCES" for e in got[3:]]
    assert shared.run("""
        print(json.dumps([no(os.mkdir, d + '/x') for d in ('/tmp', '/dev/shm', '/workspace', '/var/tmp')]))
        [os.rmdir(d + '/x') for d in ('/dev/shm', '/workspace', '/tmp')]""") == ["OK", "OK", "OK", "EEXIST"]


def test_etc_is_made_up(shared):
    etc = shared.run("""
        print(json.dumps({n: open('/etc/' + n).read() for n in
            ('passwd', 'group', 'hosts', 'hostname', 'nsswitch.conf', 'host.conf')}))""")
    assert [line.split(":")[0] for line in etc["passwd"].splitlines()] == ["user", "nobody"]
    assert etc["passwd"].startswith("user:x:1000:1000:user:/home/user:")
    assert etc["group"] == "user:x:1000:\nnogroup:x:65534:\n" and etc["hostname"] == "sandbox\n"
    assert "localhost" in etc["hosts"] and "files" in etc["nsswitch.conf"]
    names = set(shared.run("print(json.dumps(os.listdir('/etc')))"))
    assert not names & {"shadow", "gshadow", "machine-id", "ssh", "sudoers", "fstab", "resolv.conf", "crontab", "environment",
                        "profile", "default", "init.d", "systemd", "apt", "mtab", "shells", "subuid", "krb5.conf"}


def test_nothing_of_the_host_is_there(shared, maker):
    d = maker.directory
    paths = ["/etc/shadow", "/root", "/sys", "/sys/kernel", "/boot", "/mnt", "/opt", "/srv", "/var/lib", "/var/log",
             "/dev/mem", "/dev/fuse", "/dev/kmsg", "/dev/tty", "/dev/console", "/run/user", d, "/.dockerenv", "/oldroot",
             "/workspace/../.." + d, "/proc/1/root" + d, "/proc/self/root" + d, "/proc/self/cwd/../../../.." + d]
    assert shared.run("print(json.dumps([p for p in %r if os.path.lexists(p)]))" % paths) == []
    assert shared.run("print(json.dumps(os.listdir('/run')))") == []


def test_binds_are_where_they_belong(maker):
    d = tempfile.mkdtemp(dir=maker.directory)
    os.chmod(d, 0o755)
    for name in ("ro", "rw", "a:b"):
        os.mkdir(os.path.join(d, name))
        with open(os.path.join(d, name, "file"), "w") as f:
            f.write(name)
        if ROOT:
            os.chown(os.path.join(d, name), maker.owner, maker.owner)
    b = maker.up("--ro=%s/ro:/deep/down/ro" % d, "--rw=%s/rw:/home/user" % d, "--ro=%s/a:b:/c" % d,
                 "--ro=%s/ro/file:/etc/one" % d, "--text=/etc/resolv.conf=nameserver 10.0.2.3\n", "--text=/etc/a=b=c",
                 "--tmp=1048576", "--shm=2097152")
    assert b.run("""
        w = lambda p: open(p, 'w')
        r = lambda p: open(p).read()
        print(json.dumps([r('/deep/down/ro/file'), no(w, '/deep/down/ro/new'), r('/home/user/file'), no(w, '/home/user/new'),
            r('/c/file'), r('/etc/one'), no(w, '/etc/one'), r('/etc/resolv.conf'), r('/etc/a')]))
    """) == ["ro", "EROFS", "rw", "OK", "a:b", "ro", "EROFS", "nameserver 10.0.2.3\n", "b=c"]
    assert os.stat(d + "/rw/new").st_uid == os.stat(d + "/rw/new").st_gid == maker.owner
    got = mounts(b)
    assert {"size=1024k"} <= got["/tmp"][2] and {"size=2048k"} <= got["/dev/shm"][2]
    for to, mode in (("/deep/down/ro", "ro"), ("/home/user", "rw"), ("/c", "ro"), ("/etc/one", "ro")):
        assert {mode, "nosuid", "nodev"} <= got[to][1], to


def test_a_prefix_that_cannot_be_bound_is_missing_and_no_more(maker):
    d = tempfile.mkdtemp(dir=maker.directory)
    os.chmod(d, 0o755)
    os.makedirs(d + "/real/bin")
    open(d + "/real/bin/program", "w").close()
    os.symlink("real", d + "/link")
    os.symlink("loop", d + "/loop")
    b = maker.up(*("--prefix=%s/%s" % (d, odd) for odd in (
        "none:/p/none", "link:/p/link", "link/bin:/p/in-link", "loop/x:/p/loop", "real/bin/program/x:/p/file",
        "real:/p/real", "real/bin:/p/real/not-there", "real:/p/real/bin/program/x")))
    assert b.run("""
        print(json.dumps([sorted(os.listdir('/p')), os.listdir('/p/real'), os.listdir('/p/real/bin'), no(os.mkdir, '/p/real/new')]))
    """) == [["real"], ["bin"], ["program"], "EROFS"]


def test_tmp_and_shm_end_at_their_size(maker):
    b = maker.up("--tmp=1048576", "--shm=1048576")
    assert b.run("""
        def fill(path):
            with open(path, 'wb', 0) as f:
                for i in range(32): f.write(bytes(65536))
        def many(d):
            for i in range(2000): os.mkdir('%s/%d' % (d, i))
        print(json.dumps([no(fill, '/tmp/x'), no(fill, '/dev/shm/x'), os.path.getsize('/tmp/x'), no(many, '/tmp')]))
    """) == ["ENOSPC", "ENOSPC", 1048576, "ENOSPC"]


def test_a_setuid_program_and_a_device_of_a_bind_are_dead(maker):
    d = tempfile.mkdtemp(dir=maker.directory)
    os.chmod(d, 0o755)
    shutil.copy("/usr/bin/id", d + "/id")
    os.chmod(d + "/id", 0o4755)
    if ROOT:
        os.mknod(d + "/null", 0o20666, os.makedev(1, 3))
        os.chmod(d + "/null", 0o666)
    b = maker.up("--ro=%s:/x" % d)
    assert b.run("""
        import subprocess
        print(json.dumps([subprocess.check_output(['/x/id', '-u']).decode(), no(open, '/x/null')]))
    """) == ["1000\n", "EACCES" if ROOT else "ENOENT"]


@as_root
def test_root_binds_what_lies_below_anothers_closed_directory():
    with boxes.maker("root") as m:
        closed = tempfile.mkdtemp(dir=m.directory)
        os.mkdir(closed + "/ws")
        os.chown(closed + "/ws", IDS, IDS)
        os.chmod(closed, 0o700)
        os.chown(closed, 12345, 12345)
        b = m.up("--rw=%s/ws:/workspace" % closed, workspace=False)
        assert b.run("open('x', 'w').write('y'); print(json.dumps(os.listdir('.')))") == ["x"]
        assert os.stat(closed + "/ws/x").st_uid == IDS


# ---- who one is ----

def test_ids_groups_and_maps(shared, maker):
    got = shared.run("""
        maps = [open('/proc/self/' + m).read().split() for m in ('uid_map', 'gid_map')]
        print(json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), maps, open('/proc/self/setgroups').read().strip(),
                          os.stat('/workspace').st_uid, os.stat('/usr').st_uid]))""")
    ids = [["1000", str(maker.owner), "1"]] * 2
    assert got[:2] == [[1000] * 3] * 2
    assert set(got[2]) <= (set() if maker.uid is None or ROOT else {1000, 65534})
    assert got[3] == ids and got[4] == ("allow" if maker.uid is None else "deny")
    assert got[5:] == [1000, 65534]
    for name in ("Uid", "Gid"):
        assert status(shared.pid)[name].split() == [str(maker.owner)] * 4


def status(pid):
    with open("/proc/%s/status" % pid) as f:
        return dict(line[:-1].split(":\t", 1) for line in f if ":\t" in line)


CAPS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def test_nobody_has_a_capability(shared):
    for s in (status(shared.pid),
              dict(line.split(":\t", 1) for line in shared.run(
                  "print(json.dumps(open('/proc/self/status').read().splitlines()))") if ":\t" in line)):
        assert {s[c] for c in CAPS} == {"0" * 16}
        assert (s["NoNewPrivs"], s["Seccomp"]) == ("1", "2") and s.get("Seccomp_filters", "2") == "2"
    assert shared.run("""
        print(json.dumps([no(os.setuid, 0), no(os.setgid, 0), no(os.setgroups, [0]), no(os.chown, '/workspace', 0, 0),
            no(os.setxattr, '/workspace', 'security.capability', b'x' * 20), no(os.nice, -1),
            no(os.sched_setscheduler, 0, 1, os.sched_param(1))]))
    """) == ["EINVAL", "EINVAL", "EPERM", "EINVAL", "EINVAL", "EPERM", "EPERM"]
    b = "import subprocess; print(json.dumps(subprocess.run(['/usr/bin/unshare', '-Ur', 'true']).returncode))"
    assert shared.run(b) != 0


def test_pid_1_is_opaque(shared):
    got = shared.run("""
        files = ['mem', 'environ', 'maps', 'auxv', 'io', 'syscall', 'stack', 'pagemap', 'personality', 'smaps']
        links = ['root', 'cwd', 'exe', 'ns/mnt', 'ns/user']
        read = lambda p: open(p, 'rb').read(1)
        print(json.dumps([{f: no(read, '/proc/1/' + f) for f in files}, {l: no(os.readlink, '/proc/1/' + l) for l in links},
            {d: no(os.listdir, '/proc/1/' + d) for d in ('fd', 'fdinfo', 'map_files', 'root', 'cwd')},
            open('/proc/1/cmdline').read().strip(chr(0)), open('/proc/1/comm').read()]))""")
    for answers in got[:3]:
        assert set(answers.values()) <= {"EACCES", "EPERM", "ENOENT"}, answers
    assert got[0]["mem"] == got[0]["environ"] == got[2]["fd"] == "EACCES"
    assert got[3] == "box" and got[4] == "box\n"


@as_root
def test_pid_1_holds_no_memory_of_paths_and_no_descriptor_but_its_socket(shared):
    with open("/proc/%d/environ" % shared.pid, "rb") as f:
        assert f.read() == b""
    boxes.until(lambda: os.listdir("/proc/%d/fd" % shared.pid) == [str(OWN)])  # it says `up` before it closes the others
    assert os.readlink("/proc/%d/cwd" % shared.pid) == "/"


def test_signals_from_inside_do_not_reach_pid_1(maker):
    b = maker.up()
    b.run("""
        for s in range(1, 65):
            try: os.kill(1, s)
            except PermissionError: pass  # the Landlock domain of a kernel
        print(1)""")
    k = b.join("/bin/sh", "-c", "kill -9 -1; kill -9 1; echo alive; exit 3")
    assert k.line() == "alive" and k.result() == "exited 3"
    assert alive(b.pid) and b.run("print(5)") == 5


def test_the_whole_box_is_of_its_own(shared):
    assert shared.run("""
        import socket
        print(json.dumps([socket.gethostname(), os.uname().nodename, sorted(p for p in os.listdir('/proc') if p.isdigit())[:1],
                          [i[1] for i in socket.if_nameindex()], open('/proc/net/route').read().count(chr(10)),
                          open('/proc/sysvipc/shm').read().count(chr(10)), open('/proc/net/unix').read().count(chr(10))]))
    """)[:4] == ["sandbox", "sandbox", ["1"], ["lo"]]


@pytest.mark.parametrize("host, family", [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_its_loopback_is_up_and_not_the_hosts(shared, host, family):
    with socket.socket(family) as s:
        try:
            s.bind((host, 0))
        except OSError:
            pytest.skip("no %s here" % host)
        s.listen()
        assert shared.run("""
            mine = socket.create_server((%r, 0), family=%d)
            c = socket.create_connection(mine.getsockname()[:2])
            print(json.dumps([no(socket.create_connection, (%r, %d)), no(socket.create_connection, ('192.0.2.1', 80))]))
        """ % (host, family, host, s.getsockname()[1])) == ["ECONNREFUSED", "ENETUNREACH"]


def test_sysv_and_posix_ipc_and_abstract_sockets_of_the_host_are_not_there(shared):
    key = 0x63656C6C + os.getpid()
    shmid = boxes.libc.shmget(key, 4096, 0o1666)
    assert shmid >= 0
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("\0cellfs-up-%d" % os.getpid())
        s.listen()
        try:
            assert shared.run("""
                print(json.dumps([libc.shmget(%d, 4096, 0), errno.errorcode[ctypes.get_errno()],
                    no(socket.socket(socket.AF_UNIX).connect, chr(0) + 'cellfs-up-%d')]))
            """ % (key, os.getpid())) == [-1, "ENOENT", "ECONNREFUSED"]
        finally:
            boxes.libc.shmctl(shmid, 0, None)


def test_net_host_is_the_hosts_network_and_nothing_else(maker):
    b = maker.up("--net=host")
    assert os.fstat(b.fds[3]).st_ino == os.stat("/proc/self/ns/net").st_ino
    with socket.create_server(("127.0.0.1", 0)) as s:
        assert b.run("""
            s = socket.create_connection(('127.0.0.1', %d))
            print(json.dumps([socket.gethostname(), sorted(p for p in os.listdir('/proc') if p.isdigit())[:1]]))
        """ % s.getsockname()[1]) == ["sandbox", ["1"]]
    if boxes.landlock_abi() >= 6:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("\0cellfs-net-%d" % os.getpid())
            s.listen()
            assert b.run("""
                print(json.dumps(no(socket.socket(socket.AF_UNIX).connect, chr(0) + 'cellfs-net-%d')))
            """ % os.getpid()) == "EPERM"
    b.end()


def test_the_users_share_of_the_kernel_is_small(shared):
    assert shared.run("""
        names = ['max_user_namespaces', 'max_inotify_instances', 'max_inotify_watches', 'max_fanotify_groups', 'max_fanotify_marks']
        print(json.dumps([int(open('/proc/sys/user/' + n).read()) if os.path.exists('/proc/sys/user/' + n) else 0 for n in names]))
    """) == [0, 32, 16384, 0, 0]
    assert shared.run("""
        n = 0
        while libc.inotify_init() >= 0: n += 1
        ptys = 0
        try:
            while True: os.openpty(); ptys += 1
        except OSError: pass
        print(json.dumps([n, ptys]))
    """) == [32, 64]


def test_inherited_descriptors_and_environment_reach_nobody(maker):
    b = maker.up(strangers=20, env={"SECRET": "s", "PATH": "/usr/bin"})
    if ROOT:
        boxes.until(lambda: os.listdir("/proc/%d/fd" % b.pid) == [str(OWN)])
    k = b.join("/bin/sh", "-c", "echo /proc/$$/fd/*; tr '\\0' ' ' < /proc/$$/environ; tr '\\0' ' ' < /proc/1/environ", strangers=20,
               env={"A": "1"})
    lines = boxes.read_all(k.out).decode().split("\n")
    assert [p.split("/")[-1] for p in lines[0].split()][:7] == list("0123456") and len(lines[0].split()) <= 8
    assert lines[1:] == ["A=1 "] and k.result() == "exited 2"  # the second cannot be read


def test_pid_1_limits_itself(shared):
    boxes.until(lambda: "open files            64 " in open("/proc/%d/limits" % shared.pid).read())
    limits = dict(line[:26].strip() and (line[:26].strip(), line[26:].split()[:2])
                  for line in open("/proc/%d/limits" % shared.pid).read().splitlines()[1:])
    assert limits["Max core file size"] == limits["Max file size"] == ["0", "0"]
    assert limits["Max data size"] == [str(64 << 20)] * 2 and limits["Max open files"] == ["64", "64"]


# ---- two boxes ----

def test_two_boxes_do_not_see_each_other(maker):
    """Of one uid, as two contexts of an ordinary user are."""
    a, b = maker.up(workspace=False), maker.up(workspace=False)
    ka = a.join(*python("""
        import os, socket
        s = socket.socket(socket.AF_UNIX); s.bind(chr(0) + 'a'); s.listen()
        t = socket.create_server(('127.0.0.1', 4000))
        open('/tmp/a', 'w'); open('/dev/shm/a', 'w')
        print('ready', flush=True)
        os.read(3, 1)"""), cwd="/tmp")
    assert ka.line() == "ready"
    assert b.run("""
        def kill_all():
            for p in range(2, 40):
                if p != os.getpid() and p != os.getppid():
                    try: os.kill(p, 9)
                    except ProcessLookupError: pass
        kill_all()
        print(json.dumps([os.listdir('/tmp'), os.listdir('/dev/shm'), no(socket.create_connection, ('127.0.0.1', 4000)),
            no(socket.socket(socket.AF_UNIX).connect, chr(0) + 'a'), len([p for p in os.listdir('/proc') if p.isdigit()])]))
    """, cwd="/tmp") == [[], [], "ECONNREFUSED", "ECONNREFUSED", 3]
    os.write(ka.put, b"x")
    assert ka.result() == "exited 0"
    for fd in range(7):
        assert os.fstat(a.fds[fd]).st_ino != os.fstat(b.fds[fd]).st_ino


# ---- the end ----

HARD_TO_KILL = """
    import ctypes, os, signal, sys
    def daemon(n):
        if os.fork(): return os.wait()
        os.setsid()
        if os.fork(): os._exit(0)
        ctypes.CDLL(None).prctl(1, 0)
        for s in range(1, 65):
            try: signal.signal(s, signal.SIG_IGN)
            except (OSError, ValueError): pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        print('here', flush=True)
        if n: os.kill(os.getpid(), signal.SIGSTOP)
        while True: signal.pause()
    for n in range(3): daemon(n % 2)
    os.read(3, 1)
"""


def busy_box(maker):
    b = maker.up()
    k = b.join(*python(HARD_TO_KILL))
    for i in range(3):
        assert k.line() == "here"
    boxes.until(lambda: len(boxes.processes(b.pid)) == 6)  # the last of those between may still be going
    return b, k


def test_the_end_of_the_socket_ends_everything_at_once(maker):
    b, k = busy_box(maker)
    pids = boxes.processes(b.pid)
    start = time.monotonic()
    b.socket.close()
    assert boxes.wait(k.pid) == -9  # before pid 1, which waits in the kernel until nobody is left, zombies too
    k.pid = 0
    b.end()
    assert b.exit == 0 and time.monotonic() - start < 1
    assert boxes.read_all(k.out, 1) == b""
    assert not any(map(alive, pids))


def test_the_death_of_the_daemon_ends_everything(maker):
    """It gets a SIGKILL and can do nothing; the box's processes are ours to see only by their numbers."""
    r, w = os.pipe()
    boxes.libc.prctl(36, 1, 0, 0, 0)  # to reap what it leaves
    daemon = os.fork()
    if daemon == 0:
        try:
            b, k = busy_box(maker)
            os.write(w, b"%s\n" % " ".join(map(str, boxes.processes(b.pid))).encode())
            signal.pause()
        finally:
            os._exit(1)
    os.close(w)
    pids = list(map(int, boxes.read_line(r).split()))
    assert len(pids) == 6 and all(map(alive, pids))
    os.kill(daemon, signal.SIGKILL)
    os.waitpid(daemon, 0)
    end = looked = time.monotonic() + 1
    while any(map(alive, pids)):
        for pid in boxes.children() & set(pids):
            os.waitpid(pid, os.WNOHANG)
        assert looked <= end
        time.sleep(0.002)
        looked = time.monotonic()
    for pid in boxes.children() & set(pids):
        boxes.wait(pid)
    boxes.libc.prctl(36, 0, 0, 0, 0)
    os.close(r)


def test_sweep_ends_what_a_killed_supervisor_left_and_nothing_else(maker):
    b, k = busy_box(maker)
    other = b.join(*python("import os, signal\nif os.fork(): print(flush=True), os.read(3, 1)\nelse: signal.pause()"))
    other.line()
    os.kill(k.pid, signal.SIGKILL)
    assert boxes.wait(k.pid) == -9
    k.pid = 0
    assert select.select([k.pidfd], [], [], boxes.LIMIT)[0]  # the driver dies with it; what that left does not
    keep = set(boxes.processes(other.driver))
    b.socket.send(b"sweep")
    assert boxes.recv(b.socket) == ("swept", [])
    assert boxes.read_all(k.out, 1) == b""
    left = set(boxes.processes(b.pid))
    assert len(left) == 4 and left < keep  # pid 1, the other supervisor, driver and child
    assert alive(other.driver) and alive(other.pid)
    os.write(other.put, b"x")
    assert other.result() == "exited 0"
    b.socket.send(b"sweep")  # of an empty box
    assert boxes.recv(b.socket) == ("swept", [])
    b.socket.send(b"what?")
    assert b.run("print(1)") == 1


def test_pid_1_leaves_no_zombies(maker):
    """Orphans come to pid 1 only from a supervisor that was killed."""
    b = maker.up()
    k = b.join(*python("""
        import ctypes, os, time
        for i in range(40):
            if os.fork() == 0:
                ctypes.CDLL(None).prctl(1, 0)
                os.setsid()
                print('.', flush=True)
                os.read(3, 1)
                os._exit(0)
        time.sleep(1000)"""))
    for i in range(40):
        k.line()
    os.kill(k.pid, signal.SIGKILL)
    boxes.wait(k.pid)
    k.pid = 0
    os.write(k.put, b"x" * 40)
    boxes.read_all(k.out)
    boxes.until(lambda: boxes.processes(b.pid) == [b.pid])


def test_a_user_who_sends_many_descriptors_hinders_no_box(maker):
    """The kernel counts the descriptors that a user has on their way in sockets, for all his boxes together."""
    a = maker.up()
    k = a.join(*python("""
        import array, os, socket
        fds, pairs = array.array('i', [0] * 250), []
        try:
            while True:
                pairs.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
                pairs[-1][0].sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        except OSError as e:
            print(e.errno, flush=True)
        os.read(3, 1)"""))
    assert k.line() == str(errno.ETOOMANYREFS)
    b = maker.up(workspace=False)
    assert b.run("print(1)", cwd="/tmp") == 1
    assert a.run("print(1)") == 1
