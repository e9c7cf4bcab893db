#: must: multiprocessing (fork and spawn), executors, shared memory, threads and pipes work
#: within: 30
import concurrent.futures, math, multiprocessing as mp, threading
from multiprocessing import shared_memory
for how in ("fork", "spawn", "forkserver"):
    with mp.get_context(how).Pool(3) as pool:
        assert pool.map(math.sqrt, range(10)) == [math.sqrt(i) for i in range(10)]
    print("ok: multiprocessing", how)
with concurrent.futures.ProcessPoolExecutor(2) as pool:
    assert list(pool.map(math.factorial, range(10)))[9] == 362880
m = shared_memory.SharedMemory(create=True, size=1 << 20)
m.buf[:5] = b"hello"
n = shared_memory.SharedMemory(m.name)
assert bytes(n.buf[:5]) == b"hello"
n.close(); m.close(); m.unlink()
print("ok: shared memory")
total = []
ts = [threading.Thread(target=total.append, args=(i,)) for i in range(50)]
[t.start() for t in ts]; [t.join() for t in ts]
assert sorted(total) == list(range(50))
q = mp.Queue(); q.put(1); assert q.get() == 1
lock = mp.Lock()
with lock: pass
print("ok: threads, queues, locks")
