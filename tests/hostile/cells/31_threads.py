#: must: threads end at the limit of processes, with an error that can be caught
#: must not: go on past it
#: config: processes=128
#: within: 20
#: other: yes
from attack import *
import threading

stop = threading.Event()
made = []
try:
    for i in range(5000):
        t = threading.Thread(target=stop.wait)
        t.start()
        made.append(t)
except RuntimeError as e:
    ok(f"thread {len(made)}: {e}")
stop.set()
for t in made:
    t.join()
check(len(made) <= 128, f"{len(made)} threads")
