"""What the processes of a box are, seen from the host: ids, rights, filters, namespaces, descriptors."""

import os
import pathlib
import re

from host import USER, inside, read

FIRST = 0x70000000  # root's contexts have host uids from here on
NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")


def field(status, name):
    return re.search(rf"^{name}:[ \t]*(.*)$", status, re.M)[1].split()


def uid_of(host, ctx):
    """The host's uid of a context: that of what a cell makes."""
    ran = host.cell(ctx, "who.sh", "touch made; cat /proc/self/uid_map\n")
    inner, outer, count = map(int, ran.out.split())
    assert (inner, count) == (1000, 1), ran
    owners = {os.stat(d / "workspace" / "made").st_uid for d in host.state.glob("contexts/*") if (d / "workspace" / "made").exists()}
    assert outer in owners
    return outer


def test_processes(host, canaries):
    before = host.boxes()
    host.make("who")
    try:
        uid = uid_of(host, "who")
        host.cell("who", "who.py", "import os\nif not os.fork():\n    import time\n    os.setsid()\n    time.sleep(1000)\n")
        boxes = host.boxes() - before
        found = inside(boxes)
        assert len(found) >= 6, found  # pid 1, two supervisors, two drivers, and a child
        assert uid >= FIRST if host.kind == "root" else uid == USER
        for pid, comm in found:
            proc = pathlib.Path(f"/proc/{pid}")
            status = (proc / "status").read_text()
            what = f"{pid} ({comm})"
            assert field(status, "Uid") == [str(uid)] * 4, what
            assert len(set(field(status, "Gid"))) == 1 and field(status, "Gid")[0] != "0", what
            groups = field(status, "Groups")
            assert groups == [] or host.kind == "user", (what, groups)
            for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                assert int(field(status, caps)[0], 16) == 0, (what, caps)
            assert field(status, "NoNewPrivs") == ["1"] and field(status, "Seccomp") == ["2"], what
            assert int(field(status, "Seccomp_filters")[0]) >= 2, what
            for ns in NAMESPACES:
                assert os.readlink(proc / "ns" / ns) != os.readlink(f"/proc/self/ns/{ns}"), (what, ns)
            assert canaries.token.encode() not in (proc / "environ").read_bytes(), what
            assert os.stat(proc / "root/workspace").st_uid == uid and not os.path.exists(proc / "root/root/.bashrc"), what
            if field(status, "NSpid")[-1] != "1":
                assert int((proc / "oom_score_adj").read_text()) >= 500, what
            for fd in (proc / "fd").iterdir():
                try:
                    to = os.readlink(fd)
                except FileNotFoundError:
                    continue  # closed meanwhile
                assert to.startswith(("pipe:", "socket:", "anon_inode:", "/dev/null", "/kernels", "/spool/code", "/proc")), (what, to)
    finally:
        host.remove("who")


def test_contexts_have_uids_of_their_own(host):
    """As root; an ordinary user has but one."""
    names = ["uid1", "uid2", "uid3"]
    for n in names:
        host.make(n)
    try:
        uids = {uid_of(host, n) for n in names}
        assert len(uids) == (3 if host.kind == "root" else 1), uids
        assert 0 not in uids
        if host.kind == "root":
            for d in host.state.glob("contexts/*/workspace"):
                assert os.stat(d).st_mode & 0o077 == 0 or os.stat(d.parent).st_mode & 0o077 == 0, d
    finally:
        for n in names:
            host.remove(n)


def test_the_limits_of_a_kernel(host):
    """Their hard values, of the driver and of the supervisor."""
    before = host.boxes()
    host.make("lim", "processes=77 disk=100M memory=300M")
    try:
        ran = host.cell("lim", "a.sh", "cat /proc/self/limits\n")
        assert ran.status == "ok"
        assert re.search(r"^Max processes\s+77\s+77\b", ran.out, re.M), ran
        assert re.search(r"^Max core file size\s+0\s+0\b", ran.out, re.M), ran
        assert re.search(r"^Max open files\s+1024\s+1024\b", ran.out, re.M), ran
        assert re.search(r"^Max data size\s+(\d+)\s+\1\b", ran.out, re.M), ran
        assert re.search(r"^Max file size\s+(\d+)\s+\1\b", ran.out, re.M), ran
        for pid, _ in inside(host.boxes() - before):
            limits = read(f"/proc/{pid}/limits")
            assert re.search(r"^Max core file size\s+0\s+0\b", limits, re.M), (pid, limits)
    finally:
        host.remove("lim")
