#: must: a spool that is filled, emptied or closed harms this kernel alone
#: must not: make the daemon follow, wait or delete what is not the spool's
#: status: (ok|error|killed)\b.*
#: next: any
from attack import *
import shutil
from IPython.display import display, HTML

secret = canary["files"][2]
for d in [os.path.join(r, n) for r, ds, fs in os.walk("/spool") for n in ds] + ["/spool/out"]:
    if not os.access(d, os.W_OK):
        continue
    os.symlink(secret, d + "/1-1")
    os.symlink("/", d + "/root")
    os.mkfifo(d + "/fifo")
    os.mkdir(d + "/dir")
    for i in range(1, 30):
        try:
            os.symlink(secret, f"{d}/{os.getpid()}-{i}")
        except OSError:
            pass
    ok("planted in " + d)
try:
    display(HTML("<p>" + "y" * 100000))
except OSError as e:
    ok(f"display: {e.strerror}")
for d in ("/spool/out", "/spool/code"):
    for n in os.listdir(d) if os.path.isdir(d) else []:
        shutil.rmtree(os.path.join(d, n), ignore_errors=True)
    refused("remove " + d, os.rmdir, d)
