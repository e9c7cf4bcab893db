#: must: System V memory, message queues, semaphores, POSIX queues and /dev/shm of the host are not there
#: must not: give a byte of them; own ones work
from attack import *

refused("shmget of the host's key", lambda: call(libc.shmget, canary["shm_key"], 0, 0))
found = [i for i in range(64) if libc.shmctl(i, 13, ctypes.create_string_buffer(256)) >= 0]
check(not found, f"shared memory by index: {found}")
check(len(read("/proc/sysvipc/shm").splitlines()) == 1, "no segment is listed")
rt = ctypes.CDLL("librt.so.1", use_errno=True)
refused("mq_open", lambda: call(rt.mq_open, b"/" + canary["name"].encode(), os.O_RDONLY))
check(not [n for n in os.listdir("/dev/shm") if "canary" in n], f"/dev/shm: {os.listdir('/dev/shm')[:5]}")
refused("/dev/shm of the host", read, "/dev/shm/" + canary["name"])
refused("/tmp of the host", read, "/tmp/" + canary["name"])
refused("/var/tmp of the host", read, "/var/tmp/" + canary["name"])
check(call(libc.shmget, 0, 4096, 0o1600) >= 0, "own shared memory works")
from multiprocessing import shared_memory
m = shared_memory.SharedMemory(create=True, size=4096)
m.close()
m.unlink()
ok("own /dev/shm works")
