#: must: fork fails at the limit, with an error that can be caught
#: must not: make more processes than the limit
#: config: processes=64 memory=512M timeout=5
#: within: 12
#: other: yes
#: after: few_processes
from attack import *
import signal, time

children = []
try:
    while len(children) < 1000:
        pid = os.fork()
        if not pid:
            time.sleep(100)
            os._exit(0)
        children.append(pid)
except OSError as e:
    ok(f"fork {len(children)}: {e.strerror}")
check(len(children) < 64, f"{len(children)} children")
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
