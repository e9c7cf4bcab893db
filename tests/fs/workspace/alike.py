"""What pjdfstest looks at in its groups mkdir, open, unlink, rename, truncate, ftruncate, symlink and chmod, and rmdir,
link, utimens, attributes beside them: each function does something in an empty directory and tells what came of it. The
same is done on the file system below, and what is told has to be the same.

    alike.py DIR [UID]      prints a JSON object, as that user
"""

import errno
import fcntl
import json
import os
import stat
import sys
import time

LONG = "n" * 255
DEEP = "/".join(["d" * 200] * 21)  # longer than PATH_MAX
checks = {}


def check(f):
    checks[f.__name__] = f
    return f


def name(e):
    return errno.errorcode.get(e, str(e))


def say(call, *args, **kw):
    """What a call gives: its result, or the name of its error."""
    try:
        got = call(*args, **kw)
    except OSError as e:
        return name(e.errno)
    return got if isinstance(got, (int, str, list, dict)) or got is None else str(got)


def make(path, text=b"text", mode=0o644):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)
    os.write(fd, text)
    os.close(fd)


def text(path):
    with open(path, "rb") as f:
        return f.read().decode("latin-1")


def facts(path):
    """What a name shows, without what differs by nature (numbers, times)."""
    try:
        st = os.lstat(path)
    except OSError as e:
        return name(e.errno)
    size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
    links = 0 if stat.S_ISDIR(st.st_mode) else st.st_nlink
    return [oct(st.st_mode), size, links]


def opened(path, flags, mode=0o644):
    try:
        fd = os.open(path, flags, mode)
    except OSError as e:
        return name(e.errno)
    os.close(fd)
    return "ok"


def moved(path, act):
    """Which of the times of PATH an act changes."""
    os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)
    a = os.lstat(path)
    time.sleep(0.02)
    r = say(act)
    b = os.lstat(path)
    return [r, *(k for k in ("st_mtime_ns", "st_ctime_ns") if getattr(a, k) != getattr(b, k))]


PATHS = {"none": "none/x", "file in the way": "f/x", "long": LONG + "n", "longest": LONG, "very deep": DEEP, "loop": "loop/x",
         "empty": "", "dot": ".", "dots": "..", "slash": "d/", "link": "l", "dangling": "dangling", "file": "f", "dir": "d",
         "file with a slash": "f/"}


def furnish():
    make("f")
    os.mkdir("d")
    make("d/inside")
    os.symlink("f", "l")
    os.symlink("nowhere", "dangling")
    os.symlink("loop", "loop")


def at_all_paths(call):
    """The errors of CALL(path) for every kind of path; the directory is furnished anew for each."""
    def one(case):
        os.mkdir("case")
        os.chdir("case")
        furnish()
        r = [say(call, PATHS[case]), facts("f"), facts("d"), facts("l"), facts("dangling")]
        os.chdir("..")
        os.system("chmod -R u+rwx case; rm -rf case")
        return r
    return {case: one(case) for case in PATHS}


@check
def mkdir_paths():
    return at_all_paths(os.mkdir)


@check
def mkdir_modes():
    out = {}
    for umask in (0, 0o022, 0o077, 0o777):
        os.umask(umask)
        for mode in (0o755, 0o151, 0o700, 0o777, 0o1777):
            os.mkdir(f"m{umask:o}-{mode:o}", mode)
            out[f"{umask:o} {mode:o}"] = facts(f"m{umask:o}-{mode:o}")
    os.umask(0)
    return out


@check
def mkdir_times():
    os.mkdir("p")
    return [moved("p", lambda: os.mkdir("p/q")), moved("p", lambda: os.mkdir("p/q"))]


@check
def rmdir_paths():
    return at_all_paths(os.rmdir)


@check
def rmdir_of_the_empty_and_the_open():
    os.mkdir("a")
    fd = os.open("a", os.O_RDONLY)
    os.rmdir("a")
    return [say(os.listdir, fd), say(os.mkdir, "x", dir_fd=fd), os.fstat(fd).st_nlink, facts("a")]


@check
def open_paths():
    return {str(flags): at_all_paths(lambda p: opened(p, flags)) for flags in (
        os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT | os.O_WRONLY, os.O_CREAT | os.O_EXCL | os.O_RDWR, os.O_DIRECTORY,
        os.O_WRONLY | os.O_TRUNC, os.O_NOFOLLOW, os.O_CREAT | os.O_DIRECTORY, os.O_CREAT | os.O_NOFOLLOW | os.O_WRONLY)}


@check
def open_modes():
    out = {}
    for umask in (0, 0o022, 0o070, 0o777):
        os.umask(umask)
        for mode in (0o755, 0o151, 0o644, 0o666, 0o000, 0o200):
            n = f"o{umask:o}-{mode:o}"
            out[n] = [opened(n, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), facts(n)]
    os.umask(0)
    return out


@check
def open_rights():
    out = {}
    for mode in (0o000, 0o100, 0o200, 0o400, 0o600, 0o007, 0o070):
        make(f"r{mode:o}")
        os.chmod(f"r{mode:o}", mode)
        out[oct(mode)] = [opened(f"r{mode:o}", f) for f in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC)]
    for mode in (0o000, 0o300, 0o500, 0o600, 0o700):
        os.mkdir(f"d{mode:o}")
        make(f"d{mode:o}/f")
        os.chmod(f"d{mode:o}", mode)
        d = f"d{mode:o}"
        out["dir " + oct(mode)] = [opened(d + "/f", os.O_RDONLY), opened(d + "/new", os.O_CREAT | os.O_WRONLY),
                                   say(lambda: sorted(os.listdir(d))), say(os.mkdir, d + "/sub"), say(os.unlink, d + "/f")]
        os.chmod(d, 0o700)
    return out


@check
def open_with_no_rights_that_is_made_can_be_written():
    fd = os.open("f", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0)
    return [os.write(fd, b"abc"), say(os.ftruncate, fd, 1), os.pread(fd, 9, 0).decode(), facts("f")]


@check
def open_truncates_and_appends():
    make("f", b"12345678")
    a = os.open("f", os.O_WRONLY | os.O_APPEND)
    b = os.open("f", os.O_WRONLY | os.O_APPEND)
    for fd in (a, b, a, b):
        os.write(fd, b"x")
    os.pwrite(a, b"y", 0)
    out = [text("f"), moved("f", lambda: opened("f", os.O_WRONLY | os.O_TRUNC)), facts("f")]
    os.write(a, b"z")
    return out + [text("f")]


@check
def open_times():
    os.mkdir("p")
    return [moved("p", lambda: opened("p/q", os.O_CREAT | os.O_WRONLY)), moved("p", lambda: opened("p/q", os.O_CREAT | os.O_WRONLY)),
            moved("p/q", lambda: opened("p/q", os.O_RDONLY)), moved("p/q", lambda: os.truncate("p/q", 0)),
            moved("p/q", lambda: os.truncate("p/q", 5)), moved("p/q", lambda: make("p/q"))]


@check
def unlink_paths():
    return at_all_paths(os.unlink)


@check
def unlink_of_what_is_open():
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"still there")
    os.mkdir("p")
    os.rename("f", "p/f")
    out = [moved("p", lambda: os.unlink("p/f")), facts("p/f"), os.fstat(fd).st_nlink, os.pread(fd, 99, 0).decode(), os.write(fd, b"!")]
    make("p/f", b"another")
    return out + [os.fstat(fd).st_size, say(os.ftruncate, fd, 3), say(os.fchmod, fd, 0o600), os.pread(fd, 99, 0).decode(), text("p/f")]


@check
def unlink_and_links():
    make("a")
    os.link("a", "b")
    os.link("b", "c")
    out = [facts("a"), moved("a", lambda: os.unlink("b")), facts("a"), facts("c")]
    os.truncate("c", 1)
    return out + [facts("a"), text("a")]


@check
def link_paths():
    return [at_all_paths(lambda p: os.link(p, "new", follow_symlinks=False)), at_all_paths(lambda p: os.link("f", p))]


@check
def rename_paths():
    return [at_all_paths(lambda p: os.rename(p, "new")), at_all_paths(lambda p: os.rename("f", p)),
            at_all_paths(lambda p: os.rename("d", p))]


@check
def rename_over():
    out = {}
    kinds = ("file", "empty", "full", "link", "none")
    for a in kinds:
        for b in kinds:
            os.mkdir("case")
            os.chdir("case")
            for n, kind in (("a", a), ("b", b)):
                if kind == "file":
                    make(n, n.encode())
                elif kind == "link":
                    os.symlink("to-" + n, n)
                elif kind != "none":
                    os.mkdir(n)
                    if kind == "full":
                        make(n + "/in")
            out[f"{a} {b}"] = [say(os.rename, "a", "b"), facts("a"), facts("b"), say(lambda: sorted(os.listdir("b")))]
            os.chdir("..")
            os.system("rm -rf case")
    return out


@check
def rename_into_itself():
    os.makedirs("a/b/c")
    return [say(os.rename, "a", "a/b/x"), say(os.rename, "a/b", "a"), say(os.rename, "a/b/c", "a/b/c"), say(os.rename, "a", "a/b/c")]


@check
def rename_of_links_of_one_file():
    make("a")
    os.link("a", "b")
    return [say(os.rename, "a", "b"), facts("a"), facts("b")]


@check
def rename_flags():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)

    def renameat2(a, b, flags):
        r = libc.renameat2(-100, a.encode(), -100, b.encode(), flags)
        return "ok" if not r else name(ctypes.get_errno())

    make("a", b"a")
    make("b", b"b")
    os.mkdir("d")
    make("d/in")
    out = [renameat2("a", "b", 1), renameat2("a", "new", 1), renameat2("new", "b", 2), text("new"), text("b"),
           renameat2("b", "d", 2), facts("b"), facts("d"), renameat2("b", "none", 2), renameat2("b", "x", 3)]
    return out + [sorted(os.listdir("."))]


@check
def rename_of_what_is_open():
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    os.makedirs("p/q")
    os.rename("f", "p/f")
    os.write(fd, b"x")
    os.rename("p", "r")
    os.write(fd, b"y")
    d = os.open("r/q", os.O_RDONLY)
    os.rename("r/q", "s")
    make("s/new")
    return [text("r/f"), os.listdir(d), moved("r", lambda: os.rename("r/f", "f")), facts("f")]


@check
def truncate_paths():
    return at_all_paths(lambda p: os.truncate(p, 2))


@check
def truncate_sizes():
    out = []
    make("f", b"0123456789")
    for size in (0, 5, 100000, 4096, 4097, 1, -1, 1 << 40, 1 << 62, 3):
        out.append([size, say(os.truncate, "f", size), facts("f")])
    return out + [text("f") if os.stat("f").st_size < 100 else "long"]


@check
def ftruncate_sizes():
    make("f", b"0123456789")
    fd, ro = os.open("f", os.O_RDWR), os.open("f", os.O_RDONLY)
    out = [say(os.ftruncate, ro, 1)]
    for size in (0, 5, 100000, -1, 1 << 62, 7):
        out.append([size, say(os.ftruncate, fd, size), facts("f"), moved("f", lambda: os.ftruncate(fd, 3))])
    os.chmod("f", 0)
    return out + [say(os.ftruncate, fd, 2), say(os.truncate, "f", 1), facts("f")]


@check
def truncate_rights():
    make("f")
    os.chmod("f", 0o444)
    return [say(os.truncate, "f", 1), facts("f")]


@check
def symlink_paths():
    return at_all_paths(lambda p: os.symlink("target", p))


@check
def symlink_targets():
    os.makedirs("p/q")
    out = {}
    for i, to in enumerate(("x", "./x", "../x", "q/../x", "x" * 255, "a/" * 100 + "b", "x" * 4095, "x" * 4096, "", " ", "\\", "é")):
        n = f"p/l{i}"
        out[to[:20]] = [say(os.symlink, to, n), say(os.readlink, n), facts(n)]
    return out


@check
def symlinks_are_followed():
    make("f")
    os.mkdir("d")
    os.symlink("f", "l")
    os.symlink("d", "ld")
    os.symlink("../f", "d/up")
    os.symlink("made", "dangling")
    make("ld/x")
    make("dangling")
    os.chmod("l", 0o600)
    return [text("l"), text("d/up"), sorted(os.listdir("ld")), text("made"), facts("f"), say(os.readlink, "f"), say(os.truncate, "l", 1),
            say(os.rmdir, "ld"), moved(".", lambda: os.symlink("a", "b")), say(os.unlink, "ld"), facts("d/x")]


@check
def chmod_paths():
    return at_all_paths(lambda p: os.chmod(p, 0o711))


@check
def chmod_modes():
    make("f")
    os.mkdir("d")
    out = []
    for mode in (0o000, 0o111, 0o222, 0o444, 0o777, 0o644, 0o1755):
        out.append([say(os.chmod, "f", mode & 0o777), facts("f"), say(os.chmod, "d", mode), facts("d")])
    fd = os.open("f", os.O_RDONLY) if not say(os.chmod, "f", 0o600) else -1
    return out + [say(os.fchmod, fd, 0o640), facts("f"), moved("f", lambda: os.chmod("f", 0o600))]


@check
def times():
    make("f")
    os.mkdir("d")
    os.symlink("f", "l")
    out = []
    for n in ("f", "d"):
        for ns in ((0, 0), (123456789, 987654321), (-5 * 10**9, 10**9), (10**18 + 1, 10**18 + 999999999)):
            out.append([say(os.utime, n, ns=ns), os.stat(n).st_atime_ns, os.stat(n).st_mtime_ns])
    os.utime("l", ns=(5, 6), follow_symlinks=False)
    out.append([os.lstat("l").st_mtime_ns, os.stat("f").st_mtime_ns])
    os.utime("f")
    return out + [abs(os.stat("f").st_mtime - time.time()) < 5, say(os.utime, "none")]


@check
def attributes():
    make("f")
    os.mkdir("d")
    out = []
    for n in ("f", "d"):
        out += [say(os.getxattr, n, "user.a"), say(os.setxattr, n, "user.a", b"one"), say(os.setxattr, n, "user.a", b"x", os.XATTR_CREATE),
                say(os.setxattr, n, "user.b", b"", os.XATTR_REPLACE), say(os.setxattr, n, "user.b", b""), sorted(os.listxattr(n)),
                say(os.getxattr, n, "user.a"), say(os.removexattr, n, "user.a"), say(os.removexattr, n, "user.a"), os.listxattr(n)]
    return out


@check
def a_deep_tree():
    top = os.open(".", os.O_RDONLY)
    for i in range(300):
        os.mkdir("d" * 100)
        os.chdir("d" * 100)
    make("leaf")
    out = [text("leaf"), facts("leaf"), facts("../" * 40 + "d" * 100)]
    os.fchdir(top)
    return out + [os.system("find . | wc -l > ../found; rm -rf " + "d" * 100), open("../found").read(), os.listdir(".")]


@check
def directories_are_listed_whole():
    os.mkdir("many")
    for i in range(3000):
        make(f"many/{i}", b"")
    out = [len(os.listdir("many")), len(set(os.listdir("many")))]
    for i in range(0, 3000, 2):
        os.unlink(f"many/{i}")
    return out + [len(os.listdir("many")), sorted(os.listdir("many"))[:5]]


@check
def names():
    odd = [b"\xff\xfe", b"new\nline", b"-rf", b" ", "ü".encode(), b"\x01", b"a\\b", b"'", b'"', b"*", LONG.encode()]
    out = []
    for n in odd:
        make(n, n)
        out.append(text(n) == n.decode("latin-1"))
    return out + [sorted(os.listdir(b".")) == sorted(odd)]


@check
def allocation():
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    out = [say(os.posix_fallocate, fd, 0, 10000), facts("f"), say(os.posix_fallocate, fd, 5000, 10000), facts("f"),
           say(os.posix_fallocate, fd, 0, 0)]
    ro = os.open("f", os.O_RDONLY)
    return out + [say(os.posix_fallocate, ro, 0, 1), os.pread(fd, 20000, 0) == bytes(15000)]


@check
def locks():
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    out = []
    for how, ways in ((fcntl.lockf, "fcntl"), (fcntl.flock, "flock")):
        for op in (fcntl.LOCK_SH, fcntl.LOCK_EX):
            how(fd, op)
            pid = os.fork()
            if pid == 0:
                other = os.open("f", os.O_RDWR)
                r = [say(how, other, op2 | fcntl.LOCK_NB) for op2 in (fcntl.LOCK_SH, fcntl.LOCK_EX)]
                make("said", json.dumps(r).encode())
                os._exit(0)
            os.waitpid(pid, 0)
            out.append([ways, op, text("said")])
            how(fd, fcntl.LOCK_UN)
    ro = os.open("f", os.O_RDONLY)
    return out + [say(fcntl.lockf, ro, fcntl.LOCK_EX | fcntl.LOCK_NB), say(fcntl.lockf, ro, fcntl.LOCK_SH | fcntl.LOCK_NB)]


def main():
    top = os.path.abspath(sys.argv[1])
    if len(sys.argv) > 2:
        os.setgroups([])
        os.setgid(int(sys.argv[2]))
        os.setuid(int(sys.argv[2]))
    os.umask(0)
    out = {}
    for n, f in checks.items():
        os.mkdir(os.path.join(top, n))
        os.chdir(os.path.join(top, n))
        try:
            out[n] = f()
        except Exception as e:  # a difference, too
            out[n] = f"{type(e).__name__}: {e}"
        os.umask(0)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
