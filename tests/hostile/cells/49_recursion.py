#: must: endless recursion ends with an error, a signal or the memory
#: must not: hang
#: config: timeout=8 memory=512M
#: status: (error|killed|oom|timeout)\b.*
#: within: 14.5
#: next: any
#: other: yes
from attack import *

ok("begun")
sys.setrecursionlimit(1 << 30)


def f():
    return [f()]


f()
