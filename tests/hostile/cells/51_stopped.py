#: must: a kernel that stops itself is killed at the time-out
#: must not: hold up the mount
#: config: timeout=1
#: status: timeout\b.*
#: within: 7.5
#: other: yes
#: state: lost
from attack import *
import signal

ok("begun")
os.kill(os.getpid(), signal.SIGSTOP)
os.kill(0, signal.SIGSTOP)
