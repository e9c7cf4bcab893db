#: must: a kernel that closes all descriptors and goes on is ended
#: must not: hang
#: config: timeout=3
#: status: (killed|timeout)\b.*
#: within: 10
#: state: lost
from attack import *
import time

ok("begun")
os.closerange(0, 4096)
time.sleep(1000)
