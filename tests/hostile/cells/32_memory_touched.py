#: must: memory taken bit by bit ends with a MemoryError or as oom, with the limit's name
#: must not: go past the limit by more than what a look now and then allows
#: config: memory=256M timeout=10
#: status: (error|oom: memory limit 256 MiB)
#: says: (MemoryError|memory limit 256 MiB)
#: within: 17
#: other: yes
from attack import *

ok("begun")
got = []
while True:
    got.append(os.urandom(1 << 20))
