"""Processes that are hard to end: forked twice, sessions of their own, all signals masked or ignored, PDEATHSIG cleared, all
descriptors closed. argv: how many."""

import ctypes
import os
import platform
import signal
import sys
import time

if platform.node() != "sandbox":
    sys.exit("not in a box")
libc = ctypes.CDLL(None)
for i in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            libc.prctl(1, 0, 0, 0, 0)
            libc.prctl(4, i % 2, 0, 0, 0)
            libc.prctl(36, 1, 0, 0, 0)
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            for s in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(s, signal.SIG_IGN)
            os.closerange(0, 1024)
            while True:
                time.sleep(100)
        os._exit(0)
    os.wait()
print("they are out")
