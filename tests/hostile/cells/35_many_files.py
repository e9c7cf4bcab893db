#: must: 200,000 files (or what a disk can make of them in 6 s) can be made or are refused; the mount lists them, and the context can be removed
#: must not: hold up another context
#: config: timeout=30
#: status: (ok|killed: .*disk.*)
#: within: 37
#: other: yes
#: next: any
#: after: listed
from attack import *
import time

os.mkdir("many")
os.chdir("many")
try:
    end = time.monotonic() + 6
    for i in range(200000):
        if time.monotonic() > end:
            break
        os.close(os.open(str(i), os.O_CREAT | os.O_WRONLY))
    ok(f"{i + 1} files")
except OSError as e:
    ok(f"file {i}: {e.strerror}")
os.chdir("/workspace")
