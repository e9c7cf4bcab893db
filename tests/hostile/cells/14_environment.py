#: must: the environment of a kernel is the fixed one, and pid 1's cannot be read
#: must not: hold anything of the daemon's
from attack import *

got = dict(e.split(b"=", 1) for e in read("/proc/self/environ").split(b"\0") if e)
fixed = {b"PATH", b"HOME", b"LANG", b"TERM", b"CELLFS_PACKAGES", b"PYTHONPATH", b"NODE_PATH"}
more = set(got) - fixed - {b"CELLFS_CONTEXT", b"NODE_OPTIONS", b"JAVA_TOOL_OPTIONS"}
check(fixed <= set(got) and not more, f"{sorted(got)}")
check(got[b"HOME"] == b"/home/user", f"HOME is {got[b'HOME']}")
check("SECRET_TOKEN" not in os.environ, "no SECRET_TOKEN")
refused("/proc/1/environ", read, "/proc/1/environ")
refused("the supervisor's environ", read, f"/proc/{os.getppid()}/environ")
for pid in pids():
    try:
        check(b"SECRET" not in read(f"/proc/{pid}/cmdline"), f"command line of {pid}: {read(f'/proc/{pid}/cmdline')[:60]}")
    except OSError as e:
        ok(f"cmdline of {pid}: {e.strerror}")
