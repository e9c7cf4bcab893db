#: must: a cell that ignores all signals is killed at its time-out and the ladder's 5 s
#: must not: go on
#: config: timeout=1
#: status: timeout\b.*
#: within: 7.5
#: other: yes
#: state: lost
from attack import *
import signal

ok("begun")
for s in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(s, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
while True:
    pass
