#: must: a kernel that closes its pipes and leaves ends its run, with its exit code in the reason
#: must not: hang or harm the daemon
#: status: killed: .*exit code 7.*
#: state: lost
from attack import *

ok("begun")
os.closerange(0, 10)
os._exit(7)
