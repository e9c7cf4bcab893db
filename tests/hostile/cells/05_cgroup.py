#: must: no cgroup of the host is seen or can be written
#: must not: move, freeze or end anything
from attack import *

for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/cgroup", "/dev/cgroup"):
    refused("list " + path, os.listdir, path)
for name in ("cgroup.procs", "memory/cgroup.procs", "memory/release_agent", "memory.max", "memory/memory.limit_in_bytes"):
    refused("write " + name, os.open, "/sys/fs/cgroup/" + name, os.O_WRONLY)
for line in read("/proc/self/cgroup").decode().splitlines():
    path = line.split(":", 2)[2]
    check(path == "/" or "cellfs" not in path or path.startswith("/.."), f"/proc/self/cgroup: {line}")
for kind in ("cgroup", "cgroup2"):
    os.makedirs("/tmp/cg", exist_ok=True)
    refused("mount " + kind, lambda: call(libc.mount, b"x", b"/tmp/cg", kind.encode(), 0, None))
