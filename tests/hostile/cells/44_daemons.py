#: must: what made itself a daemon (two forks, a session, all signals masked) ends with its box
#: must not: outlive its context
#: after: nothing_left
from attack import *
import signal

for i in range(10):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            libc.prctl(1, 0, 0, 0, 0)
            libc.prctl(4, 0, 0, 0, 0)
            libc.prctl(36, 1, 0, 0, 0)
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            os.closerange(0, 1024)
            import time
            while True:
                time.sleep(1)
        os._exit(0)
    os.wait()
ok("ten daemons")
