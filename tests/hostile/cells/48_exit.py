#: must: sys.exit ends the run, not the kernel
#: must not: lose the state
#: status: error
#: state: kept
from attack import *

ok("begun")
sys.exit(3)
