#: must: the workspace, the home and the processes of another context are not there
#: must not: name it, or give a byte of it
from attack import *

victim = canary["victim"]
for path in ("", "/workspace", "/workspace/victim.txt", "/home", "/journal.jsonl", "/cells", "/spool"):
    refused("victim" + path, lambda: os.listdir(victim + path) if not path.count(".") else read(victim + path))
mounts = read("/proc/self/mountinfo", 1 << 20).decode()
check(os.path.basename(victim) not in mounts, "the other context is not in mountinfo")
found = [(p, read(f"/proc/{p}/cmdline")) for p in pids()]
check(not any(b"CANARY" in c or b"sleep" in c for _, c in found), f"{len(found)} processes, none of another context")
for root, dirs, files in os.walk("/tmp"):
    check("victim.txt" not in files, "/tmp is its own")
check(os.listdir("/home") == ["user"] and "victim.txt" not in os.listdir("/home/user"), "home is its own")
others = [d for d in os.listdir("/spool") if d not in ("code", "out", "python", "bash")] if os.path.isdir("/spool") else []
check(not others, f"/spool has nothing of others: {others}")
